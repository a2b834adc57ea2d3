"""A network in memory: applications, servers and phones, and the time that passes for all."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar, cast

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist.app.srf import Srf
from drachtwist.net import tasks
from drachtwist.server.config import RequestHandler
from drachtwist.sip.locating import Records
from drachtwist.testing import idle
from drachtwist.testing.call import Call
from drachtwist.testing.datagrams import Datagrams
from drachtwist.testing.errors import NothingHappens, PhoneError, StillThere
from drachtwist.testing.failures import LoggedFailures
from drachtwist.testing.guard import Guard
from drachtwist.testing.history import History
from drachtwist.testing.hosts import Host, Internet, Port
from drachtwist.testing.loops import SimulatedLoop
from drachtwist.testing.media import goes, place_of
from drachtwist.testing.phone import Phone
from drachtwist.testing.recording import Recorder
from drachtwist.testing.rendering import ladder
from drachtwist.testing.serving import Server
from drachtwist.testing.streams import MemoryTransport
from drachtwist.testing.web import WebResponse, fetch
from drachtwist.testing.wiretap import LinkTap, watch_sip

__all__ = ["Network"]

T = TypeVar("T")
cooperation: Any = task
_Named = TypeVar("_Named")

# Each network begins long after the one before: what an application kept of that has expired.
_numbers = itertools.count(1)
_APART = 1_000_000.0

_LISTENS_AT = 9021


class _ByName(dict[str, _Named]):
    """Things by their names; who asks for another one is told which there are."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, name: str) -> _Named:
        have = ", ".join(sorted(self)) or "none"
        raise PhoneError(f"there is no {self._kind} {name!r} in this network (there are: {have})")


