"""Questions to the DNS, and the answers that are still good, on ``twisted.names``.

The hosts file comes first: a name that stands in it has those addresses and no services. Everything
else is asked of the name servers, one after the other, over UDP, and over TCP when an answer does
not fit into a datagram. Answers are kept as long as their records say, also those that there is
nothing, and a question that several ask at the same time goes out once.

Questions are about names as they are. What a name may stand for, with the domains that the system
searches in behind it, :meth:`Names.full_names` says.
"""

from __future__ import annotations

import os
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Generic, NamedTuple, TypeVar, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.protocol import connectionDone
from twisted.names import dns
from twisted.python.failure import Failure

from drachtwist.errors import LocalProtocolError
from drachtwist.net.logs import Logger
from drachtwist.net.steady import steady
from drachtwist.net.udp import UdpSocket, listening_socket
from drachtwist.sip.locating import Naptr, Question, Records, Srv

__all__ = ["NameServer", "Names", "name_server"]

NameServer = tuple[str, int]
"""Address and port."""

WAITS = (1.0, 2.0, 3.0, 4.0)
"""Seconds that each attempt waits for an answer; the next one goes to the next server.

So it is unless the system's file has the options ``timeout`` or ``attempts``.
"""

KEPT = 4096
"""How many answers are kept."""

LONGEST = 86400.0
"""Seconds that an answer is kept at most."""

LONGEST_NOTHING = 300.0
"""The same for the answer that there is nothing."""

LONGEST_FAILURE = 5.0
"""Seconds for which nothing is asked again that nobody answered, or all refused."""

HOSTS_KEPT = 10.0
"""Seconds that a line of the hosts file is believed."""

# Without EDNS, which is not used here, an answer over UDP has 512 octets (RFC 1035 section 4.2.1);
# some servers do not care. The more it has, the longer names can make it take to read them.
_LONGEST_DATAGRAM = 1232

_KINDS: dict[str, Any] = {
    "A": dns.Record_A,
    "AAAA": dns.Record_AAAA,
    "SRV": dns.Record_SRV,
    "NAPTR": dns.Record_NAPTR,
}
# As many as the C library looks at, and the numbers that it takes at most.
_MAX_SERVERS = 3
_OPTION = re.compile(r"(ndots|timeout|attempts):([0-9]{1,9})")
_MOST = {"ndots": 15, "timeout": 30, "attempts": 5}

_SERVER = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")

_T = TypeVar("_T")


class _System(NamedTuple):
    """What the file of the system says, see resolv.conf(5)."""

    servers: Sequence[NameServer]
    domains: Sequence[str] = ()
    """What is put behind names, the first choice first."""
    ndots: int = 1
    """How many dots a name has that is tried as it is first."""
    waits: Sequence[float] | None = None
    """See :data:`WAITS`; None when the file says nothing."""


class _NoAnswer(Exception):
    """A name server did not answer, or cannot."""


