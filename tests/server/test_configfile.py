"""What a configuration file says, what is reported of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import ConfigError
from drachtwist.server.config import RequestHandler
from drachtwist.server.configfile import ELEMENTS, MAX_SIZE, ConfigFile, FileContact
from drachtwist.server.spammers import Spammers

CONFIGS = Path(__file__).parent.parent / "data" / "config"
DOCS = Path(__file__).parent.parent.parent / "docs"


def parse(inner: str) -> ConfigFile:
    """Read a file that has an admin element on line 2, and more from line 3 on."""
    text = f'<drachtio>\n<admin port="9022">127.0.0.1</admin>\n{inner}\n</drachtio>\n'
    return ConfigFile.parse(text.encode())


def findings(file: ConfigFile) -> list[str]:
    """Give what was reported as text."""
    return [str(finding) for finding in file.findings]


class ReadingTests(SynchronousTestCase):
    def test_everything(self) -> None:
        """Every setting that is obeyed is read, and nothing is reported."""
        file = ConfigFile.read(CONFIGS / "full.xml")
        spammers = Spammers(
            (("user-agent", ("friendly-scanner", "sipcli")), ("to", ("sipvicious",))),
            "reject",
            "discard",
        )
        self.assertEqual(
            file,
            ConfigFile(
                admin_address="127.0.0.1",
                admin_port=9032,
                admin_tls_port=0,
                secret="hush-hush",
                tcp_keepalive=20,
                request_handlers=(
                    RequestHandler("http://user:sesame@127.0.0.1:4000/calls", "INVITE", "POST"),
                    RequestHandler("tcp://127.0.0.1:4001", verify_peer=True),
                ),
                contacts=(
                    FileContact(
                        "sip:127.0.0.1:5070;transport=udp,tcp",
                        "192.0.2.5",
                        "127.0.0.0/8",
                        ("sip.example",),
                        11,
                    ),
                    FileContact("sip:127.0.0.1:5072;transport=tcp", line=12),
                ),
                outbound_proxy="sip:192.0.2.1:5060",
                dh_param="dh.pem",
                min_tls_version="1.3",
                verify_peers="all",
                udp_buffer_size=65536,
                t1=0.25,
                t2=2.0,
                t4=2.5,
                t1x64=16.0,
                default_refresher="uac",
                spammers=spammers,
                reject_register_with_no_realm=True,
                aggressive_nat_detection=True,
                options_user_agent="prober/1",
                cdrs=True,
                prometheus_address="127.0.0.2",
                prometheus_port=9088,
            ),
        )

    def test_little(self) -> None:
        """What a file leaves open stays open."""
        self.assertEqual(parse(""), ConfigFile(admin_address="127.0.0.1", admin_port=9022))

    def test_contacts(self) -> None:
        """What is said about a contact goes with it; names may be separated by anything."""
        file = parse(
            '<sip><contacts><contact external-ip="192.0.2.5" local-net="10.0.0.0/8"'
            ' dns-names="a.example,b.example; c.example">sip:10.0.0.1</contact></contacts></sip>'
        )
        self.assertEqual(
            file.contacts,
            (
                FileContact(
                    "sip:10.0.0.1",
                    "192.0.2.5",
                    "10.0.0.0/8",
                    ("a.example", "b.example", "c.example"),
                    3,
                ),
            ),
        )

    def test_tls_files(self) -> None:
        """Key, certificate and chain are read."""
        file = parse(
            "<sip><tls><key-file>k</key-file><cert-file>c</cert-file><chain-file>h</chain-file>"
            "<min-tls-version>1.2</min-tls-version><peer-ca>p</peer-ca></tls></sip>"
        )
        self.assertEqual(file.peer_ca, "p")
        self.assertEqual((file.key_file, file.cert_file, file.chain_file), ("k", "c", "h"))
        self.assertEqual(file.findings, ())

    def test_secret_is_hidden(self) -> None:
        """The secret is in no representation of a file."""
        self.assertNotIn("hush-hush", repr(ConfigFile.read(CONFIGS / "full.xml")))


class FindingTests(SynchronousTestCase):
    def test_strange_file(self) -> None:
        """Whatever is not obeyed is reported, each with its line."""
        found = {
            (one.line, one.setting) for one in ConfigFile.read(CONFIGS / "strange.xml").findings
        }
        self.assertEqual(
            found,
            {
                (2, "admin@tls"),
                (2, "admin@colour"),
                (5, "sip/contacts"),
                (8, "sip/tls/min-tls-version"),
                (11, "sip/session-timers@default-refresher"),
                (12, "sip/spammers@action"),
                (13, "sip/spammers/header"),
                (14, "sip/spammers/header"),
                (15, "sip/spammers/header"),
                (19, "sip/blacklist"),
                (20, "sip/mtu-size"),
                (21, "sip/aggressive-nat-detection"),
                (23, "cdr"),
                (25, "cdrs"),
                (26, "monitoring/prometheus"),
                (28, "logging/console"),
                (29, "logging/syslog"),
                (30, "logging/file"),
                (31, "logging/sofia-loglevel"),
            },
        )

    def test_verification_in_doubt(self) -> None:
        """Whom to verify is all of them if what is asked for is not understood."""
        for text, meant in (("none", "none"), ("sips", "sips"), ("yes", "all"), ("on", "all")):
            element = f"<tls><verify-peers>{text}</verify-peers></tls>"
            data = f"<drachtio><admin/><sip>{element}</sip></drachtio>"
            file = ConfigFile.parse(data.encode())
            self.assertEqual(file.verify_peers, meant)
            self.assertEqual(len(file.findings), text not in ("none", "sips"))

    def test_what_is_reported_counts_no_more(self) -> None:
        """A value that makes no sense is replaced by the real server's default."""
        file = ConfigFile.read(CONFIGS / "strange.xml")
        self.assertEqual(file.default_refresher, "none")
        self.assertEqual(file.contacts, (FileContact("sip:127.0.0.1:5060;transport=udp", line=4),))
        self.assertEqual(file.spammers, Spammers((("to", ("pest",)),), "discard", "discard"))
        self.assertIs(file.aggressive_nat_detection, False)
        self.assertIs(file.cdrs, False)
        self.assertIsNone(file.prometheus_port)

    def test_capturing(self) -> None:
        """Homer is known by address, port and number; another version than 3 is reported."""
        file = parse('<sip><capture-server port="9061" id="7">h</capture-server></sip>')
        self.assertEqual((file.capture_host, file.capture_port, file.capture_id), ("h", 9061, 7))
        self.assertEqual(findings(file), [])
        file = parse('<sip>\n<capture-server hep-version="2">192.0.2.9</capture-server></sip>')
        self.assertEqual((file.capture_host, file.capture_port), ("192.0.2.9", None))
        [found] = findings(file)
        self.assertIn("capture-server@hep-version: '2' is not 3", found)
        with self.assertRaises(ConfigError):
            parse('<sip><capture-server port="x">h</capture-server></sip>')

    def test_level(self) -> None:
        """The level of the log is a word of the real server's; another one is reported."""
        for word, meant in (("notice", "notice"), ("DEBUG", "debug"), ("loud", "info")):
            file = parse(f"<logging><loglevel>{word}</loglevel></logging>")
            self.assertEqual((file.loglevel, len(file.findings)), (meant, int(word == "loud")))

    def test_words(self) -> None:
        """A finding says where, what and why."""
        file = parse("<sip><blacklist>192.0.2.9</blacklist></sip>\n<color/>")
        self.assertEqual(
            findings(file),
            [
                "line 3: sip/blacklist: not supported: there is no blacklist; use a firewall",
                "line 4: color: unknown element",
            ],
        )

    def test_request_handlers(self) -> None:
        """A second handler for a method, and a strange HTTP method, are reported."""
        file = parse(
            "<request-handlers>\n"
            '<request-handler http-method="DELETE" verify-peer="false">http://a</request-handler>\n'
            "<request-handler>http://b</request-handler>\n"
            "</request-handlers>"
        )
        self.assertEqual(file.request_handlers, (RequestHandler("http://a"),))
        self.assertEqual(
            [(one.line, one.setting.rpartition("/")[2]) for one in file.findings],
            [
                (4, "request-handler@http-method"),
                (5, "request-handler"),
            ],
        )

    def test_every_element_is_documented(self) -> None:
        """The table in the documentation has every element and attribute of the grammar."""
        text = (DOCS / "server.md").read_text(encoding="utf-8")
        for path in ELEMENTS:
            self.assertIn(f"`{path}`", text)


