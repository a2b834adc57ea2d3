"""Who may ask."""

from __future__ import annotations

from drachtwist import LocalProtocolError
from drachtwist.middleware import BlockScanners, RateLimit, SourceFilter
from tests.middleware.requests import MiddlewareTestCase


class SourceFilterTests(MiddlewareTestCase):
    def test_networks(self) -> None:
        """The narrowest network decides; without allowances all others may ask."""
        either = SourceFilter(["10.0.0.0/8", "2001:db8::/32"], ["10.1.0.0/16"])
        found = [
            either.allows(address)
            for address in (
                "10.2.3.4",
                "10.1.3.4",
                "192.0.2.1",
                "2001:db8::1",
                "::ffff:10.2.3.4",
                "x",
            )
        ]
        self.assertEqual(found, [True, False, False, True, True, False])
        denying = SourceFilter(deny=["10.0.0.0/8", "192.0.2.1"])
        found = [denying.allows(address) for address in ("10.2.3.4", "192.0.2.1", "192.0.2.2", "")]
        self.assertEqual(found, [False, False, True, True])
        exception = SourceFilter(["10.1.2.3"], ["10.0.0.0/8"])
        self.assertTrue(exception.allows("10.1.2.3"))

    def test_refused(self) -> None:
        """Others are refused, but may go on with what they have begun."""
        self.use(SourceFilter(["10.0.0.0/8"]))
        self.assertEqual(self.ask().status, 403)
        self.assertEqual(self.ask(to_tag="x").status, 200)

    def test_allowed(self) -> None:
        """Those who may ask are answered."""
        self.use(SourceFilter(["127.0.0.0/8"]))
        self.assertEqual(self.ask().status, 200)

    def test_no_network(self) -> None:
        """What is no network is refused when the filter is made."""
        with self.assertRaises(LocalProtocolError):
            SourceFilter(["10.0.0.0/40"])


class RateLimitTests(MiddlewareTestCase):
    def test_burst_and_rate(self) -> None:
        """A burst passes, then as many as the rate says; the refusal says how long to wait."""
        self.use(RateLimit(0.5, burst=2))
        answers = [self.ask() for _ in range(3)]
        self.assertEqual([one.status for one in answers], [200, 200, 503])
        self.assertEqual(answers[2].get("Retry-After"), "2")
        self.clock.advance(2)
        self.assertEqual([self.ask().status for _ in range(2)], [200, 503])

    def test_by_anything(self) -> None:
        """It counts by whatever is wanted, and only the methods that are named."""
        limit = RateLimit(1, key=lambda req: req.get("X-Key"), methods=["message"])
        self.use(limit)
        found = [self.ask("MESSAGE", f"X-Key: {key}\n").status for key in "aab"]
        self.assertEqual(found, [200, 503, 200])
        self.assertEqual([self.ask().status for _ in range(3)], [200] * 3)

    def test_memory(self) -> None:
        """It remembers so many sources, not all the world."""
        limit = RateLimit(1, key=lambda req: req.get("Call-ID"), max_sources=10)
        self.use(limit)
        for _ in range(50):
            self.ask()
        self.assertEqual(len(limit._buckets), 10)

    def test_nonsense(self) -> None:
        """Numbers that let nothing through are refused."""
        for rate, burst in ((0, None), (-1, 5), (1, 0.5)):
            with self.assertRaises(LocalProtocolError):
                RateLimit(rate, burst=burst)


class BlockScannersTests(MiddlewareTestCase):
    def test_blocked(self) -> None:
        """Scanners are refused by name, in any case; others are not, nor who gives no name."""
        self.use(BlockScanners())
        agents = ("Friendly-Scanner", "sipvicious v1", "VaxSIPUserAgent/3.1", "Linphone/5.0", "")
        found = [
            self.ask(extra=f"User-Agent: {agent}\n" if agent else "").status for agent in agents
        ]
        self.assertEqual(found, [403, 403, 403, 200, 200])

    def test_own_patterns(self) -> None:
        """The patterns may be others; one that is none is refused."""
        self.use(BlockScanners(["^evil/[0-9]"], status=603))
        self.assertEqual(self.ask(extra="User-Agent: evil/7\n").status, 603)
        with self.assertRaises(LocalProtocolError):
            BlockScanners(["("])
