"""Certificates for tests, made afresh: nothing that could be mistaken for a real one is stored."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

HERE = ("localhost", "127.0.0.1")
DAY = datetime.timedelta(days=1)
SHA1, SHA256 = bytes.fromhex("2a864886f70d010105"), bytes.fromhex("2a864886f70d01010b")


@dataclass(frozen=True)
class Identity:
    """A private key and a self-signed certificate, as PEM."""

    key: bytes
    certificate: bytes


@lru_cache
def identity(*names: str, rsa: bool = False) -> Identity:
    """Make a self-signed certificate for names and addresses (default: this machine)."""
    key: ec.EllipticCurvePrivateKey | RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
    if rsa:
        key = generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drachtwist test")])
    alternatives = alternative_names(*(names or HERE))
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Identity(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def alternative_names(*names: str) -> list[x509.GeneralName]:
    """Write names, addresses and ``sip:`` URIs as a certificate does."""
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            kind = x509.UniformResourceIdentifier if ":" in name else x509.DNSName
            found.append(kind(name))
    return found


class Authority:
    """Somebody who signs certificates."""

    def __init__(self, name: str) -> None:
        self.key = generate_private_key(65537, 2048)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def certificate(self) -> bytes:
        """Its own certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def sign(
        self,
        *names: str,
        extensions: Sequence[x509.ExtensionType] = (),
        since: datetime.timedelta = -DAY,
        until: datetime.timedelta = 30 * DAY,
        bits: int = 2048,
        sha1: bool = False,
    ) -> Identity:
        """Make a key and a certificate; the common name is always that of this machine."""
        key = generate_private_key(65537, bits)
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + since)
            .not_valid_after(now + until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if names:
            more = x509.SubjectAlternativeName(alternative_names(*names))
            builder = builder.add_extension(more, critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        made = builder.sign(self.key, hashes.SHA256())
        if sha1:
            made = self._weakly(made)
        return Identity(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            made.public_bytes(serialization.Encoding.PEM),
        )

    def _weakly(self, made: x509.Certificate) -> x509.Certificate:
        """Sign again with SHA-1, which the library does no more."""
        plain = made.tbs_certificate_bytes
        weak = plain.replace(SHA256, SHA1)
        whole = made.public_bytes(serialization.Encoding.DER)
        assert whole.endswith(made.signature)
        whole = whole[: -len(made.signature)].replace(SHA256, SHA1)
        signature = self.key.sign(weak, padding.PKCS1v15(), hashes.SHA1())
        return x509.load_der_x509_certificate(whole + signature)

    def revoke(self, identity: Identity) -> bytes:
        """Write a list of what was revoked, PEM."""
        now = datetime.datetime.now(datetime.timezone.utc)
        number = x509.load_pem_x509_certificate(identity.certificate).serial_number
        revoked = (
            x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
        )
        return (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now)
            .next_update(now + DAY)
            .add_revoked_certificate(revoked)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


@cache
def authority(name: str = "drachtwist test authority") -> Authority:
    """Give an authority; the same for the same name."""
    return Authority(name)


@dataclass(frozen=True)
class Case:
    """A certificate that a peer at this machine shows."""

    name: str
    identity: Identity
    trusted: bytes
    """Whom the other side trusts, PEM."""
    good: bool
    """Whether it is to be accepted."""
    problem: str = ""
    """Words that an operator is told."""


@cache
def cases() -> tuple[Case, ...]:
    """Make the certificates that every path has to tell apart."""
    ours, other = authority(), authority("another authority")
    ca = ours.certificate
    alone = identity()
    known = identity(*HERE, rsa=True)
    revoked = ours.sign(*HERE)
    clients = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    broken = x509.UnrecognizedExtension(
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("300587030102ff")
    )
    mail = x509.SubjectAlternativeName([x509.RFC822Name("localhost@example.com")])
    empty = x509.SubjectAlternativeName([x509.DNSName("")])
    odd = ("spiffe://example:1/a:b", "urn:a:b:c")
    return (
        Case("right", ours.sign(*HERE), ca, True),
        Case("right, with other URIs", ours.sign(*HERE, *odd), ca, True),
        Case("no subjectAltName", ours.sign(), ca, False, "names nobody"),
        Case("a mailbox", ours.sign(extensions=[mail]), ca, False, "names nobody"),
        Case("an empty name", ours.sign(extensions=[empty]), ca, False, "names nobody"),
        Case("other URIs", ours.sign(*odd), ca, False, "names nobody"),
        Case("names that cannot be read", ours.sign(extensions=[broken]), ca, False, "cannot be"),
        Case("wrong name", ours.sign("other.example", "192.0.2.1"), ca, False, "another name"),
        Case("other authority", other.sign(*HERE), ca, False, "not trusted"),
        Case("expired", ours.sign(*HERE, since=-3 * DAY, until=-DAY), ca, False, "has expired"),
        Case("not yet valid", ours.sign(*HERE, since=DAY), ca, False, "not valid yet"),
        Case("for clients", ours.sign(*HERE, extensions=[clients]), ca, False, "purpose"),
        Case("self-signed, not named", alone, ca, False, "not trusted"),
        Case("self-signed, named", known, known.certificate, True),
        Case("SHA-1", ours.sign(*HERE, sha1=True), ca, False, "too weak"),
        Case("1024 bits", ours.sign(*HERE, bits=1024), ca, False, "too short"),
        Case("revoked", revoked, ca + ours.revoke(revoked), True),
    )


@implementer(IOpenSSLServerConnectionCreator)
class Careless:
    """A listener that shows any certificate, however weak."""

    def __init__(self, identity: Identity) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.set_cipher_list(b"ALL:@SECLEVEL=0")
        self._context.use_certificate(x509.load_pem_x509_certificate(identity.certificate))
        key: Any = load_pem_private_key(identity.key, None)
        self._context.use_privatekey(key)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)