class Names:
    """Answers questions.

    :param reactor: a reactor with ``IReactorUDP`` and ``IReactorTCP``.
    :param servers: the name servers. Unless given, they are those of the system, and so are the
        domains to search in.
    :param resolv_conf: the file that says which those are; it is read again when it changes.
    :param hosts: the file with names of this machine's own.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[NameServer] = (),
        *,
        resolv_conf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
    ) -> None:
        self._reactor = reactor
        self._clock = steady(reactor)
        self._given = list(servers)
        self._system = _File(resolv_conf, _read_system, _read_system([]))
        self._hosts: _File[dict[str, list[str]]] = _File(hosts, _read_hosts, {})
        # Answers by question, the oldest first, and until when they are good.
        self._kept: OrderedDict[Question, tuple[Records | None, float]] = OrderedDict()
        self._waiting: dict[Question, list[Callable[[Records | None], object]]] = {}
        self._asking: set[Deferred[Any]] = set()

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self._kept)

    @property
    def servers(self) -> list[NameServer]:
        """The name servers that are asked."""
        return self._given or list(self._system.read().servers)

    def full_names(self, host: str) -> Sequence[str]:
        """Return what a name may stand for, the first choice first (see resolv.conf(5)).

        The next one is for when there is nothing at all under the one before. A name with a dot at
        its end, and one that stands in the hosts file, is what it is.

        :returns: names in lower case, without a dot at the end.
        """
        name = host.lower()
        if name.endswith("."):
            return (name.rstrip("."),)
        if self._given:
            return (name,)
        system = self._system.read()
        if not system.domains or name in self._hosts.read():
            return (name,)
        full = [f"{name}.{domain}" for domain in system.domains]
        return (name, *full) if name.count(".") >= system.ndots else (*full, name)

    def look_up(self, question: Question, told: Callable[[Records | None], object]) -> None:
        """Find the answer to a question.

        :param told: is called with the records, in the order in which they came, or None when no
            name server answers; before this returns if the answer is known. What it raises is
            logged.
        """
        kept = self._kept.get(question)
        if kept is not None and self._clock.seconds() < kept[1]:
            self._tell(told, kept[0])
            return
        if not _is_domain(question.name):
            self._tell(told, ())
            return
        addresses = self._hosts.read().get(_host_in(question))
        if addresses is not None:
            family = {"A": 4, "AAAA": 6}.get(question.kind)
            fitting = [one for one in addresses if ip_address(one).version == family]
            self._keep(question, fitting, HOSTS_KEPT)
            self._tell(told, fitting)
            return
        waiting = self._waiting.get(question)
        if waiting is not None:
            waiting.append(told)
            return
        self._waiting[question] = [told]
        asking = Deferred.fromCoroutine(self._ask(question))
        self._asking.add(asking)
        asking.addBoth(self._asked, asking, question)

    def stop(self) -> Deferred[Any]:
        """Leave all questions; nobody is told any more.

        :returns: fires when all sockets are closed.
        """
        self._waiting.clear()
        self._kept.clear()
        asking = list(self._asking)
        for one in asking:
            one.cancel()
        return gatherResults(asking)

    def _tell(self, told: Callable[[Records | None], object], records: Records | None) -> None:
        try:
            told(records)
        except Exception:
            self._log.failure("an answer of the DNS made us fail")

    def _keep(self, question: Question, records: Records | None, seconds: float) -> None:
        self._kept.pop(question, None)
        if seconds <= 0:
            return
        self._kept[question] = (records, self._clock.seconds() + seconds)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    # Asking

    def _asked(self, result: Any, asking: Deferred[Any], question: Question) -> None:
        """Take in what became of a question."""
        self._asking.discard(asking)
        waiting = self._waiting.pop(question, None)
        if waiting is None:
            return  # stopped meanwhile
        records: Records | None = None
        seconds = LONGEST_FAILURE
        if not isinstance(result, Failure):
            records, seconds = result
        elif result.check(_NoAnswer) is None:
            self._log.failure("asking for {name} made us fail", result, name=question.name)
        self._keep(question, records, seconds)
        for told in waiting:
            self._tell(told, records)

    async def _ask(self, question: Question) -> tuple[Records, float]:
        """Ask the name servers.

        Servers that refuse, or fail, have no records: many do for questions that they do not know,
        and whoever asks goes on to others.

        :returns: the records, and for how many seconds they are good.
        :raises _NoAnswer: when none of them answers.
        """
        refused = False
        servers = self.servers
        waits = None if self._given else self._system.read().waits
        query = dns.Query(question.name.encode("ascii"), _KINDS[question.kind].TYPE, dns.IN)
        for attempt, wait in enumerate(waits or WAITS):
            server = servers[attempt % len(servers)]
            try:
                answer = await self._over_udp(server, query, wait)
                if answer.trunc:
                    answer = await self._over_tcp(server, query, wait)
            except (_NoAnswer, dns.DNSQueryTimeoutError):
                continue
            if answer.rCode not in (dns.OK, dns.ENAME):
                refused = True
            elif answer.answer and query in answer.queries:
                return _read_answer(question, answer)
        if refused:
            return (), LONGEST_FAILURE
        raise _NoAnswer()

    async def _over_udp(self, server: NameServer, query: dns.Query, wait: float) -> dns.Message:
        try:
            protocol = _Datagrams(self, self._reactor, server)
        except CannotListenError:
            raise _NoAnswer() from None
        try:
            answer: dns.Message = await protocol.query(server, [query], wait)
            return answer
        except (OSError, ConnectError):
            raise _NoAnswer() from None
        finally:
            protocol.close()

    async def _over_tcp(self, server: NameServer, query: dns.Query, wait: float) -> dns.Message:
        kind = TCP6ClientEndpoint if ":" in server[0] else TCP4ClientEndpoint
        endpoint = kind(self._reactor, *server, timeout=wait)
        try:
            protocol = await connectProtocol(endpoint, _Stream(self, self._reactor))
        except ConnectError:
            raise _NoAnswer() from None
        try:
            answer: dns.Message = await protocol.query([query], wait)
            return answer
        finally:
            protocol.transport.abortConnection()
            await protocol.gone

    # What twisted.names calls

    def connectionMade(self, protocol: dns.DNSProtocol) -> None:
        """A connection to a name server is up."""

    def connectionLost(self, protocol: dns.DNSProtocol) -> None:
        """A connection to a name server is gone."""

    def messageReceived(
        self, message: dns.Message, protocol: Any, address: NameServer | None = None
    ) -> None:
        """Pass over what nobody asked for."""


def _fail(protocol: Any, error: Exception) -> None:
    """Fail what waits for an answer."""
    waiting, protocol.liveMessages = protocol.liveMessages, {}
    for result, timer in waiting.values():
        timer.cancel()
        if not result.called:
            result.errback(error)


class _Datagrams(dns.DNSDatagramProtocol):
    """A socket for one question; it takes answers from where that went to only."""

    _log = Logger()

    def __init__(self, controller: Names, reactor: Any, server: NameServer) -> None:
        super().__init__(controller, steady(reactor))
        self.startProtocol()
        self._server = server
        anywhere = "::" if ":" in server[0] else "0.0.0.0"
        bound = listening_socket(socket.SOCK_DGRAM, anywhere, 0)
        self._socket = UdpSocket(reactor, bound, self)
        self.transport = cast(Any, self)

    def write(self, data: bytes, address: NameServer) -> None:
        """Send, for the protocol."""
        error = self._socket.send(data, *address)
        if error is not None:
            raise error

    def datagram_received(self, data: bytes, host: str, port: int) -> None:
        """Take in a datagram; what is from elsewhere, or no DNS message, is passed over."""
        if (host, port) != self._server or len(data) > _LONGEST_DATAGRAM:
            return
        try:
            self.datagramReceived(data, (host, port))
        except Exception as error:
            self._log.debug("no answer from {peer}: {error}", peer=host, error=error)

    def datagram_refused(self, data: bytes, host: str, port: int, error: Exception) -> None:
        """Note that nobody listens there."""
        _fail(self, _NoAnswer())

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        _fail(self, _NoAnswer())


class _Stream(dns.DNSProtocol):
    """A connection for one question."""

    _log = Logger()

    def __init__(self, controller: Names, reactor: Any) -> None:
        super().__init__(controller, steady(reactor))
        self.gone: Deferred[None] = Deferred()

    def stringReceived(self, data: bytes) -> None:
        """Take in a message."""
        try:
            super().stringReceived(data)
        except Exception as error:
            self._log.debug("no answer from a name server: {error}", error=error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note that the connection is gone."""
        _fail(self, _NoAnswer())
        self.gone.callback(None)


