"""``twistd drachtio``: what its command line means, and how its process lives and dies."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.logger import LogLevel
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, SipError, TlsOptions, sip
from drachtwist.demo.phone import Call, Phone
from drachtwist.hosting import app_service, server_tap
from drachtwist.hosting import app_tap as tap
from drachtwist.net.endpoints import Connect, Listen
from tests.app.doubles import ANSWER
from tests.certificates import identity
from tests.interop.peers import InteropTestCase, Peer, free_port
from tests.net.test_tls import shake
from tests.server.doubles import head, request
from tests.whole import Whole

HELLO = """
from drachtwist import Srf
srf = Srf()
@srf.invite
async def answer(req, res):
    call = await srf.create_uas(req, res, local_sdp=req.body)
    print("in a call")
    await call.when_ended()
"""


class PluginTests(SynchronousTestCase):
    def test_plugins(self) -> None:
        """Twistd knows both commands."""
        makers: list[Any] = list(getPlugins(IServiceMaker))
        found = {
            maker.tapname: maker.module
            for maker in makers
            if maker.module.startswith("drachtwist.")
        }
        expected = {"drachtio": "drachtwist.tap", "drachtio-server": "drachtwist.server_tap"}
        self.assertEqual(found, expected)


class OptionsTestCase(SynchronousTestCase):
    kind: Any = tap.Options

    def parse(self, *words: str, **environment: str) -> Any:
        """Read a command line."""
        options = self.kind()
        options.environment = environment
        options.parseOptions(list(words))
        return options

    def refused(self, *words: str, **environment: str) -> str:
        """See that a command line is refused; give the reason."""
        error = self.assertRaises(usage.UsageError, self.parse, *words, **environment)
        return str(error)


class ApplicationOptionsTests(OptionsTestCase):
    def test_own_server(self) -> None:
        """Without an endpoint there is a server in the process, with a secret nobody knows."""
        one = self.parse("--app", "a.py")["settings"]
        other = self.parse("--app", "a.py")["settings"]
        self.assertEqual(one.endpoints, ())
        self.assertEqual(one.server.contacts, (tap.DEFAULT_CONTACT,))
        self.assertEqual((one.server.admin_host, one.server.admin_port), ("127.0.0.1", 0))
        self.assertNotEqual(one.secret, other.secret)
        self.assertGreater(len(one.secret), 20)

    def test_endpoints(self) -> None:
        """Endpoint strings choose the mode; there may be several."""
        me = identity()
        key, certificate = Path(self.mktemp()), Path(self.mktemp())
        key.write_bytes(me.key)
        certificate.write_bytes(me.certificate)
        words = ["--app", "a.py", "--tls-key", str(key), "--tls-cert", str(certificate)]
        for text in ("tcp:a:9022", "tls:a:9023", "tcp:9022", "tls:9023"):
            words += ["--endpoint", text]
        settings = self.parse(*words, DRACHTIO_SECRET="s")["settings"]
        kinds = [(type(one), one.tls) for one in settings.endpoints]
        self.assertEqual(
            kinds, [(Connect, False), (Connect, True), (Listen, False), (Listen, True)]
        )
        self.assertIsNone(settings.server)

    def test_secret(self) -> None:
        """The secret comes from a flag, a file, or the environment, and is shown nowhere."""
        file = Path(self.mktemp())
        file.write_text("from file\n")
        common = ("--app", "a.py", "--endpoint", "tcp:a:1")
        for words, environment, expected in (
            (("--secret", "flag"), {}, "flag"),
            (("--secret-file", str(file)), {"DRACHTIO_SECRET": "no"}, "from file"),
            ((), {"DRACHTIO_SECRET": "env"}, "env"),
        ):
            options = self.parse(*common, *words, **environment)
            self.assertEqual(options["settings"].secret, expected)
            self.assertNotIn(expected, repr(options["settings"]) + repr(dict(options)))
        self.assertIn("secret", self.refused(*common))
        self.assertIn("not both", self.refused(*common, "--secret", "a", "--secret-file", "b"))
        self.assertIn("cannot read", self.refused(*common, "--secret-file", "/no/such/file"))

    def test_refusals(self) -> None:
        """What cannot be meant is refused with a hint."""
        secret = {"DRACHTIO_SECRET": "s"}
        for words, hint in (
            ((), "--app"),
            (("hello.py",), "--app hello.py"),
            (("--app", "a", "--endpoint", "tcp:"), "tcp:HOST:9022"),
            (("--app", "a", "--endpoint", "udp:a:1"), "tls:9023"),
            (("--app", "a", "--endpoint", "tls:9023:certKey=x"), "private key"),
            (("--app", "a", "--endpoint", "tcp:9022", "--allow", "all"), "network"),
            (("--app", "a", "--endpoint", "tcp:a:1", "--allow", "10.0.0.0/8"), "--allow"),
            (("--app", "a", "--allow", "10.0.0.0/8"), "--allow"),
            (("--app", "a", "--tls-key", "x"), "belong together"),
            (("--routing", "tcp:8080"), "belong together"),
            (("--routing", "tcp:a:1", "--routing-app", "b"), "tcp:8080"),
            (("--app", "a", "--drain", "soon"), "seconds"),
            (("--app", "a", "--drain", "-1"), "seconds"),
            (("--app", "a", "--tag", "a b"), "tag"),
            (("--app", "a", "--endpoint", "tcp:a:1", "--contact", "sip:a"), "--contact"),
        ):
            self.assertIn(hint, self.refused(*words, **secret), words)

    def test_settings_of_the_server(self) -> None:
        """The server in this process has the settings of a file; flags win over it."""
        file = Path(self.mktemp())
        file.write_text(
            """<drachtio>
            <admin port="7" secret="theirs">0.0.0.0</admin>
            <request-handlers><request-handler>http://a/</request-handler></request-handlers>
            <sip>
              <contacts><contact external-ip="192.0.2.9">sip:127.0.0.1:5080</contact></contacts>
              <udp-mtu>900</udp-mtu>
            </sip>
            <cdrs>true</cdrs>
            </drachtio>"""
        )
        settings = self.parse("--app", "a.py", "--server-config", str(file))["settings"]
        server = settings.server
        [contact] = server.contacts
        self.assertEqual((contact.uri, contact.external_ip), ("sip:127.0.0.1:5080", "192.0.2.9"))
        self.assertEqual((server.udp_mtu, server.cdrs), (900, True))
        self.assertEqual((server.admin_host, server.admin_port), ("127.0.0.1", 0))
        self.assertEqual(server.request_handlers, ())
        self.assertEqual(server.secret, settings.secret)
        said = " ".join(note.text for note in settings.notes)
        self.assertIn("the application is in this process", said)
        self.assertNotIn("theirs", said + repr(settings))
        words: tuple[str, ...] = ("--contact", "sip:127.0.0.1:5090", "--external-ip", "192.0.2.1")
        words += ("--local-net", "10.0.0.0/8", "--dns-name", "a.example", "--dns-name", "b.example")
        words += ("--contact", "sip:127.0.0.1:5091")
        for more in ((), ("--server-config", str(file))):
            server = self.parse("--app", "a.py", *words, *more)["settings"].server
            first, second = server.contacts
            self.assertEqual(
                (first.external_ip, first.local_net, first.dns_names),
                ("192.0.2.1", "10.0.0.0/8", ("a.example", "b.example")),
            )
            self.assertEqual((second.uri, second.external_ip), ("sip:127.0.0.1:5091", None))
        # What may change while it runs is read again.
        again = settings.reread()
        self.assertEqual((again.admin_port, again.secret), (0, settings.secret))

    def test_settings_that_are_elsewhere(self) -> None:
        """Options of the server say which command has them; ours are not taken for others."""
        for words, hint in (
            (("--mtu", "900"), "'twist drachtio-server'; the server in this process has"),
            (("--http-handler", "http://a/"), "'twist drachtio-server'"),
            (("--external-ip", "192.0.2.1"), "has to follow the --contact"),
            (("--server-config", "/no/such/file"), "/no/such/file"),
            (
                ("--endpoint", "tcp:a:1", "--server-config", "x"),
                "--server-config is for the server",
            ),
        ):
            reason = self.refused("--app", "a.py", *words, DRACHTIO_SECRET="s")
            self.assertIn(hint, reason, words)


class AtHandTests(OptionsTestCase):
    """What is taken from the current directory when nothing is said."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)
        self.directory = Path.cwd()

    def test_application(self) -> None:
        """An ``app.py`` is the application, which is said."""
        self.assertIn("there is no app.py here", self.refused())
        (self.directory / "app.py").write_text("")
        settings = self.parse()["settings"]
        self.assertEqual(settings.app, "app.py")
        [note] = settings.notes
        self.assertEqual(note.text, f"the application is app.py of {self.directory}")
        for words in (
            ("--app", "other.py"),
            ("--routing", "tcp:8080", "--routing-app", "other.py"),
        ):
            settings = self.parse(*words)["settings"]
            self.assertNotEqual(settings.app, "app.py")
            self.assertEqual(settings.notes, ())

    def shown(self, settings: Any, at: int = 0) -> Any:
        """Give the certificate that an endpoint shows."""
        credentials = settings.endpoints[at].credentials
        connection = SSL.Connection(credentials.server_creator().getContext(), None)
        return connection.get_certificate()

    def test_files(self) -> None:
        """``server.key`` and ``server.crt`` are taken by whoever listens and has nothing else."""
        me, other = identity(), identity("other.example")
        (self.directory / "server.key").write_bytes(me.key)
        self.assertIn(
            "belong together",
            self.refused("--app", "a", "--endpoint", "tls:9023", DRACHTIO_SECRET="s"),
        )
        (self.directory / "server.crt").write_bytes(me.certificate)
        words = ["--app", "a", "--endpoint", "tls:9023", "--endpoint", "tls:a:9023"]
        settings = self.parse(*words, DRACHTIO_SECRET="s")["settings"]
        mine = crypto.load_certificate(crypto.FILETYPE_PEM, me.certificate)
        self.assertEqual(self.shown(settings).digest("sha256"), mine.digest("sha256"))
        # They are no business of connections to others.
        self.assertFalse(settings.endpoints[1].credentials.options.has_identity)
        [note] = settings.notes
        self.assertEqual(note.level, LogLevel.info)
        (self.directory / "k").write_bytes(other.key)
        (self.directory / "c").write_bytes(other.certificate)
        for words in (
            ["--endpoint", "tls:9023:privateKey=k:certKey=c"],
            ["--endpoint", "tls:9023", "--tls-key", "k", "--tls-cert", "c"],
        ):
            settings = self.parse("--app", "a", *words, DRACHTIO_SECRET="s")["settings"]
            self.assertNotEqual(self.shown(settings).digest("sha256"), mine.digest("sha256"))
            self.assertEqual(settings.notes, ())

    def test_self_signed(self) -> None:
        """Without them one is made, the same for all; a warning tells how to keep one."""
        words = ["--app", "a", "--endpoint", "tls:9023", "--endpoint", "tls:9024"]
        settings = self.parse(*words, DRACHTIO_SECRET="s")["settings"]
        shown = self.shown(settings)
        [note] = settings.notes
        self.assertEqual(note.level, LogLevel.warn)
        self.assertIn(shown.digest("sha256").decode(), note.text)
        self.assertEqual(self.shown(settings, 1).digest("sha256"), shown.digest("sha256"))
        command = note.text[note.text.index("openssl req") :]
        self.assertIn("-keyout server.key -out server.crt", command)
        self.assertEqual(list(self.directory.iterdir()), [])
        # Each run has its own, and whoever names it trusts it, under the names of this machine.
        again = self.shown(self.parse(*words, DRACHTIO_SECRET="s")["settings"])
        self.assertNotEqual(again.digest("sha256"), shown.digest("sha256"))
        pem = crypto.dump_certificate(crypto.FILETYPE_PEM, shown)
        server = settings.endpoints[0].credentials.options
        for name, good in (("localhost", True), ("127.0.0.1", True), ("other.example", False)):
            client = TlsOptions(ca=pem, server_name=name)
            if good:
                self.assertTrue(shake(server, client))
            else:
                self.assertRaises(SSL.Error, shake, server, client)
        self.assertRaises(SSL.Error, shake, server, TlsOptions())

    def test_allow(self) -> None:
        """``--allow`` is for all ports that name nobody themselves, that of questions too."""
        settings = self.parse(
            *("--app", "a", "--allow", "10.0.0.0/8", "--allow", "192.0.2.1"),
            *("--endpoint", "tcp:9022", "--endpoint", "tcp:9024:allow=127.0.0.1"),
            *("--endpoint", "tcp:a:9022", "--routing", "tcp:8080", "--routing-app", "b"),
            DRACHTIO_SECRET="s",
        )["settings"]
        both = ["10.0.0.0/8", "192.0.2.1/32"]
        first, second, _ = settings.endpoints
        for where, networks in (
            (first, both),
            (second, ["127.0.0.1/32"]),
            (settings.routing, both),
        ):
            self.assertEqual([str(one) for one in where.allow], networks)


