"""What a proxy must not forward, and how requests that go in a circle end.

RFC 3261 section 16.3, RFC 5393.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.proxy.response_context import ContextState, ResponseContext
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from tests.server.doubles import PORT, Bench, head, request
from tests.server.test_uac import TARGET, reply
from tests.server.test_uas import transaction

CALLEE = "sip:bob@127.0.0.1:32071"
HERE = f"sip:bob@127.0.0.1:{PORT}"
ROUTE = f"Route: <sip:127.0.0.1:{PORT};lr>"


class ProxyTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application."""
        self.start()

    def start(self, **settings: Any) -> None:
        """Start a server, with some settings."""
        self.bench = Bench(**settings)
        self.app = self.bench.link("invite", "options", "message")

    def proxy(
        self, frame: str, *targets: str, stay: str = "", redirects: str = "", way: str = "serial"
    ) -> list[str]:
        """Let the application have a request proxied; give the first line of each answer."""
        words = f"{transaction(frame)}|{stay}|fullResponse|{redirects}|{way}||"
        answers = self.app.command(f"proxy|{words}|{'|'.join(targets or (CALLEE,))}\r\n")
        return [answer.partition("|response|m|")[2] for answer in answers]

    def answers(self) -> list[Response]:
        """Give the responses that were sent since, but for 100."""
        found = [one for one in self.bench.take() if isinstance(one, Response)]
        return [one for one in found if one.status > 100]

    def up(self, stay: str = "remainInDialog") -> None:
        """Let a call be proxied, and accepted."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.proxy(frame, stay=stay)
        invite = self.bench.take()[-1]
        assert isinstance(invite, Request)
        self.bench.receive(reply(invite, 200), port=32071)
        self.app.take()
        self.bench.take()


class RefusedTests(ProxyTestCase):
    def test_no_hops_left(self) -> None:
        """Nothing is forwarded with Max-Forwards 0, and the application is told so."""
        for method in ("INVITE", "OPTIONS"):
            text = request(method, call=method).replace("Max-Forwards: 70", "Max-Forwards: 0")
            self.bench.receive(text)
            [frame] = self.app.take()
            self.assertEqual(
                self.proxy(frame),
                ["NOK|Rejected with 483 Too Many Hops due to Max-Forwards value of 0"],
            )
            self.assertEqual([head(one) for one in self.answers()], [f"483 {method}"])

    def test_hops(self) -> None:
        """The last hop is used; a request without the header has 70."""
        for given, expected in (("Max-Forwards: 1", "0"), ("X-None: 1", "70")):
            text = request("OPTIONS", call=given[:5]).replace("Max-Forwards: 70", given)
            self.bench.receive(text)
            [frame] = self.app.take()
            self.proxy(frame)
            self.assertEqual(self.bench.take()[-1].get("Max-Forwards"), expected)

    def test_application_answers(self) -> None:
        """An application that answers does not care for hops (RFC 3261 section 11)."""
        text = request("OPTIONS").replace("Max-Forwards: 70", "Max-Forwards: 0")
        self.bench.receive(text)
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 OPTIONS"])

    def test_required_of_proxies(self) -> None:
        """What nobody can know is refused, by name; `*` does not help there."""
        for settings, passes in (
            ({}, False),
            ({"extensions": ["*"]}, False),
            ({"extensions": ["fancy", "other"]}, True),
        ):
            self.start(**settings)
            self.bench.receive(request("OPTIONS", extra="Proxy-Require: fancy, privacy\n"))
            [frame] = self.app.take()
            answers = self.proxy(frame)
            if passes:
                self.assertEqual((answers, self.bench.heads()), ([], ["OPTIONS"]))
                continue
            text = "NOK|Rejected with 420 Bad Extension due to Proxy-Require of fancy"
            self.assertEqual(answers, [text])
            [refusal] = self.answers()
            self.assertEqual((refusal.status, refusal.get("Unsupported")), (420, "fancy"))

    def test_required_of_the_callee(self) -> None:
        """What is required of the callee is his business, once it was let in."""
        self.start(extensions=["*"])
        self.bench.receive(request("INVITE", extra="Require: fancy"))
        [frame] = self.app.take()
        self.proxy(frame)
        self.assertEqual(self.bench.take()[-1].get("Require"), "fancy")


class RefusalTests(ProxyTestCase):
    """What the caller gets when nobody accepts (RFC 3261 section 16.7)."""

    SECOND = "sip:bob@127.0.0.1:32072"

    def forked(self) -> list[Request]:
        """Let a call go to two phones; give the INVITEs that they got."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.proxy(frame, CALLEE, self.SECOND, way="simultaneous")
        return [one for one in self.bench.take() if isinstance(one, Request)]

    def test_challenges_of_all(self) -> None:
        """A challenge that is passed on has those of the others as well (step 7)."""
        first, second = self.forked()
        for invite, status, line in (
            (first, 401, 'WWW-Authenticate: Digest realm="one", nonce="1"'),
            (second, 407, 'Proxy-Authenticate: Digest realm="two", nonce="2"'),
        ):
            self.bench.receive(reply(invite, status, extra=line), port=32071)
        [refusal] = self.answers()
        self.assertIn(refusal.status, (401, 407))
        self.assertEqual(refusal.get("WWW-Authenticate"), 'Digest realm="one", nonce="1"')
        self.assertEqual(refusal.get("Proxy-Authenticate"), 'Digest realm="two", nonce="2"')

    def test_nobody_can_be_reached(self) -> None:
        """That is 500: a 503 would say that this proxy should be shunned."""
        for port in (32071, 32072):
            self.bench.wire.close(self.bench.wire.flow("127.0.0.1", port))
        self.assertEqual(self.forked(), [])
        self.bench.clock.advance(1)
        self.assertEqual([one.status for one in self.answers()], [500])

    def test_states(self) -> None:
        """A search ends with an answer, or with the caller's leaving and the last target's."""
        for cancelled, statuses, expected in (
            (False, (200,), "ANSWERED"),
            (False, (486, 486), "ANSWERED"),
            (False, (486,), "SEARCHING"),
            (True, (487,), "GIVEN_UP"),
            (True, (487, 487), "ENDED"),
            (True, (487, 200), "ANSWERED"),
        ):
            self.start()
            invites = self.forked()
            [incoming] = self.bench.core.uas.transactions.values()
            context = incoming.proxied
            assert isinstance(context, ResponseContext)
            self.assertIs(context.state, ContextState.SEARCHING)
            for invite in invites:
                self.bench.receive(reply(invite, 180), port=32071)
            if cancelled:
                self.bench.receive(request("CANCEL"))
                self.assertIs(context.state, ContextState.GIVEN_UP)
            for invite, status in zip(invites, statuses, strict=False):
                self.bench.receive(reply(invite, status), port=32071)
            self.assertEqual(context.state.name, expected, statuses)
            self.assertRaises(AssertionError, context._become, ContextState.SEARCHING)

    def test_redirected_too_late(self) -> None:
        """Once somebody has accepted, a redirect leads nowhere, and refusals are told to nobody."""
        for status in (302, 486):
            self.start()
            self.bench.receive(request("INVITE"))
            [frame] = self.app.take()
            self.proxy(frame, CALLEE, self.SECOND, way="simultaneous", redirects="followRedirects")
            sent = [one for one in self.bench.take() if isinstance(one, Request)]
            first, second = sent
            self.bench.receive(reply(second, 180), port=32072)
            self.bench.receive(reply(first, 200), port=32071)
            self.bench.take()
            text = reply(second, status).replace(f"<{TARGET}>", "<sip:carol@127.0.0.1:32073>")
            self.bench.receive(text, port=32072)
            self.assertEqual([head(one) for one in self.bench.take()], ["ACK"], status)

    def test_overloaded(self) -> None:
        """A phone's own 503 is worth less than any other refusal, but better than nothing."""
        for statuses, expected in (((503, 500), 500), ((500, 503), 500), ((503, 503), 503)):
            self.start()
            for invite, status in zip(self.forked(), statuses, strict=True):
                self.bench.receive(reply(invite, status), port=32071)
            self.assertEqual([one.status for one in self.answers()], [expected], statuses)


