"""Whom applications may call, transfer to, and be redirected to."""

from __future__ import annotations

from typing import Any

from drachtwist import Dialog, LocalProtocolError, Referral, SipError, accept_refer, transfer
from drachtwist.middleware import Registrar
from drachtwist.sip import Request
from tests.app.calling import OFFER, A, CallTestCase
from tests.app.doubles import Bench
from tests.app.test_b2bua import ANSWER, B2buaTestCase
from tests.app.test_uac import THEIRS, UacTestCase
from tests.server.doubles import request
from tests.whole import TARGET

PROXY = "sip:127.0.0.1:32099"
OTHERS = ("tel:+15551212", "urn:service:sos", "TEL:7042;phone-context=example.com")


def last(whole: Any) -> Request:
    """Take what was sent, and give the last request."""
    return [one for one in whole.sent() if isinstance(one, Request)][-1]


class OtherSchemesTests(UacTestCase):
    def test_called(self) -> None:
        """``tel:`` and ``urn:`` are called where there is a proxy to send them to."""
        for uri in OTHERS:
            calling, invite = self.call(uri, proxy=PROXY)
            self.assertEqual((invite.uri, invite.to.uri), (uri, uri))
            self.whole.respond(invite, 200, body=THEIRS, port=32099)
            self.successResultOf(calling)
            asking = self.srf.request(uri, method="OPTIONS", proxy=PROXY)
            self.whole.respond(last(self.whole), 200)
            self.assertEqual(self.successResultOf(asking).status, 200)

    def test_nowhere_to_send_it(self) -> None:
        """Without a proxy nobody knows where they lead."""
        for uri in OTHERS:
            self.assertRaises(LocalProtocolError, self.srf.create_uac, uri)
            self.assertRaises(LocalProtocolError, self.srf.request, uri, method="OPTIONS")

    def test_numbers(self) -> None:
        """A number without a domain is nobody."""
        for uri in ("+14155551212", "14155551212", "1-800"):
            self.assertRaises(LocalProtocolError, self.srf.create_uac, uri, proxy=PROXY)

    def test_headers_of_a_uri(self) -> None:
        """Headers of a URI go into the request, not into its Request-URI (section 19.1.5)."""
        _, invite = self.call(TARGET + "?Subject=a%20b&From=%3Csip:c@d%3E")
        self.assertEqual((invite.uri, invite.get("Subject")), (TARGET, "a b"))
        self.assertEqual(invite.to.uri, TARGET)
        self.assertNotIn("c@d", invite.get("From") or "")
        _, invite = self.call(TARGET + "?Subject=a", headers={"s": "mine"})
        self.assertEqual(invite.get_all("Subject"), ["mine"])


class BridgedSchemesTests(B2buaTestCase):
    def test_bridged(self) -> None:
        """So they are by a back-to-back user agent."""
        self.whole.receive(request("INVITE", body=ANSWER), A)
        self.to_a()
        req, res = self.kept[-1]
        self.srf.create_b2bua(req, res, "urn:service:sos", proxy=TARGET)
        self.assertEqual(self.invite_b().uri, "urn:service:sos")


class RealServerTests(UacTestCase):
    """What a real server does not survive is not sent to it (protocol.md 4.2, 10)."""

    def setUp(self) -> None:
        """Connect an application to a server that says it is a real one."""
        super().setUp()
        self.bench = Bench()
        self.server = self.bench.connect()
        self.srf = self.bench.srf

    def test_other_schemes(self) -> None:
        """A request to ``tel:`` kills it, with and without a route."""
        for uri in OTHERS:
            for call, method in ((self.srf.create_uac, "INVITE"), (self.srf.request, "OPTIONS")):
                given: Any = call
                error = self.assertRaises(
                    LocalProtocolError, given, uri, method=method, proxy=PROXY
                )
                self.assertIn("v0.9.10", str(error))
        self.srf.set("other-schemes-since", "0.9.11")
        self.assertRaises(LocalProtocolError, self.srf.create_uac, OTHERS[0], proxy=PROXY)
        self.srf.set("other-schemes-since", "v0.9.10")
        self.srf.create_uac(OTHERS[0], proxy=PROXY)
        self.assertEqual(len(self.server.take()), 1)

    def test_wildcard(self) -> None:
        """So does a REGISTER that removes all bindings."""
        for contact in ("*", " *", "* ", ["*"]):
            headers = {"m": contact, "Expires": "0"}
            with self.assertRaises(LocalProtocolError) as caught:
                self.srf.request("sip:h", method="REGISTER", headers=headers)
            self.assertIn("wildcard-contact-since", str(caught.exception))
        dialogs: list[Dialog] = []

        @self.srf.invite
        async def answer(req: Any, res: Any) -> None:
            dialogs.append(await self.srf.create_uas(req, res))

        self.bench.settle()
        self.server.take()
        self.server.establish()
        self.assertRaises(LocalProtocolError, dialogs[0].register, headers={"Contact": "*"})
        self.assertEqual(self.server.take(), [])
        self.srf.set("wildcard-contact-since", "0.9.9")
        self.srf.request("sip:h", method="register", headers={"Contact": "*", "Expires": "0"})
        self.assertEqual(len(self.server.take()), 1)


