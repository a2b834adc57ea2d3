"""What TLS listeners and clients agree on, in memory."""

from __future__ import annotations

from base64 import encodebytes
from typing import Any

from OpenSSL import SSL
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.tls import TlsOptions, describe_tls_failure
from tests.certificates import identity

ME = identity()
SERVER: dict[str, Any] = {"key": ME.key, "certificate": ME.certificate}

# ffdhe2048 of RFC 7919.
PRIME = bytes.fromhex(
    "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695A9E13641146433FBCC939DCE"
    "249B3EF97D2FE363630C75D8F681B202AEC4617AD3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3"
    "B557135E7F57C935984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE73530ACCA4F483A797ABC0AB182"
    "B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4AE56EDE76372BB190B07A7C8EE0A6D70"
    "9E02FCE1CDF7E2ECC03404CD28342F619172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC"
    "2EC22005C58EF1837D1683B2C6F34A26C1B2EFFA886B423861285C97FFFFFFFFFFFFFFFF"
)
PARAMETERS = (
    b"-----BEGIN DH PARAMETERS-----\n"
    + encodebytes(bytes.fromhex("308201080282010100") + PRIME + bytes.fromhex("020102"))
    + b"-----END DH PARAMETERS-----\n"
)


def shake(server: TlsOptions, client: SSL.Context | TlsOptions) -> tuple[str, str, bytes]:
    """Shake hands; give the version, the cipher, and what was sent.

    :raises SSL.Error: when one side does not want to.
    """
    here = SSL.Connection(server.server_context().getContext(), None)
    here.set_accept_state()
    if isinstance(client, TlsOptions):
        creator: Any = client.client_creator("localhost")
        there = creator.clientConnectionForTLS(None)
    else:
        there = SSL.Connection(client, None)
    there.set_connect_state()
    done: set[SSL.Connection] = set()
    sent = b""
    for _ in range(20):
        for one, other in ((there, here), (here, there)):
            try:
                one.do_handshake()
                done.add(one)
            except SSL.WantReadError:
                pass
            try:
                while True:
                    data = one.bio_read(65536)
                    sent += data
                    other.bio_write(data)
            except SSL.WantReadError:
                pass
        if len(done) == 2:
            break
    # With TLS 1.3 a client learns only then that its certificate is not wanted.
    try:
        there.recv(1)
    except SSL.WantReadError:
        pass
    return here.get_protocol_version_name(), here.get_cipher_name() or "", sent


def client(highest: int = 0, ciphers: bytes = b"") -> SSL.Context:
    """Make a client that verifies nothing."""
    context = SSL.Context(SSL.TLS_METHOD)
    if highest:
        context.set_max_proto_version(highest)
    if ciphers:
        context.set_cipher_list(ciphers)
    return context


class VersionTests(SynchronousTestCase):
    def test_oldest(self) -> None:
        """TLS 1.2 is spoken unless 1.3 is wanted; nothing older ever."""
        usual, new = TlsOptions(**SERVER), TlsOptions(**SERVER, minimum="1.3")
        self.assertEqual(shake(usual, client())[0], "TLSv1.3")
        self.assertEqual(shake(usual, client(highest=SSL.TLS1_2_VERSION))[0], "TLSv1.2")
        self.assertEqual(shake(new, client())[0], "TLSv1.3")
        self.assertRaises(SSL.Error, shake, new, client(highest=SSL.TLS1_2_VERSION))
        self.assertRaises(SSL.Error, shake, usual, client(highest=SSL.TLS1_1_VERSION))
        old = TlsOptions(**SERVER)
        self.assertEqual(shake(old, TlsOptions(verify=False, minimum="1.3"))[0], "TLSv1.3")
        self.assertRaises(LocalProtocolError, TlsOptions, minimum="1.1")

    def test_defaults(self) -> None:
        """The newer of two oldest versions counts; what is not said is taken over."""
        one = TlsOptions(minimum="1.3", ciphers="AESGCM")
        both = TlsOptions(key="k").with_defaults(one)
        self.assertEqual((both.minimum, both.ciphers, both.key), ("1.3", "AESGCM", "k"))
        self.assertFalse(both.verify_clients)
        self.assertTrue(TlsOptions().with_defaults(TlsOptions(verify_clients=True)).verify_clients)


