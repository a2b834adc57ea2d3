"""Clients behind WebSockets: what the server writes for them, and which way it goes to them."""

from __future__ import annotations

from drachtwist.net.sip.via import response_hop
from drachtwist.server.http_routing import query_of
from drachtwist.server.ways import target_of
from drachtwist.sip.fields import Via
from drachtwist.sip.locating import hop_of
from drachtwist.sip.message import Request, Response
from drachtwist.sip.uri import SipUri, Uri
from tests.server.doubles import HOST, PORT, Bench, Link, request
from tests.server.test_uas import ServerTestCase, transaction

BROWSER = 40000
"""The port that the browser's connection comes from."""
PHONE = 32071
CONTACT = "sip:xyz@df7jal23ls0d.invalid;transport=ws"


class BrowserTestCase(ServerTestCase):
    def setUp(self) -> None:
        """A server with WebSockets, and an application that wants everything."""
        self.bench = Bench(protocols=("ws", "wss", "udp", "tcp"))
        verbs = ("invite", "options", "message", "register", "subscribe", "info", "notify")
        self.app: Link = self.bench.link(*verbs)

    def written(self, method: str, **how: object) -> str:
        """Write a request of a browser."""
        text = request(method, port=BROWSER, **how)  # type: ignore[arg-type]
        text = text.replace(f"SIP/2.0/UDP {HOST}:{BROWSER}", "SIP/2.0/WS df7jal23ls0d.invalid")
        text = text.replace(f";rport={BROWSER}", f";rport={BROWSER};received={HOST}")
        return text.replace(f"Contact: <sip:alice@{HOST}:{BROWSER}>", f"Contact: <{CONTACT}>")

    def browser(
        self, method: str, *, protocol: str = "ws", at: int = BROWSER, **how: object
    ) -> None:
        """Let a browser send a request."""
        self.bench.receive(self.written(method, **how), at, protocol)

    def register(self, at: int = BROWSER) -> None:
        """Let the browser register, and accept that."""
        self.bench.clock.advance(0.25)
        self.browser("REGISTER", call=f"r{self.bench.clock.seconds()}", at=at)
        [frame] = self.app.take()
        text = f"SIP/2.0 200 OK\r\nContact: <{CONTACT}>;expires=60"
        self.app.answer(transaction(frame), text)
        self.bench.take()

    def close(self, port: int = BROWSER, protocol: str = "ws") -> None:
        """Close a connection."""
        self.bench.wire.closed.add(self.bench.wire.flow(HOST, port, protocol))

    def sent(self) -> list[tuple[str, int, Request | Response]]:
        """Take what was sent: transport, port and message."""
        flows = [flow for flow, _ in self.bench.wire.sent]
        messages = self.bench.take()
        return [
            (flow.protocol, flow.remote_port, message)
            for flow, message in zip(flows, messages, strict=True)
        ]

    def only(self, protocol: str, port: int) -> Request | Response:
        """Take the one message that was sent, which has to have gone there."""
        [(by, to, message)] = self.sent()
        self.assertEqual((by, to), (protocol, port))
        return message

    def request(self, protocol: str, port: int) -> Request:
        message = self.only(protocol, port)
        assert isinstance(message, Request)
        return message