class WildcardTests(UacTestCase):
    def test_embedded(self) -> None:
        """The embedded server sends it."""
        headers = {"Contact": "*", "Expires": "0"}
        asking = self.srf.request(TARGET, method="REGISTER", headers=headers)
        register = last(self.whole)
        self.assertEqual(register.get("Contact"), "*")
        self.whole.respond(register, 200)
        self.assertEqual(self.successResultOf(asking).status, 200)


class RedirectedTests(UacTestCase):
    def moved(self, *contacts: str, **options: Any) -> tuple[Any, Request]:
        """Call somebody who is elsewhere; give the next INVITE."""
        calling, invite = self.call(follow_redirects=True, **options)
        self.whole.respond(invite, 302, headers={"Contact": list(contacts)})
        return calling, last(self.whole)

    def test_several_lines(self) -> None:
        """Contacts in several lines come by q too."""
        _, invite = self.moved("<sip:a@127.0.0.1:32072>;q=0.1", "<sip:b@127.0.0.1:32073>;q=0.9")
        self.assertEqual(invite.uri, "sip:b@127.0.0.1:32073")

    def test_unusable_first(self) -> None:
        """What cannot be called does not end the search (RFC 3261 section 8.1.3.4)."""
        for unusable in (
            "<tel:+15551212>",
            "<urn:service:sos>",
            "<mailto:a@b>",
            "<sip:c@h:99999>",
            "<sip:c@127.0.0.1;transport=sctp>",
            "<sips:c@127.0.0.1>",
        ):
            calling, invite = self.moved(unusable, "<sip:a@127.0.0.1:32072>;q=0.1")
            self.assertEqual(invite.uri, "sip:a@127.0.0.1:32072", unusable)
            self.whole.respond(invite, 200, body=THEIRS, port=32072)
            self.successResultOf(calling)

    def test_nothing_usable(self) -> None:
        """With nobody to call the redirect is the outcome."""
        calling, invite = self.call(follow_redirects=True)
        self.whole.respond(invite, 302, headers={"Contact": "<tel:+1>, <mailto:a@b>"})
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 302)

    def test_tel_by_the_proxy(self) -> None:
        """A call that goes through a proxy goes to ``tel:`` through the same."""
        _, invite = self.moved("<tel:+15551212>", proxy=PROXY)
        self.assertEqual(invite.uri, "tel:+15551212")

    def test_headers(self) -> None:
        """Headers of a contact go into the request, those that do no harm."""
        contact = "<sip:a@127.0.0.1:32072?Subject=x&P-Asserted-Identity=%3Csip:b@c%3E>"
        _, invite = self.moved(contact)
        self.assertEqual(invite.uri, "sip:a@127.0.0.1:32072")
        self.assertEqual(invite.get("Subject"), "x")
        self.assertIsNone(invite.get("P-Asserted-Identity"))

    def test_redirected_again(self) -> None:
        """The contacts that are left are tried behind those of a second redirect."""
        calling, invite = self.moved("<sip:a@127.0.0.1:32072>", "<sip:b@127.0.0.1:32073>")
        self.whole.respond(invite, 302, headers={"Contact": "<sip:c@127.0.0.1:32074>"}, port=32072)
        invite = last(self.whole)
        self.assertEqual(invite.uri, "sip:c@127.0.0.1:32074")
        self.whole.respond(invite, 486, port=32074)
        invite = last(self.whole)
        self.assertEqual(invite.uri, "sip:b@127.0.0.1:32073")
        self.whole.respond(invite, 302, headers={"Contact": "<sip:a@127.0.0.1:32072>"}, port=32073)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 302)

    def test_declined(self) -> None:
        """A 6xx counts for all."""
        calling, invite = self.moved("<sip:a@127.0.0.1:32072>", "<sip:b@127.0.0.1:32073>")
        self.whole.respond(invite, 603, port=32072)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 603)