class Network:
    """Applications, servers and phones in memory.

    A context manager; in pytest the fixture ``sip`` gives one.

    :param guard: keep this thread from real time and real sockets meanwhile.
    """

    def __init__(self, *, guard: bool = True) -> None:
        self.number = next(_numbers)
        """How many networks there have been in this process, with this one."""
        self.internet = Internet()
        self.clock = self.internet.clock
        """The time: a Twisted ``Clock``, which is shared by all."""
        self.clock.rightNow = self.began = self.number * _APART
        self.history = History(self.clock.seconds)
        """What passed."""
        self.datagrams = Datagrams(self.clock, self.history)
        self.zone: dict[tuple[str, str], Records] = {}
        """What the DNS says, by kind and name: ``{("SRV", "_sip._udp.example.net"): [Srv(...)]}``;
        addresses come from :meth:`host`."""
        self.phones: dict[str, Phone] = _ByName("phone")
        """The phones, by name."""
        self.servers: dict[str, Server] = _ByName("server")
        """The servers, by name."""
        self.applications: dict[str, Srf] = _ByName("application")
        """The applications, by name."""
        self._failures = LoggedFailures(self.history)
        self._guard = Guard() if guard else None
        self._hosts = itertools.count(1)
        self._hosts_of_phones = itertools.count()
        self._reactors: list[tuple[Srf, Any]] = []
        self._modules: list[str] = []
        self._environ: dict[str, str | None] = {}
        self._links: dict[MemoryTransport, LinkTap] = {}
        self._sip: set[MemoryTransport] = set()
        self._recorders: list[Recorder] = []
        self._browser: Host | None = None
        self._loop: SimulatedLoop | None = None
        self._tasks_before = False
        self._is_open = False
        self.internet.on_connected.append(self._connected)

    def __repr__(self) -> str:
        return f"<Network with {', '.join([*self.servers, *self.applications, *self.phones])}>"

    # From beginning to end

    def __enter__(self) -> Network:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            add_note = getattr(error, "add_note", None)
            if add_note is not None:
                add_note(f"\nWho sent what to whom:\n{self.ladder()}")
        self.close()
        if error is None:
            self.check_failures()

    def open(self) -> None:
        """Begin; entering it does the same."""
        if self._is_open:
            return
        self._is_open = True
        self._failures.begin()
        # What is done bit by bit, sending the body of a web request say, is done on our time.
        self._cooperator = cooperation._theCooperator
        cooperation._theCooperator = task.Cooperator(
            scheduler=lambda step: self.clock.callLater(0, step)
        )
        if self._guard is not None:
            self._guard.enter()

    def close(self) -> None:
        """End everything that is left, without a test noticing: calls, applications, servers."""
        if not self._is_open:
            return
        self._is_open = False
        # What comes now is not what the test did.
        for tap in self._links.values():
            tap.closed()
        for recorder in self._recorders:
            recorder.close()
        try:
            for phone in self.phones.values():
                phone.link.restore()
            for srf in self.applications.values():
                srf.stop().addErrback(lambda _: None)
            self.advance(60)
            for server in self.servers.values():
                server.stop().addErrback(lambda _: None)
                server.service.hurry()
            for phone in self.phones.values():
                phone.leave()
            self.advance(60)
        finally:
            for srf, reactor in self._reactors:
                srf._connections.run_on(reactor)
            for name in self._modules:
                sys.modules.pop(name, None)
            for variable, value in self._environ.items():
                if value is None:
                    os.environ.pop(variable, None)
                else:
                    os.environ[variable] = value
            if self._loop is not None:
                self._loop.end()
                tasks.switch(self._tasks_before)
            cooperation._theCooperator = self._cooperator
            if self._guard is not None:
                self._guard.leave()
            self._failures.end()

    def real_world(self) -> AbstractContextManager[None]:
        """Allow real time and real sockets for a while: ``with net.real_world(): ...``."""
        return (self._guard or Guard()).paused()

    def use_asyncio(self) -> None:
        """Run the coroutines of applications as tasks of a loop of asyncio, as under Twisted's
        asyncio reactor: ``asyncio.sleep``, ``timeout`` and ``gather`` go by the time of the
        network. It has no sockets and no threads. It comes before :meth:`serve`.

        :raises PhoneError: when an application is served already.
        """
        if self.applications:
            raise PhoneError("an application is served already: use_asyncio() comes before serve()")
        if self._loop is None:
            self._loop = SimulatedLoop(self.clock)
            self._tasks_before = tasks.switch(True)

    # What there is

    def server(self, name: str = "server", **settings: Any) -> Server:
        """Make a server, or return the one of that name.

        :param settings: those of :class:`~drachtwist.server.config.ServerConfig`.
        :raises PhoneError: for settings of a server that is there already.
        """
        if name in self.servers:
            if settings:
                raise PhoneError(
                    f"the server {name!r} is there already: give it its settings before"
                    " serve() and phone()"
                )
            return self.servers[name]
        host = Host(self.internet, name, f"10.0.0.{next(self._hosts)}")
        server = Server(host, self.datagrams, self.zone, settings)
        self.internet.names.setdefault(name.lower(), host.host)
        self.servers[name] = server
        return server

    def serve(
        self,
        app: Srf,
        *,
        server: str = "server",
        mode: str = "inbound",
        name: str | None = None,
        methods: str = "*",
        **options: Any,
    ) -> Srf:
        """Connect an application to a server.

        :param server: the name of the server, which is made if there is none.
        :param mode: ``inbound``: the application connects to the server. ``outbound``: it listens,
            and the server connects to it for each request.
        :param name: what messages call it.
        :param methods: for which requests the server connects to it in ``outbound`` mode; all
            unless given.
        :param options: of :meth:`Srf.connect` and :meth:`Srf.listen`.
        :returns: the application, connected.
        :raises PhoneError: for what is no application, and for another mode.
        """
        if not isinstance(app, Srf):
            raise PhoneError(f"an application is an Srf, not {app!r}; net.load() loads a file")
        if mode not in ("inbound", "outbound"):
            raise PhoneError(f"the mode is 'inbound' or 'outbound', not {mode!r}")
        known = next((one for one, srf in self.applications.items() if srf is app), None)
        if known is None:
            number = len(self.applications) + 1
            name = name or ("app" if number == 1 else f"app{number}")
            host = Host(self.internet, name, f"10.0.2.{number}")
            self.internet.names[name.lower()] = host.host
            self._reactors.append((app, app._connections.run_on(host)))
            self.applications[name] = app
        else:
            host = app._connections.reactor
        found = self.server(server)
        options.setdefault("secret", found.config.secret)
        options.setdefault("ping_interval", None)
        if mode == "inbound":
            options.setdefault("back_off", lambda failures: min(2.0**failures, 30.0))
            found.expects_applications()
            connection = app.connect(
                host=found.host.host, port=found.service.admin_port or 0, **options
            )
            self._wait(connection.when_ready(), f"{server} does not take the application")
        else:
            port = _LISTENS_AT + len(self.internet.ports)
            options.setdefault("allow", [found.host.host])
            listener = app.listen(host=host.host, port=port, **options)
            self._wait(listener.when_listening(), "the application cannot listen")
            found.dial(RequestHandler(f"tcp://{host.host}:{port}", methods))
        self.settle()
        return app

    def load(self, path: str | os.PathLike[str], **environ: str) -> ModuleType:
        """Run a file of Python anew, and return the module.

        :param environ: variables that it finds in its environment, as long as the network is.
        :raises FileNotFoundError: when there is no such file.
        """
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        name = f"_drachtwist_loaded_{self.number}_{len(self._modules)}_{file.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None, "a file of Python has a loader"
        module = importlib.util.module_from_spec(spec)
        for variable, value in environ.items():
            self._environ.setdefault(variable, os.environ.get(variable))
            os.environ[variable] = value
        sys.modules[name] = module
        self._modules.append(name)
        spec.loader.exec_module(module)
        return module

    def phone(self, name: str, *, server: str = "server", **options: Any) -> Phone:
        """Make a phone.

        :param name: its user, and what messages call it.
        :param server: whom it sends its requests to.
        :param options: see :class:`Phone`.
        :raises PhoneError: when there is one of that name.
        """
        if name in self.phones:
            raise PhoneError(f"there is a phone {name!r} already: it is net.phones[{name!r}]")
        if not name.isidentifier():
            raise PhoneError(f"the name of a phone is one word, not {name!r}")
        row, place = divmod(next(self._hosts_of_phones), 250)
        host = Host(self.internet, name, f"10.{min(row, 1)}.{row or 1}.{place + 1}")
        phone = self.phones[name] = Phone(self, host, self.server(server), **options)
        return phone

    def host(self, name: str, where: Phone | Server | Host | str) -> None:
        """Let a name have an address.

        :param where: a phone, a server, or an address.
        """
        if isinstance(where, Phone | Server):
            where = where.host
        self.internet.names[name.lower().rstrip(".")] = (
            where.host if isinstance(where, Host) else where
        )

    def machine(self, name: str) -> Host:
        """Make a machine for something else: a reactor for a web server that applications ask."""
        host = Host(self.internet, name, f"10.0.3.{next(self._hosts)}")
        self.internet.names[name.lower()] = host.host
        return host

    def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
    ) -> WebResponse:
        """Ask a web server of the network, that of an application say: ``http://app:8080/calls``.

        Time passes until it has answered.
        """
        if self._browser is None:
            self._browser = self.machine("browser")
        data = body.encode() if isinstance(body, str) else body
        return self.run(fetch(self._browser, method, url, data, headers or {}))

    # Time

    @property
    def seconds(self) -> float:
        """How much time has passed since the network began."""
        return self.clock.seconds() - self.began

    def settle(self) -> None:
        """Let happen what takes no time; phones do so by themselves."""
        with self._running():
            self.clock.settle()

    def _running(self) -> AbstractContextManager[None]:
        return nullcontext() if self._loop is None else self._loop.entered()

    def advance(self, seconds: float) -> None:
        """Let time pass; everything happens at its own time."""
        with self._running():
            self.clock.advance(seconds)

    def until(self, holds: Callable[[], object], within: float = 3600.0) -> None:
        """Let time pass until something holds.

        :param within: seconds after which it is too late.
        :raises NothingHappens: when it is too late, or nothing will happen any more.
        """
        self._pass_until(holds, within, "what is waited for does not come")

    def run(self, waiting: Awaitable[T], within: float = 86_400.0) -> T:
        """Await something while time passes; for async tests.

        :param within: seconds after which it is too late.
        :raises NothingHappens: when it is too late, or nothing will happen any more.
        :raises TypeError: for what waits for something else than a Deferred.
        """
        if isinstance(waiting, Deferred):
            return cast(T, self._wait(waiting, "what is awaited does not come", within))
        coroutine: Any = waiting.__await__()
        while True:
            try:
                awaited = coroutine.send(None)
            except StopIteration as over:
                self.settle()  # what it did last takes effect
                result: T = over.value
                return result
            except BaseException:
                self.settle()
                raise
            if not isinstance(awaited, Deferred):
                coroutine.close()
                raise TypeError(
                    f"a test on made-up time can await Deferreds, not {awaited!r}: asyncio's own"
                    " waiting needs its loop, and that needs real time"
                )
            self._pass_until(
                lambda one=awaited: _is_known(one),  # type: ignore[misc]
                within,
                "what the test awaits does not come",
            )

    def _wait(self, deferred: Deferred[T], problem: str, within: float = 3600.0) -> T:
        results: list[Any] = []
        deferred.addBoth(results.append)
        self._pass_until(lambda: results, within, problem)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return cast(T, results[0])

    def _pass_until(self, holds: Callable[[], object], within: float, problem: str) -> None:
        until = self.clock.seconds() + within
        while True:
            self.settle()
            if holds():
                return
            when = self.clock.next_time()
            if when is None:
                raise NothingHappens(f"{problem}: nothing is under way, and no timer is set")
            if when > until:
                raise NothingHappens(f"{problem} within {within:g} s")
            self.advance(max(when - self.clock.seconds(), 0.0))

    # What passed

    def ladder(self) -> str:
        """Draw who sent what to whom, and warnings of the log beside it."""
        return ladder(self.history.entries, self._names(), self.began)

    def _names(self) -> dict[str, str]:
        named: dict[str, str] = {}
        things: list[Mapping[str, Phone] | Mapping[str, Server]] = [self.phones, self.servers]
        for group in things:
            named.update({one.host.host: name for name, one in group.items()})
        return named

    def record(self, path: str | os.PathLike[str]) -> None:
        """Write down all frames between applications and servers from now on, see
        :mod:`drachtwist.testing.recording`. Connections that are up by then are left out, so it
        comes before :meth:`serve`.

        :raises PhoneError: when an application is connected already.
        """
        if self._links:
            raise PhoneError("an application is connected already: record() comes before serve()")
        self._recorders.append(Recorder(Path(path), self.clock.seconds))

    def flush_errors(self, *kinds: Callable[..., BaseException]) -> list[Failure]:
        """Take the failures that were logged, so that they do not fail the test.

        :param kinds: of which kinds; all if there are none.
        """
        return self._failures.flush(*kinds)

    def check_failures(self) -> None:
        """See that nothing has failed that only the log was told of.

        :raises AssertionError: with the tracebacks.
        """
        failures = self._failures.failures
        if failures:
            text = self._failures.text()
            failures.clear()
            raise AssertionError(f"the application failed while the test ran:\n{text}")

    def assert_idle(self) -> None:
        """See that nothing is left of calls, once transactions have had their time.

        :raises StillThere: says what is left.
        """
        self.settle()
        left = idle.left_at_once(self)
        until = self.clock.seconds() + idle.LINGER
        while not left and (found := idle.left_in_the_end(self)):
            when = self.clock.next_time()
            if when is None or when > until:
                left = found
                break
            self.advance(max(when - self.clock.seconds(), 0.0))
        if left:
            raise StillThere("\n".join(["the network is not idle:", *(f"- {one}" for one in left)]))

    # What parts of it use

    def carry_keys(self, call: Call, keys: str) -> None:
        """Carry keys that are pressed in the sound to where the descriptions lead."""
        where = place_of(call.remote_sdp)
        for phone in self.phones.values():
            for other in phone.calls:
                if other.up and other is not call and place_of(other.local_sdp) == where:
                    if goes(call.local_sdp, call.remote_sdp):
                        other.pressed += keys
                    return
        call.phone.remark(f"keys {keys} go to {where}, where nobody is")

    def other_connections(self) -> list[str]:
        """Name the connections that carry neither frames nor SIP."""
        return [
            f"{one.getHost().host} to {one.getPeer().host}:{one.getPeer().port}"
            for one in self.internet.connections
            if one not in self._links and one not in self._sip
        ]

    def _connected(self, near: MemoryTransport, far: MemoryTransport, port: Port) -> None:
        where = (port.host, port.port)
        for server in self.servers.values():
            if where == (server.host.host, server.service.admin_port):
                self._linked(near, far, server, near, "app")
                return
            if near.getHost().host == server.host.host and port.host.startswith("10.0.2."):
                self._linked(far, near, server, near, "server")
                return
        known = {(one.host.host, one.port) for one in self.servers.values()}
        known.update(one.agent.where for one in self.phones.values())
        if where in known:
            self._sip.add(near)
            watch_sip(near, far, self.history)

    def _linked(
        self,
        application: MemoryTransport,
        server_end: MemoryTransport,
        server: Server,
        near: MemoryTransport,
        opener: str,
    ) -> None:
        tap = self._links[near] = LinkTap(application, server_end, server.refusals)
        server.links.append(server_end)
        for recorder in self._recorders:
            tap.record(recorder, opener)
        before = near.on_lost

        def lost(reason: Failure) -> None:
            tap.closed()
            if server_end in server.links:
                server.links.remove(server_end)
            self._links.pop(near, None)
            if before is not None:
                before(reason)

        near.on_lost = lost


def _is_known(deferred: Deferred[Any]) -> bool:
    """Return whether a Deferred has its result."""
    return (
        deferred.called
        and not deferred.paused
        and not isinstance(getattr(deferred, "result", None), Deferred)
    )
