"""What goes wrong in a test, said so that whoever wrote it knows what to do."""

from __future__ import annotations

__all__ = ["HiddenWait", "NothingHappens", "PhoneError", "StillThere"]


class PhoneError(AssertionError):
    """A phone, a call or a server was told something that it cannot do now."""


class NothingHappens(AssertionError):
    """Something is waited for that will never come: nothing is under way, and no timer is set."""


class StillThere(AssertionError):
    """Dialogs, transactions, timers or connections are left."""


class HiddenWait(AssertionError):
    """Real time or a real socket was asked for while a network in memory is there."""