class LateTests(ProxyTestCase):
    """Phones that accept a call when nobody waits for it any more."""

    def forked(self) -> list[Request]:
        """Let a call ring at two phones; give the INVITEs that they got."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.proxy(frame, CALLEE, "sip:bob@127.0.0.1:32072", way="simultaneous")
        invites = [one for one in self.bench.take() if isinstance(one, Request)]
        for invite in invites:
            self.bench.receive(reply(invite, 180), port=32071)
        self.bench.take()
        return invites

    def heads(self) -> list[str]:
        """Give what was sent, but for requests that are repeated."""
        return [one for one in self.bench.heads() if one != "CANCEL"]

    def test_second(self) -> None:
        """As long as it may accept, the caller is told, though his transaction is over."""
        first, second = self.forked()
        self.bench.clock.advance(20)
        self.bench.receive(reply(first, 200), port=32071)
        self.assertEqual(self.heads(), ["200 INVITE"])
        self.bench.clock.advance(31.5)
        self.bench.take()
        self.bench.receive(reply(second, 200, tag="c"), port=32072)
        [answer] = self.answers()
        self.assertEqual((head(answer), answer.to.tag), ("200 INVITE", "c"))
        self.bench.clock.advance(1)
        self.bench.take()
        self.bench.receive(reply(second, 200, tag="c"), port=32072)
        [again] = self.answers()
        self.assertEqual(bytes(again), bytes(answer))

    def test_stray(self) -> None:
        """What comes when all is over goes nowhere (RFC 6026 section 7.3)."""
        first, second = self.forked()
        self.bench.receive(reply(first, 200), port=32071)
        self.bench.clock.advance(33)
        self.bench.take()
        self.bench.receive(reply(second, 200, tag="c"), port=32072)
        self.assertEqual(self.bench.take(), [])
        self.assertEqual(self.bench.core.counts()["client_transactions"], 0)

    def test_given_up(self) -> None:
        """A phone that accepts when the caller was refused for its sake: he is to end the call."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        words = f"{transaction(frame)}||fullResponse||serial||2s"
        self.app.command(f"proxy|{words}|{CALLEE}\r\n")
        invite = self.bench.take()[-1]
        assert isinstance(invite, Request)
        self.bench.receive(reply(invite, 180), port=32071)
        self.bench.take()
        self.bench.clock.advance(2)
        self.assertEqual(self.heads(), ["408 INVITE"])
        self.bench.receive(reply(invite, 200), port=32071)
        self.assertEqual(self.heads(), ["200 INVITE"])