class ServerOptionsTests(OptionsTestCase):
    kind = server_tap.Options

    def test_defaults(self) -> None:
        """A server for this machine needs no settings."""
        config = self.parse()["config"]
        self.assertEqual((config.admin_host, config.admin_port), ("127.0.0.1", 9022))
        self.assertEqual(config.secret, "cymru")
        self.assertTrue(config.require_authentication)

    def test_flags_and_environment(self) -> None:
        """Flags count more than variables of the environment."""
        found = self.parse(
            *("--port", "1", "--contact", "sip:127.0.0.1:5;transport=udp"),
            DRACHTIO_ADMIN_TCP_PORT="2",
            DRACHTIO_SECRET="s",
            DRACHTIO_HTTP_HANDLER_URI="http://127.0.0.1:3",
        )["config"]
        self.assertEqual((found.admin_port, found.secret), (1, "s"))
        self.assertEqual([str(one) for one in found.contacts], ["sip:127.0.0.1:5;transport=udp"])
        self.assertEqual(found.request_handlers[0].uri, "http://127.0.0.1:3")

    def test_refusals(self) -> None:
        """Settings that would be unsafe, or make no sense, are refused."""
        for words, hint in (
            (("--address", "0.0.0.0"), "secret"),
            (("--address", "here"), "IP address"),
            (("--port", "0"), "--http-handler"),
            (("--port", "x"), "port number"),
            (("--tls-port", "1"), "--key-file"),
            (("--http-handler", "ftp://a"), "request handler"),
            (("word",), "flags"),
        ):
            self.assertIn(hint, self.refused(*words), words)


