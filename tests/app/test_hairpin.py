"""Applications that call themselves, or each other, through one server.

The two sides of such a call have one Call-ID and one From tag, and so one dialog id: what tells
them apart is whether the server is called or calls (RFC 3261 section 12).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    Dialog,
    DialogEnd,
    DialogState,
    Request,
    Response,
    Srf,
    couple,
    forward_in_dialog,
    simring,
)
from drachtwist.sip.message import Response as SipResponse
from tests.server.doubles import HOST, PORT, request
from tests.whole import Hairpin

OFFER = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
ANSWER = "v=0\r\no=app 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"


def here(user: str) -> str:
    """Name somebody at the server itself."""
    return f"sip:{user}@{HOST}:{PORT}"


class HairpinTestCase(SynchronousTestCase):
    """Has applications that do what the user part of the Request-URI says."""

    applications = 1

    def setUp(self) -> None:
        """Connect the applications."""
        self.hairpin = Hairpin(self.applications)
        self.accepted: list[Dialog] = []
        self.bridged: list[Dialog] = []
        self.ringing: list[tuple[Request, Response]] = []
        self.heard: list[str] = []
        for site in self.hairpin.sites:
            self.install(site.srf)
        self.hairpin.turn()
        # Calls are shared in turns, and the last one is not the first one called.
        self.srf = self.hairpin.sites[-1].srf

    def install(self, srf: Srf) -> None:
        """Say what an application does with calls."""

        @srf.invite
        async def called(req: Request, res: Response) -> None:
            what = req.called_number
            if what == "in":
                self.accepted.append(await srf.create_uas(req, res, local_sdp=ANSWER))
            elif what == "out":
                pair = await srf.create_b2bua(req, res, here("in"))
                couple(pair.uas, pair.uac)
                forward_in_dialog(pair.uas, pair.uac)
                self.bridged += pair
            elif what == "both":
                self.bridged += await simring(srf, req, res, [here("ring"), here("busy")])
                couple(*self.bridged)
            elif what == "ring":
                res.send(180)
                self.ringing.append((req, res))
                req.on_cancel(lambda _: self.heard.append("cancelled"))
            elif what == "busy":
                res.send(486)
            elif what == "forked":
                await srf.proxy_request(
                    req,
                    [here("ring"), here("ring") + ";n=2"],
                    forking="simultaneous",
                    record_route=True,
                )
            elif what == "proxied":
                await srf.proxy_request(req, here("in"), record_route=True)

        @srf.subscribe
        async def subscribed(req: Request, res: Response) -> None:
            self.accepted.append(await srf.create_uas(req, res))

    def call(self, user: str) -> Dialog:
        """Let the first application call."""
        calling = self.srf.create_uac(here(user), local_sdp=OFFER)
        self.hairpin.turn()
        return self.successResultOf(calling)

    def get(self, asking: Deferred[Any]) -> Any:
        """Carry everything, and give what came of a request."""
        self.hairpin.turn()
        return self.successResultOf(asking)

    def listen(self, **dialogs: Dialog) -> None:
        """Note which dialog hears what."""
        for name, dialog in dialogs.items():
            self.listen_to(name, dialog)

    def listen_to(self, name: str, dialog: Dialog) -> None:
        """Note what a dialog hears."""

        @dialog.on_info
        def info(req: Request, res: Response) -> None:
            self.heard.append(f"{name} INFO")
            res.send(200, headers={"X-From": name})

        @dialog.on_modify
        def modify(req: Request, res: Response) -> None:
            self.heard.append(f"{name} INVITE")
            res.send(200, body=ANSWER)

        dialog.on_ack(lambda ack: self.heard.append(f"{name} ACK"))
        dialog.on_destroy(lambda bye: self.heard.append(f"{name} over"))

    def assert_idle(self) -> None:
        """See that nothing is left."""
        self.hairpin.turn()
        self.assertEqual([site.srf.idle for site in self.hairpin.sites], [True] * self.applications)
        self.assertEqual(len(self.hairpin.server.core.dialogs), 0)

    # A phone

    def ring(self, user: str, extra: str = "") -> SipResponse:
        """Let a phone call, and give what it hears last."""
        self.hairpin.server.receive(
            request("INVITE", body=OFFER, extra=extra).replace("sip:app@", f"sip:{user}@", 1)
        )
        *_, last = self.hairpin.turn()
        assert isinstance(last, SipResponse)
        return last

    def from_phone(self, answer: SipResponse, method: str, number: int, *extra: str) -> list[str]:
        """Let the phone say something in its call."""
        lines = [f"Route: {route}" for route in answer.get_all("Record-Route")[::-1]]
        text = request(
            method, number=number, to_tag=answer.to.tag or "", extra="\n".join([*lines, *extra])
        )
        return self.hairpin.receive(text)


class CallTests(HairpinTestCase):
    """A call from an application to itself."""

    def test_tell_apart(self) -> None:
        """Both sides have one id, and are found by their roles."""
        uac = self.call("in")
        [uas] = self.accepted
        self.assertEqual((uas.id, uas.type, uac.type), (uac.id, "uas", "uac"))
        self.assertIsNone(self.successResultOf(uas.when_acked()))
        for dialog in (uas, uac):
            found = dialog.srf.find_dialog_by_id(dialog.id, type=dialog.type)
            self.assertIs(found, dialog)
            self.assertIs(
                dialog.srf.find_dialog_by_call_id_and_from_tag(
                    dialog.call_id, uac.local.tag, type=dialog.type
                ),
                dialog,
            )
        self.assertEqual((uas.remote.tag, uas.local.tag), (uac.local.tag, uac.remote.tag))

    def test_requests_cross(self) -> None:
        """What one side says the other hears, whichever side it is."""
        uac = self.call("in")
        [uas] = self.accepted
        self.listen(uas=uas, uac=uac)
        self.heard.clear()  # the ACK
        self.assertEqual(self.get(uac.info()).get("X-From"), "uas")
        self.assertEqual(self.get(uas.info()).get("X-From"), "uac")
        self.get(uac.modify(OFFER))
        self.get(uas.modify(OFFER))
        self.assertEqual(
            self.heard,
            ["uas INFO", "uac INFO", "uas INVITE", "uas ACK", "uac INVITE", "uac ACK"],
        )

    def test_caller_hangs_up(self) -> None:
        """The BYE of the calling side ends the called one."""
        uac = self.call("in")
        [uas] = self.accepted
        self.listen(uas=uas, uac=uac)
        self.assertEqual(self.get(uac.destroy()).status, 200)
        self.assertEqual(self.heard[-1], "uas over")
        self.assert_idle()

    def test_callee_hangs_up(self) -> None:
        """The BYE of the called side ends the calling one."""
        uac = self.call("in")
        [uas] = self.accepted
        self.listen(uas=uas, uac=uac)
        self.assertEqual(self.get(uas.destroy()).status, 200)
        self.assertEqual(self.heard[-1], "uac over")
        self.assert_idle()

    def test_both_hang_up(self) -> None:
        """BYEs that cross are answered each."""
        uac = self.call("in")
        [uas] = self.accepted
        over = [uac.destroy(), uas.destroy()]
        self.hairpin.turn()
        for each in over:
            self.successResultOf(each)
        self.assert_idle()

    def test_give_up(self) -> None:
        """A CANCEL reaches the side that rings."""
        calling = self.srf.create_uac(here("ring"), local_sdp=OFFER)
        self.hairpin.turn()
        calling.cancel()
        self.hairpin.turn()
        self.failureResultOf(calling)
        self.assertEqual(self.heard, ["cancelled"])
        self.assert_idle()

    def test_reliable(self) -> None:
        """A reliable provisional response gets its PRACK, and the call comes up all the same."""
        calling = self.srf.create_uac(
            here("ring"), local_sdp=OFFER, headers={"Supported": "100rel"}
        )
        self.hairpin.turn()
        [(req, res)] = self.ringing
        pracked: list[Request] = []
        res.send(183, headers={"Require": "100rel"}, body=ANSWER, on_prack=pracked.append)
        self.hairpin.turn()
        self.assertEqual([one.method for one in pracked], ["PRACK"])
        uas = self.get(req.srf.create_uas(req, res, local_sdp=ANSWER))
        uac = self.successResultOf(calling)
        self.listen(uas=uas, uac=uac)
        self.get(uac.info())
        self.get(uas.info())
        self.get(uas.destroy())
        self.assertEqual(self.heard[-3:], ["uas INFO", "uac INFO", "uac over"])
        self.assert_idle()

    def test_callee_hangs_up_while_acked(self) -> None:
        """A BYE that waits for the ACK reaches the other side."""
        calling = self.srf.create_uac(here("ring"), local_sdp=OFFER, no_ack=True)
        self.hairpin.turn()
        [(req, res)] = self.ringing
        uas = self.get(req.srf.create_uas(req, res, local_sdp=ANSWER))
        uac = self.successResultOf(calling)
        over = uas.destroy()
        self.hairpin.turn()
        self.assertNoResult(over)
        uac.ack()
        self.get(over)
        self.assert_idle()

    def test_late_request(self) -> None:
        """What comes for one side after its end is not for the other."""
        uac = self.call("in")
        [uas] = self.accepted
        self.listen(uas=uas, uac=uac)
        self.heard.clear()
        # The server's own idea of the dialog outlives that of the application.
        uas._over(DialogEnd.LOCAL)
        self.assertEqual(self.get(uac.info()).status, 481)
        self.assertEqual(self.heard, [])
        self.assertTrue(uac.connected)

    def test_server_hangs_up(self) -> None:
        """The server's own BYE is for the side that it is sent by, and reaches the other."""
        calling = self.srf.create_uac(here("ring"), local_sdp=OFFER, no_ack=True)
        self.hairpin.turn()
        [(req, res)] = self.ringing
        uas = self.get(req.srf.create_uas(req, res, local_sdp=ANSWER))
        uac = self.successResultOf(calling)
        self.hairpin.pass_time(40)
        ended = [dialog.ended for dialog in (uas, uac)]
        self.assertEqual(
            [None if end is None else end.reason.name for end in ended], ["SERVER", "REMOTE"]
        )
        self.hairpin.pass_time(40)
        self.assert_idle()

    def test_subscription(self) -> None:
        """A subscription to oneself: the notifier's NOTIFYs reach the subscriber."""
        headers = {"Event": "presence", "Expires": "60"}
        calling = self.srf.create_uac(here("in"), method="SUBSCRIBE", headers=headers)
        self.hairpin.turn()
        uac = self.successResultOf(calling)
        [uas] = self.accepted
        news: list[str] = []

        @uac.on_notify
        def notified(req: Request, res: Response) -> None:
            news.append(req.get("Subscription-State") or "")
            res.send(200)

        uas.on_subscribe(lambda req, res: res.send(202))
        state = {"Event": "presence", "Subscription-State": "active"}
        self.assertEqual(self.get(uas.notify(headers=state)).status, 200)
        self.assertEqual(self.get(uac.subscribe(headers=headers)).status, 202)
        self.get(uas.destroy())
        self.assertEqual(news, ["active", "terminated"])
        self.assert_idle()

    def test_states(self) -> None:
        """Those who watch calls see two, whose states can be told apart."""
        states: list[DialogState] = []
        for site in self.hairpin.sites:
            site.srf.on_dialog_state(states.append)
        uac = self.call("in")
        self.get(uac.destroy())
        found = {
            direction: [one.state for one in states if one.direction == direction]
            for direction in ("initiator", "recipient")
        }
        for seen in found.values():
            self.assertEqual((seen[0], seen[-2:]), ("trying", ["confirmed", "terminated"]))
        self.assertEqual(len({one.id for one in states}), 2)

    def test_credentials(self) -> None:
        """What one side's peer wanted to know is not told to the other's."""
        uac = self.call("in")
        [uas] = self.accepted
        challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", algorithm=MD5'}
        asked: list[tuple[str, str | None]] = []

        def ask(name: str) -> Any:
            def asked_for(req: Request, res: Response) -> None:
                authorization = req.get("Authorization")
                asked.append((name, authorization))
                if name == "uas" and authorization is None:
                    res.send(401, headers=challenge)
                else:
                    res.send(200)

            return asked_for

        uas.on_info(ask("uas"))
        uac.on_info(ask("uac"))
        uac.auth = uas.auth = ("me", "secret")
        self.assertEqual(self.get(uac.info()).status, 200)
        self.assertEqual(self.get(uas.info()).status, 200)
        self.assertEqual([name for name, _ in asked], ["uas", "uas", "uac"])
        self.assertIsNone(asked[-1][1])

    def test_connection_lost(self) -> None:
        """Whoever comes back ends both sides."""
        uac = self.call("in")
        [uas] = self.accepted
        for site in self.hairpin.sites:
            site.lose()
        self.hairpin.turn()
        self.assertEqual([uac.connected, uas.connected], [False, False])
        self.assertEqual(len(self.hairpin.server.core.dialogs), 2)
        self.hairpin.pass_time(2)
        self.assert_idle()


