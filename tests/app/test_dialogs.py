"""Which dialog of an id a request belongs to."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, Request, Response, SipError
from drachtwist.app.dialog_table import role_of
from tests.app.doubles import ANSWER, OFFER, Bench
from tests.steps import steps_of

ID = "c;from-tag=x;from-tag=T1"


def info(from_: str, *, before: str = "", body: str = "") -> bytes:
    """Write a request with such a From line."""
    head = f"INFO sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n{before}{from_}\r\n"
    return f"{head}To: <sip:b@b>;tag=o\r\nCall-ID: c\r\nCSeq: 2 INFO\r\n\r\n{body}".encode()


class RoleTests(SynchronousTestCase):
    def test_calling_side(self) -> None:
        """Who has the tag of the id in From is the calling side, however it is written."""
        for line in (
            "From: <sip:a@b>;tag=T1",
            "From: <sip:a@b>;tag=t1",
            "From: <sip:a@b>;tag=T1;x=y",
            "From: <sip:a@b> ; tag = T1",
            'From: "; tag=o" <sip:a@b;tag=o>;TAG=T1',
            "From: <sip:a@b>;x=y\r\n ;tag=T1",
            "f: <sip:a@b>;tag=T1",
            "FROM : <sip:a@b>;tag=T1 ",
        ):
            self.assertEqual(role_of(ID, info(line), False), "uas", line)
            self.assertEqual(role_of(ID, info(line), True), "uac", line)

    def test_called_side(self) -> None:
        """Whoever has another one there, or none, is the called side."""
        for line in (
            "From: <sip:a@b>;tag=T2",
            "From: <sip:a@b>;tag=T11",
            "From: <sip:a@b;tag=T1>;tag=T2",
            'From: "T1;tag=T1" <sip:a@b>;tag=T2',
            "From: <sip:a@b>;xtag=T1;tag=T2",
            "From: <sip:a@b>",
            "From: <sip:T1@b",
            "f: <sip:a@b>;tag=T2",
        ):
            raw = info(line, body="\r\nFrom: <sip:a@b>;tag=T1\r\n")
            self.assertEqual(role_of(ID, raw, False), "uac", line)
            self.assertEqual(role_of(ID, raw, True), "uas", line)

    def test_without_tag(self) -> None:
        """The tag in the id is empty when the caller sent none."""
        self.assertEqual(role_of("c;from-tag=", info("From: <sip:a@b>"), False), "uas")
        self.assertEqual(role_of("c;from-tag=", info("From: <sip:a@b>;tag=x"), False), "uac")

    def test_opaque(self) -> None:
        """Of another kind of id nothing is known."""
        self.assertIsNone(role_of("d1", info("From: <sip:a@b>;tag=T1"), False))

    @given(st.binary(max_size=60), st.text(max_size=5))
    def test_never_fails(self, raw: bytes, tag: str) -> None:
        """Whatever a peer sends, there is an answer."""
        self.assertIn(role_of(f"c;from-tag={tag}", b"INFO " + raw, False), ("uas", "uac"))


class EarlyTests(SynchronousTestCase):
    """A call to oneself that rings reliably: one id, and no dialog yet."""

    def setUp(self) -> None:
        """Let the call ring."""
        self.bench = Bench()
        self.srf = self.bench.srf
        self.kept: list[tuple[Request, Response]] = []
        self.srf.invite(lambda req, res: self.kept.append((req, res)))
        self.server = self.bench.connect()
        self.heard: list[str] = []
        self.calling: Deferred[Dialog] = self.srf.create_uac(
            "sip:app@127.0.0.1:32060",
            local_sdp=OFFER,
            headers={
                "From": "<sip:app@127.0.0.1:32060>;tag=a",
                "Call-ID": "c1",
                "Supported": "100rel",
            },
            on_update=self.answered_as("uac"),
        )
        self.sent = self.server.one()
        self.uac_txn = self.server.confirm(self.sent)
        self.uas_txn = self.server.invite(headers={"Supported": "100rel"})
        [(req, res)] = self.kept
        req.on_update(self.answered_as("uas"))
        req.on_cancel(lambda _: self.heard.append("uas over"))
        res.send(183, headers={"Require": "100rel"}, body=ANSWER)
        self.server.confirm(self.server.one(), "c1;from-tag=a")
        self.server.respond(
            self.uac_txn,
            183,
            dialog_id="c1;from-tag=a",
            headers={"Require": "100rel", "RSeq": "1", "To": "<sip:app@b>;tag=app"},
        )
        self.prack = self.server.one()

    def answered_as(self, name: str) -> Any:
        """Make a handler that answers."""

        def answer(req: Request, res: Response) -> None:
            self.heard.append(f"{name} {req.method}")
            res.send(200)

        return answer

    def test_named(self) -> None:
        """The PRACK says whose it is."""
        self.assertEqual(self.prack.head, "PRACK")
        self.assertEqual(
            (self.prack.request.get("From"), self.prack.request.get("To")),
            ("<sip:app@127.0.0.1:32060>;tag=a", "<sip:app@b>;tag=app"),
        )

    def test_told_apart(self) -> None:
        """UPDATEs reach the side that they are for."""
        self.server.ask("UPDATE", dialog_id="c1;from-tag=a", transaction_id=self.uas_txn)
        other = {"From": "<sip:app@b>;tag=app", "To": "<sip:app@127.0.0.1:32060>;tag=a"}
        self.server.ask("UPDATE", dialog_id="c1;from-tag=a", headers=other)
        self.assertEqual(self.heard, ["uas UPDATE", "uac UPDATE"])

    def test_hung_up(self) -> None:
        """A BYE of the called side is no cancel of the calling one."""
        other = {"From": "<sip:app@b>;tag=app", "To": "<sip:app@127.0.0.1:32060>;tag=a"}
        self.server.ask("BYE", dialog_id="c1;from-tag=a", headers=other)
        self.assertEqual(self.heard, [])
        self.assertEqual(self.failureResultOf(self.calling, SipError).value.status, 487)
        self.server.ask("BYE", dialog_id="c1;from-tag=a")
        self.assertEqual(self.heard, ["uas over"])


class FindTests(SynchronousTestCase):
    """A dialog is found by its id, whichever connection it lives on."""

    def setUp(self) -> None:
        """Answer all calls, which servers connect for."""
        self.bench = Bench()
        self.srf = self.bench.srf
        self.dialogs: list[Dialog] = []

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            self.dialogs.append(await self.srf.create_uas(req, res, local_sdp=ANSWER))

        self.bench.listen()

    def call(self, name: str) -> Dialog:
        """Let a server connect for a call, which is answered."""
        self.bench.dial().establish(call=name)
        return self.dialogs[-1]

    def steps(self, calls: int) -> int:
        """Count the steps that it takes to find the last dialog of many."""
        for number in range(calls):
            last = self.call(f"call{number}")
        return steps_of(lambda: self.assertIs(self.srf.find_dialog_by_id(last.id), last))

    def test_many_connections(self) -> None:
        """It takes no longer when there are many connections."""
        few = self.steps(2)
        self.assertEqual(self.steps(200), few)

    def test_over(self) -> None:
        """One that is over is not found, nor one whose connection is lost."""
        first, second = self.call("c1"), self.call("c2")
        self.bench.servers[0].lose()
        self.assertIsNone(self.srf.find_dialog_by_id(first.id))
        self.bench.servers[1].ask("BYE", call="c2", dialog_id=second.id)
        self.assertIsNone(self.srf.find_dialog_by_id(second.id))

    def test_several(self) -> None:
        """Of several of an id the oldest is found, and then the others."""
        first, second, third = (self.call("c1") for _ in range(3))
        for server, left in zip(self.bench.servers, (second, third, None), strict=True):
            self.assertIsNot(self.srf.find_dialog_by_id(first.id), left)
            server.lose()
            self.assertIs(self.srf.find_dialog_by_id(first.id), left)
        self.assertIsNone(self.srf.find_dialog_by_id(first.id, type="uac"))
