"""What somebody who forges the source of his datagrams makes the server send (RFC 3261 26.1.5)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.config import ServerConfig
from drachtwist.server.limits import ServerLimits
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from tests.server.doubles import HOST, PORT, Bench, head, request
from tests.server.test_uac import reply
from tests.server.test_uas import transaction

VICTIM, THIRD = "11.0.0.66", "11.0.0.77"
CALLEE = "11.0.0.88"
LONG = 200.0
"""Seconds after which nothing more comes of a request."""
BUSY = f"SIP/2.0 486 Busy Here\r\nX-Long: {'x' * 8000}"
REPEATS = 3
"""How many repeats an unconfirmed address gets by default."""
SHORTEST = (
    "INVITE sip:app@11.0.0.1 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 11.0.0.66;branch=z9hG4bK{call};rport\r\n"
    "From: <sip:a@11.0.0.66>;tag=a\r\n"
    "To: <sip:app@11.0.0.1>\r\n"
    "Call-ID: {call}\r\n"
    "CSeq: 1 INVITE\r\n"
    "Contact: <sip:a@11.0.0.66>\r\n"
    "Max-Forwards: 70\r\n"
    "Content-Length: 0\r\n\r\n"
)


class AmplificationCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application."""
        self.start()

    def start(self, **settings: Any) -> None:
        """Start a server, with some settings."""
        self.bench = Bench(**settings)
        self.app = self.bench.link("invite", "options", "message", "subscribe", "register")

    def comes(self, text: str | bytes, host: str = VICTIM, protocol: str = "udp") -> str:
        """Let a request come; give its transaction id, empty when no application has it."""
        if isinstance(text, str):
            text = text.replace(f"{HOST}:32070", f"{host}:5060")
        self.bench.receive(text, port=5060, host=host, protocol=protocol)
        frames = self.app.take()
        return transaction(frames[-1]) if frames else ""

    def sent(self, seconds: float = LONG, host: str = VICTIM) -> list[bytes]:
        """Let time pass; give what was sent to an address since."""
        for _ in range(int(2 * seconds)):
            self.bench.clock.advance(0.5)
        sent, self.bench.wire.sent = self.bench.wire.sent, []
        return [data for flow, data in sent if flow.remote_host == host]

    def heads(self, seconds: float = LONG, host: str = VICTIM) -> list[str]:
        """Let time pass; say what was sent to an address since."""
        return [head(parse_message(data)) for data in self.sent(seconds, host)]

    def response(self) -> Response:
        """Give the last response that was sent."""
        found = [parse_message(data) for _, data in self.bench.wire.sent]
        [*_, last] = [one for one in found if isinstance(one, Response)]
        return last

    def asked(self, method: str = "INVITE", call: str = "c1", **options: Any) -> str:
        """Let a request of the forger come; give its transaction id."""
        return self.comes(request(method, call=call, **options))

    def confirm(self, host: str = VICTIM) -> None:
        """Let a call of an address come, be refused, and be acknowledged."""
        invite = self.comes(request("INVITE", call="real"), host)
        self.app.answer(invite, BUSY)
        tag = self.response().to.tag or ""
        self.comes(request("ACK", call="real", branch="INVITE-1", to_tag=tag), host)
        self.bench.take()