class ContactUriTests(CallTestCase):
    def test_in_a_dialog(self) -> None:
        """A dialog's requests go to the Contact without its headers (section 12.1.1)."""
        call = self.answered()
        self.assertEqual(call.remote.uri, "sip:alice@127.0.0.1:32070")
        calling = self.srf.create_uac(TARGET, local_sdp="v=0\r\n")
        contact = "<sip:bob@127.0.0.1:32071;method=INVITE?Subject=x>"
        self.whole.respond(last(self.whole), 200, headers={"Contact": contact}, body=THEIRS)
        dialog = self.successResultOf(calling)
        self.assertEqual(last(self.whole).uri, TARGET)
        dialog.destroy()
        self.assertEqual(last(self.whole).uri, TARGET)

    def test_refreshed(self) -> None:
        """So they do when the Contact changes, and to a caller."""
        contact = f"<sip:alice@127.0.0.1:{A}"
        text = request("INVITE", body=OFFER).replace(contact, contact + ";method=BYE?Subject=x")
        self.whole.receive(text, A)
        self.whole.sent()
        accepting = self.srf.create_uas(*self.kept[-1], local_sdp=ANSWER)
        [answer] = self.whole.sent()
        call = self.successResultOf(accepting)
        asking = call.info()
        info = last(self.whole)
        self.assertEqual(info.uri, f"sip:alice@127.0.0.1:{A}")
        self.whole.respond(info, 200, port=A)
        self.successResultOf(asking)
        moved = text.replace("To: <sip:app@127.0.0.1:32060>", f"To: {answer.get('To')}")
        moved = moved.replace("1 INVITE", "2 INVITE").replace("INVITE-1", "INVITE-2")
        self.whole.receive(
            moved.replace("alice@127.0.0.1:32070;method", "eve@127.0.0.1:32070;m"), A
        )
        self.whole.sent()
        call.info()
        self.assertEqual(last(self.whole).uri, "sip:eve@127.0.0.1:32070;m=BYE")


class TransferTargetTests(CallTestCase):
    def test_normalised(self) -> None:
        """A target may be written as an address, and without a scheme."""
        call = self.answered()
        for target, uri in (
            ("<tel:+14155551212>", "tel:+14155551212"),
            ("tel:+14155551212", "tel:+14155551212"),
            ('"Carol" <sip:carol@127.0.0.1>', "sip:carol@127.0.0.1"),
            ("carol@127.0.0.1", "sip:carol@127.0.0.1"),
            ("sip:carol@127.0.0.1?Subject=x", "sip:carol@127.0.0.1?Subject=x"),
            ("urn:service:sos", "urn:service:sos"),
        ):
            transfer(call, target).addErrback(lambda failure: failure.trap(SipError))
            refer = last(self.whole)
            self.assertEqual(refer.get("Refer-To"), f"<{uri}>", target)
            self.from_a_reply(refer)

    def from_a_reply(self, refer: Request) -> None:
        """Let the phone refuse a REFER."""
        self.whole.respond(refer, 603, port=32070)

    def test_refused(self) -> None:
        """A number without a domain, and what is no address, is an error at once."""
        call = self.answered()
        self.whole.sent()
        for target in ("+14155551212", "14155551212", "", "<>", "<sip:a", "a b@c", "sip:a@b>, <x"):
            self.assertRaises(LocalProtocolError, transfer, call, target)
        self.assertEqual(self.whole.heads(), [])
        self.assertEqual(call._need_traffic().referrals, [])


class ReferralTargetTests(CallTestCase):
    def referred(self, to: str) -> Referral:
        """Let a REFER come."""
        call = self.answered()
        referrals: list[Referral] = []
        call.on_refer(lambda req, res: referrals.append(accept_refer(call, req, res)))
        self.from_a("REFER", 2, f"Refer-To: {to}")
        self.whole.sent()
        return referrals[0]

    def test_followed(self) -> None:
        """``tel:`` and ``urn:`` are followed where there is a proxy."""
        for uri in OTHERS:
            calling = self.referred(f"<{uri}>").follow(proxy=PROXY)
            invite = last(self.whole)
            self.assertEqual(invite.uri, uri)
            self.whole.respond(invite, 200, body=THEIRS, port=32099)
            self.successResultOf(calling)
            self.setUp()

    def test_question_mark(self) -> None:
        """A question mark in a user part begins no headers."""
        replaces = "Replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2"
        referral = self.referred(f"<sip:what?@127.0.0.1:32072?{replaces}>")
        self.assertEqual(referral.target, "sip:what?@127.0.0.1:32072")
        self.assertEqual(str(referral.replaces), "c;to-tag=1;from-tag=2")

    def test_attended(self) -> None:
        """Nor does it when we refer to somebody whose Contact has one, and headers."""
        call = self.answered()
        calling = self.srf.create_uac(TARGET, local_sdp=OFFER)
        contact = {"Contact": "<sip:what?@127.0.0.1:32071?Subject=x>"}
        self.whole.respond(last(self.whole), 200, headers=contact, body=THEIRS)
        dialog = self.successResultOf(calling)
        self.whole.sent()
        transfer(call, dialog)
        to = last(self.whole).get("Refer-To") or ""
        self.assertTrue(to.startswith("<sip:what?@127.0.0.1:32071?Replaces="), to)


