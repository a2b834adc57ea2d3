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
    from drachtwist.app.b2bua import B2bua
    from drachtwist.app.bridged_headers import HIDE_IDENTITY, HIDE_TOPOLOGY
    from drachtwist.app.call_records import CallRecord, CallSummary
    from drachtwist.app.client_request import PendingRequest
    from drachtwist.app.coupling import couple
    from drachtwist.app.dialog import Dialog, DialogEnd, DialogEnded
    from drachtwist.app.dialog_info import DialogState, dialog_info
    from drachtwist.app.early import EarlyDialog
    from drachtwist.app.forking import Simring, hunt, simring
    from drachtwist.app.in_dialog_forwarding import forward_in_dialog
    from drachtwist.app.outgoing_request import OutgoingRequest
    from drachtwist.app.proxying import ProxyResponse, ProxyResult, ProxyTarget
    from drachtwist.app.received import ReceivedResponse
    from drachtwist.app.request import Request
    from drachtwist.app.response import Response
    from drachtwist.app.router import Router
    from drachtwist.app.service import SrfService
    from drachtwist.app.srf import Srf
    from drachtwist.app.transfer import (
        Progress,
        Referral,
        accept_refer,
        find_replaced_dialog,
        transfer,
    )
    from drachtwist.app.uac import PendingCall
    from drachtwist.errors import (
        AuthenticationError,
        CommandRefused,
        ConfigError,
        ConnectionFailed,
        ConnectionLost,
        DrachtwistError,
        LocalProtocolError,
        MessageError,
        RemoteProtocolError,
        SdpError,
        SipError,
        StartFailed,
    )
    from drachtwist.net.protocol import (
        DrachtioClientFactory,
        DrachtioListenerFactory,
        DrachtioProtocol,
        DrachtioServerFactory,
        DrachtioServerProtocol,
    )
    from drachtwist.net.tls import TlsOptions

__all__ = [
    "HIDE_IDENTITY",
    "HIDE_TOPOLOGY",
    "AuthenticationError",
    "B2bua",
    "CallRecord",
    "CallSummary",
    "CommandRefused",
    "ConfigError",
    "ConnectionFailed",
    "ConnectionLost",
    "Dialog",
    "DialogEnd",
    "DialogEnded",
    "DialogState",
    "DrachtioClientFactory",
    "DrachtioListenerFactory",
    "DrachtioProtocol",
    "DrachtioServerFactory",
    "DrachtioServerProtocol",
    "DrachtwistError",
    "EarlyDialog",
    "LocalProtocolError",
    "MessageError",
    "OutgoingRequest",
    "PendingCall",
    "PendingRequest",
    "Progress",
    "ProxyResponse",
    "ProxyResult",
    "ProxyTarget",
    "ReceivedResponse",
    "Referral",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Router",
    "SdpError",
    "Simring",
    "SipError",
    "Srf",
    "SrfService",
    "StartFailed",
    "TlsOptions",
    "accept_refer",
    "couple",
    "dialog_info",
    "find_replaced_dialog",
    "forward_in_dialog",
    "hunt",
    "simring",
    "transfer",
]

_HOMES = {
    "HIDE_IDENTITY": "app.bridged_headers",
    "HIDE_TOPOLOGY": "app.bridged_headers",
    "CallSummary": "app.call_records",
    "DialogState": "app.dialog_info",
    "dialog_info": "app.dialog_info",
    "Progress": "app.transfer",
    "Referral": "app.transfer",
    "accept_refer": "app.transfer",
    "find_replaced_dialog": "app.transfer",
    "transfer": "app.transfer",
    "B2bua": "app.b2bua",
    "couple": "app.coupling",
    "forward_in_dialog": "app.in_dialog_forwarding",
    "OutgoingRequest": "app.outgoing_request",
    "PendingCall": "app.uac",
    "PendingRequest": "app.client_request",
    "ProxyResponse": "app.proxying",
    "ProxyResult": "app.proxying",
    "ProxyTarget": "app.proxying",
    "Simring": "app.forking",
    "hunt": "app.forking",
    "simring": "app.forking",
    "CallRecord": "app.call_records",
    "Dialog": "app.dialog",
    "DialogEnd": "app.dialog",
    "DialogEnded": "app.dialog",
    "EarlyDialog": "app.early",
    "ReceivedResponse": "app.received",
    "Request": "app.request",
    "Response": "app.response",
    "Router": "app.router",
    "Srf": "app.srf",
    "SrfService": "app.service",
    "TlsOptions": "net.tls",
    "DrachtioClientFactory": "net.protocol",
    "DrachtioListenerFactory": "net.protocol",
    "DrachtioProtocol": "net.protocol",
    "DrachtioServerFactory": "net.protocol",
    "DrachtioServerProtocol": "net.protocol",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