class BridgeTests(HairpinTestCase):
    """Calls that an application passes on to itself."""

    def test_caller_hangs_up(self) -> None:
        """The phone's requests and its BYE go all the way."""
        answer = self.ring("out")
        self.assertEqual(answer.status, 200)
        self.from_phone(answer, "ACK", 1)
        [uas] = self.accepted
        self.listen(last=uas)
        self.assertEqual(self.from_phone(answer, "INFO", 2), ["200 INFO"])
        self.assertEqual(self.heard, ["last ACK", "last INFO"])
        self.assertEqual(self.from_phone(answer, "BYE", 3), ["200 BYE"])
        self.assertEqual(self.heard[2:], ["last over"])
        self.assert_idle()

    def test_callee_hangs_up(self) -> None:
        """So do those of the last one called."""
        answer = self.ring("out")
        self.from_phone(answer, "ACK", 1)
        [uas] = self.accepted
        over = uas.destroy()
        [bye] = self.hairpin.turn()
        self.successResultOf(over)
        self.hairpin.server.receive(_ok(bye))
        self.assert_idle()

    def test_all_its_own(self) -> None:
        """A call of one's own, passed on by oneself, to oneself."""
        uac = self.call("out")
        [uas] = self.accepted
        self.listen(first=uac, last=uas)
        self.heard.clear()
        self.get(uac.info())
        self.get(uas.info())
        self.get(uac.modify(OFFER))
        self.assertEqual(self.heard, ["last INFO", "first INFO", "last INVITE", "last ACK"])
        self.get(uac.destroy())
        self.assertEqual(self.heard[4:], ["last over"])
        self.assert_idle()

    def test_all_its_own_from_behind(self) -> None:
        """It is ended by the last one as well."""
        uac = self.call("out")
        [uas] = self.accepted
        self.listen(first=uac)
        self.get(uas.destroy())
        self.assertEqual(self.heard[-1], "first over")
        self.assert_idle()

    def test_simring(self) -> None:
        """One of several that ring here is connected, and the call ends from either side."""
        for user in ("caller", "callee"):
            with self.subTest(user=user):
                self.ringing.clear()
                self.bridged.clear()
                self.heard.clear()
                calling = self.srf.create_uac(here("both"), local_sdp=OFFER)
                self.hairpin.turn()
                [(req, res)] = self.ringing
                uas = self.get(req.srf.create_uas(req, res, local_sdp=ANSWER))
                uac = self.successResultOf(calling)
                self.listen(first=uac, last=uas)
                if user == "caller":
                    self.get(uac.destroy())
                    self.assertEqual(self.heard[-1], "last over")
                else:
                    self.get(uas.destroy())
                    self.assertEqual(self.heard[-1], "first over")
                self.assert_idle()

    def test_simring_cancelled(self) -> None:
        """The caller's CANCEL reaches whoever rings."""
        calling = self.srf.create_uac(here("both"), local_sdp=OFFER)
        self.hairpin.turn()
        calling.cancel()
        self.hairpin.turn()
        self.failureResultOf(calling)
        self.assertEqual(self.heard, ["cancelled"])
        self.assert_idle()


