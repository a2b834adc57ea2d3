"""What the taps see of real sockets, and of links in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response
from drachtwist.net.tap import Way
from tests.net.test_siptransports import LOCALHOST, TransportsCase, ok, options
from tests.net.test_websockets import WebSocketsCase, message
from tests.server.doubles import request
from tests.whole import Whole

OFFER = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"


class Tap:
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, bytes, bool]] = []
        self.frames: list[tuple[str, bytes, bool]] = []

    def sip_passed(self, way: Way, raw: bytes, sent: bool) -> None:
        """Keep a message."""
        self.seen.append((way.protocol, way.remote_port, raw, sent))

    def frame_passed(self, link: Any, line: str | Sequence[str], raw: bytes, sent: bool) -> None:
        """Keep a frame."""
        self.frames.append((line if isinstance(line, str) else "|".join(line), raw, sent))


class SocketTests(TransportsCase):
    @inlineCallbacks
    def test_udp(self) -> Any:
        """A datagram is seen as it is on the wire, without what is noted in it, both ways."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=udp")
        transports.tap = tap = Tap()
        phone = self.udp_socket()
        port = transports.listeners[0].port
        for each in (b"\r\n\r\n", options(), b"rubbish"):
            phone.sendto(each, (LOCALHOST, port))
        yield recorder.when(recorder.malformed)
        flow = recorder.messages[0][1]
        transports.send(flow, ok())
        source = phone.getsockname()[1]
        self.assertEqual(
            tap.seen,
            [
                ("udp", source, options(), False),
                ("udp", source, b"rubbish", False),
                ("udp", source, ok(), True),
            ],
        )

    @inlineCallbacks
    def test_stream(self) -> Any:
        """What waits for a connection is seen when it is written; pings and pongs are not."""
        a, at_a, b, at_b = self.both()
        a.tap, b.tap = Tap(), Tap()
        target = self.target(b, "tcp")
        flow = a.send_to(target, options(body="one"))
        self.assertEqual(a.tap.seen, [])
        yield at_b.when(at_b.messages)
        a.send(flow, b"\r\n\r\n")
        a.send(flow, options(body="two"))
        yield at_b.when(at_b.messages, 2)
        b.send(at_b.messages[0][1], ok())
        yield at_a.when(at_a.messages)
        sent = [(raw, out) for _, _, raw, out in a.tap.seen]
        self.assertEqual(
            sent, [(options(body="one"), True), (options(body="two"), True), (ok(), False)]
        )
        self.assertEqual([(raw, not out) for _, _, raw, out in b.tap.seen], sent)

    @inlineCallbacks
    def test_nobody_looks(self) -> Any:
        """Whoever looked looks no more once the tap is None."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=udp")
        transports.tap = tap = Tap()
        transports.tap = None
        phone = self.udp_socket()
        phone.sendto(options(), (LOCALHOST, transports.listeners[0].port))
        yield recorder.when(recorder.messages)
        transports.send(recorder.messages[0][1], ok())
        self.assertEqual(tap.seen, [])


class WebSocketTests(WebSocketsCase):
    @inlineCallbacks
    def test_websocket(self) -> Any:
        """Of a WebSocket the SIP is seen, not the frames that it is in."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=ws")
        transports.tap = tap = Tap()
        peer = yield self.client(transports)
        peer.send(message())
        yield recorder.when(recorder.messages)
        flow = recorder.messages[0][1]
        transports.send(flow, ok())
        yield peer.when("200 OK")
        port = flow.remote_port
        self.assertEqual(
            tap.seen, [("ws", port, message().encode(), False), ("ws", port, ok(), True)]
        )


class LinkTests(SynchronousTestCase):
    def test_frames(self) -> None:
        """Deliveries, commands and answers are seen; secrets, routes and pings are not."""
        whole = Whole()

        @whole.srf.invite
        def called(req: Request, res: Response) -> None:
            res.send(486)

        whole.link.protocol  # noqa: B018 - it is up
        [link] = whole.srf.links
        link.tap = tap = Tap()
        whole.pump()
        whole.receive(request("INVITE", body=OFFER))
        heads = [
            (line.split("|")[0 if sent else 1], raw.partition(b"\r\n")[0], sent)
            for line, raw, sent in tap.frames
        ]
        self.assertEqual(heads[0][0], "sip")
        self.assertEqual(heads[0][1][:7], b"INVITE ")
        self.assertEqual([one[0] for one in heads[1:3]], ["sip", "response"])
        self.assertTrue(heads[1][2])
        self.assertEqual(heads[2][1], b"SIP/2.0 486 Busy Here")
        self.assertFalse(any("cymru" in line for line, _, _ in tap.frames))
