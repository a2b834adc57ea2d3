"""Commands that telephone, on sockets of this machine: what they do, show, and tell scripts."""

from __future__ import annotations

import io
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from drachtwist import Request, Response, Srf
from drachtwist.cli import call, options, register, send
from drachtwist.cli.line import PASSWORD
from drachtwist.cli.new import make_project
from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.cli.reactors import Leave
from drachtwist.hosting.loading import load_application
from drachtwist.middleware import DigestAuth, Registrar
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from tests.certificates import identity

ROOT = Path(__file__).parent.parent.parent
ALONE = ("--contact", "sip:127.0.0.1:0;transport=udp,tcp")


class Terminal(io.StringIO):
    """What is printed, where more than ASCII can be."""

    encoding = "utf-8"


class TelephoneTestCase(TestCase):
    """Telephones with an application."""

    timeout = 60
    contact = "sip:127.0.0.1:0;transport=udp,tcp"

    def setUp(self) -> Any:
        """Let an application listen, and take what commands print."""
        self.out, self.errors = Terminal(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.errors)
        self.patch(call, "PAUSE", 0.01)
        self.leave = Leave()
        self.srf = Srf()
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        me = identity()
        tls = TlsOptions(key=me.key, certificate=me.certificate)
        config = ServerConfig(admin_port=0, contacts=(self.contact,), tls=tls)
        self.server = DrachtioServer(config, reactor)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        await self.server.when_listening()
        self.addCleanup(self.srf.stop)
        port = self.server.admin_port
        link = self.srf.connect(f"tcp:127.0.0.1:{port}", secret="cymru", ping_interval=None)
        await link.when_ready()
        self.port = int(self.server.sip_addresses[0].rpartition(":")[2])

    def uri(self, user: str = "hello") -> str:
        """Give the address of somebody at the application."""
        return f"sip:{user}@127.0.0.1:{self.port}"

    async def refused(self, running: Any) -> tuple[Exit, str]:
        """Wait until a command fails; give the exit status and what is said."""
        try:
            status = await running
        except CommandError as error:
            return error.exit, str(error)
        raise AssertionError(f"it ended with {status}")