class RefusedTests(SynchronousTestCase):
    def refused(self, data: str | bytes, line: int | None, words: str) -> None:
        """Check that something is refused."""
        raw = data if isinstance(data, bytes) else data.encode()
        error = self.assertRaises(ConfigError, ConfigFile.parse, raw)
        self.assertEqual(error.line, line)
        self.assertIn(words, str(error))

    def test_no_xml(self) -> None:
        """What is no XML is refused, with the line where that shows."""
        self.refused("", 1, "no XML")
        self.refused("<drachtio>\n<admin>\n</drachtio>", 3, "mismatched tag")
        self.refused('<?xml version="1.0" encoding="martian"?><drachtio/>', 1, "no XML")
        self.refused(b"<drachtio>\n\xff\xfe</drachtio>", 2, "no XML")

    def test_other_documents(self) -> None:
        """Another document, or one without the admin element, is refused."""
        self.refused("<freeswitch/>", 1, "<freeswitch>")
        self.refused("\n<drachtio><sip/></drachtio>", 2, "<admin>")

    def test_bombs(self) -> None:
        """Entities and document types are refused before they do anything."""
        self.refused('<!DOCTYPE d [<!ENTITY a "b">]>\n<drachtio/>', 1, "not allowed")
        self.refused('<!DOCTYPE d SYSTEM "file:///etc/passwd"><drachtio/>', 1, "not allowed")
        self.refused("<a>" * 1000, 1, "too deeply")
        self.refused(b" " * (MAX_SIZE + 1), None, "no configuration")

    def test_values(self) -> None:
        """Numbers, handlers and contacts that cannot be meant are refused, with their line."""
        for inner, words in (
            ("<sip><timers><t1>soon</t1></timers></sip>", "sip/timers/t1"),
            ("<sip><timers><t1>0</t1></timers></sip>", "more than 0"),
            ("<sip><udp-mtu>-1</udp-mtu></sip>", "sip/udp-mtu"),
            ('<monitoring><prometheus port="65536"/></monitoring>', "0 to 65535"),
            ("<sip><contacts><contact/></contacts></sip>", "is empty"),
            (
                "<request-handlers><request-handler>ftp://a</request-handler></request-handlers>",
                "ftp://a",
            ),
        ):
            error = self.assertRaises(ConfigError, parse, inner)
            self.assertEqual(error.line, 3, inner)
            self.assertIn(words, str(error))

    def test_file(self) -> None:
        """A file that is not there, or is wrong, is named."""
        missing = self.mktemp()
        error = self.assertRaises(ConfigError, ConfigFile.read, missing)
        self.assertIn(missing, str(error))
        wrong = Path(self.mktemp())
        wrong.write_text("<drachtio>\n")
        error = self.assertRaises(ConfigError, ConfigFile.read, wrong)
        self.assertIn(str(wrong), str(error))
        self.assertEqual(error.line, 2)
