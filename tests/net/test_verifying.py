"""Whom certificates are for: hosts, SIP domains, nobody."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import crypto
from twisted.trial.unittest import SynchronousTestCase

import drachtwist
from drachtwist.errors import LocalProtocolError
from drachtwist.net import verifying
from drachtwist.net.verifying import CertificateRefused, PeerCheck, PeerName, is_for
from tests.certificates import authority


def certificate(*names: str) -> x509.Certificate:
    """Make a certificate for these names."""
    return x509.load_pem_x509_certificate(authority().sign(*names).certificate)


class NamesTestCase(SynchronousTestCase):
    def check(self, names: tuple[str, ...], good: str, bad: str, *, sip: bool) -> None:
        """Check whom a certificate is for, and whom it is not for; both are words."""
        made = certificate(*names)
        for one in good.split():
            is_for(made, [PeerName(one, sip=sip)])
        for one in bad.split():
            with self.assertRaises(CertificateRefused, msg=(names, one)):
                is_for(made, [PeerName(one, sip=sip)])


class HostTests(NamesTestCase):
    def test_names(self) -> None:
        """Names count in any case, with or without a dot at the end, and as a whole."""
        self.check(
            ("sip.example.com",),
            "sip.example.com SIP.Example.COM sip.example.com.",
            "example.com a.sip.example.com sip.example.comx localhost 127.0.0.1",
            sip=False,
        )

    def test_wildcards(self) -> None:
        """A ``*`` stands for the first label, and for nothing else."""
        self.check(
            ("*.example.com",),
            "a.example.com b.example.com",
            "example.com a.b.example.com",
            sip=False,
        )

    def test_addresses(self) -> None:
        """Addresses are compared as such, with no regard to a zone."""
        self.check(
            ("192.0.2.1", "2001:db8::1", "fe80::1"),
            "192.0.2.1 2001:db8::1 2001:DB8:0:0::1 fe80::1%eth0",
            "192.0.2.2 2001:db8::2 localhost",
            sip=False,
        )
        made = certificate("a.example")
        with self.assertRaises(CertificateRefused):
            is_for(made, [PeerName("192.0.2.1")])

    def test_international(self) -> None:
        """Names of other scripts are compared as the DNS has them."""
        self.check(("xn--bcher-kva.example",), "bücher.example", "bucher.example", sip=False)

    def test_uris(self) -> None:
        """A SIP URI says nothing about a host, and does not spoil other names."""
        self.check(("sip:example.com", "a.example"), "a.example", "example.com", sip=False)

    def test_several(self) -> None:
        """One of several names is enough."""
        names = [PeerName("other.example"), PeerName("192.0.2.7"), PeerName("a.example")]
        is_for(certificate("a.example"), names)
        with self.assertRaises(CertificateRefused):
            is_for(certificate("b.example"), names)

    def test_no_names(self) -> None:
        """What no certificate could carry is refused when it is given."""
        for text in ("", ".", "a b", "a\0b", "a" * 64 + ".example", "a..b", "*"):
            with self.assertRaises(LocalProtocolError, msg=text):
                PeerName(text)


class DomainTests(NamesTestCase):
    """RFC 5922 sections 7.1 and 7.2."""

    def test_uris(self) -> None:
        """SIP URIs of domains count; then names of hosts do not."""
        self.check(
            (
                "sip:Example.com",
                "SIP:example.org:5061;transport=tls",
                "a.example",
                "sip:b@c.example",
            ),
            "example.com EXAMPLE.COM example.org",
            "a.example c.example com",
            sip=True,
        )

    def test_other_uris(self) -> None:
        """URIs of users and of other schemes count for nothing."""
        self.check(
            ("sip:bob@example.com", "sips:b.example", "https://c.example", "d.example"),
            "d.example",
            "example.com b.example c.example",
            sip=True,
        )

    def test_no_wildcards(self) -> None:
        """A ``*`` is none."""
        for names in (("*.example.com",), ("sip:*.example.com",)):
            self.check(names, "", "a.example.com example.com", sip=True)

    def test_addresses(self) -> None:
        """Addresses are domains too, in URIs or as such."""
        self.check(
            ("sip:192.0.2.1", "sip:[2001:db8::1]:5061"), "192.0.2.1 2001:db8::1", "::1", sip=True
        )
        self.check(("192.0.2.1",), "192.0.2.1", "192.0.2.2", sip=True)


class CheckTests(SynchronousTestCase):
    def ask(self, check: PeerCheck, *, depth: int = 0, error: int = 0, ok: int = 1) -> bool:
        """Ask as OpenSSL does."""
        shown = crypto.X509.from_cryptography(certificate("a.example"))
        connection: Any = None
        return check(connection, shown, error, depth, ok)

    def test_verdicts(self) -> None:
        """OpenSSL's refusal stands; names matter for the peer's own certificate."""
        right, wrong = (
            PeerCheck(None, [PeerName("a.example")]),
            PeerCheck(None, [PeerName("b.example")]),
        )
        self.assertTrue(self.ask(right))
        self.assertFalse(self.ask(right, ok=0, error=20))
        self.assertFalse(self.ask(right, ok=0, error=10))
        self.assertFalse(self.ask(wrong))
        self.assertTrue(self.ask(wrong, depth=1))
        self.assertFalse(self.ask(wrong, depth=1, ok=0))
        self.assertTrue(self.ask(PeerCheck(None, ())))

    def test_errors_are_refusals(self) -> None:
        """Whatever is raised while verifying, the certificate is refused, and it is logged."""
        for error in (ValueError, TypeError, MemoryError, KeyboardInterrupt):

            def fail(*about: Any, error: type[BaseException] = error) -> None:
                raise error

            self.patch(verifying, "is_for", fail)
            self.assertFalse(self.ask(PeerCheck(None, [PeerName("a.example")])))
            self.assertEqual(len(self.flushLoggedErrors(error)), 1)


class OneWayTests(SynchronousTestCase):
    def test_nobody_else_verifies(self) -> None:
        """No module makes TLS connections but by way of ours, which fails closed."""
        others = {
            "optionsForClientTLS",
            "BrowserLikePolicyForHTTPS",
            "ClientContextFactory",
            "CertificateOptions",
            "DefaultOpenSSLContextFactory",
            "create_default_context",
            "connectSSL",
            "listenSSL",
            "set_verify",
            "SSL4ClientEndpoint",
            "SSL4ServerEndpoint",
        }
        root = Path(drachtwist.__file__).parent
        for path in root.rglob("*.py"):
            if path == root / "net" / "tls.py":
                continue
            tree = ast.parse(path.read_text("utf-8"))
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}
            self.assertEqual(names & others, set(), path)
