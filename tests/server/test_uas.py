"""Requests of the network: what is answered, what is handed on, and when."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.message import Request, Response
from tests.server.doubles import Bench, Link, head, request

SDP = "v=0\no=a 1 1 IN IP4 127.0.0.1\n"


def transaction(frame: str) -> str:
    """Give the transaction id of a delivery."""
    return frame.split("|")[8]


class ServerTestCase(SynchronousTestCase):
    """A server with one application."""

    def setUp(self) -> None:
        """Connect an application that wants everything."""
        self.bench = Bench()
        verbs = ("invite", "options", "message", "register", "subscribe", "info", "notify")
        self.app: Link = self.bench.link(*verbs)

    def offered(self, text: str, **how: Any) -> str:
        """Let a request come, which has to reach the application; give its transaction id."""
        self.bench.receive(text, **how)
        [frame] = self.app.take()
        return transaction(frame)

    def ringing(self, **how: Any) -> tuple[str, str]:
        """Let a call come and ring; give its transaction id, and our tag."""
        invite = self.offered(request("INVITE", body=SDP, **how))
        self.app.answer(invite, "SIP/2.0 180 Ringing")
        response = self.bench.take()[-1]
        assert isinstance(response, Response)
        return invite, response.to.tag or ""

    def answered(self) -> tuple[str, str]:
        """Let a call come and answer it; give its transaction id, and our tag."""
        invite, tag = self.ringing()
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 INVITE"])
        return invite, tag

    def up(self) -> str:
        """Let a call come up; give our tag."""
        _, tag = self.answered()
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        [frame] = self.app.take()
        self.assertIn("\r\nACK ", frame)
        return tag

    def seen(self, seconds: float, step: float = 0.5) -> list[tuple[float, str]]:
        """Let time pass; give what was sent, and when."""
        found = []
        clock = self.bench.clock
        until = clock.seconds() + seconds
        while clock.seconds() < until:
            clock.advance(step)
            found += [(clock.seconds(), head(message)) for message in self.bench.take()]
        return found

    def nothing_left(self) -> None:
        """Let a minute pass, and see that nothing is remembered."""
        self.seen(70)
        counts = self.bench.core.counts()
        counts.pop("applications")
        self.assertEqual(set(counts.values()), {0}, counts)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])


class NewRequestTests(ServerTestCase):
    def test_nobody(self) -> None:
        """What nobody wants is refused: 503, or 481, 405 and 501 for what nobody can be given."""
        bench = Bench()
        for method, heads in (
            ("INVITE", ["100 INVITE", "503 INVITE"]),
            ("OPTIONS", ["503 OPTIONS"]),
            ("REGISTER", ["503 REGISTER"]),
            ("BYE", ["481 BYE"]),
            ("UPDATE", ["481 UPDATE"]),
            ("CANCEL", ["481 CANCEL"]),
            ("REFER", ["405 REFER"]),
            ("PRACK", ["481 PRACK"]),
            ("FOO", ["501 FOO"]),
            ("ACK", []),
        ):
            bench.receive(request(method, call=method))
            self.assertEqual(bench.heads(), heads, method)

    def test_trying(self) -> None:
        """The 100 has no tag and no Contact, and is sent before the application is asked."""
        self.bench.receive(request("INVITE"))
        [trying] = self.bench.take()
        assert isinstance(trying, Response)
        self.assertEqual((trying.status, trying.to.tag, trying.has("Contact")), (100, None, False))

    def test_repeated_before_an_answer(self) -> None:
        """A request that comes again before its first answer is swallowed, and no second 100."""
        self.offered(request("INVITE"))
        self.bench.take()
        self.bench.receive(request("INVITE"))
        self.assertEqual((self.app.take(), self.bench.take()), ([], []))

    def test_repeated_after_an_answer(self) -> None:
        """A request that comes again gets the last answer again."""
        self.ringing()
        self.bench.receive(request("INVITE", body=SDP))
        self.assertEqual((self.app.take(), self.bench.heads()), ([], ["180 INVITE"]))

    def test_round_robin(self) -> None:
        """Applications take turns; a verb that is routed twice has two turns."""
        other = self.bench.link("message", "message")
        got = []
        for number in range(6):
            self.bench.receive(request("MESSAGE", call=f"r{number}"))
            got.append(len(self.app.take()) * "a" + len(other.take()) * "b")
        self.assertEqual(sorted("".join(got)), list("aabbbb"))

    def test_forgotten(self) -> None:
        """An INVITE without an answer is refused after 64 seconds, and the application told so."""
        invite = self.offered(request("INVITE"))
        self.bench.take()
        self.assertEqual(self.seen(64), [(64.0, "480 INVITE")])
        [cancel] = self.app.take()
        self.assertIn("|sip|network|0|udp|", cancel)
        self.assertIn(f"|{invite}||\r\nCANCEL sip:app@127.0.0.1:32060 SIP/2.0\r\n", cancel)
        self.assertIn('Reason: SIP;cause=480;text="No answer of the application"', cancel)
        [answer] = self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertIn("|NOK|Response not sent due to unknown transaction", answer)
        self.nothing_left()

    def test_other_options(self) -> None:
        """An answered OPTIONS leaves nothing behind."""
        options = self.offered(request("OPTIONS"))
        [echo] = self.app.answer(options, "SIP/2.0 200 OK")
        self.assertIn(f"|{options}|||Msg sent:|\r\nSIP/2.0 200 OK\r\n", echo)
        self.assertEqual(self.bench.heads(), ["200 OPTIONS"])
        self.nothing_left()


class AnswerTests(ServerTestCase):
    def test_200_is_repeated(self) -> None:
        """A 200 is repeated until its ACK comes."""
        self.bench.confirm()
        _, tag = self.answered()
        times = [when for when, what in self.seen(8) if what == "200 INVITE"]
        self.assertEqual(times, [0.5, 1.5, 3.5, 7.5])
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        self.assertEqual(self.seen(24), [])
        self.assertEqual(len(self.app.take()), 1)

    def test_ack_with_the_branch_of_the_invite(self) -> None:
        """Some phones acknowledge a 200 as if it were a failure; that is an ACK like any other."""
        _, tag = self.answered()
        self.bench.receive(request("ACK", branch="INVITE-1", to_tag=tag))
        [frame] = self.app.take()
        self.assertIn("|c1;from-tag=a|\r\nACK ", frame)
        self.assertEqual(self.seen(40), [])

    def test_last_notify(self) -> None:
        """The answer to the last NOTIFY of the application ends a subscription, no other does."""
        subscribe = self.offered(request("SUBSCRIBE", extra="Event: presence"))
        self.app.answer(subscribe, "SIP/2.0 200 OK")
        self.bench.take()
        for state, left in (("active;expires=60", 1), ("terminated;reason=timeout", 0)):
            self.app.ask(
                "c1;from-tag=a",
                f"NOTIFY sip:placeholder SIP/2.0\r\nEvent: presence\r\nSubscription-State: {state}",
            )
            notify = self.bench.take()[-1]
            assert isinstance(notify, Request)
            self.assertEqual(len(self.bench.core.dialogs), 1)
            lines = [f"{name}: {notify.get(name)}" for name in ("Via", "From", "To", "Call-ID")]
            lines += [f"CSeq: {notify.get('CSeq')}", "Content-Length: 0"]
            self.bench.receive("\n".join(["SIP/2.0 200 OK", *lines]) + "\n\n")
            self.assertEqual(len(self.bench.core.dialogs), left, state)

    def test_no_ack(self) -> None:
        """Without an ACK the call is ended after 32 seconds, and the application learns it."""
        self.answered()
        sent = self.seen(33)
        self.assertEqual(next(item for item in sent if item[1] == "BYE"), (32.0, "BYE"))
        [frame] = self.app.take()
        self.assertIn("|unsolicited|c1;from-tag=a|\r\nBYE ", frame)
        self.assertIn('Reason: SIP;cause=200;text="ACK timeout"', frame)
        self.nothing_left()

    def test_failure_is_repeated(self) -> None:
        """A failure is repeated, with doubling intervals up to 4 seconds, until 32 seconds."""
        self.bench.confirm()
        invite = self.offered(request("INVITE"))
        self.app.answer(invite, "SIP/2.0 486 Busy Here")
        self.bench.take()
        times = [when for when, _ in self.seen(40)]
        self.assertEqual(times, [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5])
        self.nothing_left()

    def test_failure_is_acknowledged(self) -> None:
        """The ACK of a failure ends its repeats, and no application is told."""
        invite = self.offered(request("INVITE"))
        self.app.answer(invite, "SIP/2.0 486 Busy Here")
        [response] = [one for one in self.bench.take() if isinstance(one, Response)][-1:]
        self.bench.receive(request("ACK", branch="INVITE-1", to_tag=response.to.tag or ""))
        self.assertEqual((self.seen(40), self.app.take()), ([], []))
        self.nothing_left()

    def test_over_a_stream(self) -> None:
        """Over TCP nothing is repeated; the missing ACK ends the call all the same."""
        invite = self.offered(request("INVITE"), protocol="tcp")
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.bench.take()
        self.assertEqual(self.seen(33), [(32.0, "BYE")])

    def test_second_final(self) -> None:
        """A response behind the 200 is answered with the 200, and not sent."""
        invite, _ = self.answered()
        [echo] = self.app.answer(invite, "SIP/2.0 486 Busy Here")
        self.assertIn("\r\nSIP/2.0 200 OK\r\n", echo)
        self.assertEqual(self.bench.take(), [])

    def test_injected(self) -> None:
        """A header cannot be smuggled in with a lone line break."""
        invite = self.offered(request("INVITE"))
        self.app.answer(invite, "SIP/2.0 486 Busy\rX-Evil: 1\nX-Evil: 2")
        response = self.bench.take()[-1]
        self.assertFalse(response.has("X-Evil"))

    def test_bad_status(self) -> None:
        """A status that SIP does not have is refused."""
        invite = self.offered(request("INVITE"))
        for status in ("99", "abc", "70000"):
            [answer] = self.app.answer(invite, f"SIP/2.0 {status} No")
            self.assertIn("|NOK|Unknown server error sending response", answer)

    def test_unusual_status(self) -> None:
        """Any status from 100 to 699 may be sent, also one without a name."""
        for number, status in enumerate((440, 469, 555, 607, 608, 299)):
            invite = self.offered(request("INVITE", call=f"s{number}"))
            self.bench.take()
            [echo] = self.app.answer(invite, f"SIP/2.0 {status}")
            self.assertIn("|OK|", echo)
            self.assertEqual(self.bench.heads(), [f"{status} INVITE"])


class CancelTests(ServerTestCase):
    def test_before_an_answer(self) -> None:
        """A CANCEL gets its 200, the INVITE its 487, and the application the CANCEL."""
        invite = self.offered(request("INVITE"))
        self.bench.take()
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])
        [frame] = self.app.take()
        self.assertEqual(transaction(frame), invite)
        self.assertIn("\r\nCANCEL ", frame)
        [answer] = self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertIn("|NOK|Response not sent due to unknown transaction", answer)
        self.nothing_left()

    def test_while_ringing(self) -> None:
        """The 487 carries the tag of the 180."""
        invite, tag = self.ringing()
        self.bench.receive(request("CANCEL"))
        _, terminated = self.bench.take()
        assert isinstance(terminated, Response)
        self.assertEqual((terminated.status, terminated.to.tag), (487, tag))
        [frame] = self.app.take()
        self.assertIn(f"|{invite}|c1;from-tag=a|\r\nCANCEL ", frame)

    def test_with_a_tag(self) -> None:
        """A CANCEL with the tag of the 180, as SIPp sends it, is answered with that tag alone."""
        _, tag = self.ringing()
        self.bench.receive(request("CANCEL", to_tag=tag))
        for response in self.bench.take():
            assert isinstance(response, Response)
            self.assertEqual((response.get("To") or "").count(tag), 1)
            self.assertEqual((response.get("To") or "").count("tag="), 1)

    def test_too_late(self) -> None:
        """A CANCEL behind the 200 is refused with the tag of the call, which goes on."""
        _, tag = self.answered()
        self.bench.receive(request("CANCEL"))
        [refused] = self.bench.take()
        assert isinstance(refused, Response)
        self.assertEqual((refused.status, refused.to.tag, self.app.take()), (481, tag, []))
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        self.assertEqual(len(self.app.take()), 1)

    def test_of_nothing(self) -> None:
        """A CANCEL of what is not there is refused."""
        self.bench.receive(request("CANCEL"))
        self.assertEqual((self.bench.heads(), self.app.take()), (["481 CANCEL"], []))


class InDialogTests(ServerTestCase):
    def test_bye(self) -> None:
        """A BYE ends the dialog; the application's answer to it still goes out."""
        tag = self.up()
        bye = self.offered(request("BYE", number=2, to_tag=tag))
        [refused] = self.app.ask("c1;from-tag=a", "INFO sip:placeholder SIP/2.0")
        self.assertIn("unable to find dialog for dialog id provided", refused)
        self.app.answer(bye, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 BYE"])
        self.nothing_left()

    def test_unanswered_bye(self) -> None:
        """A BYE that the application does not answer is answered 500 after 32 seconds."""
        tag = self.up()
        self.offered(request("BYE", number=2, to_tag=tag))
        self.assertEqual(self.seen(33), [(32.0, "500 BYE")])
        self.nothing_left()

    def test_bye_ends_what_is_open(self) -> None:
        """What the application left unanswered is answered 500 when the call ends."""
        tag = self.up()
        info = self.offered(request("INFO", number=2, to_tag=tag))
        self.offered(request("BYE", number=3, to_tag=tag))
        self.assertEqual(self.bench.heads(), ["500 INFO"])
        [answer] = self.app.answer(info, "SIP/2.0 200 OK")
        self.assertIn("|NOK|", answer)

    def test_unknown_method(self) -> None:
        """In a dialog every method reaches the application, and needs no route."""
        tag = self.up()
        foo = self.offered(request("FOO", number=2, to_tag=tag))
        self.app.answer(foo, "SIP/2.0 501 No")
        self.assertEqual(self.bench.heads(), ["501 FOO"])

    def test_wrong_tag(self) -> None:
        """A request with another tag is not in the dialog."""
        self.up()
        self.bench.receive(request("BYE", number=2, to_tag="other"))
        self.assertEqual((self.bench.heads(), self.app.take()), (["481 BYE"], []))

    def test_application_gone(self) -> None:
        """Requests in the dialogs of an application that is gone are answered for it."""
        tag = self.up()
        self.app.close()
        self.bench.receive(request("INFO", number=2, to_tag=tag))
        self.bench.receive(request("BYE", number=3, to_tag=tag))
        self.assertEqual(self.bench.heads(), ["500 INFO", "200 BYE"])
        self.nothing_left()

    def test_another_connection(self) -> None:
        """Another connection may send in a dialog by its name."""
        self.up()
        self.app.close()
        other = self.bench.link()
        [echo] = other.ask("c1;from-tag=a", "BYE sip:placeholder SIP/2.0")
        self.assertIn("\r\nBYE sip:alice@127.0.0.1:32070 SIP/2.0\r\n", echo)
        self.assertEqual(self.bench.heads(), ["BYE"])

    def test_reinvite_without_ack(self) -> None:
        """A 200 to a re-INVITE that is never acknowledged ends the call (RFC 3261 section 14.2)."""
        tag = self.up()
        invite = self.offered(request("INVITE", number=2, to_tag=tag, body=SDP))
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.seen(33)[-2], (32.0, "BYE"))
        [frame] = self.app.take()
        self.assertIn('text="ACK timeout"', frame)
        self.nothing_left()


