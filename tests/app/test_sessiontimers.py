"""Session timers, on servers that leave it to the application to speak of them (RFC 4028).

A real server keeps the timers, but adds nothing to the answer of a refresh (protocol.md 5.8); the
double here is one of that kind. What the embedded server makes of the answers is tested with it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, Request, Response, SipError
from tests.app.calling import CallTestCase
from tests.app.doubles import ANSWER, OFFER, Bench
from tests.server.doubles import head

DIALOG = "c1;from-tag=a"
A = 32070


class RealTestCase(SynchronousTestCase):
    """Has a call that is up; what is agreed on is in the 200, as real servers complete it."""

    def call(self, agreed: str = "") -> None:
        """Let a call come up."""
        self.bench = Bench()
        dialogs: list[Dialog] = []

        @self.bench.srf.invite
        async def answer(req: Request, res: Response) -> None:
            headers = {"Session-Expires": agreed} if agreed else None
            made = self.bench.srf.create_uas(req, res, local_sdp=ANSWER, headers=headers)
            dialogs.append(await made)

        self.server = self.bench.connect()
        self.server.establish()
        [self.dialog] = dialogs
        self.number = 1

    def refresh(self, asked: str | None, method: str = "INVITE", body: str = OFFER) -> Any:
        """Let the peer refresh the session; give the answer."""
        self.number += 1
        headers = {} if asked is None else {"Session-Expires": asked, "Supported": "timer"}
        self.server.ask(method, dialog_id=DIALOG, number=self.number, headers=headers, body=body)
        answer = self.server.one().response
        if method == "INVITE":
            self.server.ask("ACK", dialog_id=DIALOG, number=self.number)
        return answer

    def said(self, answer: Any) -> tuple[int, str | None, str | None]:
        """Give what a response says of the timer."""
        return answer.status, answer.get("Session-Expires"), answer.get("Require")


class RefreshedTests(RealTestCase):
    def test_by_itself(self) -> None:
        """An answer of the framework says what was agreed on, to a re-INVITE and an UPDATE."""
        self.call("1800;refresher=uac")
        for method, body in (("INVITE", OFFER), ("UPDATE", ""), ("UPDATE", OFFER), ("INVITE", "")):
            answer = self.refresh("1800;refresher=uac", method, body)
            self.assertEqual(self.said(answer), (200, "1800;refresher=uac", "timer"), method)

    def test_refreshers(self) -> None:
        """Who refreshes is said as it was asked for, or as servers take it that it is."""
        for agreed, asked, expected in (
            ("", "1800;refresher=uas", "1800;refresher=uas"),
            ("", "1800;Refresher=UAC", "1800;refresher=uac"),
            ("", "1800", "1800;refresher=uas"),
            ("1800;refresher=uac", "900", "900;refresher=uas"),
            ("1800;refresher=uas", "900", "900;refresher=uac"),
            ("1800;refresher=uas", None, None),
            ("1800;refresher=uas", "soon", None),
        ):
            self.call(agreed)
            answer = self.refresh(asked)
            self.assertEqual(answer.get("Session-Expires"), expected, (agreed, asked))
            required = "timer" if (expected or "").endswith("uac") else None
            self.assertEqual(answer.get("Require"), required)

    def test_handlers(self) -> None:
        """So do answers of handlers that do not say it, and no others."""
        answers: list[tuple[int, dict[str, str]]] = [
            (200, {}),
            (200, {"Session-Expires": "600;refresher=uas"}),
            (200, {"x": "90;refresher=uas"}),
            (200, {"Require": "Timer"}),
            (488, {}),
        ]
        expected = [
            (200, "1800;refresher=uac", "timer"),
            (200, "600;refresher=uas", None),
            (200, "90;refresher=uas", None),
            (200, "1800;refresher=uac", "Timer"),
            (488, None, None),
        ]
        for method in ("INVITE", "UPDATE"):
            self.call("1800;refresher=uac")
            left = list(answers)

            def changed(
                req: Request, res: Response, left: list[tuple[int, dict[str, str]]] = left
            ) -> None:
                status, headers = left.pop(0)
                res.send(status, headers=headers, body=ANSWER)

            self.dialog.on_request(method, changed)
            for one in expected:
                self.assertEqual(self.said(self.refresh("1800;refresher=uac", method)), one)

    def test_headers_that_were_set(self) -> None:
        """What is set on the response counts as well."""
        self.call()

        @self.dialog.on_modify
        def changed(req: Request, res: Response) -> None:
            res.set("Session-Expires", "300;refresher=uac")
            res.send(200, body=ANSWER)

        self.assertEqual(self.said(self.refresh("90;refresher=uac"))[1], "300;refresher=uac")

    def test_other_requests(self) -> None:
        """Nothing else says anything of it."""
        self.call("1800;refresher=uac")
        answer = self.refresh("1800;refresher=uac", "INFO", "")
        self.assertEqual(self.said(answer), (200, None, None))


class RefreshingTests(RealTestCase):
    def asked(self, asking: Deferred[Any], answer: dict[str, str] | None = None) -> Any:
        """Take the request that was sent, and answer it."""
        asking.addErrback(lambda failure: failure.trap(SipError))
        sent = self.server.one()
        txn = self.server.confirm(sent)
        self.server.respond(txn, 200, method=sent.head, headers=answer, dialog_id=DIALOG)
        self.server.take()  # the ACK
        return sent.request.get("Session-Expires"), sent.request.get_all("Supported")

    def test_goes_on(self) -> None:
        """Our re-INVITEs and UPDATEs go on with the timer, or the peer would switch it off."""
        for agreed, expected in (
            ("1800;refresher=uac", ("1800;refresher=uas", ["timer"])),
            ("1800;refresher=uas", ("1800;refresher=uac", ["timer"])),
            ("", (None, [])),
        ):
            self.call(agreed)
            self.assertEqual(self.asked(self.dialog.modify("hold")), expected)
            self.assertEqual(self.asked(self.dialog.update(body=ANSWER)), expected)

    def test_own_words(self) -> None:
        """What the application says counts."""
        self.call("1800;refresher=uac")
        headers = {"Session-Expires": "90;refresher=uac", "Supported": "replaces, timer"}
        found = self.asked(self.dialog.modify(ANSWER, headers=headers))
        self.assertEqual(found, ("90;refresher=uac", ["replaces, timer"]))

    def test_agreed_anew(self) -> None:
        """What was agreed on last counts: in an answer of the peer's, or in one of ours."""
        self.call("1800;refresher=uac")
        self.asked(self.dialog.modify(ANSWER), {"Session-Expires": "600;refresher=uac"})
        self.assertEqual(self.asked(self.dialog.modify(ANSWER))[0], "600;refresher=uac")
        self.refresh("300;refresher=uac")
        self.assertEqual(self.asked(self.dialog.modify(ANSWER))[0], "300;refresher=uas")
        self.refresh(None, "UPDATE", "")
        self.assertEqual(self.asked(self.dialog.modify(ANSWER)), (None, []))

    def test_called(self) -> None:
        """In a call of ours the 200 of the peer says it first."""
        for agreed, expected in (
            ("600", "600;refresher=uac"),
            ("600;refresher=uas", "600;refresher=uas"),
        ):
            bench = self.bench = Bench()
            server = self.server = bench.connect()
            calling = bench.srf.create_uac("sip:bob@127.0.0.1", local_sdp=OFFER)
            txn = server.confirm(server.one())
            server.respond(
                txn,
                200,
                method="INVITE",
                headers={"Session-Expires": agreed, "Contact": "<sip:bob@127.0.0.1:5>"},
                dialog_id=DIALOG,
                body=ANSWER,
            )
            server.take()
            dialog = self.successResultOf(calling)
            self.assertEqual(self.asked(dialog.modify(OFFER))[0], expected)


