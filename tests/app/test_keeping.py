"""Calls that outlive the connection to the server, for as long as the application wants."""

from __future__ import annotations

from typing import Any

from drachtwist import ConnectionLost, Dialog, DialogEnd, LocalProtocolError, Srf
from drachtwist.sip import Request as SipRequest
from tests.app.calling import ANSWER, OFFER, A, CallTestCase
from tests.server.doubles import request
from tests.server.test_uac import reply
from tests.whole import Whole

B = 32071
KEEP = 20.0
LOST = 'SIP;cause=503;text="Connection to the application lost"'


class KeepingTestCase(CallTestCase):
    """Has an application that keeps its calls."""

    options: dict[str, Any] = {"keep_calls": KEEP}

    def setUp(self) -> None:
        """Connect it."""
        super().setUp()
        self.ends: list[DialogEnd] = []

    def make(self) -> Whole:
        """Make the application and the server."""
        return Whole(self.settings, **self.options)

    def call(self) -> Dialog:
        """Have a call."""
        call = self.answered()
        call.when_ended().addCallback(lambda ended: self.ends.append(ended.reason))
        return call

    def return_(self) -> list[SipRequest]:
        """Lose the connection, and let it come back; give the requests that were sent then."""
        self.whole.lose()
        self.whole.clock.advance(1)
        return [one for one in self.whole.sent() if isinstance(one, SipRequest)]

    def hang_up(self, call: Dialog) -> None:
        """Let the application hang up, and see that nothing is left anywhere."""
        over = call.destroy()
        [bye] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        self.assertEqual(bye.method, "BYE")
        self.whole.receive(reply(bye, 200), A)
        self.successResultOf(over)
        self.nothing_left()

    def nothing_left(self) -> None:
        """See that neither the server nor the application have any call."""
        core = self.whole.server.core
        self.assertEqual((len(core.dialogs), len(core.orphans)), (0, 0))
        self.whole.pass_time(70)
        self.assertTrue(self.srf.idle)
        self.assertEqual(core.counts()["client_transactions"], 0)


class KeptTests(KeepingTestCase):
    """The connection comes back in time."""

    def test_goes_on(self) -> None:
        """The call goes on: each side reaches the other, and either can end it."""
        call = self.call()
        asked: list[Any] = []

        @call.on_info
        def info(req: Any, res: Any) -> None:
            asked.append(req)
            res.send(200)

        self.whole.lose()
        self.assertEqual((call.connected, self.ends, self.srf.idle), (True, [], False))
        self.assertIs(self.srf.find_dialog_by_id(call.id), call)
        self.whole.clock.advance(1)
        [options] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        self.assertEqual((options.method, options.call_id), ("OPTIONS", "c1"))
        self.assertIs(call.link, self.srf.links[0])
        self.from_a("INFO", 2)
        self.whole.receive(reply(options, 200), A)
        self.assertEqual((self.whole.heads(), len(asked)), (["200 INFO"], 1))

        changing = call.modify("hold")
        [invite] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        self.whole.receive(reply(invite, 200, body=ANSWER), A)
        self.successResultOf(changing)
        self.assertEqual(self.whole.heads(), ["ACK"])
        self.whole.pass_time(100)
        self.assertTrue(call.connected)
        self.assertEqual(self.whole.server.core.orphans.claimed, 1)
        self.hang_up(call)
        self.assertEqual(self.ends, [DialogEnd.LOCAL])

    def test_phone_hangs_up(self) -> None:
        """The phone may hang up afterwards, and the application hears of it as always."""
        self.call()
        [options] = self.return_()
        self.whole.receive(reply(options, 405), A)  # any answer will do
        self.from_a("BYE", 2)
        self.assertEqual(self.whole.heads(), ["200 BYE"])
        self.assertEqual(self.ends, [DialogEnd.REMOTE])
        self.nothing_left()

    def test_bridged(self) -> None:
        """Both sides of a call that is bridged go on, and end together."""
        invite = self.bridged()
        for one in self.return_():
            self.assertEqual(one.method, "OPTIONS")
            self.whole.receive(reply(one, 200), A if one.call_id == "c1" else B)
        self.from_a("BYE", 2)
        sent = self.whole.sent()
        [bye] = [one for one in sent if isinstance(one, SipRequest)]
        self.assertEqual((bye.method, bye.call_id), ("BYE", invite.call_id))
        self.whole.receive(reply(bye, 200), B)
        self.nothing_left()

    def test_lost_again(self) -> None:
        """It may be lost again and again, also before the phone has answered."""
        call = self.call()
        self.return_()
        for _ in range(3):
            options = self.return_()[-1]
        self.whole.receive(reply(options, 200), A)
        self.assertEqual((call.connected, self.ends), (True, []))
        self.whole.pass_time(100)
        self.hang_up(call)

    def test_meanwhile(self) -> None:
        """What is sent while it is gone fails; a call that was to be ended then is ended later."""
        call = self.call()
        self.whole.lose()
        waiting = [call.info(), call.modify("hold"), call.destroy()]
        self.whole.clock.advance(0)
        for one in waiting:
            self.failureResultOf(one, ConnectionLost)
        self.assertFalse(call.connected)
        self.whole.clock.advance(1)
        [bye] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        self.assertEqual((bye.method, self.ends), ("BYE", [DialogEnd.LINK_LOST]))
        self.whole.receive(reply(bye, 200), A)
        self.nothing_left()

    def test_under_way(self) -> None:
        """A request in the call that was under way fails, and the call goes on."""
        call = self.call()
        info = call.info()
        self.whole.sent()
        [*_, options] = self.return_()
        self.failureResultOf(info, ConnectionLost)
        self.whole.receive(reply(options, 200), A)
        self.assertTrue(call.connected)
        self.hang_up(call)


