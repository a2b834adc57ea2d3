"""SIP over WebSockets without sockets: the handshake, frames, and the end of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws

from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import KeepAlive, Malformed
from drachtwist.sip.websocket import (
    HANDSHAKE_LIMIT,
    Ended,
    Heard,
    Opened,
    SipWebSocket,
    WebSocketEvent,
)

HANDSHAKE = (
    b"GET /sip HTTP/1.1\r\nHost: sip.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, sip\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
OPTIONS = (
    b"OPTIONS sip:bob@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks\r\n"
    b"From: <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\n"
    b"Call-ID: c1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n"
)
LIMIT = 4096


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """Write a frame as a client does."""
    size = len(payload)
    if size < 126:
        head = bytes([fin << 7 | opcode, masked << 7 | size])
    elif size < 65536:
        head = bytes([fin << 7 | opcode, masked << 7 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([fin << 7 | opcode, masked << 7 | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = b"\x17\x2b\x3c\x4d"
    return head + key + bytes(octet ^ key[at % 4] for at, octet in enumerate(payload))


def text(payload: bytes, **how: bool) -> bytes:
    return frame(1, payload, **how)


def fed(machine: SipWebSocket, data: bytes) -> list[WebSocketEvent]:
    """Feed octets, and give all that comes of them."""
    return list(machine.feed(data))


def opened(limit: int = LIMIT) -> SipWebSocket:
    """Give a server's end whose handshake is done."""
    server = SipWebSocket(limit)
    fed(server, HANDSHAKE)
    return server