class ProxyTests(HairpinTestCase):
    """Calls that the server forwards to itself: one Call-ID and From tag on every way."""

    def test_phone(self) -> None:
        """A phone's call that is forwarded to an application here."""
        answer = self.ring("proxied")
        self.assertEqual(answer.status, 200)
        self.from_phone(answer, "ACK", 1)
        [uas] = self.accepted
        self.listen(last=uas)
        self.assertEqual(self.from_phone(answer, "INFO", 2), ["200 INFO"])
        self.assertEqual(self.from_phone(answer, "BYE", 3), ["200 BYE"])
        self.assertEqual(self.heard, ["last ACK", "last INFO", "last over"])
        self.assert_idle()

    def test_phone_hung_up_on(self) -> None:
        """The application's BYE reaches the phone through the proxy."""
        answer = self.ring("proxied")
        self.from_phone(answer, "ACK", 1)
        [uas] = self.accepted
        over = uas.destroy()
        [bye] = self.hairpin.turn()
        self.hairpin.server.receive(_ok(bye))
        self.get(over)
        self.assert_idle()

    def test_forked(self) -> None:
        """Of a call that is forked to two here one copy comes through; the call goes on in it."""
        self.ring("forked", "Supported: 100rel")
        [(req, res)] = self.ringing
        ringing = res.send(183, headers={"Require": "100rel"}, body=ANSWER)
        self.hairpin.turn()
        early = self.successResultOf(ringing)
        rack = f"RAck: {early.get('RSeq')} 1 INVITE"
        self.assertEqual(self.from_phone(early, "PRACK", 2, rack), ["200 PRACK"])
        accepting = req.srf.create_uas(req, res, local_sdp=ANSWER)
        [answer] = self.hairpin.turn()
        assert isinstance(answer, SipResponse)
        self.from_phone(answer, "ACK", 1)
        self.listen(last=self.successResultOf(accepting))
        self.assertEqual(self.from_phone(answer, "BYE", 3), ["200 BYE"])
        self.assertEqual(self.heard[-1], "last over")
        self.assert_idle()

    def test_own_call(self) -> None:
        """An application's own call that is forwarded back to it."""
        for user in ("caller", "callee"):
            with self.subTest(user=user):
                self.accepted.clear()
                self.heard.clear()
                uac = self.call("proxied")
                [uas] = self.accepted
                self.listen(first=uac, last=uas)
                self.heard.clear()
                self.get(uac.info())
                self.get(uas.info())
                self.assertEqual(self.heard, ["last INFO", "first INFO"])
                if user == "caller":
                    self.get(uac.destroy())
                    self.assertEqual(self.heard[-1], "last over")
                else:
                    self.get(uas.destroy())
                    self.assertEqual(self.heard[-1], "first over")
                self.assert_idle()


class CallBetweenTwoTests(CallTests):
    """The same between two applications."""

    applications = 2


class BridgeBetweenTwoTests(BridgeTests):
    """The same between two applications."""

    applications = 2


class ProxyBetweenTwoTests(ProxyTests):
    """The same between two applications."""

    applications = 2


def _ok(bye: Any) -> str:
    lines = ["SIP/2.0 200 OK", *[f"Via: {via}" for via in bye.get_all("Via")]]
    lines += [f"{name}: {bye.get(name)}" for name in ("From", "To", "Call-ID", "CSeq")]
    return "\n".join([*lines, "Content-Length: 0"]) + "\n\n"
