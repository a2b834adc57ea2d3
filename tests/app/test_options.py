"""Options of calls of a wrong kind: what is told, and that nothing is sent."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import LocalProtocolError, Request, Response, Srf, hunt, simring
from tests.server.doubles import request
from tests.whole import Whole

TARGET = "sip:bob@127.0.0.1:32072"
# What each option must not be, though Python would take it for a while.
CALLING: dict[str, list[Any]] = {
    "auth": [{"username": "bob", "password": "hush"}, "bob:hush", ["bob", "hush"], ("bob",), 7],
    "timeout": ["10", True, -1],
    "calling_number": [15551234, b"1"],
    "calling_name": [7],
    "called_number": [7],
    "proxy": [None, 5060],
    "headers": ["Subject: x", 7, {"Subject": None}, {"Subject": b"x"}, {7: "x"}],
    "follow_redirects": ["no", 1],
    "keep_uri_on_redirect": ["no"],
    "on_request": ["print"],
}
UAC: dict[str, list[Any]] = {
    **CALLING,
    "method": [None, 7],
    "local_sdp": [7, {"sdp": "v=0"}, ["v=0"]],
    "no_ack": ["yes"],
    "on_provisional": [True],
    "on_update": [7],
}
BRIDGE: dict[str, list[Any]] = {
    **CALLING,
    "local_sdp_a": [7, {}],
    "local_sdp_b": [7, {}],
    "response_headers": ["Subject: x", 7],
    "proxy_request_headers": ["all", 7, [7]],
    "proxy_response_headers": ["all"],
    "pass_failure": ["no"],
    "pass_provisional_responses": [0],
}
SEVERAL = {**BRIDGE}
REQUEST: dict[str, list[Any]] = {
    **{name: CALLING[name] for name in ("auth", "proxy", "headers", "on_request")},
    "body": [None, 7, ["a"]],
    "on_provisional": [True],
}
PROXY: dict[str, list[Any]] = {
    "destinations": [7, [7], {"uri": TARGET}],
    "forking": [True],
    "record_route": ["yes"],
    "follow_redirects": ["yes"],
    "full_response": ["no"],
    "provisional_timeout": [[], -1, True],
    "final_timeout": ["soon"],
    "headers": CALLING["headers"],
}
UAS: dict[str, list[Any]] = {"local_sdp": UAC["local_sdp"], "headers": CALLING["headers"]}


class OptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application, and let somebody call it."""
        self.whole = Whole()
        self.srf: Srf = self.whole.srf
        self.asked: list[tuple[Request, Response]] = []
        self.srf.invite(lambda req, res: self.asked.append((req, res)))
        self.whole.pump()
        self.whole.receive(request("INVITE", body="v=0\r\n"))
        [(self.req, self.res)] = self.asked
        self.whole.sent()

    def check(self, call: Any, options: dict[str, list[Any]]) -> None:
        """See that each value is refused at once, with its name, but without what was given."""
        for name, values in options.items():
            for value in values:
                error = self.assertRaises(LocalProtocolError, call, **{name: value})
                # What is wrong in headers, and with times, is told without the option's name.
                about = {"headers": "header", "final_timeout": "time"}.get(name, name)
                self.assertIn(about, str(error), (name, value))
                self.assertNotIn("hush", str(error))
        self.assertEqual((self.res.finished, self.whole.sent()), (False, []))

    def test_create_uac(self) -> None:
        """Calls that are placed."""
        self.check(lambda **options: self.srf.create_uac(TARGET, **options), UAC)
        for uri in (None, 7, [TARGET]):
            wrong: Any = uri
            error = self.assertRaises(LocalProtocolError, self.srf.create_uac, wrong)
            self.assertIn("uri takes a SIP URI", str(error))

    def test_create_uas(self) -> None:
        """Calls that are answered."""
        self.check(lambda **options: self.srf.create_uas(self.req, self.res, **options), UAS)

    def test_create_b2bua(self) -> None:
        """Callers who are connected."""
        more = {**BRIDGE, "on_provisional": [True], "on_uac": [7]}
        self.check(
            lambda **options: self.srf.create_b2bua(self.req, self.res, TARGET, **options), more
        )

    def test_several(self) -> None:
        """Callers who are connected with one of several."""
        for several in (simring, hunt):

            def call(several: Any = several, **options: Any) -> Any:
                return several(self.srf, self.req, self.res, [TARGET], **options)

            self.check(call, SEVERAL)
            for uris in (TARGET, [7], [[TARGET]]):
                wrong: Any = uris
                with self.assertRaisesRegex(LocalProtocolError, "uris takes a list"):
                    several(self.srf, self.req, self.res, wrong)
            unknown: Any = {"ringtone": 1}
            with self.assertRaisesRegex(TypeError, "ringtone is no option"):
                several(self.srf, self.req, self.res, [TARGET], **unknown)

    def test_request(self) -> None:
        """Requests outside of dialogs."""
        self.check(
            lambda **options: self.srf.request(TARGET, **{"method": "OPTIONS", **options}),
            {**REQUEST, "method": [None, 7]},
        )

    def test_proxy_request(self) -> None:
        """Requests that are forwarded."""
        self.check(lambda **options: self.srf.proxy_request(self.req, **options), PROXY)

    def test_what_it_takes(self) -> None:
        """The text names the option, what it takes, and the kind that it was given."""
        wrong: Any = {"username": "bob", "password": "hush"}
        error = self.assertRaises(LocalProtocolError, self.srf.create_uac, TARGET, auth=wrong)
        self.assertEqual(
            str(error),
            "auth takes a tuple of user name and password, or a function of realm, request and"
            " challenge, not dict",
        )

    def test_right_ones(self) -> None:
        """What fits is taken, in any of its forms."""
        for options in (
            {"auth": ("bob", "hush"), "timeout": 1.5, "headers": [("Subject", "x"), ("X", 1)]},
            {"headers": {"X-List": ["a", "b"]}, "local_sdp": lambda: "v=0\r\n"},
            {"calling_number": "1", "proxy": "sip:127.0.0.1:32072", "no_ack": True},
        ):
            given: Any = options
            self.srf.create_uac(TARGET, **given).addErrback(lambda _: None).cancel()
