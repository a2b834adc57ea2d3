"""Tests of handlers in a row."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import ConnectionLost, LocalProtocolError, Request, Response, Router, SipError
from drachtwist.app.interfaces import Next
from tests.app.doubles import Bench


class ChainTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Make an application; connect it once its handlers are there."""
        self.bench = Bench()
        self.srf = self.bench.srf
        self.seen: list[str] = []

    def ask(self, method: str = "OPTIONS", **options: Any) -> list[str]:
        """Let a request come in, and take the answers to it."""
        if not self.bench.servers:
            self.bench.connect()
        server = self.bench.servers[0]
        server.ask(method, **options)
        return server.heads()

    def note(self, what: str, go_on: bool = True) -> Any:
        """Make middleware that notes that it was called."""

        def middleware(req: Request, res: Response, next: Next) -> None:
            self.seen.append(what)
            if go_on:
                next()

        return middleware

    def respond(self, what: str, status: int = 200) -> Any:
        """Make a handler that answers."""

        def handler(req: Request, res: Response) -> None:
            self.seen.append(what)
            res.send(status)

        return handler


class OrderTests(ChainTestCase):
    def test_order(self) -> None:
        """Handlers see a request in the order they were added, as long as they hand it on."""
        self.srf.use(self.note("1"))
        self.srf.options(self.respond("2"))
        self.srf.use(self.note("3"))
        self.assertEqual(self.ask(), ["200"])
        self.assertEqual(self.seen, ["1", "2"])

    def test_methods(self) -> None:
        """Handlers of a method see no others; those of ``use`` see all."""
        self.srf.use(self.note("all"))
        self.srf.use("message", self.note("message"))
        self.srf.options(self.respond("options"))
        self.srf.message(self.respond("answer"))
        self.ask()
        self.ask("MESSAGE")
        self.assertEqual(self.seen, ["all", "options", "all", "message", "answer"])

    def test_several_in_one(self) -> None:
        """Handlers may be given one by one, in lists, and before the last of a method."""
        self.srf.use("options", self.note("1"), [self.note("2"), [self.note("3")]])
        self.srf.options(self.note("4"), self.respond("5"))
        self.assertEqual(self.ask(), ["200"])
        self.assertEqual(self.seen, list("12345"))

    def test_decorators(self) -> None:
        """There is a decorator for each method, and one for any; they leave the function alone."""
        methods = (
            "ack bye cancel info invite message notify options prack publish refer register"
            " subscribe update"
        ).split()
        for method in methods:
            handler = self.respond(method)
            self.assertIs(getattr(self.srf, method)(handler), handler)
        handler = self.respond("foo")
        self.assertIs(self.srf.on_request("Foo")(handler), handler)
        for method in methods[3:]:
            self.ask(method.upper())
        self.ask("FOO")
        self.assertEqual(self.seen, [*methods[3:], "foo"])

    def test_stop(self) -> None:
        """Middleware that does not hand on keeps the request."""
        self.srf.use(self.note("1", go_on=False))
        self.srf.options(self.respond("2"))
        self.assertEqual(self.ask(), [])
        self.assertEqual(self.seen, ["1"])

    def test_next_after_answer(self) -> None:
        """A request that was answered is not handed on."""

        @self.srf.use
        def middleware(req: Request, res: Response, next: Next) -> None:
            res.send(403)
            next()

        self.srf.options(self.respond("2"))
        self.assertEqual(self.ask(), ["403"])
        self.assertEqual(self.seen, [])

    def test_next_twice(self) -> None:
        """A request is handed on once; the second time is a line of the log."""

        @self.srf.use
        def middleware(req: Request, res: Response, next: Next) -> None:
            next()
            next()

        self.srf.options(self.note("2"), self.note("3", go_on=False))
        with capturedLogs() as logs:
            self.ask(call="call-7")
        self.assertEqual(self.seen, ["2", "3"])
        [event] = [event for event in logs if event["log_level"] is LogLevel.warn]
        self.assertEqual((event["method"], event["call_id"]), ("OPTIONS", "call-7"))

    def test_added_later(self) -> None:
        """A handler that is added later sees the next request."""
        self.srf.use(self.note("1"))
        self.assertEqual(self.ask(), ["404"])
        self.srf.options(self.respond("2"))
        self.assertEqual(self.ask(), ["200"])
        self.assertEqual(self.seen, ["1", "1", "2"])

    def test_next_later(self) -> None:
        """Middleware may take its time."""
        waiting: list[Next] = []
        self.srf.use(lambda req, res, next: waiting.append(next))
        self.srf.options(self.respond("2"))
        self.assertEqual(self.ask(), [])
        waiting[0]()
        self.assertEqual(self.bench.servers[0].heads(), ["200"])

    def test_methods_of_objects(self) -> None:
        """Bound methods, and functions with optional arguments, are handlers."""

        class Handlers:
            def __init__(self, seen: list[str]) -> None:
                self.seen = seen

            def first(self, req: Request, res: Response, next: Next, extra: int = 1) -> None:
                self.seen.append("first")
                next()

            def second(self, req: Request, res: Response, extra: int = 1) -> None:
                self.seen.append("second")
                res.send(200)

        handlers = Handlers(self.seen)
        self.srf.use(handlers.first)
        self.srf.options(handlers.second)
        self.assertEqual(self.ask(), ["200"])
        self.assertEqual(self.seen, ["first", "second"])

    def test_any_arguments(self) -> None:
        """A function that takes anything gets ``next`` too."""

        @self.srf.use
        def middleware(*arguments: Any) -> None:
            self.seen.append(str(len(arguments)))
            arguments[2]()

        self.srf.options(self.respond("2"))
        self.ask()
        self.assertEqual(self.seen, ["3", "2"])

    def test_no_handlers(self) -> None:
        """What cannot be a handler is refused when it is added."""
        for arguments in (
            (),
            ("options", ["no handler"]),
            ("bad method",),
            (1,),
            ("bad method", self.note("1")),
            (lambda req: None,),
            (lambda a, b, c, d, e: None,),
        ):
            with self.assertRaises(LocalProtocolError):
                self.srf.use(*arguments)


