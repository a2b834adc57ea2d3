"""What TLS listeners and clients agree on, in memory."""

from __future__ import annotations

from base64 import encodebytes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from OpenSSL import SSL, crypto
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.tls import Credentials, TlsOptions, describe_tls_failure
from tests.certificates import Identity, authority, identity

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
    nobody: Any = None
    here = server.server_context().serverConnectionForTLS(nobody)
    here.set_accept_state()
    if not isinstance(client, SSL.Context):
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

    def test_forward_secrecy(self) -> None:
        """Whoever gets hold of the key later reads nothing: RSA key exchange only if asked for."""
        rsa = identity("localhost", rsa=True)
        plain = client(SSL.TLS1_2_VERSION, b"kRSA+AES")
        self.assertRaises(SSL.Error, shake, TlsOptions(rsa.key, rsa.certificate), plain)
        usual = client(SSL.TLS1_2_VERSION)
        self.assertIn("DHE", shake(TlsOptions(rsa.key, rsa.certificate), usual)[1])
        asked = TlsOptions(rsa.key, rsa.certificate, ciphers="kRSA+AESGCM")
        self.assertNotIn("DHE", shake(asked, plain)[1])
        # As a client neither.
        for tls, good in (
            (TlsOptions(verify=False), False),
            (TlsOptions(verify=False, ciphers="ALL"), True),
        ):
            there: Any = tls.client_creator("localhost")
            offered = there.clientConnectionForTLS(None).get_cipher_list()
            self.assertEqual("AES128-GCM-SHA256" in offered, good)

    def test_strength(self) -> None:
        """Keys that are too short are not used for listening either, whatever the ciphers say."""
        weak = authority().sign("localhost", bits=1024)
        for ciphers in (None, "ALL:@SECLEVEL=0"):
            options = TlsOptions(weak.key, weak.certificate, ciphers=ciphers)
            error = self.assertRaises(LocalProtocolError, options.server_context)
            self.assertIn("certificate and key: ", str(error))

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

    def test_names(self) -> None:
        """Who is vouched for under another name does not come in, nor who has none."""
        ca = authority()
        server = TlsOptions(**SERVER, ca=ca.certificate, client_names=["sip.example", "192.0.2.1"])
        self.assertTrue(server.verify_clients)
        for names, good in (
            (("sip.example",), True),
            (("192.0.2.1", "a.example"), True),
            (("other.example",), False),
            ((), False),
        ):
            mine = ca.sign(*names)
            shown = TlsOptions(mine.key, mine.certificate, verify=False)
            if good:
                self.assertTrue(shake(server, shown))
            else:
                self.assertRaises(SSL.Error, shake, server, shown)
        stranger = identity("sip.example")
        shown = TlsOptions(stranger.key, stranger.certificate, verify=False)
        self.assertRaises(SSL.Error, shake, server, shown)
        self.assertRaises(SSL.Error, shake, server, TlsOptions(verify=False))

    def test_no_names(self) -> None:
        """A single text is no list of names, and what no certificate can carry is no name."""
        for names in ("sip.example", [""], ["a b"]):
            self.assertRaises(LocalProtocolError, TlsOptions, client_names=names)

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


class RenewalTests(SynchronousTestCase):
    def files(self) -> tuple[Path, Path]:
        """Write a key and a certificate."""
        made = Path(self.mktemp()), Path(self.mktemp())
        self.write(made, ME)
        return made

    def write(self, files: tuple[Path, Path], of: Identity) -> None:
        """Write another key and certificate into the files."""
        files[0].write_bytes(of.key)
        files[1].write_bytes(of.certificate)

    def shown(self, creator: Any) -> bytes:
        """Give the certificate that new connections show."""
        found = creator.getContext()
        connection = SSL.Connection(found, None)
        shown = connection.get_certificate()
        assert shown is not None
        return crypto.dump_certificate(crypto.FILETYPE_PEM, shown)

    def test_reload(self) -> None:
        """What was renewed is used from then on, by what was made before too."""
        files = self.files()
        credentials = Credentials(TlsOptions(*files), listens=True)
        creator = credentials.server_creator()
        other = identity("other.example")
        self.write(files, other)
        self.assertEqual(self.shown(creator), ME.certificate)
        credentials.reload()
        self.assertEqual(self.shown(creator), other.certificate)

    def test_bad_files(self) -> None:
        """Files that cannot be used change nothing, whichever of them it is."""
        locked = ME.key.replace(b"PRIVATE", b"ENCRYPTED PRIVATE")
        others = identity("other.example").key
        for at, content in (
            (0, b"nothing"),
            (1, b"nothing"),
            (0, others),
            (0, locked),
            (1, None),
        ):
            files = self.files()
            credentials = Credentials(TlsOptions(*files, ca=files[1]), listens=True)
            creator = credentials.server_creator()
            if content is None:
                files[at].unlink()
            else:
                files[at].write_bytes(content)
            self.assertRaises(LocalProtocolError, credentials.reload)
            self.assertEqual(self.shown(creator), ME.certificate)

    def test_authorities(self) -> None:
        """Whom a client trusts is read again too, and names of clients are."""
        path = Path(self.mktemp())
        path.write_bytes(identity("other.example").certificate)
        credentials = Credentials(TlsOptions(ca=path))
        creator: Any = credentials.client_creator("localhost")

        def shake_hands() -> None:
            client: Any = SimpleNamespace(client_creator=lambda host: creator)
            shake(TlsOptions(**SERVER), client)

        self.assertRaises(SSL.Error, shake_hands)
        path.write_bytes(ME.certificate)
        self.assertRaises(SSL.Error, shake_hands)
        credentials.reload()
        shake_hands()
        path.write_bytes(b"nothing")
        self.assertRaises(LocalProtocolError, credentials.reload)
        shake_hands()
