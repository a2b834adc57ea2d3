"""Proxying to somebody who registered through other proxies: the Path (RFC 3327)."""

from __future__ import annotations

from typing import Any

from drachtwist import LocalProtocolError
from drachtwist.middleware import Binding
from drachtwist.sip import Request as SipRequest
from tests.app.doubles import Bench
from tests.app.test_proxying import ONE, TWO, ProxyTestCase
from tests.server.doubles import HOST, PORT, head, request

OWN = f"<sip:{HOST}:{PORT};lr>"
EDGE, FAR = f"<sip:{HOST}:32071;lr>", f"<sip:{HOST}:32079;lr>"
OTHER = f"<sip:edge@{HOST}:32072;lr>"
PHONE = "sip:app@10.0.0.5:5070"
OURS = f"sip:app@{HOST}:{PORT}"


def at(*path: str, uri: str = PHONE, **options: Any) -> Binding:
    """Make a place where somebody is reached."""
    given: dict[str, Any] = {"expires_at": 1e12, "q": None, "call_id": "r", "cseq": 1}
    return Binding(uri, path=path, **{**given, **options})


class PathTestCase(ProxyTestCase):
    def to(self, *places: Any, **options: Any) -> dict[int, SipRequest]:
        """Proxy a call there.

        :returns: what was sent, by port.
        """
        self.proxying = self.proxy(*places, **options)
        return self.forwarded()


class PathTests(PathTestCase):
    def test_followed(self) -> None:
        """The request is for the phone, with the whole Path as its Route, and goes to the first."""
        [(port, invite)] = self.to(at(EDGE, FAR)).items()
        self.assertEqual((port, invite.uri), (32071, PHONE))
        self.assertEqual(invite.get_all("Route"), [EDGE, FAR])
        self.whole.respond(invite, 180)
        self.whole.respond(invite, 200)
        self.assertEqual(self.caller_got(), ["180 INVITE", "200 INVITE"])
        self.assertTrue(self.successResultOf(self.proxying).connected)

    def test_any_method(self) -> None:
        """So does a request that makes no dialog."""
        [(port, options)] = self.to(at(EDGE), method="OPTIONS").items()
        self.assertEqual((port, options.uri, options.get_all("Route")), (32071, PHONE, [EDGE]))

    def test_foreign_domain(self) -> None:
        """The Request-URI is that of the phone, whatever the caller asked for."""
        text = request("INVITE").replace(f"INVITE {OURS} ", "INVITE sip:bob@example.net ")
        self.whole.receive(text, 32070)
        self.whole.heads()
        self.srf.proxy_request(self.kept[-1][0], at(EDGE))
        [invite] = self.forwarded().values()
        self.assertEqual(invite.uri, PHONE)

    def test_one_each(self) -> None:
        """Each place has its own, and one without goes straight."""
        found = self.to(at(EDGE), at(OTHER), f"sip:x@{HOST}:32073", forking="simultaneous")
        self.assertEqual(
            {port: (one.uri, one.get_all("Route")) for port, one in found.items()},
            {32071: (PHONE, [EDGE]), 32072: (PHONE, [OTHER]), 32073: (f"sip:x@{HOST}:32073", [])},
        )

    def test_next_in_turn(self) -> None:
        """The Path of a target that refused is not that of the next."""
        [invite] = self.to(at(EDGE), TWO).values()
        self.whole.respond(invite, 486)
        [(port, invite)] = self.forwarded().items()
        self.assertEqual((port, invite.uri, invite.get_all("Route")), (32072, TWO, []))

    def test_cancelled(self) -> None:
        """What belongs to the INVITE goes the same way: CANCEL, and the ACK of its 487."""
        [invite] = self.to(at(EDGE, FAR)).values()
        self.whole.respond(invite, 180)
        self.whole.receive(request("CANCEL"), 32070)
        [(port, cancel)] = self.forwarded().items()
        self.assertEqual((port, head(cancel), cancel.uri), (32071, "CANCEL", PHONE))
        self.assertEqual(cancel.get_all("Route"), [EDGE, FAR])
        self.whole.respond(invite, 487)
        [ack] = [one for one in self.whole.sent() if head(one) == "ACK"]
        assert isinstance(ack, SipRequest)
        self.assertEqual((ack.uri, ack.get_all("Route")), (PHONE, [EDGE, FAR]))

    def test_behind_routes(self) -> None:
        """What the caller wants to pass comes before it (RFC 3261 section 16.6)."""
        [(port, invite)] = self.to(at(OTHER), extra=f"Route: {OWN}, {EDGE}").items()
        self.assertEqual((port, invite.get_all("Route")), (32071, [EDGE, OTHER]))

    def test_through_ourselves(self) -> None:
        """What leads back here is left out: the edge and the registrar may be one server."""
        [(port, invite)] = self.to(at(OWN, EDGE)).items()
        self.assertEqual((port, invite.uri, invite.get_all("Route")), (32071, PHONE, [EDGE]))

    def test_ourselves_alone(self) -> None:
        """Then the phone is where it says."""
        [(port, invite)] = self.to(at(OWN, uri=ONE)).items()
        self.assertEqual((port, invite.uri, invite.get_all("Route")), (32071, ONE, []))

    def test_strict_router(self) -> None:
        """One that is no loose router finds itself in the Request-URI (section 16.6, step 6)."""
        [(port, invite)] = self.to(at(f"<sip:{HOST}:32071>", FAR)).items()
        self.assertEqual((port, invite.uri), (32071, f"sip:{HOST}:32071"))
        self.assertEqual(invite.get_all("Route"), [FAR, f"<{PHONE}>"])

    def test_odd_characters(self) -> None:
        """Nothing in it is taken for something else."""
        odd = f'"a|b?c&d=%25" <sip:e%3f|x@{HOST}:32071;lr;token="a,b">;p="1|2"'
        [invite] = self.to(at(odd, FAR)).values()
        self.assertEqual(invite.get_all("Route"), [odd, FAR])

    def test_no_utf_8(self) -> None:
        """Nor need it be UTF-8; what can be no octets at all is refused."""
        odd = f'"\udcff" <sip:{HOST}:32071;lr>'
        [invite] = self.to(at(odd)).values()
        self.assertEqual(invite.get_all("Route"), [odd])
        self.assertRaises(LocalProtocolError, self.to, at(f'"\ud800" <sip:{HOST}:32071;lr>'))

    def test_illegible(self) -> None:
        """One that cannot be read leads nowhere: the phone is tried where it says that it is."""
        [(port, invite)] = self.to(at("<sip:", uri=ONE)).items()
        self.assertEqual((port, invite.get_all("Route")), (32071, []))

    def test_without_tls(self) -> None:
        """A Path over TLS on a server without TLS is passed over, as such a URI is."""
        self.assertEqual([*self.to(at(f"<sips:{HOST}:32071;lr>"), TWO)], [32072])
        self.assertRaises(LocalProtocolError, self.to, at(f"<sips:{HOST}:32071;lr>"))

    def test_not_from_others(self) -> None:
        """A Route in a URI is not followed, be it given as one or that of a redirect."""
        [(port, invite)] = self.to(
            f"{ONE}?Route=%3Csip:{HOST}:32079;lr%3E", follow_redirects=True
        ).items()
        self.assertEqual((port, invite.uri, invite.get_all("Route")), (32071, ONE, []))
        contact = {"Contact": f"<{TWO}?Route=%3Csip:{HOST}:32079;lr%3E>"}
        self.whole.respond(invite, 302, headers=contact)
        [(port, invite)] = self.forwarded().items()
        self.assertEqual((port, invite.uri, invite.get_all("Route")), (32072, TWO, []))

    def test_redirected(self) -> None:
        """Whom somebody behind a Path points to is not behind it."""
        [invite] = self.to(at(EDGE), follow_redirects=True).values()
        self.whole.respond(invite, 302, headers={"Contact": f"<{TWO}>"})
        [(port, invite)] = self.forwarded().items()
        self.assertEqual((port, invite.uri, invite.get_all("Route")), (32072, TWO, []))


