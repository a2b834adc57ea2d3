"""Requests of ours that say where their sender is, since no server does it for them.

They are those of RFC 3261 section 12.2.1.1, RFC 3311 section 5.1, RFC 3515 and RFC 6665 section
4.1.3. A real server writes a Contact into a re-INVITE, a SUBSCRIBE and a REFER only (protocol.md
4.2).
"""

from __future__ import annotations

from typing import Any

from drachtwist import Dialog, accept_refer
from drachtwist.sip import Request as SipRequest
from tests.app.calling import ANSWER, OFFER, A, CallTestCase
from tests.server.doubles import HOST, PORT, request
from tests.whole import TARGET

OURS = f"<sip:{HOST}:{PORT}>"
OWN = "<sip:desk@192.0.2.7>"


class ContactTests(CallTestCase):
    def only(self) -> SipRequest:
        """Take the only request that was sent."""
        [found] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        return found

    def contact(self) -> str | None:
        """Take the Contact of the only request that was sent."""
        return self.only().get("Contact")

    def called(self, **headers: str) -> Dialog:
        """Call somebody, who answers."""
        calling = self.srf.create_uac(TARGET, local_sdp=OFFER, headers=headers)
        invite = self.whole.request()
        self.whole.respond(invite, 200, body=ANSWER)
        self.whole.sent()
        return self.successResultOf(calling)

    def test_of_a_called_application(self) -> None:
        """The Contact of the 200 is in NOTIFY, UPDATE, REFER and INVITE, and in nothing else."""
        dialog = self.answered()
        for send in (dialog.notify, dialog.update, dialog.refer):
            send()
            self.assertEqual(self.contact(), OURS)
        for send in (dialog.info, dialog.options, dialog.message):
            send()
            self.assertIsNone(self.contact())
        dialog.modify(OFFER)
        self.assertEqual(self.contact(), OURS)

    def test_of_a_calling_application(self) -> None:
        """So is that of the INVITE, as the application wrote it."""
        dialog = self.called(Contact=OWN)
        for send in (dialog.notify, dialog.update, dialog.refer):
            send()
            self.assertEqual(self.contact(), OWN)

    def test_given(self) -> None:
        """What the application writes stays, in its short form too."""
        dialog = self.answered()
        for name in ("Contact", "contact", "m"):
            dialog.notify(headers={name: OWN})
            sent = self.only()
            self.assertEqual(sent.get_all("Contact"), [OWN])

    def test_by_name(self) -> None:
        """It does not matter which way the request is asked for."""
        dialog = self.answered()
        dialog.request("notify", headers={"Event": "talk"})
        self.assertEqual(self.contact(), OURS)

    def test_challenged(self) -> None:
        """A request that is repeated with credentials has one Contact."""
        dialog = self.called()
        dialog.auth = ("bob", "secret")
        dialog.notify()
        challenge = {"WWW-Authenticate": 'Digest realm="x", nonce="1"'}
        self.whole.respond(self.only(), 401, headers=challenge)
        again = self.only()
        self.assertTrue(again.has("Authorization"))
        self.assertEqual(again.get_all("Contact"), [OURS])

    def test_answer_to_an_update(self) -> None:
        """Who accepts an UPDATE says where he is, too (RFC 3311 section 5.2), once."""
        dialog = self.answered()
        given: list[dict[str, Any]] = [{"body": ANSWER}, {"headers": {"m": OWN}}, {"status": 488}]
        dialog.on_update(lambda req, res: res.send(**{"status": 200, **given.pop(0)}))
        found = []
        for number in (2, 3, 4):
            self.from_a("UPDATE", number)
            found += [one.get_all("Contact") for one in self.whole.sent()]
        self.assertEqual(found, [[OURS], [OWN], []])

    def test_progress_of_a_transfer(self) -> None:
        """So have the NOTIFYs that tell what has become of a REFER."""
        dialog = self.answered()
        dialog.on_refer(lambda req, res: accept_refer(dialog, req, res))
        self.from_a("REFER", 2, f"Refer-To: <{TARGET}>\n")
        [*_, notify] = self.whole.sent()
        assert isinstance(notify, SipRequest)
        self.assertEqual((notify.method, notify.get("Contact")), ("NOTIFY", OURS))

    def subscribed(self) -> Dialog:
        """Let a phone subscribe."""
        kept: list[Any] = []
        self.srf.subscribe(lambda req, res: kept.append((req, res)))
        self.whole.pump()
        self.whole.receive(request("SUBSCRIBE", extra="Event: presence"), A)
        accepting = self.srf.create_uas(*kept[0])
        self.whole.sent()
        return self.successResultOf(accepting)

    def test_subscriptions(self) -> None:
        """In a subscription too, up to its last NOTIFY."""
        dialog = self.subscribed()
        dialog.notify(headers={"Subscription-State": "active"})
        self.assertEqual(self.contact(), OURS)
        dialog.destroy()
        last = self.only()
        self.assertEqual((last.method, last.get("Contact")), ("NOTIFY", OURS))

    def test_before_the_answer(self) -> None:
        """And while it rings, if the other side was ever told."""
        rang: list[Any] = []
        self.srf.create_uac(
            TARGET,
            headers={"Contact": OWN},
            on_provisional=lambda response: rang.append(response.early_dialog),
        )
        self.whole.respond(self.whole.request(), 180)
        self.whole.sent()
        rang[0].notify(headers={"Event": "talk"})
        self.assertEqual(self.contact(), OWN)
        req, res = self.ring("Supported: 100rel")
        res.send(183, headers={"Require": "100rel", "Contact": OWN})
        self.whole.sent()
        assert req.early_dialog is not None
        req.early_dialog.notify(headers={"Event": "talk"})
        self.assertEqual(self.contact(), OWN)
