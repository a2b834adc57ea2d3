"""The readers: what :mod:`tests.growth.test_growth` tries with all shapes."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet.task import Clock
from twisted.names import dns
from twisted.web.server import Request as WebRequest
from twisted.web.test.requesthelper import DummyChannel

from drachtwist.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from drachtwist.middleware import webhook as routing
from drachtwist.middleware.registrar import Registrar, address_of_record, parse_registration
from drachtwist.middleware.sources import SourceFilter
from drachtwist.net.names import _KINDS, _read_answer
from drachtwist.net.sip.via import note_source, response_hop
from drachtwist.server import checks, compose, dialogs, neighbours, owncontact
from drachtwist.server.configfile import ConfigFile
from drachtwist.server.registered import Registered, has_no_address, place_of
from drachtwist.server.sendingaway import stateless_tag
from drachtwist.server.spammers import Spammers
from drachtwist.sip import derived, digest, grammar, multipart, sdp
from drachtwist.sip.fields import (
    Address,
    MediaType,
    Valued,
    Via,
    is_terminated,
    leads_loosely,
    parse_integer,
    session_interval,
    tag_of,
)
from drachtwist.sip.headers import Headers
from drachtwist.sip.locating import Naptr, Place, Question, Records, Srv, hop_of, is_address, search
from drachtwist.sip.message import Request, Response
from drachtwist.sip.numbers import number_of, sip_uri
from drachtwist.sip.options import lists_option
from drachtwist.sip.params import Params, UriHeaders, UriParams
from drachtwist.sip.parsing import parse_datagram, parse_message, read_leniently
from drachtwist.sip.reachability import reached_over
from drachtwist.sip.registry import LISTS, SINGLES, is_legible
from drachtwist.sip.replies import ReplyHead
from drachtwist.sip.sdp.answering import answer, answer_with, description_of, refuse
from drachtwist.sip.sdp.values import Codec, Connection, Origin
from drachtwist.sip.stream import Malformed, StreamParser
from drachtwist.sip.targets import (
    by_preference,
    request_uri_of,
    split_route,
    split_target,
    with_route,
)
from drachtwist.sip.uri import SipUri, Uri
from drachtwist.sip.websocket import SipWebSocket
from drachtwist.tracing import messages
from drachtwist.tracing.hiding import without_secrets
from drachtwist.tracing.messages import Passed
from drachtwist.tracing.story import party_of
from drachtwist.transactions import matching
from drachtwist.wire.commands import parse_command, parse_event
from drachtwist.wire.decisions import AppAddress, RoutingQuery, parse_decision
from drachtwist.wire.frames import FrameDecoder, encode_frame
from drachtwist.wire.session import ApplicationSession, ServerSession
from tests.growth.readers import Reader
from tests.server.doubles import Wire, request
from tests.whole import Whole

__all__ = ["MODULES", "READERS"]

READERS: list[Reader] = []


def reader(*samples: str, **how: Any) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Register a function that reads text."""

    def register(read: Callable[..., object]) -> Callable[..., object]:
        READERS.append(Reader(read.__name__.strip("_"), read, samples, **how))
        return read

    return register


def add(name: str, read: Callable[..., object], *samples: str, **how: Any) -> None:
    """Register a function of the package."""
    READERS.append(Reader(name, read, samples, **how))


# Values of headers

_ADDRESS = '"A \\"B" <sip:a:pw@h:5060;transport=udp;lr?x=%41&y>;tag=1 ; q = "0.5\\""'
_VALUES = {
    Address.parse: (_ADDRESS, "sip:a@b;tag=1", "Anna Maria <tel:+1-2(3);phone-context=x>"),
    Address.parse_list: (f"{_ADDRESS}, sip:c@d;expires=60 , <urn:x:y>", "*"),
    Via.parse_list: (
        'SIP / 2.0/UDP h:5060;branch=z9hG4bKa;x="\\"", SIP/2.0/TCP [::1] : 5060 ; rport=1'
        ";received=1.2.3.4",
    ),
    Valued.parse: ("session ; handling = required",),
    Valued.parse_list: ('*;audio="x,y";+g.oma , *;video',),
    digest.Challenge.parse_list: (
        'Digest realm="a, \\"b", nonce = "n", qop="auth,auth-int", stale=true,algorithm=MD5,'
        'userhash=true, Basic realm="x", Bearer abc==',
    ),
    digest.Credentials.parse_list: (
        'Digest username="bob", realm="a", uri="sip:a", response="00", nc=00000001, cnonce="x"'
        ', qop=auth, opaque="" , Basic Ym9iOng=',
    ),
    digest.AuthenticationInfo.parse: ('nextnonce="a\\"b" , qop = auth,rspauth="x"',),
}
_TEXTS = {
    "authentication-info": _VALUES[digest.AuthenticationInfo.parse],
    "accept": ('application/sdp;level=1, text/*;x="y,z"',),
    "content-type": ('multipart/mixed;boundary="a b";x=y',),
    "cseq": ("00010 INVITE",),
    "event": ("presence.winfo;id=7;x",),
    "rack": ("1 2 INVITE",),
    "reason": ('Q.850;cause=16;text="Ter\\"minated", SIP;cause=200',),
    "replaces": ("a@b;to-tag=1;from-tag=2;early-only",),
    "retry-after": ("18 (in a (deep) meeting);duration=3600",),
    "session-expires": ("1800;refresher=uac",),
    "subscription-state": ("active;expires=60;reason=x;retry-after=3",),
    "allow": ("INVITE, ACK ,BYE,,x",),
    "max-forwards": ("70",),
    "refer-to": ("sip:a@b?Replaces=x%3Bto-tag%3D1&y", "<sip:a@b?x=y>;z=1"),
    "expires": ("3600", "Sun, 06 Nov 1994 08:49:37 GMT"),
    "min-expires": ("3600",),
}


