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
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    DiffieHellmanParameters,
    KeyPair,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.filepath import FilePath
from zope.interface import implementer

from drachtwist.errors import LocalProtocolError

__all__ = ["PemSource", "TlsOptions", "describe_tls_failure", "trust_root"]

PemSource = Union[str, bytes, Path, None]  # noqa: UP007 - evaluated on Python 3.10
"""PEM text or bytes, or the path of a file that holds it."""

_VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
_OPTIONAL = ("key", "certificate", "chain", "ca", "server_name", "ciphers", "dh_parameters")


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What a TLS connection uses; one value serves for both directions.

    :raises LocalProtocolError: for another oldest version; and, from the methods, when a file or a
        cipher list cannot be used.
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
    minimum: str = "1.2"
    """The oldest version of TLS to speak: ``1.2`` or ``1.3``."""
    ciphers: str | None = None
    """What TLS 1.2 may use, as OpenSSL writes it: ``ECDHE+AESGCM``. Those of TLS 1.3 are always
    on, and all of them are good."""
    dh_parameters: str | Path | None = None
    """The path of a file with Diffie-Hellman parameters (PEM), for listeners whose clients know
    nothing better."""
    verify_clients: bool = False
    """Whether a listener wants a certificate of everybody who connects: one that ``ca`` or, when
    that is not given, ``chain`` vouches for. The system's authorities do not count: they vouch for
    anybody."""

    def __post_init__(self) -> None:
        if self.minimum not in _VERSIONS:
            raise LocalProtocolError(f"the oldest TLS is 1.2 or 1.3, not {self.minimum!r}")

    def with_defaults(self, other: TlsOptions | None) -> TlsOptions:
        """Fill what is not set here from other options."""
        if other is None:
            return self
        missing: dict[str, Any] = {
            name: getattr(other, name) for name in _OPTIONAL if getattr(self, name) is None
        }
        return replace(
            self,
            verify=self.verify and other.verify,
            verify_clients=self.verify_clients or other.verify_clients,
            minimum=max(self.minimum, other.minimum),
            **missing,
        )

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
        more = self._common()
        if self.verify_clients:
            trusted = self.chain if self.ca is None else self.ca
            if trusted is None:
                raise LocalProtocolError(
                    "certificates of clients cannot be verified without those that vouch for them:"
                    " give a chain or ca"
                )
            more["trustRoot"] = trust_root(trusted)
        if self.dh_parameters is not None:
            path = FilePath(str(self.dh_parameters))
            more["dhParameters"] = DiffieHellmanParameters.fromFile(path)
        options = CertificateOptions(
            privateKey=identity.privateKey.original,
            certificate=identity.original,
            extraCertChain=[item.original for item in chain],
            **more,
        )
        try:
            options.getContext()
        except (SSL.Error, OSError) as error:
            raise LocalProtocolError(
                f"cannot use the Diffie-Hellman parameters of {self.dh_parameters}: "
                f"{_of_openssl(error) if isinstance(error, SSL.Error) else error.strerror}"
            ) from None
        return options

    def _common(self) -> dict[str, Any]:
        """Give what both directions have in common."""
        more: dict[str, Any] = {"raiseMinimumTo": _VERSIONS[self.minimum]}
        if self.ciphers is not None:
            try:
                SSL.Context(SSL.TLS_METHOD).set_cipher_list(self.ciphers.encode("utf-8"))
            except SSL.Error:
                raise LocalProtocolError(
                    f"no cipher list that OpenSSL can use: {self.ciphers!r}"
                ) from None
            more["acceptableCiphers"] = AcceptableCiphers.fromOpenSSLCipherString(self.ciphers)
        return more

    def client_creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """Make what a TLS client needs to connect to a host."""
        name = self.server_name or host
        extra = self._common()
        identity = None
        if self.has_identity:
            identity, chain = self._identity()
            extra["extraCertChain"] = [item.original for item in chain]
        if self.verify:
            trusted = trust_root(self.ca)
            try:
                return optionsForClientTLS(
                    name,
                    trustRoot=trusted,
                    clientCertificate=identity,
                    extraCertificateOptions=extra,
                )
            except UnicodeError:
                raise LocalProtocolError(f"no name for a certificate: {name!r}") from None
        if identity is not None:
            extra["privateKey"] = identity.privateKey.original
            extra["certificate"] = identity.original
        context = CertificateOptions(verify=False, **extra).getContext()
        sent = b""
        if not isIPAddress(name) and not isIPv6Address(name):
            try:
                sent = name.encode("idna")
            except UnicodeError:
                pass  # nobody checks it
        return cast(IOpenSSLClientConnectionCreator, _Unverified(context, sent))

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


def trust_root(ca: PemSource) -> Any:
    """Give whom Twisted is to trust: certificates, or the system's authorities if none are given.

    :raises LocalProtocolError: when they cannot be used.
    """
    if ca is None:
        return platformTrust()
    return trustRootFromCertificates(_certificates(ca, "ca"))


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

    def __init__(self, context: SSL.Context, name: bytes) -> None:
        self._context = context
        self._name = name

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make one connection."""
        connection = SSL.Connection(self._context, None)
        if self._name:
            connection.set_tlsext_host_name(self._name)
        return connection


def describe_tls_failure(
    error: BaseException | None,
    whose: str = "the server's",
    remedy: str = "name it with ca= or --tls-ca to trust it",
) -> str | None:
    """Say in one line why TLS failed; None when the error is of another kind.

    :param whose: who is at the other end.
    :param remedy: what makes a certificate trusted.
    """
    if isinstance(error, VerificationError):
        hint = " (see TlsOptions.server_name)" if whose == "the server's" else ""
        return f"{whose} certificate is for another name{hint}"
    if isinstance(error, SSL.Error):
        text = _of_openssl(error) or "the peer closed the handshake"
        if "certificate verify failed" in text:
            return f"{whose} certificate is not trusted ({remedy})"
        return f"TLS failed: {text}"
    return None


def _of_openssl(error: SSL.Error) -> str:
    texts = [str(item[2]) for item in error.args[0]] if error.args and error.args[0] else []
    return ", ".join(filter(None, texts))
