"""Applications that await what asyncio has, on made-up time."""

from __future__ import annotations

import asyncio
import time
from asyncio.events import _get_running_loop
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, SipError, Srf
from drachtwist.net import tasks
from drachtwist.testing import HiddenWait, Network, PhoneError, SipTests


class LoopTests(SipTests, SynchronousTestCase):
    def setUp(self) -> None:
        """Let there be a loop."""
        super().setUp()
        self.sip.use_asyncio()

    def test_waiting(self) -> None:
        """A handler sleeps, gathers and gives up by the time of the network, Deferreds too."""
        srf = Srf()
        seen: list[Any] = []

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            res.send(180)
            await asyncio.sleep(3)
            seen.append(self.sip.seconds)
            await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
            await deferLater(srf.clock, 1)
            seen.append(self.sip.seconds)
            try:
                await asyncio.wait_for(srf.create_uac(self.sip.phones["bob"].uri), 5)
            except asyncio.TimeoutError:
                seen.append(self.sip.seconds)
            res.send(480)

        self.sip.serve(srf)
        bob = self.sip.phone("bob")
        began = time.perf_counter()
        call = self.sip.phone("alice").invite("x")
        self.sip.advance(4)
        self.assertTrue(call.ringing)
        self.sip.until(lambda: call.over)
        self.assertEqual((call.status, seen), (480, [3, 6, 11]))
        self.sip.settle()
        self.assertEqual(bob.call.status, 487)
        self.assertLess(time.perf_counter() - began, 10)
        self.sip.assert_idle()

    def test_the_real_world(self) -> None:
        """A loop of made-up time has no sockets and no threads, and says so."""
        srf = Srf()

        @srf.message
        async def ask(req: Request, res: Response) -> None:
            await asyncio.open_connection("127.0.0.1", 9)

        @srf.options
        async def work(req: Request, res: Response) -> None:
            await asyncio.to_thread(int)

        self.sip.serve(srf)
        alice = self.sip.phone("alice")
        self.assertEqual(alice.message("x", "x").status, 500)
        self.assertEqual(alice.options("x").status, 500)
        errors = [str(one.value) for one in self.sip.flush_errors(HiddenWait)]
        self.assertEqual(len(errors), 2)
        self.assertIn("create_connection", errors[0])
        self.flushLoggedErrors(HiddenWait)

    def test_refusal(self) -> None:
        """What Deferreds fail with, tasks fail with."""
        srf = Srf()

        @srf.invite
        async def connect(req: Request, res: Response) -> None:
            try:
                await srf.create_uac(self.sip.phones["bob"].uri)
            except SipError as error:
                res.send(error.status)

        self.sip.serve(srf)
        self.sip.phone("bob", answers=486)
        self.assertEqual(self.sip.phone("alice").invite("x").status, 486)

    def test_too_late(self) -> None:
        """There is a loop from the beginning, or none."""
        with Network() as net:
            net.serve(Srf())
            self.assertRaises(PhoneError, net.use_asyncio)


class AfterwardsTests(SynchronousTestCase):
    def test_nothing_is_left(self) -> None:
        """Afterwards there is no loop, and what still waited was cancelled."""
        before = tasks.is_active
        seen: list[str] = []
        srf = Srf()

        @srf.invite
        async def wait(req: Request, res: Response) -> None:
            try:
                await asyncio.sleep(1_000_000)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        with Network() as net:
            net.use_asyncio()
            net.serve(srf)
            net.phone("alice").invite("x")
        self.assertEqual(seen, ["cancelled"])
        self.assertEqual(tasks.is_active, before)
        self.assertIsNone(_get_running_loop())
