"""Nothing that a call leaves behind needs the collector: what is over is freed at once.

A collection of a server with many calls stops it for longer than T1 lasts. So what belongs to a
call must not hold on to itself in circles once it is over: an application and a server, with
phones, carry out calls from their first message to their last timer, while the collector stands
still, and then it finds nothing.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    ConnectionLost,
    Dialog,
    LocalProtocolError,
    Request,
    Response,
    SipError,
    accept_refer,
    couple,
    forward_in_dialog,
    hunt,
    simring,
    transfer,
)
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from tests.server.doubles import request
from tests.whole import TARGET, Whole

A, B = 32070, 32071
SDP = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nm=audio 4000 RTP/AVP 0\r\n"
CALLS = 4


def left_by(call: Callable[[str], object]) -> Counter[str]:
    """Return what the collector finds after some calls, by type."""
    for name in ("first", "second"):  # what is made once stays
        call(name)
    gc.collect()
    gc.disable()
    debug = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for number in range(CALLS):
            call(f"call{number}")
        gc.collect()
        return Counter(type(one).__qualname__ for one in gc.garbage)
    finally:
        gc.set_debug(debug)
        gc.garbage.clear()
        gc.enable()


class LeavingsCase(SynchronousTestCase):
    """Has an application, and phones that call it and are called."""

    def setUp(self) -> None:
        """Connect the application."""
        self.start()

    def start(self, settings: dict[str, Any] | None = None, **options: Any) -> None:
        """Connect an application."""
        self.whole = Whole(settings, **options)
        self.srf = self.whole.srf

    def leaves_nothing(self, call: Callable[[str], object], over: float = 80.0) -> None:
        """Check that nothing stays of calls.

        :param over: seconds until the last timer of a call has come.
        """

        def whole_call(name: str) -> None:
            call(name)
            self.whole.pass_time(over, 4.0)

        self.whole.pump()
        found = left_by(whole_call)
        self.assertEqual(found, Counter(), f"{found.total() / CALLS} objects a call")
        counts = self.whole.server.core.counts()
        self.assertEqual({key for key, count in counts.items() if count}, {"applications"})
        self.assertEqual(self.whole.clock.getDelayedCalls(), [])

    # What phones do

    def invite(self, name: str, **options: Any) -> None:
        """Let a phone call the application."""
        options.setdefault("body", SDP)
        self.whole.receive(request("INVITE", call=name, **options), A)

    def last(self, status: int) -> SipResponse:
        """Take what was sent since, and return the last response, which has a status."""
        found = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        self.assertEqual(found[-1].status, status)
        return found[-1]

    def ack(self, name: str, answer: SipResponse) -> None:
        """Acknowledge a 200."""
        tag = answer.to.tag or ""
        self.whole.receive(request("ACK", call=name, to_tag=tag, branch="a"), A)

    def ack_failure(self, name: str) -> None:
        """Acknowledge a failure."""
        self.whole.receive(request("ACK", call=name, branch="INVITE-1"), A)

    def up(self, name: str, **options: Any) -> str:
        """Let a phone call, and be answered; return the tag."""
        self.invite(name, **options)
        answer = self.last(200)
        self.ack(name, answer)
        return answer.to.tag or ""

    def from_a(self, method: str, name: str, tag: str, number: int = 2, **options: Any) -> None:
        """Let the caller send a request in the dialog."""
        self.whole.receive(request(method, call=name, number=number, to_tag=tag, **options), A)

    def from_b(self, invite: SipRequest, method: str, number: int = 1) -> None:
        """Let the called phone send a request in the dialog."""
        self.whole.receive(
            request(
                method,
                call=invite.call_id,
                number=number,
                from_tag="b",
                to_tag=invite.from_.tag or "",
                port=B,
            ),
            B,
        )

    def ask(self, method: str, name: str) -> None:
        """Let a phone send a request outside of dialogs."""
        self.whole.receive(request(method, call=name), A)

    def requests(self) -> list[SipRequest]:
        """Take the requests that were sent since."""
        return [one for one in self.whole.sent() if isinstance(one, SipRequest)]


class CalledTests(LeavingsCase):
    """Phones call the application."""

    def answering(self) -> list[Dialog]:
        """Answer calls, and keep their dialogs."""
        kept: list[Dialog] = []

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            kept.append(await self.srf.create_uas(req, res, local_sdp=SDP))

        return kept

    def test_caller_hangs_up(self) -> None:
        """A call is answered, and the caller hangs up."""
        kept = self.answering()

        def call(name: str) -> None:
            tag = self.up(name)
            self.from_a("BYE", name, tag)
            self.last(200)
            kept.clear()

        self.leaves_nothing(call)

    def test_waited_for(self) -> None:
        """So it is when a handler waits for the end."""

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            res.send(180)
            dialog = await self.srf.create_uas(req, res, local_sdp=SDP)
            dialog.on_info(lambda req, res: res.send(200))
            await dialog.when_ended()

        def call(name: str) -> None:
            tag = self.up(name)
            self.from_a("INFO", name, tag, 2)
            self.from_a("INVITE", name, tag, 3, body=SDP)
            self.ack(name, self.last(200))
            self.from_a("BYE", name, tag, 4)
            self.last(200)

        self.leaves_nothing(call)

    def test_application_hangs_up(self) -> None:
        """A call is answered, and the application hangs up."""
        kept = self.answering()

        def call(name: str) -> None:
            self.up(name)
            kept.pop().destroy()
            self.whole.respond(self.whole.request(), 200, port=A)

        self.leaves_nothing(call)

    def test_requests_of_application(self) -> None:
        """The application asks in a call before it ends it."""
        kept = self.answering()

        def call(name: str) -> None:
            self.up(name)
            dialog = kept.pop()
            dialog.info(headers={"Content-Type": "text/plain"}, body="hello")
            self.whole.respond(self.whole.request(), 200, port=A)
            dialog.modify(SDP)
            self.whole.respond(self.whole.request(), 200, body=SDP, port=A)
            self.whole.sent()
            dialog.modify(SDP).addErrback(lambda failure: None)
            self.whole.respond(self.whole.request(), 488, port=A)
            self.whole.sent()
            dialog.destroy()
            self.whole.respond(self.whole.request(), 200, port=A)

        self.leaves_nothing(call)

    def test_refused(self) -> None:
        """A call is refused."""

        @self.srf.invite
        def refuse(req: Request, res: Response) -> None:
            res.send(486)

        def call(name: str) -> None:
            self.invite(name)
            self.last(486)
            self.ack_failure(name)

        self.leaves_nothing(call)

    def test_refused_unacknowledged(self) -> None:
        """A call is refused, and the ACK never comes."""

        @self.srf.invite
        async def refuse(req: Request, res: Response) -> None:
            await res.send(486)

        self.leaves_nothing(self.invite)

    def ringing(self) -> None:
        @self.srf.invite
        async def ring(req: Request, res: Response) -> None:
            res.send(180)
            await req.when_cancelled()

    def test_cancelled(self) -> None:
        """A call is cancelled."""
        self.ringing()

        def call(name: str) -> None:
            self.invite(name)
            self.whole.sent()
            self.whole.receive(request("CANCEL", call=name), A)
            self.last(487)
            self.ack_failure(name)

        self.leaves_nothing(call)

    def test_cancelled_while_answering(self) -> None:
        """A call is cancelled while the application looks for an answer."""

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            try:
                await self.srf.create_uas(req, res, local_sdp=Deferred())
            except SipError:
                pass

        def call(name: str) -> None:
            self.invite(name)
            self.whole.sent()
            self.whole.receive(request("CANCEL", call=name), A)
            self.last(487)
            self.ack_failure(name)

        self.leaves_nothing(call)

    def test_timed_out(self) -> None:
        """The application answers a call with nothing."""

        @self.srf.invite
        def nothing(req: Request, res: Response) -> None:
            pass

        self.leaves_nothing(self.invite, 200.0)

    def test_unacknowledged(self) -> None:
        """A 200 is never acknowledged."""
        kept = self.answering()

        def call(name: str) -> None:
            self.invite(name)
            self.whole.sent()
            self.whole.pass_time(33.0)
            kept.clear()

        self.leaves_nothing(call, 120.0)

    def test_unacknowledged_but_ended(self) -> None:
        """So it is when the phone answers the BYE of the server."""
        kept = self.answering()

        def call(name: str) -> None:
            self.invite(name)
            self.whole.sent()
            self.whole.clock.advance(33.0)
            self.whole.respond(self.requests()[-1], 200, port=A)
            kept.clear()

        self.leaves_nothing(call, 120.0)

    def test_failing_handler(self) -> None:
        """A handler fails."""

        @self.srf.invite
        async def fail(req: Request, res: Response) -> None:
            raise ValueError("a slip")

        def call(name: str) -> None:
            self.invite(name)
            self.last(500)
            self.ack_failure(name)
            self.flushLoggedErrors(ValueError)

        self.leaves_nothing(call)

    def test_failing_plain_handler(self) -> None:
        """A handler that is no coroutine fails."""

        @self.srf.invite
        def fail(req: Request, res: Response) -> None:
            raise ValueError("a slip")

        def call(name: str) -> None:
            self.invite(name)
            self.last(500)
            self.ack_failure(name)
            self.flushLoggedErrors(ValueError)

        self.leaves_nothing(call)

    def test_failing_late(self) -> None:
        """A handler fails behind ``create_uas``."""

        @self.srf.invite
        async def fail(req: Request, res: Response) -> None:
            await self.srf.create_uas(req, res, local_sdp=SDP)
            raise ValueError("a slip")

        def call(name: str) -> None:
            self.invite(name)
            sent = self.whole.sent()
            answer = next(one for one in sent if getattr(one, "status", 0) == 200)
            assert isinstance(answer, SipResponse)
            self.ack(name, answer)
            bye = next((one for one in sent if isinstance(one, SipRequest)), None)
            self.whole.respond(bye or self.requests()[-1], 200, port=A)
            self.flushLoggedErrors(ValueError)

        self.leaves_nothing(call)

    def test_reliable(self) -> None:
        """A call with a reliable provisional response."""

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            res.send(183, headers={"Require": "100rel"}, body=SDP)
            dialog = await self.srf.create_uas(req, res, local_sdp=SDP)
            await dialog.when_ended()

        def call(name: str) -> None:
            self.invite(name, extra="Supported: 100rel")
            ringing = self.last(183)
            tag = ringing.to.tag or ""
            self.from_a("PRACK", name, tag, 2, extra=f"RAck: {ringing.get('RSeq')} 1 INVITE")
            self.ack(name, self.last(200))
            self.from_a("BYE", name, tag, 3)
            self.last(200)

        self.leaves_nothing(call)

    def test_unpracked(self) -> None:
        """The PRACK never comes."""

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            res.send(183, headers={"Require": "100rel"}, body=SDP)
            try:
                await self.srf.create_uas(req, res, local_sdp=SDP)
            except SipError:
                pass

        def call(name: str) -> None:
            self.invite(name, extra="Supported: 100rel")
            self.last(183)

        self.leaves_nothing(call, 120.0)

    def test_session_timer(self) -> None:
        """A call with a session timer, which the application refreshes."""
        kept = self.answering()

        def call(name: str) -> None:
            extra = "Supported: timer\nSession-Expires: 90;refresher=uas"
            tag = self.up(name, extra=extra)
            for _ in range(2):
                self.whole.server.wire.sent.clear()
                self.whole.clock.advance(52.0)
                self.whole.pump()
                found = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
                self.assertTrue(found)
                headers: dict[str, Any] = {"Session-Expires": "90;refresher=uac"}
                self.whole.respond(found[-1], 200, headers=headers, body=SDP, port=A)
                self.whole.sent()
            self.from_a("BYE", name, tag, 2)
            self.last(200)
            kept.clear()

        self.leaves_nothing(call)

    def test_session_expires(self) -> None:
        """Nobody refreshes the session."""
        kept = self.answering()

        def call(name: str) -> None:
            self.up(name, extra="Supported: timer\nSession-Expires: 90;refresher=uac")
            self.whole.clock.advance(91.0)
            kept.clear()

        self.leaves_nothing(call, 160.0)

    def test_others(self) -> None:
        """Requests without a dialog are answered."""

        @self.srf.use
        def answer(req: Request, res: Response) -> None:
            res.send(200)

        for method in ("OPTIONS", "MESSAGE", "REGISTER", "INFO", "PUBLISH"):
            with self.subTest(method):
                self.leaves_nothing(partial(self.ask, method))

    def test_nobody_wants(self) -> None:
        """Requests that nobody wants are refused, and so are those of no dialog."""
        for method in ("OPTIONS", "REGISTER", "REFER", "FOO", "BYE", "CANCEL"):
            with self.subTest(method):
                self.leaves_nothing(partial(self.ask, method))

    def test_subscribed(self) -> None:
        """A phone subscribes, is notified, and unsubscribed."""
        kept: list[Dialog] = []

        @self.srf.subscribe
        async def answer(req: Request, res: Response) -> None:
            kept.append(await self.srf.create_uas(req, res))

        def call(name: str) -> None:
            extra = "Event: presence\nExpires: 300"
            self.whole.receive(request("SUBSCRIBE", call=name, extra=extra), A)
            dialog = kept.pop()
            self.whole.sent()
            dialog.notify(headers={"Subscription-State": "active"})
            self.whole.respond(self.whole.request(), 200, port=A)
            dialog.notify(headers={"Subscription-State": "terminated"})
            self.whole.respond(self.whole.request(), 200, port=A)

        self.leaves_nothing(call)

    def test_lost(self) -> None:
        """The connection is lost while a call is up, and others ring; it is made again."""
        kept = self.answering()

        def call(name: str) -> None:
            self.up(name)
            self.invite(f"{name}-unacknowledged")
            self.whole.sent()
            self.srf.create_uac(TARGET, local_sdp=SDP).addErrback(lambda failure: None)
            self.whole.respond(self.whole.request(), 180)
            self.whole.lose()
            kept.clear()

        self.leaves_nothing(call, 300.0)

    def test_lost_while_it_rings(self) -> None:
        """The connection is lost while the application has a phone wait."""

        @self.srf.invite
        async def ring(req: Request, res: Response) -> None:
            res.send(180)
            try:
                await req.when_cancelled()
            except ConnectionLost:
                pass

        def call(name: str) -> None:
            self.invite(name)
            self.whole.sent()
            self.whole.lose()

        self.leaves_nothing(call, 300.0)


class CallingTests(LeavingsCase):
    """The application calls phones."""

    def call(self, **options: Any) -> list[Dialog]:
        """Let the application call; return what becomes of it."""
        found: list[Dialog] = []

        async def call() -> None:
            try:
                found.append(await self.srf.create_uac(TARGET, local_sdp=SDP, **options))
            except SipError:
                pass

        Deferred.fromCoroutine(call())
        return found

    def test_application_hangs_up(self) -> None:
        """Somebody is called, and answers; the application hangs up."""

        def call(name: str) -> None:
            found = self.call()
            invite = self.whole.request()
            self.whole.respond(invite, 180)
            self.whole.respond(invite, 200, body=SDP)
            self.whole.sent()
            found.pop().destroy()
            self.whole.respond(self.whole.request(), 200)

        self.leaves_nothing(call)

    def test_callee_hangs_up(self) -> None:
        """Somebody is called, and answers, and hangs up."""

        def call(name: str) -> None:
            self.call()
            invite = self.whole.request()
            self.whole.respond(invite, 200, body=SDP)
            self.from_b(invite, "BYE")
            self.last(200)

        self.leaves_nothing(call)

    def test_refused(self) -> None:
        """Somebody is called, and refuses."""

        def call(name: str) -> None:
            self.call()
            invite = self.whole.request()
            self.whole.respond(invite, 180)
            self.whole.respond(invite, 486)

        self.leaves_nothing(call)

    def test_unanswered(self) -> None:
        """Nobody answers at all."""
        self.leaves_nothing(lambda name: self.call())

    def test_cancelled(self) -> None:
        """A call is cancelled."""

        def call(name: str) -> None:
            pending = self.srf.create_uac(TARGET, local_sdp=SDP)
            pending.addErrback(lambda failure: None)
            invite = self.whole.request()
            self.whole.respond(invite, 180)
            pending.cancel()
            cancel = self.whole.request()
            self.whole.respond(cancel, 200)
            self.whole.respond(invite, 487)

        self.leaves_nothing(call)

    def test_timed_out(self) -> None:
        """A call is given up because nobody answers in time."""

        def call(name: str) -> None:
            self.call(timeout=10.0)
            invite = self.whole.request()
            self.whole.respond(invite, 180)
            self.whole.clock.advance(11.0)
            cancel = self.whole.request()
            self.whole.respond(cancel, 200)
            self.whole.respond(invite, 487)

        self.leaves_nothing(call)

    def test_authenticated(self) -> None:
        """A call is challenged, and authenticated."""

        def call(name: str) -> None:
            found = self.call(auth=("user", "secret"))
            invite = self.whole.request()
            challenge = 'Digest realm="here", nonce="abc", algorithm=MD5, qop="auth"'
            self.whole.respond(invite, 401, headers={"WWW-Authenticate": challenge})
            invite = self.whole.request_after_ack()
            self.whole.respond(invite, 200, body=SDP)
            self.whole.sent()
            found.pop().destroy()
            self.whole.respond(self.whole.request(), 200)

        self.leaves_nothing(call)

    def test_redirected(self) -> None:
        """A call is redirected."""

        def call(name: str) -> None:
            found = self.call(follow_redirects=True)
            invite = self.whole.request()
            self.whole.respond(invite, 302, headers={"Contact": "<sip:carol@127.0.0.1:32073>"})
            invite = self.whole.request_after_ack()
            self.whole.respond(invite, 200, body=SDP)
            self.whole.sent()
            found.pop().destroy()
            self.whole.respond(self.whole.request(), 200)

        self.leaves_nothing(call)

    def test_reliable(self) -> None:
        """A callee rings reliably."""

        def call(name: str) -> None:
            found = self.call(on_provisional=lambda res: None)
            invite = self.whole.request()
            headers: dict[str, Any] = {"Require": "100rel", "RSeq": "1"}
            self.whole.respond(invite, 183, headers=headers, body=SDP)
            self.whole.respond(self.whole.request(), 200)
            self.whole.respond(invite, 200, body=SDP)
            self.whole.sent()
            found.pop().destroy()
            self.whole.respond(self.whole.request(), 200)

        self.leaves_nothing(call)

    def test_several_answer(self) -> None:
        """Two answer the same call; the second one gets a BYE."""

        def call(name: str) -> None:
            found = self.call()
            invite = self.whole.request()
            self.whole.respond(invite, 200, body=SDP)
            self.whole.sent()
            self.whole.respond(invite, 200, tag="c", body=SDP)
            [_ack, bye] = self.requests()
            self.whole.respond(bye, 200)
            found.pop().destroy()
            self.whole.respond(self.whole.request(), 200)

        self.leaves_nothing(call)

    def test_others(self) -> None:
        """The application sends requests outside of dialogs."""

        def call(name: str) -> None:
            async def ask() -> None:
                await self.srf.request(TARGET, method="MESSAGE")

            Deferred.fromCoroutine(ask())
            self.whole.respond(self.whole.request(), 200)

        self.leaves_nothing(call)

    def test_others_dropped(self) -> None:
        """So it is when nobody waits for the response."""

        def call(name: str) -> None:
            self.srf.request(TARGET, method="OPTIONS")
            self.whole.respond(self.whole.request(), 404)

        self.leaves_nothing(call)

    def test_subscribes(self) -> None:
        """The application subscribes, is notified, and unsubscribes."""

        def call(name: str) -> None:
            headers = {"Event": "presence", "Expires": "300"}
            found = self.call(method="SUBSCRIBE", headers=headers)
            subscribe = self.whole.request()
            self.whole.respond(subscribe, 202)
            extra = "Event: presence\nSubscription-State: active"
            self.whole.receive(
                request(
                    "NOTIFY",
                    call=subscribe.call_id,
                    from_tag="b",
                    to_tag=subscribe.from_.tag or "",
                    port=B,
                    extra=extra,
                ),
                B,
            )
            self.whole.sent()
            found.pop().destroy()
            subscribe = self.whole.request()
            self.whole.respond(subscribe, 200)

        self.leaves_nothing(call)


class FailingTests(LeavingsCase):
    """What is awaited fails, and nobody catches it."""

    def failing(self, name: str, error: type[Exception] = SipError) -> None:
        """Let a handler fail with what the phone that it calls answers."""
        self.invite(name)
        [invite] = self.requests()
        self.whole.respond(invite, 486)
        self.last(486 if error is SipError else 500)
        self.ack_failure(name)
        self.flushLoggedErrors(error)

    def test_coroutine(self) -> None:
        """A coroutine lets a failure through."""

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            await self.srf.create_uac(TARGET, local_sdp=SDP)

        self.leaves_nothing(self.failing)

    def test_deferred(self) -> None:
        """A handler returns a Deferred that fails."""

        @self.srf.invite
        def handler(req: Request, res: Response) -> Any:
            return self.srf.create_uac(TARGET, local_sdp=SDP)

        self.leaves_nothing(self.failing)

    def test_turned_into_another(self) -> None:
        """A coroutine makes another error of it."""

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            try:
                await self.srf.create_uac(TARGET, local_sdp=SDP)
            except SipError as error:
                raise ValueError("a slip") from error

        self.leaves_nothing(lambda name: self.failing(name, ValueError))

    def test_bridge(self) -> None:
        """A bridge that fails, whose caller is answered by somebody else."""

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            await self.srf.create_b2bua(req, res, TARGET, pass_failure=False)

        self.leaves_nothing(self.failing)

    def test_chain(self) -> None:
        """A handler further up waits for the others, and lets the failure through."""

        @self.srf.use
        async def outer(req: Request, res: Response, proceed: Any) -> None:
            await proceed()

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            await self.srf.create_uac(TARGET, local_sdp=SDP)

        self.leaves_nothing(self.failing)


class SlipTests(LeavingsCase):
    """What cannot be sent, or is not sent any more."""

    def test_misspelt(self) -> None:
        """What is no message raises at once."""

        def call(name: str) -> None:
            slip = {"Subject": "a\r\nb"}
            for ask in (
                lambda: self.srf.request(TARGET, method="OPTIONS", headers=slip),
                lambda: self.srf.create_uac(TARGET, headers=slip),
            ):
                try:
                    ask()
                except LocalProtocolError:
                    pass
                else:
                    self.fail("it is no message")

        self.leaves_nothing(call)

    def test_bridge_too_late(self) -> None:
        """The caller has gone before the other side is called."""
        waiting: list[Deferred[str]] = []

        def offer(_: bytes, __: Request) -> Deferred[str]:
            waiting.append(Deferred())
            return waiting[-1]

        @self.srf.invite
        async def bridge(req: Request, res: Response) -> None:
            try:
                await self.srf.create_b2bua(req, res, TARGET, local_sdp_b=offer)
            except SipError:
                pass

        def call(name: str) -> None:
            self.invite(name)
            self.whole.sent()
            self.whole.receive(request("CANCEL", call=name), A)
            waiting.pop().callback(SDP)
            self.whole.sent()
            self.ack_failure(name)

        self.leaves_nothing(call)

    def test_given_up_before(self) -> None:
        """A call is given up before there is an offer."""

        def call(name: str) -> None:
            offer: Deferred[str] = Deferred()
            pending = self.srf.create_uac(TARGET, local_sdp=offer)
            pending.addErrback(lambda failure: None)
            pending.cancel_request()
            offer.callback(SDP)

        self.leaves_nothing(call)

    def test_offer_never_comes(self) -> None:
        """The offer never comes, and the call is given up: the Deferred fires all the same."""
        failed: list[Failure] = []

        def call(name: str) -> None:
            pending = self.srf.create_uac(TARGET, local_sdp=Deferred())
            pending.addErrback(failed.append)
            pending.cancel_request()
            self.assertIsInstance(failed.pop().value, SipError)

        self.leaves_nothing(call)


class NamedTests(LeavingsCase):
    """Phones are called by their names."""

    def setUp(self) -> None:
        """Let a name have two addresses."""
        super().setUp()
        self.whole.server.zone = {("A", "phones.example"): ["127.0.0.1", "127.0.0.2"]}

    def call(self) -> None:
        """Call a name."""

        async def call() -> None:
            try:
                await self.srf.create_uac("sip:bob@phones.example", local_sdp=SDP)
            except SipError:
                pass

        Deferred.fromCoroutine(call())

    def test_refused(self) -> None:
        """The first place refuses."""

        def call(name: str) -> None:
            self.call()
            self.whole.respond(self.whole.request(), 486)

        self.leaves_nothing(call)

    def test_further_place(self) -> None:
        """The first place has no time, the second one refuses."""

        def call(name: str) -> None:
            self.call()
            self.whole.respond(self.whole.request(), 503)
            self.whole.respond(self.requests()[-1], 486)

        self.leaves_nothing(call)

    def test_nobody(self) -> None:
        """No place answers at all."""
        self.leaves_nothing(lambda name: self.call(), 120.0)

    def test_no_such_name(self) -> None:
        """There is no such name."""
        self.whole.server.zone = {}
        self.leaves_nothing(lambda name: self.call())

    def test_proxied(self) -> None:
        """A call is proxied to a name."""

        @self.srf.invite
        async def proxy(req: Request, res: Response) -> None:
            await self.srf.proxy_request(req, "sip:bob@phones.example", record_route=True)

        def call(name: str) -> None:
            self.invite(name)
            self.whole.respond(self.requests()[-1], 503)
            self.whole.respond(self.requests()[-1], 486)
            self.last(486)
            self.ack_failure(name)

        self.leaves_nothing(call, 300.0)


class BetweenTests(LeavingsCase):
    """The application connects phones with each other."""

    def bridging(self) -> None:
        """Bridge calls."""

        @self.srf.invite
        async def bridge(req: Request, res: Response) -> None:
            try:
                legs = await self.srf.create_b2bua(req, res, TARGET)
            except SipError:
                return
            couple(legs.uas, legs.uac)

    def test_bridged(self) -> None:
        """A call is bridged; either side hangs up."""
        self.bridging()

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 180)
            self.whole.respond(invite, 200, body=SDP)
            answer = [one for one in self.whole.sent() if isinstance(one, SipResponse)][-1]
            self.ack(name, answer)
            if name[-1] in "02":
                self.from_b(invite, "BYE")
                self.whole.respond(self.requests()[-1], 200, port=A)
            else:
                self.from_a("BYE", name, answer.to.tag or "")
                self.whole.respond(self.requests()[-1], 200)

        self.leaves_nothing(call)

    def test_bridge_refused(self) -> None:
        """The callee of a bridged call refuses."""
        self.bridging()

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 180)
            self.whole.respond(invite, 486)
            self.last(486)
            self.ack_failure(name)

        self.leaves_nothing(call)

    def test_bridge_cancelled(self) -> None:
        """The caller of a bridged call gives up."""
        self.bridging()

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 180)
            self.whole.sent()
            self.whole.receive(request("CANCEL", call=name), A)
            [cancel] = self.requests()
            self.ack_failure(name)
            self.whole.respond(cancel, 200)
            self.whole.respond(invite, 487)

        self.leaves_nothing(call)

    def proxying(self, *targets: str, **options: Any) -> None:
        """Proxy calls."""

        @self.srf.invite
        async def proxy(req: Request, res: Response) -> None:
            await self.srf.proxy_request(req, list(targets) or TARGET, **options)

    def test_proxied(self) -> None:
        """A call is proxied, and accepted."""
        self.proxying()

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 180)
            self.whole.respond(invite, 200, body=SDP)
            self.last(200)

        self.leaves_nothing(call, 300.0)

    def test_proxied_staying(self) -> None:
        """A call is proxied with Record-Route, and ended."""
        self.proxying(record_route=True)

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 200, body=SDP)
            self.last(200)
            extra = "Route: <sip:127.0.0.1:32060;lr>"
            self.from_a("ACK", name, "b", 1, extra=extra)
            self.from_a("BYE", name, "b", 2, extra=extra)
            bye = self.requests()[-1]
            self.whole.respond(bye, 200)

        self.leaves_nothing(call, 300.0)

    def test_proxy_refused(self) -> None:
        """A call is proxied, and refused."""
        self.proxying()

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 486)
            self.last(486)
            self.ack_failure(name)

        self.leaves_nothing(call, 300.0)

    def test_proxy_cancelled(self) -> None:
        """A call is proxied, and cancelled."""
        self.proxying(record_route=True)

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 180)
            self.whole.sent()
            self.whole.receive(request("CANCEL", call=name), A)
            [cancel] = self.requests()
            self.whole.respond(cancel, 200)
            self.whole.respond(invite, 487)
            self.ack_failure(name)

        self.leaves_nothing(call, 300.0)

    def test_proxy_unanswered(self) -> None:
        """A call is proxied to somebody who does not answer."""
        self.proxying()
        self.leaves_nothing(self.invite, 300.0)

    def test_forked(self) -> None:
        """A call is proxied to two at once; one accepts, or both refuse."""
        self.proxying(TARGET, "sip:carol@127.0.0.1:32073", forking="simultaneous")

        def call(name: str) -> None:
            self.invite(name)
            first, second = self.requests()
            self.whole.respond(first, 180)
            self.whole.respond(second, 180)
            if name[-1] in "02":
                self.whole.respond(first, 200, body=SDP)
                cancel = self.requests()[-1]
                self.whole.respond(cancel, 200)
                self.whole.respond(second, 487)
            else:
                self.whole.respond(first, 486)
                self.whole.respond(second, 480)
                self.whole.sent()
                self.ack_failure(name)

        self.leaves_nothing(call, 300.0)

    def test_message_proxied(self) -> None:
        """A MESSAGE is proxied."""

        @self.srf.message
        async def proxy(req: Request, res: Response) -> None:
            await self.srf.proxy_request(req, TARGET)

        def call(name: str) -> None:
            self.whole.receive(request("MESSAGE", call=name, body="hello"), A)
            self.whole.respond(self.whole.request(), 200)

        self.leaves_nothing(call, 300.0)

    def test_forwarded(self) -> None:
        """Requests in a bridged call are passed on."""

        @self.srf.invite
        async def bridge(req: Request, res: Response) -> None:
            legs = await self.srf.create_b2bua(req, res, TARGET)
            couple(legs.uas, legs.uac)
            forward_in_dialog(legs.uas, legs.uac)

        def call(name: str) -> None:
            self.invite(name)
            [invite] = self.requests()
            self.whole.respond(invite, 200, body=SDP)
            answer = self.last(200)
            tag = answer.to.tag or ""
            self.ack(name, answer)
            self.from_a("INFO", name, tag, 2)
            self.whole.respond(self.requests()[-1], 200)
            self.last(200)
            self.from_a("INVITE", name, tag, 3, body=SDP)
            self.whole.respond(self.requests()[-1], 200, body=SDP)
            self.ack(name, self.last(200))
            self.from_a("INVITE", name, tag, 4, body=SDP)
            self.whole.respond(self.requests()[-1], 488)
            self.last(488)
            self.whole.receive(request("ACK", call=name, number=4, branch="INVITE-4"), A)
            self.from_a("BYE", name, tag, 5)
            self.whole.respond(self.requests()[-1], 200)

        self.leaves_nothing(call)

    def test_rings_everywhere(self) -> None:
        """Several are called at once; one answers, or nobody does."""

        @self.srf.invite
        async def ring(req: Request, res: Response) -> None:
            try:
                legs = await simring(self.srf, req, res, [TARGET, "sip:carol@127.0.0.1:32073"])
            except SipError:
                return
            couple(legs.uas, legs.uac)

        def call(name: str) -> None:
            self.invite(name)
            first, second = self.requests()
            if name[-1] in "02":
                self.whole.respond(second, 180)
                self.whole.respond(first, 200, body=SDP)
                sent = self.whole.sent()
                [answer] = [one for one in sent if getattr(one, "status", 0) == 200]
                assert isinstance(answer, SipResponse)
                [cancel] = [one for one in sent if isinstance(one, SipRequest)][1:]
                self.whole.respond(cancel, 200)
                self.whole.respond(second, 487)
                self.ack(name, answer)
                self.from_a("BYE", name, answer.to.tag or "")
                self.whole.respond(self.requests()[-1], 200)
            else:
                self.whole.respond(first, 486)
                self.whole.respond(second, 480)
                self.whole.sent()
                self.ack_failure(name)

        self.leaves_nothing(call)

    def test_hunted(self) -> None:
        """Several are called one after the other, and nobody answers."""

        @self.srf.invite
        async def ring(req: Request, res: Response) -> None:
            try:
                await hunt(self.srf, req, res, [TARGET, "sip:carol@127.0.0.1:32073"])
            except SipError:
                pass

        def call(name: str) -> None:
            self.invite(name)
            self.whole.respond(self.requests()[-1], 486)
            self.whole.respond(self.requests()[-1], 480)
            self.whole.sent()
            self.ack_failure(name)

        self.leaves_nothing(call)

    def test_transferred(self) -> None:
        """A call is transferred."""
        moved: list[Any] = []

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            dialog = await self.srf.create_uas(req, res, local_sdp=SDP)
            moved.append(await transfer(dialog, "sip:carol@example.net"))
            dialog.destroy()

        def call(name: str) -> None:
            self.invite(name)
            [answer, refer] = self.whole.sent()[1:]
            assert isinstance(answer, SipResponse) and isinstance(refer, SipRequest)
            self.ack(name, answer)
            tag = answer.to.tag or ""
            self.whole.respond(refer, 202, port=A)
            told = "Event: refer\nContent-Type: message/sipfrag\nSubscription-State: "
            trying = "SIP/2.0 100 Trying\n"
            self.from_a("NOTIFY", name, tag, 2, extra=f"{told}active", body=trying)
            ok = "SIP/2.0 200 OK\n"
            self.from_a("NOTIFY", name, tag, 3, extra=f"{told}terminated", body=ok)
            self.whole.respond(self.requests()[-1], 200, port=A)

        self.leaves_nothing(call)
        self.assertEqual(len(moved), CALLS + 2)

    def test_transferring(self) -> None:
        """A phone has the application call somebody else."""

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            dialog = await self.srf.create_uas(req, res, local_sdp=SDP)

            @dialog.on_refer
            async def refer(req: Request, res: Response) -> None:
                referral = accept_refer(dialog, req, res)
                await referral.follow(local_sdp=SDP)

        def call(name: str) -> None:
            tag = self.up(name)
            self.from_a("REFER", name, tag, 2, extra=f"Refer-To: <{TARGET}>")
            requests = self.requests()
            while requests:
                for one in requests:
                    if one.method == "NOTIFY":
                        self.whole.respond(one, 200, port=A)
                    elif one.method == "INVITE":
                        self.whole.respond(one, 486)
                requests = self.requests()
            self.flushLoggedErrors(SipError)
            self.from_a("BYE", name, tag, 3)
            self.last(200)

        self.leaves_nothing(call)
