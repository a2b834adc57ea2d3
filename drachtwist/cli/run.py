"""``drachtwist run``: run an application in the foreground, draw its calls, and start it again.

It is what ``twist drachtio`` runs, with its options, and a log that is meant for a terminal. When a
file changes, the application is stopped in good order, and the process replaces itself: nothing of
the old modules stays. An application that cannot be imported is waited for.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from getopt import GetoptError, gnu_getopt
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.reactors import NoSuchReactor, getReactorTypes, installReactor
from twisted.internet.error import ReactorAlreadyInstalledError
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner
from twisted.python import usage
from zope.interface import implementer

from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.cli.picture import Screen
from drachtwist.cli.watching import Watch, files_below, loaded_files
from drachtwist.hosting import app_tap
from drachtwist.net.contacts import Contact
from drachtwist.net.sip.listening import read_contact
from drachtwist.net.steady import steady

__all__ = ["Console", "RunOptions", "main", "read"]

EVERY = 0.4
"""Seconds between two looks at the files."""
SETTLES = 0.1
"""Seconds that whoever writes a file has for the rest."""

_NOISE = re.compile(
    r"(.* )?(starting on \d|starting on '|\((TCP|UDP|TLS)?.*Port \d+ Closed\))|"
    r"(Starting|Stopping) (factory|protocol) |Received SIG|Main loop terminated"
)
"""What Twisted says of itself."""


class RunOptions(app_tap.Options):
    """The options of ``twist drachtio``, and those of this command."""

    name = "drachtwist run"
    synopsis = "Usage: drachtwist run [APPLICATION] [options]"
    longdesc = """
        Run an application in the foreground, with a server in the same process unless --endpoint
        names one. The ladder of each call is drawn when it is over, with the messages of those that
        failed. With --reload it starts again when one of its files changes. Ctrl-C stops it.

        All options of 'twist drachtio' are taken, which runs the same in production.
    """
    examples = (
        "drachtwist run",
        "drachtwist run app.py --reload",
        "drachtwist run calls.menu:make_srf --contact 'sip:192.0.2.7:5060;transport=udp,tcp'",
        "drachtwist run app.py --reactor asyncio",
        "DRACHTIO_SECRET=cymru drachtwist run app.py --endpoint tcp:127.0.0.1:9022",
    )
    optFlags = [
        ["reload", "r", "Start again when a file of the application changes."],
        ["no-ladders", None, "Draw no calls."],
    ]

    def opt_port(self, number: str) -> None:
        """Serve SIP on this port of 127.0.0.1, UDP and TCP; 0 for any that is free."""
        if not number.isascii() or not number.isdigit() or int(number) > 65535:
            raise usage.UsageError(f"--port {number!r} is no port number (0 to 65535)")
        self.opt_contact(f"sip:127.0.0.1:{number};transport=udp,tcp")

    opt_p = opt_port

    def opt_reactor(self, name: str) -> None:
        """The reactor to run on: asyncio, for applications that await what asyncio can."""
        try:
            installReactor(name)
        except NoSuchReactor:
            names = ", ".join(sorted(str(one.shortName) for one in getReactorTypes()))
            raise usage.UsageError(f"--reactor {name!r} is none of {names}") from None
        except ReactorAlreadyInstalledError:
            raise usage.UsageError(f"--reactor {name}: another one is installed already") from None

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read a command line; options may stand behind the application, too."""
        words = list(options or ())
        try:
            given, rest = gnu_getopt(words, self.shortOpt, self.longOpt)
        except GetoptError:
            pass  # said once more below, and better
        else:
            words = []
            for name, value in given:
                takes_value = f"{name[2:]}=" in self.longOpt or f"{name[1:]}:" in self.shortOpt
                words += [name, value] if takes_value else [name]
            words += ["--", *rest]
        super().parseOptions(words)

    def parseArgs(self, *words: str) -> None:
        """Take the application.

        :raises UsageError: unless there is exactly one.
        """
        if len(words) > 1 or (words and self["app"] is not None):
            raise usage.UsageError(f"what is {words[-1]!r}? There is one application")
        if words:
            self["app"] = words[0]

    def postOptions(self) -> None:
        """Draw calls, unless that is not wanted."""
        if not self["no-ladders"]:
            self["trace"] = 1
        super().postOptions()


