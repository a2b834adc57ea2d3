"""Requests and responses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.encoding import encode_request, encode_response
from drachtwist.sip.fields import Address, CSeq, MediaType, SessionExpires, leads_loosely
from drachtwist.sip.message import Request, Response
from drachtwist.sip.multipart import Part
from drachtwist.sip.parsing import parse_datagram, parse_message
from drachtwist.sip.status import REASONS, reason_phrase
from drachtwist.sip.uri import Uri

BODY = b"v=0\r\ns=\xc3\xbc\xff\r\n\r\nTo: body"
INVITE = (
    b"INVITE sip:1234;x=y@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
    b'From: "Alice" <sip:5678@example.com>;tag=a\r\n'
    b"To: <sip:1234@example.com>\r\n"
    b"Call-ID: 1@192.0.2.1\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:a@192.0.2.1>;expires=60, <sip:b@192.0.2.1>\r\n"
    b"m: <sip:c@192.0.2.1>\r\n"
    b"Session-Expires: 90;refresher=uac\r\n"
    b"Supported: timer, 100rel\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length:   %d\r\n\r\n" % len(BODY)
) + BODY
OK = (
    b"SIP/2.0 200 All right then\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
    b"From: <sip:5678@example.com>;tag=a\r\n"
    b"To: <sip:1234@example.com>;tag=b\r\n"
    b"Call-ID: 1@192.0.2.1\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Content-Length: 0\r\n\r\n"
)

header_values = st.text(
    st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8
).map(lambda text: text.strip(" \t"))
header_lists = st.lists(
    st.tuples(st.sampled_from(["X-A", "x-a", "Contact", "m", "Subject"]), header_values), max_size=5
)


def invite(**lines: str) -> Request:
    """The INVITE with some headers replaced; an underscore stands for a dash."""
    request = Request.from_bytes(INVITE)
    for name, value in lines.items():
        request.set(name.replace("_", "-"), value)
    return request


class ReadingTests(SynchronousTestCase):
    def test_request(self) -> None:
        """All that is asked of a received request."""
        request = Request.from_bytes(INVITE)
        self.assertEqual(request.method, "INVITE")
        self.assertEqual(request.uri, "sip:1234;x=y@example.com")
        self.assertEqual(request.version, "2.0")
        self.assertEqual(request.request_uri, Uri.parse(request.uri))
        self.assertEqual(request.get_parsed_uri(), request.request_uri)
        self.assertEqual(request.call_id, "1@192.0.2.1")
        self.assertEqual(request.cseq, CSeq(1, "INVITE"))
        self.assertEqual((request.from_.display, request.from_.tag), ("Alice", "a"))
        self.assertEqual(request.to.uri, "sip:1234@example.com")
        self.assertEqual([via.branch for via in request.vias], ["z9hG4bK1"])
        self.assertEqual([c.uri[4] for c in request.contacts], ["a", "b", "c"])
        self.assertEqual(request.content_type, MediaType("application/sdp"))
        self.assertEqual(request.body, BODY)
        self.assertEqual(request.text.encode("utf-8", "surrogateescape"), BODY)
        self.assertEqual(request.get_header_name("contact"), "Contact")
        self.assertEqual(request.raw, INVITE)

    def test_response(self) -> None:
        """All that is asked of a received response."""
        response = Response.from_bytes(OK)
        self.assertEqual((response.status, response.reason), (200, "All right then"))
        self.assertEqual(response.version, "2.0")
        self.assertEqual(response.to.tag, "b")
        self.assertEqual(response.contacts, [])
        self.assertIsNone(response.content_type)
        self.assertEqual(response.body, b"")

    def test_wrapping_parses_nothing(self) -> None:
        """Bytes become a message without being looked at, and few lookups make no table."""
        Request.from_bytes(b"\xff\0 not SIP at all")
        request = Request.from_bytes(INVITE)
        self.assertIsNone(request._headers)
        self.assertEqual(request.method, "INVITE")
        self.assertIsNone(request._headers)
        request.get("Call-ID")
        self.assertTrue(request.is_new_invite)
        request.get_parsed_header("Contact")
        self.assertIsNone(request.headers._fields)
        self.assertIs(bytes(request), INVITE)

    def test_typed_views(self) -> None:
        """Headers with a structure are given as values, others as text, missing ones as None."""
        request = invite(
            Refer_To="<sip:x@y?Replaces=1>", X_Own="a;b", Retry_After="5 (busy, sorry)"
        )
        self.assertEqual(
            request.get_parsed_header("session-expires"),
            SessionExpires.parse("90;refresher=uac"),
        )
        self.assertEqual(request.get_parsed_header("k"), ["timer", "100rel"])
        self.assertEqual(request.get_parsed_header("Content-Length"), len(BODY))
        self.assertEqual(request.get_parsed_header("Refer-To"), Address(None, "sip:x@y?Replaces=1"))
        self.assertEqual(request.get_parsed_header("Retry-After").seconds, 5)
        self.assertEqual(request.get_parsed_header("X-Own"), "a;b")
        self.assertIsNone(request.get_parsed_header("Route"))

    def test_missing_and_bad(self) -> None:
        """Headers that every message has raise a MessageError when this one has not."""
        request = Request("INVITE", "sip:a@b", {"Via": "nonsense", "CSeq": "x"})
        for name in ("call_id", "cseq", "from_", "to", "vias"):
            self.assertRaises(MessageError, getattr, request, name)

    def test_bad_start_lines(self) -> None:
        """A start line that cannot be read is found when it is asked for."""
        for raw in (b"", b"INVITE\r\n\r\n", b"INVITE sip:a HTTP/1.1\r\n\r\n", b"\r\n"):
            request = Request.from_bytes(raw)
            for name in ("uri", "version"):
                self.assertRaises(MessageError, getattr, request, name)
            self.assertRaises(MessageError, parse_message, raw)
            self.assertIn("unreadable", repr(request))
        for raw in (
            b"SIP/2.0\r\n",
            b"SIP/2.0 99 x\r\n",
            b"SIP/2.0 700 x\r\n",
            b"SIP/2.0 2000 x\r\n",
        ):
            response = Response.from_bytes(raw)
            self.assertRaises(MessageError, getattr, response, "status")
            self.assertRaises(MessageError, parse_message, raw)
            self.assertIn("unreadable", repr(response))

    def test_parse_message(self) -> None:
        """The start line decides what a message is."""
        request, response = parse_message(INVITE), parse_message(OK)
        self.assertIsInstance(request, Request)
        self.assertIsInstance(response, Response)
        self.assertEqual(repr(request), "<Request INVITE sip:1234;x=y@example.com>")
        self.assertEqual(repr(response), "<Response 200 All right then>")

    def test_subclasses(self) -> None:
        """from_bytes makes instances of the class it is called on, which may have more slots."""

        class Mine(Request):
            __slots__ = ("more",)

        self.assertIsInstance(Mine.from_bytes(INVITE), Mine)
        self.assertFalse(hasattr(Mine.from_bytes(INVITE), "__dict__"))
        self.assertRaises(AttributeError, getattr, Mine.from_bytes(INVITE), "more")

    def test_hostile_lines(self) -> None:
        """Long runs of blanks or schemes cost no more than their length."""
        blanks = b" " * 60_000
        for raw in (
            b"INVITE" + blanks + b"x\r\n\r\n",
            b"INVITE " + blanks + b"\t" + blanks + b"\r\n\r\n",
            b"INVITE x SIP/2.0\r\nSubject: a" + blanks + b"b\r\n c\r\n\r\n",
        ):
            self.assertRaises(MessageError, parse_datagram, raw)
            subject = Request.from_bytes(raw).get("Subject")
            self.assertEqual(None if subject is None else subject[-3:], subject and "b c")
        self.assertEqual(Request("INVITE", "@" + "sip:" * 20_000).called_number, "")


class DrachtioTests(SynchronousTestCase):
    """What drachtio-srf's messages tell about a call."""

    def test_numbers(self) -> None:
        """Numbers are the user parts of Request-URI and From, without parameters; or of tel:."""
        request = invite()
        self.assertEqual(request.called_number, "1234")
        self.assertEqual(request.calling_number, "5678")
        self.assertEqual(invite(From="<tel:+1-201>;tag=1").calling_number, "+1201")
        self.assertEqual(Request("INVITE", "tel:+1(201)").called_number, "+1201")
        self.assertEqual(Response.from_bytes(OK).called_number, "")
        self.assertEqual(Response.from_bytes(OK).calling_number, "5678")

    def test_asserted_identity_wins(self) -> None:
        """A P-Asserted-Identity says who calls, in any of its values."""
        request = invite(P_Asserted_Identity='<tel:+1201>, "Asserted" <sips:99;x=1@example.com>')
        self.assertEqual(request.calling_number, "99")
        self.assertEqual(request.calling_name, "Asserted")
        request.set("P-Asserted-Identity", ["<tel:+1201>", '"Two" <sip:2@example.com>'])
        self.assertEqual((request.calling_number, request.calling_name), ("2", "Two"))

    def test_told_by_the_uri(self) -> None:
        """What a display name says is no number, and who has none is nobody (RFC 3261, 20.20)."""
        for sender, number in (
            ('"sip:4433@evil" <sip:alice@x>;tag=1', "alice"),
            ("sip:4433@evil <sip:alice@x>;tag=1", "alice"),
            ('"<sip:4433@evil>" <sip:x>;tag=1', ""),
            ('"sip:4433@evil" <tel:+12015550123>;tag=1', "+12015550123"),
            ("<SIP:alice@x>;tag=1", "alice"),
            ("<SipS:alice:secret@x>;tag=1", "alice"),
            ("<TEL:7042;phone-context=example.com>;tag=1", "7042"),
            ("<sip:192.0.2.1>;tag=1", ""),
            ("<sip:@192.0.2.1>;tag=1", ""),
            ("<tel:garbage>;tag=1", ""),
            ("<urn:service:sos@x>;tag=1", ""),
            ("sip:5678@x;tag=1", "5678"),
            ("<sip:alice@x", ""),
        ):
            self.assertEqual(invite(From=sender).calling_number, number, sender)
        for uri, number in (
            ("SIP:1234;npdi@x", "1234"),
            ("sip:1234@x;a=sip:9@y", "1234"),
            ("http:1234@x", ""),
            ("urn:service:sos", ""),
        ):
            self.assertEqual(Request("INVITE", uri).called_number, number, uri)

    def test_asserted_by_the_uri(self) -> None:
        """So it is with an identity that a network asserts; unless it cannot be read."""
        for asserted, number in (
            ('"<sip:evil@x>" <sip:+1@x>', "+1"),
            ("<tel:+12015550123>", "+12015550123"),
            ('"Two" <tel:+1-2>', "+12"),
            ("<sip:192.0.2.1>", ""),
        ):
            request = invite(P_Asserted_Identity=asserted)
            self.assertEqual(request.calling_number, number, asserted)
        request = invite()
        request.set("P-Asserted-Identity", ["<<", '"Two" <tel:+1-2>'])
        self.assertEqual((request.calling_number, request.calling_name), ("+12", "Two"))
        request.set("P-Asserted-Identity", "<<")
        self.assertEqual((request.calling_number, request.calling_name), ("", ""))

    def test_name(self) -> None:
        """Only a quoted name in front of a URI with a user or number counts."""
        self.assertEqual(invite(From='"Alice" <tel:+1>').calling_name, "Alice")
        self.assertEqual(invite(From='"sip:a@b" <sip:c>').calling_name, "")
        self.assertEqual(invite().calling_name, "Alice")
        self.assertEqual(invite(From="Alice <sip:a@b>").calling_name, "")
        self.assertEqual(invite(From='"Alice" <sip:b>').calling_name, "")
        self.assertEqual(Request("INVITE", "sip:a@b").calling_name, "")

    def test_dialogs(self) -> None:
        """A request can form a dialog when its To has no tag, and its method can at all."""
        self.assertTrue(invite().is_new_invite)
        self.assertTrue(invite().can_form_dialog)
        for to, new in (
            ("<sip:a@b>;tag=1", False),
            ("<sip:a@b>;x=1;TAG=1", False),
            ('"tag" <sip:tag=1@b;tag=2>', True),
            ("sip:a@b;tag=1", False),
        ):
            self.assertIs(invite(To=to).is_new_invite, new, to)
            self.assertIs(invite(To=to).can_form_dialog, new, to)
        subscribe = Request("SUBSCRIBE", "sip:a@b", {"To": "<sip:a@b>"})
        self.assertTrue(subscribe.can_form_dialog)
        self.assertFalse(subscribe.is_new_invite)
        self.assertFalse(Request("OPTIONS", "sip:a@b", {"To": "<sip:a@b>"}).can_form_dialog)
        self.assertFalse(Response(200).can_form_dialog)