class SignalTests(SynchronousTestCase):
    """What further signals do to an application that is stopping."""

    def setUp(self) -> None:
        self.whole = Whole()
        srf = self.whole.srf

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            if req.call_id == "rings":
                res.send(180)
            else:
                await srf.create_uas(req, res, local_sdp=ANSWER)

        settings = app_service.Settings("app", "cymru", None, 60.0, (), None)
        self.service = app_service.ApplicationService(settings, srf, self.whole.clock)
        self.service.srf = srf
        self.whole.pump()
        for name in ("up", "rings"):
            self.whole.receive(request("INVITE", call=name))
        [answer_] = [one for one in self.whole.sent() if getattr(one, "status", 0) == 200]
        self.whole.receive(request("ACK", call="up", to_tag=answer_.to.tag or ""))
        self.stopped: Any = self.service.stopService()

    def test_first_and_second(self) -> None:
        """The first gives calls time. The second hangs up what is up and refuses what rings, and
        the application leaves as soon as that is answered.
        """
        self.assertEqual(self.whole.heads(), [])
        self.service.hurry()
        sent = self.whole.sent()
        self.assertEqual(sorted(map(head, sent)), ["503 INVITE", "BYE"])
        [bye] = [one for one in sent if isinstance(one, sip.Request)]
        self.assertNoResult(self.stopped)
        self.whole.receive(request("ACK", call="rings", branch="INVITE-1", to_tag="x"))
        self.whole.respond(bye, 200)
        self.whole.pass_time(1)
        self.successResultOf(self.stopped)

    def test_third(self) -> None:
        """The third waits for no answer."""
        self.service.hurry()
        self.assertNoResult(self.stopped)
        self.service.hurry()
        self.successResultOf(self.stopped)


