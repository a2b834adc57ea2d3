"""What a stranger writes stays what it is: an application on a server, and a caller who forges."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request as WebRequest
from twisted.web.test.requesthelper import DummyChannel

from drachtwist import Request, Response
from drachtwist.errors import LocalProtocolError, RemoteProtocolError
from drachtwist.hosting.server_service import describe
from drachtwist.middleware.webhook import RoutingResource, reject
from drachtwist.net.sip.via import note_source
from drachtwist.server.asking import WebAsker
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.http_routing import query_of
from drachtwist.sip.message import Request as SipRequest
from drachtwist.sip.message import Response as SipResponse
from drachtwist.sip.stream import Malformed, StreamParser
from drachtwist.wire.decisions import RoutingQuery
from tests.server.doubles import Wire, request, sip
from tests.whole import Whole


def decided(query: str) -> RoutingQuery:
    """Ask a function; give what it sees."""
    seen: list[RoutingQuery] = []

    def decide(query: RoutingQuery) -> object:
        seen.append(query)
        return reject(480)

    asked = WebRequest(DummyChannel(), False)
    asked.uri, asked.clientproto, asked.method = f"/?{query}".encode(), b"HTTP/1.0", b"GET"
    RoutingResource(decide).render_GET(asked)
    [found] = seen
    return found


class QueryTests(SynchronousTestCase):
    """The question that a web application is asked."""

    def seen(self, uri: str) -> RoutingQuery:
        """Let the server ask about an INVITE for a URI; give what the function sees."""
        raw = sip(request("INVITE")).replace(b"sip:app@127.0.0.1:32060", uri.encode(), 1)
        asked = query_of(SipRequest.from_bytes(raw), Wire().flow("192.0.2.7", 5060))
        return decided(asked.encode())

    def test_parameters_of_the_uri_are_not_the_callers(self) -> None:
        """A parameter with the name of one of the server's own keys changes nothing."""
        query = self.seen("sip:x@h;source_address=10.0.0.1;fromUser=boss;method=ACK;uri=sip:a;b=c")
        self.assertEqual(
            (query.method, query.source_address, query.from_user), ("INVITE", "192.0.2.7", "alice")
        )
        self.assertEqual((query.uri_user, dict(query.uri_params)), ("x", {"b": "c"}))
        self.assertTrue(query.uri.startswith("sip:x@h;source_address="))

    def test_nothing_ends_or_splits_the_query(self) -> None:
        """What means something in a URL is written so that it does not."""
        for name in ("a#z", "a&fromUser", "é", "a%26b", "a+b", "%"):
            query = self.seen(f"sip:x@h;{name}=1;last=2")
            self.assertEqual(dict(query.uri_params), {name: "1", "last": "2"})
            self.assertEqual((query.domain, query.from_user), ("h", "alice"))

    def test_the_first_value_counts(self) -> None:
        """A real server puts its own values first, and what the URI says behind them as it is."""
        query = decided("method=INVITE&source_address=192.0.2.7&fromUser=a&fromUser=b&method=BYE")
        self.assertEqual((query.method, query.source_address), ("INVITE", "192.0.2.7"))
        self.assertEqual((query.from_user, dict(query.uri_params)), ("a", {}))


class Strange(Whole):
    """Reads what comes from the network as the transports do."""

    def arrive(self, raw: bytes) -> list[str]:
        """Let octets come; give what is answered."""
        flow = self.server.wire.flow("127.0.0.1", 32071)
        for event in StreamParser().feed(note_source(raw, "127.0.0.1", 32071)):
            if isinstance(event, Malformed):
                self.server.core.sip_malformed(event, flow, len(raw))
            elif isinstance(event, (SipRequest, SipResponse)):
                self.server.core.sip_received(event, flow, len(raw))
        return self.heads()


