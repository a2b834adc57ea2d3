"""What both twistd plugins need: secrets from safe places, and honest exits."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from twisted.python.failure import Failure
from twisted.python.usage import UsageError

from drachtwist.net.logs import Logger

__all__ = ["give_up", "read_secret", "reload_on_sighup", "stop_on_sigterm"]

SECRET_VARIABLE = "DRACHTIO_SECRET"

_log = Logger(namespace="drachtwist")


def read_secret(
    secret: str | None, path: str | None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Find the secret: on the command line, in a file, in the environment, in this order.

    :param path: of a file whose first line is the secret.
    :returns: None when there is none.
    :raises UsageError: for two of them at once, a file that cannot be read, or an empty secret.
    """
    if secret is not None and path is not None:
        raise UsageError("give --secret or --secret-file, not both")
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                secret = file.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UsageError(f"cannot read the secret from {path}: {reason}") from None
        if not secret:
            raise UsageError(f"the first line of {path} is empty, it should be the secret")
    elif secret is None:
        secret = environment.get(SECRET_VARIABLE) or None
    if secret is not None and (not secret or any(char in secret for char in "|\r\n\0")):
        raise UsageError("a secret is not empty, and has no '|', line break or NUL in it")
    return secret


def give_up(reactor: Any, problem: str, failure: Failure | None = None) -> None:
    """End the process with exit status 1 because it cannot do what it was started for.

    :param problem: says why; of several lines, a traceback, the last one does.
    :param failure: logged with its traceback, when it is not the user's fault.
    """
    if failure is not None:
        _log.failure("{problem}", failure, problem=problem)
    else:
        for line in problem.splitlines():  # a field is not long, see drachtwist.net.logs
            _log.critical("{problem}", problem=line)
    # twistd knows no exit status: once the reactor has stopped it returns, and the process ends
    # with 0. So the status is set as the last thing that the process does.
    atexit.register(_exit_with_failure)
    if reactor.running:
        reactor.stop()
    else:
        reactor.callWhenRunning(reactor.stop)


def _exit_with_failure() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def stop_on_sigterm(reactor: Any, again: Callable[[], object] | None = None) -> None:
    """Let SIGTERM end the process with exit status 0, after an orderly stop.

    Left alone, twistd stops in good order too, but ends itself with the signal in the end, so that
    the supervisor of the process sees a death. SIGINT (Ctrl-C) keeps its exit status, by which
    shells know that a command was interrupted.

    :param again: called when another signal comes while the stop is under way.
    """
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            reactor.stop()
        elif again is not None:
            again()

    def handle(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(stop)

    def install() -> None:
        signal.signal(signal.SIGTERM, handle)
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):  # not where it is ignored
            signal.signal(signal.SIGINT, lambda *about: on_interrupt(interrupt, *about))

    def on_interrupt(handler: Callable[..., object], number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            reactor.callFromThread(stop)
        else:
            stopping = True
            handler(number, frame)

    # The reactor installs its own handlers when it starts.
    reactor.callWhenRunning(install)


def reload_on_sighup(reactor: Any, reload: Callable[[], object]) -> None:
    """Let SIGHUP have files read again, instead of ending the process.

    :param reload: called by the reactor; what it raises is logged.
    """

    def again() -> None:
        try:
            reload()
        except Exception:
            _log.failure("failed to read files again")

    def handle(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(again)

    if hasattr(signal, "SIGHUP"):
        reactor.callWhenRunning(signal.signal, signal.SIGHUP, handle)