class WaitingTests(ChainTestCase):
    def test_next_is_awaitable(self) -> None:
        """``await next()`` waits for the handlers behind, to the end."""
        wait: Deferred[None] = Deferred()

        @self.srf.use
        async def middleware(req: Request, res: Response, next: Next) -> None:
            self.seen.append("in")
            await next()
            self.seen.append(f"out {res.status}")

        @self.srf.use
        async def inner(req: Request, res: Response, next: Next) -> None:
            await next()
            self.seen.append("inner")

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            await wait
            res.send(200)

        self.assertEqual(self.ask(), [])
        wait.callback(None)
        self.assertEqual(self.seen, ["in", "inner", "out 200"])

    def test_next_waits_for_error_handlers(self) -> None:
        """It waits for error handlers too, and does not fail itself."""
        wait: Deferred[None] = Deferred()

        @self.srf.use
        async def middleware(req: Request, res: Response, next: Next) -> None:
            await next()
            self.seen.append(f"out {res.status}")

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            raise ZeroDivisionError

        @self.srf.use
        async def failed(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append("failed")
            await wait
            res.send(503)

        self.assertEqual(self.ask(), [])
        self.assertEqual(self.seen, ["failed"])
        wait.callback(None)
        self.assertEqual(self.seen, ["failed", "out 503"])

    def test_deferred(self) -> None:
        """A handler may return a Deferred."""
        wait: Deferred[Any] = Deferred()

        @self.srf.options
        def handler(req: Request, res: Response) -> Deferred[Any]:
            return wait.addCallback(lambda _: res.send(200))

        self.assertEqual(self.ask(), [])
        wait.callback(None)
        self.assertEqual(self.bench.servers[0].heads(), ["200"])

    def test_awaitable(self) -> None:
        """A handler may return anything that can be awaited."""
        wait: Deferred[None] = Deferred()

        class Awaitable:
            def __await__(self) -> Any:
                return wait.__await__()

        self.srf.options(lambda req, res: Awaitable())
        self.ask()
        wait.errback(ZeroDivisionError())
        self.assertEqual(self.bench.servers[0].heads(), ["500"])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_other_results(self) -> None:
        """What else a handler returns does not matter."""
        self.srf.options(lambda req, res: [res.send(200)])
        self.assertEqual(self.ask(), ["200"])

    def test_several_waits(self) -> None:
        """A coroutine may wait several times, for failures too."""
        waits: list[Deferred[Any]] = [Deferred() for _ in range(3)]

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            self.seen.append(await waits[0])
            try:
                await waits[1]
            except ZeroDivisionError:
                self.seen.append("b")
            self.seen.append(await waits[2])
            res.send(200)

        self.ask()
        waits[0].callback("a")
        waits[1].errback(ZeroDivisionError())
        waits[2].callback("c")
        self.assertEqual(self.seen, ["a", "b", "c"])
        self.assertEqual(self.bench.servers[0].heads(), ["200"])

    def test_only_deferreds(self) -> None:
        """A coroutine that awaits what is no Deferred fails where it does so."""

        class Other:
            def __await__(self) -> Any:
                yield "something else"

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            await Other()

        self.assertEqual(self.ask(), ["500"])
        [failure] = self.flushLoggedErrors(TypeError)
        self.assertIn("a coroutine can only await Deferreds", failure.getErrorMessage())

    def test_contexts(self) -> None:
        """What one handler sets in its context is not seen by another."""
        variable: ContextVar[str] = ContextVar("variable", default="none")
        waits: list[Deferred[None]] = []

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            before = variable.get()
            variable.set(req.get("Call-ID") or "")
            waits.append(Deferred())
            await waits[-1]
            self.seen.append(f"{before} {variable.get()}")

        self.ask(call="c1")
        self.ask(call="c2")
        for wait in waits:
            wait.callback(None)
        self.assertEqual(self.seen, ["none c1", "none c2"])
        self.assertEqual(variable.get(), "none")


class ErrorTests(ChainTestCase):
    def raise_one(self) -> None:
        """Fail, as a handler."""
        raise ZeroDivisionError("oops")

    def test_answered_500(self) -> None:
        """A handler that raises is answered 500, and logged with the Call-ID."""
        self.srf.options(lambda req, res: self.raise_one())
        with capturedLogs() as logs:
            self.assertEqual(self.ask(call="call-7"), ["500"])
        [event] = [event for event in logs if event["log_level"] is LogLevel.critical]
        self.assertEqual((event["call_id"], event["method"]), ("call-7", "OPTIONS"))
        [failure] = self.flushLoggedErrors(ZeroDivisionError)
        self.assertIn("oops", failure.getTraceback())

    def test_once(self) -> None:
        """A handler that raises after it answered is logged only."""

        @self.srf.options
        def handler(req: Request, res: Response) -> None:
            res.send(486)
            raise ZeroDivisionError

        self.assertEqual(self.ask(), ["486"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_coroutine(self) -> None:
        """So is a coroutine, at once or later."""
        wait: Deferred[None] = Deferred()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            if req.get("Call-ID") == "later":
                await wait
            raise ZeroDivisionError

        self.assertEqual(self.ask(), ["500"])
        self.assertEqual(self.ask(call="later"), [])
        wait.callback(None)
        self.assertEqual(self.bench.servers[0].heads(), ["500"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_failing_deferred(self) -> None:
        """So is a Deferred that fails."""
        wait: Deferred[None] = Deferred()
        self.srf.options(lambda req, res: wait)
        self.ask()
        wait.errback(ZeroDivisionError())
        self.assertEqual(self.bench.servers[0].heads(), ["500"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_other_requests_go_on(self) -> None:
        """A handler that raises takes no other request of the same read along."""
        self.srf.options(lambda req, res: self.raise_one())
        self.srf.message(self.respond("message"))
        server = self.bench.connect()
        with server.in_one_read():
            server.ask("OPTIONS")
            server.ask("MESSAGE")
        self.assertEqual(server.heads(), ["500", "200"])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_error_handler(self) -> None:
        """An error handler gets the error, and answers; the log is left alone."""
        errors: list[Any] = []
        self.srf.options(lambda req, res: self.raise_one())

        @self.srf.use
        def failed(error: Exception, req: Request, res: Response, next: Next) -> None:
            errors.append(error)
            res.send(503)

        self.assertEqual(self.ask(), ["503"])
        self.assertIsInstance(errors[0], ZeroDivisionError)

    def test_error_handlers_are_skipped(self) -> None:
        """An error handler does not see requests that went well."""

        @self.srf.use
        def failed(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append("failed")

        self.srf.options(self.respond("1"))
        self.assertEqual(self.ask(), ["200"])
        self.assertEqual(self.seen, ["1"])

    def test_only_behind(self) -> None:
        """An error handler takes errors of handlers in front of it."""

        @self.srf.use
        def failed(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append("failed")

        self.srf.options(lambda req, res: self.raise_one())
        self.assertEqual(self.ask(), ["500"])
        self.assertEqual(self.seen, [])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_handed_on(self) -> None:
        """``next(error)`` goes to the next error handler, which may hand on or recover."""

        @self.srf.use
        def middleware(req: Request, res: Response, next: Next) -> None:
            next(ValueError("v"))

        self.srf.use(self.note("skipped"))

        @self.srf.use
        def first(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append(f"first {error}")
            next(error)

        @self.srf.use
        def second(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append(f"second {error}")
            next()

        self.srf.options(self.respond("handler"))
        self.assertEqual(self.ask(), ["200"])
        self.assertEqual(self.seen, ["first v", "second v", "handler"])

    def test_handed_on_to_nobody(self) -> None:
        """An error that no error handler takes is answered and logged as any other."""

        @self.srf.use
        def middleware(req: Request, res: Response, next: Next) -> None:
            next(ValueError("v"))

        self.srf.options(self.respond("handler"))
        self.assertEqual(self.ask(), ["500"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_failing_error_handler(self) -> None:
        """An error handler that fails hands its own error on."""
        self.srf.options(lambda req, res: self.raise_one())

        @self.srf.use
        def first(error: Exception, req: Request, res: Response, next: Next) -> None:
            raise ValueError("v")

        @self.srf.use
        async def second(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append(str(error))
            raise KeyError("k")

        self.assertEqual(self.ask(), ["500"])
        self.assertEqual(self.seen, ["v"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_sip_error(self) -> None:
        """A refusal that a handler lets pass is passed on; one that is no refusal is 500."""
        for status, answer in ((486, "486"), (604, "604"), (302, "500")):
            bench = self.bench = Bench()
            self.srf = bench.srf

            @self.srf.invite
            async def handler(req: Request, res: Response) -> None:
                raise SipError(int(req.get("X-Status") or 0))

            self.assertEqual(self.ask("INVITE", headers={"X-Status": str(status)}), [answer])
            self.assertEqual(len(self.flushLoggedErrors(SipError)), 1)

    def test_other_connection_lost(self) -> None:
        """When another connection fails a handler, the request of this one is answered."""

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            raise ConnectionLost("another one")

        with capturedLogs() as logs:
            self.assertEqual(self.ask("INVITE"), ["500"])
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn])

    def test_own_connection_lost(self) -> None:
        """A handler that fails because the connection is gone is a line of the log."""

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            await self.srf.create_uas(req, res)

        self.assertEqual(self.ask("INVITE"), ["200"])
        with capturedLogs() as logs:
            self.bench.servers[0].lose()
        ours = [event for event in logs if event["log_namespace"].startswith("drachtwist.app")]
        self.assertEqual([event["log_level"] for event in ours], [LogLevel.warn])

    def test_cancelled(self) -> None:
        """A handler that fails because the caller gave up is a line of the log."""

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            await self.srf.create_uas(req, res)

        self.bench.connect()
        server = self.bench.servers[0]
        txn = server.invite()
        with capturedLogs() as logs:
            server.cancel(txn)
        ours = [event for event in logs if event["log_namespace"].startswith("drachtwist.app")]
        self.assertEqual([event["log_level"] for event in ours], [LogLevel.info])
        self.assertEqual(server.heads(), ["200"])


class RouterTests(ChainTestCase):
    def test_mounted(self) -> None:
        """The handlers of a mounted router stand in its place."""
        router = Router()
        router.use(self.note("router"))
        router.options(self.respond("options"))
        self.srf.use(self.note("1"))
        self.srf.use(router)
        self.srf.use(self.note("3"))
        self.ask()
        self.ask("MESSAGE")
        self.assertEqual(self.seen, ["1", "router", "options", "1", "router", "3"])

    def test_for_a_method(self) -> None:
        """A router mounted for a method sees that one only."""
        router = Router()
        router.use(self.respond("router"))
        self.srf.use("options", router)
        self.assertEqual(self.ask(), ["200"])
        self.assertEqual(self.ask("MESSAGE"), ["405"])

    def test_nested(self) -> None:
        """Routers stand in routers, at any depth, and several times."""
        inner, outer = Router(), Router()
        inner.use(self.note("inner"))
        outer.use(inner, inner)
        self.srf.use(outer)
        self.assertEqual(self.ask(), ["404"])
        self.assertEqual(self.seen, ["inner", "inner"])

    def test_errors(self) -> None:
        """A router's error handlers take the errors of its own handlers, not those before it."""
        router = Router()

        @router.use
        def failed(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append("router")
            res.send(501)

        def fail(req: Request, res: Response, next: Next) -> None:
            raise ZeroDivisionError

        self.srf.options(fail)
        self.srf.use(router)

        @self.srf.use
        def outer(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append("outer")
            res.send(502)

        self.assertEqual(self.ask(), ["502"])
        inner = Router()
        inner.message(fail)

        @inner.use
        def inner_failed(error: Exception, req: Request, res: Response, next: Next) -> None:
            self.seen.append("inner")
            res.send(503)

        self.srf.use(inner)
        self.assertEqual(self.ask("MESSAGE"), ["503"])
        self.assertEqual(self.seen, ["outer", "inner"])

    def test_added_to_later(self) -> None:
        """A handler that is added to a mounted router is seen, and routed, at once."""
        router = Router()
        self.srf.use(router)
        server = self.bench.connect()
        self.assertEqual(server.routes, [])
        router.options(self.respond("options"))
        server.take()
        self.assertEqual(server.routes, ["options"])
        self.assertEqual(self.ask(), ["200"])

    def test_no_circles(self) -> None:
        """A router cannot be mounted in itself."""
        one, other = Router(), Router()
        one.use(other)
        for wrong in (one, other):
            with self.assertRaises(LocalProtocolError):
                other.use(one if wrong is one else other)


class UnhandledTests(ChainTestCase):
    def test_nobody(self) -> None:
        """A request that no handler takes is answered 404."""
        self.srf.use(self.note("1"))
        self.assertEqual(self.ask(), ["404"])

    def test_no_handler_at_all(self) -> None:
        """So it is when there are no handlers."""
        self.assertEqual(self.ask(), ["404"])

    def test_other_methods(self) -> None:
        """A method without a handler is answered 405 with those that have one."""
        self.srf.message(self.respond("m"))
        self.srf.invite(self.respond("i"))
        server = self.bench.connect()
        server.ask("OPTIONS")
        response = server.one().response
        self.assertEqual((response.status, response.get("Allow")), (405, "INVITE, MESSAGE"))

    def test_prack(self) -> None:
        """A PRACK is answered 200."""
        self.assertEqual(self.ask("PRACK", dialog_id="c1;from-tag=a"), ["200"])

    def test_ack(self) -> None:
        """An ACK is not answered, with handlers or without."""
        self.assertEqual(self.ask("ACK"), [])
        self.srf.ack(lambda req, res: self.seen.append("ack"))
        self.assertEqual(self.ask("ACK"), [])
        self.assertEqual(self.seen, ["ack"])

    def test_failing_ack_handler(self) -> None:
        """Nor is one whose handler fails."""

        @self.srf.ack
        def ack(req: Request, res: Response) -> None:
            raise ZeroDivisionError

        self.assertEqual(self.ask("ACK"), [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancel(self) -> None:
        """A CANCEL of nothing is not answered."""
        self.srf.use(self.note("1"))
        self.assertEqual(self.ask("CANCEL"), [])
        self.assertEqual(self.seen, [])

    def test_unknown_dialogs(self) -> None:
        """A request in a dialog that is not known is answered 481."""
        self.assertEqual(self.ask("BYE", dialog_id="c9;from-tag=a"), ["481"])
        self.assertEqual(self.ask("INFO", headers={"To": "<sip:a@b>;tag=x"}), ["481"])
        self.assertEqual(self.ask("INVITE", dialog_id="c9;from-tag=a"), ["481"])

    def test_unknown_dialogs_with_handlers(self) -> None:
        """Handlers see such requests first."""
        self.srf.bye(self.respond("bye"))
        self.assertEqual(self.ask("BYE", dialog_id="c9;from-tag=a"), ["200"])

    def test_of_the_server(self) -> None:
        """A BYE of the server's own, for a dialog that is not known, is not answered."""
        self.assertEqual(
            self.ask(
                "BYE",
                dialog_id="c9;from-tag=a",
                source="application",
                transaction_id="unsolicited",
            ),
            [],
        )

    def test_cancelled_meanwhile(self) -> None:
        """A request that was cancelled before the chain came to its end is not answered."""
        waiting: list[Next] = []
        self.srf.use(lambda req, res, next: waiting.append(next))
        server = self.bench.connect()
        txn = server.invite()
        server.cancel(txn)
        waiting[0]()
        self.assertEqual(server.heads(), [])