class EmbeddedTests(CallTestCase):
    """Application and embedded server together: who refreshes does, and the call stays up."""

    def test_more_than_one_interval(self) -> None:
        """A caller that goes by what the answers say refreshes for ever."""
        self.answered(headers={"Session-Expires": "90;refresher=uac"})
        number = 1
        for _ in range(4):
            self.assertEqual(self.whole.pass_time(45, 1.0), [])
            number += 1
            self.from_a("INVITE", number, "Session-Expires: 90;refresher=uac\nSupported: timer")
            [_, answer] = self.whole.sent()
            said = (answer.get("Session-Expires"), answer.get("Require"))
            self.assertEqual(said, ("90;refresher=uac", "timer"))
            self.from_a("ACK", number)
        found = self.whole.pass_time(91, 1.0)
        self.assertEqual(found[0][1], "BYE")

    def test_handed_over(self) -> None:
        """Without a word of who refreshes the server does; the application and it agree."""
        dialog = self.answered(headers={"Session-Expires": "90;refresher=uac"})
        self.from_a("UPDATE", 2, "Session-Expires: 90")
        [answer] = self.whole.sent()
        self.assertEqual(answer.get("Session-Expires"), "90;refresher=uas")
        found = self.whole.pass_time(51, 0.5)
        self.assertEqual([what for _, what in found][:1], ["INVITE"])
        self.assertTrue(dialog.connected)

    def test_of_ours(self) -> None:
        """A re-INVITE of ours leaves the timer of both sides on."""
        dialog = self.answered(headers={"Session-Expires": "90;refresher=uac"})
        changing = dialog.modify(ANSWER)
        asked = self.whole.request()
        self.assertEqual(asked.get("Session-Expires"), "90;refresher=uas")
        headers = {"Session-Expires": "90;refresher=uas"}
        self.whole.respond(asked, 200, headers=headers, port=A)
        self.assertEqual([head(one) for one in self.whole.sent()], ["ACK"])
        self.successResultOf(changing)
        found = self.whole.pass_time(91, 1.0)
        self.assertEqual([(when, what) for when, what in found][:1], [(90.0, "BYE")])
