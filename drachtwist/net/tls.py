"""TLS for drachtio connections, in both directions.

Certificates are verified unless that is switched off by name: a client checks the server's
certificate against the system's authorities, or the given ones, and its name against the host that
was asked for (:mod:`drachtwist.net.verifying`). Keys that are too short and signatures that are too
weak (RSA of less than 2048 bits, SHA-1) are refused whatever OpenSSL was built to think of them.

:class:`TlsOptions` says what is wanted, with the names of files; :class:`Credentials` has read
them, and reads them again when it is told to, for connections made from then on. What cannot be
read or used then leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Union, cast

from OpenSSL import SSL, crypto
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import (
    IAcceptableCiphers,
    ICipher,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import (
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    DiffieHellmanParameters,
    KeyPair,
    PrivateCertificate,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.filepath import FilePath
from zope.interface import implementer

from drachtwist.errors import LocalProtocolError
from drachtwist.net.verifying import CertificateRefused, PeerCheck, PeerName

__all__ = ["Credentials", "PemSource", "TlsOptions", "describe_tls_failure", "trust_root"]

PemSource = Union[str, bytes, Path, None]  # noqa: UP007 - evaluated on Python 3.10
"""PEM text or bytes, or the path of a file that holds it."""

_VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES256:DHE+AES256"
    ":ECDHE+AES128:DHE+AES:!aNULL:!MD5:!DSS"
)
# Whoever gets hold of a key must not be able to read what was said before: every exchange has keys
# of its own (RFC 9325 section 4.1), which is no matter of choice with TLS 1.3.
_SECURITY = 2
# OpenSSL's level: 112 bits, that is RSA from 2048 bits on, and no SHA-1 in signatures.
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
    client_names: Sequence[str] = ()
    """Names or addresses of which a client's certificate has to carry one; naming any switches
    ``verify_clients`` on."""

    def __post_init__(self) -> None:
        if self.minimum not in _VERSIONS:
            raise LocalProtocolError(f"the oldest TLS is 1.2 or 1.3, not {self.minimum!r}")
        if isinstance(self.client_names, str):
            raise LocalProtocolError(f"client_names is a list, not {self.client_names!r}")
        object.__setattr__(self, "client_names", tuple(self.client_names))
        for name in self.client_names:
            PeerName(name)
        if self.client_names:
            object.__setattr__(self, "verify_clients", True)

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
            client_names=self.client_names or other.client_names,
            minimum=max(self.minimum, other.minimum),
            **missing,
        )

    @property
    def has_identity(self) -> bool:
        """Whether there are a key and a certificate, as a listener needs."""
        return self.key is not None and self.certificate is not None

    def server_context(self) -> ServerCreator:
        """Make what a TLS listener needs.

        :raises LocalProtocolError: without key and certificate.
        """
        return Credentials(self, listens=True).server_creator()

    def client_creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """Make what a TLS client needs to connect to a host."""
        return Credentials(self).client_creator(host)

    # What Credentials read

    def _common(self) -> dict[str, Any]:
        """Return what both directions have in common."""
        text = _CIPHERS if self.ciphers is None else self.ciphers
        try:
            SSL.Context(SSL.TLS_METHOD).set_cipher_list(text.encode("utf-8"))
        except SSL.Error:
            raise LocalProtocolError(f"no cipher list that OpenSSL can use: {text!r}") from None
        return {"raiseMinimumTo": _VERSIONS[self.minimum], "acceptableCiphers": _Ciphers(text)}

    def _server_options(self) -> CertificateOptions:
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
        options = CertificateOptions(
            privateKey=identity.privateKey.original.to_cryptography_key(),
            certificate=identity.original.to_cryptography(),
            extraCertChain=[item.original.to_cryptography() for item in chain],
            **more,
        )
        _try(options, "certificate and key")
        if self.dh_parameters is not None:
            path = FilePath(str(self.dh_parameters))
            options = CertificateOptions(
                privateKey=identity.privateKey.original.to_cryptography_key(),
                certificate=identity.original.to_cryptography(),
                extraCertChain=[item.original.to_cryptography() for item in chain],
                dhParameters=DiffieHellmanParameters.fromFile(path),
                **more,
            )
            _try(options, f"Diffie-Hellman parameters of {self.dh_parameters}")
        return options

    def _client_options(self) -> tuple[CertificateOptions, CertificateOptions]:
        """Return what is used without and with verification."""
        extra = self._common()
        if self.has_identity:
            identity, chain = self._identity()
            extra["extraCertChain"] = [item.original.to_cryptography() for item in chain]
            extra["privateKey"] = identity.privateKey.original.to_cryptography_key()
            extra["certificate"] = identity.original.to_cryptography()
        plain = CertificateOptions(verify=False, **extra)
        if self.has_identity:
            _try(plain, "certificate and key")
        return plain, CertificateOptions(trustRoot=trust_root(self.ca), **extra)

    def _identity(self) -> tuple[PrivateCertificate, list[Certificate]]:
        own, *chain = _certificates(self.certificate, "certificate")
        if self.chain is not None:
            chain += _certificates(self.chain, "chain")
        pem = _pem(self.key, "key")
        if b"ENCRYPTED" in pem:
            raise LocalProtocolError("the TLS key has a passphrase, which nobody is there to type")
        try:
            key = KeyPair.load(pem, crypto.FILETYPE_PEM)
        except (crypto.Error, ValueError) as error:
            raise LocalProtocolError(f"cannot use the TLS key: {error}") from None
        try:
            return PrivateCertificate.fromCertificateAndKeyPair(own, key), chain
        except VerifyError:
            raise LocalProtocolError("the TLS key does not belong to the certificate") from None


def trust_root(ca: PemSource) -> Any:
    """Return whom Twisted is to trust: certificates, or the system's authorities if none are given.

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


