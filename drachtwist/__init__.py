"""drachtwist: SIP applications in Python, on Twisted.

What applications import::

    from drachtwist import Srf

    srf = Srf()

    @srf.options
    def alive(req, res):
        res.send(200)

    srf.connect("tcp:127.0.0.1:9022", secret="cymru")

Names are loaded when they are first used: the parts that need no Twisted do not load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drachtwist.app.chain import Router
    from drachtwist.app.dialog import Dialog, DialogEnd, DialogEnded
    from drachtwist.app.exchange import ReceivedResponse, Request, Response
    from drachtwist.app.srf import CallRecord, Srf
    from drachtwist.errors import (
        AuthenticationError,
        CommandRefused,
        ConnectionFailed,
        ConnectionLost,
        DrachtwistError,
        LocalProtocolError,
        RemoteProtocolError,
        SipError,
    )
    from drachtwist.net.tls import TlsOptions

__all__ = [
    "AuthenticationError",
    "CallRecord",
    "CommandRefused",
    "ConnectionFailed",
    "ConnectionLost",
    "Dialog",
    "DialogEnd",
    "DialogEnded",
    "DrachtwistError",
    "LocalProtocolError",
    "ReceivedResponse",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Router",
    "SipError",
    "Srf",
    "TlsOptions",
]

_HOMES = {
    "CallRecord": "app.srf",
    "Dialog": "app.dialog",
    "DialogEnd": "app.dialog",
    "DialogEnded": "app.dialog",
    "ReceivedResponse": "app.exchange",
    "Request": "app.exchange",
    "Response": "app.exchange",
    "Router": "app.chain",
    "Srf": "app.srf",
    "TlsOptions": "net.tls",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