class BreadthTests(ProxyTestCase):
    """A request says how many branches it may have at a time (RFC 5393 section 5.3)."""

    TARGETS = tuple(f"sip:bob@127.0.0.1:{port}" for port in (32071, 32072, 32073))

    def forward(
        self, breadth: str, count: int = 3, way: str = "simultaneous", early: str = ""
    ) -> list[str]:
        """Let a call with that header be proxied; give what the application is told."""
        self.bench.receive(request("INVITE", extra=breadth))
        [frame] = self.app.take()
        words = f"{transaction(frame)}||fullResponse|followRedirects|{way}|{early}|"
        answers = self.app.command(f"proxy|{words}|{'|'.join(self.TARGETS[:count])}\r\n")
        return [answer.partition("|response|m|")[2] for answer in answers]

    def parts(self) -> list[str | None]:
        """Take the INVITEs that were sent since, and give the part that each target has."""
        self.invites = [one for one in self.bench.take() if head(one) == "INVITE"]
        return [one.get("Max-Breadth") for one in self.invites]

    def refuse(self, status: int, extra: str = "") -> None:
        """Let the first of those targets refuse."""
        [asked, *_] = self.invites
        assert isinstance(asked, Request)
        self.bench.receive(reply(asked, status, extra=extra), port=32071)

    def test_parts(self) -> None:
        """All targets together have no more than the request."""
        for given, count, way, parts in (
            ("", 3, "simultaneous", [None, None, None]),
            ("Max-Breadth: x", 1, "serial", ["x"]),
            ("Max-Breadth: 60", 3, "simultaneous", ["20", "20", "20"]),
            ("max-breadth:5", 3, "simultaneous", ["1", "2", "2"]),
            ("Max-Breadth: 60", 1, "serial", ["60"]),
            ("Max-Breadth: 60", 3, "serial", ["20"]),
        ):
            self.start()
            self.assertEqual(self.forward(given, count, way), [])
            self.assertEqual(self.parts(), parts, given)

    def test_none(self) -> None:
        """Without any left nothing is forwarded."""
        text = "NOK|Rejected with 440 Max-Breadth Exceeded due to Max-Breadth value of 0"
        self.assertEqual(self.forward("Max-Breadth: 0"), [text])
        self.assertEqual([head(one) for one in self.answers()], ["440 INVITE"])

    def test_in_dialog(self) -> None:
        """Nor in a dialog."""
        self.up()
        text = request("INFO", number=2, to_tag="b", extra=f"{ROUTE}\nMax-Breadth: 0")
        self.bench.receive(text.replace(f"sip:app@127.0.0.1:{PORT} SIP", f"{CALLEE} SIP", 1))
        self.assertEqual(self.bench.heads(), ["440 INFO"])

    def test_wait(self) -> None:
        """Targets for whom none is left wait until another one has refused."""
        self.forward("Max-Breadth: 2")
        self.assertEqual(self.parts(), ["1", "1"])
        self.refuse(404)
        self.assertEqual(self.parts(), ["1"])
        self.refuse(302, "Contact: <sip:x@127.0.0.1:32074>")
        self.assertEqual(self.parts(), ["1"])

    def test_serial(self) -> None:
        """One after the other, each has its part of what those before it gave back."""
        self.forward("Max-Breadth: 7", way="serial")
        for part in ("2", "3", "7"):
            self.assertEqual(self.parts(), [part])
            self.refuse(404)
        self.assertEqual([head(one) for one in self.answers()], ["404 INVITE"])

    def test_given_up(self) -> None:
        """A target that was given up, but may still ring, keeps its part."""
        self.forward("Max-Breadth: 2", way="serial", early="400ms")
        for _ in range(2):
            self.assertEqual(self.parts(), ["1"])
            self.bench.clock.advance(0.4)
        self.assertEqual([head(one) for one in self.answers()], ["440 INVITE"])