class RegisteredTargetTests(UacTestCase):
    def test_called(self) -> None:
        """A registered Contact is called without its headers and method, by whatever way."""
        registrar = Registrar()
        self.srf.register(registrar)
        self.whole.pump()
        contact = "Contact: <sip:alice@127.0.0.1:32070;method=BYE?Subject=x&From=y>"
        self.whole.receive(
            request("REGISTER").replace("Contact: <sip:alice@127.0.0.1:32070>", contact), A
        )
        self.assertEqual(self.whole.heads(), ["200 REGISTER"])
        finding = registrar.find("sip:app@127.0.0.1")
        [binding] = self.successResultOf(finding)
        for target in (binding, binding.uri):
            self.srf.create_uac(target)
            invite = last(self.whole)
            self.assertEqual(invite.uri, "sip:alice@127.0.0.1:32070")
            self.assertNotIn("y", invite.get("From") or "")


class MisspeltTests(CallTestCase):
    """A header that a server would drop, with all behind it, is an error before it is sent."""

    BAD = (
        ("Expires", "soon"),
        ("Refer-To", "sip:a b"),
        ("Contact", "<sip:a"),
        ("Session-Expires", "long"),
        ("Max-Forwards", "many"),
        ("RAck", "1"),
        ("m", "nobody"),
        ("Subscription-State", ";expires=1"),
    )

    def test_requests(self) -> None:
        """In requests of all kinds."""
        call = self.answered()
        self.whole.sent()
        for name, value in self.BAD:
            headers: Any = {name: value}
            for send in (
                lambda: self.srf.create_uac(TARGET, headers=headers),  # noqa: B023
                lambda: self.srf.request(TARGET, method="MESSAGE", headers=headers),  # noqa: B023
                lambda: call.request("INFO", headers=headers),  # noqa: B023
                lambda: call.destroy(headers),  # noqa: B023
                lambda: transfer(call, TARGET, headers=headers),  # noqa: B023
            ):
                error = self.assertRaises(LocalProtocolError, send)
                self.assertIn(value, str(error))
        self.assertEqual(self.whole.heads(), [])
        self.assertTrue(call.connected)

    def test_responses(self) -> None:
        """In responses."""
        _, res = self.ring()
        for name, value in self.BAD:
            self.assertRaises(LocalProtocolError, res.send, 486, headers={name: [value]})
        self.assertEqual(self.whole.heads(), [])
        self.assertFalse(res.finished)

    def test_not_the_peers(self) -> None:
        """What a peer misspells is no slip of the application: it is not passed on."""
        call = self.answered()
        referrals = []
        call.on_refer(lambda req, res: referrals.append(accept_refer(call, req, res)))
        self.from_a("REFER", 2, "Refer-To: <sip:c@127.0.0.1:32072>\nReferred-By: <<")
        referrals[0].follow()
        self.assertIsNone(last(self.whole).get("Referred-By"))


class BridgedMisspeltTests(B2buaTestCase):
    def test_not_passed_on(self) -> None:
        """Nor does it pass a back-to-back user agent."""
        bad = "Referred-By: <<\nDiversion: <sip:a@b\nSubject: x"
        bridging = self.bridge(bad, proxy_request_headers=["all"], proxy_response_headers=["all"])
        invite = self.invite_b()
        self.assertEqual((invite.get("Referred-By"), invite.get("Diversion")), (None, None))
        self.assertEqual(invite.get("Subject"), "x")
        self.whole.respond(invite, 302, headers={"Contact": "<<", "Reply-To": "<"})
        [refusal], _ = self.split()
        self.assertEqual((refusal.status, refusal.get("Contact")), (302, None))
        self.failureResultOf(bridging, SipError)
