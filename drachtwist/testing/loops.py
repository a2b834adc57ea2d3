"""A loop of asyncio whose time is made up.

What it is asked to call later lies on the clock of the network, beside the delayed calls of
Twisted. It has no sockets, no threads and no signals: what asks for those is told so.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context
from typing import Any, NoReturn

from drachtwist.net.tasks import Driven
from drachtwist.testing.clock import SimulatedClock
from drachtwist.testing.errors import HiddenWait

__all__ = ["SimulatedLoop"]

_REAL = (
    "sock_recv sock_recv_into sock_recvfrom sock_sendall sock_sendto sock_connect sock_accept"
    " sock_sendfile create_connection create_server create_datagram_endpoint"
    " create_unix_connection create_unix_server connect_accepted_socket start_tls"
    " run_in_executor getaddrinfo getnameinfo subprocess_exec subprocess_shell"
    " add_reader add_writer add_signal_handler connect_read_pipe connect_write_pipe sendfile"
).split()


class _Timer(asyncio.TimerHandle):
    """Something to be called later."""

    __slots__ = ("delayed",)

    delayed: Any
    """What stands for it on the clock."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs tasks on a clock.

    :param clock: that of the network.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._runs = False
        super().__init__()
        self._runs = True
        for name in _REAL:
            setattr(self, name, _refusing(name))

    def time(self) -> float:
        """Return the time of the network."""
        return self._clock.seconds()

    def is_running(self) -> bool:
        """Return that it runs: it does whenever something happens in the network."""
        return self._runs

    def end(self) -> None:
        """Cancel what still waits, and close."""
        with self.entered():
            for pending in asyncio.all_tasks(self):
                driven = pending.get_coro()
                if isinstance(driven, Driven):
                    driven.forget()
                else:
                    pending.cancel()
            self._clock.settle()
        self._runs = False
        self.close()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call something in turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self._clock.soon(self._run, handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call something in turn; there are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call something at a time of the network."""
        timer = _Timer(when, callback, args, self, context)
        timer.delayed = self._clock.callLater(when - self.time(), self._run, timer)
        return timer

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call something in some seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Wait for a timer no more; asyncio calls this."""
        if handle.delayed.active():
            handle.delayed.cancel()

    def _run(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            handle._run()

    def entered(self) -> AbstractContextManager[None]:
        """Be the loop that runs, for as long as something happens."""
        return _entered(self)


@contextmanager
def _entered(loop: SimulatedLoop) -> Iterator[None]:
    before = events._get_running_loop()
    events._set_running_loop(loop)
    try:
        yield
    finally:
        events._set_running_loop(before)


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise HiddenWait(
            f"asyncio's {name} reaches the real world, which a network in memory lacks"
        )

    return refuse
