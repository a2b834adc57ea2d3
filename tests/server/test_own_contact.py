"""The Contact of requests of an application: where the callee finds us again.

RFC 3261 section 8.1.1.8, RFC 3263 section 4.1.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import B2bua, forward_in_dialog
from drachtwist import Request as AppRequest
from drachtwist import Response as AppResponse
from drachtwist.sip import Request, Response
from drachtwist.sip.locating import Naptr, Records, Srv
from tests.app.calling import ANSWER, OFFER, A
from tests.server.doubles import request
from tests.whole import Whole

US = "127.0.0.1:32060"


class OwnContactTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application to a server with all transports but WebSockets."""
        self.whole = Whole({"protocols": ("udp", "tcp", "tls")})
        self.srf = self.whole.srf

    def sent(self) -> list[tuple[str, Any]]:
        """Take what was sent since: the transport, and what."""
        self.whole.pump()
        sent, self.whole.server.wire.sent = self.whole.server.wire.sent, []
        found = []
        for flow, data in sent:
            kind: Any = Response if data.startswith(b"SIP/2.0") else Request
            found.append((flow.protocol, kind.from_bytes(data)))
        return found

    def answer(self, invite: Request, protocol: str, contact: str) -> None:
        """Let a callee accept."""
        response = Response(200, body=ANSWER)
        for name in ("Via", "From", "To", "Call-ID", "CSeq"):
            for value in invite.get_all(name):
                response.add(name, value if name != "To" else f"{value};tag=b")
        response.add("Contact", f"<{contact}>")
        response.add("Content-Type", "application/sdp")
        self.whole.server.receive(bytes(response), 32071, protocol)
        self.whole.pump()


class RequestTests(OwnContactTestCase):
    def test_transport(self) -> None:
        """It names the transport, ``sips:`` where that was asked for."""
        for uri, protocol, contact in (
            ("sip:bob@127.0.0.1:32071", "udp", f"sip:{US}"),
            ("sip:bob@127.0.0.1:32071;transport=tcp", "tcp", f"sip:{US};transport=tcp"),
            ("sip:bob@127.0.0.1:32071;transport=tls", "tls", f"sip:{US};transport=tls"),
            ("sips:bob@127.0.0.1:32071", "tls", f"sips:{US}"),
        ):
            for method in ("INVITE", "SUBSCRIBE"):
                self.srf.create_uac(uri, method=method, headers={"Event": "x"})
                [(over, sent)] = self.sent()
                self.assertEqual((over, sent.contacts[0].uri), (protocol, contact), uri)
                self.assertNotIn("transport", sent.from_.uri)

    def test_forwarded(self) -> None:
        """A request that is passed on between dialogs has the Contact of the dialog it goes to.

        NOTIFY and UPDATE have to have one (RFC 6665 section 4.1.3, RFC 3311 section 5.1), and
        servers write none there.
        """
        pairs: list[B2bua] = []
        uri = "sip:bob@127.0.0.1:32071;transport=tcp"

        def called(req: AppRequest, res: AppResponse) -> None:
            self.srf.create_b2bua(req, res, uri).addCallback(pairs.append)

        self.srf.invite(called)
        self.whole.pump()
        self.whole.server.receive(request("INVITE", body=OFFER), 32070)
        self.whole.pump()
        [invite] = [one for _, one in self.sent() if isinstance(one, Request)]
        self.answer(invite, "tcp", uri)
        [pair] = pairs
        tag = pair.uas._local_response().to_tag or ""
        forward_in_dialog(pair.uas, pair.uac, ["NOTIFY", "UPDATE", "INFO"])
        self.sent()
        for number, method, wanted in ((2, "NOTIFY", 1), (3, "UPDATE", 1), (4, "INFO", 0)):
            extra = "Event: refer\nSubscription-State: active" if method == "NOTIFY" else ""
            self.whole.server.receive(
                request(method, number=number, to_tag=tag, extra=extra), 32070
            )
            self.whole.pump()
            [sent] = [one for _, one in self.sent() if isinstance(one, Request)]
            expected = [f"<sip:alice@{US};transport=tcp>"] * wanted
            self.assertEqual([f"<{one.uri}>" for one in sent.contacts], expected, method)

    def test_with_a_number(self) -> None:
        """So does one with the number of who calls; what the application writes is its own."""
        for headers, number, contact in (
            ({}, "4711", f"sip:4711@{US};transport=tcp"),
            ({"Contact": "<sip:a@localhost>;expires=5"}, "4711", f"sip:a@{US}"),
            ({"Contact": "sip:a@localhost;transport=tcp"}, None, f"sip:a@{US}"),
            ({"Contact": "<sip:a@localhost;transport=tcp>"}, None, f"sip:a@{US};transport=tcp"),
            ({"Contact": "<sip:a@localhost;transport=ws>"}, None, f"sip:a@{US};transport=ws"),
            ({"Contact": "<sip:a@10.0.0.1>"}, None, "sip:a@10.0.0.1"),
        ):
            given: Any = headers
            self.srf.create_uac(
                "sip:b@127.0.0.1;transport=tcp", headers=given, calling_number=number
            )
            [(_, sent)] = self.sent()
            self.assertEqual(sent.contacts[0].uri, contact)

    def test_by_the_proxy(self) -> None:
        """What counts is the transport that the request takes."""
        self.srf.create_uac("sip:b@127.0.0.1", proxy="sip:127.0.0.1:32099;transport=tcp")
        [(over, sent)] = self.sent()
        self.assertEqual((over, sent.contacts[0].uri), ("tcp", f"sip:{US};transport=tcp"))
        self.srf.create_uac("sip:b@127.0.0.1", proxy="sips:127.0.0.1")
        [(over, sent)] = self.sent()
        self.assertEqual((over, sent.contacts[0].uri), ("tls", f"sips:{US}"))

    def test_by_the_dns(self) -> None:
        """Also when the DNS chooses it."""
        zone: dict[tuple[str, str], Records] = {
            ("NAPTR", "example.test"): [Naptr(1, 1, "s", "SIP+D2T", "", "_sip._tcp.example.test")],
            ("SRV", "_sip._tcp.example.test"): [Srv(1, 0, 7001, "a.test")],
            ("A", "a.test"): ["127.0.0.1"],
        }
        self.whole.server.zone = zone
        calling = self.srf.create_uac(
            "sip:bob@example.test", calling_number="4711", local_sdp=OFFER
        )
        [(over, sent)] = self.sent()
        contact = f"sip:4711@{US};transport=tcp"
        self.assertEqual((over, sent.contacts[0].uri), ("tcp", contact))
        self.answer(sent, "tcp", "sip:bob@127.0.0.1:7001;transport=tcp")
        self.sent()
        self.successResultOf(calling).modify(OFFER)
        [(_, again)] = self.sent()
        self.assertEqual(again.contacts[0].uri, contact)

    def test_long(self) -> None:
        """TCP that only the length of the request wants is nothing to be reached by."""
        self.srf.create_uac("sip:bob@127.0.0.1", headers={"X-Long": "x" * 1300})
        [(over, sent)] = self.sent()
        self.assertEqual((over, sent.contacts[0].uri), ("tcp", f"sip:{US}"))

    def test_in_a_dialog(self) -> None:
        """What follows in the dialog says the same."""
        for uri, protocol, contact in (
            ("sip:bob@127.0.0.1:32071;transport=tcp", "tcp", f"sip:4711@{US};transport=tcp"),
            ("sips:bob@127.0.0.1:32071", "tls", f"sips:4711@{US}"),
        ):
            calling = self.srf.create_uac(uri, calling_number="4711", local_sdp=OFFER)
            [(_, invite)] = self.sent()
            self.answer(invite, protocol, uri)
            self.sent()
            dialog = self.successResultOf(calling)
            dialog.modify(OFFER)
            [(_, again)] = self.sent()
            self.assertEqual(again.contacts[0].uri, contact)