def sliced(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def shown(events: list[WebSocketEvent]) -> list[object]:
    """Make events comparable."""
    found: list[object] = []
    for event in events:
        if isinstance(event, (Request, Response)):
            found.append(event.raw)
        elif isinstance(event, Malformed):
            found.append((event.raw, str(event.error)))
        else:
            found.append(event)
    return found


_FRAMES = st.one_of(
    st.sampled_from(
        [
            text(OPTIONS),
            frame(2, OPTIONS),
            text(OPTIONS[:50], fin=False) + frame(9, b"hi") + frame(0, OPTIONS[50:]),
            text(OPTIONS.replace(b"SIP/2.0\r\n", "SIP/2.0\r\nSubject: é\r\n".encode(), 1)),
            text(OPTIONS + b"x" * 300),
            text(b"\r\n\r\n"),
            text(b"\r\n"),
            text(b""),
            frame(2, b"rubbish"),
            frame(10, b"pong"),
            frame(8, b"\x03\xe8bye"),
            frame(8),
            text(OPTIONS, masked=False),
            text(b"x" * (LIMIT + 1)),
        ]
    ),
    st.binary(max_size=40).map(text),
    st.binary(max_size=40),
)


class HandshakeTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """An upgrade to SIP is accepted, as in RFC 6455's example."""
        [event] = fed(SipWebSocket(), HANDSHAKE)
        assert isinstance(event, Opened)
        head = event.answer.lower()
        self.assertTrue(head.startswith(b"http/1.1 101 switching protocols\r\n"), head)
        self.assertIn(b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n", head)
        self.assertIn(b"sec-websocket-protocol: sip\r\n", head)
        self.assertNotIn(b"extensions", head)

    def test_messages_behind_the_handshake(self) -> None:
        """A message that comes with the handshake is not lost."""
        _, message = fed(SipWebSocket(), HANDSHAKE + text(OPTIONS))
        assert isinstance(message, Request)
        self.assertEqual(message.raw, OPTIONS)

    def test_refused(self) -> None:
        """What is no upgrade to SIP gets an HTTP error that says why, and the end."""
        change = HANDSHAKE.replace
        for data, status, why in (
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426, "only WebSockets"),
            (change(b"websocket\r\n", b"h2c\r\n"), 400, "Upgrade"),
            (change(b"Connection: Upgrade", b"Connection: close"), 400, "Connection"),
            (change(b"chat, sip", b"chat"), 400, "'sip'"),
            (change(b"Sec-WebSocket-Protocol: chat, sip\r\n", b""), 400, "'sip'"),
            (change(b"Version: 13", b"Version: 8"), 426, "Version"),
            (change(b"Sec-WebSocket-Version: 13\r\n", b""), 400, "Version"),
            (change(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400, "Key"),
            (change(b"Host: sip.example.com\r\n", b""), 400, "Bad HTTP"),
            (change(b"Host: sip.example.com", b"Host: \xff\xfe"), 400, "no valid value"),
            (change(b"chat, sip", b"\xe9"), 400, "no valid value"),
            (change(b"GET ", b"POST "), 400, "GET"),
            (change(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"), 400, "body"),
            (change(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, "body"),
            (OPTIONS, 400, "Bad HTTP"),
            (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "Bad HTTP"),
            (b"GET /" + b"a" * HANDSHAKE_LIMIT, 431, "too long"),
            (b"GET /" + b"a" * HANDSHAKE_LIMIT + b"\r\n\r\n", 431, "too long"),
        ):
            server = SipWebSocket()
            bad, end = fed(server, data)
            assert isinstance(bad, Malformed) and isinstance(end, Ended)
            self.assertIsNone(bad.message)
            answer = end.answer.decode()
            self.assertTrue(answer.startswith(f"HTTP/1.1 {status} "), (data, answer))
            self.assertIn("\r\nConnection: close", answer)
            self.assertEqual("\r\nUpgrade: websocket\r\n" in answer, status == 426)
            self.assertIn(why, answer)
            body = answer.partition("\r\n\r\n")[2]
            self.assertIn(f"\r\nContent-Length: {len(body)}\r\n", answer)
            self.assertEqual(fed(server, HANDSHAKE), [])

    def test_both_ends(self) -> None:
        """Our client's end and our server's end understand each other."""
        client, server = SipWebSocket(LIMIT, "127.0.0.1:80"), SipWebSocket(LIMIT)
        [up] = fed(server, client.begin())
        assert isinstance(up, Opened)
        self.assertEqual(fed(client, up.answer), [Opened(b"")])
        for one, other in ((client, server), (server, client)):
            [message] = fed(other, one.encode(OPTIONS))
            assert isinstance(message, Request)
            self.assertEqual(message.raw, OPTIONS)
        [end] = fed(server, client.close())
        assert isinstance(end, Ended)
        self.assertEqual(fed(client, end.answer), [Ended(b"")])

    def test_refused_to_us(self) -> None:
        """A client's end says why it did not come up."""
        accept = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        )
        for answer, why in (
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "answered 403"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "answered 100"),
            (b"SIP/2.0 400 Bad Request\r\n\r\n", "Bad HTTP"),
            (accept + b"\r\n", "accept token"),
            (accept + b"Sec-WebSocket-Protocol: \xff\r\n\r\n", "failed"),
            (b"a" * HANDSHAKE_LIMIT, "too long"),
        ):
            client = SipWebSocket(LIMIT, "[::1]:80")
            client.begin()
            [end] = fed(client, answer)
            assert isinstance(end, Ended)
            self.assertIn(why, end.refusal or "")
            self.assertEqual(end.answer, b"")

    def test_no_sip(self) -> None:
        """A client's end does not take a WebSocket for another purpose."""
        client, server = SipWebSocket(LIMIT, "a.example"), WSConnection(ConnectionType.SERVER)
        server.receive_data(client.begin())
        [asked] = server.events()
        assert isinstance(asked, ws.Request)
        self.assertEqual((asked.host, asked.subprotocols), ("a.example", ["sip"]))
        [end] = fed(client, server.send(ws.AcceptConnection()))
        assert isinstance(end, Ended)
        self.assertIn("does not speak SIP", end.refusal or "")


class MessageTests(SynchronousTestCase):
    def one(self, data: bytes, limit: int = LIMIT) -> WebSocketEvent:
        """Feed a stream that is one event."""
        [event] = fed(opened(limit), data)
        return event

    def message(self, data: bytes) -> Request:
        event = self.one(data)
        assert isinstance(event, Request)
        return event

    def malformed(self, data: bytes) -> Malformed:
        event = self.one(data)
        assert isinstance(event, Malformed)
        return event

    def test_text_and_binary(self) -> None:
        """Both kinds carry messages, and Content-Length may be missing: the message has an end."""
        whole = OPTIONS + "söund".encode()
        for opcode in (1, 2):
            self.assertEqual(self.message(frame(opcode, whole)).body, "söund".encode())

    def test_fragments(self) -> None:
        """A message in pieces is put together, also when they cut a character in two."""
        whole = OPTIONS + "ö".encode()
        pieces = text(whole[:-1], fin=False) + frame(0, b"", fin=False) + frame(0, whole[-1:])
        self.assertEqual(self.message(pieces).body, "ö".encode())

    def test_content_length(self) -> None:
        """Octets behind the body are dropped; a body that is too short is told as 400."""
        with_length = OPTIONS.replace(b"Max-Forwards: 70", b"Content-Length: 3")
        self.assertEqual(self.message(text(with_length + b"abcdef")).body, b"abc")
        bad = self.malformed(text(with_length + b"a"))
        self.assertEqual(bad.error.status, 400)
        self.assertIsInstance(bad.message, Request)

    def test_keep_alives(self) -> None:
        """Line ends, pings and pongs are signs of life; only pings want an answer."""
        self.assertEqual(self.one(text(b"\r\n\r\n")), KeepAlive())
        for nothing in (text(b"\r\n"), text(b""), frame(2), frame(10), frame(10, b"unasked")):
            self.assertEqual(self.one(nothing), Heard(b""))
        self.assertEqual(self.one(frame(9, b"are you there")), Heard(b"\x8a\x0dare you there"))

    def test_ours(self) -> None:
        """We send text, and what is no UTF-8 as binary."""
        server = opened()
        self.assertEqual(server.encode("ö".encode()), b"\x81\x02" + "ö".encode())
        self.assertEqual(server.encode(b"\xff"), b"\x82\x01\xff")

    def test_rubbish(self) -> None:
        """A message that is none is told, and the next one is served."""
        bad, message = fed(opened(), text(b"hello") + text(OPTIONS))
        self.assertIsInstance(bad, Malformed)
        self.assertIsInstance(message, Request)

    def test_too_long(self) -> None:
        """Over the limit there is a 513 to send, then 1009, and nothing else is read."""
        whole = OPTIONS + b"x" * LIMIT
        for stream in (
            text(whole),
            frame(2, whole),
            text(whole[:3000], fin=False) + frame(0, whole[3000:]),
        ):
            server = opened()
            [bad] = fed(server, stream + text(OPTIONS) + frame(9))
            assert isinstance(bad, Malformed)
            self.assertEqual((bad.error.status, bad.raw), (513, OPTIONS))
            self.assertIsInstance(bad.message, Request)
            self.assertIs(server.error, bad.error)
            self.assertEqual(server.close(), b"\x88\x02\x03\xf1")
            self.assertEqual(fed(server, text(OPTIONS)), [])
            self.assertEqual(fed(server, frame(8, b"\x03\xf1")), [Ended(b"")])

    def test_exactly_the_limit(self) -> None:
        """A message of the limit is served."""
        whole = OPTIONS + b"x" * (LIMIT - len(OPTIONS))
        self.assertEqual(len(self.message(text(whole)).raw), LIMIT)


class EndTests(SynchronousTestCase):
    def test_peer_closes(self) -> None:
        """A close frame is answered with its code, and nothing behind it is read."""
        events = fed(opened(), frame(8, b"\x03\xe9away") + text(OPTIONS))
        self.assertEqual(events, [Ended(b"\x88\x06\x03\xe9away")])
        self.assertEqual(fed(opened(), frame(8)), [Ended(b"\x88\x00")])

    def test_we_close(self) -> None:
        """Until the peer has answered, what it still sends is thrown away."""
        server = opened()
        self.assertEqual(server.close(), b"\x88\x02\x03\xe8")
        self.assertEqual(server.close(), b"")
        self.assertEqual(fed(server, text(OPTIONS) + frame(9)), [])
        self.assertEqual(fed(server, frame(8, b"\x03\xe8")), [Ended(b"")])
        self.assertEqual(fed(server, text(OPTIONS)), [])

    def test_not_open(self) -> None:
        """Before the handshake there is nothing to close."""
        self.assertEqual(SipWebSocket().close(), b"")

    def test_violations(self) -> None:
        """What breaks RFC 6455 is told, and ends the connection with the code for it."""
        for data, code in (
            (text(OPTIONS, masked=False), 1002),
            (frame(3), 1002),
            (frame(0, b"no start"), 1002),
            (text(b"a", fin=False) + text(b"b"), 1002),
            (frame(9, b"x" * 126), 1002),
            (frame(9, fin=False), 1002),
            (b"\xc1" + text(b"reserved bit")[1:], 1002),
            (b"\x81\xff" + b"\xff" * 8 + b"keys", 1002),
            (frame(8, b"\x03"), 1002),
            (frame(8, b"\x00\x01"), 1002),
            (text(b"\xff"), 1007),
            (text(b"\xc3"), 1007),
            (frame(8, b"\x03\xe8\xff"), 1007),
        ):
            bad, end = fed(opened(), data + text(OPTIONS))
            assert isinstance(bad, Malformed) and isinstance(end, Ended)
            self.assertIn("not a WebSocket frame", str(bad.error))
            self.assertEqual(end.answer[2:4], code.to_bytes(2, "big"), data)
        server = opened()
        server.close()
        self.assertEqual(fed(server, text(b"a", masked=False)), [Ended(b"")])


class ArbitraryTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(st.lists(_FRAMES, max_size=6), st.lists(st.integers(0, 10_000), max_size=20))
    def test_slicing_does_not_matter(self, frames: list[bytes], cuts: list[int]) -> None:
        """The same comes out however TCP happened to cut the stream."""
        stream = HANDSHAKE + b"".join(frames)
        server = SipWebSocket(LIMIT)
        events = [event for piece in sliced(stream, cuts) for event in fed(server, piece)]
        self.assertEqual(shown(events), shown(fed(SipWebSocket(LIMIT), stream)))

    def swallowed(self, make: Callable[[], SipWebSocket], pieces: list[bytes]) -> None:
        """See that octets do not raise, and that nothing comes behind the end."""
        machine = make()
        machine.begin()
        events = [event for piece in pieces for event in fed(machine, piece)]
        ends = [at for at, event in enumerate(events) if isinstance(event, Ended)]
        self.assertIn(ends, ([], [len(events) - 1]))
        machine.close()

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=6), st.integers(0, len(HANDSHAKE)))
    def test_garbage(self, pieces: list[bytes], at: int) -> None:
        """No octets make it raise: at first, in the middle of the handshake, or behind it."""
        for make in (SipWebSocket, partial(SipWebSocket, LIMIT, "a:1")):
            self.swallowed(make, [*pieces, b"\r\n\r\n"])
        self.swallowed(SipWebSocket, [HANDSHAKE[:at], *pieces, HANDSHAKE[at:], *pieces])
        self.swallowed(opened, pieces)

    @settings(deadline=None)
    @given(st.integers(0, len(HANDSHAKE) - 1), st.binary(max_size=3), st.integers(0, 4))
    def test_damaged_handshake(self, at: int, other: bytes, length: int) -> None:
        """No damage to a handshake makes it raise."""
        self.swallowed(SipWebSocket, [HANDSHAKE[:at] + other + HANDSHAKE[at + length :]])

    def test_every_octet_alone(self) -> None:
        """A handshake and a message may come one octet at a time."""
        server = SipWebSocket(LIMIT)
        stream = HANDSHAKE + text(OPTIONS)
        events = [event for at in range(len(stream)) for event in fed(server, stream[at : at + 1])]
        self.assertEqual([type(event) for event in events], [Opened, Request])

    def test_random_client_keys(self) -> None:
        """Whatever the mask, the message is the same."""
        client = WSConnection(ConnectionType.CLIENT)
        server = SipWebSocket(LIMIT)
        request = ws.Request(host="a", target="/", subprotocols=["sip"])
        [up] = fed(server, client.send(request))
        assert isinstance(up, Opened)
        client.receive_data(up.answer)
        [accepted] = client.events()
        assert isinstance(accepted, ws.AcceptConnection)
        self.assertEqual(accepted.subprotocol, "sip")
        for _ in range(20):
            body = os.urandom(30)
            [message] = fed(server, client.send(ws.BytesMessage(OPTIONS + body)))
            assert isinstance(message, Request)
            self.assertEqual(message.body, body)
