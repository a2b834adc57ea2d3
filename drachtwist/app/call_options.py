"""The options of calls, each with its type, declared once.

What places several calls, or one later, takes them as ``**options`` of one of these types. The
methods of :class:`~drachtwist.app.srf.Srf` write them out, for who reads them, and say what each
means; a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from drachtwist.app.authentication import Auth
    from drachtwist.app.dialog import Dialog
    from drachtwist.app.interfaces import SdpHook
    from drachtwist.app.outgoing_request import OutgoingRequest
    from drachtwist.app.received import ReceivedResponse
    from drachtwist.app.request import Request
    from drachtwist.app.response import Response
    from drachtwist.sip.headers import HeadersLike

__all__ = ["BridgeOptions", "CallOptions", "SimringOptions", "TargetOptions", "TriedOptions"]


class TargetOptions(TypedDict, total=False):
    """How somebody is called, whoever else is called for the same caller."""

    proxy: str
    auth: Auth | None
    calling_number: str | None
    calling_name: str | None
    called_number: str | None
    follow_redirects: bool
    keep_uri_on_redirect: bool
    on_request: Callable[[OutgoingRequest], Any] | None
    link: Any


class CallOptions(TargetOptions, total=False):
    """Those of a call of its own; ``headers`` and ``local_sdp`` aside."""

    method: str
    no_ack: bool
    timeout: float | None
    on_provisional: Callable[[ReceivedResponse], Any] | None
    on_update: Callable[[Request, Response], Any] | None


class _BridgedOptions(TargetOptions, total=False):
    local_sdp_a: SdpHook[ReceivedResponse]
    local_sdp_b: SdpHook[Request]
    headers: HeadersLike | Callable[[Request], HeadersLike]
    response_headers: HeadersLike | Callable[[ReceivedResponse], HeadersLike]
    proxy_request_headers: Sequence[str]
    proxy_response_headers: Sequence[str]
    pass_provisional_responses: bool


class TriedOptions(_BridgedOptions, total=False):
    """Those of a bridged call that is one of several attempts."""

    on_provisional: Callable[[ReceivedResponse], Any] | None
    on_uac: Callable[[Dialog], Any] | None


class BridgeOptions(TriedOptions, total=False):
    """Those of a bridged call."""

    timeout: float | None
    pass_failure: bool


class SimringOptions(_BridgedOptions, total=False):
    """Those of several calls at once, of which one is bridged."""

    timeout: float | None
    pass_failure: bool
