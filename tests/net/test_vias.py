"""What a transport writes into the topmost Via, and reads from it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.net.sip.via import note_source, response_hop
from drachtwist.sip.fields import Via
from drachtwist.sip.locating import Hop


def message(via: str, name: str = "Via") -> bytes:
    return f"OPTIONS sip:b SIP/2.0\r\nTo: <sip:b>\r\n{name}: {via}\r\nVia: x\r\n\r\nv: y".encode()


class NoteSourceTests(SynchronousTestCase):
    def check(self, before: str, after: str, host: str = "192.0.2.1", port: int = 40) -> None:
        self.assertEqual(note_source(message(before), host, port), message(after))

    def test_rport_is_added(self) -> None:
        """As the real server spells it: at the end, also when nobody asked."""
        self.check(
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport=40",
        )

    def test_rport_is_filled_in(self) -> None:
        """A value that is there already, which the sender cannot know, is replaced."""
        for asked in ("rport", "rport=9", "RPORT"):
            self.check(
                f"SIP/2.0/UDP 192.0.2.1;{asked};branch=z9hG4bK1",
                "SIP/2.0/UDP 192.0.2.1;rport=40;branch=z9hG4bK1",
            )

    def test_empty_items(self) -> None:
        """Commas without a hop before them, or behind the last, are not taken for one."""
        for front, back in ((", ", ""), (" ,,", ","), ("", " , ")):
            self.check(
                f"{front}SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1{back}",
                f"{front}SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport=40;received=192.0.2.1{back}",
            )

    def test_received(self) -> None:
        """Added when the sender calls itself something else, corrected when it lies."""
        self.check(
            "SIP/2.0/WS xx.invalid;branch=z9hG4bKw1",
            "SIP/2.0/WS xx.invalid;branch=z9hG4bKw1;rport=40;received=192.0.2.1",
        )
        self.check(
            "SIP/2.0/UDP 192.0.2.1;received=203.0.113.9;branch=z9hG4bK1",
            "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1;branch=z9hG4bK1;rport=40",
        )

    def test_ipv6(self) -> None:
        """Brackets are no difference; ``received`` has none."""
        self.check("SIP/2.0/UDP [2001:DB8::1]", "SIP/2.0/UDP [2001:DB8::1];rport=40", "2001:db8::1")
        self.check("SIP/2.0/UDP a", "SIP/2.0/UDP a;rport=40;received=fe80::1", "fe80::1%eth0")

    def test_only_the_topmost(self) -> None:
        """Of several Vias in one line, or in quotes, only the first is completed."""
        self.check(
            "SIP/2.0/UDP 192.0.2.1;branch=a, SIP/2.0/UDP 192.0.2.2;rport",
            "SIP/2.0/UDP 192.0.2.1;branch=a;rport=40, SIP/2.0/UDP 192.0.2.2;rport",
        )
        self.check(
            'SIP/2.0/UDP 192.0.2.1;x="a,\\"b"',
            'SIP/2.0/UDP 192.0.2.1;x="a,\\"b";rport=40',
        )

    def test_odd_spelling(self) -> None:
        """Folded lines, blanks and the compact name are understood and kept."""
        self.check(
            "SIP  / 2.0\r\n /UDP\r\n    192.0.2.1 : 5060 ;\r\n branch=a ",
            "SIP  / 2.0\r\n /UDP\r\n    192.0.2.1 : 5060 ;\r\n branch=a;rport=40 ",
        )
        self.assertIn(b"a;rport=7\r\n", note_source(message("SIP/2.0/UDP a", "v "), "a", 7))

    def test_nothing_to_complete(self) -> None:
        """Without a legible Via the message stays as it is; a body is never touched."""
        for raw in (
            message("rubbish"),
            b"OPTIONS sip:b SIP/2.0\r\nTo: x\r\n\r\n\nVia: SIP/2.0/UDP 192.0.2.1\r\n",
            b"",
        ):
            self.assertEqual(note_source(raw, "192.0.2.1", 40), raw)

    @given(st.binary(max_size=300))
    def test_anything(self, noise: bytes) -> None:
        """Whatever comes, nothing but two parameters is added."""
        raw = b"A b SIP/2.0\r\nVia: SIP/2.0/UDP h" + noise
        noted = note_source(raw, "192.0.2.1", 40)
        if b"rport" not in noise.lower() and b"received" not in noise.lower():
            added = noted.replace(b";rport=40", b"", 1).replace(b";received=192.0.2.1", b"", 1)
            self.assertEqual(added, raw)


class ResponseAddressTests(SynchronousTestCase):
    def test_places(self) -> None:
        """RFC 3261 section 18.2.2 and RFC 3581."""
        for via, expected in (
            ("SIP/2.0/UDP 192.0.2.1", ("udp", "192.0.2.1", 5060)),
            ("SIP/2.0/UDP h.example:99;received=192.0.2.1", ("udp", "192.0.2.1", 99)),
            ("SIP/2.0/UDP h:99;received=192.0.2.1;rport=7", ("udp", "192.0.2.1", 7)),
            ("SIP/2.0/UDP h:99;rport=7;maddr=192.0.2.8", ("udp", "192.0.2.8", 99)),
            ("SIP/2.0/TCP h:99;received=192.0.2.1;rport=7", ("tcp", "192.0.2.1", 99)),
            ("SIP/2.0/TLS [2001:db8::1]", ("tls", "2001:db8::1", 5061)),
        ):
            hop = response_hop(Via.parse(via))
            self.assertEqual((hop.protocol, hop.host, hop.port), expected)
            self.assertTrue(hop.numeric)

    def test_names(self) -> None:
        """A name with a port leads to its addresses, without one to its servers."""
        for via, expected in (
            ("SIP/2.0/UDP h.example", Hop("udp", "h.example", 5060, False, False, False)),
            ("SIP/2.0/TCP h.example:99", Hop("tcp", "h.example", 99, False, False, True)),
        ):
            self.assertEqual(response_hop(Via.parse(via)), expected._replace(name="h.example"))
