"""A server behind a NAT: which of its addresses whom is told, and which it knows for its own."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Srf
from drachtwist.errors import LocalProtocolError
from drachtwist.net.contacts import Contact
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.message import Request, Response
from tests.server.doubles import PORT, Bench, request
from tests.server.phones import ServerCase
from tests.server.test_uac import reply

OUTSIDE = "192.0.2.10"
INSIDE = "127.0.1.1"
NAMES = ("sip.example", "pbx.example")
HOME = Contact(f"sip:{INSIDE}", OUTSIDE, "127.0.1.0/24", NAMES)
FAR = "127.0.3.50"
NEAR = "127.0.1.50"


def bench(**settings: Any) -> Bench:
    """Make a server behind a NAT."""
    return Bench(host=INSIDE, contact=HOME, **settings)


class AddressTests(SynchronousTestCase):
    def test_new_requests(self) -> None:
        """Via, Contact, and From of a new request have the address that the peer can reach."""
        for host, own in ((FAR, OUTSIDE), (NEAR, INSIDE)):
            server = bench()
            echo = server.link().command(f"sip||\r\nINVITE sip:bob@{host} SIP/2.0\r\n\r\n")[0]
            [sent] = server.take()
            assert isinstance(sent, Request)
            self.assertEqual(sent.vias[0].host, own)
            self.assertEqual(sent.get("Contact"), f"<sip:{own}:{PORT}>")
            self.assertTrue((sent.get("From") or "").startswith(f"<sip:{own}:{PORT}>;tag="))
            self.assertIn(f"|udp|{own}|{PORT}|", echo)

    def test_localhost(self) -> None:
        """``localhost`` of an application becomes that address, in requests and responses."""
        for host, own in ((FAR, OUTSIDE), (NEAR, INSIDE)):
            server = bench()
            app = server.link("invite")
            app.command(
                f"sip||\r\nOPTIONS sip:bob@{host} SIP/2.0\r\nFrom: <sip:me@localhost>\r\n"
                "To: <sip:you@localhost>\r\nContact: <sip:me@localhost>\r\n\r\n"
            )
            [sent] = server.take()
            self.assertTrue((sent.get("From") or "").startswith(f"<sip:me@{own}:{PORT}>"))
            self.assertEqual(sent.get("To"), f"<sip:you@{own}:{PORT}>")
            self.assertEqual(sent.get("Contact"), f"<sip:me@{own}:{PORT}>")
            server.receive(request("INVITE"), host=host)
            [frame] = app.take()
            app.answer(frame.split("|")[8], "SIP/2.0 200 OK\r\nContact: <sip:me@localhost>")
            answer = server.take()[-1]
            self.assertEqual(answer.get("Contact"), f"<sip:me@{own}:{PORT}>")

    def test_names_that_have_to_be_looked_up(self) -> None:
        """Who is only a name yet is taken to be outside, until it is known."""
        for host, own in ((FAR, OUTSIDE), (NEAR, INSIDE)):
            server = bench()
            link = server.link()
            [echo] = link.command("sip||\r\nINVITE sip:bob@a.example SIP/2.0\r\n\r\n")
            self.assertIn(f"\r\nContact: <sip:{OUTSIDE}:{PORT}>\r\n", echo)
            server.answer_all({("A", "a.example"): [host]})
            [sent] = server.take()
            assert isinstance(sent, Request)
            self.assertEqual(sent.vias[0].host, own)
            self.assertEqual(sent.get("Contact"), f"<sip:{own}:{PORT}>")

    def test_dialog(self) -> None:
        """A dialog keeps to the address, from the answer to the BYE."""
        for host, own in ((FAR, OUTSIDE), (NEAR, INSIDE)):
            server = bench()
            app = server.link("invite")
            server.receive(request("INVITE"), host=host)
            [frame] = app.take()
            self.assertIn(f"|{own}|{PORT}|\r\n", frame)
            app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
            answer = server.take()[-1]
            self.assertEqual(answer.get("Contact"), f"<sip:{own}:{PORT}>")
            server.receive(
                request("ACK", branch="ack", to_tag=answer.to.tag or ""),
                host=host,
            )
            [frame] = app.take()
            app.ask(frame.split("|")[9], "BYE sip:x SIP/2.0")
            bye = server.take()[-1]
            self.assertEqual(bye.vias[0].host, own)

    def test_own_addresses(self) -> None:
        """Either address and each name is the server, with the right port."""
        core = bench().core
        for uri, own in (
            (f"sip:{INSIDE}:{PORT}", True),
            (f"sip:bob@{OUTSIDE}:{PORT};lr", True),
            (f"sip:SIP.example:{PORT}", True),
            (f"sips:pbx.example:{PORT}", True),
            ("sip:sip.example", False),
            (f"sip:{OUTSIDE}:5060", False),
            (f"sip:other.example:{PORT}", False),
            ("tel:1", False),
            ("nonsense", False),
        ):
            self.assertIs(core.is_own(uri), own, uri)
        usual = bench()
        usual.wire.listeners = [
            type(one)(one.protocol, one.host, 5060, one.contact) for one in usual.wire.listeners
        ]
        self.assertTrue(usual.core.is_own("sip:sip.example"))
        self.assertFalse(usual.core.is_own("sips:sip.example"))

    def proxied(self, host: str, uri: str, target: str, *words: str) -> Request:
        """Let a request be proxied; give what was sent."""
        server = self.server = bench()
        app = self.app = server.link("invite", "register")
        method = words[0] if words else "INVITE"
        text = request(method)
        server.receive(
            text.replace(f"{method} sip:app@127.0.0.1:{PORT}", f"{method} {uri}"), host=host
        )
        [frame] = app.take()
        server.take()
        app.command(
            f"proxy|{frame.split('|')[8]}|remainInDialog|fullResponse|followRedirects|serial"
            f"|5s|9s|{target}\r\nINVITE x SIP/2.0\r\n"
            "P-Asserted-Identity: <sip:me@localhost>\r\n\r\n"
        )
        sent = [one for one in server.take() if isinstance(one, Request)]
        return sent[-1]

    def test_proxied_uri(self) -> None:
        """A Request-URI that is the server by any of its names becomes the target."""
        target = f"sip:bob@{FAR}:32071"
        for uri, expected in (
            (f"sip:app@{OUTSIDE}:{PORT}", target),
            (f"sip:app@{INSIDE}:{PORT}", target),
            (f"sip:app@pbx.example:{PORT}", target),
            ("sip:app@pbx.example", "sip:app@pbx.example"),
        ):
            self.assertEqual(self.proxied(FAR, uri, target).uri, expected)

    def test_proxied(self) -> None:
        """Both sides of a call get an address that they can reach."""
        near, far = f"sip:bob@{NEAR}:32071", f"sip:bob@{FAR}:32071"
        for caller, target, own, routes in (
            (FAR, far, OUTSIDE, [OUTSIDE]),
            (NEAR, near, INSIDE, [INSIDE]),
            (NEAR, far, OUTSIDE, [OUTSIDE, INSIDE]),
            (FAR, near, INSIDE, [INSIDE, OUTSIDE]),
        ):
            sent = self.proxied(caller, f"sip:app@{INSIDE}:{PORT}", target)
            self.assertEqual(sent.vias[0].host, own)
            self.assertEqual(
                sent.get_all("Record-Route"), [f"<sip:{host}:{PORT};lr>" for host in routes]
            )
            self.assertEqual(sent.get("Max-Forwards"), "69")
            self.assertEqual(sent.get("P-Asserted-Identity"), f"<sip:me@{own}:{PORT}>")

    def test_path(self) -> None:
        """A registrar gets one Path, with the address that it can reach."""
        sent = self.proxied(NEAR, f"sip:app@{INSIDE}:{PORT}", f"sip:{FAR}:32071", "REGISTER")
        self.assertEqual(sent.get_all("Path"), [f"<sip:{OUTSIDE}:{PORT};lr>"])
        self.assertEqual(sent.get_all("Record-Route"), [])

    def test_routes(self) -> None:
        """Requests in such a call pass, whichever of our addresses leads them here."""
        for routes, left in (
            ([OUTSIDE, INSIDE], None),
            ([INSIDE, OUTSIDE], None),
            (["sip.example"], None),
            (["pbx.example", INSIDE], None),
            ([OUTSIDE, "203.0.113.9"], f"<sip:203.0.113.9:{PORT};lr>"),
            (["203.0.113.9", OUTSIDE], ""),
        ):
            invite = self.proxied(NEAR, f"sip:app@{INSIDE}:{PORT}", f"sip:bob@{FAR}:32071")
            self.server.receive(reply(invite, 200), port=32071, host=FAR)
            self.server.take()
            extra = "\n".join(f"Route: <sip:{host}:{PORT};lr>" for host in routes)
            bye = request("BYE", number=2, to_tag="b", extra=extra)
            self.server.receive(
                bye.replace(f"BYE sip:app@127.0.0.1:{PORT}", f"BYE sip:bob@{FAR}:32071"), host=NEAR
            )
            [sent] = self.server.take()
            if left == "":
                assert isinstance(sent, Response)
                self.assertEqual(sent.status, 481)
                continue
            assert isinstance(sent, Request)
            self.assertEqual((sent.method, sent.uri), ("BYE", f"sip:bob@{FAR}:32071"))
            self.assertEqual(sent.get("Route"), left)
            self.assertEqual(sent.vias[0].host, OUTSIDE)

    def test_settings(self) -> None:
        """Contacts are texts or values, and nothing else."""
        several: Any = ["sip:127.0.0.1", HOME]
        self.assertEqual(ServerConfig(contacts=several).contacts, ("sip:127.0.0.1", HOME))
        bad: Any = (5,)
        self.assertRaises(LocalProtocolError, ServerConfig, contacts=bad)


class NatTests(ServerCase):
    """The server on real sockets, on two addresses; phones on both sides of a made-up NAT."""

    def setUp(self) -> None:
        """Make an application."""
        self.srf = Srf()

    async def start(self, transport: str) -> DrachtioServer:
        """Start the server, and connect the application."""
        server = await self.serve(
            contacts=(
                Contact(f"sip:{INSIDE}:0;transport={transport}", OUTSIDE, "127.0.1.0/24", NAMES),
                Contact(f"sip:127.0.2.1:0;transport={transport}", None, "127.0.2.0/24"),
            )
        )
        self.link = await self.connect(self.srf, server)
        assert server.transports is not None
        self.ports = [one.port for one in server.transports.listeners]
        self.port = self.ports[0]
        return server

    async def both_directions(self, transport: str) -> None:
        """Calls from and to phones inside and outside."""
        self.answering(self.srf)
        server = await self.start(transport)
        near = self.talker(f"sip:{NEAR}:0;transport={transport}", server)
        far = self.talker(f"sip:{FAR}:0;transport={transport}", server)
        second = self.talker(f"sip:127.0.2.50:0;transport={transport}", server, at=1)
        for phone, own in ((near, INSIDE), (far, OUTSIDE)):
            invite, answer = await phone.call(f"sip:app@{own}:{self.port}")
            uri: Any = answer.contacts[0].parsed_uri
            self.assertEqual((uri.host, uri.port), (own, self.port))
            await phone.hang_up(invite, answer)
        for phone, own, port in (
            (near, INSIDE, self.port),
            (far, OUTSIDE, self.port),
            (second, "127.0.2.1", self.ports[1]),
        ):
            seen = await self.call_phone(self.srf, phone)
            for one in seen:
                self.assertEqual((one.vias[0].host, one.vias[0].port), (own, port))
                self.assertEqual(cast(Any, one.from_.parsed_uri).host, own)
            self.assertEqual(cast(Any, seen[0].contacts[0].parsed_uri).host, own)

    async def test_udp(self) -> None:
        """Calls in both directions over UDP."""
        await self.both_directions("udp")

    async def test_tcp(self) -> None:
        """Calls in both directions over TCP."""
        await self.both_directions("tcp")

    async def test_greeting(self) -> None:
        """Applications are told the external addresses, and the bound ones."""
        server = await self.start("udp")
        first, second = server.transports.listeners  # type: ignore[union-attr]
        self.assertEqual(
            self.link.host_ports, (f"udp/{OUTSIDE}:{first.port}", f"udp/127.0.2.1:{second.port}")
        )
        self.assertEqual(self.link.local_host_ports, (str(first), str(second)))
        self.assertEqual(str(first), f"udp/{INSIDE}:{first.port}")

    async def proxied(self, transport: str) -> None:
        """Calls from inside to outside; each side ends one with a BYE."""
        far = self.talker(f"sip:{FAR}:0;transport={transport}")
        self.forwarding(self.srf, far)
        server = await self.start(transport)
        near = self.talker(f"sip:{NEAR}:0;transport={transport}", server)
        far.server = near.server
        for routes in (
            None,
            (f"<sip:pbx.example:{self.port};lr>",),
            (f"<sip:{OUTSIDE}:{self.port};lr>",),
        ):
            calling = Deferred.fromCoroutine(near.call(f"sip:bob@sip.example:{self.port}"))
            arrived = await far.pick_up()
            self.assertEqual((arrived.uri, arrived.vias[0].host), (far.uri, OUTSIDE))
            hosts = [one.parsed_uri.host for one in arrived.get_parsed_header("Record-Route")]
            self.assertEqual(hosts, [OUTSIDE, INSIDE])
            invite, answer = await calling
            await far.request("ACK")
            ending = Deferred.fromCoroutine(near.hang_up(invite, answer, routes))
            bye = await far.request("BYE")
            self.assertEqual(bye.get_all("Route"), [])
            far.answer(bye, 200)
            await ending

        calling = Deferred.fromCoroutine(near.call(f"sip:bob@{INSIDE}:{self.port}"))
        arrived = await far.pick_up()
        invite, _ = await calling
        await far.request("ACK")
        sent = far.make(
            "BYE",
            near.uri,
            call=invite.call_id,
            from_=f"{arrived.get('To')};tag=callee",
            to=invite.get("From") or "",
            routes=tuple(arrived.get_all("Record-Route")),
        )
        far.send(sent)
        bye = await near.request("BYE")
        self.assertEqual(bye.vias[0].host, INSIDE)
        near.answer(bye, 200)
        self.assertEqual((await far.response(sent)).status, 200)

    async def test_proxied_udp(self) -> None:
        """A proxied call over UDP."""
        await self.proxied("udp")

    async def test_proxied_tcp(self) -> None:
        """A proxied call over TCP."""
        await self.proxied("tcp")
