"""Real time and real sockets are out of reach while there is a network in memory.

An application that waits on the real clock, or asks a real server, would make its test slow, or
right by chance only. So what could do that raises :exc:`HiddenWait`, which says what to use
instead: the delayed calls of the real reactor, its threads, ``time.sleep``, and sockets that are
bound, connected or sent from. Only the thread that made the network is guarded.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.base import ReactorBase

from drachtwist.testing.errors import HiddenWait

__all__ = ["Guard"]

_INSTEAD = (
    "use the clock of the application (srf.clock.callLater, deferLater(srf.clock, ...)), which the"
    " test lets pass with advance()"
)
_IN_MEMORY = (
    "what the application opens goes over its own reactor (srf.reactor) in memory; what really has"
    " to leave the process goes into 'with net.real_world():'"
)
_NO_THREADS = "no thread can be waited for in time that is made up; call it directly in tests"

# What is guarded: where it is, its name, and what to use instead.
_GUARDED: list[tuple[Any, str, str]] = [
    (time, "sleep", _INSTEAD),
    (ReactorBase, "callLater", _INSTEAD),
    (ReactorBase, "callInThread", _NO_THREADS),
    (ReactorBase, "getThreadPool", _NO_THREADS),
    *(
        (socket.socket, name, _IN_MEMORY)
        for name in ("bind", "connect", "connect_ex", "sendto", "sendmsg", "listen")
    ),
    (socket, "getaddrinfo", "give the name an address with Network.host()"),
    (socket, "gethostbyname", "give the name an address with Network.host()"),
]


class Guard:
    """Keeps a thread from real time and real sockets, as long as it is entered."""

    _lock = threading.Lock()
    _entered: dict[int, int] = {}
    _paused: dict[int, int] = {}
    _before: list[tuple[Any, str, Any]] = []

    def enter(self) -> None:
        """Guard this thread from now on."""
        thread = threading.get_ident()
        with self._lock:
            if not self._entered:
                self._install()
            self._entered[thread] = self._entered.get(thread, 0) + 1

    def leave(self) -> None:
        """Guard it no more, unless it was entered more often."""
        thread = threading.get_ident()
        with self._lock:
            left = self._entered.get(thread, 0) - 1
            if left > 0:
                self._entered[thread] = left
            else:
                self._entered.pop(thread, None)
            if not self._entered:
                self._uninstall()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let everything through for a while."""
        thread = threading.get_ident()
        self._paused[thread] = self._paused.get(thread, 0) + 1
        try:
            yield
        finally:
            self._paused[thread] -= 1
            if not self._paused[thread]:
                del self._paused[thread]

    @classmethod
    def _install(cls) -> None:
        for owner, name, instead in _GUARDED:
            original = getattr(owner, name, None)
            if original is None:
                continue
            own = vars(owner).get(name, _MISSING)
            cls._before.append((owner, name, own))
            setattr(owner, name, cls._guarded(owner, name, original, instead))

    @classmethod
    def _uninstall(cls) -> None:
        before, cls._before[:] = cls._before[:], []
        for owner, name, own in before:
            if own is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

    @classmethod
    def _guarded(
        cls, owner: Any, name: str, original: Callable[..., Any], instead: str
    ) -> Callable[..., Any]:
        shown = f"{getattr(owner, '__name__', owner)}.{name}"
        if owner is ReactorBase:
            shown = f"reactor.{name}"

        def guarded(*args: Any, **options: Any) -> Any:
            thread = threading.get_ident()
            if thread in cls._entered and thread not in cls._paused:
                raise HiddenWait(f"{shown} reaches the real world in a test without one: {instead}")
            return original(*args, **options)

        guarded.__name__ = name
        return guarded


_MISSING = object()
