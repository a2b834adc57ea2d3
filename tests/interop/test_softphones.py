"""Real softphones, as people install them, with the documented registrar."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.interop.peers import ROOT, InteropTestCase, free_port
from tests.interop.softphones import TONES, Baresip, Linphone


def together(*awaited: Any) -> Deferred[Any]:
    """Wait for all of them."""
    deferreds = [
        one if isinstance(one, Deferred) else Deferred.fromCoroutine(one) for one in awaited
    ]
    return gatherResults(deferreds, consumeErrors=True)


class BaresipTests(InteropTestCase):
    async def start(self, *names: str) -> list[Baresip]:
        """Start the registrar of the examples, and phones that register with it."""
        self.domain = f"127.0.0.1:{free_port()}"
        self.app = self.twistd(
            "drachtio",
            *("--app", str(ROOT / "docs" / "examples" / "registrar.py")),
            *("--contact", f"sip:{self.domain};transport=udp,tcp"),
            PASSWORDS=",".join(f"{name}:secret-{name}" for name in TONES),
        )
        await self.app.when_prints("connected")
        phones = []
        for name in names:
            phone = Baresip(self, name, self.domain, answers=name != "ann")
            await phone.start()
            phones.append(phone)
            self.addCleanup(phone.stop)
            await self.app.when_prints(f"sip:{name}@{self.domain} is at")
        return phones

    async def talk(self, caller: Baresip, callee: Baresip) -> None:
        """Let one call the other, until both hear each other."""
        caller.command("dial", f"sip:{callee.name}@{self.domain}")
        await together(caller.when("CALL_ESTABLISHED"), callee.when("CALL_ESTABLISHED"))
        await together(caller.hears(callee.name), callee.hears(caller.name))

    async def over(self, *phones: Baresip) -> None:
        """Wait until their calls are over."""
        await together(*(phone.when("CALL_CLOSED") for phone in phones))

    async def test_registers_at_once(self) -> None:
        """Its first REGISTER with a password is accepted: nothing is refused."""
        [ann] = await self.start("ann")
        text = ann.process.output.decode()
        self.assertEqual(text.count("SIP/2.0 401 "), 1, text)
        self.assertEqual(text.count("SIP/2.0 200 OK"), 1, text)
        self.assertNotIn("wrong credentials", self.app.output.decode())

    async def test_calls(self) -> None:
        """Both hear each other, sound stops on hold and comes back; either side hangs up."""
        ann, bob = await self.start("ann", "bob")
        for quits in (ann, bob):
            await self.talk(ann, bob)
            for one, other in ((ann, bob), (bob, ann)):
                one.command("hold")
                await together(one.when("CALL_REMOTE_SDP"), other.when("CALL_REMOTE_SDP"))
                await one.receives(sound=False)
                one.command("resume")
                await together(one.when("CALL_REMOTE_SDP"), other.when("CALL_REMOTE_SDP"))
                await together(one.receives(sound=True), other.receives(sound=True))
            quits.command("hangup")
            await self.over(ann, bob)
        for phone in (ann, bob):
            # Each was told of the other's two holds, and answered so.
            text = phone.process.output.decode()
            self.assertEqual(text.count("a=sendonly"), 4, text)
            self.assertEqual(text.count("a=recvonly"), 4, text)

    async def test_blind_transfer(self) -> None:
        """Bob sends Ann on to Carol, and is told that they talk; Carol hangs up."""
        ann, bob, carol = await self.start("ann", "bob", "carol")
        await self.talk(ann, bob)
        bob.command("transfer", f"sip:carol@{self.domain}")
        await together(ann.hears("carol"), carol.hears("ann"))
        await self.over(bob)
        carol.command("hangup")
        await self.over(carol)
        text = bob.process.output.decode()
        self.assertIn("SIP/2.0 200 OK", text.rpartition("Event: refer")[2], text)


class LinphoneTests(InteropTestCase):
    async def test_registers_at_once(self) -> None:
        """Its first REGISTER with a password is accepted: nothing is refused."""
        domain = f"127.0.0.1:{free_port()}"
        app = self.twistd(
            "drachtio",
            *("--app", str(ROOT / "docs" / "examples" / "registrar.py")),
            *("--contact", f"sip:{domain};transport=udp,tcp"),
            PASSWORDS="linda:secret-linda",
        )
        await app.when_prints("connected")
        phone = Linphone(self, "linda", domain)
        await phone.start()
        await app.when_prints("sip:linda@127.0.0.1 is at")
        await phone.logs("SIP/2.0 200 OK")
        self.assertEqual(phone.log().count("SIP/2.0 401 "), 1, phone.log())
        self.assertNotIn("wrong credentials", app.output.decode())

    async def test_calls_the_demo(self) -> None:
        """It calls the application of the demo, is answered, sound comes, and it hangs up."""
        domain = f"127.0.0.1:{free_port()}"
        app = self.twistd(
            "drachtio",
            *("--app", str(ROOT / "docs" / "examples" / "answer.py")),
            *("--contact", f"sip:{domain};transport=udp,tcp"),
        )
        await app.when_prints("connected")
        phone = Linphone(self, "linda")
        await phone.start()
        phone.command(f"call sip:demo@{domain}")
        await phone.process.when_prints("connected.")
        phone.command("terminate")
        await phone.process.when_prints("ended")
        await app.when_prints("is over")
