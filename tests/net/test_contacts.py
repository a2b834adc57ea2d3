"""Addresses inside and outside of a NAT."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.contacts import Contact
from drachtwist.net.sip.flows import Listener
from drachtwist.net.sip.transports import SipTransports

URI = "sip:10.1.2.3:5060"
OUTSIDE = "192.0.2.7"


class ContactTests(SynchronousTestCase):
    def test_local_net(self) -> None:
        """Peers in the local network see the bound address, all others the external one."""
        contact = Contact(URI, OUTSIDE, "10.1.0.0/16")
        for remote, expected in (
            ("10.1.9.9", "10.1.2.3"),
            ("10.2.0.1", OUTSIDE),
            ("198.51.100.1", OUTSIDE),
            ("2001:db8::1", OUTSIDE),
            ("127.0.0.1", OUTSIDE),
            ("", OUTSIDE),
            ("a.example", OUTSIDE),
        ):
            self.assertEqual(contact.host_toward(remote, "10.1.2.3"), expected, remote)

    def test_without_local_net(self) -> None:
        """Then those are inside that have an address of the same private block."""
        contact = Contact(URI, OUTSIDE)
        for own, remote, inside in (
            ("10.1.2.3", "10.200.0.1", True),
            ("10.1.2.3", "192.168.0.1", False),
            ("192.168.0.1", "192.168.77.1", True),
            ("172.31.0.1", "172.16.0.1", True),
            ("172.31.0.1", "172.32.0.1", False),
            ("198.51.100.9", "198.51.100.10", False),
            ("127.0.0.1", "127.0.0.1", False),
        ):
            self.assertIs(contact.is_inside(remote, own), inside, (own, remote))
        v6 = Contact("sip:[fd00::1]", "2001:db8::1")
        self.assertEqual(v6.host_toward("fd12::7", "fd00::1"), "fd00::1")
        self.assertEqual(v6.host_toward("2001:db8:1::1", "fd00::1"), "2001:db8::1")

    def test_on_all_addresses(self) -> None:
        """For a contact on all addresses this machine is inside too."""
        contact = Contact("sip:*", OUTSIDE)
        self.assertTrue(contact.is_inside("127.0.0.1", "127.0.0.1", everywhere=True))
        self.assertTrue(contact.is_inside("::1", "::1", everywhere=True))
        self.assertFalse(
            Contact("sip:*", OUTSIDE, "10.0.0.0/8").is_inside("127.0.0.1", "127.0.0.1", True)
        )

    def test_other_family(self) -> None:
        """An IPv4 address is nothing that a peer over IPv6 could reach."""
        self.assertEqual(Contact("sip:*", OUTSIDE).host_toward("2001:db8::1", "fd00::1"), "fd00::1")

    def test_values(self) -> None:
        """Values are read as people write them."""
        contact = Contact(URI, "[2001:DB8:0::1]", "10.1.2.3/8", ("Sip.Example.", "pbx"))
        self.assertEqual(contact.external_ip, "2001:db8::1")
        self.assertEqual(contact.dns_names, ("sip.example", "pbx"))
        self.assertTrue(contact.is_inside("10.9.9.9", "10.1.2.3"))
        self.assertTrue(Contact(URI, None, "10.1.2.4").is_inside("10.1.2.4", "10.1.2.3"))
        self.assertEqual(str(Contact(URI)), URI)
        self.assertEqual(
            str(Contact(URI, OUTSIDE, "10.0.0.0/8", ("a", "b"))),
            f"{URI} (external {OUTSIDE}, local 10.0.0.0/8, names a b)",
        )

    def test_refused(self) -> None:
        """What is no address, network or name is refused at once."""
        bad: tuple[dict[str, Any], ...] = (
            {"external_ip": "sip.example"},
            {"external_ip": "10.0.0.0/8"},
            {"external_ip": ""},
            {"external_ip": 7j},
            {"external_ip": "0.0.0.0"},
            {"external_ip": "224.0.0.1"},
            {"local_net": "home"},
            {"local_net": "10.0.0.0/33"},
            {"local_net": ""},
            {"dns_names": "sip.example"},
            {"dns_names": ("a b",)},
            {"dns_names": ("",)},
            {"dns_names": (b"a",)},
            {"dns_names": 5},
        )
        for values in bad:
            self.assertRaises(LocalProtocolError, Contact, URI, **values)

    @given(st.ip_addresses(), st.ip_addresses(), st.booleans())
    def test_any_addresses(self, own: Any, remote: Any, everywhere: bool) -> None:
        """There is always an address of the own kind, one of the two."""
        contact = Contact(URI, OUTSIDE, "10.0.0.0/8")
        found = contact.host_toward(str(remote), str(own), everywhere)
        self.assertIn(found, (str(own), OUTSIDE))
        self.assertEqual(":" in found, own.version == 6)


class ListenerTests(SynchronousTestCase):
    def nearest(self, remote: str, *listeners: Listener) -> str:
        """Choose one of several addresses."""
        transports = SipTransports(Clock(), None)  # type: ignore[arg-type]
        transports.listeners = list(listeners)
        found = transports.listener_for("udp", remote)
        assert found is not None
        return found.host

    def test_nearest(self) -> None:
        """The same network counts most, then octets, then an external address."""
        lan = Listener("udp", "10.1.0.5", 5060)
        wan = Listener("udp", "192.168.7.5", 5060, Contact("sip:192.168.7.5", OUTSIDE))
        far = Listener("udp", "172.16.0.5", 5060, Contact("sip:172.16.0.5", None, "10.2.0.0/16"))
        loop = Listener("udp", "127.0.0.1", 5060, Contact("sip:127.0.0.1", OUTSIDE))
        every = (loop, lan, wan, far)
        for remote, expected in (
            ("10.1.0.9", "10.1.0.5"),
            ("10.200.0.9", "10.1.0.5"),
            ("192.168.1.1", "192.168.7.5"),
            ("172.16.3.3", "172.16.0.5"),
            ("8.8.8.8", "192.168.7.5"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.9.9.9", "127.0.0.1"),
        ):
            self.assertEqual(self.nearest(remote, *every), expected, remote)
            self.assertEqual(self.nearest(remote, *every[::-1]), expected, remote)
        self.assertEqual(self.nearest("10.2.0.1", loop, wan, far), "172.16.0.5")
        self.assertEqual(self.nearest("", *every), "192.168.7.5")
        self.assertEqual(self.nearest("8.8.8.8", lan, far), "10.1.0.5")

    def test_names(self) -> None:
        """Bound and external address and names are ours, however IPv6 is spelt."""
        contact = Contact("sip:10.1.2.3", OUTSIDE, None, ("sip.example",))
        listener = Listener("udp", "10.1.2.3", 5060, contact)
        for host in ("10.1.2.3", OUTSIDE, "sip.example"):
            self.assertTrue(listener.is_named(host), host)
        for host in ("10.1.2.4", "localhost", "example", "127.0.0.1", "fd00::1"):
            self.assertFalse(listener.is_named(host), host)
        v6 = Listener("udp", "fd00::1", 5060, Contact("sip:[fd00::1]", "2001:db8::1"))
        for host in ("fd00:0:0::1", "2001:db8:0::1"):
            self.assertTrue(v6.is_named(host), host)
        self.assertTrue(Listener("udp", "127.0.0.1", 5060).is_named("localhost"))
        everywhere = Listener("udp", "0.0.0.0", 5060)
        self.assertTrue(everywhere.is_named("127.0.0.1"))
        self.assertFalse(everywhere.is_named("192.0.2.1"))
        self.assertFalse(everywhere.is_named("::1"))
