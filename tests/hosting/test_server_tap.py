"""``twistd drachtio-server`` as a process, and what its command line refuses."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.hosting.server_flags import (
    SWITCHES_NOT_OBEYED,
    VALUES_NOT_OBEYED,
    VARIABLES,
    VARIABLES_NOT_OBEYED,
)
from drachtwist.hosting.server_tap import Options
from drachtwist.hosting.tracing import TraceSettings
from drachtwist.server.config import Contact
from drachtwist.server.configfile import ConfigFile
from drachtwist.version import VERSION
from tests.certificates import identity
from tests.interop.peers import InteropTestCase, Peer, free_port

CONFIGS = Path(__file__).parent.parent / "data" / "config"
DOCS = Path(__file__).parent.parent.parent / "docs"


def read(*words: str, **environment: str) -> Options:
    """Read a command line, on a machine without a configuration file."""
    options = Options()
    options.environment = environment
    options.default_file = None
    options.parseOptions(list(words))
    return options


def check(*words: str, **environment: str) -> tuple[object, str, str]:
    """Let a configuration be checked; give exit status, output and errors."""
    shown, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(shown), redirect_stderr(errors):
        try:
            read("--check-config", *words, **environment)
        except SystemExit as end:
            return end.code, shown.getvalue(), errors.getvalue()
    raise AssertionError("it did not exit")


class OptionsTests(SynchronousTestCase):
    def parse(self, *words: str, **environment: str) -> Options:
        """Read a command line."""
        return read(*words, **environment)

    def findings(self, *words: str, **environment: str) -> list[str]:
        """Give what is reported."""
        return [str(finding) for finding in self.parse(*words, **environment)["findings"]]

    def test_flags_that_are_not_obeyed(self) -> None:
        """Flags of the real server that mean nothing here are accepted and reported."""
        for name in VALUES_NOT_OBEYED:
            (found,) = self.findings(f"--{name}", "7")
            self.assertTrue(found.startswith(f"--{name}: not supported: "), found)
        for name in SWITCHES_NOT_OBEYED:
            (found,) = self.findings(f"--{name}")
            self.assertTrue(found.startswith(f"--{name}: not supported: "), found)
        for flag in ("-u", "-s"):
            self.assertEqual(len(self.findings(flag, "7")), 1)

    def test_variables_that_are_not_obeyed(self) -> None:
        """So are its environment variables."""
        for name in VARIABLES_NOT_OBEYED:
            (found,) = self.findings(**{f"DRACHTIO_{name}": "1"})
            self.assertTrue(found.startswith(f"DRACHTIO_{name}: not supported: "), found)

    def test_everything_is_documented(self) -> None:
        """The table in the documentation has every flag and every variable."""
        text = (DOCS / "server.md").read_text(encoding="utf-8")
        flags = [name for name, *_ in Options.optParameters + Options.optFlags]
        for flag in (*flags, "contact", "external-ip", "local-net", "dns-name", "version", "help"):
            self.assertRegex(text, f"`--{flag}[` ]")
        for name in (*VARIABLES.values(), *VARIABLES_NOT_OBEYED):
            self.assertIn(f"`{name}`", text)

    def test_homer(self) -> None:
        """Homer is named by flags, variables or the file, with a port or without."""

        def homer(*words: str, **environment: str) -> tuple[str | None, int, int]:
            config = self.parse(*words, **environment)["config"]
            return config.capture_host, config.capture_port, config.capture_id

        self.assertEqual(homer(), (None, 9060, 0))
        self.assertEqual(homer("--homer", "192.0.2.9:9061"), ("192.0.2.9", 9061, 0))
        self.assertEqual(homer("-y", "heplify", "-z", "4294967295"), ("heplify", 9060, 4294967295))
        self.assertEqual(homer("-y", "[2001:db8::9]:1"), ("2001:db8::9", 1, 0))
        variables = {"DRACHTIO_HOMER_ADDRESS": "h", "DRACHTIO_HOMER_PORT": "7"}
        self.assertEqual(homer(DRACHTIO_HOMER_ID="3", **variables), ("h", 7, 3))
        self.assertEqual(homer("--homer", "h:1", **variables), ("h", 1, 0))
        path = str(CONFIGS / "strange.xml")
        self.assertEqual(homer("--file", path), ("192.0.2.9", 9060, 101))
        for words in (("-y", "h:port"), ("-y", ":1"), ("-y", "h:0"), ("-z", "x"), ("-z", "9" * 10)):
            with self.assertRaises(usage.UsageError):
                homer(*words)

    def test_level(self) -> None:
        """What is logged is said by flag, variable or file; other words are errors."""
        self.assertEqual(self.parse()["config"].log_level, "info")
        self.assertEqual(self.parse("-l", "Debug")["config"].log_level, "debug")
        self.assertEqual(self.parse(DRACHTIO_LOGLEVEL="warning")["config"].log_level, "warning")
        config = self.parse("--file", str(CONFIGS / "strange.xml"))["config"]
        self.assertEqual(config.log_level, "debug")
        with self.assertRaises(usage.UsageError):
            self.parse("--loglevel", "loud")

    def test_tracing(self) -> None:
        """What is traced is said by flags; without any, the last messages are kept."""
        self.assertEqual(self.parse()["tracing"], TraceSettings(False, None, 4 << 20))
        words = ("--trace", "--trace-file", "x.pcapng", "--trace-memory", "0")
        self.assertEqual(self.parse(*words)["tracing"], TraceSettings(True, "x.pcapng", 0))
        with self.assertRaises(usage.UsageError):
            self.parse("--trace-memory", "much")

    def test_precedence(self) -> None:
        """Flags win over variables, variables over the file, the file over defaults."""
        path = str(CONFIGS / "full.xml")
        file = self.parse("--file", path)["config"]
        self.assertEqual((file.admin_port, file.secret), (9032, "hush-hush"))
        variables = {"DRACHTIO_ADMIN_TCP_PORT": "9041", "DRACHTIO_SECRET": "variable"}
        both = self.parse(DRACHTIO_CONFIG_FILE_PATH=path, **variables)["config"]
        self.assertEqual((both.admin_port, both.secret), (9041, "variable"))
        self.assertEqual(both.prometheus_port, 9088)
        all_three = self.parse("-f", path, "-p", "9042", "--secret", "flag", **variables)["config"]
        self.assertEqual((all_three.admin_port, all_three.secret), (9042, "flag"))
        self.assertEqual(self.parse()["config"].admin_port, 9022)
        self.assertEqual(self.parse("--noconfig", "-f", path)["config"].admin_port, 9022)

    def test_file(self) -> None:
        """All that the file says ends up in the settings."""
        options = self.parse("--file", str(CONFIGS / "full.xml"))
        config = options["config"]
        self.assertEqual(options["findings"], [])
        self.assertEqual(
            [(one.method, one.http_method) for one in config.request_handlers],
            [("INVITE", "POST"), ("*", "GET")],
        )
        self.assertEqual(
            [str(contact) for contact in config.contacts],
            [
                "sip:127.0.0.1:5070;transport=udp,tcp"
                " (external 192.0.2.5, local 127.0.0.0/8, names sip.example)",
                "sip:127.0.0.1:5072;transport=tcp",
            ],
        )
        timing = config.timing
        self.assertEqual((timing.t1, timing.t2, timing.t4, timing.h), (0.25, 2.0, 2.5, 16.0))
        self.assertEqual((timing.a, timing.c), (0.5, 185.0))
        self.assertEqual(config.outbound_proxy, "sip:192.0.2.1:5060")
        self.assertEqual(config.default_refresher, "uac")
        self.assertEqual(config.nat_detection, "aggressive")
        self.assertEqual(config.spammers.action, "reject")
        self.assertEqual(config.options_user_agent, "prober/1")
        self.assertTrue(config.reject_register_with_no_realm and config.cdrs)
        self.assertEqual(config.tcp_keepalive, 20)
        self.assertEqual((config.prometheus_host, config.prometheus_port), ("127.0.0.2", 9088))

    def test_default_file(self) -> None:
        """The file at the usual place is read, if there is one."""
        options = Options()
        options.environment = {}
        options.default_file = str(CONFIGS / "full.xml")
        options.parseOptions([])
        self.assertEqual(options["config"].admin_port, 9032)
        options = Options()
        options.environment = {}
        options.default_file = self.mktemp()
        options.parseOptions([])
        self.assertIsNone(options["read"])

    def test_file_that_says_little(self) -> None:
        """Secret and contact are then those of the real server."""
        path = Path(self.mktemp())
        path.write_text("<drachtio><admin>127.0.0.1</admin></drachtio>")
        config = self.parse("--file", str(path))["config"]
        self.assertEqual(config.secret, "admin")
        self.assertEqual([str(one) for one in config.contacts], ["sip:*;transport=udp,tcp"])
        path.write_text("<drachtio><admin>0.0.0.0</admin></drachtio>")
        error = self.assertRaises(usage.UsageError, self.parse, "--file", str(path))
        self.assertIn("other machines can reach 0.0.0.0", str(error))

    def test_file_that_cannot_be_used(self) -> None:
        """It is refused, with the line."""
        path = Path(self.mktemp())
        path.write_text(
            "<drachtio>\n<admin>127.0.0.1</admin>\n<sip><contacts>\n"
            "<contact>sips:127.0.0.1</contact></contacts></sip></drachtio>"
        )
        for words, problem in (
            (("--file", self.mktemp()), "cannot read"),
            (("--file", str(path)), "no key and certificate for sips:127.0.0.1 (line 4)"),
        ):
            error = self.assertRaises(usage.UsageError, self.parse, *words)
            self.assertIn(problem, str(error))

    def test_websockets(self) -> None:
        """WebSockets are a transport like others, where the package for them is installed."""
        words = ("--contact", "sip:127.0.0.1:8080;transport=ws")
        self.assertEqual(check(*words)[0], 0)
        status, _, errors = check("--contact", "sip:127.0.0.1;transport=wss")
        self.assertEqual(status, 1)
        self.assertIn("no key and certificate for sip:127.0.0.1;transport=wss", errors)
        path = Path(self.mktemp())
        path.write_text(
            "<drachtio>\n<admin>127.0.0.1</admin>\n<sip><contacts>\n"
            "<contact>sip:*:8080;transport=ws</contact></contacts></sip></drachtio>"
        )
        self.patch(sys, "modules", {**sys.modules, "wsproto": None})
        for given, where in ((words, "sip:127.0.0.1:8080"), (("--file", str(path)), "(line 4)")):
            status, _, errors = check(*given)
            self.assertEqual(status, 1)
            self.assertIn("pip install 'drachtwist[websocket]'", errors)
            self.assertIn(where, errors)

    def test_http_handler(self) -> None:
        """The flags replace the handlers of the file, and the variable replaces the flags."""
        path = str(CONFIGS / "full.xml")
        words = ("--file", path, "--http-handler", "http://flag", "--http-method", "post")
        (handler,) = self.parse(*words)["config"].request_handlers
        self.assertEqual((handler.uri, handler.http_method), ("http://flag", "POST"))
        options = self.parse(*words, DRACHTIO_HTTP_HANDLER_URI="http://variable")
        (handler,) = options["config"].request_handlers
        self.assertEqual((handler.uri, handler.http_method), ("http://variable", "GET"))
        self.assertEqual([finding.setting for finding in options["findings"]], ["--http-handler"])
        self.assertEqual(
            self.findings("--http-method", "POST"),
            ["--http-method: it does nothing without --http-handler"],
        )

    def test_order_of_contacts(self) -> None:
        """What is about a contact has to follow it, and an address only once."""
        for words, problem in (
            (("-x", "192.0.2.1"), "--external-ip has to follow"),
            (("-n", "10.0.0.0/8", "-c", "sip:127.0.0.1"), "--local-net has to follow"),
            (("-d", "a.example"), "--dns-name has to follow"),
            (("-c", "sip:127.0.0.1", "-x", "192.0.2.1", "-x", "192.0.2.2"), "given twice"),
        ):
            error = self.assertRaises(usage.UsageError, self.parse, *words)
            self.assertIn(problem, str(error))

    def test_about_contacts(self) -> None:
        """What is said about a contact goes with it, on flags and in files; nonsense is refused."""
        words = ("-c", "sip:127.0.0.1", "-x", "192.0.2.1", "-n", "10.0.0.0/8", "-d", "a", "-d", "b")
        options = self.parse(*words, "-c", "sip:127.0.0.1:5062")
        about = Contact("sip:127.0.0.1", "192.0.2.1", "10.0.0.0/8", ("a", "b"))
        self.assertEqual(options["config"].contacts, (about, Contact("sip:127.0.0.1:5062")))
        self.assertEqual(options["findings"], [])
        status, shown, _ = check(*words)
        self.assertEqual(status, 0)
        self.assertIn(
            "contacts: sip:127.0.0.1 (external 192.0.2.1, local 10.0.0.0/8, names a b)\n", shown
        )
        for flag, value, problem in (
            ("-x", "a.example", "not an external IP address: 'a.example'"),
            ("-x", "2001:db8::1", "cannot stand for each other"),
            ("-n", "home", "not a network: 'home'"),
            ("-d", "a b", "not a DNS name: 'a b'"),
        ):
            error = self.assertRaises(
                usage.UsageError, self.parse, "-c", "sip:127.0.0.1", flag, value
            )
            self.assertIn(problem, str(error))
        path = Path(self.mktemp())
        path.write_text(
            "<drachtio>\n<admin>127.0.0.1</admin>\n<sip><contacts>\n"
            '<contact external-ip="here">sip:127.0.0.1</contact></contacts></sip></drachtio>'
        )
        error = self.assertRaises(usage.UsageError, self.parse, "--file", str(path))
        self.assertIn("not an external IP address: 'here' (line 4)", str(error))

    def test_names_and_lengths(self) -> None:
        """Name servers may be several; the longest request over UDP comes from three places."""
        config = self.parse("--name-server", "192.0.2.1", "--name-server", "[::1]:5353")["config"]
        self.assertEqual(config.name_servers, ("192.0.2.1", "[::1]:5353"))
        self.assertRaises(usage.UsageError, self.parse, "--name-server", "dns.example")
        self.assertEqual(self.parse()["config"].udp_mtu, 0)
        self.assertEqual(self.parse("--mtu", "1500", DRACHTIO_UDP_MTU="9")["config"].udp_mtu, 1500)
        self.assertEqual(self.parse(DRACHTIO_UDP_MTU="65535")["config"].udp_mtu, 65535)

    def test_switches(self) -> None:
        """What can only be on or off is off unless it is asked for."""
        plain = self.parse()["config"]
        self.assertEqual(plain.nat_detection, "usual")
        self.assertFalse(plain.always_send_180 or plain.reject_register_with_no_realm)
        flags = self.parse(
            *("--disable-nat-detection", "--aggressive-nat-detection", "--always-send-180"),
            *("--reject-register-with-no-realm", "--user-agent-options-auto-respond", "prober"),
        )["config"]
        self.assertEqual((flags.nat_detection, flags.options_user_agent), ("off", "prober"))
        self.assertTrue(flags.always_send_180 and flags.reject_register_with_no_realm)
        variables = self.parse(
            DRACHTIO_AGRESSIVE_NAT_DETECTION="1",
            DRACHTIO_REJECT_REGISTER_WITH_NO_REALM="1",
            DRACHTIO_USER_AGENT_OPTIONS_AUTO_RESPOND="prober",
            DRACHTIO_LOCAL_DOMAIN="sip.example",
        )["config"]
        self.assertEqual(
            (variables.nat_detection, variables.options_user_agent), ("aggressive", "prober")
        )
        self.assertTrue(variables.reject_register_with_no_realm)
        self.assertEqual(variables.local_domain, "sip.example")
        off = self.parse(DRACHTIO_AGRESSIVE_NAT_DETECTION="0")["config"]
        self.assertEqual(off.nat_detection, "usual")

    def test_prometheus(self) -> None:
        """Numbers are served to this machine only, unless an address is given."""
        for text, expected in (
            ("9090", ("127.0.0.1", 9090)),
            ("192.0.2.1:9090", ("192.0.2.1", 9090)),
            ("[::1]:9090", ("::1", 9090)),
            ("0", ("127.0.0.1", None)),
        ):
            config = self.parse(DRACHTIO_PROMETHEUS_SCRAPE_PORT=text)["config"]
            self.assertEqual((config.prometheus_host, config.prometheus_port), expected)
        for text in ("here:9090", "99999", "x"):
            error = self.assertRaises(
                usage.UsageError, self.parse, "--prometheus-scrape-port", text
            )
            self.assertIn("is not [ADDRESS:]PORT", str(error))

    def test_numbers(self) -> None:
        """A number that is none is refused, with where it came from."""
        error = self.assertRaises(usage.UsageError, self.parse, "--port", "many")
        self.assertIn("--port 'many' is no port number", str(error))
        error = self.assertRaises(
            usage.UsageError, self.parse, DRACHTIO_TCP_KEEPALIVE_INTERVAL="-1"
        )
        self.assertIn("DRACHTIO_TCP_KEEPALIVE_INTERVAL '-1' is no number", str(error))
        self.assertEqual(self.parse("--tcp-keepalive-interval", "0")["config"].tcp_keepalive, 0)

    def test_oldest_tls(self) -> None:
        """It is 1.2 or 1.3; whoever wants an older one is told so, on flags and in files."""
        for text, version, findings in (
            ("1.2", "1.2", 0),
            ("1.3", "1.3", 0),
            ("1.0", "1.2", 1),
            ("1.1", "1.2", 1),
            ("ancient", "1.2", 1),
        ):
            options = self.parse(DRACHTIO_MIN_TLS_VERSION=text)
            self.assertEqual(options["config"].tls.minimum, version)
            self.assertEqual(len(options["findings"]), findings, text)
            path = Path(self.mktemp())
            path.write_text(
                "<drachtio><admin>127.0.0.1</admin><sip><tls>"
                f"<min-tls-version>{text}</min-tls-version></tls></sip></drachtio>"
            )
            options = self.parse("--file", str(path))
            self.assertEqual(options["config"].tls.minimum, version)
            self.assertEqual(len(options["findings"]), findings, text)

    def test_tls(self) -> None:
        """What TLS is to use comes from flags, variables and the file."""
        me = identity()
        names = {}
        for name, text in (("key", me.key), ("cert", me.certificate), ("chain", me.certificate)):
            names[name] = self.mktemp()
            Path(names[name]).write_bytes(text)
        words = [word for name in names for word in (f"--{name}-file", names[name])]
        tls = self.parse(
            *words, DRACHTIO_TLS_CIPHER_LIST="ECDHE", DRACHTIO_TLS_VERIFY_CLIENT_CERT="1"
        )["config"].tls
        self.assertEqual((tls.ciphers, tls.verify_clients, tls.verify), ("ECDHE", True, False))
        tls = self.parse(*words, "--tls-cipherlist", "AESGCM")["config"].tls
        self.assertEqual(
            (tls.ciphers, tls.verify_clients, tls.dh_parameters), ("AESGCM", False, None)
        )
        status, shown, _ = check(*words, "--tls-cipherlist", "AESGCM")
        self.assertEqual(status, 0)
        self.assertIn("ciphers AESGCM, minimum 1.2\n", shown)
        for more, problem in (
            (("--tls-cipherlist", "ROT13"), "no cipher list that OpenSSL can use: 'ROT13'"),
            (("--dh-param", names["cert"]), "cannot use the Diffie-Hellman parameters"),
            (("--dh-param", self.mktemp()), "cannot use the Diffie-Hellman parameters"),
            (("--app-ca", names["key"]), "no certificate in the TLS ca"),
        ):
            error = self.assertRaises(usage.UsageError, self.parse, *words, *more)
            self.assertIn(problem, str(error))
        error = self.assertRaises(
            usage.UsageError, self.parse, *words[:4], DRACHTIO_TLS_VERIFY_CLIENT_CERT="1"
        )
        self.assertIn("vouch for them", str(error))

    def test_orphans(self) -> None:
        """What becomes of calls whose application is gone: flags, variables, file, defaults."""
        config = self.parse()["config"]
        self.assertEqual((config.orphan_grace, config.max_orphans), (60.0, 10_000))
        config = self.parse("--orphan-grace", "0", DRACHTIO_MAX_ORPHANS="7")["config"]
        self.assertEqual((config.orphan_grace, config.max_orphans), (0.0, 7))
        file = ConfigFile.parse(
            b"<drachtio><admin orphan-grace='5' max-orphans='9'>127.0.0.1</admin></drachtio>"
        )
        self.assertEqual((file.orphan_grace, file.max_orphans, file.findings), (5, 9, ()))
        self.assertRaises(usage.UsageError, self.parse, "--orphan-grace", "-1")

    def test_applications(self) -> None:
        """Certificates of applications are verified if that is wanted."""
        path = Path(self.mktemp())
        path.write_bytes(identity().certificate)
        for words, verify, ca in (
            ((), False, None),
            (("--verify-applications",), True, None),
            (("--app-ca", str(path)), True, str(path)),
        ):
            config = self.parse(*words)["config"]
            self.assertEqual((config.verify_applications, config.application_ca), (verify, ca))

    def test_sockets(self) -> None:
        """How much the system keeps for sockets, and when a connection counts as dead."""
        plain = self.parse()["config"]
        self.assertEqual(
            (plain.listen_backlog, plain.max_timeouts, plain.udp_buffer_size), (512, 0, None)
        )
        path = Path(self.mktemp())
        path.write_text(
            "<drachtio><admin>127.0.0.1</admin><sip><udp-buffer-size>65536</udp-buffer-size>"
            "</sip></drachtio>"
        )
        config = self.parse(
            *("--file", str(path)),
            DRACHTIO_TPORT_QUEUESIZE="64",
            DRACHTIO_TPORT_MAX_CONSECUTIVE_TIMEOUTS="3",
            DRACHTIO_SUPPORT_BEST_EFFORT_TLS="1",
        )["config"]
        self.assertEqual(
            (config.listen_backlog, config.max_timeouts, config.udp_buffer_size), (64, 3, 65536)
        )
        for name in ("QUEUESIZE", "MAX_CONSECUTIVE_TIMEOUTS"):
            error = self.assertRaises(
                usage.UsageError, self.parse, **{f"DRACHTIO_TPORT_{name}": "1001"}
            )
            self.assertIn(f"DRACHTIO_TPORT_{name} '1001' is no number (0 to 1000)", str(error))

    def test_secret_is_hidden(self) -> None:
        """The secret is shown neither by the options nor by the settings."""
        options = self.parse("--secret", "hush-hush")
        self.assertEqual(options["config"].secret, "hush-hush")
        self.assertNotIn("hush-hush", repr(dict(options)) + repr(options["config"]))

    def test_other_machines(self) -> None:
        """A server that other machines reach serves them once it has a secret."""
        options = self.parse("--address", "0.0.0.0", DRACHTIO_SECRET="s")
        self.assertEqual(options["config"].admin_host, "0.0.0.0")

    def test_unreadable_key(self) -> None:
        """TLS files that cannot be used are refused at the start, not at the first call."""
        missing = self.mktemp()
        error = self.assertRaises(
            usage.UsageError,
            self.parse,
            *("--tls-port", "1", "--key-file", missing, "--cert-file", missing),
        )
        self.assertIn("cannot read the TLS", str(error))

    def test_check(self) -> None:
        """The check shows settings without secrets, and what is not obeyed; status 0."""
        status, shown, errors = check("--file", str(CONFIGS / "full.xml"), "--daemon")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("admin_port: 9032\n", shown)
        self.assertIn("secret: (hidden)\n", shown)
        self.assertIn("INVITE POST http://user:(hidden)@127.0.0.1:4000/calls", shown)
        self.assertIn("not obeyed: --daemon: not supported", shown)
        for word in ("hush-hush", "sesame"):
            self.assertNotIn(word, shown)
        status, shown, errors = check("--file", str(CONFIGS / "strange.xml"))
        self.assertEqual(status, 0)
        self.assertIn("not obeyed: line 23: cdr: unknown element\n", shown)

    def test_check_of_nonsense(self) -> None:
        """The check of what cannot be used says why, with status 1."""
        path = Path(self.mktemp())
        path.write_text("<drachtio>\n<admin port='many'>127.0.0.1</admin></drachtio>")
        status, shown, errors = check("--file", str(path))
        self.assertEqual((status, shown), (1, ""))
        self.assertIn("admin@port has to be a number from 0 to 65535, not 'many' (line 2)", errors)
        status, _, errors = check("--contact", "tel:1")
        self.assertEqual(status, 1)
        self.assertIn("the configuration cannot be used", errors)

    def test_version(self) -> None:
        """The version is that of the package."""
        shown = io.StringIO()
        with redirect_stdout(shown):
            self.assertRaises(SystemExit, self.parse, "--version")
        self.assertEqual(shown.getvalue(), f"drachtwist {VERSION}\n")


class ProcessTests(InteropTestCase):
    """Real processes."""

    def server(self, *words: str, sip: int = 0) -> Peer:
        """Start a server."""
        contact = f"sip:127.0.0.1:{sip or free_port()};transport=udp,tcp"
        return self.twistd(
            "drachtio-server",
            "--noconfig",
            *("--contact", contact),
            *words,
            DRACHTIO_SECRET="hush-hush",
        )

    async def test_stops(self) -> None:
        """It says where it listens, and SIGTERM ends it with exit status 0."""
        sip, admin = free_port(), free_port()
        peer = self.server("--port", str(admin), sip=sip)
        await peer.when_prints("listening")
        await peer.when_prints(f"SIP on udp/127.0.0.1:{sip}, tcp/127.0.0.1:{sip}")
        await peer.when_prints(f"applications on tcp:{admin}")
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))
        self.assertNotIn(b"hush-hush", peer.output)

    async def test_both_ports(self) -> None:
        """TCP and TLS are served side by side."""
        me = identity()
        key, certificate = Path(self.directory, "key.pem"), Path(self.directory, "cert.pem")
        key.write_bytes(me.key)
        certificate.write_bytes(me.certificate)
        tcp, tls = free_port(), free_port()
        peer = self.server(
            *("--port", str(tcp), "--tls-port", str(tls)),
            *("--key-file", str(key), "--cert-file", str(certificate)),
        )
        await peer.when_prints(f"applications on tcp:{tcp}, tls:{tls}")

    async def test_file(self) -> None:
        """It starts as the file says, and says what it does not obey."""
        sip, admin, scrape = free_port(), free_port(), free_port()
        path = Path(self.directory, "drachtio.conf.xml")
        path.write_text(
            f'<drachtio>\n<admin port="{admin}" secret="hush-hush">127.0.0.1</admin>\n<sip>'
            f"<contacts><contact>sip:127.0.0.1:{sip};transport=udp</contact></contacts></sip>\n"
            f'<monitoring><prometheus port="{scrape}">127.0.0.1</prometheus></monitoring>\n'
            "<logging><console/></logging>\n</drachtio>\n"
        )
        peer = self.twistd("drachtio-server", "--file", str(path))
        await peer.when_prints(f"configured by {path}")
        await peer.when_prints("not obeyed: line 5: logging/console")
        await peer.when_prints(f"applications on tcp:{admin}")
        await peer.when_prints(f"numbers on port {scrape}")
        self.assertNotIn(b"hush-hush", peer.output)

    async def test_check(self) -> None:
        """The exit status of a check is 0 or 1."""
        path = Path(self.directory, "drachtio.conf.xml")
        path.write_text("<drachtio><admin>127.0.0.1</admin></drachtio>")
        good = self.twistd("drachtio-server", "--check-config", "--file", str(path))
        self.assertEqual(await good.ended, 0, str(good))
        path.write_text("<drachtio>")
        bad = self.twistd("drachtio-server", "--check-config", "--file", str(path))
        self.assertEqual(await bad.ended, 1, str(bad))
        self.assertIn(b"no XML", bad.output)

    async def test_taken_ports(self) -> None:
        """A port that is taken ends it with status 1 and a line, not with a traceback."""
        sip, admin = free_port(), free_port()
        first = self.server("--port", str(admin), sip=sip)
        await first.when_prints("listening")
        for words, port in ((("--port", str(free_port())), sip), (("--port", str(admin)), 0)):
            second = self.server(*words, sip=port)
            self.assertEqual(await second.ended, 1, str(second))
            self.assertIn(b"the server cannot start", second.output)
            self.assertIn(b"in use", second.output)
            self.assertNotIn(b"Traceback", second.output)