class RealServerTests(PathTestCase):
    def test_straight(self) -> None:
        """A real server cannot be told of a Path, and sends where the phone says that it is."""
        bench = Bench()
        server = bench.connect()
        kept: list[Any] = []
        bench.srf.invite(lambda req, res: kept.append(req))
        server.heads()
        server.ask("INVITE")
        bench.srf.proxy_request(kept[0], at(EDGE, uri=ONE))
        self.assertIn(f"|{ONE}\r\n", server.one().text.partition("INVITE")[0])


class RegisterTests(PathTestCase):
    """An application at the edge lets a REGISTER pass."""

    def setUp(self) -> None:
        """Keep those too."""
        super().setUp()
        self.srf.register(lambda req, res: self.kept.append((req, res)))
        self.whole.pump()

    def register(self, extra: str = "", **options: Any) -> SipRequest:
        """Pass a REGISTER on."""
        [found] = self.to(ONE, method="REGISTER", extra=extra, **options).values()
        return found

    def test_stays(self) -> None:
        """We are the next hop of the Path, whose support is required (RFC 3327 section 5.2)."""
        sent = self.register(f"Path: {FAR}\nSupported: path", record_route=True)
        self.assertEqual(sent.get_all("Path"), [OWN, FAR])
        self.assertEqual(sent.get_all("Require"), ["path"])
        self.assertFalse(sent.has("Record-Route"))

    def test_required_already(self) -> None:
        """Other things that are required stay."""
        sent = self.register("Require: outbound", record_route=True)
        self.assertEqual(sent.get_all("Require"), ["outbound, path"])

    def test_required_once(self) -> None:
        """Nor is it when it was there, in whatever letters."""
        sent = self.register("Require: Path, outbound", record_route=True)
        self.assertEqual(sent.get_all("Require"), ["Path, outbound"])

    def test_passes(self) -> None:
        """An application that does not stay on the way changes nothing."""
        sent = self.register(f"Path: {FAR}")
        self.assertEqual((sent.get_all("Path"), sent.has("Require")), ([FAR], False))

    def test_both_halves(self) -> None:
        """The registrar behind it finds its way back through the edge."""
        registered = self.register("Supported: path", record_route=True)
        path = registered.get_all("Path")
        contact = f"sip:app@{HOST}:32078"
        # The registrar's request: for the phone, by way of us.
        text = request("INVITE", call="c2", extra=f"Route: {', '.join(path)}")
        self.whole.receive(text.replace(f"INVITE {OURS}", f"INVITE {contact}"), 32071)
        self.whole.heads()
        self.srf.proxy_request(self.kept[-1][0])
        [(port, invite)] = self.forwarded().items()
        self.assertEqual((port, invite.uri, invite.get_all("Route")), (32078, contact, []))
