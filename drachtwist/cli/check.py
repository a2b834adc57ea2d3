"""``drachtwist check``: import an application, and list what it handles and what is missing."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.cli.parsing import Parser

__all__ = ["Report", "examine", "main", "read"]

DEFAULT_APP = "app.py"
_PLAIN, _MIDDLEWARE, _ERROR = "handler", "middleware", "error handler"
_KINDS = {2: _PLAIN, 3: _MIDDLEWARE, 4: _ERROR}


@dataclass(frozen=True, slots=True)
class Listed:
    """A handler, where it stands among the others."""

    method: str
    """The method that it is for; ``*`` for all."""
    kind: str
    """``handler``, ``middleware`` or ``error handler``."""
    name: str
    place: str
    """File and line; empty where there is none."""
    depth: int
    """How many routers it is in."""


@dataclass(slots=True)
class Report:
    """What there is to say about an application."""

    handlers: list[Listed] = field(default_factory=list)
    routes: tuple[str, ...] = ()
    """What servers are asked for."""
    faults: list[str] = field(default_factory=list)
    """What cannot be meant."""
    hints: list[str] = field(default_factory=list)
    """What is missing, perhaps."""


def main(words: Sequence[str]) -> int:
    """Check an application."""
    options = read(words)
    srf = _load(options.app)
    report = examine(srf, _routers(srf))
    for line in described(options.app, srf, report):
        print(line)
    bad = report.faults or (options.strict and report.hints)
    return Exit.FAILED if bad else Exit.OK


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "check",
        """
        Import an application without starting it. List its handlers and middleware in the
        order in which they see requests, what servers are asked for, and what is missing.
        The exit status is 1 if it cannot be imported, or something in it cannot work.
        """,
        (
            "drachtwist check",
            "drachtwist check calls.menu:make_srf",
            "drachtwist check app.py --strict || exit 1",
        ),
    )
    parser.add_argument(
        "app",
        metavar="APP",
        nargs="?",
        default=DEFAULT_APP,
        help="file.py, file.py:attribute or module:attribute; app.py unless given",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 for what is perhaps missing, too"
    )
    return parser.parse_args(words)


def _load(name: str) -> Any:
    from twisted.internet.defer import Deferred

    from drachtwist.hosting.loading import ApplicationError, load_application, make_application

    try:
        made = make_application(load_application(name), name)
    except ApplicationError as error:
        raise CommandError(f"{error}") from None
    if not isinstance(made, Deferred):
        return made
    from drachtwist.cli.reactors import run_on_reactor

    async def wait(_: object, __: object) -> Any:
        try:
            return await made
        except ApplicationError as error:
            raise CommandError(f"{error}") from None

    return run_on_reactor(wait)


def _routers(srf: Any) -> list[tuple[str, Any]]:
    """Return the routers of the user's modules, with their names."""
    from drachtwist.app.router import Router

    here = os.getcwd() + os.sep
    found = []
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if not file.startswith(here) or "site-packages" in file:
            continue
        for name, value in vars(module).items():
            if isinstance(value, Router) and value is not srf:
                found.append((f"{module.__name__}.{name}", value))
    return found


def examine(srf: Any, routers: Sequence[tuple[str, Any]] = ()) -> Report:
    """Look at the handlers of an application.

    :param routers: those that are around, with their names, whether they are mounted or not.
    """
    report = Report([listed for listed, _ in _listed(srf)], srf.routes)
    if not any(one.kind != _ERROR for one in report.handlers):
        report.hints.append("it handles nothing, so servers send it nothing: it can only call")
        return report
    _unreachable(report)
    mounted = {id(router) for router in _below(srf)}
    own = {id(router): name for name, router in routers if id(router) not in mounted}
    inner = {id(below) for _, router in routers for below in _below(router)}
    for known, name in own.items():
        if known not in inner:
            report.faults.append(
                f"the router {name} is not mounted: srf.use({name.rpartition('.')[2]})"
            )
    _missing(report)
    return report