class CallIdTests(SynchronousTestCase):
    """A dialog belongs to those who are in it."""

    def setUp(self) -> None:
        """Connect an application that answers every call."""
        self.whole = Strange()
        self.dialogs: list[Any] = []
        self.asked: list[str] = []

        async def answer(req: Request, res: Response) -> None:
            self.asked.append(req.method)
            self.dialogs.append(await self.whole.srf.create_uas(req, res, local_sdp="v=0\r\n"))

        self.whole.srf.invite(answer)
        self.whole.pump()

    def test_a_bar_in_a_call_id_is_refused(self) -> None:
        """``|`` is no character of a Call-ID or a tag (RFC 3261 section 25.1)."""
        for call, tag in (("c1;from-tag=a|x", "b"), ("c1", "a|x"), ("|", "a")):
            heads = self.whole.arrive(sip(request("INVITE", call=call, from_tag=tag, branch=tag)))
            self.assertEqual(heads, ["400 INVITE"])
        self.assertEqual(self.asked, [])

    def test_nobody_takes_over_a_call(self) -> None:
        """The victim's dialog stays the victim's."""
        self.whole.arrive(sip(request("INVITE", call="victim", from_tag="v")))
        [victim] = self.dialogs
        self.assertEqual(victim.id, "victim;from-tag=v")
        self.whole.arrive(sip(request("INVITE", call="victim;from-tag=v|x", from_tag="w")))
        self.assertEqual(self.whole.srf.find_dialog_by_id(victim.id), victim)
        self.assertEqual(len(self.dialogs), 1)


class Framed(Whole):
    """A server that checks nothing: frames are written by hand."""

    def deliver(self, dialog: str, raw: str, transaction: str = "t1") -> list[bytes]:
        """Deliver a request to the application; give what it sends."""
        line = f"i|sip|network|1|udp|192.0.2.7|5060|10:00:00.0|{transaction}|{dialog}|h|5060|"
        payload = f"{line}\r\n".encode() + sip(raw)
        self.transport.clear()
        self.protocol.dataReceived(b"%d#%b" % (len(payload), payload))
        sent: bytes = self.transport.value()
        return sent.split(b"|sip|")[1:]

    def confirm(self, dialog: str, raw: bytes = b"") -> None:
        """Say that what the application sent last has left."""
        name = self.transport.value().partition(b"#")[2].partition(b"|")[0].decode()
        line = f"i|response|{name}|OK|network|1|udp|h|1|10:00:00.0|t1|{dialog}|x|\r\n"
        payload = line.encode() + raw
        self.protocol.dataReceived(b"%d#%b" % (len(payload), payload))


class FrameworkTests(SynchronousTestCase):
    """The same with a server that lets everything through."""

    def setUp(self) -> None:
        """Connect an application that answers every call."""
        self.whole = Framed()
        self.asked: list[Request] = []
        self.outcomes: list[Any] = []

        def answer(req: Request, res: Response) -> None:
            self.asked.append(req)
            self.whole.srf.create_uas(req, res).addBoth(self.outcomes.append)

        for method in ("invite", "info", "message"):
            getattr(self.whole.srf, method)(answer)
        self.whole.pump()

    def test_a_bar_in_a_call_id_is_refused(self) -> None:
        """Such a request is answered 400, and no handler is asked."""
        for method in ("INVITE", "INFO", "MESSAGE"):
            [sent] = self.whole.deliver(
                "victim;from-tag=v|x;from-tag=a", request(method, call="victim;from-tag=v|x")
            )
            self.assertIn(b"SIP/2.0 400 ", sent)
            self.whole.confirm("")
        self.assertEqual(self.asked, [])
        self.assertTrue(self.whole.srf.idle)

    def test_a_bar_elsewhere_is_nobodys_business(self) -> None:
        """Text may have a ``|``, and NULs are normal in a body."""
        self.whole.deliver("", request("INVITE", extra="Subject: a|b", body="\0|"))
        self.assertEqual(len(self.asked), 1)

    def test_a_nul_is_refused(self) -> None:
        """A NUL in a header is answered 400, and no handler is asked."""
        [sent] = self.whole.deliver("", request("INVITE", extra="Subject: a\0b"))
        self.assertIn(b"SIP/2.0 400 ", sent)
        self.assertEqual(self.asked, [])

    def test_no_dialog_of_another_name(self) -> None:
        """A dialog is filed only under Call-ID and tag of the message behind it."""
        for at, wrong in enumerate(("victim;from-tag=v", "mine;from-tag=b", "mine")):
            self.whole.deliver("", request("INVITE", call="mine"), f"t{at}")
            self.whole.confirm(wrong, sip(request("INVITE", call="mine")))
            self.assertIsNone(self.whole.srf.find_dialog_by_id(wrong))
            self.outcomes.pop().trap(RemoteProtocolError)
        self.whole.deliver("", request("INVITE", call="mine"), "t4")
        self.whole.confirm("mine;from-tag=a", sip(request("INVITE", call="mine")))
        self.assertEqual(self.whole.srf.find_dialog_by_id("mine;from-tag=a"), self.outcomes.pop())


