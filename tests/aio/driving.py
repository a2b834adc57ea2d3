"""Coroutines under the asyncio reactor: what they may await, when they go on, how they end."""

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.web.test.requesthelper import DummyRequest

from drachtwist import Dialog, Request, Response, SipError
from drachtwist.middleware.webhook import RoutingResource, reject
from drachtwist.net import tasks
from tests.aio.cases import AsyncioTestCase, TaskGroup, need_new_asyncio, timeout
from tests.app.doubles import ANSWER, OFFER
from tests.server.doubles import request
from tests.whole import TARGET


class AwaitingTests(AsyncioTestCase):
    async def test_both_kinds(self) -> None:
        """A handler awaits Deferreds of Twisted, Deferreds of ours and what asyncio has."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            await asyncio.sleep(0)
            self.seen.append(await deferLater(reactor, 0, lambda: "a"))
            future = asyncio.get_running_loop().create_future()
            future.get_loop().call_soon(future.set_result, "b")
            self.seen.append(await future)
            self.seen.append((await self.srf.request(TARGET, method="MESSAGE")).status)
            self.seen.append(await asyncio.to_thread(lambda: "c"))
            await asyncio.sleep(0)
            res.send(204)

        self.ask()
        await self.until(lambda: len(self.seen) == 2)
        self.whole.respond(self.asked("MESSAGE"), 202)
        await self.until(lambda: len(self.seen) == 4)
        await self.turn()
        self.assertEqual(self.seen, ["a", "b", 202, "c"])
        self.assertEqual(self.whole.heads(), ["204 OPTIONS"])

    async def test_failures(self) -> None:
        """Failures of both kinds are raised where they are awaited."""

        async def handler(req: Request, res: Response) -> None:
            try:
                await self.srf.create_uac(TARGET, method="SUBSCRIBE", headers={"Event": "x"})
            except SipError as error:
                self.seen.append(error.status)
            try:
                await self.srf.create_uas(req, res, local_sdp=ANSWER)
            except SipError as error:
                self.seen.append(error.status)
            future = asyncio.get_running_loop().create_future()
            future.set_exception(KeyError("x"))
            try:
                await future
            except KeyError:
                self.seen.append("key")
            raise ValueError("it failed")

        self.srf.invite(handler)
        self.ask("INVITE", body=OFFER, extra="Content-Type: application/sdp")
        await self.turn()
        message = self.asked("SUBSCRIBE")
        self.ask("CANCEL")
        self.whole.respond(message, 403)
        await self.turn()
        self.assertEqual(self.seen, [403, 487, "key"])
        [failure] = self.flushLoggedErrors(ValueError)
        self.assertEqual(failure.getErrorMessage(), "it failed")

    async def test_answered_500(self) -> None:
        """A handler that fails behind what it awaited of asyncio is answered 500."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            await asyncio.sleep(0)
            raise ValueError("late")

        self.ask()
        await self.turn()
        self.assertEqual(self.whole.heads(), ["500 OPTIONS"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_what_is_nothing_to_await(self) -> None:
        """What is neither fails where it is awaited."""

        class Other:
            def __await__(self) -> Any:
                yield "something else"

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                await Other()
            except TypeError as error:
                self.seen.append(str(error))
            res.send(200)

        self.ask()
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])
        self.assertIn("'something else'", self.seen[0])

    async def test_futures_as_results(self) -> None:
        """A plain function may return what asyncio has."""

        @self.srf.options
        def handler(req: Request, res: Response) -> Any:
            async def answer() -> None:
                await asyncio.sleep(0)
                await self.srf.request(TARGET, method="MESSAGE")
                res.send(200)

            return asyncio.ensure_future(answer())

        self.ask()
        await self.turn()
        self.whole.respond(self.asked("MESSAGE"), 200)
        await self.turn()
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])

    async def test_gather_and_groups(self) -> None:
        """Children of a handler's task await Deferreds of ours too."""
        need_new_asyncio()

        async def ask(number: int) -> int:
            await asyncio.sleep(0)
            return (await self.srf.request(f"sip:{number}@127.0.0.1:32071", method="INFO")).status

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            both = await asyncio.gather(
                self.srf.request("sip:1@127.0.0.1:32071", method="INFO"),
                asyncio.sleep(0, "slept"),
                ask(2),
            )
            self.seen.append([both[0].status, *both[1:]])
            async with TaskGroup() as group:
                three, four = group.create_task(ask(3)), group.create_task(ask(4))
            self.seen.append([three.result(), four.result()])
            last = await asyncio.wait_for(
                self.srf.request("sip:5@127.0.0.1:32071", method="INFO"), 5
            )
            self.seen.append(last.status)
            res.send(200)

        self.ask()
        for users, status in (("12", 201), ("34", 202), ("5", 203)):
            await self.turn(10)
            sent: Any = self.whole.sent()
            self.assertEqual([one.uri[4] for one in sent], list(users))
            for one in sent:
                self.whole.respond(one, status)
        await self.turn()
        self.assertEqual(self.seen, [[201, "slept", 201], [202, 202], 203])
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])

    async def test_failing_children(self) -> None:
        """What failed already, and what fails later, is raised in plain tasks."""

        async def child(pending: Deferred[Any]) -> int:
            try:
                await pending
            except SipError as error:
                return error.status
            return 0

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            later = self.srf.create_uac(TARGET, method="SUBSCRIBE", headers={"Event": "x"})
            await req.when_cancelled()
            gone = self.srf.create_uas(req, res)
            self.seen += await asyncio.gather(child(later), child(gone))

        self.ask("INVITE", body=OFFER, extra="Content-Type: application/sdp")
        self.ask("CANCEL")
        await self.turn()
        message: Any = self.asked("SUBSCRIBE")
        self.whole.respond(message, 404)
        await self.turn()
        self.assertEqual(self.seen, [404, 487])