class WritingTests(SynchronousTestCase):
    def test_made_here(self) -> None:
        """A message has the headers it was given, in order, and the right Content-Length."""
        request = Request(
            "MESSAGE", Uri.parse("sip:a@b"), {"X": ["1", "2"], "Expires": 5, "Subject": "ü"}, "süß"
        )
        self.assertEqual(
            bytes(request),
            b"MESSAGE sip:a@b SIP/2.0\r\nX: 1\r\nX: 2\r\nExpires: 5\r\nSubject: \xc3\xbc\r\n"
            b"Content-Length: 5\r\n\r\ns\xc3\xbc\xc3\x9f",
        )
        self.assertEqual(request.raw, b"")
        self.assertEqual(
            bytes(Response(486, headers={"Content-Length": 99, "Via": "x"})),
            b"SIP/2.0 486 Busy Here\r\nContent-Length: 0\r\nVia: x\r\n\r\n",
        )
        self.assertEqual(
            str(Response(299, "Fine")), "SIP/2.0 299 Fine\r\nContent-Length: 0\r\n\r\n"
        )

    def test_change_of_a_received_one(self) -> None:
        """What was not changed leaves as it came."""
        request = Request.from_bytes(INVITE)
        request.uri = "sip:other@example.net"
        request.set("X-New", "1")
        expected = INVITE.replace(b"sip:1234;x=y@example.com SIP", b"sip:other@example.net SIP")
        expected = expected.replace(b"\r\n\r\nv=0", b"\r\nX-New: 1\r\n\r\nv=0", 1)
        self.assertEqual(bytes(request), expected)
        self.assertEqual(request.raw, INVITE)
        request.method = "OPTIONS"
        self.assertTrue(bytes(request).startswith(b"OPTIONS sip:other@example.net SIP/2.0\r\n"))

    def test_change_of_a_received_response(self) -> None:
        """Status and reason change on their own."""
        response = Response.from_bytes(OK)
        response.status = 202
        self.assertTrue(bytes(response).startswith(b"SIP/2.0 202 All right then\r\nVia"))
        response.reason = "Accepted"
        self.assertEqual(bytes(response), OK.replace(b"200 All right then", b"202 Accepted"))

    def test_body_and_length(self) -> None:
        """Content-Length follows the body in bytes, whoever sets what in which order."""
        request = Request.from_bytes(INVITE)
        request.body = "ü"
        self.assertEqual(request.get("l"), "2")
        self.assertEqual(request.body, b"\xc3\xbc")
        request.set("Content-Length", 77)
        wire = bytes(request)
        self.assertIn(b"Content-Length: 2\r\n", wire)
        self.assertEqual(wire.count(b"ontent-Length"), 1)
        self.assertTrue(wire.endswith(b"\r\n\r\n\xc3\xbc"))
        request.remove("Content-Length")
        self.assertIn(b"Content-Length: 2\r\n", bytes(request))

    def test_refused(self) -> None:
        """Nothing that would be another message, or none, can be made."""
        for method in ("", "A B", "A\r\nB", "A:"):
            self.assertRaises(LocalProtocolError, Request, method, "sip:a")
            self.assertRaises(LocalProtocolError, encode_request, method, "sip:a")
        for uri in ("", "sip:a b", "sip:a\r\nX: y", "<sip:a>", "sip:a\0"):
            self.assertRaises(LocalProtocolError, Request, "BYE", uri)
            self.assertRaises(LocalProtocolError, encode_request, "BYE", uri)
            self.assertRaises(LocalProtocolError, setattr, Request("BYE", "sip:a"), "uri", uri)
        for status in (0, 99, 700, -200, "200"):
            self.assertRaises(LocalProtocolError, Response, status)
            self.assertRaises(LocalProtocolError, encode_response, status)
            self.assertRaises(LocalProtocolError, setattr, Response(200), "status", status)
        for reason in ("a\r\nb", "a\0", "\n"):
            self.assertRaises(LocalProtocolError, Response, 200, reason)
            self.assertRaises(LocalProtocolError, encode_response, 200, reason)
            self.assertRaises(LocalProtocolError, setattr, Response(200), "reason", reason)
        for headers in (
            {"X": "a\r\nY: b"},
            {"X\r\nY": "b"},
            {"X": "a\n"},
            {"X": "\r"},
            {"X": "\0"},
            {"X": ["a", "b\r\n\r\n"]},
            {"a b": "c"},
            {"X": CSeq(1, "A\r\nB")},
        ):
            self.assertRaises(LocalProtocolError, Response, 200, None, headers)
            self.assertRaises(LocalProtocolError, encode_response, 200, None, headers)
            self.assertRaises(LocalProtocolError, encode_request, "BYE", "sip:a", headers)

    def test_any_status(self) -> None:
        """All codes from 100 to 699 can be sent, with a phrase that is never empty."""
        for status in range(100, 700):
            response = Response(status)
            self.assertTrue(response.reason)
            self.assertEqual(encode_response(status), bytes(response))
            self.assertEqual(parse_message(bytes(response))._start_line(), None)

    def test_phrases(self) -> None:
        """Registered codes have their phrase, others that of their class."""
        self.assertEqual(reason_phrase(404), "Not Found")
        self.assertEqual(reason_phrase(499), REASONS[400])
        self.assertEqual(reason_phrase(700), "")

    @given(header_lists, st.binary(max_size=20))
    def test_encoding_is_the_same(self, headers: list[tuple[str, str]], body: bytes) -> None:
        """The short cut writes what the message would."""
        self.assertEqual(
            encode_response(200, "OK", headers, body), bytes(Response(200, "OK", headers, body))
        )
        self.assertEqual(
            encode_request("INFO", "sip:a", dict(headers), body),
            bytes(Request("INFO", "sip:a", dict(headers), body)),
        )

    @given(header_lists, st.binary(max_size=20))
    def test_round_trip(self, headers: list[tuple[str, str]], body: bytes) -> None:
        """What was written is read back."""
        request = Request("INFO", "sip:a@b", headers, body)
        again = parse_message(bytes(request))
        assert isinstance(again, Request)
        self.assertEqual((again.method, again.uri), ("INFO", "sip:a@b"))
        self.assertEqual(again.headers, request.headers)
        self.assertEqual(again.body, body)
        self.assertEqual(bytes(again), bytes(request))


class MultipartMessageTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """A multipart body is set and read as parts."""
        request = Request("MESSAGE", "sip:a")
        request.set_parts([Part.make("text/plain", "a"), Part.make("text/html", "b")])
        again = parse_message(bytes(request))
        self.assertEqual([part.text for part in again.parts], ["a", "b"])

    def test_single(self) -> None:
        """Another body is its own only part; no body has none."""
        (part,) = Request.from_bytes(INVITE).parts
        self.assertEqual((str(part.content_type), part.body), ("application/sdp", BODY))
        self.assertEqual(Response.from_bytes(OK).parts, [])

    def test_no_boundary(self) -> None:
        """A multipart type without a boundary cannot be read."""
        request = Request("MESSAGE", "sip:a", {"Content-Type": "multipart/mixed"}, "x")
        self.assertRaises(MessageError, lambda: request.parts)


class TypedReadingTests(SynchronousTestCase):
    """What many ask of a message is read in one way."""

    def test_tags(self) -> None:
        """Tags are None where there is none, and where nothing can be read."""
        for value, tag in (
            ("<sip:a@b>;tag=x", "x"),
            ('"tag=no" <sip:a@b>', None),
            ("<sip:a@b;tag=no>", None),
            ("<sip:a@b>;TAG=x", "x"),
            ("nonsense tag=", None),
            (None, None),
        ):
            message = Request(
                "INVITE", "sip:a@b", {} if value is None else {"f": value, "t": value}
            )
            self.assertEqual((message.from_tag, message.to_tag), (tag, tag), value)
            self.assertIs(message.is_new_invite, tag is None)

    def test_options(self) -> None:
        """Option tags are found in whatever line and case, and no part of one is one."""
        message = Request(
            "INVITE", "sip:a@b", [("Require", "x, 100REL"), ("Require", "y"), ("k", "timer")]
        )
        for option, required, supported in (
            ("100rel", True, True),
            ("x", True, True),
            ("y", True, True),
            ("timer", False, True),
            ("100", False, False),
            ("time", False, False),
        ):
            self.assertIs(message.requires(option), required, option)
            self.assertIs(message.supports(option), supported, option)
        self.assertFalse(Request("INVITE", "sip:a@b").supports("x"))

    def test_reliable(self) -> None:
        """A response is reliable that is provisional, numbered, and requires it."""
        for status, lines, expected in (
            (183, "Require: 100rel\r\nRSeq: 7\r\n", "7"),
            (183, "require: x,100rel\r\nrseq:7 \r\n", "7"),
            (183, "Supported: 100rel\r\nRSeq: 7\r\n", None),
            (183, "Require: 100rel\r\n", None),
            (183, "Require: 100rel\r\nRSeq: \r\n", None),
            (183, "RSeq: 7\r\n", None),
            (100, "Require: 100rel\r\nRSeq: 7\r\n", None),
            (200, "Require: 100rel\r\nRSeq: 7\r\n", None),
        ):
            raw = f"SIP/2.0 {status} x\r\n{lines}\r\n".encode()
            self.assertEqual(Response.from_bytes(raw).reliable_number, expected, raw)
        made = Response(183, headers={"Require": "100rel", "RSeq": 7})
        self.assertEqual(made.reliable_number, "7")

    def test_subscription(self) -> None:
        """A subscription is over when its state says so, whatever it says besides."""
        for value, over in (
            ("terminated", True),
            ("Terminated;reason=timeout", True),
            (" terminated ", True),
            ("active;expires=60;x=terminated", False),
            ("terminated2", False),
            ("", False),
        ):
            raw = f"NOTIFY sip:a@b SIP/2.0\r\nSubscription-State: {value}\r\n\r\n".encode()
            self.assertIs(Request.from_bytes(raw).subscription_is_over, over, value)
        self.assertFalse(Request("NOTIFY", "sip:a@b").subscription_is_over)

    def test_loose_routes(self) -> None:
        """A loose router says so in its URI; what cannot be read is taken for one."""
        for route, loose in (
            ("<sip:p;lr>", True),
            ("<sip:p;lr;x>", True),
            ("<sip:p;LR=on>", True),
            ("sip:p", False),
            ("<sip:p>;lr", False),
            ("<sip:p;lrx>", False),
            ("<sip:;lr@p>", False),
            ("<tel:1;lr;x>", False),
            ("nonsense", True),
        ):
            self.assertIs(leads_loosely(route), loose, route)
            if route != "nonsense":
                self.assertIs(Address.parse(route).is_loose, loose, route)


