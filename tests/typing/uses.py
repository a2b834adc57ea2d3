"""What applications write, right and wrong, for type checkers alone: nobody runs it.

Where something is wrong mypy and pyright both have to say so, and what they say is expected: each
of these lines is ignored, by the name of the error, and an ignored line without it is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from drachtwist import (
    CallRecord,
    Dialog,
    ReceivedResponse,
    Request,
    Response,
    Router,
    Srf,
    couple,
)
from drachtwist.app.interfaces import Next
from drachtwist.middleware import DigestAuth, Registrar

if TYPE_CHECKING:
    from typing_extensions import assert_type

    srf = Srf()
    router = Router()

    # Handlers keep their types.

    @srf.invite
    async def takes_calls(req: Request, res: Response) -> int:
        return res.status

    @srf.use
    def sees_all(req: Request, res: Response, next: Next) -> None:
        next()

    @srf.use("message")
    def text(req: Request, res: Response) -> str:
        return req.text

    @srf.on_request("FOO")
    def foo(req: Request, res: Response) -> bytes:
        return req.body

    @srf.use
    def fails(error: Exception, req: Request, res: Response, next: Next) -> None:
        next(error)

    def kept(req: Request, res: Response) -> None:
        async def uses() -> None:
            assert_type(await takes_calls(req, res), int)

        assert_type(text(req, res), str)
        assert_type(foo(req, res), bytes)
        assert_type(srf.use(router), Router)
        assert_type(srf.use(Registrar()), Registrar)
        assert_type(router.invite(router), Router)
        srf.use("register", DigestAuth("x", lambda user, realm: None), [sees_all, text])
        srf.use("options", lambda req, res: res.send(200))

    # Those that take something else do not pass.

    @srf.invite  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def takes_text(req: str) -> None: ...

    @srf.invite  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def takes_one(req: Request) -> None: ...

    @srf.options  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def takes_none() -> None: ...

    @srf.message  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def takes_others(req: Response, res: Request) -> None: ...

    @srf.register  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    async def takes_five(a: Any, b: Any, c: Any, d: Any, e: Any) -> None: ...

    @srf.use  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    def sees_one(req: Request) -> None: ...

    @srf.use("info")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def info(req: Request) -> None: ...

    @srf.on_request("FOO")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def other(req: Request) -> None: ...

    @srf.on_cdr("start")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def record(req: Request) -> None: ...

    @srf.on_cdr("stop")
    def right_record(record: CallRecord) -> None: ...

    @srf.on_error  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def nothing_to_see() -> None: ...

    @srf.on_start  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    def wants_something(req: Request) -> None: ...

    srf.invite(None)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    srf.invite("x")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]

    # So it is in dialogs and requests.

    def in_dialogs(dialog: Dialog, req: Request, res: Response) -> None:
        def answers(req: Request, res: Response) -> int:
            return 1

        def is_told(req: Request) -> str:
            return req.text

        def may_be_told(req: Request | None) -> bytes:
            return b""

        assert_type(dialog.on_info(answers)(req, res), int)
        assert_type(dialog.on_request("FOO", answers)(req, res), int)
        assert_type(dialog.on_request("FOO")(answers)(req, res), int)
        assert_type(dialog.on_hold(is_told)(req), str)
        assert_type(dialog.on_destroy(may_be_told)(None), bytes)
        assert_type(req.on_cancel(may_be_told)(None), bytes)
        dialog.on_info(is_told)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
        dialog.on_hold(answers)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
        dialog.on_destroy(answers)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
        # There is none when the connection is lost.
        dialog.on_destroy(is_told)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
        req.on_cancel(is_told)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
        res.on_send(is_told)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]

    # What is not there yet, and what is given in another place.

    async def results(req: Request, res: Response) -> None:
        calling = srf.create_uac("sip:bob@example.net")
        calling.on_info(print)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        couple(calling, await calling)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(await calling, Dialog)
        (await calling).on_info(lambda req, res: res.send(200))
        srf.create_uac("sip:bob@example.net", {"localSdp": ""})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        srf.create_uac(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        srf.create_uas(req, res, {"localSdp": ""})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        srf.create_uas(res, req)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        res.send("486")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        res.send(486, {"headers": {}})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        res.send(200, body={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    # Session descriptions that are made of others.

    def for_a(sdp: bytes, response: ReceivedResponse) -> bytes:
        return sdp

    async def for_b(sdp: bytes, req: Request) -> str:
        return sdp.decode()

    def later(sdp: bytes, req: Request) -> Deferred[bytes]:
        return succeed(sdp)

    def takes_text_alone(sdp: bytes) -> bytes:
        return sdp

    def gives_a_number(sdp: bytes, req: Request) -> int:
        return 1

    def descriptions(req: Request, res: Response) -> None:
        uri = "sip:bob@example.net"
        srf.create_b2bua(req, res, uri, local_sdp_a=for_a, local_sdp_b=for_b)
        srf.create_b2bua(req, res, uri, local_sdp_a="v=0", local_sdp_b=later)
        srf.create_b2bua(req, res, uri, local_sdp_a=succeed(b"v=0"), local_sdp_b=b"v=0")
        srf.create_b2bua(req, res, uri, local_sdp_a=takes_text_alone)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        srf.create_b2bua(req, res, uri, local_sdp_b=gives_a_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        srf.create_b2bua(req, res, uri, local_sdp_b=for_a)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        srf.create_b2bua(req, res, uri, local_sdp_a=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        srf.create_uas(req, res, local_sdp=lambda: "v=0")
        srf.create_uas(req, res, local_sdp=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
