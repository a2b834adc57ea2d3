"""TLS for drachtio connections, in both directions.

Certificates are verified unless that is switched off by name: a client checks the server's
certificate against the system's authorities, or the given ones, and its name against the host that
was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Union, cast

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from drachtwist.errors import LocalProtocolError

__all__ = ["PemSource", "TlsOptions", "describe_tls_failure"]

PemSource = Union[str, bytes, Path, None]  # noqa: UP007 - evaluated on Python 3.10
"""PEM text or bytes, or the path of a file that holds it."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What a TLS connection uses; one value serves for both directions.

    :raises LocalProtocolError: (from the methods) when a file cannot be read or used.
    """

    key: PemSource = field(default=None, repr=False)
    """Our private key."""
    certificate: PemSource = None
    """Our certificate, with or without its chain behind it."""
    chain: PemSource = None
    """Further certificates to send along."""
    ca: PemSource = None
    """The certificates to trust, instead of the system's authorities. A self-signed server
    certificate is trusted by naming it here."""
    verify: bool = True
    """Whether the peer's certificate must be valid. Switching it off gives up all protection
    against an active attacker."""
    server_name: str | None = None
    """The name that the server's certificate must carry, instead of the host connected to."""

    def with_defaults(self, other: TlsOptions | None) -> TlsOptions:
        """Fill what is not set here from other options."""
        if other is None:
            return self
        missing: dict[str, Any] = {
            name: getattr(other, name)
            for name in ("key", "certificate", "chain", "ca", "server_name")
            if getattr(self, name) is None
        }
        return replace(self, verify=self.verify and other.verify, **missing)

    @property
    def has_identity(self) -> bool:
        """Whether there are a key and a certificate, as a listener needs."""
        return self.key is not None and self.certificate is not None

    def server_context(self) -> CertificateOptions:
        """Make what a TLS listener needs.

        :raises LocalProtocolError: without key and certificate.
        """
        if not self.has_identity:
            raise LocalProtocolError(
                "TLS needs a private key and a certificate: give key= and certificate="
                " (privateKey= and certKey= in an endpoint string, or --tls-key and --tls-cert)"
            )
        identity, chain = self._identity()
        return CertificateOptions(
            privateKey=identity.privateKey.original,
            certificate=identity.original,
            extraCertChain=[item.original for item in chain],
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )

    def client_creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """Make what a TLS client needs to connect to a host."""
        name = self.server_name or host
        extra: dict[str, Any] = {"raiseMinimumTo": TLSVersion.TLSv1_2}
        identity = None
        if self.has_identity:
            identity, chain = self._identity()
            extra["extraCertChain"] = [item.original for item in chain]
        if self.verify:
            if self.ca is None:
                trust: Any = platformTrust()
            else:
                trust = trustRootFromCertificates(_certificates(self.ca, "ca"))
            return optionsForClientTLS(
                name, trustRoot=trust, clientCertificate=identity, extraCertificateOptions=extra
            )
        if identity is not None:
            extra["privateKey"] = identity.privateKey.original
            extra["certificate"] = identity.original
        context = CertificateOptions(verify=False, **extra).getContext()
        return cast(IOpenSSLClientConnectionCreator, _Unverified(context, name))

    def _identity(self) -> tuple[PrivateCertificate, list[Certificate]]:
        own, *chain = _certificates(self.certificate, "certificate")
        if self.chain is not None:
            chain += _certificates(self.chain, "chain")
        try:
            key = KeyPair.load(_pem(self.key, "key"), crypto.FILETYPE_PEM)
            identity = PrivateCertificate.fromCertificateAndKeyPair(own, key)
        except (crypto.Error, ValueError) as error:
            raise LocalProtocolError(f"cannot use the TLS key: {error}") from None
        return identity, chain


def _pem(source: PemSource, what: str) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str) and "-----BEGIN" in source:
        return source.encode()
    try:
        return Path(cast(Any, source)).read_bytes()
    except OSError as error:
        raise LocalProtocolError(f"cannot read the TLS {what}: {error}") from None


def _certificates(source: PemSource, what: str) -> list[Certificate]:
    begin = b"-----BEGIN CERTIFICATE-----"
    parts = _pem(source, what).split(begin)[1:]
    if not parts:
        raise LocalProtocolError(f"no certificate in the TLS {what}")
    try:
        return [Certificate.loadPEM(begin + part) for part in parts]
    except (crypto.Error, ValueError) as error:
        raise LocalProtocolError(f"cannot use the TLS {what}: {error}") from None


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Starts TLS connections that accept any certificate."""

    def __init__(self, context: SSL.Context, name: str) -> None:
        self._context = context
        self._name = name

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make one connection."""
        connection = SSL.Connection(self._context, None)
        if not isIPAddress(self._name) and not isIPv6Address(self._name):
            connection.set_tlsext_host_name(self._name.encode("idna"))
        return connection


def describe_tls_failure(error: BaseException | None) -> str | None:
    """Say in one line why TLS failed; None when the error is of another kind."""
    if isinstance(error, VerificationError):
        return "the server's certificate is for another name (see TlsOptions.server_name)"
    if isinstance(error, SSL.Error):
        texts = [str(item[2]) for item in error.args[0]] if error.args and error.args[0] else []
        text = ", ".join(item for item in texts if item) or "the peer closed the handshake"
        if "certificate verify failed" in text:
            return (
                "the server's certificate is not trusted (name it with ca= or --tls-ca to trust it)"
            )
        return f"TLS failed: {text}"
    return None