class DatagramTests(SynchronousTestCase):
    def refused(self, raw: bytes, status: int = 400) -> None:
        self.assertEqual(self.assertRaises(MessageError, parse_datagram, raw).status, status)

    def test_body_is_cut(self) -> None:
        """Octets behind the body are dropped, line ends before the message too."""
        message = parse_datagram(b"\r\n\r\n" + INVITE + b"more")
        self.assertEqual(bytes(message), INVITE)
        self.assertEqual(message.body, BODY)

    def test_without_length(self) -> None:
        """Without Content-Length the body is the rest of the datagram."""
        lines = [line for line in OK.split(b"\r\n") if not line.startswith(b"Content-Length")]
        self.assertEqual(parse_datagram(b"\r\n".join(lines) + b"rest").body, b"rest")

    def test_refused(self) -> None:
        """Each fault by itself is reason enough."""
        self.refused(b"")
        self.refused(b"\r\n")
        self.refused(INVITE[:-1])
        self.refused(OK[:-2])
        for old, new, status in (
            (b"SIP/2.0\r\nVia", b"SIP/3.0\r\nVia", 505),
            (b"INVITE sip", b"INVITE  sip", 400),
            (b"CSeq: 1 INVITE", b"CSeq: 1 BYE", 400),
            (b"CSeq: 1 INVITE", b"CSeq: -1 INVITE", 400),
            (b"Supported", b"To: <sip:x@y>\r\nSupported", 400),
            (b"Supported", b"f: <sip:x@y>\r\nSupported", 400),
            (b"Supported", b"no colon\r\nSupported", 400),
            (b"Supported", b"X: bare\nSupported", 400),
            (b"Supported", b"X: bare\rY\r\nSupported", 400),
            (b"Supported", b"X: a\0b\r\nSupported", 400),
            (b"Supported", b"Max-Forwards: 256\r\nSupported", 400),
            (b"Supported", b"Max-Forwards: x\r\nSupported", 400),
            (b"To: <sip:1234@example.com>\r\n", b"", 400),
            (b"Call-ID: 1@192.0.2.1", b"Call-ID:", 400),
            (b"expires=60,", b"expires=60;;", 400),
            (b"sip:1234;x=y@example.com", b"sip:a@[::1", 400),
        ):
            self.assertIn(old, INVITE)
            self.refused(INVITE.replace(old, new, 1), status)
        self.refused(OK.replace(b"SIP/2.0 200", b"SIP/3.0 200"), 505)

    def test_other_method_in_cseq(self) -> None:
        """A CSeq of another method is a bad request; of a method that nobody knows, that counts."""
        for method, status in ((b"BYE", 400), (b"NEWMETHOD", 501), (b"invite", 501)):
            raw = INVITE.replace(b"INVITE sip", method + b" sip", 1)
            self.assertIn(b"CSeq: 1 INVITE", raw)
            self.refused(raw, status)
        self.assertEqual(parse_datagram(INVITE.replace(b"INVITE", b"NEWMETHOD")).cseq.number, 1)

    def test_once(self) -> None:
        """What is acted upon must not be there twice, in whatever spelling."""
        for name, value in (
            ("From", "<sip:x@y>"),
            ("To", "<sip:x@y>"),
            ("Call-ID", "c"),
            ("CSeq", "1 INVITE"),
            ("Max-Forwards", "70"),
            ("Content-Type", "text/plain"),
            ("Expires", "60"),
            ("Event", "presence"),
            ("Session-Expires", "1800"),
            ("RSeq", "1"),
            ("RAck", "1 1 INVITE"),
            ("Subject", "x"),
        ):
            whole = Request.from_bytes(INVITE)
            whole.remove(name)
            once = bytes(whole).replace(b"\r\n", f"\r\n{name}: {value}\r\n".encode(), 1)
            self.assertEqual(parse_datagram(once).get(name), value)
            twice = once.replace(b"\r\n", f"\r\n{name.upper()}: {value}\r\n".encode(), 1)
            error = self.assertRaises(MessageError, parse_datagram, twice)
            self.assertEqual(str(error), f"more than one {name}")
        length = INVITE.replace(b"Supported", b"l: 0\r\nSupported", 1)
        error = self.assertRaises(MessageError, parse_datagram, length)
        self.assertEqual(str(error), "more than one Content-Length")

    @given(st.binary(max_size=200), st.integers(0, len(INVITE)), st.integers(0, 20))
    def test_any_bytes(self, noise: bytes, at: int, gap: int) -> None:
        """Whatever arrives is read or raises MessageError, also when everything is asked for."""
        for raw in (noise, INVITE[:at] + noise + INVITE[at + gap :]):
            try:
                message = parse_datagram(raw)
                self.assertTrue(message.call_id)
            except MessageError as error:
                self.assertIn(error.status, (400, 501, 505, 513))
            for kind in (Request, Response):
                lenient = kind.from_bytes(raw)
                self.assertEqual(bytes(lenient), raw)
                for name in READABLE:
                    try:
                        getattr(lenient, name, None)
                    except MessageError:
                        pass
                lenient.headers.items()


READABLE = [
    name
    for kind in (Request, Response)
    for name in dir(kind)
    if isinstance(getattr(kind, name), property)
]