class AnsweredTests(ProxyTestCase):
    def test_response_for_nobody(self) -> None:
        """One that has no Via of the caller ends here; the caller gets the one that has."""
        for way in ("\nVia: ", ", "):
            self.start()
            self.bench.receive(request("INVITE"))
            [frame] = self.app.take()
            self.proxy(frame)
            invite = self.bench.take()[-1]
            assert isinstance(invite, Request)
            own, other = invite.get_all("Via")
            text = reply(invite, 200)
            both = f"Via: {own}\nVia: {other}\n"
            self.assertIn(both, text)
            self.bench.receive(text.replace(both, f"Via: {own}\n"), port=32071)
            self.assertEqual((self.bench.take(), self.app.take()), ([], []))
            self.bench.receive(text.replace(both, f"Via: {own}{way}{other}\n"), port=32071)
            [answer] = self.answers()
            self.assertEqual((answer.status, answer.get_all("Via")), (200, [other]))


class InDialogTests(ProxyTestCase):
    def test_strict_route(self) -> None:
        """What does not come along the route that the proxy gave is not passed on."""
        self.up()
        for route, passes in (
            (ROUTE, True),
            (ROUTE.replace(";lr", ""), False),
            ("Route: <sip:10.0.0.1;lr>", False),
        ):
            text = request("INFO", number=2, to_tag="b", extra=route, branch=f"x{len(route)}")
            self.bench.receive(text.replace(f"sip:app@127.0.0.1:{PORT} SIP", f"{CALLEE} SIP", 1))
            sent = [head(one) for one in self.bench.take()]
            self.assertEqual(sent == ["INFO"], passes, (route, sent))
            self.app.take()

    def ask(self, method: str, extra: str = "", hops: str = "70", branch: str = "") -> None:
        """Let the caller ask in the dialog."""
        text = request(
            method, number=2, to_tag="b", extra=f"{ROUTE}\n{extra}", branch=branch
        ).replace(f"sip:app@127.0.0.1:{PORT} SIP", f"{CALLEE} SIP", 1)
        self.bench.receive(text.replace("Max-Forwards: 70", f"Max-Forwards: {hops}"))

    def test_no_hops_left(self) -> None:
        """In dialogs too the last hop is the last one; an ACK vanishes."""
        self.up()
        for method in ("INVITE", "BYE", "INFO"):
            self.ask(method, hops="0")
            self.ask(method, hops="0")
            first, again = self.answers()
            self.assertEqual(first.status, 483)
            self.assertTrue(first.to.tag)
            self.assertEqual(bytes(first), bytes(again))
        self.ask("ACK", hops="0")
        self.assertEqual(self.bench.take(), [])
        self.ask("INFO", hops="1")
        [info] = self.bench.take()
        self.assertEqual((head(info), info.get("Max-Forwards")), ("INFO", "0"))

    def test_required_of_proxies(self) -> None:
        """An extension that no proxy knows is refused."""
        self.up()
        self.ask("INFO", "Proxy-Require: fancy")
        [refusal] = self.answers()
        self.assertEqual((refusal.status, refusal.get("Unsupported")), (420, "fancy"))

    def test_same_branch(self) -> None:
        """The CANCEL of a re-INVITE, and the ACK of its failure, follow it with its branch."""
        self.up()
        self.ask("INVITE")
        self.ask("CANCEL")
        self.ask("ACK", branch="INVITE-2")
        sent = self.bench.take()
        self.assertEqual([head(one) for one in sent], ["INVITE", "CANCEL", "ACK"])
        self.assertEqual(len({one.vias[0].branch for one in sent}), 1)
        self.ask("ACK", branch="of-the-200")
        [ack] = self.bench.take()
        self.assertNotEqual(ack.vias[0].branch, sent[0].vias[0].branch)

    def test_call_of_others(self) -> None:
        """Of a call that was not proxied here nothing is passed on."""
        self.up(stay="")
        for method in ("CANCEL", "BYE"):
            self.ask(method)
            self.assertEqual(self.bench.heads(), [f"481 {method}"])


