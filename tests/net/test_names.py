"""Questions to name servers: real messages over real sockets, to servers on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net import names
from drachtwist.net.names import Names, name_server
from drachtwist.net.steady import SteadyClock
from drachtwist.sip.locating import Naptr, Question, Records, Srv
from tests.interop.peers import free_port
from tests.nameserver import NameServer, a, naptr, srv

LONG = [srv(f"server-{number}.with-a-long-name.example.test", number) for number in range(40)]


def refuse(query: bytes) -> bytes:
    """Answer as a server that does not want to."""
    message = dns.Message()
    message.fromStr(query)
    message.answer, message.rCode = 1, dns.EREFUSED
    return bytes(message.toStr())


class _Clocked:
    """The reactor, with a time of its own for what is kept."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


def says(address: str) -> Callable[[bytes], bytes]:
    """Give what answers every query with an address."""

    def answer(query: bytes) -> bytes:
        message = dns.Message()
        message.fromStr(query)
        message.answer = 1
        name = message.queries[0].name.name
        message.answers = [dns.RRHeader(name, dns.A, ttl=60, payload=dns.Record_A(address, 60))]
        return bytes(message.toStr())

    return answer


class _Peer(DatagramProtocol):
    """A name server that does as it is told."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.asked = 0

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.asked += 1
        answer = self.answer(datagram)
        if answer is not None and self.transport is not None:
            self.transport.write(answer, addr)


class NamesTestCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        """Make a hosts file."""
        self.time = _Clocked()
        self.hosts = self.mktemp()
        with open(self.hosts, "w") as file:
            file.write(
                "# nothing\n127.0.0.1 localhost Here.example.test # us\n::1 localhost\nbad line\n"
            )

    def names(self, *servers: tuple[str, int]) -> Names:
        """Make what asks."""
        found = Names(self.time, servers, hosts=self.hosts)
        self.addCleanup(found.stop)
        return found

    def serve(self, records: dict[str, list[Any]], nothing: int = 60) -> NameServer:
        """Start a name server."""
        server = NameServer(records, nothing)
        self.addCleanup(server.stop)
        return server

    def peer(
        self, answer: Callable[[bytes], bytes | None], number: int = 0
    ) -> tuple[_Peer, tuple[str, int]]:
        """Start a name server that answers with the given bytes."""
        peer = _Peer(answer)
        port = cast(Any, reactor).listenUDP(number, peer, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return peer, ("127.0.0.1", port.getHost().port)

    def closed(self) -> tuple[str, int]:
        """Give an address where nobody listens."""
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            return "127.0.0.1", probe.getsockname()[1]

    def ask(self, asker: Names, kind: str, name: str) -> Deferred[Records | None]:
        """Ask."""
        result: Deferred[Records | None] = Deferred()
        asker.look_up(Question(kind, name), result.callback)
        return result


class AskingTests(NamesTestCase):
    async def test_records(self) -> None:
        """Each kind of record comes as its values."""
        server = self.serve(
            {
                "example.test": [
                    a("192.0.2.1"),
                    a("192.0.2.2"),
                    dns.Record_AAAA("2001:db8::1", 60),
                    naptr("SIP+D2U", "_sip._udp.example.test"),
                ],
                "_sip._udp.example.test": [srv("One.example.test", 5070, priority=2, weight=3)],
                "alias.example.test": [dns.Record_CNAME(b"example.test", 60)],
            }
        )
        asker = self.names(server.address)
        for kind, name, expected in (
            ("A", "example.test", ["192.0.2.1", "192.0.2.2"]),
            ("AAAA", "example.test", ["2001:db8::1"]),
            ("SRV", "_sip._udp.example.test", [Srv(2, 3, 5070, "one.example.test")]),
            (
                "NAPTR",
                "example.test",
                [Naptr(1, 1, "s", "SIP+D2U", "", "_sip._udp.example.test")],
            ),
            ("A", "alias.example.test", ["192.0.2.1", "192.0.2.2"]),
            ("A", "nothing.example.test", []),
        ):
            self.assertEqual(list(await self.ask(asker, kind, name) or ()), expected, name)

    async def test_alias(self) -> None:
        """The addresses behind a CNAME count, those of other names do not."""

        def answer(query: bytes) -> bytes:
            message = dns.Message()
            message.fromStr(query)
            message.answer = 1
            for name, record in (
                ("other.test", a("192.0.2.9")),
                ("a.test", dns.Record_CNAME(b"b.test", 60)),
                ("b.test", a("192.0.2.1")),
            ):
                message.answers.append(dns.RRHeader(name.encode(), record.TYPE, dns.IN, 60, record))
            return bytes(message.toStr())

        _, address = self.peer(answer)
        self.assertEqual(await self.ask(self.names(address), "A", "a.test"), ["192.0.2.1"])

    async def test_kept(self) -> None:
        """An answer is asked for again only when its time is over, and told at once until then."""
        server = self.serve({"example.test": [a("192.0.2.1", 30), a("192.0.2.2", 20)]})
        asker = self.names(server.address)
        await self.ask(asker, "A", "example.test")
        self.time.clock.advance(19)
        told: list[Records | None] = []
        asker.look_up(Question("A", "example.test"), told.append)
        self.assertEqual(told, [["192.0.2.1", "192.0.2.2"]])
        self.time.clock.advance(2)
        await self.ask(asker, "A", "example.test")
        self.assertEqual(server.asked, ["A example.test"] * 2)

    async def test_clock_that_is_set(self) -> None:
        """An answer is good for so many seconds, whatever somebody does to the machine's clock."""
        server = self.serve({"example.test": [a("192.0.2.1", 30)]})
        now = [100.0]
        machine = SteadyClock(reactor, lambda: now[0])
        self.patch(names, "steady", lambda _: machine)
        asker = self.names(server.address)
        for by, passes, expected in ((0, 0, 1), (3600, 20, 1), (-7200, 11, 2), (7200, 20, 2)):
            self.time.clock.rightNow += by
            now[0] += passes
            await self.ask(asker, "A", "example.test")
            self.assertEqual(len(server.asked), expected)

    async def test_nothing_is_kept_too(self) -> None:
        """That there is nothing is known for as long as the zone says, five minutes at most."""
        server = self.serve({"example.test": [a("192.0.2.1", 4000)]}, nothing=4000)
        asker = self.names(server.address)
        for after, expected in ((0, 1), (299, 1), (2, 2)):
            self.time.clock.advance(after)
            self.assertEqual(await self.ask(asker, "SRV", "example.test"), ())
            self.assertEqual(len(server.asked), expected)

    async def test_not_to_be_kept(self) -> None:
        """A record with a life of 0 seconds is not kept."""
        server = self.serve({"example.test": [a("192.0.2.1", 0)]})
        asker = self.names(server.address)
        for _ in range(2):
            self.assertEqual(await self.ask(asker, "A", "example.test"), ["192.0.2.1"])
        self.assertEqual((len(server.asked), len(asker)), (2, 0))

    async def test_bounded(self) -> None:
        """Only so many answers are kept, the last ones."""
        self.patch(names, "KEPT", 2)
        records = {f"n{number}.example.test": [a("192.0.2.1")] for number in range(4)}
        server = self.serve(records)
        asker = self.names(server.address)
        for name in [*records, "n3.example.test", "n0.example.test"]:
            await self.ask(asker, "A", name)
        self.assertEqual((len(asker), len(server.asked)), (2, 5))

    async def test_together(self) -> None:
        """A question that many ask at the same time goes out once; a failing asker harms nobody."""
        server = self.serve({"example.test": [a("192.0.2.1")]})
        asker = self.names(server.address)

        def fail(records: Records | None) -> None:
            raise RuntimeError("no")

        asker.look_up(Question("A", "example.test"), fail)
        asking = [self.ask(asker, "A", "example.test") for _ in range(5)]
        for each in asking:
            self.assertEqual(await each, ["192.0.2.1"])
        self.assertEqual(server.asked, ["A example.test"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_long_answer(self) -> None:
        """What does not fit into a datagram is fetched over TCP."""
        server = self.serve({"_sip._udp.example.test": LONG})
        found = await self.ask(self.names(server.address), "SRV", "_sip._udp.example.test")
        assert found is not None
        self.assertEqual(len(found), 40)
        self.assertEqual(len(server.asked), 2)

    async def test_next_server(self) -> None:
        """Where nobody listens the next name server is asked at once; also when one refuses."""
        server = self.serve({"example.test": [a("192.0.2.1")]})
        peer, refusing = self.peer(refuse)
        asker = self.names(self.closed(), refusing, server.address)
        self.assertEqual(await self.ask(asker, "A", "example.test"), ["192.0.2.1"])
        self.assertEqual(peer.asked, 1)

    async def test_too_long_for_a_datagram(self) -> None:
        """A datagram that is far longer than any answer is not even read."""
        self.patch(names, "WAITS", (0.05, 5.0))
        usual = says("10.0.0.1")
        peer, endless = self.peer(lambda query: usual(query) + bytes(2000))
        _, good = self.peer(says("10.0.0.2"))
        self.assertEqual(await self.ask(self.names(endless, good), "A", "a.test"), ["10.0.0.2"])
        self.assertEqual(peer.asked, 1)

    async def test_from_elsewhere(self) -> None:
        """An answer that comes from another address than the one asked is passed over."""
        stranger, _ = self.peer(says("10.6.6.6"))
        server, address = self.peer(says("10.0.0.1"))

        def overheard(query: bytes) -> bytes:
            assert stranger.transport is not None
            stranger.transport.write(says("10.6.6.6")(query), asker)
            return says("10.0.0.1")(query)

        asker: Any = None
        received = server.datagramReceived

        def note(datagram: bytes, addr: Any) -> None:
            nonlocal asker
            asker = addr
            received(datagram, addr)

        server.answer = overheard
        server.datagramReceived = note  # type: ignore[method-assign]
        self.assertEqual(await self.ask(self.names(address), "A", "a.test"), ["10.0.0.1"])

    async def test_all_refuse(self) -> None:
        """A question that all refuse has no records, and is not asked again for some seconds."""
        peer, refusing = self.peer(refuse)
        asker = self.names(refusing)
        for _ in range(2):
            self.assertEqual(await self.ask(asker, "NAPTR", "example.test"), ())
        self.assertEqual(peer.asked, len(names.WAITS))

    async def test_silent_server(self) -> None:
        """A server that says nothing, or nonsense, is not waited for for ever."""
        self.patch(names, "WAITS", (0.05, 0.05, 5.0))
        server = self.serve({"example.test": [a("192.0.2.1")]})
        silent, first = self.peer(lambda query: None)
        _, second = self.peer(lambda query: query[:2] + bytes(10) + os.urandom(20))
        asker = self.names(first, second, server.address)
        self.assertEqual(await self.ask(asker, "A", "example.test"), ["192.0.2.1"])
        self.assertEqual(silent.asked, 1)

    async def test_no_server(self) -> None:
        """When nobody answers that is told, and not tried again for some seconds."""
        asker = self.names(self.closed())
        self.assertIsNone(await self.ask(asker, "A", "example.test"))
        told: list[Records | None] = []
        asker.look_up(Question("A", "example.test"), told.append)
        self.assertEqual(told, [None])
        self.time.clock.advance(6)
        asker.look_up(Question("A", "example.test"), told.append)
        self.assertEqual(len(told), 1)

    async def test_no_tcp(self) -> None:
        """A server that cuts answers short, and cannot be reached over TCP, has not answered."""

        def cut(query: bytes) -> bytes:
            message = dns.Message()
            message.fromStr(query)
            message.answer = message.trunc = 1
            return bytes(message.toStr())

        _, address = self.peer(cut)
        self.assertIsNone(await self.ask(self.names(address), "A", "example.test"))

    async def test_connection_that_ends(self) -> None:
        """So has one that closes the connection."""
        gone: list[Deferred[None]] = []

        class Closing(Protocol):
            def connectionMade(self) -> None:
                self.gone: Deferred[None] = Deferred()
                gone.append(self.gone)

            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                self.gone.callback(None)

        def cut(query: bytes) -> bytes:
            message = dns.Message()
            message.fromStr(query)
            message.answer = message.trunc = 1
            return bytes(message.toStr())

        number = free_port()  # for both; one that is free for UDP alone may be taken for TCP
        _, address = self.peer(cut, number)
        factory = Factory.forProtocol(Closing)
        factory.noisy = False
        port = cast(Any, reactor).listenTCP(number, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.assertIsNone(await self.ask(self.names(address), "A", "example.test"))
        self.assertTrue(gone)
        await gatherResults(gone)  # this side of a connection may learn of its end later

    async def test_hosts(self) -> None:
        """A name in the hosts file is not asked for, in no way."""
        server = self.serve({})
        asker = self.names(server.address)
        for kind, name, expected in (
            ("A", "localhost", ["127.0.0.1"]),
            ("AAAA", "localhost", ["::1"]),
            ("A", "here.example.test", ["127.0.0.1"]),
            ("AAAA", "here.example.test", []),
            ("NAPTR", "localhost", []),
            ("SRV", "_sip._udp.localhost", []),
        ):
            told: list[Records | None] = []
            asker.look_up(Question(kind, name), told.append)
            self.assertEqual(told, [expected])
        self.assertEqual(server.asked, [])

    async def test_impossible_names(self) -> None:
        """What can be no name in the DNS is not asked for."""
        server = self.serve({})
        asker = self.names(server.address)
        for name in ("", "a..b", "x" * 64, "a." * 127 + "ab", "ä"):
            told: list[Records | None] = []
            asker.look_up(Question("A", name), told.append)
            self.assertEqual(told, [()])
        self.assertEqual(server.asked, [])

    async def test_stop(self) -> None:
        """Stopping leaves questions open, and no socket, timer or connection behind."""
        _, address = self.peer(lambda query: None)
        asker = self.names(address)
        told: list[Records | None] = []
        asker.look_up(Question("A", "example.test"), told.append)
        await asker.stop()
        self.assertEqual(told, [])

    async def test_system(self) -> None:
        """The servers of the system are those of its file, which is read again when it changes."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("search x\nnameserver\nnameserver nonsense\nnameserver 192.0.2.1 # x\n")
        asker = Names(reactor, resolv_conf=path)
        self.assertEqual(asker.servers, [("192.0.2.1", 53)])
        with open(path, "w") as file:
            file.write("".join(f"nameserver 2001:db8::{number}\n" for number in range(1, 9)))
        self.assertEqual([host for host, _ in asker.servers], [f"2001:db8::{n}" for n in (1, 2, 3)])
        os.remove(path)
        self.assertEqual(asker.servers, [("127.0.0.1", 53)])


class SystemTests(NamesTestCase):
    """What the system's file says, see resolv.conf(5)."""

    def system(self, text: str) -> Names:
        """Make what asks as the system does."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(text)
        asker = Names(self.time, resolv_conf=path, hosts=self.hosts)
        self.addCleanup(asker.stop)
        return asker

    def assert_full(self, text: str, host: str, *names: str) -> None:
        """See what a name may stand for."""
        self.assertEqual(list(self.system(text).full_names(host)), list(names), (text, host))

    def test_domains(self) -> None:
        """The last line with domains counts; `domain` has one, and comments none."""
        for text, domains in (
            ("search a.test B.test.", ["a.test", "b.test"]),
            ("search a.test\nsearch b.test", ["b.test"]),
            ("search a.test\ndomain b.test c.test", ["b.test"]),
            ("domain b.test\nsearch a.test  # c.test", ["a.test"]),
            ("; search a.test\nsearch x..z  ä  y", ["y"]),
            ("search .", []),
        ):
            names = [f"proxy.{domain}" for domain in domains]
            self.assert_full(text, "Proxy", *names, "proxy")

    def test_dots(self) -> None:
        """A name with so many dots is tried as it is first, others last."""
        search = "search a.test b.test"
        for options, host, first in (
            ("", "proxy", False),
            ("", "sip.example", True),
            ("options ndots:2 rotate", "sip.example", False),
            ("options ndots:2", "x.sip.example", True),
            ("options ndots:0", "proxy", True),
            ("options ndots:99", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16", True),
            ("options ndots:x", "sip.example", True),
            ("options ndots:5\noptions timeout:3", "sip.default.svc.example.test", False),
        ):
            full = [f"{host}.a.test", f"{host}.b.test"]
            names = [host, *full] if first else [*full, host]
            self.assert_full(f"{search}\n{options}", host, *names)

    def test_whole_names(self) -> None:
        """A name with a dot at its end is what it is, and so is one in the hosts file."""
        text = "search a.test\noptions ndots:5"
        self.assert_full(text, "proxy.", "proxy")
        self.assert_full(text, "Localhost", "localhost")
        self.assert_full(text, "here.example.test", "here.example.test")

    def test_own_domain(self) -> None:
        """Without a word of domains there is that of this machine, if it has one."""
        for host, domains in (("box.home.test", ["home.test"]), ("box", [])):
            self.patch(socket, "gethostname", lambda host=host: host)
            names = [f"proxy.{domain}" for domain in domains]
            self.assert_full("nameserver 192.0.2.1", "proxy", *names, "proxy")
            gone = Names(self.time, resolv_conf=self.mktemp(), hosts=self.hosts)
            self.assertEqual(list(gone.full_names("proxy")), [*names, "proxy"])

    def test_given_servers(self) -> None:
        """Whoever is given name servers does not look into the file at all."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("search a.test")
        asker = Names(self.time, [self.closed()], resolv_conf=path, hosts=self.hosts)
        self.assertEqual(list(asker.full_names("Proxy")), ["proxy"])

    async def test_attempts(self) -> None:
        """How often each server is asked, and for how long, may be said in it."""
        peer, (_, port) = self.peer(refuse)
        self.patch(dns, "PORT", port)
        for options, asked in (
            ("", len(names.WAITS)),
            ("options attempts:3", 3),
            ("options timeout:7", 2),
            ("options attempts:0", 1),
            ("options timeout:0 attempts:4711", 5),
        ):
            asker = self.system(f"nameserver 127.0.0.1\n{options}")
            peer.asked = 0
            self.assertEqual(await self.ask(asker, "A", "example.test"), ())
            self.assertEqual(peer.asked, asked, options)


class _Idle(Clock):
    """A reactor that never looks at sockets."""

    def addReader(self, reader: Any) -> None:
        """Do not look."""

    def removeReader(self, reader: Any) -> None:
        """Do not look any more."""


class NoiseTests(SynchronousTestCase):
    @given(st.binary(max_size=200))
    def test_any_datagram(self, noise: bytes) -> None:
        """No datagram makes the one who asks fail."""
        server = ("127.0.0.1", 9)
        asking = names._Datagrams(cast(Any, None), _Idle(), server)
        answer: Any = asking.query(server, [dns.Query(b"example.test", dns.A, dns.IN)])
        answer.addErrback(lambda failure: None)
        [number] = asking.liveMessages
        asking.datagram_received(number.to_bytes(2, "big") + noise, *server)
        if answer.called and answer.result is not None:
            found, seconds = names._read_answer(Question("A", "example.test"), answer.result)
            self.assertTrue(all(isinstance(one, str) for one in found))
            self.assertGreaterEqual(seconds, 0)
        asking.close()


class NameServerTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """An address, with a port or without."""
        for text, expected in (
            ("192.0.2.1", ("192.0.2.1", 53)),
            ("192.0.2.1:5353", ("192.0.2.1", 5353)),
            ("2001:DB8:0::1", ("2001:db8::1", 53)),
            ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ):
            self.assertEqual(name_server(text), expected)

    def test_others(self) -> None:
        """Nothing else."""
        for text in (
            "",
            "dns.example",
            "192.0.2.1:0",
            "192.0.2.1:70000",
            "1.2.3:4",
            "[::1]",
            ":53",
        ):
            self.assertRaises(LocalProtocolError, name_server, text)
