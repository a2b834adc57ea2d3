"""A network in memory: what is connected, how time passes, and what is left in the end."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, Srf
from drachtwist.errors import SipError
from drachtwist.testing import Network, NothingHappens, PhoneError, Player, SipTests, StillThere
from tests.testing.applications import answering, switch


class ServingTests(SipTests, SynchronousTestCase):
    def test_modes_and_transports(self) -> None:
        """Calls get through in both modes, over UDP and TCP, and nothing is left of them."""
        for mode in ("inbound", "outbound"):
            for transport in ("udp", "tcp"):
                with self.subTest(mode=mode, transport=transport), Network() as net:
                    net.serve(answering(), mode=mode)
                    call = net.phone("alice", transport=transport).invite("sales")
                    self.assertEqual((call.state, call.acked), ("up", True))
                    [srf] = net.applications.values()
                    self.assertEqual([one.outbound for one in srf.links], [mode == "outbound"])
                    call.hang_up()
                    net.assert_idle()
                    self.assertEqual(len(srf.links), mode == "inbound")

    def test_several_servers(self) -> None:
        """Each server has its own applications and phones, and calls go from one to the other."""
        west, east = Srf(), answering()

        @west.invite
        async def on(req: Request, res: Response) -> None:
            uri = f"sip:sales@{self.sip.server('east').address}"
            await west.create_b2bua(req, res, uri)

        self.sip.server("west", cdrs=True)
        self.sip.serve(west, server="west", name="west app")
        self.sip.serve(east, server="east")
        call = self.sip.phone("alice", server="west").invite("anybody")
        self.assertTrue(call.up)
        self.assertIn("east", self.sip.ladder())
        self.assertEqual([len(one.links) for one in (west, east)], [1, 1])

    def test_an_application_on_two_servers(self) -> None:
        """An application may be connected to several servers."""
        srf = answering()
        for name in ("west", "east"):
            self.sip.serve(srf, server=name)
            self.assertTrue(self.sip.phone(f"at_{name}", server=name).invite("x").up)

    def test_again(self) -> None:
        """An application that was served in a network is served in the next one."""
        srf = answering()
        for _ in range(2):
            with Network() as net:
                net.serve(srf)
                self.assertTrue(net.phone("alice").invite("x").up)
        self.assertIsNone(srf._connections._reactor)

    def test_names(self) -> None:
        """Applications call names that have an address, others get 503 or the like."""
        srf = Srf()
        trunk = self.sip.phone("trunk", answers=503)
        self.sip.host("trunk.example.net", trunk)
        self.sip.serve(srf)
        calling = srf.create_uac("sip:1@trunk.example.net", local_sdp="")
        self.sip.settle()
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 503)
        self.assertEqual(trunk.call.status, 503)
        calling = srf.create_uac("sip:1@elsewhere.example.net", local_sdp="")
        self.sip.settle()
        self.failureResultOf(calling, SipError)
        self.assertEqual(len(trunk.calls), 1)

    def test_server_goes_and_comes(self) -> None:
        """A server that is down is no more; the application comes back when it is up again."""
        srf = answering()
        self.sip.serve(srf)
        server = self.sip.servers["server"]
        server.down()
        self.assertEqual(srf.links, [])
        alice = self.sip.phone("alice")
        call = alice.invite("x")
        self.sip.advance(33)
        self.assertEqual((call.state, call.status), ("over", 408))
        server.up()
        self.sip.until(lambda: srf.links)
        self.assertTrue(alice.invite("x").up)

    def test_link_of_the_application_breaks(self) -> None:
        """An application whose connection breaks connects again."""
        srf = answering()
        self.sip.serve(srf)
        [before] = srf.links
        self.sip.servers["server"].lose()
        self.assertEqual(srf.links, [])
        self.sip.until(lambda: srf.links)
        self.assertIsNot(srf.links[0], before)

    def test_refused_commands(self) -> None:
        """A server refuses what it is told to refuse, and that only."""
        srf = answering()
        self.sip.serve(srf)
        server = self.sip.servers["server"]
        server.refuse("INVITE", reason="no")
        self.sip.phone("bob", answers=200)
        uri = self.sip.phones["bob"].uri
        calling = srf.create_uac(uri, local_sdp="")
        self.sip.settle()
        self.assertIn("no", str(self.failureResultOf(calling).value))
        calling = srf.create_uac(uri, local_sdp="")
        self.sip.settle()
        self.assertTrue(self.successResultOf(calling).connected)

    def test_wrong_words(self) -> None:
        """What cannot be meant is an error that says what can."""
        self.sip.phone("alice")
        for wrong, text in (
            (lambda: self.sip.phones["bob"], "there is no phone 'bob'.*there are: alice"),
            (lambda: self.sip.servers["x"], "there is no server 'x'.*there are: server"),
            (lambda: self.sip.applications["x"], "no application 'x'.*there are: none"),
            (lambda: self.sip.phone("alice"), "a phone 'alice' already"),
            (lambda: self.sip.phone("two words"), "one word"),
            (lambda: self.sip.phone("bob", transport="tls"), "'udp' or 'tcp', not 'tls'"),
            (lambda: self.sip.server("server", cdrs=True), "there already"),
            (lambda: self.sip.serve("app.py"), "an Srf, not 'app.py'.*net.load"),  # type: ignore
            (lambda: self.sip.serve(Srf(), mode="both"), "'inbound' or 'outbound'"),
            (lambda: self.sip.phones["alice"].hang_up(), "alice has no call to end"),
            (lambda: self.sip.phones["alice"].call, "alice has no call"),
            (lambda: self.sip.phones["alice"].link.lose(1, "invite"), "not 'invite'"),
        ):
            with self.subTest(text):
                self.assertRegex(str(self.assertRaises((PhoneError, ValueError), wrong)), text)


class TimeTests(SipTests, SynchronousTestCase):
    def test_each_thing_at_its_time(self) -> None:
        """What is due while time passes happens at its own time."""
        seen: list[float] = []
        for seconds in (2.5, 0.5, 1.0):
            self.sip.clock.callLater(seconds, lambda: seen.append(self.sip.seconds))
        self.sip.advance(2)
        self.assertEqual(seen, [0.5, 1.0])
        self.assertEqual(self.sip.seconds, 2)

    def test_until(self) -> None:
        """Time passes until something holds, no further, and not for ever."""
        seen: list[int] = []
        self.sip.clock.callLater(5, seen.append, 1)
        self.sip.clock.callLater(50, seen.append, 2)
        self.sip.until(lambda: seen)
        self.assertEqual((seen, self.sip.seconds), ([1], 5))
        with self.assertRaisesRegex(NothingHappens, "within 10 s"):
            self.sip.until(lambda: len(seen) == 2, within=10)
        with self.assertRaisesRegex(NothingHappens, "no timer is set"):
            self.sip.until(lambda: len(seen) == 3)

    async def test_async(self) -> None:
        """A test may await what takes time."""
        self.sip.serve(answering())
        alice = self.sip.phone("alice")
        alice.link.delay = 1.0
        call = alice.invite("sales")
        self.assertFalse(call.up)
        self.assertIs(await call.when_answered(), call)
        self.assertEqual(self.sip.seconds, 2.0)
        call.hang_up()
        self.assertIs(await call.when_ended(), call)

    def test_awaiting_for_ever(self) -> None:
        """A test that awaits what never comes fails at once, and one that awaits a loop too."""

        async def for_ever() -> None:
            await Deferred()

        with self.assertRaisesRegex(NothingHappens, "no timer is set"):
            self.sip.run(for_ever())

        class Future:
            def __await__(self) -> object:
                yield self

        with self.assertRaisesRegex(TypeError, "asyncio"):
            self.sip.run(Future())  # type: ignore[arg-type]


class IdleTests(SipTests, SynchronousTestCase):
    def left(self) -> str:
        return str(self.assertRaises(StillThere, self.sip.assert_idle))

    def test_calls(self) -> None:
        """A call that is up is named, in the phone, the application and the server."""
        self.sip.serve(answering())
        self.sip.phone("alice").invite("x")
        text = self.left()
        for part in ("a call: <Call of alice to", "a dialog of app: <Dialog", "1 dialog of server"):
            self.assertIn(part, text)
        self.assertEqual(self.sip.seconds, 0)

    def test_timers(self) -> None:
        """A timer of the application that outlives its call is named with its function."""
        srf = answering()
        self.sip.serve(srf)
        self.sip.assert_idle()

        def remind() -> None:
            """Do nothing."""

        srf.clock.callLater(3600, remind)
        self.assertRegex(self.left(), r"a timer: .*remind, due in 35\d\d s")

    def test_transactions(self) -> None:
        """Transactions that wait for repeats run out, and are nothing that is left."""
        self.sip.serve(answering())
        self.sip.phone("alice").invite("closed")
        core = self.sip.servers["server"].service.core
        assert core is not None
        self.assertEqual(core.counts()["server_transactions"], 1)
        self.sip.assert_idle()
        self.assertEqual(core.counts()["server_transactions"], 0)
        self.assertGreater(self.sip.seconds, 0)

    def test_connections(self) -> None:
        """A connection that the application holds on to is named."""
        srf = answering()

        @srf.options
        def hold(req: Request, res: Response) -> None:
            srf.hold_session(req)
            res.send(200)

        self.sip.serve(srf, mode="outbound")
        self.assertEqual(self.sip.phone("alice").options("x").status, 200)
        self.assertIn("a connection that app was given", self.left())


class RecordingTests(SynchronousTestCase):
    def test_record_and_play(self) -> None:
        """What was recorded in one run is played to the application again."""
        for mode in ("inbound", "outbound"):
            path = Path(self.mktemp())
            with self.subTest(mode), Network() as net:
                net.record(path)
                net.serve(answering(), mode=mode)
                alice = net.phone("alice")
                alice.invite("closed")
                alice.invite("sales").hang_up()
                net.assert_idle()
            text = path.read_text("utf-8")
            self.assertEqual(len(re.findall("INVITE sip:closed@", text)), 1)
            for reads in ("single", "together", "cut"):
                player = Player(path, answering(), reads=reads)
                player.play()
                self.assertGreaterEqual(player.compared, 4)
                player.stop()

    def test_another_answer(self) -> None:
        """An application that says something else than then is told from one that does not."""
        path = Path(self.mktemp())
        with Network() as net:
            net.record(path)
            net.serve(answering())
            net.phone("alice").invite("closed")
        other = Srf()

        @other.invite
        def busy(req: Request, res: Response) -> None:
            res.send(486)

        player = Player(path, other)
        self.assertRegex(str(self.assertRaises(AssertionError, player.play)), "480.*486|486|480")
        player.stop()

    def test_no_recording(self) -> None:
        """A file that is none is told with its line."""
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write('{"t": 1, "from": "app", "event": "open"}\nnonsense\n')
            file.flush()
            with self.assertRaisesRegex(ValueError, "line 2: no part of a recording"):
                Player(file.name, Srf())

    def test_too_late(self) -> None:
        """Recording begins before there are connections."""
        with Network() as net:
            net.serve(answering())
            self.assertRaises(PhoneError, net.record, self.mktemp())


class SwitchTests(SipTests, SynchronousTestCase):
    def test_two_phones_talk(self) -> None:
        """A B2BUA leads the sound of two phones to each other."""
        self.sip.serve(switch(self.sip))
        alice, bob = self.sip.phone("alice"), self.sip.phone("bob", answers=200, rings=3)
        call = alice.invite("bob")
        self.assertTrue(call.ringing)
        self.sip.advance(3)
        self.assertTrue(call.talks_to(bob.call))
        bob.hang_up()
        self.assertEqual((call.ended_by, bob.call.ended_by), ("peer", "self"))
        self.sip.assert_idle()
