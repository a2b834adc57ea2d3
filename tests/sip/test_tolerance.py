"""What phones really send: read when it is clear what is meant, kept as it was written."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import MessageError
from drachtwist.sip import (
    Address,
    MediaType,
    Reason,
    Replaces,
    Request,
    SessionExpires,
    SipUri,
    Uri,
    Via,
)
from drachtwist.sip.fields import Valued
from drachtwist.sip.multipart import Part, decode, encode


class UriTests(SynchronousTestCase):
    def test_odd_parameters(self) -> None:
        """Semicolons without a parameter, and quotes, stand in Contacts that phones register."""
        for text, params in (
            ("sip:2@h:5070;transport=udp;", {"transport": "udp"}),
            ("sip:a@b;", {}),
            ("sip:a@b;;x", {"x": None}),
            ('sip:3@h;thinfo="VG8+/w="', {"thinfo": '"VG8+/w="'}),
            ("tel:+15551234;", {}),
        ):
            parsed = Uri.parse(text)
            self.assertEqual(str(parsed), text)
            self.assertEqual(dict(parsed.params), params)  # type: ignore[union-attr]

    def test_empty_port(self) -> None:
        """A colon without a port names the usual port, and stays."""
        parsed = Uri.parse("sip:7@h:;transport=tcp")
        assert isinstance(parsed, SipUri)
        self.assertEqual((parsed.host, parsed.port, parsed.transport), ("h", None, "tcp"))
        self.assertEqual(str(parsed), "sip:7@h:;transport=tcp")
        self.assertTrue(parsed.equivalent(Uri.parse("sip:7@h;transport=tcp")))

    def test_port_as_written(self) -> None:
        """Zeros in front of a port stay where nobody changes it."""
        parsed = Uri.parse("sips:[::1]:0120")
        assert isinstance(parsed, SipUri)
        self.assertEqual((parsed.port, str(parsed)), (120, "sips:[::1]:0120"))

    def test_equal_without_semicolon(self) -> None:
        """An empty parameter makes no other address of it (RFC 3261 section 19.1.4)."""
        self.assertTrue(Uri.parse("sip:a@b;").equivalent(Uri.parse("sip:a@b")))

    def test_impossible_hosts(self) -> None:
        """What looks like an address and is none leads nowhere."""
        for host in ("[1:2:3:4:5:6:7:8:9]", "[1::2::3]", "[12345::1]", "1.2.3.444", "1.2.3.4.5"):
            for text in (f"sip:{host}", f"sip:a@{host}:5060;transport=tcp"):
                self.assertRaises(MessageError, Uri.parse, text)
        for host in ("[::ffff:192.0.2.1]", "[fe80::1]", "192.0.2.255", "3com.example", "9f8e7d6c"):
            self.assertEqual(str(Uri.parse(f"sip:{host}")), f"sip:{host}")

    def test_still_no_uris(self) -> None:
        """Blanks, brackets and quotes elsewhere stay what they are: no URI."""
        for text in ("sip:a b@h", "sip:a@h;x y", 'sip:"a"@h', 'sip:a@h;x="', "sip:a@h;x<y"):
            self.assertRaises(MessageError, Uri.parse, text)


class ListTests(SynchronousTestCase):
    def test_empty_items(self) -> None:
        """Commas with nothing between them separate nothing."""
        for text in (
            "<sip:a@h>,,<sip:b@h>",
            ",<sip:a@h>, <sip:b@h>",
            "<sip:a@h>, <sip:b@h>,",
            "<sip:a@h> , , <sip:b@h> , ",
        ):
            self.assertEqual(
                [str(one) for one in Address.parse_list(text)], ["<sip:a@h>", "<sip:b@h>"]
            )
        for text in ("SIP/2.0/UDP a,,SIP/2.0/UDP b", "SIP/2.0/UDP a, SIP/2.0/UDP b ,"):
            self.assertEqual([one.host for one in Via.parse_list(text)], ["a", "b"])

    def test_nothing_at_all(self) -> None:
        """A list of commas is no list."""
        for text in ("", ",", " , ,"):
            self.assertRaises(MessageError, Address.parse_list, text)
            self.assertRaises(MessageError, Via.parse_list, text)

    def test_single_values_have_no_commas(self) -> None:
        """From and To are no lists."""
        self.assertRaises(MessageError, Address.parse, "<sip:a@h>,")


class ParameterTests(SynchronousTestCase):
    def test_semicolons_alone(self) -> None:
        """A last semicolon, or two in a row, name no parameter; nothing is lost."""
        for text in ("<sip:a@h>;tag=1;", "<sip:a@h>;;tag=1", "<sip:a@h> ; ;tag=1 ;"):
            address = Address.parse(text)
            self.assertEqual((address.tag, str(address)), ("1", text))
        self.assertEqual(Via.parse("SIP/2.0/UDP h;branch=z9hG4bK1;").branch, "z9hG4bK1")
        self.assertEqual(Valued.parse("session;").value, "session")
        self.assertEqual(Reason.parse_list("SIP;cause=200;, Q.850")[0].cause, 200)

    def test_media_type(self) -> None:
        """Blanks around the slash, and a semicolon without a parameter."""
        for text in ("application / sdp", "application/sdp;", "Application /SDP ; charset=utf-8"):
            kind = MediaType.parse(text)
            self.assertEqual((kind.essence, str(kind)), ("application/sdp", text))
            self.assertEqual((kind.type, kind.subtype), ("application", "sdp"))
        self.assertEqual(MediaType.parse('multipart/mixed; boundary="a b";').boundary, "a b")
        for text in ("application", "application / sdp x", "/sdp", "application/"):
            self.assertRaises(MessageError, MediaType.parse, text)

    def test_refresher(self) -> None:
        """Who refreshes is said in any case."""
        self.assertEqual(SessionExpires.parse("90;Refresher=UAC").refresher, "uac")
        self.assertIsNone(SessionExpires.parse("90").refresher)

    def test_call_ids_of_replaces(self) -> None:
        """Replaces takes every Call-ID (RFC 3891 section 6.1, RFC 3261 section 25.1)."""
        for call_id in ('a"b', "<x>{y}[z]", "(1)?:\\/@h:[1]", "a@b"):
            text = f"{call_id};to-tag=1;from-tag=2"
            found = Replaces.parse(text)
            self.assertEqual((found.call_id, found.to_tag, found.from_tag), (call_id, "1", "2"))
            self.assertEqual(str(found), text)
        self.assertRaises(MessageError, Replaces.parse, "a b;to-tag=1;from-tag=2")


class HeaderTests(SynchronousTestCase):
    def parsed(self, name: str, value: str) -> object:
        """Read a header of a message."""
        return Request("INVITE", "sip:a@h", {name: value}).get_parsed_header(name)

    def test_refer_to_without_brackets(self) -> None:
        """Refer-To may lack its brackets, also around the headers of its URI."""
        for name in ("Refer-To", "Referred-By"):
            address = self.parsed(name, "sip:c@h?Replaces=1%40h%3Bto-tag%3Da%3Bfrom-tag%3Db")
            assert isinstance(address, Address)
            self.assertEqual(address.uri, "sip:c@h?Replaces=1%40h%3Bto-tag%3Da%3Bfrom-tag%3Db")
        # Elsewhere it stays unclear whose headers they are (RFC 4475 section 3.1.2.13).
        self.assertRaises(MessageError, Address.parse_list, "sip:c@h?Route=%3Csip:x%3E")

    def test_dates(self) -> None:
        """A date says when, as RFC 2543 had it; what is past has expired."""
        soon = datetime.now(timezone.utc) + timedelta(seconds=600)
        seconds = self.parsed("Expires", format_datetime(soon, usegmt=True))
        assert isinstance(seconds, int)
        self.assertTrue(590 <= seconds <= 600, seconds)
        self.assertEqual(self.parsed("Expires", "Thu, 01 Dec 1994 16:00:00 GMT"), 0)
        for text in ("soon", "Thu, 99 Dec 1994", "-1", "Thu," * 1000):
            self.assertRaises(MessageError, self.parsed, "Expires", text)


class MultipartTests(SynchronousTestCase):
    def test_no_end(self) -> None:
        """A last boundary may lack its dashes, or be missing: what came is there."""
        for end in (b"\r\n--x--\r\n", b"\r\n--x\r\n", b"\r\n--x", b"\r\n", b""):
            body = b"--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n" + end
            parts = decode(body, "x")
            self.assertEqual(len(parts), 1, end)
            self.assertEqual(parts[0].body.rstrip(), b"v=0")
        self.assertRaises(MessageError, decode, b"v=0\r\n", "x")

    def test_without_blank_line(self) -> None:
        """Headers alone, without a line behind them, come back as they were."""
        body = b"--x\r\nContent-Type: text/plain\r\n--x--\r\n"
        [part] = decode(body, "x")
        self.assertEqual((part.headers.get("Content-Type"), part.body), ("text/plain", b""))
        _, written = encode([part], "x")
        self.assertEqual(written, body)

    def test_round_trips(self) -> None:
        """What is taken apart and put together again is the same."""
        for body in (
            b"--x\r\n\r\nhello\r\n--x--\r\n",
            b"--x\r\nContent-Type: text/plain\r\n\r\n\r\n--x--\r\n",
            b"--x\r\nA: b\r\nc: D\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--\r\n",
        ):
            self.assertEqual(encode(decode(body, "x"), "x")[1], body)

    def test_made_part_has_its_line(self) -> None:
        """A part that is made here has the blank line, body or not."""
        self.assertEqual(
            encode([Part.make("text/plain", b"")], "x")[1],
            b"--x\r\nContent-Type: text/plain\r\n\r\n\r\n--x--\r\n",
        )