# Reading


def _read_answer(question: Question, message: dns.Message) -> tuple[Records, float]:
    """Read the records that answer a question, and how long they are good."""
    names = {question.name}
    seconds = LONGEST
    records: list[Srv | Naptr | str] = []
    for header in message.answers:
        payload = header.payload
        if _text(header.name) not in names:
            continue
        if isinstance(payload, dns.Record_CNAME):
            names.add(_text(payload.name))
        elif isinstance(payload, _KINDS[question.kind]):
            records.append(_record(payload))
        else:
            continue
        seconds = min(seconds, float(header.ttl or 0))
    if records:
        return records, seconds
    # RFC 2308: the SOA record says how long there is nothing.
    for header in message.authority:
        if isinstance(header.payload, dns.Record_SOA):
            return (), float(min(header.ttl or 0, header.payload.minimum, LONGEST_NOTHING))
    return (), 0


def _record(payload: Any) -> Srv | Naptr | str:
    if isinstance(payload, dns.Record_SRV):
        return Srv(payload.priority, payload.weight, payload.port, _text(payload.target))
    if isinstance(payload, dns.Record_NAPTR):
        flags, service, regexp = (
            part.string.decode("latin-1")
            for part in (payload.flags, payload.service, payload.regexp)
        )
        replacement = _text(payload.replacement)
        return Naptr(payload.order, payload.preference, flags, service, regexp, replacement)
    family = socket.AF_INET6 if isinstance(payload, dns.Record_AAAA) else socket.AF_INET
    return socket.inet_ntop(family, payload.address)