def _listed(router: Any, depth: int = 0) -> Iterator[tuple[Listed, Any]]:
    from drachtwist.app.router import Router, arity

    for method, handler in router.layers:
        if isinstance(handler, Router):
            for listed, function in _listed(handler, depth + 1):
                if method == "*" or listed.method in ("*", method):
                    yield listed, function
            continue
        kind = _KINDS[arity(handler)]
        yield Listed(method, kind, _name(handler), _place(handler), depth), handler


def _below(router: Any) -> Iterator[Any]:
    from drachtwist.app.router import Router

    for _, handler in router.layers:
        if isinstance(handler, Router):
            yield handler
            yield from _below(handler)


def _unreachable(report: Report) -> None:
    """Find handlers behind one that ends the chain, and error handlers in front of everything."""
    enders: dict[str, str] = {}
    before: set[str] = set()
    for one in report.handlers:
        method = one.method
        if one.kind == _ERROR:
            if not before or (method != "*" and not before & {method, "*"}):
                report.faults.append(
                    f"{_at(one)} takes no errors: an error handler stands behind what may fail"
                )
            continue
        ender = enders.get(method) or enders.get("*")
        if ender is not None:
            report.faults.append(
                f"{_at(one)} is never asked about {method}: {ender} stands before it, and without a"
                " parameter 'next' it hands nothing on"
            )
        elif one.kind == _PLAIN:
            enders[method] = one.name
        before.add(method)
    if any(one.method == "CANCEL" for one in report.handlers):
        report.hints.append("a handler of CANCEL is never called: use req.on_cancel of the INVITE")


def _missing(report: Report) -> None:
    """Say what most applications have."""
    ended = {one.method for one in report.handlers if one.kind != _ERROR}
    all_methods = any(one.kind == _PLAIN and one.method == "*" for one in report.handlers)
    if not all_methods and "OPTIONS" not in ended:
        report.hints.append(
            "OPTIONS has no handler: who asks whether the application is there is refused"
        )
    for at, one in enumerate(report.handlers):
        if one.method != "REGISTER" or one.kind != _PLAIN or one.name == "Registrar":
            continue
        if not any(
            other.kind == _MIDDLEWARE and other.method in ("*", "REGISTER")
            for other in report.handlers[:at]
        ):
            report.hints.append("REGISTER has no middleware in front: anybody may register")
    if not ended - {"*"}:
        report.hints.append("there is middleware for all methods, and no handler behind it")


def described(name: str, srf: Any, report: Report) -> Iterator[str]:
    """Write a report down for people."""
    about = f"tags {', '.join(srf.tags)}" if srf.tags else "no tags"
    yield f"{name}: {about}"
    wide = max([len(one.name) + 2 * one.depth for one in report.handlers], default=0)
    for one in report.handlers:
        method = "all methods" if one.method == "*" else one.method
        text = f"{'  ' * one.depth}{one.name}".ljust(wide)
        yield f"  {method:<12} {text}  {one.kind:<14} {one.place}".rstrip()
    yield f"servers are asked for: {', '.join(report.routes) or 'nothing'}"
    for title, texts in (("cannot work", report.faults), ("perhaps missing", report.hints)):
        if texts:
            yield f"{title}:"
            yield from (f"  {text}" for text in texts)
    if not report.faults and not report.hints:
        yield "nothing is missing"


def _name(handler: Any) -> str:
    bound = getattr(handler, "__self__", None)
    if bound is not None and not inspect.ismodule(bound) and not inspect.isclass(bound):
        return f"{type(bound).__name__}.{handler.__name__}"
    name = getattr(handler, "__name__", None)
    return name if isinstance(name, str) else type(handler).__name__


def _place(handler: Any) -> str:
    function = inspect.unwrap(handler)
    if not hasattr(function, "__code__"):
        function = getattr(function, "__func__", None) or type(function)
    try:
        file = inspect.getsourcefile(function)
        line = inspect.getsourcelines(function)[1]
    except (OSError, TypeError):
        return ""
    if file is None:
        return ""
    shown = os.path.relpath(file)
    if shown.startswith(".."):  # of a package: its module says more than a path
        return str(getattr(function, "__module__", ""))
    return f"{shown}:{line}"


def _at(one: Listed) -> str:
    return f"{one.name} ({one.place})" if one.place else one.name