def _typed() -> None:
    """Register what reads each header."""
    by_parser: dict[Any, list[str]] = {}
    for key, parse in (*SINGLES.items(), *LISTS.items()):
        by_parser.setdefault(parse, []).append(key)
    for parse, keys in by_parser.items():
        samples = _VALUES.get(parse) or next((_TEXTS[key] for key in keys if key in _TEXTS), ())
        assert samples, f"give a sample of {keys}"
        add(f"header {keys[0]}", parse, *samples)


_typed()
add("Address.check", Address.check, *_VALUES[Address.parse])
add("Address.check_list", Address.check_list, *_VALUES[Address.parse])
add("Via.parse", Via.parse, *_VALUES[Via.parse_list], "SIP/2.0/UDP h")
add("Credentials.parse", digest.Credentials.parse, *_VALUES[digest.Credentials.parse_list])
add("Valued.parse_list", Valued.parse_list, *_VALUES[Valued.parse_list])


@reader(*_VALUES[digest.Credentials.parse_list])
def _verify(text: str) -> object:
    found = digest.Credentials.parse_list(text)
    nonces = digest.Nonces(key=b"k")
    for one in found[:1]:
        digest.verify(one, method="INVITE", password="x")
        digest.verify(one, method="INVITE", ha1="x", body=b"y")
        assert not nonces.is_ours(one.nonce) and not nonces.is_fresh(one.nonce, 1.0)
    return found


@reader(*_VALUES[digest.Challenge.parse_list])
def _answer_challenge(text: str) -> object:
    chosen = digest.choose(digest.Challenge.parse_list(text))
    if chosen is None:
        return None
    return digest.answer(chosen, username="bob", password="x", method="INVITE", uri="sip:a")


add("parse_integer", parse_integer, "4711")


@reader(';a=1; b = "x\\"y";c;A=2')
def _params(text: str) -> object:
    found = Params.parse(text)
    for name in ("a", "zz"):
        found.get(name)
        found.text(name)
        assert (name in found) is (found.get(name, "?") != "?" or name in dict(found))
    for name in found:
        found[name]
    return found, found.without("a"), found.with_("a", 2)


@reader("a=%41;b;c=d")
def _uri_params(text: str) -> object:
    found = UriParams._trusted(";" + text)
    return found, found.text("a"), UriHeaders._trusted("?" + text.replace(";", "&"))


@reader('a , "b,c" , <d,e>, f', "x")
def _grammar(text: str) -> object:
    grammar.unquote(text), grammar.unescape(text), grammar.unfold(text), grammar.quote(text)
    grammar.is_token(text), grammar.has_line_break(text)
    return grammar.split_commas(text)


_URI = "sip:a%40;x=1:pw@host.example.com:5060;transport=tcp;maddr=[::1];lr?Subject=a%20b&c"


@reader(_URI, "sips:[::1]:5061", "tel:+1-(2).3;phone-context=+1;x", "urn:service:sos.a")
def _uri(text: str) -> object:
    found = Uri.parse(text)
    assert found.equivalent(found)
    if isinstance(found, SipUri):
        hop = hop_of(found)
        is_address(hop.host)
        return found, hop
    return found


# Messages