class EndedTests(KeepingTestCase):
    """The call ends all the same."""

    def ended(self, call: Dialog, text: str = "") -> None:
        """See that it ended as if it had not been kept."""
        self.assertEqual((self.ends, call.connected), ([DialogEnd.LINK_LOST], False))
        assert call.ended is not None
        self.assertIn(text, call.ended.text)

    def test_too_late(self) -> None:
        """The connection does not come back in time; when it does later, the phone gets a BYE."""
        call = self.call()
        told: list[Any] = []
        call.on_destroy(told.append)
        self.whole.is_down = True
        self.whole.lose()
        self.whole.clock.pump([1.0] * int(KEEP - 1))
        self.assertEqual(self.ends, [])
        self.whole.clock.advance(1)
        self.ended(call)
        self.assertEqual((told, self.srf.idle), ([None], True))
        self.assertIsNone(self.srf.find_dialog_by_id(call.id))
        self.whole.is_down = False
        sent: list[Any] = []
        while not sent:
            self.whole.clock.advance(1)
            sent = self.whole.sent()
        [bye] = sent
        self.assertEqual((bye.method, bye.get("Reason")), ("BYE", LOST))
        self.whole.receive(reply(bye, 200), A)
        self.nothing_left()

    def test_hung_up_meanwhile(self) -> None:
        """The phone hangs up while the connection is gone: the server knows no such call."""
        call = self.call()
        self.whole.lose()
        self.whole.server.receive(request("BYE", number=2, to_tag=self.answer.to.tag or ""), A)
        self.assertEqual(self.whole.heads(), ["200 BYE"])
        self.whole.clock.advance(1)
        self.assertEqual(self.whole.heads(), [])
        self.ended(call, "the server does not know it any more")
        self.nothing_left()

    def test_phone_knows_nothing(self) -> None:
        """The phone answers that it is in no such call (RFC 3261 section 12.2.1.2)."""
        for status in (481, 408):
            with self.subTest(status=status):
                self.setUp()
                call = self.call()
                [options] = self.return_()
                self.whole.receive(reply(options, status), A)
                self.ended(call, f"{status}")
                [bye] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
                self.assertEqual(bye.method, "BYE")
                self.whole.receive(reply(bye, 481), A)
                self.nothing_left()

    def test_undecided(self) -> None:
        """Calls in which something is under way that a lost connection leaves open are not kept."""

        def not_acknowledged() -> None:
            req, res = self.ring()
            accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
            [self.answer] = [one for one in self.whole.sent() if not isinstance(one, SipRequest)]
            call = self.successResultOf(accepting)
            call.when_ended().addCallback(lambda ended: self.ends.append(ended.reason))

        def changing() -> None:
            self.call().modify("hold").addErrback(lambda failure: None)

        def asked() -> None:
            self.call().on_modify(lambda req, res: None)
            self.from_a("INVITE", 2, body=OFFER)

        def ending() -> None:
            self.call().destroy().addErrback(lambda failure: None)

        for begin in (not_acknowledged, changing, asked, ending):
            with self.subTest(begin.__name__):
                self.setUp()
                begin()
                self.whole.sent()
                self.whole.lose()
                self.assertEqual(self.ends, [DialogEnd.LINK_LOST])
                self.assertTrue(self.srf.idle)

    def test_stopped(self) -> None:
        """An application that stops waits for no connection; with time to drain it does."""
        for drain, ends in ((0.0, 1), (10.0, 0)):
            with self.subTest(drain=drain):
                self.setUp()
                self.call()
                self.whole.is_down = True
                self.whole.lose()
                stopping = self.srf.stop(drain)
                self.whole.clock.advance(0)
                self.assertEqual(len(self.ends), ends)
                self.whole.clock.pump([1.0] * int(drain))
                self.assertEqual(self.ends, [DialogEnd.LINK_LOST])
                self.successResultOf(stopping)
                self.assertTrue(self.srf.idle)

    def test_stopped_in_the_end(self) -> None:
        """It drains no longer than there are calls that may come back."""
        self.call()
        self.whole.is_down = True
        self.whole.lose()
        stopping = self.srf.stop(1000)
        self.whole.clock.pump([1.0] * int(KEEP - 1))
        self.assertNoResult(stopping)
        self.whole.clock.advance(1)
        self.successResultOf(stopping)

    def test_too_short(self) -> None:
        """The time has to be one."""
        for seconds in (0, -1.0, float("nan")):
            self.assertRaises(LocalProtocolError, Srf, keep_calls=seconds)


class RealServerTests(KeepingTestCase):
    """A server that is not of this package keeps nothing."""

    settings = {"version": "v0.9.10"}

    def test_ended(self) -> None:
        """Its calls end with the connection, whatever the application wants."""
        self.call()
        self.whole.lose()
        self.assertEqual(self.ends, [DialogEnd.LINK_LOST])