class UnconfirmedTests(AmplificationCase):
    def test_answered(self) -> None:
        """The answer to a forged INVITE is repeated three times, and one BYE ends the call."""
        text = SHORTEST.format(call="0123456789").encode()
        invite = self.comes(text)
        self.app.answer(invite, "SIP/2.0 200 OK")
        sent = self.sent()
        heads = [head(parse_message(data)) for data in sent]
        self.assertEqual(heads, ["100 INVITE", *["200 INVITE"] * (1 + REPEATS), "BYE"])
        self.assertLess(len(b"".join(sent)), 6.5 * len(text))

    def test_refused(self) -> None:
        """So is a refusal."""
        self.app.answer(self.asked(), BUSY)
        self.assertEqual(self.heads(), ["100 INVITE", *["486 INVITE"] * (1 + REPEATS)])

    def test_refused_by_the_server(self) -> None:
        """So is a refusal of the server itself."""
        for number, text in enumerate(
            (
                request("INVITE", call="t", to_tag="made-up"),
                request("INVITE", call="r", extra="Require: nonsense"),
            )
        ):
            self.start()
            self.comes(text)
            finals = [one for one in self.heads() if one != "100 INVITE"]
            self.assertEqual(len(finals), 1 + REPEATS, number)

    def test_reliable(self) -> None:
        """So is a reliable provisional response, with the refusal at the end."""
        invite = self.asked(extra="Supported: 100rel")
        self.app.answer(invite, "SIP/2.0 183 Progress\r\nRequire: 100rel")
        heads = self.heads()
        self.assertEqual(heads[:2], ["100 INVITE", "183 INVITE"])
        self.assertEqual(heads.count("183 INVITE"), 1 + REPEATS)
        self.assertEqual(heads.count("504 INVITE"), 1)

    def test_share(self) -> None:
        """Whoever sent much gets more: three times as much as came."""
        invite = self.asked(body="x" * 4000)
        self.app.answer(invite, "SIP/2.0 200 OK")
        sent = self.sent()
        heads = [head(parse_message(data)) for data in sent]
        self.assertEqual(heads.count("200 INVITE"), 11)
        self.assertLess(len(b"".join(sent)), 12_000 + 3000)

    def test_all_together(self) -> None:
        """Many small requests in one name get no more repeats than one."""
        for number in range(20):
            invite = self.comes(SHORTEST.format(call=f"call{number}").encode())
            self.app.answer(invite, "SIP/2.0 200 OK\r\nX-Long: " + "x" * 600)
        heads = self.heads()
        self.assertEqual(heads.count("200 INVITE"), 20 + REPEATS)
        self.assertEqual(heads.count("BYE"), 20)

    def elsewhere(self, method: str, extra: str = "") -> str:
        """Write a request whose dialog is led to somebody else."""
        return request(method, extra=f"Record-Route: <sip:{THIRD};lr>\n{extra}")

    def test_told_to_come_elsewhere(self) -> None:
        """Who is named in a Record-Route gets the BYE of a call, with so many repeats."""
        self.app.answer(self.comes(self.elsewhere("INVITE")), "SIP/2.0 200 OK")
        self.assertEqual(self.heads(host=THIRD), ["BYE"] * (1 + REPEATS))

    def test_contact(self) -> None:
        """So does who is named in a Contact that is believed."""
        self.start(nat_detection="off")
        text = request("INVITE")
        text = text.replace(f"Contact: <sip:alice@{HOST}:32070>", f"Contact: <sip:{THIRD}>")
        self.app.answer(self.comes(text), "SIP/2.0 200 OK")
        self.assertEqual(self.heads(host=THIRD), ["BYE"] * (1 + REPEATS))

    def test_subscribed(self) -> None:
        """A forged SUBSCRIBE gets few NOTIFYs, where it comes from and where it points to."""
        for host in (VICTIM, THIRD):
            self.start()
            text = request("SUBSCRIBE", extra="Event: presence")
            if host == THIRD:
                text = self.elsewhere("SUBSCRIBE", extra="Event: presence")
            subscribe = self.comes(text)
            self.app.answer(subscribe, "SIP/2.0 202 Accepted\r\nExpires: 600")
            notify = "NOTIFY sip:x SIP/2.0\r\nEvent: presence\r\nSubscription-State: active"
            self.app.ask("c1;from-tag=a", f"{notify}\r\nX-Long: {'x' * 600}")
            self.assertEqual(self.heads(host=host).count("NOTIFY"), 1 + REPEATS)

    def test_proxied(self) -> None:
        """What is forwarded for a forger is repeated as little, with the CANCEL for it."""
        for method in ("INVITE", "MESSAGE"):
            self.start()
            name = self.asked(method)
            self.app.command(f"proxy|{name}||fullResponse||serial||20|sip:bob@{THIRD}\r\n")
            heads = self.heads(host=THIRD)
            self.assertEqual(heads.count(method), 1 + REPEATS, heads)

    def test_proxied_answer(self) -> None:
        """A callee who repeats his answer to a forged INVITE is heard by the victim a few times."""
        name = self.asked()
        words = f"{name}|remainInDialog|fullResponse||serial||"
        self.app.command(f"proxy|{words}|sip:bob@{CALLEE}\r\n")
        invite = self.bench.take()[-1]
        assert isinstance(invite, Request)
        for _ in range(11):
            self.bench.receive(reply(invite, 200), port=5060, host=CALLEE)
            self.bench.clock.advance(2)
        self.assertEqual(self.heads().count("200 INVITE"), 1 + REPEATS)

    def test_told(self) -> None:
        """It is noted how many repeats were held back, and the log has a line a minute."""
        self.app.answer(self.asked(), BUSY)
        self.sent()
        self.assertEqual(self.bench.core.alerts.counts["unconfirmed_repeats"], 10 - REPEATS)

    def test_setting(self) -> None:
        """How many repeats there are is a setting; none is one of them."""
        for most in (0, 1, 1000):
            self.start(limits=ServerLimits(unconfirmed_repeats=most))
            self.app.answer(self.asked(), BUSY)
            self.assertEqual(self.heads().count("486 INVITE"), 1 + min(most, 10))

    def test_default(self) -> None:
        """It is kept unless something else is said."""
        self.assertEqual(ServerConfig().limits.unconfirmed_repeats, REPEATS)

    def test_memory(self) -> None:
        """However many addresses are forged, only so many are remembered."""
        addresses: Any = self.bench.core.amplification
        raw = SHORTEST.format(call="c").encode()
        message = parse_message(raw)
        most = 0
        for number in range(60_000):
            flow = self.bench.wire.flow(
                f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5060
            )
            addresses.received(message, flow, len(raw))
            most = max(most, len(addresses))
        self.assertLessEqual(most, 20_000)
        for number in range(300_000):
            addresses.confirm(
                self.bench.wire.flow(f"10.{number >> 16}.{number >> 8 & 255}.1", number & 255)
            )
        self.assertLessEqual(len(addresses), 120_000)

    def test_forgotten(self) -> None:
        """An address that was silent for minutes gets repeats once more."""
        for _ in range(2):
            self.app.answer(self.asked(), BUSY)
            self.assertEqual(self.heads(400).count("486 INVITE"), 1 + REPEATS)


