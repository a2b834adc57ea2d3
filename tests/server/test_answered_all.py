"""What every request is answered with, with an application behind the server or without."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import LocalProtocolError
from drachtwist.sip import Response
from drachtwist.sip.fields import tag_of
from tests.app.calling import CallTestCase
from tests.app.test_uac import UacTestCase
from tests.server.doubles import Bench, request
from tests.server.test_uas import transaction
from tests.whole import TARGET


class CancelTests(CallTestCase):
    def test_of_any_request(self) -> None:
        """A CANCEL of anything that is pending is answered 200, and ends an INVITE only."""
        for method in ("OPTIONS", "MESSAGE", "SUBSCRIBE", "REGISTER", "INFO"):
            self.srf.on_request(method)(lambda req, res: self.kept.append((req, res)))
            self.whole.pump()
            self.whole.receive(request(method, call=method, branch="x"))
            self.assertEqual(self.whole.heads(), [])
            self.whole.receive(request("CANCEL", call=method, branch="x"))
            self.assertEqual(self.whole.heads(), ["200 CANCEL"], method)
            req, res = self.kept[-1]
            self.assertFalse(req.canceled)
            res.send(200)
            self.assertEqual(self.whole.heads(), [f"200 {method}"])

    def test_too_late(self) -> None:
        """One of what was answered is answered 200 too, but for an INVITE that was accepted."""
        self.srf.options(lambda req, res: res.send(200))
        self.whole.pump()
        self.whole.receive(request("OPTIONS", branch="x"))
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])
        self.whole.receive(request("CANCEL", branch="x"))
        self.assertEqual(self.whole.heads(), ["200 CANCEL"])

    def test_in_a_dialog(self) -> None:
        """So it is in a dialog."""
        call = self.answered()
        held: list[Any] = []
        call.on_info(lambda req, res: held.append(res))
        self.from_a("INFO", 2)
        text = request("CANCEL", number=2).replace("z9hG4bKc1-INVITE-2", "z9hG4bK-INFO-2")
        self.whole.receive(text)
        self.assertEqual(self.whole.heads(), ["200 CANCEL"])
        held[0].send(200)
        self.assertEqual(self.whole.heads(), ["200 INFO"])

    def test_of_nothing(self) -> None:
        """One of what nobody knows is answered 481."""
        self.whole.receive(request("CANCEL", call="none"))
        self.assertEqual(self.whole.heads(), ["481 CANCEL"])


class ToTagTests(SynchronousTestCase):
    TO = '"tag=you;tag=me" <sip:app@127.0.0.1:32060>'

    def test_read(self) -> None:
        """A tag is a parameter, not what a name or a user says."""
        for text, tag in (
            ("<sip:a@b>;tag=1", "1"),
            ("<sip:a@b>;x=1; TAG = 1", "1"),
            ("sip:a@b;tag=1", "1"),
            ('"tag=1" <sip:a@b>', None),
            ("<sip:a;tag=1@b;tag=2>", None),
            ("<<;tag=1", None),
            (None, None),
        ):
            self.assertEqual(tag_of(text), tag, text)

    def test_made_up(self) -> None:
        """A response that the server makes up has a To tag, whatever the display name is."""
        bench = Bench(host="127.0.0.1")
        app = bench.link()
        text = f"sip||\r\nOPTIONS sips:bob@127.0.0.1 SIP/2.0\r\nTo: {self.TO}\r\n\r\n"
        *_, told = app.command(text)
        response = Response.from_bytes(told.partition("\r\n")[2].encode())
        self.assertEqual(response.status, 416)
        self.assertTrue(response.to.tag)

    def test_without_an_application(self) -> None:
        """So has one that nobody has made a transaction for, and one that is refused."""
        bench = Bench()
        for method in ("OPTIONS", "BYE"):
            text = request(method, call=method)
            bench.receive(text.replace("To: <sip:app@127.0.0.1:32060>", f"To: {self.TO}"))
            [answer] = [one for one in bench.take() if isinstance(one, Response)]
            self.assertTrue(answer.to.tag, method)

    def test_given(self) -> None:
        """A tag that an application gives counts when it is one."""
        for to, wanted in ((self.TO, None), ("<sip:x@y>;TAG=mine", "mine")):
            bench = Bench()
            app = bench.link("options")
            bench.receive(request("OPTIONS"))
            [frame] = app.take()
            app.answer(transaction(frame), f"SIP/2.0 200 OK\r\nTo: {to}")
            [answer] = bench.take()
            assert isinstance(answer, Response)
            self.assertTrue(answer.to.tag)
            if wanted:
                self.assertEqual(answer.to.tag, wanted)


class NoRequestTests(UacTestCase):
    def test_no_response_comes(self) -> None:
        """An ACK or CANCEL is no request for itself: nothing would ever come of it."""
        for method in ("ACK", "ack", "CANCEL"):
            self.assertRaises(LocalProtocolError, self.srf.request, TARGET, method=method)
        self.assertEqual(self.whole.heads(), [])


class SubscriptionTestCase(CallTestCase):
    EVENT = "Event: presence"

    def setUp(self) -> None:
        """Keep subscriptions."""
        super().setUp()
        self.srf.subscribe(lambda req, res: self.kept.append((req, res)))
        self.whole.pump()

    def subscribed(self, extra: str = "Expires: 600", **options: Any) -> Any:
        """Let a subscription come, and accept it."""
        self.whole.receive(request("SUBSCRIBE", extra=f"{self.EVENT}\n{extra}"))
        accepting = self.srf.create_uas(*self.kept[-1], **options)
        [answer] = self.whole.sent()
        assert isinstance(answer, Response)
        self.answer = answer
        return self.successResultOf(accepting)

    def refreshed(self, extra: str) -> Response:
        """Let a subscription be refreshed; give the answer."""
        self.from_a("SUBSCRIBE", 2, extra)
        [answer] = [one for one in self.whole.sent() if isinstance(one, Response)]
        return answer


class SubscriptionTests(SubscriptionTestCase):
    def test_expires(self) -> None:
        """A 2xx says how long a subscription lasts (RFC 6665 section 3.1.1)."""
        self.subscribed()
        self.assertEqual((self.answer.status, self.answer.get("Expires")), (202, "600"))

    def test_not_asked_for(self) -> None:
        """One that did not say how long, and one that the application shortens."""
        self.subscribed("X-A: 1")
        self.assertEqual(self.answer.get("Expires"), "3600")
        self.setUp()
        self.subscribed(headers={"expires": "60"})
        self.assertEqual(self.answer.get_all("Expires"), ["60"])

    def test_by_hand(self) -> None:
        """So does one that is accepted by hand; a refusal does not."""
        for status, expires in ((200, "600"), (202, "600"), (489, None)):
            self.whole.receive(request("SUBSCRIBE", call=str(status), extra="Expires: 600"))
            self.kept[-1][1].send(status)
            [answer] = self.whole.sent()
            self.assertEqual(answer.get("Expires"), expires)

    def test_refresh(self) -> None:
        """A refresh that the application does not handle keeps the subscription alive."""
        self.subscribed()
        answer = self.refreshed(f"{self.EVENT}\nExpires: 300")
        self.assertEqual((answer.status, answer.get("Expires")), (200, "300"))

    def test_handled_refresh(self) -> None:
        """A handler need not say how long."""
        dialog = self.subscribed()
        dialog.on_subscribe(lambda req, res: res.send(200))
        self.assertEqual(self.refreshed(f"{self.EVENT}\nExpires: 300").get("Expires"), "300")

    def test_ended(self) -> None:
        """The end of a subscription is accepted, and lasts for nothing."""
        self.subscribed()
        answer = self.refreshed(f"{self.EVENT}\nExpires: 0")
        self.assertEqual((answer.status // 100, answer.get("Expires")), (2, None))

    def test_another_event(self) -> None:
        """Another event in the dialog is the application's to accept."""
        self.subscribed()
        self.assertEqual(self.refreshed("Event: dialog\nExpires: 300").status, 489)