class CalledTests(BrowserTestCase):
    def answer(self, protocol: str) -> tuple[Response, str]:
        """Let a browser call, and answer; give the 200 and what the application was told."""
        self.browser("INVITE", protocol=protocol)
        [frame] = self.app.take()
        self.bench.take()
        [echo] = self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.assertEqual(echo.split("|")[6], "tcp", echo)
        [(by, port, response)] = self.sent()
        assert isinstance(response, Response)
        self.assertEqual((by, port), (protocol, BROWSER))
        self.browser("ACK", protocol=protocol, branch="ack", to_tag=response.to.tag)
        self.app.take()
        return response, frame

    def test_frames(self) -> None:
        """The application is told TCP, and the address that it came from."""
        for protocol in ("ws", "wss"):
            self.setUp()
            response, frame = self.answer(protocol)
            self.assertEqual(frame.split("|")[4:7], ["tcp", HOST, str(BROWSER)])
            self.assertIn("\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;", frame)
            own = {"ws": f"sip:{HOST}:{PORT}", "wss": f"sips:{HOST}:{PORT}"}[protocol]
            self.assertEqual(response.get("Contact"), f"<{own};transport=ws>")

    def test_in_dialog(self) -> None:
        """Requests in the call take the connection that it came on, and nothing is looked up."""
        for protocol in ("ws", "wss"):
            self.setUp()
            self.answer(protocol)
            [echo] = self.app.ask("c1;from-tag=a", "BYE sip:x SIP/2.0")
            self.assertEqual(echo.split("|")[6], "tcp", echo)
            bye = self.request(protocol, BROWSER)
            self.assertEqual((bye.method, bye.uri), ("BYE", CONTACT))
            self.assertTrue((bye.get("Via") or "").startswith(f"SIP/2.0/{protocol.upper()} {HOST}"))
            self.assertEqual(self.bench.looked_up, [])

    def test_no_contact(self) -> None:
        """Without a Contact the target is the address that the call came from."""
        text = self.written("SUBSCRIBE").replace(f"Contact: <{CONTACT}>\n", "")
        for protocol, uri in (
            ("ws", f"sip:{HOST}:{BROWSER};transport=ws"),
            ("wss", f"sips:{HOST}:{BROWSER};transport=ws"),
        ):
            self.setUp()
            self.bench.receive(text, BROWSER, protocol)
            [frame] = self.app.take()
            self.app.answer(transaction(frame), "SIP/2.0 202 Accepted")
            self.bench.take()
            self.app.ask("c1;from-tag=a", "NOTIFY sip:x SIP/2.0\r\nSubscription-State: active")
            self.assertEqual(self.request(protocol, BROWSER).uri, uri)

    def test_moved(self) -> None:
        """A call goes on over the connection of the latest registration."""
        self.answer("ws")
        self.close()
        self.register(at=BROWSER + 1)
        self.app.ask("c1;from-tag=a", "INFO sip:x SIP/2.0")
        self.assertEqual(self.request("ws", BROWSER + 1).uri, CONTACT)
        self.app.ask("c1;from-tag=a", "BYE sip:x SIP/2.0")
        self.assertEqual(self.request("ws", BROWSER + 1).method, "BYE")

    def test_web_application(self) -> None:
        """A web application is told TCP too."""
        flow = self.bench.wire.flow(HOST, BROWSER, "wss")
        query = query_of(Request.from_bytes(b"INVITE sip:a@b SIP/2.0\r\n\r\n"), flow)
        self.assertEqual(query.protocol, "tcp")