class CallTests(TelephoneTestCase):
    def answers(self, wait: float | None = None) -> list[Request]:
        """Let the application answer; give what is then said in the call."""
        said: list[Request] = []

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            said.append(req)
            dialog = await self.srf.create_uas(req, res, local_sdp=req.body)

            @dialog.on_info
            def pressed(info: Request, answer: Response) -> None:
                said.append(info)
                answer.send(200)
                if "Signal=#" in info.text:
                    dialog.destroy()

            @dialog.on_hold
            @dialog.on_unhold
            def changed(req: Request) -> None:
                said.append(req)

        return said

    async def place(self, user: str, *words: str) -> int:
        """Call somebody."""
        read = call.read((self.uri(user), *ALONE, *words))
        return await call.place(reactor, read, self.leave)

    async def test_answered(self) -> None:
        """A call is answered, drawn, and ended from here; the exit status is 0."""
        self.answers()
        self.assertEqual(await self.place("hello", "--duration", "0.05"), Exit.OK)
        shown = self.out.getvalue()
        for text in ("INVITE", "100 Trying", "200 OK", "ACK", "BYE", "hung up here"):
            at = shown.index(text)
            shown = shown[at:]
        self.assertEqual(self.errors.getvalue(), "")

    async def test_keys(self) -> None:
        """Keys are pressed one after the other; the end of the call ends the command."""
        said = self.answers()
        self.assertEqual(await self.place("hello", "--dtmf", "1,2#5"), Exit.OK)
        signals = [one.text.split("\r\n")[0] for one in said if one.method == "INFO"]
        self.assertEqual(signals, ["Signal=1", "Signal=2", "Signal=#"])
        self.assertIn("the other side hung up", self.out.getvalue())
        self.assertIn("200 OK (BYE)", self.out.getvalue())

    async def test_hold(self) -> None:
        """The other side is put on hold, and taken back."""
        said = self.answers()
        self.assertEqual(await self.place("hello", "--hold", "0.01", "--duration", "0"), Exit.OK)
        self.assertEqual([one.method for one in said], ["INVITE"] * 3)
        self.assertIn("a=inactive", said[1].text)
        self.assertNotIn("a=inactive", said[2].text)

    async def test_refused(self) -> None:
        """A refusal is the last line, and the exit status its hundred."""
        statuses = {"busy": 486, "broken": 500, "never": 603, "moved": 302, "who": 407}

        @self.srf.invite
        def refuse(req: Request, res: Response) -> None:
            res.send(statuses[req.called_number])

        for user, status in statuses.items():
            exit, text = await self.refused(self.place(user))
            self.assertEqual((exit, exit), (status // 100, Exit(status // 100)))
            self.assertIn(f"drachtwist call: {status} ", text)
        self.assertIn("--auth", text)

    async def test_passwords(self) -> None:
        """A challenge is answered, by the name that calls then."""
        self.srf.use("invite", DigestAuth("here", lambda user, realm: {"ann": "x"}.get(user)))
        said = self.answers()
        self.assertEqual(await self.place("hello", "--auth", "ann:x", "--duration", "0"), Exit.OK)
        self.assertEqual(said[0].calling_number, "ann")
        exit, _ = await self.refused(self.place("hello", "--auth", "ann:y"))
        self.assertEqual(exit, Exit.REFUSED)

    async def test_silence(self) -> None:
        """Who says nothing is given up in time: 7."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            self.patch(call, "GRACE", 0.01)
            uri = f"sip:127.0.0.1:{deaf.getsockname()[1]}"
            read = call.read((uri, *ALONE, "--timeout", "0.05"))
            exit, text = await self.refused(call.place(reactor, read, self.leave))
        self.assertEqual(exit, Exit.NO_ANSWER)
        self.assertEqual(text, f"drachtwist call: {uri} did not answer within 0.05 s")

    async def test_nobody_there(self) -> None:
        """Where nobody listens nobody answers: 7."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            uri = f"sip:127.0.0.1:{closed.getsockname()[1]};transport=tcp"
            read = call.read((uri, *ALONE))
            exit, text = await self.refused(call.place(reactor, read, self.leave))
        self.assertEqual(exit, Exit.NO_ANSWER)
        self.assertIn("no answer from", text)

    async def test_ringing_for_too_long(self) -> None:
        """A phone that only rings is sent a CANCEL in the end."""
        cancelled: Deferred[Any] = Deferred()

        @self.srf.invite
        async def ring(req: Request, res: Response) -> None:
            req.on_cancel(cancelled.callback)
            res.send(180)

        exit, _ = await self.refused(self.place("hello", "--timeout", "0.05"))
        self.assertEqual(exit, Exit.NO_ANSWER)
        cancel = await cancelled
        self.assertIn("Request Timeout", cancel.get("Reason"))
        self.assertIn("487", self.out.getvalue())

    async def test_ctrl_c(self) -> None:
        """Ctrl-C while it rings cancels the call; in the call it hangs up, which is no failure."""

        @self.srf.invite
        async def ring(req: Request, res: Response) -> None:
            if req.called_number == "rings":
                await res.send(180)
            else:
                dialog = await self.srf.create_uas(req, res, local_sdp=req.body)
                await dialog.when_acked()
            self.leave.ask()

        exit, text = await self.refused(self.place("rings"))
        self.assertEqual((exit, text), (Exit.INTERRUPTED, "drachtwist call: given up"))
        self.leave = Leave()
        self.assertEqual(await self.place("answers"), Exit.OK)

    async def test_quiet_and_verbose(self) -> None:
        """Quiet shows nothing; verbose shows whole messages, and no secret of the terminal's."""
        self.answers()
        await self.place("hello", "--duration", "0", "-q")
        self.assertEqual(self.out.getvalue(), "")
        await self.place("hello", "--duration", "0", "-v", "-H", "Subject: \x1b[31mred")
        self.assertIn("      Max-Forwards: 70", self.out.getvalue())
        self.assertIn("Subject: ?[31mred", self.out.getvalue())
        self.assertNotIn("\x1b", self.out.getvalue())


class PageTests(TelephoneTestCase):
    def rungs(self, text: str) -> list[str]:
        """Give what is on the rungs of a ladder, without times and ports."""
        found = [line[9:] for line in text.splitlines() if re.match(r" +\d+\.\d{3}  ", line)]
        return [
            re.sub(r"(?<=\d):\d+", "", " ".join(re.sub("[─│]", " ", one).split())) for one in found
        ]

    async def test_ladder(self) -> None:
        """The call on the page about the command line is that of a new project."""
        directory = Path(self.mktemp())
        make_project(directory / "shop")
        path, modules = list(sys.path), set(sys.modules)
        found = load_application(str(directory / "shop" / "app.py"))
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - modules])
        self.addCleanup(sys.path.__setitem__, slice(None), path)
        self.addCleanup(found.stop)
        await self.srf.stop()
        link = found.connect(port=self.server.admin_port, secret="cymru", ping_interval=None)
        await link.when_ready()
        read = call.read((self.uri(), *ALONE, "--dtmf", "12#"))
        await call.place(reactor, read, self.leave)
        page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
        block = page.partition("<!-- example: call-ladder -->")[2].partition("\n```\n")[0]
        self.assertEqual(self.rungs(self.out.getvalue()), self.rungs(block))


