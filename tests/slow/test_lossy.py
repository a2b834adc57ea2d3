"""Servers with their applications over a network that loses, doubles and reorders.

However much is lost on the way, everything that was begun comes to an end, and nothing stays of it:
no transaction, no dialog, no deadline. Seeds are chance; one that fails is told, and fails again.
"""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.proxy.known_calls import IDLE
from tests.server.network import PATIENCE, Conditions, Network

NUMBER = 250
SEEDS = st.integers(0, 2**32 - 1)
# A smaller seed that fails too would say no more than the first one.
four_times = settings(
    max_examples=4, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)


class LossyNetworkTests(SynchronousTestCase):
    timeout = 300

    def act(self, seed: int, conditions: Conditions, patience: float = PATIENCE) -> Network:
        """Let so many things happen, and see that all of them come to an end."""
        network = Network(seed, conditions)
        try:
            for _ in range(NUMBER):
                network.act()
                network.turn()
                network.run(network.random.uniform(0.0, 0.4))
            network.run(patience + 700.0)
        except Exception as error:
            raise AssertionError(str(network)) from error
        self.assertEqual(network.left(), {}, network)
        self.assertEqual(self.flushLoggedErrors(), [], network)
        return network

    def assert_hardly_any_failed(self, network: Network) -> None:
        """See that what was lost was sent again."""
        self.assertLess(network.failures() + network.lonely, NUMBER // 50, network)

    @four_times
    @given(SEEDS)
    def test_everything(self, seed: int) -> None:
        """A tenth is lost, some arrives twice, and overtakes."""
        self.assert_hardly_any_failed(self.act(seed, Conditions(0.1, 0.05, 0.001, 0.3)))

    @four_times
    @given(SEEDS)
    def test_loss(self, seed: int) -> None:
        """A tenth is lost."""
        self.assert_hardly_any_failed(self.act(seed, Conditions(loss=0.1)))

    @four_times
    @given(SEEDS, st.floats(0.0, 0.5))
    def test_doubles(self, seed: int, doubles: float) -> None:
        """Up to half arrives twice: everything goes as if it had not."""
        network = self.act(seed, Conditions(doubles=doubles))
        self.assertEqual((network.failures(), network.lonely), (0, 0), network)

    @four_times
    @given(SEEDS, st.floats(0.5, 3.0))
    def test_reordering(self, seed: int, farthest: float) -> None:
        """Everything arrives, but seconds later or sooner than what was sent before it."""
        self.assert_hardly_any_failed(self.act(seed, Conditions(nearest=0.001, farthest=farthest)))

    @four_times
    @given(SEEDS)
    def test_hardly_anything_arrives(self, seed: int) -> None:
        """Nine tenths are lost: little works, but what does not ends as well.

        A proxy that a BYE never comes to knows the call for a day.
        """
        network = self.act(seed, Conditions(0.9, 0.1, 0.001, 3.0), PATIENCE + IDLE)
        self.assertGreater(network.failures(), NUMBER // 4, network)