class ProcessTests(InteropTestCase):
    """Real processes."""

    def app(self, text: str = HELLO, name: str = "hello.py") -> str:
        """Write an application."""
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def start(self, *words: str, app: str | None = None, **environment: str) -> Peer:
        """Start ``twistd drachtio`` with a server of its own."""
        self.sip = free_port()
        contact = f"sip:127.0.0.1:{self.sip};transport=udp,tcp"
        app = self.app() if app is None else app
        return self.twistd("drachtio", "--app", app, "--contact", contact, *words, **environment)

    async def call(self) -> Call:
        """Call the application, which answers."""
        phone = Phone(("127.0.0.1", self.sip), clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return await phone.call(f"sip:a@127.0.0.1:{self.sip}")

    async def test_stops(self) -> None:
        """SIGTERM ends the process in good order, with exit status 0."""
        peer = self.start()
        await peer.when_prints("connected")
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))

    async def test_drains(self) -> None:
        """SIGTERM hangs up on calls that do not end in time."""
        peer = self.start("--drain", "0.2")
        await peer.when_prints("connected")
        call = await self.call()
        peer.kill("TERM")
        bye = await call.when_ended()
        self.assertEqual(getattr(bye, "method", None), "BYE")
        self.assertEqual(await peer.ended, 0, str(peer))

    async def test_drain_lets_calls_end(self) -> None:
        """A call that ends while the application drains gets no BYE, and nothing waits longer."""
        peer = self.start("--drain", "60")
        await peer.when_prints("connected")
        call = await self.call()
        peer.kill("TERM")
        await peer.when_prints("calls have 60 s")
        await call.hang_up()
        self.assertEqual(await peer.ended, 0, str(peer))
        self.assertEqual(call.requests, [])

    async def test_second_signal(self) -> None:
        """A second signal hangs up the calls that were given time, and then the process ends."""
        peer = self.start("--drain", "60")
        await peer.when_prints("connected")
        call = await self.call()
        peer.kill("TERM")
        await peer.when_prints("calls have 60 s")
        peer.kill("TERM")
        bye = await call.when_ended()
        self.assertEqual(getattr(bye, "method", None), "BYE")
        self.assertEqual(await peer.ended, 0, str(peer))

    async def test_interrupted(self) -> None:
        """Ctrl-C stops in good order too, and leaves the shell the signal to see."""
        peer = self.start()
        await peer.when_prints("connected")
        peer.kill("INT")
        self.assertEqual(await peer.ended, -2, str(peer))
        self.assertIn(b"Main loop terminated", peer.output)

    async def test_refused_beside_another(self) -> None:
        """A refused secret does not end an application that has something else to serve."""
        admin, port = free_port(), free_port()
        server = self.twistd(
            *("drachtio-server", "--port", str(admin)),
            *("--contact", f"sip:127.0.0.1:{free_port()};transport=udp"),
            DRACHTIO_SECRET="right-one",
        )
        await server.when_prints("listening")
        peer = self.twistd(
            *("drachtio", "--app", self.app(), "--endpoint", f"tcp:127.0.0.1:{admin}"),
            *("--endpoint", f"tcp:{port}:interface=127.0.0.1"),
            DRACHTIO_SECRET="wrong-one",
        )
        await peer.when_prints("listening")
        await peer.when_prints("not tried again")
        self.assertIsNone(peer.status)

    async def test_cannot_start(self) -> None:
        """What an application needs and cannot open ends the process with status 1, and why."""
        text = HELLO + (
            "@srf.on_start\nasync def open_database():\n    raise {error}('no database')\n"
            "@srf.on_stop\ndef close():\n    print('closed')\n"
        )
        for error, traced in (("OSError", False), ("ValueError", True)):
            peer = self.start(app=self.app(text.format(error=error), f"{error}.py"))
            self.assertEqual(await peer.ended, 1, str(peer))
            line = f"the application cannot start: open_database failed: {error}: no database"
            self.assertIn(line.encode(), peer.output)
            self.assertEqual(b"Traceback" in peer.output, traced, str(peer))
            self.assertNotIn(b"connected", peer.output)
            self.assertNotIn(b"closed", peer.output)

    async def test_broken_factory(self) -> None:
        """The traceback of a function that should make the application is shown, however long."""
        steps = "".join(f"def step_{n}():\n    return step_{n + 1}()\n\n" for n in range(9))
        text = f"{steps}\ndef step_9():\n    return 1 / 0\n"
        peer = self.start(app=self.app(text, "factory.py") + ":step_0")
        self.assertEqual(await peer.ended, 1, str(peer))
        for n in range(9):
            self.assertIn(f"in step_{n}".encode(), peer.output)
        self.assertIn(b"ZeroDivisionError", peer.output)

    async def test_broken_application(self) -> None:
        """An application that cannot be imported shows its traceback, and ends with status 1."""
        peer = self.start(app=self.app("1 / 0\n", "broken.py"))
        self.assertEqual(await peer.ended, 1, str(peer))
        for text in (b"broken.py", b"1 / 0", b"ZeroDivisionError"):
            self.assertIn(text, peer.output)
        self.assertNotIn(b"importlib", peer.output)

    async def test_no_application(self) -> None:
        """What is no application is named."""
        for text, hint in (("srf = 5\n", b"not an Srf"), ("other = 1\n", b"srf")):
            peer = self.start(app=self.app(text, "wrong.py"))
            self.assertEqual(await peer.ended, 1, str(peer))
            self.assertIn(hint, peer.output)

    async def test_factory(self) -> None:
        """The application may be made by a function, also a coroutine, in a module."""
        self.app(HELLO + "\nasync def make():\n    return srf\n", "factory.py")
        peer = self.start(app="factory:make")
        await peer.when_prints("connected")

    async def test_taken_port(self) -> None:
        """A SIP port that is taken ends the process, with a line that says so."""
        first = self.start()
        await first.when_prints("connected")
        contact = f"sip:127.0.0.1:{self.sip};transport=udp,tcp"
        second = self.twistd("drachtio", "--app", self.app(), "--contact", contact)
        self.assertEqual(await second.ended, 1, str(second))
        self.assertIn(b"cannot start", second.output)
        # Once, and with what can be done about it.
        self.assertEqual(second.output.count(b"Couldn't listen"), 1)
        self.assertIn(b"; --contact takes another port", second.output)

    async def test_wrong_secret(self) -> None:
        """A secret that is refused ends the process, and is not shown."""
        admin = free_port()
        server = self.twistd(
            *("drachtio-server", "--port", str(admin)),
            *("--contact", f"sip:127.0.0.1:{free_port()};transport=udp"),
            DRACHTIO_SECRET="right-one",
        )
        await server.when_prints("listening")
        peer = self.twistd(
            *("drachtio", "--app", self.app(), "--endpoint", f"tcp:127.0.0.1:{admin}"),
            DRACHTIO_SECRET="wrong-one",
        )
        self.assertEqual(await peer.ended, 1, str(peer))
        self.assertIn(b"secret", peer.output)
        for shown in (peer.output, server.output):
            self.assertNotIn(b"wrong-one", shown)
            self.assertNotIn(b"right-one", shown)

    async def test_routing(self) -> None:
        """A web callback is hosted too: a server asks it, and does what it says."""
        web, sip = free_port(), free_port()
        text = """
from drachtwist.middleware.webhook import reject

def decide(query):
    return reject(486, f"not {query.uri_user}")
"""
        callback = self.twistd(
            "drachtio",
            *("--routing", f"tcp:{web}:interface=127.0.0.1"),
            *("--routing-app", self.app(text, "where.py") + ":decide"),
        )
        await callback.when_prints("listening for questions")
        server = self.twistd(
            *("drachtio-server", "--port", "0"),
            *("--http-handler", f"http://127.0.0.1:{web}"),
            *("--contact", f"sip:127.0.0.1:{sip};transport=udp"),
        )
        await server.when_prints("listening")
        phone = Phone(("127.0.0.1", sip), clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        refusal: Any = await self.assertFailure(phone.call("sip:bob@127.0.0.1"), SipError)
        self.assertEqual((refusal.status, refusal.reason), (486, "not bob"))
        callback.kill("TERM")
        self.assertEqual(await callback.ended, 0, str(callback))

    async def test_as_it_stands(self) -> None:
        """With a secret and an ``app.py`` it listens over TLS, and a server that verifies nobody
        gets an answer.
        """
        self.app(HELLO + "srf.options(lambda req, res: res.send(200))\n", "app.py")
        port, sip = free_port(), free_port()
        peer = self.twistd("drachtio", "--endpoint", f"tls:{port}", DRACHTIO_SECRET="right-one")
        await peer.when_prints("listening for servers on tls")
        for text in ("the application is app.py of", "SHA-256", "is shown the secret"):
            self.assertIn(text.encode(), peer.output)
        for more, status in (((), 200), (("--verify-applications",), 480)):
            server = self.twistd(
                *("drachtio-server", "--port", "0", *more),
                *("--http-handler", f"tls://127.0.0.1:{port}"),
                *("--contact", f"sip:127.0.0.1:{sip};transport=udp"),
                DRACHTIO_SECRET="right-one",
            )
            await server.when_prints("listening")
            phone = Phone(("127.0.0.1", sip), clock=reactor)
            listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
            self.addCleanup(listening.stopListening)
            asking = phone.request("OPTIONS", f"sip:a@127.0.0.1:{sip}")
            if status == 200:
                self.assertEqual((await asking).status, 200)
            else:
                error: Any = await self.assertFailure(asking, SipError)
                self.assertEqual(error.status, status)
            server.kill("TERM")
            self.assertEqual(await server.ended, 0, str(server))
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))

    async def test_allowed(self) -> None:
        """Who may not connect is not shown the secret, which is said once."""
        port = free_port()
        peer = self.twistd(
            *("drachtio", "--app", self.app(), "--endpoint", f"tcp:{port}"),
            *("--allow", "10.0.0.0/8"),
            DRACHTIO_SECRET="right-one",
        )
        await peer.when_prints("listening for servers")
        self.assertNotIn(b"is shown the secret", peer.output)
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.settimeout(10)
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(stranger.recv(100), b"")
        await peer.when_prints("127.0.0.1 is not allowed to connect")
        self.assertEqual(peer.output.count(b"not allowed"), 1)

    async def test_help(self) -> None:
        """Help names the flags."""
        for plugin, flag in (("drachtio", b"--endpoint"), ("drachtio-server", b"--http-handler")):
            peer = self.twistd(plugin, "--help")
            self.assertEqual(await peer.ended, 0, str(peer))
            self.assertIn(flag, peer.output)