class NulTests(SynchronousTestCase):
    """NUL stands in quoted pairs only (RFC 3261 section 25.1, RFC 4475 section 3.1.1.2)."""

    def setUp(self) -> None:
        """Connect an application that passes calls on with all of their headers."""
        self.whole = Strange()

        def connect(req: Request, res: Response) -> Any:
            return self.whole.srf.create_b2bua(
                req, res, "sip:bob@127.0.0.1:32072", proxy_request_headers=["all"]
            )

        self.whole.srf.invite(connect)
        self.whole.pump()

    def test_refused(self) -> None:
        """A NUL anywhere else is answered 400."""
        for extra in ("Subject: a\0b", "X: \0", 'X: "a\0b"', "Contact: <sip:a\0@b>", "X: \\\0"):
            raw = sip(request("INVITE", extra=extra))
            self.assertEqual(self.whole.arrive(raw), ["400 INVITE"], extra)

    def test_in_a_quoted_pair(self) -> None:
        """One in a quoted pair is passed on as it is."""
        subject = '"a\\\0b"'
        flow = self.whole.server.wire.flow("127.0.0.1", 32071)
        raw = sip(request("INVITE", extra=f"Subject: {subject}"))
        [message] = StreamParser().feed(raw)
        assert isinstance(message, SipRequest)
        self.whole.server.core.sip_received(message, flow, len(raw))
        self.assertEqual(self.whole.request().get("Subject"), subject)


class IdTests(SynchronousTestCase):
    """What is made here cannot be guessed."""

    def test_call_ids(self) -> None:
        """One Call-ID says nothing about the next."""
        whole = Whole()
        ids = []
        for _ in range(3):
            whole.srf.request("sip:bob@127.0.0.1:32071", method="OPTIONS").addErrback(
                lambda _: None
            )
            ids.append(whole.request().call_id)
        first, second, third = ids
        for one, other in ((first, second), (second, third)):
            same = sum(a == b for a, b in zip(one, other, strict=True))
            self.assertLess(same, len(one) // 2)


class SecretTests(SynchronousTestCase):
    """A password in the URL of a web handler is shown to nobody."""

    URL = "http://joe:sword%40fish@127.0.0.1:1/x?y=z"

    def test_settings(self) -> None:
        """Neither settings nor the one who asks show it, nor an error about it."""
        handler = RequestHandler(self.URL)
        config = ServerConfig(request_handlers=(handler,))
        shown = [repr(handler), str(handler), repr(config), *describe(config, None, ())]
        shown.append(repr(WebAsker(Clock(), self.URL)))
        odd = "http://joe:sword/fish@127.0.0.1:1/"  # one that nobody has percent-coded
        for url in (self.URL.replace("http", "ftp"), self.URL + " x", "http://swordfish@h h", odd):
            shown.append(str(self.assertRaises(LocalProtocolError, RequestHandler, url)))
        for text in shown:
            self.assertNotIn("sword", text)
            self.assertNotIn("fish", text)
        self.assertIn("http://joe:(hidden)@127.0.0.1:1/x?y=z", repr(handler))
        self.assertEqual(handler.uri, self.URL)
