"""What a server tells an application of SIP messages, and which thing stands in which place.

A *delivery* hands over a message. An *echo* answers a command with the message as it was sent.
While a server forwards a request, it *passes on* each final response in an answer that more will
follow. A *record* tells of a call. The lines are those of a real server (protocol.md 3.1, 3.5 and
3.6).

Both ends share the places: the server writes through the functions, the application looks by name.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ADDRESS",
    "CONTINUE",
    "DIALOG_ID",
    "DONE",
    "LOCAL_ADDRESS",
    "LOCAL_PORT",
    "PORT",
    "PROTOCOL",
    "SESSION_TOKEN",
    "SIZE",
    "SOURCE",
    "TIME",
    "TRANSACTION_ID",
    "delivery",
    "echo",
    "passed_on",
    "record",
]

SOURCE: Final = 2
"""``network``, or ``application`` for what the server made by itself."""
SIZE: Final = 3
"""Octets on the wire."""
PROTOCOL: Final = 4
"""``udp``, ``tcp``, ``tls``, ``unknown``, or empty."""
ADDRESS: Final = 5
"""The sender's address."""
PORT: Final = 6
"""The sender's port."""
TIME: Final = 7
"""``HH:MM:SS.uuuuuu``, UTC."""
TRANSACTION_ID: Final = 8
"""The server's name of the transaction."""
DIALOG_ID: Final = 9
"""The server's name of the dialog; empty outside of dialogs, and missing from old servers."""
LOCAL_ADDRESS: Final = 10
"""The address that a new request came to; missing elsewhere."""
LOCAL_PORT: Final = 11
"""The port that a new request came to."""
SESSION_TOKEN: Final = 12
"""What older servers sent last."""

DONE: Final = "done"
"""What stands behind the verdict of the last answer to a proxy command."""
CONTINUE: Final = "continue"
"""The last token of the others."""

_SENT = "Msg sent:"


def delivery(
    frame_id: str,
    source: str,
    size: int,
    protocol: str,
    address: str,
    port: int,
    time: str,
    transaction_id: str,
    dialog_id: str,
    raw: bytes,
    received_on: str = "",
) -> bytes:
    """Write a message for an application.

    :param received_on: of new requests, address and port that they came to: ``127.0.0.1|5060|``.
    """
    line = (
        f"{frame_id}|sip|{source}|{size}|{protocol}|{address}|{port}|{time}|"
        f"{transaction_id}|{dialog_id}|{received_on}"
    )
    return b"%b\r\n%b" % (line.encode("utf-8", "surrogateescape"), raw)


def record(frame_id: str, kind: str, source: str, time: str, raw: bytes, detail: str = "") -> bytes:
    """Write a call detail record.

    :param kind: ``attempt``, ``start`` or ``stop``.
    :param detail: the role on ``start``, the reason on ``stop``.
    """
    line = f"{frame_id}|cdr:{kind}|{source}|{time}"
    if detail:
        line += f"|{detail}"
    return b"%b\r\n%b" % (line.encode("ascii"), raw)


def echo(
    size: int,
    protocol: str,
    address: str,
    port: int,
    time: str,
    transaction_id: str,
    dialog_id: str | None = None,
) -> tuple[str, ...]:
    """Return what stands behind the OK to a command that sent a message.

    :param dialog_id: of a response, the name of its dialog, which may be empty; None of a request.
    """
    dialog = () if dialog_id is None else (dialog_id, "")
    return (
        "application",
        str(size),
        protocol,
        address,
        str(port),
        time,
        transaction_id,
        *dialog,
        _SENT,
        "",
    )


def passed_on(size: int, protocol: str, address: str, port: int, time: str) -> tuple[str, ...]:
    """Return what stands behind the OK of a final response to a request that is forwarded."""
    return ("network", str(size), protocol, address, str(port), time, "", "", CONTINUE)