class CommandTests(InteropTestCase):
    """The command ``drachtwist``."""

    def command(self, *words: str) -> Peer:
        """Run it."""
        return self.spawn(
            f"drachtwist {' '.join(words)}",
            *(sys.executable, "-m", "drachtwist.cli"),
            *words,
            **dict.fromkeys(("PYTHONIOENCODING",), "utf-8"),
        )

    async def test_demo(self) -> None:
        """The demo shows a call as a ladder, from the INVITE to the answer to the BYE."""
        peer = self.command("demo", "--once", "--port", "0")
        self.assertEqual(await peer.ended, 0, str(peer))
        text = peer.output.decode("utf-8")
        at = 0
        for part in (
            "twistd -n --pidfile= drachtio",
            "INVITE",
            "100 Trying",
            "180",
            "200 OK (INVITE)",
            "ACK",
        ):
            at = text.index(part, at)
        self.assertIn("200 OK (BYE)", text[at:])

    async def test_stays(self) -> None:
        """Without --once it stays up, says where it can be called, and Ctrl-C ends it."""
        peer = self.command("demo", "--port", "0")
        await peer.when_prints("Ctrl-C")
        text = peer.output.decode("utf-8")
        self.assertIn("sip:hello@127.0.0.1:", text)
        self.assertIn("answer.py", text)
        await peer.when_prints("--endpoint tcp:HOST:9022")
        peer.kill("INT")
        self.assertEqual(await peer.ended, 0, str(peer))
        self.assertNotIn(b"Traceback", peer.output)

    async def test_taken_port(self) -> None:
        """A port that is taken is refused with a hint."""
        import socket

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            peer = self.command("demo", "--once", "--port", str(taken.getsockname()[1]))
            self.assertEqual(await peer.ended, 1, str(peer))
        self.assertIn(b"--port names another", peer.output)

    async def test_version(self) -> None:
        """It knows its version, and shows help."""
        peer = self.command("--version")
        self.assertEqual(await peer.ended, 0)
        self.assertRegex(peer.output.decode(), r"^drachtwist \d")
        peer = self.command()
        self.assertEqual(await peer.ended, 2)
        self.assertIn(b"demo", peer.output)
