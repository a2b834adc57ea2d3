"""An application comes back to its server: the calls of before are ended, exactly once each."""

from __future__ import annotations

from drachtwist import DialogEnd
from drachtwist.sip import Request as SipRequest
from tests.app.calling import OFFER, A, CallTestCase
from tests.server.doubles import request
from tests.server.test_uac import reply

B = 32071
REASON = 'SIP;cause=503;text="Connection to the application lost"'


class ReturningTests(CallTestCase):
    """The connection is lost for a moment."""

    def return_(self, gap: float = 1.0) -> list[SipRequest]:
        """Lose the connection, and let it come back; give the requests that were sent then."""
        self.whole.lose()
        self.whole.clock.advance(gap)
        self.whole.clock.advance(1)
        return [one for one in self.whole.sent() if isinstance(one, SipRequest)]

    def nothing_left(self) -> None:
        """See that neither the server nor the application have anything any more."""
        counts = self.whole.server.core.counts()
        self.assertEqual((counts["dialogs"], counts["orphans"]), (0, 0))
        self.assertTrue(self.srf.idle)
        self.whole.pass_time(70)
        counts.update(self.whole.server.core.counts())
        self.assertEqual(counts.pop("applications"), 1)
        self.assertEqual(set(counts.values()), {0}, counts)
        self.assertTrue(self.srf.idle)

    def test_ended(self) -> None:
        """A phone gets a BYE that says why; the dialog had ended when the connection was lost."""
        call = self.answered()
        [bye] = self.return_()
        self.assertEqual((bye.method, bye.get("Reason")), ("BYE", REASON))
        ended = call.ended
        assert ended is not None
        self.assertIs(ended.reason, DialogEnd.LINK_LOST)
        self.assertFalse(self.srf.idle)
        self.whole.receive(reply(bye, 200), A)
        self.nothing_left()

    def test_crossing(self) -> None:
        """What crosses that BYE is answered as in a dialog that is over, and no handler is asked.

        A re-INVITE would be taken for a new call by the handler of INVITEs.
        """
        self.srf.info(lambda req, res: res.send(200))
        self.whole.pump()
        self.answered()
        [bye] = self.return_()
        self.from_a("INVITE", 2, body=OFFER)
        self.from_a("ACK", 2)
        self.from_a("INFO", 3)
        self.from_a("BYE", 4)
        found = [head for head in self.whole.heads() if not head.startswith("100 ")]
        self.assertEqual(found, ["481 INVITE", "481 INFO", "200 BYE"])
        self.assertEqual(len(self.kept), 1)
        self.whole.receive(reply(bye, 481), A)
        self.nothing_left()

    def test_new_calls(self) -> None:
        """New calls come as before, also with the id that the old one had."""
        self.answered()
        [bye] = self.return_()
        self.whole.receive(reply(bye, 200), A)
        self.whole.pass_time(40)
        self.answered()
        self.assertEqual(len(self.kept), 2)
        self.from_a("BYE", 2)
        self.assertEqual(self.whole.heads(), ["200 BYE"])
        self.nothing_left()

    def test_bridged(self) -> None:
        """Both phones of a call that was bridged get one."""
        invite = self.bridged()
        byes = self.return_()
        self.assertEqual(
            sorted((one.method, one.call_id) for one in byes),
            sorted(("BYE", call) for call in ("c1", invite.call_id)),
        )
        for bye in byes:
            self.whole.receive(reply(bye, 200), A if bye.call_id == "c1" else B)
        self.nothing_left()

    def test_hung_up_meanwhile(self) -> None:
        """Nothing is sent for a call that its phone has ended while the connection was gone."""
        self.answered()
        self.whole.lose()
        self.whole.server.receive(request("BYE", number=2, to_tag=self.answer.to.tag or ""), A)
        self.assertEqual(self.whole.heads(), ["200 BYE"])
        self.whole.clock.advance(1)
        self.assertEqual(self.whole.heads(), [])
        self.nothing_left()

    def test_too_late(self) -> None:
        """Nor for one that the server has ended before."""
        self.answered()
        self.whole.lose()
        core = self.whole.server.core
        core.orphans.tick(self.whole.clock.seconds() + 60)
        [bye] = [one for one in self.whole.server.take() if isinstance(one, SipRequest)]
        self.assertIn("Application gone", bye.get("Reason") or "")
        self.whole.server.receive(reply(bye, 200), A)
        self.whole.clock.advance(1)
        self.assertEqual(self.whole.heads(), [])
        self.nothing_left()

    def test_lost_again(self) -> None:
        """When the connection is lost again before the phone has answered, the server goes on."""
        self.answered()
        [bye] = self.return_()
        again = self.return_()
        self.assertEqual([one.method for one in again if one.raw != bye.raw], [])
        self.whole.receive(reply(bye, 200), A)
        self.nothing_left()