def _try(options: CertificateOptions, what: str) -> None:
    """Make a context, and say what cannot be used if that fails; Twisted keeps it."""
    try:
        options.getContext()
    except (SSL.Error, OSError) as error:
        why = _of_openssl(error) if isinstance(error, SSL.Error) else error.strerror
        raise LocalProtocolError(f"cannot use the {what}: {why}") from None


@implementer(ICipher)
class _Level:
    """OpenSSL's security level, which is set in its list of ciphers."""

    fullName = f"@SECLEVEL={_SECURITY}"


@implementer(IAcceptableCiphers)
class _Ciphers:
    """Ciphers, used with keys and signatures that are worth their name."""

    def __init__(self, text: str) -> None:
        self._wanted = AcceptableCiphers.fromOpenSSLCipherString(text)

    def selectCiphers(self, availableCiphers: Any) -> tuple[Any, ...]:
        """Choose among those that there are."""
        chosen = tuple(self._wanted.selectCiphers(availableCiphers))
        return (*chosen, _Level()) if chosen else ()


class _Read:
    """What was read of TLS options, at one time."""

    __slots__ = ("_clients", "names", "server")

    def __init__(self, options: TlsOptions, *, listens: bool) -> None:
        self.server = options._server_options() if listens else None
        self.names = tuple(map(PeerName, options.client_names))
        self._clients = options._client_options()

    def client(self, *, verify: bool) -> SSL.Context:
        """Return the context for connecting."""
        return self._clients[verify].getContext()


class Credentials:
    """Keys, certificates and authorities, as they were read last.

    :param options: where they are.
    :param listens: there has to be all that a listener needs.
    :raises LocalProtocolError: when a file cannot be read or used.
    """

    def __init__(self, options: TlsOptions, *, listens: bool = False) -> None:
        self.options = options
        """Where they are."""
        self._listens = listens
        self._read = _Read(options, listens=listens)

    def __repr__(self) -> str:
        return f"<Credentials {self.options}>"

    def reload(self, options: TlsOptions | None = None) -> None:
        """Read all files again, for connections made from now on.

        :param options: where they are now, if elsewhere.
        :raises LocalProtocolError: when one of them cannot be read or used; then nothing changes.
        """
        options = self.options if options is None else options
        self._read = _Read(options, listens=self._listens)
        self.options = options

    def take(self, other: Credentials) -> None:
        """Use what others have read from now on."""
        self._read = other._read
        self.options = other.options

    def server_creator(self) -> ServerCreator:
        """Make what a TLS listener needs."""
        return ServerCreator(self)

    def client_creator(
        self, host: str, *, sip: bool = False, verify: bool | None = None
    ) -> IOpenSSLClientConnectionCreator:
        """Make what a TLS client needs to connect to a host.

        :param host: its name or address; the options may say that the certificate has another.
        :param sip: it is a SIP domain.
        :param verify: whether the certificate has to be valid, if not as the options say.
        :raises LocalProtocolError: when no certificate could carry that name.
        """
        if verify is None:
            verify = self.options.verify
        try:
            name = PeerName(self.options.server_name or host, sip=sip)
        except LocalProtocolError:
            if verify:
                raise
            name = None  # nobody checks it
        return cast(IOpenSSLClientConnectionCreator, _ClientCreator(self, name, verify))


@implementer(IOpenSSLServerConnectionCreator)
class ServerCreator:
    """Makes the TLS side of connections that were accepted."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def getContext(self) -> SSL.Context:
        """Return what connections are made from at present."""
        server = self._credentials._read.server
        assert server is not None, "credentials of a listener"
        return server.getContext()

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make one connection."""
        connection = SSL.Connection(self.getContext(), None)
        if self._credentials.options.verify_clients:
            check = PeerCheck(tlsProtocol, self._credentials._read.names)
            connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, check)
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class _ClientCreator:
    """Makes the TLS side of connections to one peer."""

    def __init__(self, credentials: Credentials, name: PeerName | None, verify: bool) -> None:
        self._credentials = credentials
        self._name = name
        self._verify = verify

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make one connection."""
        connection = SSL.Connection(self._credentials._read.client(verify=self._verify), None)
        name = self._name
        if name is not None and name.wire:
            connection.set_tlsext_host_name(name.wire)
        if self._verify:
            assert name is not None, "there is a name to verify"
            check = PeerCheck(tlsProtocol, (name,))
            connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, check)
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
    if isinstance(error, CertificateRefused):
        hint = ""
        if "name" in error.problem and whose == "the server's":
            hint = " (see TlsOptions.server_name)"
        return f"{whose} certificate {error.problem}{hint}"
    if isinstance(error, SSL.Error):
        text = _of_openssl(error) or "the peer closed the handshake"
        if "certificate verify failed" in text:
            return f"{whose} certificate is not trusted ({remedy})"
        if any(words in text for words in _NO_TLS):
            return f"TLS failed: the other side speaks something else, plain TCP perhaps ({text})"
        return f"TLS failed: {text}"
    return None


_NO_TLS = ("wrong version number", "packet length too long", "http request", "unknown protocol")
"""What OpenSSL says of bytes that are no TLS."""


def _of_openssl(error: SSL.Error) -> str:
    texts = [str(item[2]) for item in error.args[0]] if error.args and error.args[0] else []
    return ", ".join(filter(None, texts))