_SDP = (
    "v=0\r\no=- 1 2 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nb=AS:64\r\nt=0 0\r\na=sendonly\r\n"
    "m=audio 4000/2 RTP/AVP 0 96 97\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:97 apt=96\r\n"
    "a=recvonly\r\nm=video 0 RTP/AVP 31\r\nc=IN IP6 ::1\r\n"
)
_MULTIPART = (
    "x\r\n--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b \r\n\r\nhello\r\n"
    "--b\r\n\r\n\r\n--b--\r\ny"
)
_FIELDS = (
    "Via: SIP/2.0/UDP h:5060;branch=z9hG4bKa;rport;received=1.2.3.4\r\n"
    "v: SIP/2.0/TCP [::1];branch=z9hG4bKb\r\n"
    'From: "Al\\"ice" <sip:alice@h>;tag=a\r\n'
    "To: <sip:bob@h>\r\n"
    "Call-ID: c1@h\r\n"
    "CSeq: 1 INVITE\r\n"
    'Contact: <sip:alice@1.2.3.4:5060;ob>;expires=60;q=0.5;+sip.instance="<urn:x>";reg-id=1\r\n'
    "Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\n"
    'P-Asserted-Identity: "B" <sip:+1@h>, <tel:+1>\r\n'
    "Path: <sip:e>\r\n"
    "Require: 100rel, x\r\n"
    "Max-Forwards: 70\r\n"
    "Max-Breadth: 60\r\n"
    "Expires: 3600\r\n"
    "User-Agent: x\r\n"
    "Session-Expires: 1800;refresher=uac\r\n"
    "Subject: folded\r\n  here\r\n"
)
_REQUEST = f"INVITE sip:bob@h;x=1 SIP/2.0\r\n{_FIELDS}"
_RESPONSE = f"SIP/2.0 200 OK\r\n{_FIELDS}"
_WITH_SDP = f"{_REQUEST}Content-Type: application/sdp\r\n\r\n{_SDP}"
_WITH_PARTS = f"{_REQUEST}Content-Type: multipart/mixed;boundary=b\r\n\r\n{_MULTIPART}"
_HEADERS = (
    "Via From To Call-ID CSeq Contact Record-Route P-Asserted-Identity Require Expires Accept"
    " Session-Expires Content-Type Subject X Authorization Max-Forwards"
).split()

add("parse_datagram", parse_datagram, _REQUEST + "\r\n", binary=True, places=16)
add("parse_message", parse_message, _WITH_PARTS, _RESPONSE + "\r\n", binary=True, places=16)


@reader(_WITH_SDP, binary=True, places=12)
def _message(raw: bytes) -> object:
    request = Request.from_bytes(raw)
    found = [request]
    for name in _HEADERS:
        request.get_all(name), request.has(name), request.get_header_name(name)
        is_legible(name, request.get(name) or "")
        found.append(_tried(request.get_parsed_header, name))
    found.append(_tried(request.get_parsed_uri))
    request.to_tag, request.from_tag, request.requires("x"), request.supports("zz")
    request.subscription_is_over, lists_option(request.get_all("Require"), "x")
    request.set("X", "y")
    request.add("X", "z")
    request.remove("Subject")
    bytes(request)
    return found


def _tried(read: Callable[..., Any], *given: object) -> Any:
    """Read what may be bad, so that what follows is read too."""
    try:
        return read(*given)
    except RemoteProtocolError:
        return None


@reader(_RESPONSE, f"SIP/2.0 183 x\r\nRSeq: 1\r\n{_FIELDS}", binary=True, places=8)
def _response(raw: bytes) -> object:
    response = Response.from_bytes(raw)
    checks.has_more_hops(response) if response.has("Via") else None
    _tried(lambda: response.reliable_number)
    return response, _tried(lambda: response_hop(response.vias[0])), read_leniently(raw)


_TAKEN = {"Subject": "x", "X": ["y", "z"]}


@reader(_REQUEST, binary=True, places=12)
def _headers(raw: bytes) -> object:
    headers = Headers.from_bytes(raw)
    for name in headers:
        assert name in headers
    dict(headers.items()), headers.malformed_lines(), headers.lines(), headers.get_name("X")
    found = headers.get("Via"), headers.get_all("Via"), headers.has("Via")
    changed = headers.copy()
    changed.set("Via", "x")
    changed.add("X", "x")
    changed.prepend("Via", "x")
    changed.remove("Subject")
    changed.set_length(1)
    other = Headers.from_bytes(raw)
    other.add_missing(_TAKEN.items())
    other.replace(_TAKEN.items())
    copied = Headers(_TAKEN)
    copied.add_missing([pair for pair in headers.items() if not grammar.has_line_break(pair[1])])
    len(headers), headers == changed, changed["Via"]
    return found