@implementer(ILogObserver)
class Console:
    """The log, for a terminal: the time, the text, and a colour for what is wrong."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def __call__(self, event: Any) -> None:
        """Show an event of the log, unless it is noise."""
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.info:
            return
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            text += f"\n{failure.getTraceback().rstrip()}"
        if not text or (level is LogLevel.info and _NOISE.match(text)):
            return
        when = time.strftime("%H:%M:%S", time.localtime(event.get("log_time")))
        colour = {LogLevel.info: 0, LogLevel.warn: 33}.get(level, 31)
        if colour:
            text = self._screen.paint(f"{level.name}: {text}", colour)
        self._screen.say(f"{self._screen.paint(when, 2)}  {text}")


def main(words: Sequence[str]) -> int:
    """Run an application.

    :raises CommandError: when it cannot be run.
    """
    options = read(words)
    screen = Screen()
    reloads = bool(options["reload"])
    watch = Watch()
    if reloads:
        # As they are before they are read: what changes meanwhile has changed.
        watch.add(files_below(_directory(options["settings"].app)))
    try:
        service = app_tap.makeService(options)
    except SystemExit as error:
        if not reloads:
            raise CommandError(f"{error}") from None
        screen.warn(f"{error}")
        return _wait(screen, options["settings"].app, watch)
    return _serve(service, options, screen, watch)


def read(words: Sequence[str]) -> RunOptions:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    options = RunOptions()
    try:
        options.parseOptions(list(words))
    except usage.UsageError as error:
        raise CommandError(options.complaint(str(error)), Exit.USAGE) from None
    return options


def _serve(service: Any, options: RunOptions, screen: Screen, watch: Watch) -> int:
    """Run the reactor with an application on it."""
    from twisted.internet import reactor as found

    reactor: Any = found
    settings = options["settings"]
    globalLogBeginner.beginLoggingTo([Console(screen)], redirectStandardIO=False)
    where = _address(settings.server.contacts[0]) if settings.server is not None else None
    answers = f" answers {where}" if where else ""
    screen.say(f"{settings.app or settings.routing_app}{answers}; Ctrl-C stops it")
    stopped = again = False

    def look() -> None:
        found = watch.add(loaded_files())
        if found:
            screen.say(f"{_shown(found[0])} has changed: starting again")
            steady(reactor).callLater(SETTLES, start_again)
        elif not stopped:
            steady(reactor).callLater(EVERY, look)

    def start_again() -> None:
        nonlocal again
        if not stopped:
            again = True
            reactor.stop()

    def stop() -> Any:
        nonlocal stopped
        stopped = True
        return service.stopService()

    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    if options["reload"]:
        reactor.callWhenRunning(look)
    reactor.run()
    if again:
        _again()
    if service.failed:
        return _wait(screen, settings.app, watch) if options["reload"] else Exit.FAILED
    return Exit.OK


def _directory(app: str | None) -> Path:
    """Return where the files of an application are, as far as its name says."""
    source, found, _ = (app or "").partition(".py:")
    if found or source.endswith(".py"):
        return Path(source).resolve().parent
    return Path.cwd()


def _wait(screen: Screen, app: str | None, watch: Watch) -> int:
    """Wait until a file changes, since nothing can be run as they are."""
    directory = _directory(app)
    screen.say("waiting until a file changes; Ctrl-C stops it")
    try:
        while True:
            time.sleep(EVERY)
            files = list(files_below(directory))
            new = [file for file in files if file not in watch]
            if new or watch.add(files):
                _again()
    except KeyboardInterrupt:
        return Exit.FAILED


def _again() -> NoReturn:
    """Replace this process by one that was started in the same way."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _shown(file: str) -> str:
    shown = os.path.relpath(file)
    return file if shown.startswith("..") else shown


def _address(contact: str | Contact) -> str | None:
    """Return what somebody on this machine calls; None while that is open."""
    host, port, _ = read_contact(contact if isinstance(contact, str) else contact.uri)
    if not port:
        return None
    host = "127.0.0.1" if host in ("*", "0.0.0.0") else host
    return f"sip:hello@{f'[{host}]' if ':' in host else host}:{port}"
