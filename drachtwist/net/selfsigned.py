"""A certificate of one's own, for listeners that were given none."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drachtwist.errors import LocalProtocolError
from drachtwist.net.tls import TlsOptions

__all__ = ["CERTIFICATE_FILE", "KEY_FILE", "fingerprint", "identity_at_hand", "make_identity"]

KEY_FILE = "server.key"
CERTIFICATE_FILE = "server.crt"

_LIFETIME = datetime.timedelta(days=365)


def identity_at_hand(directory: Path) -> tuple[TlsOptions, str, bool]:
    """Find a key and a certificate, or make them.

    Those in the files ``server.key`` and ``server.crt`` of a directory are taken. If there are none
    a self-signed certificate for this machine is made, in memory.

    :returns: the two, what an operator should know about them, and whether they were made.
    :raises LocalProtocolError: when there is only one of the files.
    """
    key, certificate = directory / KEY_FILE, directory / CERTIFICATE_FILE
    there = [path.name for path in (key, certificate) if path.exists()]
    if len(there) == 1:
        raise LocalProtocolError(
            f"{there[0]} is in {directory} without the other one: {KEY_FILE} and"
            f" {CERTIFICATE_FILE} belong together"
        )
    if there:
        about = f"TLS takes {KEY_FILE} and {CERTIFICATE_FILE} of {directory}"
        return TlsOptions(key=key, certificate=certificate), about, False
    host = socket.gethostname()
    made = make_identity([host, socket.getfqdn(), "localhost", "127.0.0.1", "::1"])
    assert isinstance(made.certificate, bytes), "it was made in memory"
    about = (
        "TLS has no certificate, so one was made for this run, self-signed, with the SHA-256"
        f" fingerprint {fingerprint(made.certificate)}; peers that verify refuse it. To keep one"
        " that they can be told to trust: openssl req -x509 -newkey rsa:2048 -nodes -days 365"
        f" -subj /CN={host} -addext subjectAltName=DNS:{host} -keyout {KEY_FILE}"
        f" -out {CERTIFICATE_FILE}"
    )
    return made, about, True


def make_identity(names: Iterable[str]) -> TlsOptions:
    """Make a key and a self-signed certificate.

    :param names: host names and addresses that it is for; what cannot be one is left out.
    """
    alternatives: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name.isascii() and name:
                alternatives.append(x509.DNSName(name))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drachtwist, self-signed")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return TlsOptions(
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
    )


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 fingerprint of a certificate (PEM), as other tools write it."""
    digest = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256())
    return digest.hex(":").upper()
