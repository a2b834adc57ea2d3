"""Two dialogs of one call: each knows the other, and ends with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drachtwist.app.dialog import Dialog
from drachtwist.app.mistakes import no_dialogs
from drachtwist.sip.headers import HeadersLike

if TYPE_CHECKING:
    pass

__all__ = ["couple", "pair"]


def pair(a: Dialog, b: Dialog) -> None:
    """Let two dialogs know each other, if both are up."""
    if a.connected and b.connected:
        a._other, b._other = b, a


def couple(a: Dialog, b: Dialog) -> None:
    """End each of two dialogs when the other one ends, or begins to be ended by the application.

    With the Reason that it is ended with, if there is one.
    """

    def end(other: Dialog, why: HeadersLike) -> None:
        if other.connected:
            other.destroy(why)

    try:
        pair(a, b)
        a._on_ending(lambda why: end(b, why))
        b._on_ending(lambda why: end(a, why))
    except AttributeError as error:
        raise no_dialogs("couple", error, a, b) from None