class CallingTests(BrowserTestCase):
    def invite(self) -> Request:
        """Call the browser that has registered; give the INVITE."""
        [echo] = self.app.command(f"sip||\r\nINVITE {CONTACT} SIP/2.0\r\n\r\n")
        self.assertEqual(echo.split("|")[6], "tcp", echo)
        return self.request("ws", BROWSER)

    def respond(self, invite: Request) -> str:
        """Let the browser answer; give the dialog."""
        lines = [
            "SIP/2.0 200 OK",
            *[f"{name}: {invite.get(name)}" for name in ("Via", "From", "Call-ID", "CSeq")],
            f"To: {invite.get('To')};tag=b",
            f"Contact: <{CONTACT}>",
        ]
        self.bench.receive("\n".join(lines) + "\n\n", BROWSER, "ws")
        [frame] = self.app.take()
        self.assertEqual(frame.split("|")[4], "tcp")
        return frame.split("|")[9]

    def test_call(self) -> None:
        """A registered browser is called over its connection, and so is all that follows."""
        self.register()
        invite = self.invite()
        self.assertEqual(invite.uri, CONTACT)
        self.assertEqual(invite.get("Contact"), f"<sip:{HOST}:{PORT};transport=ws>")
        self.assertTrue((invite.get("Via") or "").startswith(f"SIP/2.0/WS {HOST}:{PORT};branch="))
        dialog = self.respond(invite)
        for method in ("ACK", "INFO", "BYE"):
            self.app.ask(dialog, f"{method} sip:x SIP/2.0")
            sent = self.request("ws", BROWSER)
            self.assertEqual((sent.method, sent.uri), (method, CONTACT))
        self.assertEqual(self.bench.looked_up, [])

    def test_gone(self) -> None:
        """When the connection is closed there is a 410, until the browser registers again."""
        self.register()
        self.close()
        _, told = self.app.command(f"sip||\r\nINVITE {CONTACT} SIP/2.0\r\n\r\n")
        self.assertIn("\r\nSIP/2.0 410 Gone\r\n", told)
        self.register(at=BROWSER + 1)
        self.app.command(f"sip||\r\nINVITE {CONTACT} SIP/2.0\r\n\r\n")
        self.request("ws", BROWSER + 1)

    def test_target(self) -> None:
        """A WebSocket is opened to a target that says so, at the port of HTTP if it says none."""
        for uri, protocol, port in (
            ("sip:a@127.0.0.9;transport=ws", "ws", 80),
            ("sip:a@127.0.0.9:8080;transport=WS", "ws", 8080),
            ("sips:a@127.0.0.9;transport=ws", "wss", 443),
            ("sip:a@127.0.0.9:8443;transport=wss", "wss", 8443),
        ):
            [echo] = self.app.command(f"sip||\r\nOPTIONS {uri} SIP/2.0\r\n\r\n")
            self.assertIn("|OK|application|", echo)
            asked = self.request(protocol, port)
            self.assertTrue((asked.get("Via") or "").startswith(f"SIP/2.0/{protocol.upper()} "))

    def test_not_offered(self) -> None:
        """Without WebSockets there is no way to such a target."""
        app = Bench().link()
        [told] = app.command("sip||\r\nOPTIONS sip:a@127.0.0.9;transport=ws SIP/2.0\r\n\r\n")
        self.assertIn("|NOK|requested protocol/transport not available", told)

    def test_no_transport(self) -> None:
        """A URI without a transport is never one of WebSockets, whatever the first contact is."""
        self.app.command("sip||\r\nOPTIONS sip:a@127.0.0.9:5070 SIP/2.0\r\n\r\n")
        self.request("udp", 5070)