class OrderTests(AsyncioTestCase):
    """Coroutines begin, and go on behind Deferreds, without a turn of the loop."""

    async def test_begins_at_once(self) -> None:
        """A handler begins while its request is being read, and may be done by then."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            self.seen.append(asyncio.current_task())
            res.send(200)

        self.ask()
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])
        [task] = self.seen
        self.assertFalse(task.done())
        await self.turn()
        self.assertTrue(task.done())

    async def test_goes_on_at_once(self) -> None:
        """What comes in the same read as the confirmation of a call finds the handlers of it."""

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            call = await self.srf.create_uas(req, res, local_sdp=ANSWER)
            call.on_info(lambda req, res: res.send(299))

        self.ask("INVITE", body=OFFER, extra="Content-Type: application/sdp")
        ok = self.whole.sent()[-1]
        tag = (ok.get("To") or "").partition("tag=")[2]
        self.whole.server.receive(request("ACK", to_tag=tag))
        self.ask("INFO", to_tag=tag, number=2)
        self.assertEqual(self.whole.heads(), ["299 INFO"])

    async def test_same_task(self) -> None:
        """A handler is one task, whatever it waits for."""
        waits: list[Deferred[None]] = [Deferred(), Deferred(), Deferred()]

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            self.seen.append(asyncio.current_task())
            for one in waits[:2]:
                await one
                self.seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            self.seen.append(asyncio.current_task())
            await waits[2]
            self.seen.append(asyncio.current_task())

        self.ask()
        mine = asyncio.current_task()
        waits[0].callback(None)
        self.assertEqual(len(self.seen), 2)
        await self.turn()
        waits[1].callback(None)
        self.assertEqual(len(self.seen), 3)
        await self.turn()
        waits[2].callback(None)
        self.assertEqual(len(self.seen), 5)
        self.assertEqual(len(set(self.seen)), 1)
        self.assertIs(asyncio.current_task(), mine)
        await self.turn()
        self.assertTrue(self.seen[0].done())

    async def test_from_another_task(self) -> None:
        """A plain task that fires what a handler waits for stays the current one."""
        waiting: Deferred[None] = Deferred()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            await waiting
            self.seen.append(asyncio.current_task())

        self.ask()

        async def other() -> bool:
            before = asyncio.current_task()
            waiting.callback(None)
            return asyncio.current_task() is before and self.seen[0] is not before

        task = asyncio.ensure_future(other())
        self.assertTrue(await Deferred.fromFuture(task))

    async def test_chains(self) -> None:
        """Ten thousand Deferreds that fire at once need no deep stack."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            for _ in range(10_000):
                await succeed(None)
                fired: Deferred[None] = _Firing()
                await fired
            res.send(200)

        self.ask()
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])

    async def test_contexts(self) -> None:
        """What a handler sets in its context it finds again, its children too, and no other."""
        variable: ContextVar[str] = ContextVar("variable", default="none")

        async def child() -> str:
            await asyncio.sleep(0)
            return variable.get()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            found = [variable.get()]
            variable.set(req.get("Call-ID") or "")
            await deferLater(reactor, 0, lambda: None)
            found.append(variable.get())
            await asyncio.sleep(0)
            found += [variable.get(), *await asyncio.gather(child(), child())]
            self.seen.append(found)

        self.ask(call="c1")
        self.ask(call="c2")
        await self.until(lambda: len(self.seen) == 2)
        self.assertEqual(self.seen, [["none", *[call] * 4] for call in ("c1", "c2")])
        self.assertEqual(variable.get(), "none")


