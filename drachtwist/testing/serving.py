"""The embedded server, as it is, on a machine in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionLost

from drachtwist.errors import LocalProtocolError
from drachtwist.net.gate import Gate
from drachtwist.net.sip.transports import SipTransports
from drachtwist.net.udp import DatagramHandler
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.routing import Router
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.locating import Question, Records
from drachtwist.testing.datagrams import Datagrams, MemorySocket
from drachtwist.testing.errors import PhoneError
from drachtwist.testing.hosts import Host
from drachtwist.testing.links import What, matcher
from drachtwist.testing.wiretap import Refusal

if TYPE_CHECKING:
    from drachtwist.testing.streams import MemoryTransport

__all__ = ["Server"]


class _Bound:
    """An address that was taken, as a socket tells it."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)

    def getsockname(self) -> tuple[str, int]:
        return self.address


class _Transports(SipTransports):
    """SIP over memory.

    :param datagrams: what carries UDP.
    """

    def __init__(self, datagrams: Datagrams, reactor: Host, *args: Any, **options: Any) -> None:
        super().__init__(reactor, *args, **options)
        self._datagrams = datagrams
        self._host = reactor

    def bind(self, hosts: list[str], port: int, protocols: list[str]) -> list[tuple[str, str, Any]]:
        """Take an address for each transport."""
        bound: list[tuple[str, str, Any]] = []
        for host in hosts:
            if host != self._host.host:
                raise LocalProtocolError(
                    f"the server {self._host.name} has the address {self._host.host}, not {host}"
                )
            for protocol in protocols:
                where = (host, port or 5060)
                taken = (
                    self._datagrams.receivers if protocol == "udp" else self._host.internet.ports
                )
                if where in taken:
                    raise CannotListenError(*where, OSError("the address is in use"))
                bound.append((protocol, host, _Bound(*where)))
        return bound

    def open_datagrams(self, bound: Any, handler: DatagramHandler) -> MemorySocket:
        """Receive datagrams."""
        return MemorySocket(self._host.internet.clock, self._datagrams, bound.address, handler)

    def open_streams(self, bound: Any, gate: Gate) -> Any:
        """Take in connections."""
        host, port = bound.address
        return self._host.listenTCP(port, gate, interface=host)


class _Names:
    """The names of the network.

    :param zone: records by kind and name, besides addresses.
    """

    def __init__(self, host: Host, zone: Mapping[tuple[str, str], Records]) -> None:
        self._host = host
        self._zone = zone

    def look_up(self, question: Question, told: Callable[[Records | None], object]) -> None:
        """Answer a question at once."""
        kind, name = question.kind, question.name.lower()
        found: Records = self._zone.get((kind, name), ())
        if not found and kind in ("A", "AAAA"):
            address = self._host.internet.names.get(name)
            if address is not None and (":" in address) == (kind == "AAAA"):
                found = (address,)
        told(found)

    def full_names(self, host: str) -> Sequence[str]:
        """Return a name as it is."""
        return (host.lower().rstrip("."),)

    def stop(self) -> Deferred[Any]:
        """Leave no question: there are none."""
        return succeed(None)


class Server:
    """An embedded server in memory, with its machine.

    :param host: the machine.
    :param zone: names that it knows, see :meth:`Network.host`.
    :param settings: those of :class:`~drachtwist.server.config.ServerConfig`.
    """

    def __init__(
        self,
        host: Host,
        datagrams: Datagrams,
        zone: Mapping[tuple[str, str], Records],
        settings: Mapping[str, Any],
    ) -> None:
        self.name = host.name
        self.host = host
        self._datagrams = datagrams
        self._zone = zone
        given = {
            "admin_host": host.host,
            "contacts": (f"sip:{host.host}:5060;transport=udp,tcp",),
            **settings,
        }
        self.config = ServerConfig(**given)
        self.links: list[MemoryTransport] = []
        """The server's ends of the connections to applications."""
        self.refusals: list[Refusal] = []
        """What is refused to applications; see :meth:`refuse`."""
        self.service: DrachtioServer
        self._start()

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.address}>"

    @property
    def address(self) -> str:
        """Where it is called: host and port."""
        return f"{self.host.host}:{self.port}"

    def dial(self, handler: RequestHandler) -> None:
        """Connect to an application for requests, from now on."""
        self.config = replace(
            self.config, request_handlers=(*self.config.request_handlers, handler)
        )
        core = self.service.core
        if core is not None:
            self.service.config = core.config = self.config
            core.router = Router(self.config.request_handlers, core.clients)

    @property
    def port(self) -> int:
        """The port for SIP."""
        transports = self.service.transports
        return transports.listeners[0].port if transports is not None else 5060

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return bool(self.service.running)

    def _start(self) -> None:
        service = self.service = DrachtioServer(self.config, self.host, self.host.internet.clock)
        service.make_transports = partial(_Transports, self._datagrams)
        service.make_names = lambda *_: _Names(self.host, self._zone)  # type: ignore
        outcome: list[Any] = []
        service.startService()
        service.when_listening().addBoth(outcome.append)
        self.host.internet.clock.settle()
        if outcome and outcome[0] is not None:
            outcome[0].raiseException()

    def stop(self) -> Deferred[Any]:
        """Close everything."""
        return self.service.stopService()

    def down(self) -> None:
        """Take the server down at once, as if the machine was switched off.

        Applications lose their connections, calls get no answer; :meth:`up` starts another one.
        """
        self.lose()
        self.service.stopService().addErrback(lambda _: None)
        self.service.hurry()
        self.host.internet.clock.settle()

    def up(self) -> None:
        """Start the server again; it knows nothing of what was before."""
        if not self.is_up:
            self._start()

    def refuse(
        self, what: What = None, count: int | None = 1, reason: str = "refused by the test"
    ) -> None:
        """Refuse the next commands of applications: they get a NOK, and nothing is sent.

        :param what: which messages: ``"INVITE"``, ``200``, ``"200 BYE"``, a function, or all.
        :param count: how many; None for all from now on.
        """
        matcher(what)
        self.refusals.append(Refusal(count, what, reason))

    def expects_applications(self) -> None:
        """See that applications can connect.

        :raises PhoneError: when the server is down.
        """
        if not self.is_up:
            raise PhoneError(f"the server {self.name} is down: up() starts it again")

    def lose(self) -> None:
        """Break the connections of all applications; the server goes on."""
        links, self.links = self.links, []
        for link in links:
            if link.connected:
                link.lose(ConnectionLost("the connection was broken by the test"))
        self.host.internet.clock.settle()