class ConfirmedTests(AmplificationCase):
    """Whoever receives us gets everything as often as RFC 3261 says."""

    def assert_confirmed(self, confirmed: bool = True, host: str = VICTIM) -> None:
        """See how often a refusal is repeated."""
        self.bench.take()
        self.app.answer(self.comes(request("INVITE", call="probe"), host), BUSY)
        times = self.heads(host=host).count("486 INVITE")
        self.assertEqual(times, 11 if confirmed else 1 + REPEATS)

    def test_by_the_ack_of_a_refusal(self) -> None:
        """The ACK of a refusal has the tag of that."""
        self.confirm()
        self.assert_confirmed()

    def test_by_the_ack_of_an_answer(self) -> None:
        """So has the ACK of a 2xx."""
        self.app.answer(self.asked(), "SIP/2.0 200 OK")
        self.asked("ACK", to_tag=self.response().to.tag or "")
        self.assert_confirmed()

    def test_by_a_prack(self) -> None:
        """So has a PRACK: the answer behind it is repeated as often as it takes."""
        invite = self.asked(extra="Supported: 100rel")
        self.app.answer(invite, "SIP/2.0 183 Progress\r\nRequire: 100rel")
        progress = self.response()
        rack = f"RAck: {progress.get('RSeq')} 1 INVITE"
        self.asked("PRACK", number=2, to_tag=progress.to.tag or "", extra=rack)
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.heads().count("200 INVITE"), 11)

    def test_by_a_nonce(self) -> None:
        """Credentials have the nonce of a challenge, of any of several."""
        for method, status in (("REGISTER", 401), ("INVITE", 407), ("MESSAGE", 401)):
            for wanted in ("q1w2", "e3r4"):
                self.start()
                name = "WWW" if status == 401 else "Proxy"
                lines = "".join(
                    f'\r\n{name}-Authenticate: Digest realm="r", nonce="{one}"'
                    for one in ("q1w2", "e3r4")
                )
                self.app.answer(self.asked(method), f"SIP/2.0 {status} Who{lines}")
                other = "Authorization" if status == 401 else "Proxy-Authorization"
                extra = f'{other}: Digest username="a", realm="r", nonce="{wanted}", response="0"'
                self.asked(method, number=2, extra=extra)
                self.assert_confirmed()

    def test_by_a_response(self) -> None:
        """Whoever answers a request of ours has received it."""
        lines = "From: <sip:a@x>;tag=t\r\nTo: <sip:b@x>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS"
        self.app.command(f"sip||\r\nOPTIONS sip:b@{VICTIM} SIP/2.0\r\n{lines}\r\n\r\n")
        [options] = self.bench.take()
        assert isinstance(options, Request)
        self.bench.receive(reply(options, 200), port=5060, host=VICTIM)
        self.assert_confirmed()

    def test_by_the_ack_of_a_proxied_call(self) -> None:
        """The tag of a callee reaches the caller through us."""
        name = self.asked()
        words = f"{name}|remainInDialog|fullResponse||serial||"
        self.app.command(f"proxy|{words}|sip:bob@{CALLEE}\r\n")
        invite = self.bench.take()[-1]
        assert isinstance(invite, Request)
        self.bench.receive(reply(invite, 200), port=5060, host=CALLEE)
        self.app.take()
        extra = f"Route: <sip:{HOST}:{PORT};lr>"
        self.asked("ACK", to_tag=self.response().to.tag or "", extra=extra)
        self.assert_confirmed()
        self.assert_confirmed(host=CALLEE)

    def test_streams(self) -> None:
        """Whoever has a connection receives us anyway; another port of his may not."""
        invite = self.comes(request("INVITE"), protocol="tcp")
        self.app.answer(invite, BUSY)
        self.sent()
        self.assert_confirmed(False)

    def test_calls_of_applications(self) -> None:
        """Where an application calls to is its decision: everybody is called as often."""
        lines = "From: <sip:a@x>;tag=t\r\nTo: <sip:b@x>\r\nCall-ID: o\r\nCSeq: 1 INVITE"
        lines += "\r\nContact: <sip:localhost>"
        self.app.command(f"sip||\r\nINVITE sip:b@{VICTIM} SIP/2.0\r\n{lines}\r\n\r\n")
        self.assertEqual(self.heads(), ["INVITE"] * 6)

    def test_asked_again(self) -> None:
        """A request that comes again is answered again, always, and that counts for nothing."""
        self.start(limits=ServerLimits(unconfirmed_repeats=0))
        for method, status in (("INVITE", 486), ("MESSAGE", 200)):
            self.app.answer(self.asked(method, call=method), f"SIP/2.0 {status} X")
            self.bench.take()
            for _ in range(10):
                self.asked(method, call=method)
                self.assertEqual(self.heads(0), [f"{status} {method}"])

    def test_not_by_a_guess(self) -> None:
        """A tag or a nonce that was made up shows nothing, also not when it is repeated to him."""
        for method in ("BYE", "ACK", "INFO", "INVITE"):
            for _ in range(3):
                self.asked(method, to_tag="guess")
        challenge = 'SIP/2.0 401 Who\r\nWWW-Authenticate: Digest realm="r", nonce="real"'
        extra = 'Subject: nonce="fake"\nAuthorization: Digest nonce="fake"'
        self.app.answer(self.asked("MESSAGE", call="m", extra=extra), challenge)
        self.asked("MESSAGE", call="m", number=2, extra=extra)
        self.sent(0)
        self.bench.clock.advance(300)
        self.assert_confirmed(False)

    def test_not_by_somebody_else(self) -> None:
        """What was sent to one address shows nothing about another one."""
        text = request("INVITE", call="own")
        self.app.answer(self.comes(text, THIRD), BUSY)
        tag = self.response().to.tag or ""
        self.asked("ACK", call="own", branch="INVITE-1", to_tag=tag)
        self.app.answer(
            self.comes(request("MESSAGE", call="n"), THIRD),
            'SIP/2.0 401 Who\r\nWWW-Authenticate: Digest realm="r", nonce="q1w2"',
        )
        self.asked("MESSAGE", call="n2", extra='Authorization: Digest realm="r", nonce="q1w2"')
        lines = "From: <sip:a@x>;tag=t\r\nTo: <sip:b@x>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS"
        self.app.command(f"sip||\r\nOPTIONS sip:b@{THIRD} SIP/2.0\r\n{lines}\r\n\r\n")
        options = self.bench.take()[-1]
        assert isinstance(options, Request)
        self.bench.receive(reply(options, 200), port=5060, host=VICTIM)
        self.assert_confirmed(False)

    def test_first_call_over_a_bad_line(self) -> None:
        """A phone that nobody knows yet loses three answers, and has its call all the same."""
        self.app.answer(self.asked(), "SIP/2.0 200 OK")
        self.assertEqual(self.heads(4).count("200 INVITE"), 4)
        # It had the last of them.
        self.asked("ACK", to_tag="", call="c1")
        dialog = self.bench.core.dialogs.uas("c1;from-tag=a")
        assert dialog is not None
        self.asked("ACK", to_tag=dialog.local_tag)
        self.assertEqual(self.heads(), [])