@reader(_REQUEST + "\r\n", binary=True, places=12)
def _keys(raw: bytes) -> object:
    request = Request.from_bytes(raw)
    response = Response.from_bytes(raw)
    return [
        _tried(matching.server_key, request),
        _tried(matching.cancelled_key, request),
        _tried(lambda one: list(matching.cancelled_keys(one)), request),
        _tried(matching.request_client_key, request),
        _tried(matching.merge_key, request),
        _tried(matching.client_key, response),
    ]


@reader(_REQUEST + "\r\n", binary=True, places=12)
def _derived(raw: bytes) -> object:
    request = Request.from_bytes(raw)
    return [
        _tried(derived.headers_like, request, "ACK"),
        _tried(ReplyHead(request).lines, "x"),
        _tried(derived.cancel_received, request, ["x"]),
        _tried(derived.hung_up, request, "a", "sip:a", "x"),
        _sent(derived.cancel_for, request),
        _sent(derived.failure_ack, request, Response.from_bytes(raw)),
    ]


def _sent(write: Callable[..., Any], *given: object) -> Any:
    """Write what must not be sent for some peers' text."""
    try:
        return _tried(write, *given)
    except LocalProtocolError:
        return None


@reader(_REQUEST + "\r\n", binary=True, places=12)
def _note_source(raw: bytes) -> object:
    return note_source(raw, "1.2.3.4", 5060)


_CONTENT = "Content-Length: 2\r\n\r\nhi"


@reader(
    f"\r\n\r\n{_REQUEST}{_CONTENT}\r\n\r\n{_RESPONSE}{_CONTENT}",
    binary=True,
    largest=1 << 20,
    places=8,
    suffixes=(None, "x"),
)
def _stream(raw: bytes) -> object:
    parser = StreamParser(1 << 21)
    found = parser.feed(raw)
    assert parser.pending <= len(raw)
    return found[:1], parser.error is None


@reader(f"\r\n\r\n{_REQUEST}{_CONTENT}", binary=True, places=8, suffixes=(None, "x"))
def _sliced_stream(raw: bytes) -> object:
    parser = StreamParser(1 << 21)
    return [parser.feed(raw[at : at + 7])[:1] for at in range(0, len(raw), 7)][-1]


@reader(_MULTIPART, binary=True, largest=1 << 20, places=8, more=("--b\r\n\r\nx\r\n", "\r\n--b"))
def _multipart(raw: bytes) -> object:
    return multipart.decode(raw, "b")


add("MediaType.parse", MediaType.parse, 'multipart/mixed;boundary="a\\"b"')

# Session descriptions

_STREAMS = (
    "m=\r\n",
    "m=audio 4000 RTP/AVP 0\r\n",
    "m=audio 0 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=sendonly\r\n",
    "m=audio 4000 RTP/AVP 0\r\na=sendonly\r\na=rtpmap:0 x/8000\r\n",
    "a=rtpmap:{n} opus/8000\r\n",
    "a=fmtp:{n} apt={n}\r\n",
    "a=x\r\n",
    "c=IN IP4 1.2.3.4\r\n",
    "b=A{n}:1\r\n",
    " {n}",
)


@reader(_SDP, binary=True, more=_STREAMS)
def _sdp(raw: bytes) -> object:
    found = sdp.Sdp.parse(raw)
    assert bytes(found) == raw
    found.is_refresh_of(sdp.Sdp(raw))
    for name in ("rtpmap", "x"):
        found.get(name), found.get_all(name), found.has(name), found.value("t")
    _tried(found.streams, "audio")
    return found


def _editing(name: str, *given: object) -> None:
    def edit(raw: bytes) -> object:
        found = sdp.Sdp.parse(raw)
        getattr(found, name)(*given)
        return str(found)

    add(f"Sdp.{name}", edit, _SDP, binary=True, places=6, suffixes=(None,), more=_STREAMS)


for _name, _given in (
    ("hold", ()),
    ("unhold", ()),
    ("black_hole", ()),
    ("set_direction", ("sendonly",)),
    ("keep_codecs", ("PCMU", "opus")),
    ("drop_codecs", ("PCMU",)),
    ("prefer_codecs", ("opus",)),
    ("rewrite_address", ("1.2.3.4",)),
    ("remove", ("sendonly", "x")),
    ("set", ("x", "y")),
    ("add", ("x", "y")),
    ("bump_version", ()),
):
    _editing(_name, *_given)


@reader(_SDP, binary=True, places=8, suffixes=(None, ""), more=_STREAMS)
def _answer_offer(raw: bytes) -> object:
    offer, ours = sdp.Sdp(raw), sdp.Sdp(_SDP)
    made = [refuse(offer), answer_with(ours, offer), answer_with(offer, ours)]
    made.append(answer_with(offer, offer))
    made.append(answer(offer, "1.2.3.4", ports=[4000, 4002, 4004]))
    return [str(one) for one in made]


