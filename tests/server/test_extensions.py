"""Extensions and schemes that nobody knows (RFC 3261 sections 8.2.2.1 and 8.2.2.3)."""

from __future__ import annotations

from drachtwist.hosting.server_tap import Options
from drachtwist.sip.message import Response
from tests.server.doubles import Bench, request
from tests.server.test_uas import ServerTestCase


class RequireTests(ServerTestCase):
    def refusal(self) -> tuple[int, str | None]:
        """Give the status and Unsupported of what was answered."""
        answers = [one for one in self.bench.take() if isinstance(one, Response)]
        [final] = [one for one in answers if one.status >= 200]
        return final.status, final.get("Unsupported")

    def test_unknown(self) -> None:
        """What nobody can know is refused; only the unknown ones are named, in their spelling."""
        for method in ("INVITE", "OPTIONS"):
            extra = "Require: 100rel, Fancy\nrequire: x-y"
            self.bench.receive(request(method, call=method, extra=extra))
            self.assertEqual(self.refusal(), (420, "Fancy, x-y"))
            self.assertEqual(self.app.take(), [])

    def test_spelling(self) -> None:
        """The name of the header may be spelt in any way."""
        self.bench.receive(request("OPTIONS", extra="rEQUIRE : fancy"))
        self.assertEqual(self.refusal(), (420, "fancy"))

    def test_registered(self) -> None:
        """What is registered may be known to the application."""
        tags = "100rel, Timer, replaces, path, outbound, gruu, tdialog, siprec"
        self.offered(request("INVITE", extra=f"Require: {tags}"))

    def test_nothing_required(self) -> None:
        """What the caller only supports, and the business of proxies, is not looked at."""
        self.offered(request("OPTIONS", extra="Supported: fancy\nProxy-Require: fancy"))

    def test_in_dialog(self) -> None:
        """The same goes for requests in a dialog, which goes on; not for CANCEL and ACK."""
        _, tag = self.answered()
        extra = "Require: fancy"
        self.bench.receive(request("ACK", branch="ack", to_tag=tag, extra=extra))
        self.assertEqual(len(self.app.take()), 1)
        for number, method in ((2, "INVITE"), (3, "INFO")):
            self.bench.receive(request(method, number=number, to_tag=tag, extra=extra))
            self.assertEqual(self.refusal(), (420, "fancy"))
        self.offered(request("INFO", number=4, to_tag=tag))

    def test_early(self) -> None:
        """And while a call rings."""
        _, tag = self.ringing()
        extra = "Require: fancy"
        self.bench.receive(request("UPDATE", number=2, to_tag=tag, extra=extra))
        self.assertEqual(self.refusal(), (420, "fancy"))
        self.bench.receive(request("CANCEL", extra=extra))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])

    def test_settings(self) -> None:
        """The settings may name more, or let everything through as the real server does."""
        for given, passes in (
            (["Fancy"], True),
            (["*"], True),
            (["other"], False),
            ([], False),
        ):
            bench = Bench(extensions=given)
            app = bench.link("options")
            bench.receive(request("OPTIONS", extra="Require: fancy"))
            self.assertEqual(len(app.take()), int(passes), given)

    def test_flag(self) -> None:
        """They are given by a flag."""
        options = Options()
        options.default_file = None
        options.parseOptions(["--extension", "Fancy", "--extension", "*"])
        self.assertEqual(options["config"].extensions, {"fancy", "*"})


class SchemeTests(ServerTestCase):
    def ask(self, uri: str, method: str = "OPTIONS") -> None:
        """Let a request for a URI come."""
        text = request(method, call=f"{method} {uri}".replace(" ", "-"))
        self.bench.receive(text.replace("sip:app@127.0.0.1:32060 SIP", f"{uri} SIP", 1))

    def test_unknown(self) -> None:
        """A scheme that SIP does not use is refused with 416."""
        for uri in ("nobodyKnows:this", "http://example.com", "isbn:2983792873", "sipx:a@b"):
            for method in ("INVITE", "OPTIONS"):
                self.ask(uri, method)
                self.assertEqual(self.bench.heads(), [f"416 {method}"], uri)
        self.assertEqual(self.app.take(), [])

    def test_known(self) -> None:
        """The others are for applications, in any case of letters."""
        for uri in ("sip:a@b", "SIP:a@b", "sips:a@b", "tel:+15551212", "urn:service:sos", "im:a@b"):
            self.ask(uri)
            self.assertEqual(len(self.app.take()), 1, uri)

    def test_method_first(self) -> None:
        """An unknown method counts for more (RFC 3261 section 8.2)."""
        self.ask("isbn:2983792873", "FOO")
        self.assertEqual(self.bench.heads(), ["501 FOO"])
