"""From URIs and records to the places where servers may be."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.locating import (
    Hop,
    Naptr,
    Place,
    Question,
    Records,
    Srv,
    hop_of,
    search,
    shuffled,
)
from drachtwist.sip.uri import SipUri, Uri

Zone = Mapping[tuple[str, str], Records]

IPV4 = {"udp": ("A",), "tcp": ("A",)}
ALL = dict.fromkeys(("udp", "tcp", "tls", "ws", "wss"), ("A", "AAAA"))


def hop(text: str, protocol: str | None = None) -> Hop:
    """Read a URI."""
    uri = Uri.parse(text)
    assert isinstance(uri, SipUri)
    return hop_of(uri, protocol)


def walk(
    where: Hop, zone: Zone, offered: Mapping[str, Sequence[str]] = IPV4
) -> tuple[list[str], list[str]]:
    """Search to the end; give the questions that were asked, and the places."""
    asked: list[str] = []
    places: list[str] = []
    searching = search(where, offered, lambda: 0.0)
    step = next(searching, None)
    while step is not None:
        if isinstance(step, Place):
            places.append(f"{step.protocol} {step.host} {step.port}")
            step = next(searching, None)
            continue
        asked += [f"{question.kind} {question.name}" for question in step]
        answers = [zone.get((one.kind, one.name), ()) for one in step]
        try:
            step = searching.send(answers)
        except StopIteration:
            break
    return asked, places


def naptr(service: str, replacement: str, order: int = 1, preference: int = 1) -> Naptr:
    """Write a record that leads to SRV records."""
    return Naptr(order, preference, "s", service, "", replacement)


class HopTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """What a URI leaves open is filled in, and known to have been left open."""
        for text, expected in (
            ("sip:a@192.0.2.1", Hop("udp", "192.0.2.1", 5060, True, True, False)),
            (
                "sip:a@h.example:99",
                Hop("udp", "h.example", 99, False, True, True, False, "h.example"),
            ),
            (
                "sip:a@[2001:db8::1];transport=TCP",
                Hop("tcp", "2001:db8::1", 5060, True, False, False),
            ),
            ("sip:h;transport=tls", Hop("tls", "h", 5061, False, False, False, False, "h")),
            ("sips:h", Hop("tls", "h", 5061, False, True, False, True, "h")),
            ("sips:h;transport=tcp", Hop("tls", "h", 5061, False, False, False, True, "h")),
            ("sips:h;transport=ws", Hop("wss", "h", 443, False, False, False, True, "h")),
            ("sip:h;transport=ws", Hop("ws", "h", 80, False, False, False, False, "h")),
            ("sip:h;maddr=192.0.2.9", Hop("udp", "192.0.2.9", 5060, True, True, False, False, "h")),
            (
                "sip:h;maddr=[2001:db8::1]",
                Hop("udp", "2001:db8::1", 5060, True, True, False, False, "h"),
            ),
        ):
            self.assertEqual(hop(text), expected, text)
        self.assertEqual(hop("sip:h", "tcp").protocol, "tcp")

    def test_certificate_name(self) -> None:
        """A certificate has to carry the name in the URI, wherever maddr leads."""
        where = hop("sips:h.example;maddr=192.0.2.9")
        self.assertEqual((where.host, where.name), ("192.0.2.9", "h.example"))


class SearchTests(SynchronousTestCase):
    def test_port(self) -> None:
        """With a port only addresses are asked for, in the families that are listened on."""
        zone: Zone = {
            ("A", "h.example"): ["192.0.2.1", "192.0.2.2"],
            ("AAAA", "h.example"): ["::1"],
        }
        asked, places = walk(hop("sip:a@H.Example.:99"), zone)
        self.assertEqual(asked, ["A h.example"])
        self.assertEqual(places, ["udp 192.0.2.1 99", "udp 192.0.2.2 99"])
        asked, places = walk(hop("sip:a@h.example:99"), zone, {"udp": ("AAAA",)})
        self.assertEqual((asked, places), (["AAAA h.example"], ["udp ::1 99"]))
        asked, places = walk(hop("sip:a@h.example:99"), zone, ALL)
        self.assertEqual(asked, ["A h.example", "AAAA h.example"])
        self.assertEqual(places[2], "udp ::1 99")

    def test_later_questions_wait(self) -> None:
        """What only a further attempt needs is not asked before it is made."""
        searching = search(hop("sip:a@h.example:99"), ALL, lambda: 0.0)
        self.assertEqual(next(searching), (Question("A", "h.example"),))
        self.assertEqual(searching.send([["192.0.2.1"]]), Place("udp", "192.0.2.1", 99))
        self.assertEqual(next(searching), (Question("AAAA", "h.example"),))

    def test_transport(self) -> None:
        """With a transport its SRV records are asked for, then addresses."""
        zone: Zone = {("A", "h.example"): ["192.0.2.1"]}
        asked, places = walk(hop("sip:h.example;transport=tcp"), zone)
        self.assertEqual(asked, ["SRV _sip._tcp.h.example", "A h.example"])
        self.assertEqual(places, ["tcp 192.0.2.1 5060"])
        zone = {
            ("SRV", "_sip._tcp.h.example"): [Srv(2, 0, 7, "b.example"), Srv(1, 0, 8, "a.example")],
            ("A", "a.example"): ["192.0.2.1"],
            ("A", "b.example"): ["192.0.2.2"],
        }
        asked, places = walk(hop("sip:h.example;transport=tcp"), zone)
        self.assertEqual(places, ["tcp 192.0.2.1 8", "tcp 192.0.2.2 7"])
        for uri, name in (
            ("sips:h.example", "_sips._tcp.h.example"),
            ("sip:h.example;transport=tls", "_sips._tcp.h.example"),
            ("sip:h.example;transport=ws", "_sip._ws.h.example"),
            ("sips:h.example;transport=ws", "_sips._ws.h.example"),
        ):
            self.assertIn(f"SRV {name}", walk(hop(uri), {}, ALL)[0])

    def test_nothing_at_all(self) -> None:
        """Without any record all kinds are asked for; the SRV records of UDP and TCP at once."""
        asked, places = walk(hop("sip:h.example"), {})
        self.assertEqual(
            asked,
            [
                "NAPTR h.example",
                "SRV _sip._udp.h.example",
                "SRV _sip._tcp.h.example",
                "A h.example",
            ],
        )
        self.assertEqual(places, [])

    def test_naptr(self) -> None:
        """The first service of the domain that is offered here is taken."""
        zone: Zone = {
            ("NAPTR", "h.example"): [
                naptr("SIP+D2U", "_sip._udp.h.example", order=3),
                naptr("SIPS+D2T", "_sips._tcp.h.example", order=1),
                naptr("sip+d2t", "_sip._tcp.h.example.", order=2, preference=9),
                naptr("SIP+D2U", "_sip._udp.x.example", order=2, preference=10),
            ],
            ("SRV", "_sip._tcp.h.example"): [Srv(0, 0, 8, "t.example")],
            ("SRV", "_sip._udp.h.example"): [Srv(0, 0, 7, "u.example")],
            ("SRV", "_sips._tcp.h.example"): [Srv(0, 0, 9, "s.example")],
            ("A", "t.example"): ["192.0.2.1"],
            ("A", "u.example"): ["192.0.2.2"],
            ("A", "s.example"): ["192.0.2.3"],
        }
        self.assertEqual(walk(hop("sip:h.example"), zone)[1], ["tcp 192.0.2.1 8"])
        self.assertEqual(walk(hop("sip:h.example"), zone, {"udp": ("A",)})[1], ["udp 192.0.2.2 7"])
        for uri in ("sip:h.example", "sips:h.example"):
            self.assertEqual(walk(hop(uri), zone, ALL)[1], ["tls 192.0.2.3 9"])

    def test_naptr_to_addresses(self) -> None:
        """The flag ``a`` leads to addresses, with the port of the transport."""
        zone: Zone = {
            ("NAPTR", "h.example"): [Naptr(1, 1, "A", "SIP+D2T", "", "x.example")],
            ("A", "x.example"): ["192.0.2.1"],
        }
        self.assertEqual(walk(hop("sip:h.example"), zone)[1], ["tcp 192.0.2.1 5060"])

    def test_naptr_of_others(self) -> None:
        """Records that say nothing of SIP, or nothing that can be followed, are passed over."""
        zone: Zone = {
            ("NAPTR", "h.example"): [
                Naptr(1, 1, "u", "E2U+sip", "!^.*$!sip:a@b!", ""),
                Naptr(1, 1, "s", "SIP+D2U", "!.*!x!", "y.example"),
                Naptr(1, 1, "", "SIP+D2U", "", "y.example"),
                Naptr(1, 1, "s", "SIP+D2U", "", "."),
                Naptr(1, 1, "s", "SIP+D2X", "", "y.example"),
                naptr("SIP+D2S", "y.example"),
            ],
            ("A", "h.example"): ["192.0.2.1"],
        }
        asked, places = walk(hop("sip:h.example"), zone)
        self.assertNotIn("y.example", " ".join(asked))
        self.assertEqual(places, ["udp 192.0.2.1 5060"])

    def test_secure(self) -> None:
        """A sips: URI never leads to a transport without TLS."""
        zone: Zone = {
            ("NAPTR", "h.example"): [naptr("SIP+D2U", "_sip._udp.h.example")],
            ("SRV", "_sip._udp.h.example"): [Srv(0, 0, 7, "h.example")],
            ("A", "h.example"): ["192.0.2.1"],
        }
        asked, places = walk(hop("sips:h.example"), zone, ALL)
        self.assertEqual(asked[1:], ["SRV _sips._tcp.h.example", "A h.example", "AAAA h.example"])
        self.assertEqual(places, ["tls 192.0.2.1 5061"])

    def test_other_transport(self) -> None:
        """Without NAPTR records a domain that has TCP servers only is reached over TCP."""
        zone: Zone = {
            ("SRV", "_sip._tcp.h.example"): [Srv(0, 0, 7, "a.example")],
            ("A", "a.example"): ["192.0.2.1"],
        }
        self.assertEqual(walk(hop("sip:h.example"), zone)[1], ["tcp 192.0.2.1 7"])
        self.assertEqual(walk(hop("sip:h.example"), zone, {"udp": ("A",)})[1], [])

    def test_no_such_service(self) -> None:
        """The target ``.`` says that there is no such service; addresses do not count then."""
        for target in (".", ""):
            zone: Zone = {
                ("SRV", "_sip._udp.h.example"): [Srv(0, 0, 0, target)],
                ("A", "h.example"): ["192.0.2.1"],
            }
            self.assertEqual(walk(hop("sip:h.example"), zone)[1], [])
            self.assertEqual(walk(hop("sip:h.example;transport=udp"), zone)[1], [])

    def test_address_as_target(self) -> None:
        """A target that is an address is one."""
        zone: Zone = {("SRV", "_sip._udp.h.example"): [Srv(0, 0, 7, "192.0.2.1")]}
        self.assertEqual(walk(hop("sip:h.example"), zone)[1], ["udp 192.0.2.1 7"])


_NAMES = st.sampled_from(["h.example", "a", "_sip._udp.h.example", ".", "", "192.0.2.7", "::1"])
_RECORDS = st.lists(
    st.one_of(
        st.builds(Srv, st.integers(0, 2), st.integers(0, 3), st.integers(0, 65535), _NAMES),
        st.builds(
            Naptr,
            st.integers(0, 2),
            st.integers(0, 2),
            st.sampled_from(["s", "a", "S", "u", "", "\0"]),
            st.sampled_from(["SIP+D2U", "SIPS+D2T", "SIP+D2W", "", "E2U"]),
            st.sampled_from(["", "!"]),
            _NAMES,
        ),
        st.sampled_from(["192.0.2.1", "::2"]),
    ),
    max_size=4,
)


class ArbitraryTests(SynchronousTestCase):
    @given(st.lists(_RECORDS, min_size=1), st.sampled_from(["sip:h.example", "sips:h.example"]))
    def test_any_answers(self, answers: list[Records], uri: str) -> None:
        """Whatever the answers, the search ends, and a sips: URI stays secure."""
        searching = search(hop(uri), ALL, random.Random(0).random)
        step = next(searching, None)
        places = []
        count = 0
        while step is not None:
            if isinstance(step, Place):
                places.append(step)
                step = next(searching, None)
                continue
            count += len(step)
            self.assertLess(count, 60)
            try:
                step = searching.send(
                    [answers[(count + at) % len(answers)] for at in range(len(step))]
                )
            except StopIteration:
                break
        if uri.startswith("sips"):
            self.assertLessEqual({place.protocol for place in places}, {"tls", "wss"})


_SERVERS = st.lists(
    st.builds(Srv, st.integers(0, 3), st.integers(0, 65535) | st.just(0), st.just(5060), _NAMES)
)


class ShuffledTests(SynchronousTestCase):
    @given(_SERVERS, st.integers())
    def test_priorities(self, servers: list[Srv], seed: int) -> None:
        """Every server comes out once, those of a lower priority number first."""
        order = shuffled(servers, random.Random(seed).random)
        self.assertEqual(Counter(order), Counter(servers))
        priorities = [server.priority for server in order]
        self.assertEqual(priorities, sorted(priorities))

    @given(_SERVERS, st.sampled_from([0.0, 0.5, 1 - 2**-53]))
    def test_any_number(self, servers: list[Srv], number: float) -> None:
        """The ends of the range are no exception."""
        order = shuffled(servers, lambda: number)
        self.assertEqual(Counter(order), Counter(servers))

    def test_weights(self) -> None:
        """Servers are first in proportion to their weights; one of weight 0 seldom."""
        servers = [Srv(1, weight, 5060, str(weight)) for weight in (0, 10, 30, 60)]
        choose = random.Random(1).random
        first = Counter(shuffled(servers, choose)[0].weight for _ in range(20_000))
        for weight, low, high in (
            (0, 0, 400),
            (10, 1700, 2300),
            (30, 5600, 6400),
            (60, 11500, 12500),
        ):
            self.assertTrue(low <= first[weight] <= high, (weight, first))

    def test_second_choice(self) -> None:
        """Among what is left the weights count again."""
        servers = [Srv(1, weight, 5060, str(weight)) for weight in (1000, 30, 10)]
        choose = random.Random(1).random
        order = (shuffled(servers, choose) for _ in range(20_000))
        second = Counter(one[1].weight for one in order if one[0].weight == 1000)
        self.assertTrue(2.6 < second[30] / second[10] < 3.4, second)

    def test_without_weights(self) -> None:
        """Servers without weights have equal chances."""
        servers = [Srv(1, 0, 5060, name) for name in "abcd"]
        choose = random.Random(1).random
        first = Counter(shuffled(servers, choose)[0].target for _ in range(8_000))
        for name in "abcd":
            self.assertTrue(1800 < first[name] < 2200, first)