@reader(_WITH_SDP, _WITH_PARTS, binary=True, places=8, more=("--b\r\n\r\nx\r\n", *_STREAMS))
def _sdp_of(raw: bytes) -> object:
    request = Request.from_bytes(raw)
    checks.carries_session(request)
    return sdp.sdp_of(request), description_of(request)


add("Origin.parse", Origin.parse, "a 1 2 IN IP4 1.2.3.4")
add("Connection.parse", Connection.parse, "IN IP4 224.0.0.1/127/3")
add("Codec.parse", Codec.parse, "96 opus/48000/2")


# Between application and server

_COMMAND = "m1|sip|t1|d1|sip:a@b\r\n" + _REQUEST
_PROXY = "m1|proxy|t1|remainInDialog|fullResponse|followRedirects|serial|1s|2s|sip:a@b|sip:c@d\r\n"
_DELIVERY = f"i|sip|network|9|udp|1.2.3.4|5060|10:00:00.0|t|d|1.2.3.4|5060|\r\n{_REQUEST}"
_ANSWER = "i|response|m1|OK|network|9|udp|1.2.3.4|5060|10:00:00.0|t|d|continue\r\nx"
_CDR = "i|cdr:stop|network|10:00:00.0|normal-release\r\nx"

add(
    "parse_command",
    parse_command,
    _COMMAND,
    _PROXY,
    "m1|authenticate|cymru|a,b",
    "m1|route|invite",
    "m1|ping",
    binary=True,
    places=8,
)
add("parse_event", parse_event, _DELIVERY, _ANSWER, _CDR, binary=True, places=12)


def _framed(raw: bytes) -> bytes:
    return encode_frame(raw, None)


@reader(_COMMAND, "m1|authenticate|cymru|a,b", "m1|route|invite", binary=True, places=8)
def _server_session(raw: bytes) -> object:
    session = ServerSession("cymru", ["udp/h:1"], "v0.9.10")
    for payload in (raw, b"m2|authenticate|cymru|" + raw, b"m3|authenticate|cymru|" + raw):
        found = session.receive(_framed(payload))
    return found, session.data_to_send(), len(session.tags)


@reader(_DELIVERY, _ANSWER, "i|response|ID|OK|udp/h:1,tcp/h:1|v0.9.10|x", binary=True, places=8)
def _application_session(raw: bytes) -> object:
    session = ApplicationSession("cymru")
    session.start(0.0)
    first = session.data_to_send().partition(b"#")[2].partition(b"|")[0]
    session.receive(_framed(b"i|response|%b|OK|%b" % (first, raw)), 0.0)
    return session.receive(_framed(raw.replace(b"ID", first)), 0.0), session.pending


@reader("5#hello10#0123456789", binary=True, largest=1 << 20, places=8)
def _frames(raw: bytes) -> object:
    decoder = FrameDecoder()
    found = decoder.feed(raw)[:1]
    return found, decoder.announced, [FrameDecoder().feed(_framed(raw))]


@reader("100#hello", binary=True, places=4, suffixes=("",))
def _sliced_frames(raw: bytes) -> object:
    decoder, framed = FrameDecoder(), _framed(raw)
    found: list[bytes] = []
    for at in range(0, len(framed), 7):
        found = decoder.feed(framed[at : at + 7])[:1]
        assert decoder.announced == (0 if found else decoder._size)
    return found


@reader(
    '{"action": "proxy", "data": {"destination": ["sip:a@b"], "finalTimeout": "5s"}}',
    '{"action": "route", "data": {"uri": "1.2.3.4:9022;transport=tls"}}',
    '{"action": "reject", "data": {"status": 480, "reason": "x"}}',
    '{"uri": "h:1 /x"}',
    '{"action": "redirect", "data": {"contact": ["sip:a@b"]}}',
    binary=True,
    places=8,
)
def _decision(raw: bytes) -> object:
    return parse_decision(raw)


add("AppAddress.parse", AppAddress.parse, "1.2.3.4:9022;transport=tls /x", "[::1]:9022/y")


@reader("x=1&y=%41&source_address=1.2.3.4&method=INVITE")
def _query(text: str) -> object:
    given = dict(pair.partition("=")[::2] for pair in text.split("&"))
    query = RoutingQuery.decode(given)
    return query.encode()