class _Firing(Deferred[None]):
    """Fires as soon as somebody listens."""

    def addCallbacks(self, *args: Any, **options: Any) -> Any:
        """Listen."""
        result = super().addCallbacks(*args, **options)
        if not self.called:
            self.callback(None)
        return result


class CancellingTests(AsyncioTestCase):
    async def test_timeout_cancels_a_call(self) -> None:
        """What a timeout ends is cancelled: an INVITE by a CANCEL."""
        need_new_asyncio()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                async with timeout(0.01):
                    await self.srf.create_uac(TARGET, local_sdp=OFFER)
            except TimeoutError:
                self.seen.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]
                res.send(408)

        self.ask()
        invite: Any
        [invite] = self.whole.sent()
        self.whole.respond(invite, 180)
        await self.until(lambda: self.seen)
        self.assertEqual(self.whole.heads(), ["CANCEL", "408 OPTIONS"])
        self.assertEqual(self.seen, [0])
        self.whole.respond(invite, 487)
        self.whole.pass_time(1)
        self.assertTrue(self.srf.idle)

    async def test_timeouts_in_children(self) -> None:
        """The same in a task that is none of ours, and by wait_for."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                await asyncio.wait_for(self.srf.create_uac(TARGET, local_sdp=OFFER), 0.01)
            except asyncio.TimeoutError:
                self.seen.append("late")
                res.send(408)

        self.ask()
        await self.until(lambda: self.seen)
        invite = self.asked("INVITE")
        self.whole.respond(invite, 180)
        self.assertIn("CANCEL", self.whole.heads())
        self.whole.respond(invite, 487)

    async def test_what_a_call_has_come_to_meanwhile(self) -> None:
        """A call that is up when the timeout comes is ended by whoever cancels it."""
        pending: list[Any] = []

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            pending.append(self.srf.create_uac(TARGET, local_sdp=OFFER))
            try:
                await pending[0]
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise

        self.ask()
        invite: Any
        [invite] = self.whole.sent()
        await self.turn()
        [task] = tasks._tasks
        task.cancel()
        self.whole.respond(invite, 200, body=ANSWER, headers={"Contact": f"<{TARGET}>"})
        heads = self.whole.heads()
        await self.turn()
        self.assertEqual(self.seen, ["cancelled"])
        self.assertEqual((heads + self.whole.heads())[:2], ["ACK", "BYE"])
        self.flushLoggedErrors(asyncio.CancelledError)

    async def test_cancelled_deferred(self) -> None:
        """A Deferred that somebody else cancels fails as Twisted's do."""
        waiting: Deferred[None] = Deferred()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                await waiting
            except CancelledError:
                res.send(299)

        self.ask()
        await self.turn()
        waiting.cancel()
        self.assertEqual(self.whole.heads(), ["299 OPTIONS"])

    async def test_cancelled_while_it_was_stepped(self) -> None:
        """A task that is cancelled before it knows what is awaited cancels that all the same."""
        first: Deferred[None] = Deferred()
        inner = asyncio.get_running_loop().create_future()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            self.seen.append(asyncio.current_task())
            await first
            try:
                await inner
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                res.send(299)

        self.ask()
        await self.turn()
        first.callback(None)
        self.seen[0].cancel()
        await self.turn()
        self.assertTrue(inner.cancelled())
        self.assertEqual(self.seen[1:], ["cancelled"])
        self.assertEqual(self.whole.heads(), ["299 OPTIONS"])

    async def test_cancels_itself(self) -> None:
        """A handler that cancels its own task meets that at its next await, even the first."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            waiting: Deferred[None] = Deferred(lambda _: self.seen.append("dropped"))
            try:
                await waiting
            except asyncio.CancelledError:
                res.send(299)

        self.ask()
        await self.turn()
        self.assertEqual(self.whole.heads(), ["299 OPTIONS"])
        self.assertEqual(self.seen, ["dropped"])

    async def test_cancelled_over_and_over(self) -> None:
        """Who takes no notice may go on awaiting."""
        waits: list[Deferred[None]] = [Deferred() for _ in range(3)]

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            self.seen.append(asyncio.current_task())
            for one in waits[:2]:
                try:
                    await one
                except asyncio.CancelledError:
                    self.seen.append("cancelled")
            await waits[2]
            res.send(200)

        self.ask()
        await self.turn()
        for _ in range(2):
            self.seen[0].cancel()
            await self.turn()
        waits[2].callback(None)
        self.assertEqual(self.seen[1:], ["cancelled"] * 2)
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])
        await self.turn()
        self.assertTrue(self.seen[0].done())

    async def test_over_when_cancelled(self) -> None:
        """A handler that has returned is not cancelled any more."""
        first: Deferred[None] = Deferred()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            self.seen.append(asyncio.current_task())
            await first

        self.ask()
        await self.turn()
        first.callback(None)
        self.seen[0].cancel()
        await self.turn()
        self.assertTrue(self.seen[0].done())
        self.assertFalse(self.seen[0].cancelled())

    async def test_cancelled_from_outside(self) -> None:
        """A task that is cancelled and lets it happen is answered 500, and counts as cancelled."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            self.seen.append(asyncio.current_task())
            await Deferred()

        self.ask()
        await self.turn()
        self.seen[0].cancel()
        await self.turn()
        self.assertEqual(self.whole.heads(), ["500 OPTIONS"])
        self.assertTrue(self.seen[0].cancelled())
        self.assertEqual(len(self.flushLoggedErrors(asyncio.CancelledError)), 1)

    async def test_stop_all(self) -> None:
        """All that still runs can be ended, without a word."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                await (Deferred() if req.get("Call-ID") == "c1" else asyncio.sleep(1000))
            finally:
                self.seen.append(req.get("Call-ID"))

        self.ask(call="c1")
        self.ask(call="c2")
        await tasks.stop_all()
        self.assertEqual(sorted(self.seen), ["c1", "c2"])
        self.assertEqual(tasks._tasks, set())


class CallbackTests(AsyncioTestCase):
    """All that applications hand in may await asyncio."""

    async def test_middleware(self) -> None:
        """Middleware awaits before and behind the handler, and so do error handlers."""

        @self.srf.use
        async def outer(req: Request, res: Response, next: Any) -> None:
            await asyncio.sleep(0)
            await next()
            self.seen.append("behind")

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            await asyncio.sleep(0)
            self.seen.append("handler")
            raise KeyError("oh")

        @self.srf.use
        async def failed(error: Exception, req: Request, res: Response, next: Any) -> None:
            await asyncio.sleep(0)
            self.seen.append(type(error))
            res.send(418)

        self.ask()
        await self.turn(10)
        self.assertEqual(self.seen, ["handler", KeyError, "behind"])
        self.assertEqual(self.whole.heads(), ["418 OPTIONS"])

    async def test_calling(self) -> None:
        """What describes a session, answers challenges and hears of a call may await."""
        offered: list[Any] = []

        async def offer() -> str:
            await asyncio.sleep(0)
            return OFFER

        async def credentials(*about: Any) -> tuple[str, str]:
            await asyncio.sleep(0)
            return "alice", "secret"

        async def ringing(response: Any) -> None:
            await asyncio.sleep(0)
            self.seen.append(response.status)

        calling = self.srf.create_uac(
            TARGET, local_sdp=offer, auth=credentials, on_provisional=ringing
        )
        await self.turn()
        invite = self.whole.request()
        self.assertEqual(invite.body.decode(), OFFER)
        challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", algorithm=MD5'}
        self.whole.respond(invite, 401, headers=challenge)
        await self.turn()
        offered += [one for one in self.whole.sent() if one.get("Authorization")]
        [invite] = offered
        self.whole.respond(invite, 180)
        self.whole.respond(invite, 200, body=ANSWER)
        call = await calling
        await self.turn()
        self.assertEqual(self.seen, [180])
        self.assertIsInstance(call, Dialog)

    async def test_answering(self) -> None:
        """Hooks of responses, of bridged descriptions, of calls and of events may await."""

        async def description(sdp: bytes, message: Any) -> bytes:
            await asyncio.sleep(0)
            return sdp + b"a=hooked\r\n"

        async def sent(res: Response, status: int) -> None:
            await asyncio.sleep(0)
            self.seen.append(f"hook {status}")

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            res.on_send(sent)
            uas, _ = await self.srf.create_b2bua(
                req, res, TARGET, local_sdp_a=description, local_sdp_b=description
            )

            @uas.on_info
            async def info(req: Request, res: Response) -> None:
                await asyncio.sleep(0)
                res.send(299)

            @uas.on_destroy
            async def over(*about: Any) -> None:
                await asyncio.sleep(0)
                self.seen.append("over")

        self.ask("INVITE", body=OFFER, extra="Content-Type: application/sdp")
        await self.turn()
        invite: Any = self.asked("INVITE")
        self.assertTrue(invite.body.endswith(b"a=hooked\r\n"))
        self.whole.respond(invite, 200, body=ANSWER)
        found: list[Any] = []

        def answered() -> bool:
            found.extend(one for one in self.whole.sent() if one.get("CSeq") == "1 INVITE")
            return any(getattr(one, "status", 0) == 200 for one in found)

        await self.until(answered)
        ok = next(one for one in found if getattr(one, "status", 0) == 200)
        self.assertTrue(ok.body.endswith(b"a=hooked\r\n"))
        tag = (ok.get("To") or "").partition("tag=")[2]
        self.ask("ACK", to_tag=tag)
        self.ask("INFO", to_tag=tag, number=2)
        await self.turn()
        self.assertIn("299 INFO", self.whole.heads())
        self.ask("BYE", to_tag=tag, number=3)
        await self.until(lambda: "over" in self.seen)
        self.assertEqual(self.seen, ["hook 200", "over"])

    async def test_questions_of_servers(self) -> None:
        """What answers the questions of servers may await."""

        async def decide(query: Any) -> Any:
            await asyncio.sleep(0)
            await deferLater(reactor, 0, lambda: None)
            return reject(480)

        asked: Any = DummyRequest([b""])
        asked.uri = b"/?method=INVITE"
        RoutingResource(decide).render(asked)
        await self.until(lambda: asked.finished)
        self.assertIn(b"480", b"".join(asked.written))

    async def test_events(self) -> None:
        """Handlers of events may await, and their failures are logged."""

        @self.srf.on_close
        async def closed(*about: Any) -> None:
            await asyncio.sleep(0)
            self.seen.append("closed")
            raise KeyError("event")

        self.whole.lose()
        await self.turn()
        self.assertEqual(self.seen, ["closed"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class LeavingTests(AsyncioTestCase):
    async def test_nothing_needs_the_collector(self) -> None:
        """Tasks that are over leave no circles behind."""
        waits: list[Deferred[None]] = []

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            if req.get("Call-ID") == "c2":
                await asyncio.sleep(0)
            waits.append(Deferred())
            await waits[-1]
            if req.get("Call-ID") == "c3":
                raise SipError(486)
            res.send(200)

        async def round() -> None:
            for call in ("c1", "c2", "c3"):
                self.ask(call=call)
            await self.turn()
            while waits:
                waits.pop().callback(None)
            await self.turn()
            self.whole.pass_time(40)

        await round()
        self.flushLoggedErrors(SipError)
        gc.collect()
        self.assertEqual(tasks._tasks, set())
        gc.disable()
        try:
            await round()
            self.flushLoggedErrors(SipError)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kinds = [type(one).__name__ for one in gc.garbage]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        self.assertEqual([one for one in kinds if "Task" in one or "Driven" in one], [])

    async def test_looked_at(self) -> None:
        """Whoever looks at the task sees the coroutine of the handler."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            task: Any = asyncio.current_task()
            coroutine = task.get_coro()
            self.seen.append((coroutine.__name__, coroutine.cr_running, repr(task)))

        self.ask()
        name, runs, text = self.seen[0]
        self.assertEqual((name, runs), ("handler", True))
        self.assertIn("handler", text)
