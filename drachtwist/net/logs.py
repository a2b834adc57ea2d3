"""The log, into which nobody writes at length.

What peers write is quoted in lines that operators read. Whatever of it is long is shortened on its
way into an event: a text, octets, and what an exception says. All of the package logs through this.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.logger import Logger as _Logger
from twisted.logger import LogLevel

from drachtwist.errors import SHOWN, shorten

__all__ = ["Logger"]


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, (bytes, bytearray)) and len(value) > SHOWN:
        return shorten(repr(value))
    if isinstance(value, Exception):  # a Failure is none; it has a traceback to show
        text = str(value)
        return shorten(text) if len(text) > SHOWN else value
    return value


class Logger(_Logger):
    """A logger of :mod:`twisted.logger` whose fields are never long."""

    def __get__(self, instance: object, owner: type | None = None) -> Logger:
        """Return the logger of a class, or of an instance."""
        return cast(Logger, super().__get__(instance, owner))

    def emit(self, level: LogLevel, format: str | None = None, **kwargs: object) -> None:
        """Emit an event; its fields are what is put into the format."""
        super().emit(level, format, **{name: _shown(value) for name, value in kwargs.items()})