@reader("?method=INVITE&domain=h&uri=sip%3aa%40b&x=%41&é", binary=True)
def _web_callback(raw: bytes) -> object:
    seen: list[str] = []

    def decide(query: RoutingQuery) -> object:
        seen.append(query.encode())
        return routing.reject(480)

    request = WebRequest(DummyChannel(), False)
    request.uri = raw
    request.clientproto, request.method = b"HTTP/1.0", b"GET"
    routing.RoutingResource(decide).render_GET(request)
    return seen


# The server


@reader(_REQUEST, binary=True, largest=1 << 20, places=8, suffixes=(None, "x"))
def _draft(raw: bytes) -> object:
    checked = compose.read_draft(raw, checked=True)
    draft = compose.read_draft(raw, checked=False)
    for key in ("contact", "subject", "x"):
        draft.value(key)
    draft.values("contact"), draft.values("subject")
    draft.replace_contact("<sip:a@b>")
    draft.complete_type()
    return [
        compose.encode(draft.start, [], draft.fields, draft.body),
        compose.encode(checked.start, [], checked.fields, checked.body),
        compose.readdressed(raw, "SIP/2.0/UDP h", "<sip:1.2.3.5:5060>"),
    ]


@reader(
    "sip:a;b=c:d@h:5060;method=BYE;x?Subject=a%20b&Replaces=1%3Bto-tag%3D2&x",
    "tel:+1-2(3);phone-context=x",
    "<sip:a@localhost:5060;transport=udp>;q=0.5",
    "terminated;reason=x",
    '"tag" <sip:a@b>;x;tag=1',
)
def _wanted(text: str) -> object:
    for protocol in ("tcp", "wss"):
        reached_over(text, protocol, secure=True)
        owncontact.own_contact(text, protocol, "1.2.3.4:5060", secure=False)
    owncontact.like_contact("<sip:localhost>", text)
    is_terminated(text), tag_of(text), sip_uri(text, "h"), number_of(text), leads_loosely(text)
    session_interval(text)
    split_route(with_route("sip:a@b", ["<sip:a;lr>", text]))
    return request_uri_of(text), split_target(text)


@reader("<sip:a@b>;q=0.5, <sip:c>, *", "<sip:a>;q=1.000")
def _preferred(text: str) -> object:
    return by_preference(Address.parse_list(text))


@reader(_REQUEST + "Route: <sip:a;lr>, <sip:b>\r\nRecord-Route: <sip:c;lr>\r\n\r\n", binary=True)
def _neighbours(raw: bytes) -> object:
    request = Request.from_bytes(raw)
    contact = dialogs.contact_of(request)
    flow = Wire().flow("127.0.0.1", 5060)
    return (
        [one.is_loose for one in neighbours.routes_left(request, lambda uri: False)],
        neighbours.is_adjacent(request, lambda uri: False),
        neighbours.is_behind_nat(contact, flow, "usual"),
    )


@reader(f"{_ADDRESS}", "<sip:localhost:5060>;x", "sip:a@localhost")
def _addresses(text: str) -> object:
    compose.with_host(text, "1.2.3.4:5060")
    has_no_address(text), place_of(text)
    return compose.in_brackets(text)


@reader(_REQUEST + "\r\n", binary=True, places=12)
def _checked(raw: bytes) -> object:
    request = Request.from_bytes(raw)
    found: list[object] = [_tried(checks.scheme_is_known, request)]
    found.append(_tried(checks.unknown_extensions, request, "Require", frozenset()))
    found += [_tried(checks.has_hops_left, request), _tried(checks.breadth_of, request)]
    found += [_tried(checks.bad_header, request), _tried(checks.carries_session, request)]
    known = Spammers((("user-agent", ("scan",)), ("to", ("x",)), ("from", ("y",))))
    found += [_tried(known.find, request), stateless_tag(request)]
    return found


@reader(_REQUEST + "\r\n", binary=True, places=12)
def _registered(raw: bytes) -> object:
    registered = Registered(lambda: 0.0)
    flow = Wire().flow("1.2.3.4", 5060, "tcp")
    registered.accepted(Request.from_bytes(raw), flow, raw)
    registered.passed(Request.from_bytes(raw), flow, raw)
    registered.find("sip:alice@1.2.3.4")
    return len(registered)


@reader(_REQUEST + "\r\n", binary=True, places=12)
def _targets(raw: bytes) -> object:
    request = Request.from_bytes(raw)
    return _tried(dialogs.record_routes, request), _tried(dialogs.contact_of, request)


_FILE = (
    "<drachtio><admin port='9022' secret='x'>127.0.0.1</admin><sip><contacts>"
    "<contact dns-names='a,b'>sip:*:5060;transport=udp</contact></contacts>"
    "<spammers action='reject'><header name='to'><value>x</value></header></spammers>"
    "<timers><t1>500</t1></timers></sip></drachtio>"
)