class CircleTests(ProxyTestCase):
    """What is sent to the server's own address comes back to it."""

    def circle(self, *targets: str, rounds: int = 1000, **how: str) -> tuple[int, list[str]]:
        """Let the application have everything proxied.

        :returns: how many requests were sent on, and what the caller got in the end.
        """
        count = 0
        finals: list[str] = []
        for _ in range(rounds):
            frames = [one for one in self.app.take() if "|sip|network|" in one]
            for frame in frames:
                self.proxy(frame, *targets, **how)
            sent, self.bench.wire.sent = self.bench.wire.sent, []
            if not sent and not frames:
                return count, finals
            for flow, raw in sent:
                message = parse_message(raw)
                if flow.remote_port == PORT:
                    count += isinstance(message, Request) and message.method != "ACK"
                    self.bench.receive(raw, port=PORT)
                elif isinstance(message, Response) and message.status > 100:
                    finals.append(head(message))
        self.fail("it goes on and on")

    def test_one_target(self) -> None:
        """A circle of single targets ends when there are no hops left."""
        for method in ("INVITE", "OPTIONS"):
            self.start()
            self.bench.receive(request(method))
            self.assertEqual(self.circle(HERE), (70, [f"483 {method}"]))
            self.bench.clock.advance(100)
            self.assertEqual(self.bench.core.counts()["server_transactions"], 0)

    def test_fewer_hops(self) -> None:
        """However many there were."""
        self.bench.receive(request("INVITE").replace("Max-Forwards: 70", "Max-Forwards: 5"))
        self.assertEqual(self.circle(HERE), (5, ["483 INVITE"]))

    def test_several_targets(self) -> None:
        """With several targets, which would multiply, it ends as soon as it is noticed."""
        other = f"sip:carol@127.0.0.1:{PORT}"
        for targets, most in (((HERE, HERE), 6), ((HERE, other), 12)):
            for way in ("simultaneous", "serial"):
                self.start()
                self.bench.receive(request("INVITE"))
                count, finals = self.circle(*targets, way=way)
                self.assertLessEqual(count, most, (targets, way))
                self.assertEqual(finals, ["482 INVITE"])

    def test_foreign_target(self) -> None:
        """It makes no difference that the Request-URI is another domain's."""
        text = request("OPTIONS").replace(f"sip:app@127.0.0.1:{PORT} SIP", "sip:b@example.net SIP")
        self.bench.receive(text)
        count, finals = self.circle(HERE, HERE, way="simultaneous")
        self.assertEqual((count, finals), (2, ["482 OPTIONS"]))

    def test_redirected(self) -> None:
        """Redirects that are followed may be many targets too."""
        self.bench.receive(request("INVITE"))
        count, finals = self.circle(HERE, redirects="followRedirects")
        self.assertLessEqual(count, 2)
        self.assertEqual(finals, ["482 INVITE"])

    def test_redirect_first(self) -> None:
        """Whom a redirect names is tried before the other targets, the best of them first."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        other = "sip:carol@127.0.0.1:32073"
        self.proxy(frame, CALLEE, other, redirects="followRedirects")
        tried = []
        contacts = "<sip:b1@127.0.0.1:32071>;q=0.1, <sip:b2@127.0.0.1:32071>;q=0.9"
        for _ in range(4):
            sent = [one for one in self.bench.take() if isinstance(one, Request)]
            [invite] = [one for one in sent if one.method == "INVITE"]
            tried.append(invite.uri)
            text = reply(invite, 404 if len(tried) > 1 else 302)
            self.bench.receive(text.replace(f"<{TARGET}>", contacts), port=32071)
        self.assertEqual(tried, [CALLEE, "sip:b2@127.0.0.1:32071", "sip:b1@127.0.0.1:32071", other])

    def test_somebody_else(self) -> None:
        """A request that comes back for somebody else goes on, to several targets as well."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.proxy(frame, HERE, CALLEE, way="simultaneous")
        [raw] = [raw for flow, raw in self.bench.wire.sent if flow.remote_port == PORT]
        self.bench.take()
        self.bench.receive(raw, port=PORT)
        [frame] = self.app.take()
        self.assertEqual(self.proxy(frame, CALLEE, "sip:bob@127.0.0.1:32072"), [])
        self.assertEqual(self.bench.heads(), ["100 INVITE", "INVITE"])
