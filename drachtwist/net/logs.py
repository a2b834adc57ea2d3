"""The log, into which nobody writes at length.

What peers write is quoted in lines that operators read. Whatever of it is long is shortened on its
way into an event: a text, octets, and what an exception says. What is no text (octets that are no
UTF-8, controls) is escaped: a file that is UTF-8 would refuse the whole line, and a terminal might
do what it says. An address is shown as people write it. All of the package logs through this.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import ILogObserver, LogLevel
from twisted.logger import Logger as _Logger
from twisted.python.failure import Failure

from drachtwist.errors import SHOWN, shorten

__all__ = ["LEVELS", "Logger", "set_level"]

LEVELS = ("notice", "error", "warning", "info", "debug")
"""What may be logged, in the words of the real server, from the least to everything; its notices
are what it says of itself, and of ours what keeps it from going on."""

_BY_NAME = {
    "notice": LogLevel.critical,
    "error": LogLevel.error,
    "warning": LogLevel.warn,
    "info": LogLevel.info,
    "debug": LogLevel.debug,
}
_least = LogLevel.debug


def set_level(name: str) -> None:
    """Log nothing of this package that matters less than a level, from now on.

    :param name: one of :data:`LEVELS`.
    """
    global _least
    _least = _BY_NAME[name]


_NO_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _escaped(text: str) -> str:
    return _NO_TEXT.sub(lambda found: repr(found[0])[1:-1], text)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return _escaped(shorten(value))
    if isinstance(value, (IPv4Address, IPv6Address)):
        host = f"[{value.host}]" if ":" in value.host else value.host
        return f"{host}:{value.port}"
    if isinstance(value, UNIXAddress):
        return _escaped(shorten(os.fsdecode(value.name or "") or "a UNIX socket"))
    if isinstance(value, (bytes, bytearray)) and len(value) > SHOWN:
        return shorten(repr(value))
    if isinstance(value, Exception):  # a Failure is none; it has a traceback to show
        text = str(value)
        return _escaped(shorten(text)) if len(text) > SHOWN or _NO_TEXT.search(text) else value
    if isinstance(value, Failure) and _NO_TEXT.search(str(value.value)):
        traceback = _escaped(value.getTraceback())
        # Not another failure: who looks for the errors of a log goes by this one.
        vars(value)["getTraceback"] = lambda *_, **__: traceback
    return value


class Logger(_Logger):
    """A logger of :mod:`twisted.logger` whose fields are never long.

    :param namespace: what its events are filed under: of a class its path, unless given.
    """

    def __init__(
        self,
        namespace: str | None = None,
        source: object | None = None,
        observer: ILogObserver | None = None,
    ) -> None:
        self._is_named = namespace is not None
        if namespace is None:
            # As Twisted does, which would find this method.
            namespace = sys._getframe(1).f_globals.get("__name__", "unknown")
        super().__init__(namespace, source, observer)

    def __get__(self, instance: object, owner: type | None = None) -> Logger:
        """Return the logger of a class, or of an instance."""
        if self._is_named:
            return Logger(self.namespace, owner if instance is None else instance, self.observer)
        return cast(Logger, super().__get__(instance, owner))

    def emit(self, level: LogLevel, format: str | None = None, **kwargs: object) -> None:
        """Emit an event; its fields are what is put into the format."""
        if level < _least:
            return
        super().emit(level, format, **{name: _shown(value) for name, value in kwargs.items()})