class RequestTests(TelephoneTestCase):
    async def test_options(self) -> None:
        """The response is shown with what it says; as often as is wanted."""

        @self.srf.options
        def alive(req: Request, res: Response) -> None:
            res.send(200, headers={"Allow": "INVITE, OPTIONS"})

        read = options.read((self.uri(), *ALONE, "-c", "3", "-i", "0.01"))
        self.assertEqual(await options.ask(reactor, read, self.leave), Exit.OK)
        lines = self.out.getvalue().splitlines()
        self.assertEqual(len(lines), 4)
        self.assertRegex(lines[0], rf"^200 OK in [\d.]+ ms from 127.0.0.1:{self.port} \(udp\)$")
        self.assertEqual(lines[1], "  Allow: INVITE, OPTIONS")

    async def test_refused_options(self) -> None:
        """A refusal is shown, and is the exit status."""

        @self.srf.options
        def busy(req: Request, res: Response) -> None:
            res.send(486)

        read = options.read((self.uri(), *ALONE))
        self.assertEqual(await options.ask(reactor, read, self.leave), Exit.REFUSED)
        self.assertIn("486 Busy Here", self.out.getvalue())

    async def test_until_ctrl_c(self) -> None:
        """Asked without end, it ends with Ctrl-C, and the last status."""
        asked = 0

        @self.srf.options
        def alive(req: Request, res: Response) -> None:
            nonlocal asked
            asked += 1
            if asked == 3:
                self.leave.ask()
            res.send(200)

        read = options.read((self.uri(), *ALONE, "-c", "0", "-i", "0.01"))
        self.assertEqual(await options.ask(reactor, read, self.leave), Exit.OK)

    async def test_send(self) -> None:
        """A request has a method, headers, a body, and somebody who sent it."""
        got: list[Request] = []

        @self.srf.message
        def take(req: Request, res: Response) -> None:
            got.append(req)
            res.send(202, body="thanks", headers={"Content-Type": "text/plain"})

        words = (
            "--body",
            "soup",
            "--from",
            "ann@example.net",
            "-H",
            "Subject: food",
            "-m",
            "message",
        )
        read = send.read((self.uri("bob"), *ALONE, *words))
        self.assertEqual(await send.send(reactor, read, self.leave), Exit.OK)
        [req] = got
        self.assertEqual(
            (req.text, req.get("Subject"), req.from_.uri, req.get("Content-Type")),
            ("soup", "food", "sip:ann@example.net", "text/plain"),
        )
        self.assertEqual(self.out.getvalue().splitlines()[1:], ["  thanks"])

    def test_wrong_words(self) -> None:
        """What cannot be sent is refused before anything is."""
        for words, problem in (
            (("--method", "INVITE"), "INVITE is no request for itself"),
            (("--method", "a b"), "no method"),
            (("--body-file", "/no/such/file"), "cannot read /no/such/file"),
            (("-H", "nonsense"), "is no header"),
            (("--from", "<sip:"), "--from"),
            (("--auth", ":x"), "--auth"),
        ):
            error = self.assertRaises(CommandError, send.read, (self.uri(), *words))
            self.assertEqual(error.exit, Exit.USAGE)
            last = str(error).splitlines()[-1]
            self.assertRegex(last, r"^drachtwist send: ")
            self.assertIn(problem, last)
        for uri in ("", "sip:", "sip:a@b:c", "tel:+1234"):
            error = self.assertRaises(CommandError, send.read, (uri,))
            self.assertEqual(error.exit, Exit.USAGE)

    def test_password(self) -> None:
        """A password that is not in the list of processes comes from the environment."""
        self.patch(os, "environ", {**os.environ, PASSWORD: "secret"})
        read = send.read((self.uri(), "--auth", "ann"))
        self.assertEqual(read.credentials, ("ann", "secret"))