class StateTests(SubscriptionTestCase):
    """``Subscription-State`` is a value with parameters (RFC 6665 section 8.2.3)."""

    NOT_OVER = ("active;reason=terminated", "xterminated", "terminated-not", "active;x=terminated")
    OVER = ("terminated", "Terminated;reason=timeout", " terminated ;x=y")

    def test_ours(self) -> None:
        """NOTIFYs of ours end the subscription when they say so, on both sides of the frame."""
        for state in (*self.NOT_OVER, *self.OVER):
            dialog = self.subscribed()
            headers = {"Event": "presence", "Subscription-State": state}
            asking = dialog.notify(headers=headers)
            [notify] = self.whole.sent()
            self.whole.respond(notify, 200, port=32070)  # type: ignore[arg-type]
            self.successResultOf(asking)
            over = state in self.OVER
            self.assertEqual(dialog.ended is not None, over, state)
            self.assertEqual(len(self.whole.server.core.dialogs), 0 if over else 1, state)
            self.setUp()

    def test_theirs(self) -> None:
        """So do NOTIFYs of the peer."""
        for state in (*self.NOT_OVER, *self.OVER):
            calling = self.srf.create_uac(
                TARGET, method="SUBSCRIBE", headers={"Event": "presence", "Expires": "60"}
            )
            subscribe = self.whole.request()
            self.whole.respond(subscribe, 202)
            dialog = self.successResultOf(calling)
            text = "\n".join(
                (
                    "NOTIFY sip:127.0.0.1:32060 SIP/2.0",
                    "Via: SIP/2.0/UDP 127.0.0.1:32071;branch=z9hG4bKn",
                    f"From: {subscribe.get('To')};tag=b",
                    f"To: {subscribe.get('From')}",
                    f"Call-ID: {subscribe.call_id}",
                    "CSeq: 1 NOTIFY",
                    "Event: presence",
                    f"Subscription-State: {state}",
                    "Content-Length: 0",
                )
            )
            self.whole.receive(text + "\n\n", 32071)
            self.assertEqual(self.whole.heads(), ["200 NOTIFY"])
            over = state in self.OVER
            self.assertEqual(dialog.ended is not None, over, state)
            self.assertEqual(len(self.whole.server.core.dialogs), 0 if over else 1, state)
            self.setUp()
