"""Whom a certificate is for; in doubt it is for nobody, and the connection is refused.

OpenSSL checks a certificate by itself: signatures, validity, purpose, strength. Whom it is *for*
is checked here, while the handshake is under way, and before anything was sent to the peer:

* The names of a host are the dNSNames and iPAddresses of its subjectAltName (RFC 9525); a common
  name is none.
* The names of a SIP domain are the hosts of ``sip:`` URIs there, or, where there are none, its
  dNSNames, as they stand: a ``*`` is no wildcard (RFC 5922 sections 7.1 and 7.2). Where a SIP URI
  has an address for a host, an iPAddress counts.

A certificate without any such name is for nobody. OpenSSL takes the verdict of a callback for its
own, and libraries differ in what they do with an error inside of one: log it, say, and let stand
what OpenSSL found so far. So there is a single callback, :class:`PeerCheck`, for all connections,
and whatever goes wrong in it is a refusal.

Whether a certificate was revoked is not looked at.
"""

from __future__ import annotations

import ipaddress
import weakref
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from OpenSSL import SSL, crypto
from service_identity.exceptions import CertificateError, VerificationError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from drachtwist.errors import LocalProtocolError
from drachtwist.net.logs import Logger

__all__ = ["CertificateRefused", "PeerCheck", "PeerName", "is_for"]

_WHY = {
    9: "is not valid yet",
    10: "has expired",
    26: "is not for this purpose",
    66: "has a key that is too short",
    67: "comes from an authority whose key is too short",
    68: "is signed with an algorithm that is too weak",
}
"""What OpenSSL found (X509_V_ERR_...), where that says more than "not trusted"."""


class CertificateRefused(Exception):
    """A certificate does not prove that the peer is who it should be."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the certificate {problem}")
        self.problem = problem
        """What is wrong, as the end of a sentence about the certificate."""


class PeerName:
    """The name of a peer.

    :param name: a host name or an address.
    :param sip: it is a SIP domain.
    :raises LocalProtocolError: when no certificate could carry it.
    """

    __slots__ = ("_wanted", "is_address", "sip", "text", "wire")

    def __init__(self, name: str, *, sip: bool = False) -> None:
        self.text = name
        self.sip = sip
        bare = name.partition("%")[0]  # a zone is this machine's own affair
        self.is_address = isIPAddress(bare) or isIPv6Address(bare)
        """Whether it is an address."""
        try:
            if self.is_address:
                self.wire = b""
                self._wanted: Any = IPAddress_ID(bare)
            else:
                self.wire = name.rstrip(".").encode("idna")
                """What is sent to the peer as the name of the server that is wanted."""
                self._wanted = DNS_ID(self.wire.decode("ascii"))
        except ValueError:
            raise LocalProtocolError(f"no name for a certificate: {name!r}") from None

    def __repr__(self) -> str:
        return f"<PeerName {self.text}>"

    def matches(self, certificate: x509.Certificate) -> bool:
        """Return whether a certificate is for it.

        :raises CertificateRefused: when the certificate is for nobody.
        """
        patterns = _patterns(certificate, sip=self.sip)
        if not patterns:
            raise CertificateRefused("names nobody (it has no usable subjectAltName)")
        try:
            verify_service_identity(patterns, [self._wanted], [])
        except VerificationError:
            return False
        return True


def is_for(certificate: x509.Certificate, names: Sequence[PeerName]) -> None:
    """Check that a certificate is for one of several names.

    :raises CertificateRefused: when it is not.
    """
    # Not any(): the first name may raise what tells more than that none of them matches.
    for name in names:
        if name.matches(certificate):
            return
    raise CertificateRefused("is for another name")


def _patterns(certificate: x509.Certificate, *, sip: bool) -> list[CertificatePattern]:
    """Return the names in a certificate; those that are none are passed over."""
    try:
        extension = certificate.extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        )
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateRefused("cannot be read") from None
    names: Any = extension.value
    found: list[CertificatePattern] = []
    hosts: list[str] = []
    if sip:
        hosts = list(filter(None, map(_sip_domain, names)))
    for host in hosts or names.get_values_for_type(x509.DNSName):
        if sip and "*" in host:
            continue
        try:
            found.append(DNSPattern.from_bytes(host.encode("utf-8")))
        except CertificateError:
            if hosts and _is_address(host):
                found.append(IPAddressPattern(ipaddress.ip_address(host)))
    found += [IPAddressPattern(one) for one in names.get_values_for_type(x509.IPAddress)]
    return found


def _sip_domain(name: x509.GeneralName) -> str | None:
    """Return the host of a SIP URI that is for a whole domain; None for any other name."""
    if not isinstance(name, x509.UniformResourceIdentifier):
        return None
    scheme, colon, rest = name.value.partition(":")
    if scheme.lower() != "sip" or not colon or "@" in rest:
        return None
    host = rest.partition(";")[0].partition("?")[0]
    if host.startswith("["):
        return host[1:].partition("]")[0] or None
    return host.partition(":")[0] or None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class PeerCheck:
    """Decides about the certificates that a peer shows on one connection.

    An instance is what OpenSSL calls for each certificate of the chain, the root first.

    :param protocol: the TLS connection, which is told why it fails; None for none.
    :param names: whom the peer's own certificate has to be for; empty if that does not matter.
    """

    _log = Logger()

    def __init__(self, protocol: TLSMemoryBIOProtocol | None, names: Sequence[PeerName]) -> None:
        # The connection holds this, and must not be held in turn.
        self._protocol = None if protocol is None else weakref.ref(protocol)
        self._names = names

    def __call__(
        self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        """Say whether a certificate is accepted."""
        try:
            if not ok:
                if error in _WHY:
                    self._tell(CertificateRefused(_WHY[error]))
                return False
            if depth == 0 and self._names:
                is_for(certificate.to_cryptography(), self._names)
        except CertificateRefused as refused:
            self._tell(refused)
            return False
        except BaseException:
            self._log.failure("failed to verify a certificate, so it is refused")
            self._tell(CertificateRefused("cannot be verified"))
            return False
        return True

    def _tell(self, refused: CertificateRefused) -> None:
        protocol = None if self._protocol is None else self._protocol()
        if protocol is not None:
            protocol.failVerification(Failure(refused))