class ProxyTests(BrowserTestCase):
    def proxy(self, to: str, method: str = "INVITE") -> None:
        """Let the application hand a request back."""
        [frame] = self.app.take()
        how = "remainInDialog|fullResponse|followRedirects|serial"
        self.app.command(f"proxy|{transaction(frame)}|{how}|||{to}")

    def answer(self, asked: Request, contact: str, port: int, protocol: str) -> None:
        """Let the called side answer."""
        lines = ["SIP/2.0 200 OK", *[f"Via: {via}" for via in asked.get_all("Via")]]
        lines += [f"Record-Route: {one}" for one in asked.get_all("Record-Route")]
        lines += [f"{name}: {asked.get(name)}" for name in ("From", "Call-ID", "CSeq")]
        lines += [f"To: {asked.get('To')};tag=b", f"Contact: <{contact}>", "Expires: 60"]
        self.bench.receive("\n".join(lines) + "\n\n", port, protocol)

    def in_call(self, method: str, uri: str, routes: list[str], caller: bool, number: int) -> str:
        """Write a request in the call."""
        tags = {"from_tag": "a", "to_tag": "b"} if caller else {"from_tag": "b", "to_tag": "a"}
        text = request(method, number=number, branch=f"{method}{caller}", port=PHONE, **tags)
        _, rest = text.split("\n", 1)
        return f"{method} {uri} SIP/2.0\n" + "".join(f"Route: {one}\n" for one in routes) + rest

    def goes(
        self, text: str, came: tuple[str, int], to: tuple[str, int], routes: list[str]
    ) -> None:
        """Let a request in the call come; it has to go on, and its response back."""
        if came[0] == "ws":
            text = text.replace(f"SIP/2.0/UDP {HOST}:{PHONE}", "SIP/2.0/WS df7jal23ls0d.invalid")
            text = text.replace(f"rport={PHONE}", f"rport={came[1]};received={HOST}")
        self.bench.receive(text, came[1], came[0])
        passed = self.request(*to)
        self.assertEqual(passed.get_all("Route"), routes)
        if passed.method == "ACK":
            return
        lines = ["SIP/2.0 200 OK", *[f"Via: {via}" for via in passed.get_all("Via")]]
        lines += [f"{name}: {passed.get(name)}" for name in ("From", "To", "Call-ID", "CSeq")]
        self.bench.receive("\n".join(lines) + "\n\n", to[1], to[0])
        self.assertIsInstance(self.only(*came), Response)

    def test_from_browser(self) -> None:
        """A browser calls a phone: both sides get an address of the proxy that they can reach."""
        self.browser("INVITE")
        self.proxy(f"sip:bob@{HOST}:{PHONE}")
        [_, (protocol, port, asked)] = self.sent()
        self.assertEqual((protocol, port), ("udp", PHONE))
        assert isinstance(asked, Request)
        udp, ws = f"<sip:{HOST}:{PORT};lr>", f"<sip:{HOST}:{PORT};transport=ws;lr>"
        self.assertEqual(asked.get_all("Record-Route"), [udp, ws])
        phone = f"sip:bob@{HOST}:{PHONE}"
        self.answer(asked, phone, PHONE, "udp")
        back = self.only("ws", BROWSER)
        self.assertEqual(back.get_all("Record-Route"), [udp, ws])
        here, there = ("ws", BROWSER), ("udp", PHONE)
        for number, method in ((1, "ACK"), (2, "INFO")):
            text = self.in_call(method, phone, [ws, udp], True, number)
            self.goes(text, here, there, [])
        far = "<sip:far.example;lr>"
        self.goes(self.in_call("INFO", CONTACT, [udp, ws], False, 5), there, here, [])
        both = f"{ws}, {udp}"
        text = self.in_call("MESSAGE", f"sip:bob@{HOST}:{PHONE}", [both], True, 3)
        self.goes(text, here, there, [])
        text = self.in_call(
            "UPDATE", phone, [f"{ws}, {udp}, <sip:{HOST}:{PHONE};lr>", far], True, 4
        )
        self.goes(text, here, there, [f"<sip:{HOST}:{PHONE};lr>", far])
        self.goes(self.in_call("BYE", CONTACT, [udp, ws], False, 6), there, here, [])
        self.assertEqual(self.bench.looked_up, [])

    def test_to_browser(self) -> None:
        """A phone calls a browser that has registered, and each hears the other in the call."""
        self.register()
        self.bench.receive(request("INVITE", port=PHONE), PHONE)
        self.proxy(CONTACT)
        asked = self.sent()[-1][2]
        assert isinstance(asked, Request)
        udp, ws = f"<sip:{HOST}:{PORT};lr>", f"<sip:{HOST}:{PORT};transport=ws;lr>"
        self.assertEqual(asked.get_all("Record-Route"), [ws, udp])
        self.answer(asked, CONTACT, BROWSER, "ws")
        self.only("udp", PHONE)
        here, there = ("udp", PHONE), ("ws", BROWSER)
        self.goes(self.in_call("ACK", CONTACT, [udp, ws], True, 1), here, there, [])
        phone = f"sip:alice@{HOST}:{PHONE}"
        self.goes(self.in_call("INFO", phone, [ws, udp], False, 5), there, here, [])
        self.goes(self.in_call("INFO", CONTACT, [udp, ws], True, 2), here, there, [])
        self.close()
        gone = self.in_call("UPDATE", CONTACT, [udp, ws], True, 3)
        self.bench.receive(gone, PHONE)
        answer = self.only("udp", PHONE)
        assert isinstance(answer, Response)
        self.assertEqual(answer.status, 410)
        self.bench.receive(self.in_call("ACK", CONTACT, [udp, ws], True, 4), PHONE)
        self.assertEqual(self.sent(), [])
        self.app.take()
        self.register(at=BROWSER + 1)
        text = self.in_call("BYE", CONTACT, [udp, ws], True, 5)
        self.goes(text, here, ("ws", BROWSER + 1), [])
        self.assertEqual(self.bench.looked_up, [])

    def test_one_transport(self) -> None:
        """With the same transport on both sides there is one Record-Route."""
        self.register()
        self.browser("INVITE")
        self.proxy(CONTACT)
        asked = self.sent()[-1][2]
        self.assertEqual(asked.get_all("Record-Route"), [f"<sip:{HOST}:{PORT};transport=ws;lr>"])

    def test_gone(self) -> None:
        """A browser whose connection is closed is gone, and the next target has its turn."""
        self.register()
        self.close()
        self.bench.receive(request("INVITE", port=PHONE), PHONE)
        self.proxy(CONTACT)
        refusal = self.sent()[-1][2]
        assert isinstance(refusal, Response)
        self.assertEqual(refusal.status, 410)
        self.app.take()
        self.bench.receive(request("INVITE", call="c3", port=PHONE), PHONE)
        self.proxy(f"{CONTACT}|sip:bob@{HOST}:32099")
        self.assertEqual(self.sent()[-1][:2], ("udp", 32099))

    def test_registered_through_us(self) -> None:
        """A browser that registers with a server behind the proxy is reached through it."""
        self.browser("REGISTER")
        self.proxy(f"sip:{HOST}:{PHONE}", "REGISTER")
        asked = self.request("udp", PHONE)
        self.assertEqual(asked.get_all("Path"), [f"<sip:{HOST}:{PORT};lr>"])
        self.answer(asked, CONTACT, PHONE, "udp")
        self.only("ws", BROWSER)
        self.app.take()
        self.app.command(f"sip||\r\nMESSAGE {CONTACT} SIP/2.0\r\n\r\n")
        self.request("ws", BROWSER)

    def test_phone_registered_through_us(self) -> None:
        """A phone that has an address is not remembered by that."""
        self.bench.receive(request("REGISTER", port=PHONE), PHONE, "tcp")
        self.proxy(f"sip:{HOST}:{PHONE}", "REGISTER")
        self.answer(self.request("udp", PHONE), f"sip:alice@{HOST}:{PHONE}", PHONE, "udp")
        self.assertEqual(len(self.bench.core.registered), 0)


class AddressTests(BrowserTestCase):
    def test_hops(self) -> None:
        """Where a URI of WebSockets leads, as RFC 7118 has it."""
        for text, protocol, port, name in (
            ("sip:a.example;transport=ws", "ws", 80, None),
            ("sips:a.example;transport=ws", "wss", 443, "a.example"),
            ("sip:a.example;transport=wss", "wss", 443, "a.example"),
            ("sip:a.example:5062;transport=ws", "ws", 5062, None),
        ):
            uri = Uri.parse(text)
            assert isinstance(uri, SipUri)
            target = target_of(hop_of(uri))
            self.assertEqual((target.protocol, target.port, target.name), (protocol, port, name))

    def test_responses(self) -> None:
        """A response finds its connection by the address that the request came from."""
        via = Via.parse("SIP/2.0/WSS a.invalid;branch=z9hG4bKa;received=127.0.0.1;rport=40000")
        self.assertEqual(response_hop(via)[:3], ("wss", "127.0.0.1", 40000))
        via = Via.parse("SIP/2.0/WS 127.0.0.9;branch=z9hG4bKa")
        self.assertEqual(response_hop(via)[:3], ("ws", "127.0.0.9", 80))
