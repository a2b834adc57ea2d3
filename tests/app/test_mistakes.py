"""What is said to who makes one of the usual mistakes: what was given, and what is wanted.

The texts are what somebody reads on his first day, so they are here word by word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import succeed

from drachtwist import (
    LocalProtocolError,
    Srf,
    couple,
    forward_in_dialog,
    hunt,
    simring,
    transfer,
)
from drachtwist.middleware import DigestAuth, Registrar
from tests.app.calling import ANSWER, OFFER, A, CallTestCase
from tests.server.doubles import request
from tests.whole import TARGET

URI = "uri takes a SIP URI as text, or somebody who registered (a Binding)"
RIGHT = (
    "(to connect to a server: tcp:HOST:9022 or tls:HOST:9023; to listen for servers: tcp:9022 or"
    " tls:9023:privateKey=KEY.pem:certKey=CERT.pem)"
)
REQ = "the request and the response that the handler got, in this order"


class MistakeTestCase(CallTestCase):
    def says(self, text: str, wrong: Callable[..., Any], *args: Any, **options: Any) -> Exception:
        """See that a call fails with a text, before anything is sent."""
        found: Exception | None = None
        try:
            wrong(*args, **options)
        except Exception as error:
            found = error
        assert found is not None, f"nothing is said: {text}"
        self.assertEqual(str(found), text)
        self.assertEqual(self.whole.heads(), [])
        return found

    def slips(self, text: str, wrong: Callable[..., Any], *args: Any, **options: Any) -> None:
        """See that it is a LocalProtocolError."""
        error = self.says(text, wrong, *args, **options)
        self.assertIsInstance(error, LocalProtocolError)

    def fresh(self, number: int = 1) -> tuple[Any, Any]:
        """Let a call come."""
        self.whole.receive(request("INVITE", call=f"c{number}", body=OFFER), A)
        self.whole.sent()
        return self.kept[-1]


class AwaitTests(MistakeTestCase):
    """A result is used before it is there."""

    def missing(self, kind: str, name: str) -> str:
        return (
            f"{kind!r} object has no attribute {name!r}: it is the Deferred of a result that may"
            " come later. Is an 'await' missing in front of what gave it?"
        )

    def test_dialog(self) -> None:
        """A call that is being placed is no dialog yet, nor is one that is being accepted."""
        calling: Any = self.srf.create_uac(TARGET, local_sdp=OFFER)
        self.whole.sent()
        text = self.missing("PendingCall", "on_info")
        error = self.says(text, lambda: calling.on_info(print))
        self.assertIsInstance(error, AttributeError)
        accepting: Any = self.srf.create_uas(*self.fresh(), local_sdp=ANSWER)
        self.whole.sent()
        self.says(self.missing("Outcome", "destroy"), lambda: accepting.destroy())

    def test_handed_on(self) -> None:
        """Nor is it one for who is handed it."""
        dialog = self.answered()
        calling: Any = self.srf.create_uac(TARGET, local_sdp=OFFER)
        self.whole.sent()
        self.says(self.missing("PendingCall", "connected"), couple, calling, dialog)
        self.says(self.missing("PendingCall", "on_request"), forward_in_dialog, calling, dialog)

    def test_response(self) -> None:
        """A request that was sent has no status yet, nor has one that is proxied a result."""
        pending: Any = self.srf.request(TARGET, method="OPTIONS")
        self.whole.sent()
        self.says(self.missing("PendingRequest", "status"), lambda: pending.status)
        proxying: Any = self.srf.proxy_request(self.fresh()[0], TARGET)
        self.whole.sent()
        self.says(self.missing("Awaited", "connected"), lambda: proxying.connected)
        self.assertFalse(hasattr(proxying, "status"))

    def test_other_attributes(self) -> None:
        """What no result has is told as usual, and nobody looks attributes up in a slower way."""
        calling: Any = self.srf.create_uac(TARGET, local_sdp=OFFER)
        self.whole.sent()
        text = "'PendingCall' object has no attribute 'is_nothing'"
        self.says(text, lambda: calling.is_nothing)
        self.assertFalse(hasattr(type(calling), "__getattr__"))

    def test_unpacked(self) -> None:
        """A pair of dialogs that is not there yet cannot be unpacked, nor gone through."""
        bridging: Any = self.srf.create_b2bua(*self.fresh(), TARGET)
        self.whole.sent()

        def unpack() -> None:
            _uas, _uac = bridging

        text = (
            "'Outcome' object is not iterable: it is the Deferred of a result that may come later."
            " Is an 'await' missing in front of what gave it?"
        )
        self.assertIsInstance(self.says(text, unpack), TypeError)
        self.says(text, list, bridging)


class StatusTests(MistakeTestCase):
    def test_kind(self) -> None:
        """A status is a number."""
        _, res = self.fresh()
        for status in ("486", None, {"status": 486}, b"486", 486.5, True):
            self.slips(f"a status is a number from 100 to 699, not {status!r}", res.send, status)
        self.slips("a status is a number from 100 to 699, not '486'", res.send, "486", "Busy Here")

    def test_range(self) -> None:
        """From 100 to 699."""
        _, res = self.fresh()
        for status in (99, 700, -1):
            self.slips(f"a status is a number from 100 to 699, not {status}", res.send, status)

    def test_options(self) -> None:
        """What would be options elsewhere is given by name."""
        _, res = self.fresh()
        text = (
            "a reason is text, not {}; headers and a body are given by name:"
            " send(status, headers=..., body=...)"
        )
        self.slips(text.format("dict"), res.send, 486, {"headers": {"X-A": "1"}})
        self.slips(text.format("int"), res.send, 200, 7)

    def test_body(self) -> None:
        """A body is text or bytes."""
        _, res = self.fresh()
        self.slips("a body is text or bytes, not dict", res.send, 200, body={"a": 1})

    def test_handler(self) -> None:
        """What is to be called later can be."""
        _, res = self.fresh()
        self.slips("on_prack takes a function, not int", res.send, 183, on_prack=7)


class HeaderTests(MistakeTestCase):
    PAIRS = "headers takes a mapping of names to values, or pairs of them, not {}"

    def test_kind(self) -> None:
        """Headers are a mapping, or pairs; a text is neither, wherever they are given."""
        dialog = self.answered()
        _, res = self.fresh(2)
        text = self.PAIRS.format("str")
        self.slips(text, res.send, 486, headers="X-A: 1")
        self.slips(text, dialog.info, headers="X-A: 1")
        self.slips(text, dialog.destroy, "Reason: x")
        self.slips(text, dialog.notify, headers="X-A: 1")
        self.slips(text, dialog.modify, OFFER, headers="X-A: 1")
        self.slips(self.PAIRS.format("int"), dialog.destroy, 7)
        self.slips(self.PAIRS.format("int"), dialog.info, headers=7)
        self.slips(self.PAIRS.format("list"), res.send, 486, headers=["X-A: 1"])
        self.assertTrue(dialog.connected)

    def test_options_among_them(self) -> None:
        """A mapping of options is none of headers."""
        dialog = self.answered()
        _, res = self.fresh(2)
        options = {"headers": {"Reason": "x"}}
        text = "the value of the header 'headers' is text or a number, not dict"
        self.slips(text, dialog.destroy, options)
        self.slips(text, res.send, 486, headers=options)
        self.slips(text, self.srf.create_uac, TARGET, headers=options)


class OptionTests(MistakeTestCase):
    """Options are given by name; those of drachtio-srf are one object."""

    def by_name(self, name: str, what: str) -> str:
        return f"{name}() takes its options by name, not as {what}"

    def test_one_object(self) -> None:
        """What is given as an object is named as it is written here."""
        srf: Any = self.srf
        req, res = self.fresh()
        offer = {"localSdp": OFFER, "callingNumber": "1"}
        call = "a dict: local_sdp=..., calling_number=..."
        only = "a dict: local_sdp=..."
        answer = {"localSdp": ANSWER}
        for wrong, args, text in (
            (srf.create_uac, (TARGET, offer), self.by_name("create_uac", call)),
            (srf.create_uas, (req, res, answer), self.by_name("create_uas", only)),
            (
                srf.create_b2bua,
                (req, res, TARGET, {"localSdpB": OFFER, "passFailure": False}),
                self.by_name("create_b2bua", "a dict: local_sdp_b=..., pass_failure=..."),
            ),
            (
                srf.proxy_request,
                (req, TARGET, {"forking": "simultaneous"}),
                self.by_name("proxy_request", "a dict: forking=..."),
            ),
        ):
            self.assertIsInstance(self.says(text, wrong, *args), TypeError)

    def test_something_else(self) -> None:
        """Anything else behind what has its place is told, too."""
        srf: Any = self.srf
        self.says(self.by_name("create_uac", "str"), srf.create_uac, TARGET, OFFER)

    def test_in_place_of_the_first(self) -> None:
        """An object in the first place is not what belongs there."""
        srf: Any = self.srf
        dialog: Any = self.answered()
        req, res = self.fresh(2)
        self.slips(f"{URI}, not dict", srf.create_uac, {"uri": TARGET})
        self.slips(f"{URI}, not dict", srf.create_b2bua, req, res, {"uri": TARGET})
        text = "a method is text, such as 'INFO', not {}"
        self.slips(text.format("dict"), dialog.request, {"method": "INFO"})
        self.slips(text.format("None"), dialog.request, None)
        self.slips(text.format("None"), dialog.on_request, None, print)
        self.slips(text.format("None"), srf.on_request, None)
        self.slips(
            "no endpoint to connect to: {'host': '1.2.3.4', 'port': 9022}; host and port are given"
            " by name: host=..., port=...",
            srf.connect,
            {"host": "1.2.3.4", "port": 9022},
            secret="x",
        )
        self.slips(
            "no endpoint to listen on: {'port': 9023}; host and port are given by name: host=...,"
            " port=...",
            srf.listen,
            {"port": 9023},
            secret="x",
        )
        self.slips("tags are a list of texts, not {'tags': ['a']}", Srf, {"tags": ["a"]})

    def test_nobody(self) -> None:
        """None is nobody to call."""
        srf: Any = self.srf
        dialog = self.answered()
        req, res = self.fresh(2)
        self.slips(f"{URI}, not None", srf.create_uac, None)
        self.slips(f"{URI}, not None", srf.create_b2bua, req, res, None)
        self.slips(f"{URI}, not None", srf.request, None, method="OPTIONS")
        self.slips("no SIP URI: ''", srf.create_uac, "")
        each = "uris takes a list, each of it a SIP URI as text, or somebody who registered"
        self.slips(f"{each} (a Binding), not None among them", hunt, srf, req, res, [None])
        self.slips(f"{each} (a Binding), not None among them", simring, srf, req, res, [None])
        self.slips(
            "destinations takes a SIP URI as text, or somebody who registered (a Binding), or a"
            " list, not None among them",
            srf.proxy_request,
            req,
            [TARGET, None],
        )
        target = "the target of a transfer is a URI as text, or a dialog, not {}"
        self.slips(target.format("None"), transfer, dialog, None)
        self.slips(target.format("dict"), transfer, dialog, {"uri": TARGET})

    def test_wrong_things(self) -> None:
        """A request, a response and a dialog are taken for what they are."""
        srf: Any = self.srf
        dialog: Any = self.answered()
        req, res = self.fresh(2)
        for wrong, args in (
            (srf.create_uas, (None, None)),
            (srf.create_uas, (res, req)),
            (srf.create_b2bua, (None, None, TARGET)),
            (srf.create_b2bua, (res, req, TARGET)),
            (srf.create_uas, (dialog, res)),
        ):
            self.slips(
                f"{wrong.__name__}() takes {REQ}, not {type(args[0]).__name__}", wrong, *args
            )
        self.slips(
            "proxy_request() takes the request that the handler got, not NoneType",
            srf.proxy_request,
            None,
            TARGET,
        )
        for function in (couple, forward_in_dialog):
            self.slips(
                f"{function.__name__}() takes two dialogs, not NoneType", function, dialog, None
            )
            self.slips(
                f"{function.__name__}() takes two dialogs, not NoneType", function, None, dialog
            )
        self.slips("transfer() takes a dialog, not NoneType", transfer, None, TARGET)


class SdpTests(MistakeTestCase):
    """A session description begins with ``v=0``; what does not has to say what it is."""

    NO_SDP = (
        "no session description, which begins with v=0: 'garbage'; any other body needs a"
        " Content-Type header"
    )

    def test_calls(self) -> None:
        """Nothing is sent that nobody can read, or that a server refuses."""
        req, res = self.fresh()
        self.slips(self.NO_SDP, self.srf.create_uac, TARGET, local_sdp="garbage")
        text = self.NO_SDP.replace("'g", "b'g")
        self.slips(text, self.srf.create_uac, TARGET, local_sdp=b"garbage")
        self.slips(self.NO_SDP, self.srf.create_uas, req, res, local_sdp="garbage")
        other = {"content-type": "application/x"}
        self.srf.create_uas(req, res, local_sdp="garbage", headers=other)
        self.assertEqual(self.whole.heads(), ["200 INVITE"])
        self.srf.create_uac(TARGET, local_sdp="garbage", headers=[("c", "application/x")])
        self.assertEqual(self.whole.heads(), ["INVITE"])

    def test_made_later(self) -> None:
        """One that is made later fails the call, which can still be answered otherwise."""
        req, res = self.fresh()
        accepting = self.srf.create_uas(req, res, local_sdp=lambda: succeed("garbage"))
        failure = self.failureResultOf(accepting, LocalProtocolError)
        self.assertEqual(str(failure.value), self.NO_SDP)
        calling = self.srf.create_uac(TARGET, local_sdp=lambda: succeed("garbage"))
        failure = self.failureResultOf(calling, LocalProtocolError)
        self.assertEqual(str(failure.value), self.NO_SDP)
        self.assertEqual(self.whole.heads(), [])
        res.send(488)
        self.assertEqual(self.whole.heads(), ["488 INVITE"])

    def test_modify(self) -> None:
        """Nor is it in a re-INVITE, where there are two words besides."""
        dialog: Any = self.answered()
        text = "modify() takes a session description, 'hold' or 'unhold', not {}"
        for wrong, said in (
            ("garbage", "'garbage'"),
            ("Hold", "'Hold'"),
            (b"garbage", "b'garbage'"),
            (None, "None"),
            ({"sdp": OFFER}, "dict"),
            (7, "int"),
        ):
            self.slips(text.format(said), dialog.modify, wrong)

    def test_kinds(self) -> None:
        """What is neither text, nor bytes, nor to be had is no description."""
        self.slips(
            "local_sdp takes a session description as text or bytes, something awaitable that"
            " becomes one, or a function without arguments that gives one, not dict",
            self.srf.create_uac,
            TARGET,
            local_sdp={"sdp": OFFER},
        )


class EndpointTests(MistakeTestCase):
    def test_port(self) -> None:
        """A port is a number, and from 0 to 65535, also where it is given by name."""
        connect, listen = self.srf.connect, self.srf.listen
        self.slips(
            f"not an endpoint (the port 'port' is no number): 'tcp:1.2.3.4:port' {RIGHT}",
            connect,
            "tcp:1.2.3.4:port",
            secret="x",
        )
        self.slips(
            f"not an endpoint (port 99999 is not 0 to 65535): 'tcp:1.2.3.4:99999' {RIGHT}",
            connect,
            "tcp:1.2.3.4:99999",
            secret="x",
        )
        self.slips(
            f"not an endpoint (the port is missing): 'tcp:1.2.3.4' {RIGHT}",
            connect,
            "tcp:1.2.3.4",
            secret="x",
        )
        for function in (connect, listen):
            wrong: Any = function
            for port in ("9022", None, -1, 65536, True):
                text = f"port takes a number from 0 to 65535, not {port!r}"
                self.slips(text, wrong, port=port, secret="x")

    def test_other_options(self) -> None:
        """So are the others taken for what they are; the secret is not shown."""
        connect: Any = self.srf.connect
        listen: Any = self.srf.listen
        for secret, said in ((None, "None"), (7, "int"), (b"x", "bytes")):
            self.slips(f"secret takes text, not {said}", connect, "tcp:h:1", secret=secret)
            self.slips(f"secret takes text, not {said}", listen, "tcp:1", secret=secret)
        self.slips("host takes text, not None", connect, host=None, secret="x")
        text = "tls takes TlsOptions{}, not dict"
        self.slips(text.format(", True or False"), connect, "tcp:h:1", secret="x", tls={"ca": "x"})
        self.slips(text.format(""), listen, "tcp:1", secret="x", tls={"ca": "x"})
        text = "{} takes a number of seconds{}, not {}"
        self.slips(
            text.format("ping_interval", ", or None", "str"),
            connect,
            "tcp:h:1",
            secret="x",
            ping_interval="5",
        )
        self.slips(
            text.format("pong_timeout", "", "None"),
            connect,
            "tcp:h:1",
            secret="x",
            pong_timeout=None,
        )
        self.slips("keep_calls is a number of seconds, not '30'", Srf, keep_calls="30")
        stop: Any = self.srf.stop
        self.slips("drain takes a number of seconds, not str", stop, "now")
        self.slips("drain takes a number of seconds, not -1", stop, -1)


class HandlerTests(MistakeTestCase):
    def test_kinds(self) -> None:
        """What is to handle something can be called, wherever it is given."""
        srf: Any = self.srf
        dialog: Any = self.answered()
        req, res = self.fresh(2)
        for add in (
            srf.invite,
            srf.on_connect,
            srf.on_call_summary,
            srf.on_cdr("start"),
            srf.on_request("FOO"),
            dialog.on_info,
            dialog.on_destroy,
            dialog.on_ack,
            dialog.on_hold,
            req.on_cancel,
            req.on_update,
            res.on_send,
        ):
            for wrong in (None, 7, "print"):
                self.slips(f"not a handler: {wrong!r}", add, wrong)
        self.slips("not a handler: 7", dialog.on_request, "FOO", 7)
        self.slips("not a handler: 7", srf.use, 7)

    def test_arguments(self) -> None:
        """It takes what it will be given."""

        def alone(req: Any) -> None:
            """Take too little."""

        text = (
            "alone() takes 1 argument: a handler takes (req, res), (req, res, next) or (error, req,"
            " res, next)"
        )
        srf: Any = self.srf
        self.slips(text, srf.invite, alone)
        self.slips(text, srf.use, "MESSAGE", alone)
        self.slips(
            text.replace("1 argument", "0 arguments").replace("alone", "<lambda>"),
            srf.invite,
            lambda: None,
        )


class MiddlewareTests(MistakeTestCase):
    def test_options(self) -> None:
        """So do the options of middleware."""
        wrong: Any = Registrar
        self.slips("max_expires takes a number of seconds, not str", wrong, max_expires="x")
        wrong = DigestAuth
        text = "lookup takes a function, or a checker of twisted.cred, not None"
        self.slips(text, wrong, "realm", None)
        text = "realm takes text, or a function of the request, not dict"
        self.slips(text, wrong, {"realm": "x"}, print)