class ResponseTests(OwnContactTestCase):
    def test_of_a_sips_request(self) -> None:
        """The answer to ``sips:`` has a ``sips:`` Contact (section 12.1.1)."""
        kept: list[Any] = []
        self.srf.invite(lambda req, res: kept.append((req, res)))
        self.whole.pump()
        for number, headers in enumerate(({}, {"Contact": "<sip:app@localhost>"})):
            text = request("INVITE", call=f"c{number}", body=OFFER)
            text = text.replace("INVITE sip:", "INVITE sips:").replace("SIP/2.0/UDP", "SIP/2.0/TLS")
            text = text.replace("Contact: <sip:", "Contact: <sips:")
            self.whole.server.receive(text, A, "tls")
            self.whole.pump()
            given: Any = headers
            self.srf.create_uas(*kept[-1], local_sdp=ANSWER, headers=given)
            answer = self.sent()[-1][1]
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.contacts[0].uri.startswith("sips:"), answer.get("Contact"))


class SeveralTests(OwnContactTestCase):
    """A Contact in several lines stays that."""

    CONTACTS: tuple[tuple[str, str], ...] = (
        ("<sip:a@localhost>;q=0.5", f"<sip:a@{US}>;q=0.5"),
        ("<sip:b@127.0.0.2>", "<sip:b@127.0.0.2>"),
        ("sip:c@127.0.0.3;expires=5", "<sip:c@127.0.0.3>;expires=5"),
    )

    def test_registered(self) -> None:
        """In a REGISTER."""
        given = [one for one, _ in self.CONTACTS]
        self.srf.request("sip:127.0.0.1", method="REGISTER", headers={"Contact": given})
        [(_, sent)] = self.sent()
        self.assertEqual(sent.get_all("Contact"), [one for _, one in self.CONTACTS])
        self.srf.request("sip:127.0.0.1", method="REGISTER", headers={"Contact": ", ".join(given)})
        [(_, sent)] = self.sent()
        self.assertEqual(
            [one.uri for one in sent.contacts][1:], ["sip:b@127.0.0.2", "sip:c@127.0.0.3"]
        )

    def test_redirected(self) -> None:
        """In a redirect."""
        kept: list[Any] = []
        self.srf.invite(lambda req, res: kept.append(res))
        self.whole.pump()
        self.whole.receive(request("INVITE", body=OFFER), A)
        kept[0].send(302, headers={"Contact": [one for one, _ in self.CONTACTS]})
        answer = self.sent()[-1][1]
        self.assertEqual(
            [one.uri for one in answer.contacts],
            [f"sip:a@{US}", "sip:b@127.0.0.2", "sip:c@127.0.0.3"],
        )
