"""Requests and responses for the tests of this folder."""

from __future__ import annotations

from drachtwist.sip.message import Request, Response
from drachtwist.transactions.machine import (
    Deliver,
    Effect,
    Machine,
    Transmit,
)


def request(method: str = "INVITE", *, branch: str = "z9hG4bKabc", to_tag: str = "") -> Request:
    return Request(
        method,
        "sip:bob@192.0.2.2",
        [
            ("Via", f"SIP/2.0/UDP 192.0.2.1:5060;branch={branch}"),
            ("Route", "<sip:192.0.2.9;lr>"),
            ("Max-Forwards", "70"),
            ("From", "Alice <sip:alice@192.0.2.1>;tag=a1"),
            ("To", f"<sip:bob@192.0.2.2>{to_tag}"),
            ("Call-ID", "one@192.0.2.1"),
            ("CSeq", f"7 {method}"),
        ],
    )


def response(to: Request, status: int, *, tag: str = "b1") -> Response:
    return Response(
        status,
        headers=[
            ("Via", to.get("Via")),
            ("From", to.get("From")),
            ("To", f"{to.get('To')};tag={tag}"),
            ("Call-ID", to.get("Call-ID")),
            ("CSeq", to.get("CSeq")),
        ],
    )


def kinds(effects: list[Effect]) -> list[str]:
    """Name effects shortly: what is sent or delivered by method or status, the rest by class."""
    names = []
    for effect in effects:
        if isinstance(effect, Transmit):
            first, second = effect.data.split(b" ", 2)[:2]
            names.append(f"send {(second if first == b'SIP/2.0' else first).decode()}")
        elif isinstance(effect, Deliver):
            message = effect.message
            what = message.method if isinstance(message, Request) else message.status
            names.append(f"deliver {what}")
        else:
            names.append(type(effect).__name__)
    return names


def run(machine: Machine, start: float = 0.0, until: float = 1000.0) -> list[tuple[float, str]]:
    """Tick a machine at each of its deadlines; say what came out when."""
    seen: list[tuple[float, str]] = []
    while machine.deadline is not None and machine.deadline <= until:
        now = machine.deadline
        effects = machine.tick(now)
        assert effects or machine.deadline != now, "a deadline that leads to nothing"
        seen += [(now - start, kind) for kind in kinds(effects)]
    return seen


def times(seen: list[tuple[float, str]], kind: str) -> list[float]:
    return [when for when, what in seen if what == kind]
