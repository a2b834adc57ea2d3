"""drachtwist where asyncio's loop belongs to somebody else: a web framework, or ``asyncio.run``.

:func:`serving` runs an application as long as its block lasts, :func:`wait` waits for a Deferred of
Twisted's in a plain task of asyncio. The Deferreds of this package need no help: tasks await them
as they are, under the asyncio reactor.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from drachtwist.app.outcomes import started
from drachtwist.app.service import AnyEndpoint, SrfService
from drachtwist.app.srf import Srf
from drachtwist.net import tasks
from drachtwist.net.tls import TlsOptions

__all__ = ["install", "log_to_logging", "reactor_running", "serving", "wait"]

_T = TypeVar("_T")

_LEVELS = {
    LogLevel.debug: "DEBUG",
    LogLevel.info: "INFO",
    LogLevel.warn: "WARNING",
    LogLevel.error: "ERROR",
    LogLevel.critical: "CRITICAL",
}

_users = 0
"""How many blocks need the reactor."""

_is_ours = False
"""Whether the reactor was started here."""


def wait(awaitable: Deferred[_T] | Awaitable[_T]) -> asyncio.Future[_T]:
    """Make a future of a Deferred, or of a coroutine that awaits Deferreds.

    Cancelling the future cancels what it stands for.

    :raises RuntimeError: where no loop runs, or Twisted does not use it.
    """
    install()
    deferred = awaitable if isinstance(awaitable, Deferred) else started(awaitable)
    return tasks.as_future(deferred)


def install() -> None:
    """Have Twisted use the loop that runs.

    It must come before anything imports ``twisted.internet.reactor``, which would choose another
    reactor. It does nothing when Twisted uses this loop already.

    :raises RuntimeError: where no loop runs, or Twisted uses something else.
    """
    loop = asyncio.get_running_loop()
    if "twisted.internet.reactor" not in sys.modules:
        from twisted.internet import asyncioreactor

        asyncioreactor.install(loop)
    tasks.look()
    reactor: Any = sys.modules["twisted.internet.reactor"]
    if not tasks.is_active:
        raise RuntimeError(
            f"Twisted uses {type(reactor).__name__} already, not asyncio: something has imported"
            " twisted.internet.reactor too early; import it in functions, or call"
            " drachtwist.aio.install() before"
        )
    if getattr(reactor, "_asyncioEventloop", loop) is not loop:
        raise RuntimeError(
            "Twisted uses another loop of asyncio already, and can use only one in a process"
        )


def log_to_logging() -> None:
    """Hand what Twisted logs to Python's :mod:`logging`, unless something else takes it."""
    # There is no public way to ask; who begins twice is warned of.
    if getattr(globalLogBeginner, "_temporaryObserver", None) is not None:
        globalLogBeginner.beginLoggingTo(
            [implementer(ILogObserver)(_log)], redirectStandardIO=False
        )


def _log(event: Any) -> None:
    logger = logging.getLogger(event.get("log_namespace") or "twisted")
    level = getattr(logging, _LEVELS.get(event.get("log_level"), "INFO"))
    if logger.isEnabledFor(level):
        failure = event.get("log_failure")
        about = failure and (failure.type, failure.value, failure.getTracebackObject())
        logger.log(level, "%s", formatEvent(event), exc_info=about)


@asynccontextmanager
async def reactor_running() -> AsyncIterator[Any]:
    """Let Twisted's reactor run in the loop that runs, as long as the block lasts.

    It does not handle signals, and does not end the loop. Blocks may lie in each other. Unless
    something else takes what Twisted logs, Python's :mod:`logging` does, in loggers of the same
    names.

    :returns: the reactor.
    :raises RuntimeError: as :func:`install`.
    """
    global _users, _is_ours
    install()
    log_to_logging()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    if not reactor.running:
        reactor.startRunning(installSignalHandlers=False)
        _is_ours = True
    _users += 1
    try:
        yield reactor
    finally:
        _users -= 1
        if not _users:
            await wait(tasks.stop_all())
        # Stopping the reactor would stop the loop; its threads would keep the process alive. It
        # makes others when it needs some again.
        if _is_ours and not _users and reactor.threadpool is not None:
            reactor._stopThreadPool()


@asynccontextmanager
async def serving(
    srf: Srf,
    *endpoints: AnyEndpoint,
    secret: str | None = None,
    tls: TlsOptions | None = None,
    allow: Iterable[str] = (),
    tags: Sequence[str] | None = None,
    drain: float = 0.0,
) -> AsyncIterator[Srf]:
    """Run an application as long as the block lasts.

    What :meth:`~drachtwist.Srf.on_start` and :meth:`~drachtwist.Srf.lifespan` added has begun when
    the block does, and ports are open; servers are connected to as soon as they can be reached. At
    the end calls are ended and everything is closed, as by :meth:`~drachtwist.Srf.stop`; handlers
    that still run are cancelled.

    :param endpoints: where to connect to and where to listen, as for :class:`SrfService`; none if
        the application does that itself.
    :param drain: seconds that calls get to end by themselves at the end of the block.
    :raises RuntimeError: as :func:`install`.
    :raises StartFailed: when something that the application needs cannot be opened.
    :raises ConnectionFailed: when a port cannot be opened.
    :raises LocalProtocolError: as :class:`SrfService`.
    """
    async with reactor_running():
        service = SrfService(
            srf, *endpoints, secret=secret, tls=tls, allow=allow, tags=tags, drain=drain
        )
        await srf.start()
        try:
            service.startService()
            for listener in srf._connections.endpoints.listeners:
                await listener.when_listening()
            yield srf
        finally:
            await wait(service.stopService())