class ReliableTests(ServerTestCase):
    def test_prack(self) -> None:
        """A reliable response is repeated until its PRACK, which the application answers."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel"))
        self.app.answer(invite, "SIP/2.0 183 Progress\r\nRequire: 100rel")
        progress = self.bench.take()[-1]
        assert isinstance(progress, Response)
        self.assertEqual([when for when, _ in self.seen(4)], [0.5, 1.5, 3.5])
        extra = f"RAck: {progress.get('RSeq')} 1 INVITE"
        prack = self.offered(request("PRACK", number=2, to_tag=progress.to.tag or "", extra=extra))
        self.app.answer(prack, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 PRACK"])
        self.assertEqual(self.seen(40), [])

    def test_no_prack(self) -> None:
        """Without a PRACK the INVITE is refused, and the application is told of a CANCEL."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel"))
        self.app.answer(invite, "SIP/2.0 183 Progress\r\nRequire: 100rel")
        self.bench.take()
        self.assertIn((32.0, "504 INVITE"), self.seen(33))
        [frame] = self.app.take()
        self.assertIn("\r\nCANCEL ", frame)
        self.nothing_left()

    def test_unsupported(self) -> None:
        """A caller that knows no reliable responses gets none, and the application learns it."""
        invite = self.offered(request("INVITE"))
        [answer] = self.app.answer(invite, "SIP/2.0 183 Progress\r\nRequire: 100rel")
        self.assertIn("|NOK|Remote endpoint does not support 100rel", answer)
        self.assertEqual(self.bench.heads(), ["100 INVITE"])

    def test_200_waits(self) -> None:
        """A 200 that is given before the PRACK goes out behind it, unharmed."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel"))
        self.app.answer(invite, "SIP/2.0 183 Progress\r\nRequire: 100rel")
        progress = self.bench.take()[-1]
        assert isinstance(progress, Response)
        self.app.answer(invite, "SIP/2.0 200 Fine")
        self.assertEqual(self.bench.take(), [])
        extra = f"RAck: {progress.get('RSeq')} 1 INVITE"
        self.bench.receive(request("PRACK", number=2, to_tag=progress.to.tag or "", extra=extra))
        [answer] = self.bench.take()
        assert isinstance(answer, Response)
        self.assertEqual((answer.status, answer.reason), (200, "Fine"))

    def accepted(self, extra: str = "") -> Response:
        """Let the application accept a call while a PRACK is missing; give the 183."""
        extra = f"Supported: 100rel\n{extra}"
        invite = self.offered(request("INVITE", extra=extra, body=SDP))
        self.app.answer(invite, "SIP/2.0 183 Progress\r\nRequire: 100rel")
        progress = self.bench.take()[-1]
        assert isinstance(progress, Response)
        type_ = "Content-Type: application/sdp"
        [echo] = self.app.answer(invite, f"SIP/2.0 200 OK\r\n{type_}\r\n\r\nv=0 ours")
        self.assertIn("|OK|application|", echo)
        return progress

    def test_session_of_a_200_that_waited(self) -> None:
        """What the 200 agrees on holds when it is sent: the session timer, the description."""
        progress = self.accepted("Session-Expires: 90;refresher=uas")
        tag = progress.to.tag or ""
        extra = f"RAck: {progress.get('RSeq')} 1 INVITE"
        self.bench.receive(request("PRACK", number=2, to_tag=tag, extra=extra))
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        self.bench.take()
        self.assertEqual({what for _, what in self.seen(51)}, {"INVITE"})
        [dialog] = self.bench.core.dialogs.of_link(self.app.protocol)
        self.assertEqual(dialog.sdp, b"v=0 ours\r\n\r\n")

    def ended(self, reason: str) -> None:
        """See that the application, which takes the call for accepted, is told of its end."""
        [frame] = self.app.take()
        self.assertIn("|unsolicited|c1;from-tag=a|\r\nBYE sip:alice@127.0.0.1:32070 ", frame)
        self.assertIn(f'text="{reason}"', frame)
        self.nothing_left()

    def test_accepted_without_prack(self) -> None:
        """When the PRACK never comes, the call that was accepted is over."""
        self.accepted()
        self.assertIn((32.0, "504 INVITE"), self.seen(33))
        self.ended("PRACK timeout")

    def test_accepted_and_cancelled(self) -> None:
        """So it is when the caller gives up before the 200 could be sent."""
        self.accepted()
        self.bench.receive(request("CANCEL", branch="INVITE-1"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])
        self.bench.receive(request("ACK", branch="INVITE-1"))
        self.ended("cancelled before the PRACK came")


class OutboundTests(SynchronousTestCase):
    def setUp(self) -> None:
        """A server that connects to an application for each INVITE."""
        from drachtwist.server.config import RequestHandler

        handler = RequestHandler("tcp://127.0.0.1:3001", method="INVITE")
        self.bench = Bench(request_handlers=(handler,))

    def test_delivered(self) -> None:
        """The request follows the authentication, on the same connection."""
        self.bench.receive(request("INVITE"))
        link = self.bench.dial()
        self.assertEqual(link.take(), [])
        answer, delivery = link.command("authenticate|cymru|")
        self.assertIn("|OK|", answer)
        self.assertIn("\r\nINVITE ", delivery)
        self.assertEqual(len(link.command("authenticate|cymru|")), 1)

    def test_refused_port(self) -> None:
        """Where nobody listens the caller gets 480."""
        self.bench.receive(request("INVITE"))
        _, incoming = self.bench.wanted.pop()
        self.bench.core.unreachable(incoming)
        self.assertEqual(self.bench.heads(), ["100 INVITE", "480 INVITE"])

    def test_other_method(self) -> None:
        """A method without a handler is shared among the applications that routed it."""
        app = self.bench.link("options")
        self.bench.receive(request("OPTIONS"))
        self.assertEqual((len(app.take()), self.bench.wanted), (1, []))

    def test_cancelled_meanwhile(self) -> None:
        """A call that was cancelled before the application came is handed over with its CANCEL."""
        self.bench.receive(request("INVITE"))
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.bench.heads(), ["100 INVITE", "200 CANCEL", "487 INVITE"])
        link = self.bench.dial()
        _, invite, cancel = link.command("authenticate|cymru|")
        self.assertIn("\r\nINVITE ", invite)
        self.assertIn("\r\nCANCEL ", cancel)
        self.assertEqual(transaction(invite), transaction(cancel))


class CrasherTests(SynchronousTestCase):
    def test_commands(self) -> None:
        """What ends the real server, or its connection, is refused here, and others go on."""
        bench = Bench()
        other = bench.link("options")
        commands = (
            "sip||\r\nOPTIONS tel:+15551212 SIP/2.0\r\n\r\n",
            "sip|||sip:127.0.0.1:32078\r\nOPTIONS tel:+15551212 SIP/2.0\r\n\r\n",
            "sip|no-such-id|\r\nBYE sip:bob@127.0.0.1 SIP/2.0\r\n\r\n",
            "sip",
            "sip|",
            "route",
            "authenticate",
            "proxy|a",
            "proxy|a|b",
            "",
            "foo",
            "sip||\r\nSIP/2.0 200 OK\r\n\r\n",
            "sip||\r\n\r\n\r\n",
            "sip|x|y|z|\r\nINVITE",
        )
        for at, command in enumerate(commands):
            link = bench.link()
            answers = link.command(command)
            if link.transport.disconnecting:
                self.assertIn("|NO|", answers[-1], command)
            else:
                self.assertEqual(len(link.command("ping")), 1, command)
                self.assertEqual(len(answers), 1, command)
            bench.receive(request("OPTIONS", call=f"c{at}"))
            self.assertEqual(len(other.take()), 1)
        # The one that is no mistake: a number, and the way to somebody who knows it.
        [sent] = [one for one in bench.take() if isinstance(one, Request)]
        self.assertEqual(sent.uri, "tel:+15551212")