class TlsTests(TelephoneTestCase):
    contact = "sip:127.0.0.1:0;transport=tls"

    async def ask(self, uri: str, *words: str) -> Exit:
        """Ask whether somebody is there; give the exit status."""
        read = options.read((uri, *words))
        try:
            return Exit(await options.ask(reactor, read, Leave()))
        except CommandError as error:
            return error.exit

    async def test_trust(self) -> None:
        """A certificate is verified, by the authority that is named, unless that is not wanted."""
        self.srf.options(lambda req, res: res.send(200))
        certificate = Path(self.mktemp())
        certificate.write_bytes(identity().certificate)
        uri = f"sip:127.0.0.1:{self.port};transport=tls"
        self.assertEqual(await self.ask(uri), Exit.NO_ANSWER)
        self.assertEqual(await self.ask(uri, "--ca", str(certificate)), Exit.OK)
        self.assertEqual(await self.ask(uri, "--insecure"), Exit.OK)
        sips = f"sips:127.0.0.1:{self.port}"
        self.assertEqual(await self.ask(sips), Exit.NO_ANSWER)
        self.assertEqual(await self.ask(sips, "--ca", str(certificate)), Exit.OK)
        self.assertEqual(await self.ask(sips, "--insecure"), Exit.OK)


class RegisterTests(TelephoneTestCase):
    async def test_stays(self) -> None:
        """It registers, is called, registers again, and is gone after Ctrl-C."""
        changes: list[int] = []
        registrar = Registrar(on_change=lambda aor, bindings: changes.append(len(bindings)))
        self.srf.use("register", DigestAuth("here", lambda user, realm: {"bob": "x"}.get(user)))
        self.srf.use(registrar)
        self.patch(register, "EARLY", 0.0005)
        read = register.read((self.uri("bob"), *ALONE, "--auth", "bob:x", "--answer"))
        staying = Deferred.fromCoroutine(register.stay(reactor, read, self.leave))
        while not changes:
            await self.moment()
        [place] = await registrar.find(self.uri("bob"))
        calling = call.read((place.uri, *ALONE, "--duration", "0"))
        self.assertEqual(await call.place(reactor, calling, Leave()), Exit.OK)
        while self.out.getvalue().count("registered for 300 s") < 2:
            await self.moment()
        self.leave.ask()
        self.assertEqual(await staying, Exit.OK)
        self.assertEqual(await registrar.find(self.uri("bob")), [])
        self.assertIn("registered no more", self.out.getvalue())

    async def moment(self) -> None:
        """Let the reactor go on."""
        await deferLater(cast(IReactorTime, reactor), 0.005)

    async def test_refused(self) -> None:
        """Who is not let in learns it; a call that nobody takes is busy."""
        self.srf.use("register", DigestAuth("here", lambda user, realm: "x"))
        self.srf.use(Registrar())
        read = register.read((self.uri("bob"), *ALONE, "--auth", "bob:y"))
        exit, text = await self.refused(register.stay(reactor, read, self.leave))
        self.assertEqual(exit, Exit.REFUSED)
        self.assertIn("401 Unauthorized; --auth", text)

    async def test_once(self) -> None:
        """Registered once, it is left; and removed."""
        registrar = Registrar()
        self.srf.use(registrar)
        read = register.read((self.uri("bob"), *ALONE, "--once", "--expires", "60"))
        self.assertEqual(await register.stay(reactor, read, self.leave), Exit.OK)
        self.assertEqual(len(await registrar.find(self.uri("bob"))), 1)
        read = register.read((self.uri("bob"), *ALONE, "--remove"))
        self.assertEqual(await register.stay(reactor, read, self.leave), Exit.OK)
        self.assertEqual(await registrar.find(self.uri("bob")), [])
