"""Messages from the network, with what the server said about them.

The server puts a line of tokens in front of each message (protocol.md 4.1): where it came from,
when, and which transaction and dialog it belongs to. :class:`Received` gives them names;
:class:`ReceivedResponse` is a response with them. Nothing is parsed before it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drachtwist import sip
from drachtwist.app.connection import Connection, Server
from drachtwist.sip import grammar
from drachtwist.sip.encoding import encode_response
from drachtwist.sip.message import STATUSES
from drachtwist.wire.reports import (
    ADDRESS,
    DIALOG_ID,
    LOCAL_ADDRESS,
    LOCAL_PORT,
    PORT,
    PROTOCOL,
    SESSION_TOKEN,
    SOURCE,
    TIME,
    TRANSACTION_ID,
)

if TYPE_CHECKING:
    from drachtwist.app.early import EarlyDialog
    from drachtwist.app.srf import Srf
    from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["Received", "ReceivedResponse", "made_up_response", "make_received_response"]


class Received:
    """How a message came."""

    __slots__ = ()

    _state: Connection
    # The tokens of the leading line, or that line while nobody looks.
    _tokens: Sequence[str]

    def _token(self, index: int) -> str:
        tokens = self._tokens
        if type(tokens) is str:
            tokens = tokens.split("|")
        return tokens[index] if index < len(tokens) else ""

    @property
    def link(self) -> DrachtioProtocol:
        """The connection that the message came over."""
        return self._state.link

    @property
    def srf(self) -> Srf:
        """The application that the message came to."""
        srf: Srf = self._state.owner.srf
        return srf

    @property
    def server(self) -> Server:
        """The server that the message came from."""
        return self._state.server

    @property
    def source(self) -> str:
        """``network``, or ``application`` for requests that the server made by itself."""
        return self._token(SOURCE)

    @property
    def protocol(self) -> str:
        """``udp``, ``tcp`` (also for WebSockets), ``tls``, or empty (for an ACK)."""
        return self._token(PROTOCOL)

    @property
    def source_address(self) -> str:
        """The address of the sender; empty for responses that the server made up."""
        return self._token(ADDRESS)

    @property
    def source_port(self) -> int:
        """The port of the sender; 5060 when the server did not say."""
        port = grammar.decimal(self._token(PORT))
        return 5060 if port is None else port

    @property
    def stack_time(self) -> str:
        """When the server got the message: ``HH:MM:SS.uuuuuu``, UTC."""
        return self._token(TIME)

    @property
    def stack_txn_id(self) -> str:
        """The server's name of the transaction."""
        return self._token(TRANSACTION_ID)

    @property
    def stack_dialog_id(self) -> str:
        """The server's name of the dialog; empty outside of dialogs."""
        return self._token(DIALOG_ID)

    @property
    def received_on(self) -> str:
        """``host:port`` where a new request arrived, otherwise empty."""
        host = self._token(LOCAL_ADDRESS)
        return f"{host}:{self._token(LOCAL_PORT)}" if host else ""

    @property
    def session_token(self) -> str:
        """The session token of older servers; empty with the current ones."""
        return self._token(SESSION_TOKEN)


class ReceivedResponse(Received, sip.Response):
    """A response from the network to a request of ours."""

    __slots__ = ("_state", "_tokens")

    @property
    def early_dialog(self) -> EarlyDialog | None:
        """What may be said to whom this provisional response is from, before the call is answered.

        None for any other response, for one without a To tag, and when the INVITE has its final
        response.
        """
        early: EarlyDialog | None = self._state.owner.early_dialogs.of_response(self)
        return early


def make_received_response(
    state: Connection, tokens: Sequence[str], raw: bytes
) -> ReceivedResponse:
    """Wrap a response as the server delivered it; nothing of it is parsed."""
    self = ReceivedResponse.__new__(ReceivedResponse)
    self._raw = raw
    self._headers = self._body = self._reason = self._version = None
    self._status = STATUSES.get(raw[8:12])  # None for an odd line, which is read when asked for
    self._changed_line = False
    self._state = state
    self._tokens = tokens
    return self


def made_up_response(state: Connection, status: int, reason: str) -> ReceivedResponse:
    """Make a response in place of one that will not come, as servers do for silent peers."""
    raw = encode_response(status, reason)
    return make_received_response(
        state, ["", "sip", "application", "0", "", "", "0", "", "", ""], raw
    )