def _text(name: dns.Name) -> str:
    return name.name.decode("latin-1").lower().rstrip(".")


def _is_domain(name: str) -> bool:
    """Return whether a name can be asked for: labels of 1 to 63 octets, 253 all together."""
    return (
        name.isascii()
        and len(name) <= 253
        and all(0 < len(label) < 64 for label in name.split("."))
    )


def _host_in(question: Question) -> str:
    """Return the host that a question is about: that of ``_sip._udp.host`` is ``host``."""
    if question.kind != "SRV" or question.name[:1] != "_":
        return question.name
    return question.name.split(".", 2)[-1]


class _File(Generic[_T]):
    """What a file of the system says; it is read again when it changed."""

    def __init__(self, path: str, read: Callable[[list[str]], _T], otherwise: _T) -> None:
        self._path = path
        self._read = read
        self._otherwise = otherwise
        self._value = otherwise
        self._seen: tuple[int, int] | None = None

    def read(self) -> _T:
        """Return what it says now."""
        try:
            found = os.stat(self._path)
            seen = (found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                with open(self._path, encoding="latin-1") as file:
                    self._value = self._read(file.read().splitlines()) or self._otherwise
                self._seen = seen
        except OSError:
            self._value, self._seen = self._otherwise, None
        return self._value


def _read_system(lines: list[str]) -> _System:
    servers: list[NameServer] = []
    # The domain of this machine, unless the file names others.
    domains = [socket.gethostname().partition(".")[2]]
    options: dict[str, int] = {}
    for line in lines:
        words = re.split("[#;]", line, maxsplit=1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            try:
                servers.append((str(ip_address(words[1])), dns.PORT))
            except ValueError:
                continue
        elif words[0] == "domain":
            domains = words[1:2]
        elif words[0] == "search":
            domains = words[1:]
        elif words[0] == "options":
            for found in filter(None, map(_OPTION.fullmatch, words[1:])):
                options[found[1]] = min(int(found[2]), _MOST[found[1]])
    domains = [domain.lower().strip(".") for domain in domains]
    servers = servers[:_MAX_SERVERS] or [("127.0.0.1", dns.PORT)]
    waits = None
    if "timeout" in options or "attempts" in options:
        rounds = max(options.get("attempts", 2), 1)
        waits = [float(max(options.get("timeout", 5), 1))] * (rounds * len(servers))
    usable = [domain for domain in domains if _is_domain(domain)]
    return _System(servers, usable, options.get("ndots", 1), waits)


def _read_hosts(lines: list[str]) -> dict[str, list[str]]:
    hosts: dict[str, list[str]] = {}
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        try:
            address = str(ip_address(address))
        except ValueError:
            continue
        for name in names:
            hosts.setdefault(name.lower().rstrip("."), []).append(address)
    return hosts


def name_server(text: str) -> NameServer:
    """Read the address of a name server: ``192.0.2.1``, ``192.0.2.1:53``, ``[2001:db8::1]:53``.

    :raises LocalProtocolError: when it is something else.
    """
    found = _SERVER.fullmatch(text)
    try:
        if found is None:
            return str(ip_address(text)), dns.PORT
        number = int(found[3])
        if not 0 < number < 65536:
            raise ValueError(number)
        return str(ip_address(found[1] or found[2])), number
    except ValueError:
        raise LocalProtocolError(
            f"a name server is ADDRESS or ADDRESS:PORT, not {text!r}"
        ) from None