class CipherTests(SynchronousTestCase):
    def test_ciphers(self) -> None:
        """With TLS 1.2 the given ciphers are used, by listeners and clients; 1.3 has its own."""
        name = "ECDHE-ECDSA-AES256-GCM-SHA384"
        chosen = TlsOptions(**SERVER, ciphers=name)
        self.assertEqual(shake(chosen, client(SSL.TLS1_2_VERSION))[:2], ("TLSv1.2", name))
        self.assertEqual(shake(chosen, client())[0], "TLSv1.3")
        other = b"ECDHE-ECDSA-AES128-GCM-SHA256"
        usual = TlsOptions(**SERVER)
        self.assertEqual(shake(usual, client(SSL.TLS1_2_VERSION, other))[1], other.decode())
        self.assertRaises(SSL.Error, shake, chosen, client(SSL.TLS1_2_VERSION, other))

    def test_nonsense(self) -> None:
        """A list that gives nothing is refused."""
        for text in ("ROT13", "", "é", "\0"):
            options = TlsOptions(**SERVER, ciphers=text, verify=False)
            self.assertRaises(LocalProtocolError, options.server_context)
            self.assertRaises(LocalProtocolError, options.client_creator, "localhost")

    def test_diffie_hellman(self) -> None:
        """A client that knows nothing better is served with the given parameters."""
        path = self.mktemp()
        FilePath(path).setContent(PARAMETERS)
        rsa = identity("localhost", rsa=True)
        name = "DHE-RSA-AES128-GCM-SHA256"
        server = TlsOptions(rsa.key, rsa.certificate, dh_parameters=path)
        _, cipher, sent = shake(server, client(SSL.TLS1_2_VERSION, name.encode()))
        self.assertEqual(cipher, name)
        self.assertIn(PRIME, sent)
        wrong = self.mktemp()
        FilePath(wrong).setContent(ME.certificate)
        for name, why in ((wrong, "no start line"), (self.mktemp(), "no such file")):
            options = TlsOptions(**SERVER, dh_parameters=name)
            error = self.assertRaises(LocalProtocolError, options.server_context)
            self.assertIn(f"parameters of {name}: {why}", str(error))


class ClientCertificateTests(SynchronousTestCase):
    def test_wanted(self) -> None:
        """Who has a certificate that is vouched for comes in, nobody else does."""
        friend, stranger = identity("friend"), identity("stranger")
        for source in ("ca", "chain"):
            vouching: dict[str, Any] = {source: friend.certificate}
            server = TlsOptions(**SERVER, verify_clients=True, **vouching)
            good = TlsOptions(friend.key, friend.certificate, verify=False)
            self.assertTrue(shake(server, good))
            for bad in (
                TlsOptions(stranger.key, stranger.certificate, verify=False),
                TlsOptions(verify=False),
            ):
                self.assertRaises(SSL.Error, shake, server, bad)

    def test_nobody_vouches(self) -> None:
        """Without anybody who could vouch for clients there is no listener."""
        options = TlsOptions(**SERVER, verify_clients=True)
        self.assertRaises(LocalProtocolError, options.server_context)


class WordsTests(SynchronousTestCase):
    def test_words(self) -> None:
        """What went wrong is said in words that help."""
        error = SSL.Error([("SSL routines", "", "certificate verify failed")])
        self.assertIn("--tls-ca", describe_tls_failure(error) or "")
        self.assertEqual(
            describe_tls_failure(error, "its", "ask the owner"),
            "its certificate is not trusted (ask the owner)",
        )
        self.assertIsNone(describe_tls_failure(ValueError()))
