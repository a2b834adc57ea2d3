"""How long calls that were proxied are known, so that requests in their dialogs may pass."""

from __future__ import annotations

from drachtwist.server.limits import ServerLimits
from drachtwist.sip.message import Request, Response
from tests.server.doubles import head, request
from tests.server.test_proxying import CALLEE, ROUTE, ProxyTestCase
from tests.server.test_uac import reply

OTHER = "sip:bob@127.0.0.1:32072"


class KnownTests(ProxyTestCase):
    @property
    def known(self) -> int:
        """How many calls are known."""
        return self.bench.core.counts()["passing_calls"]

    def forward(
        self, *targets: str, method: str = "INVITE", call: str = "c1", stay: str = "remainInDialog"
    ) -> list[Request]:
        """Let a call be proxied; give what its targets get."""
        if method == "SUBSCRIBE":
            self.app.command("route|subscribe")
        self.bench.receive(request(method, call=call))
        [frame] = self.app.take()
        self.proxy(frame, *(targets or (CALLEE,)), stay=stay, way="simultaneous")
        return [one for one in self.bench.take() if isinstance(one, Request)]

    def respond(self, asked: Request, status: int, tag: str = "b") -> None:
        """Let a target respond."""
        self.bench.receive(reply(asked, status, tag=tag), port=32071)
        self.bench.take()
        self.app.take()

    def ask(
        self, method: str, number: int = 2, to_tag: str = "b", call: str = "c1", extra: str = ""
    ) -> list[str]:
        """Let the caller ask in the dialog; give what is sent then, in short."""
        self.asked = request(
            method,
            call=call,
            number=number,
            to_tag=to_tag,
            extra=f"{ROUTE}\n{extra}",
            branch=f"{method}-{number}-{to_tag}",
        ).replace("sip:app@127.0.0.1:32060 SIP", f"{CALLEE} SIP", 1)
        self.bench.receive(self.asked)
        sent = self.bench.take()
        for one in sent:
            if isinstance(one, Request):
                self.passed = one
        return [head(one) for one in sent]

    def answer(self, status: int) -> None:
        """Let the callee answer what passed last."""
        self.bench.receive(reply(self.passed, status), port=32071)
        self.assertEqual(self.bench.heads(), [f"{status} {self.passed.method}"])

    def up(self, stay: str = "remainInDialog") -> None:
        """Let a call come up."""
        [invite] = self.forward(stay=stay)
        self.respond(invite, 200)
        self.assertEqual(self.ask("ACK", 1), ["ACK"])

    def nothing_left(self) -> None:
        """See that nothing is remembered any more."""
        counts = self.bench.core.counts()
        counts.pop("applications")
        self.assertEqual(set(counts.values()), {0}, counts)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass."""
        until = self.bench.clock.seconds() + seconds
        while self.bench.clock.seconds() < until:
            self.bench.clock.advance(step)
        self.bench.take()

    def test_ended(self) -> None:
        """A call that is ended is forgotten when its BYE cannot be repeated any more."""
        self.up()
        self.pass_time(1000, 10)
        self.assertEqual(self.ask("BYE"), ["BYE"])
        self.pass_time(10)
        self.assertEqual(self.ask("BYE"), ["BYE"])
        self.answer(200)
        self.pass_time(31.5)
        self.assertEqual(self.known, 1)
        self.pass_time(0.5)
        self.nothing_left()
        self.assertEqual(self.ask("INFO", 3), ["503 INFO"])

    def test_ended_by_the_callee(self) -> None:
        """It does not matter who ends it, nor whether anybody answers."""
        self.up()
        text = request("BYE", from_tag="b", to_tag="a", extra=ROUTE, port=32071)
        self.bench.receive(text.replace("sip:app@127.0.0.1:32060 SIP", "sip:alice@127.0.0.1 SIP"))
        self.assertEqual(self.bench.heads(), ["BYE"])
        self.pass_time(32)
        self.nothing_left()

    def test_challenged(self) -> None:
        """A BYE that is challenged ends nothing."""
        for status in (401, 407):
            self.setUp()
            self.up()
            self.ask("BYE")
            self.answer(status)
            self.pass_time(1000, 10)
            self.assertEqual(self.ask("BYE", 3), ["BYE"])
            self.answer(481)
            self.pass_time(32)
            self.nothing_left()

    def test_not_accepted(self) -> None:
        """Of a call that is refused or cancelled nothing is left with its transaction."""
        [invite] = self.forward()
        self.respond(invite, 180)
        self.assertEqual(self.ask("PRACK"), ["PRACK"])
        self.respond(invite, 486)
        self.assertEqual(self.known, 1)
        self.pass_time(32)
        self.nothing_left()
        [invite] = self.forward(call="c2")
        self.respond(invite, 180)
        self.bench.receive(request("CANCEL", call="c2"))
        self.respond(invite, 487)
        self.pass_time(32)
        self.nothing_left()

    def test_asked_again(self) -> None:
        """The end of an INVITE that was refused is not that of the next one in the same call."""
        [invite] = self.forward()
        self.respond(invite, 407)
        self.bench.receive(request("INVITE", number=2))
        [frame] = self.app.take()
        self.proxy(frame, stay="remainInDialog")
        [again] = [one for one in self.bench.take() if isinstance(one, Request)]
        self.respond(again, 180)
        self.pass_time(100)
        self.assertEqual(self.ask("INFO", 3), ["INFO"])
        self.respond(again, 200)
        self.assertEqual(self.ask("ACK"), ["ACK"])
        self.ask("BYE", 4)
        self.answer(200)
        self.pass_time(32)
        self.nothing_left()

    def test_not_acknowledged(self) -> None:
        """A call is over in whose dialog nothing passes for 64 seconds, not even an ACK."""
        [invite] = self.forward()
        self.respond(invite, 200)
        self.pass_time(63.5)
        self.assertEqual(self.known, 1)
        self.pass_time(0.5)
        self.nothing_left()

    def test_accepted_by_two(self) -> None:
        """A call that two accepted goes on until both have ended it, in whatever order."""
        for answers in (True, False):
            self.setUp()
            first, second = self.forward(CALLEE, OTHER)
            self.respond(first, 200, "b")
            self.respond(second, 200, "c")
            for tag in ("b", "c"):
                self.assertEqual(self.ask("ACK", 1, tag), ["ACK"])
            self.ask("BYE", 2, "c")
            if answers:
                self.answer(200)
                self.respond(second, 200, "c")
                self.pass_time(1000, 10)
                self.assertEqual(self.ask("INFO", 3), ["INFO"])
                self.ask("BYE", 4)
            else:
                ended = self.passed
                self.ask("BYE", 4)
                self.answer(200)
                self.passed = ended
                self.answer(200)
            self.pass_time(32)
            self.nothing_left()

    def test_late(self) -> None:
        """One who accepts when the call is not known any more makes it known again."""
        first, second = self.forward(CALLEE, OTHER)
        self.respond(first, 180)
        self.respond(second, 180)
        self.bench.receive(request("CANCEL"))
        self.bench.receive(request("ACK", branch="INVITE-1", to_tag="x"))
        self.bench.take()
        self.pass_time(6)
        self.assertEqual(self.known, 0)
        self.respond(first, 200)
        self.assertEqual(self.known, 1)
        self.assertEqual(self.ask("ACK", 1), ["ACK"])
        self.ask("BYE")
        self.answer(200)
        self.pass_time(32)
        self.nothing_left()

    def test_idle(self) -> None:
        """A call whose end is never seen is forgotten a day after the last request in it."""
        self.up()
        self.pass_time(80000, 1000)
        self.assertEqual(self.ask("INFO"), ["INFO"])
        self.pass_time(86000, 1000)
        self.assertEqual(self.known, 1)
        self.pass_time(400, 100)
        self.nothing_left()

    def test_subscription(self) -> None:
        """A subscription is over with the NOTIFY that says so; in a call that says nothing."""
        [subscribe] = self.forward(method="SUBSCRIBE")
        self.respond(subscribe, 200)
        for number, state in ((2, "active"), (3, "Terminated;reason=timeout")):
            extra = f"Event: presence\nSubscription-State: {state}"
            self.assertEqual(self.ask("NOTIFY", number, extra=extra), ["NOTIFY"])
            self.answer(200)
            self.pass_time(40)
            self.assertEqual(self.known, int(state == "active"))
        self.nothing_left()
        self.up()
        extra = "Event: refer\nSubscription-State: terminated"
        self.ask("NOTIFY", extra=extra)
        self.answer(200)
        self.pass_time(40)
        self.assertEqual(self.known, 1)

    def test_no_dialog(self) -> None:
        """What makes no dialog, or is proxied without Record-Route, is not known at all."""
        for number, (method, stay) in enumerate((("OPTIONS", "remainInDialog"), ("INVITE", ""))):
            [asked] = self.forward(method=method, call=f"c{number}", stay=stay)
            self.assertEqual(self.known, 0)
            self.respond(asked, 200)
            self.assertEqual(self.known, 0)

    def test_most(self) -> None:
        """When there are too many, new ones are refused: what is up is not forgotten for them."""
        self.start(limits=ServerLimits(proxied_calls=2))
        for call in ("c1", "c2"):
            [invite] = self.forward(call=call)
            self.respond(invite, 200)
        self.bench.receive(request("INVITE", call="c3"))
        [frame] = self.app.take()
        self.proxy(frame, CALLEE, stay="remainInDialog", way="simultaneous")
        _, answer = self.bench.take()
        assert isinstance(answer, Response)
        self.assertEqual((answer.status, answer.get("Retry-After")), (503, "5"))
        for call in ("c1", "c2"):
            self.assertEqual(self.ask("INFO", call=call), ["INFO"])
        self.assertEqual(self.known, 2)