add(
    "ConfigFile.parse",
    ConfigFile.parse,
    _FILE,
    binary=True,
    places=8,
    more=("<a/>", "<a>", "<sip/>", "&amp;", "<!--x-->", "<a b='c'/>"),
    errors=(ConfigError,),
)

# Middleware


@reader(
    _REQUEST.replace("INVITE", "REGISTER") + "\r\n",
    binary=True,
    places=8,
    more=("Contact: <sip:{n}@h>\r\n", ",<sip:{n}@h>"),
)
def _registration(raw: bytes) -> object:
    return parse_registration(Request.from_bytes(raw))


add("address_of_record", address_of_record, _URI)
add("SourceFilter.allows", SourceFilter(["10.0.0.0/8"], ["::/0"]).allows, "10.0.0.1", "fe80::1%x")

# WebSockets and the DNS

_UPGRADE = (
    "GET /sip HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://h\r\n"
    "Sec-WebSocket-Protocol: chat, sip\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_UPGRADED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)


@reader(_UPGRADE, binary=True, places=8, suffixes=(None, "x"))
def _websocket_handshake(raw: bytes) -> object:
    server = SipWebSocket()
    events = list(server.feed(raw))
    return len(events), server.error, server.pending


@reader(_UPGRADED, binary=True, places=8, suffixes=(None, "x"))
def _websocket_answer(raw: bytes) -> object:
    client = SipWebSocket(host="h")
    client.begin()
    return len(list(client.feed(raw))), client.close()


def _frame(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """Write a frame as a client does, with a mask of zeros."""
    size = len(payload)
    coded = bytes([size]) if size < 126 else b"\x7f" + size.to_bytes(8, "big")
    return bytes([fin << 7 | opcode, coded[0] | 0x80]) + coded[1:] + bytes(4) + payload


@reader(_REQUEST + "\r\n", binary=True, places=6, suffixes=(None, ""))
def _websocket_messages(raw: bytes) -> object:
    server = SipWebSocket()
    found = list(server.feed(_UPGRADE.encode()))
    whole, third = _frame(1, raw), len(raw) // 3
    pieces = _frame(1, raw[:third], False) + _frame(9, b"x") + _frame(0, raw[third:])
    for data in (whole, pieces):
        found += server.feed(data)
    return found[1:]


@reader("", binary=True, only=("a",), suffixes=("", "aa", "aaa"))
def _websocket_tiny_frames(raw: bytes) -> object:
    server = SipWebSocket()
    list(server.feed(_UPGRADE.encode()))
    kinds = {2: _frame(9, b""), 3: _frame(1, b""), 1: _frame(1, b"x", False) + _frame(0, b"")}
    data = kinds[len(raw) % 3 + 1] * (len(raw) // 16)
    return len(list(server.feed(data)))


# The names in a message are read by Twisted, and take longer the longer they are; so a datagram
# may not be long (see drachtwist.net.names).
@reader(
    "\0\0\x81\x80\0\1\0\1\0\0\0\0\1h\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4",
    binary=True,
    only=(
        "\1h\0\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4",
        "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4",
        "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c",
    ),
    errors=(RemoteProtocolError, EOFError, ValueError),
)
def _dns(raw: bytes) -> object:
    raw = raw.decode("utf-8", "surrogateescape").encode("latin-1", "replace")
    message = dns.Message()
    message.fromStr(raw)
    return [_read_answer(Question(kind, "h"), message)[0] for kind in _KINDS]


@reader("", binary=True, only=("a",), suffixes=("",))
def _locating(raw: bytes) -> object:
    """Look for a server among many records."""
    count = len(raw) // 16 + 2
    answers: dict[str, Records] = {
        "NAPTR": [Naptr(at, 1, "s", "SIP+D2U", "", f"{at}.example.com") for at in range(count)],
        "SRV": [Srv(at % 3, at % 7, 5060, f"{at}.example.com") for at in range(count)],
        "A": [f"10.0.{at % 65536 // 256}.{at % 256}" for at in range(count)],
    }
    hop = hop_of(SipUri("sip", None, None, "example.com"))
    going = search(hop, {"udp": ("A",)}, lambda: 0.5)
    found, asked = 0, next(going)
    while found < count:
        try:
            if isinstance(asked, Place):
                found += 1
                asked = next(going)
            else:
                asked = going.send([answers[question.kind] for question in asked])
        except StopIteration:
            break
    return found


@reader("INVITE sip:a@b SIP/2.0\r\nTo: x\r\n\r\n", binary=True)
def _posted(raw: bytes) -> object:
    request = WebRequest(DummyChannel(), False)
    request.uri, request.content = b"/?method=INVITE", BytesIO(raw)
    request.clientproto, request.method = b"HTTP/1.0", b"POST"
    seen: list[object] = []

    def decide(query: RoutingQuery, message: Request | None) -> object:
        seen.append(message)
        return routing.reject(480)

    routing.RoutingResource(decide).render_POST(request)
    return seen


@reader(
    "REGISTERContact: <sip:a@h>\nContact: <sip:b@h>\n",
    binary=True,
    suffixes=("",),
    places=1,
    only=("Contact: <sip:a{n}@h>\n", "Contact: <sip:a{n}@h>;expires=0\n"),
)
def _registrar(raw: bytes) -> object:
    whole = Whole(clock=Clock())
    registrar = Registrar()
    whole.srf.register(registrar)
    whole.pump()
    text = request("REGISTER", extra=raw.decode().replace("REGISTER", ""))
    whole.receive(text.replace("Contact: <sip:alice@127.0.0.1:32070>\n", ""))
    whole.pump()
    return registrar.store.find("sip:app@127.0.0.1")


# All of it together


@reader(_REQUEST + _CONTENT, binary=True, places=8, suffixes=(None,))
def _server_and_application(raw: bytes) -> object:
    whole = Whole(clock=Clock())

    def refuse(req: Any, res: Any) -> None:
        assert isinstance(req.calling_number + req.calling_name + req.called_number, str)
        res.send(486)

    whole.srf.invite(refuse)
    whole.pump()
    flow = whole.server.wire.flow("127.0.0.1", 32071)
    for event in StreamParser().feed(note_source(raw, "127.0.0.1", 32071)):
        if isinstance(event, (Request, Response)):
            whole.server.core.sip_received(event, flow, len(raw))
        elif isinstance(event, Malformed):
            whole.server.core.sip_malformed(event, flow, len(raw))
    return len(whole.sent())


@reader(
    "INVITE sip:a@b;transport=udp SIP/2.0\r\nCSeq: 1 INVITE\r\ni : a@b \r\n\r\nv=0\r\no=a 1 1\r\n",
    "SIP/2.0 200 OK\r\nCall-ID: a@b\r\nCSeq : 1 BYE\r\n\r\n",
    "A sip:a:b@c SIP/2.0\r\nf:<sip:a:b@c>;tag=1\r\n"
    'Authorization: Digest a="b",\r\n response="0"\r\n'
    "Cookie: a\r\n\r\na=crypto:1 A inline:b|c\r\nk=clear:d\r\n",
)
def passed_message(text: str) -> object:
    """Look at a message that passed as ladders do."""
    raw = text.encode("utf-8", "surrogateescape")
    way = messages.Place("udp", "127.0.0.1", 5070, "127.0.0.1", 5060)
    one = Passed(0.0, True, way, raw, messages.call_id_of(raw))
    return (
        (one.text, one.method, one.status, one.summary, one.source, one.target),
        messages.header_of(raw, b"CSeq"),
        messages.session_of(raw),
        party_of(raw, caller=True),
        party_of(raw, caller=False),
        without_secrets(text),
    )


MODULES = [
    "drachtwist.middleware.webhook",
    "drachtwist.middleware.bindings",
    "drachtwist.middleware.registrar",
    "drachtwist.middleware.sources",
    "drachtwist.net.names",
    "drachtwist.sip.websocket",
    "drachtwist.net.sip.via",
    "drachtwist.server.checks",
    "drachtwist.server.compose",
    "drachtwist.server.configfile",
    "drachtwist.server.neighbours",
    "drachtwist.server.owncontact",
    "drachtwist.server.registered",
    "drachtwist.server.spammers",
    *(
        f"drachtwist.sip.{name}"
        for name in (
            "derived",
            "digest",
            "encoding",
            "fields",
            "grammar",
            "headers",
            "locating",
            "message",
            "multipart",
            "numbers",
            "options",
            "params",
            "parsing",
            "reachability",
            "registry",
            "replies",
            "sdp.answering",
            "sdp.description",
            "sdp.sections",
            "sdp.streams",
            "sdp.values",
            "stream",
            "targets",
            "uri",
        )
    ),
    "drachtwist.tracing.hiding",
    "drachtwist.tracing.messages",
    "drachtwist.transactions.matching",
    "drachtwist.wire.commands",
    "drachtwist.wire.decisions",
    "drachtwist.wire.frames",
    "drachtwist.wire.session",
]
"""The modules that read what peers write. Each of their public functions is run by a reader, or
exempted in :mod:`tests.growth.exempt`."""
