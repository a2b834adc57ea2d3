"""Asking for passwords."""

from __future__ import annotations

from typing import Any, cast

from twisted.cred.checkers import (
    AllowAnonymousAccess,
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import IUsernameDigestHash, IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from drachtwist import LocalProtocolError
from drachtwist.middleware import STRONG, DigestAuth, Ha1, authenticated_user
from drachtwist.middleware.digest import _Used
from drachtwist.sip import Response, digest
from tests.middleware.requests import MiddlewareTestCase

URI = "sip:app@127.0.0.1:32060"
PASSWORDS = {"alice": "open-sesame"}


def lookup(name: str, realm: str) -> str | None:
    """Give a password."""
    return PASSWORDS.get(name) if realm == "example.net" else None


@implementer(ICredentialsChecker)
class HashChecker:
    """Keeps a hash of the password."""

    credentialInterfaces = (IUsernameDigestHash,)

    def requestAvatarId(self, credentials: Any) -> Any:
        ha1 = digest.make_ha1("alice", "example.net", "open-sesame")
        if credentials.username == b"alice" and credentials.checkHash(ha1):
            return succeed(b"alice")
        return fail(UnauthorizedLogin())


@implementer(ICredentialsChecker)
class Careless:
    """Says yes without having looked."""

    credentialInterfaces = (IUsernameHashedPassword,)

    def requestAvatarId(self, credentials: Any) -> Any:
        return succeed(b"alice")


class DigestAuthTests(MiddlewareTestCase):
    def guard(self, find: Any = lookup, **options: Any) -> None:
        """Guard the application."""
        self.auth = DigestAuth("example.net", find, **options)
        self.use(self.auth)

    def challenges(self, response: Response) -> list[digest.Challenge]:
        """Give the challenges of a response."""
        return [
            challenge
            for text in response.get_all("WWW-Authenticate")
            for challenge in digest.Challenge.parse_list(text)
        ]

    def answer(
        self,
        response: Response,
        *,
        which: int = 0,
        password: str = "open-sesame",
        username: str = "alice",
        uri: str = URI,
        **options: Any,
    ) -> str:
        """Write the header that answers a challenge."""
        made = digest.answer(
            self.challenges(response)[which],
            username=username,
            password=password,
            method=options.pop("method", "OPTIONS"),
            uri=uri,
            **options,
        )
        return f"Authorization: {made}\n"

    def test_challenged(self) -> None:
        """Who brings nothing is asked, with the strongest algorithm first."""
        self.guard(algorithms=STRONG)
        response = self.ask()
        self.assertEqual(response.status, 401)
        challenges = self.challenges(response)
        self.assertEqual([one.algorithm for one in challenges], ["SHA-256", "MD5"])
        self.assertEqual({one.realm for one in challenges}, {"example.net"})
        self.assertEqual(self.passed, [])

    def test_right(self) -> None:
        """The right password opens, with each algorithm on offer; the application learns who."""
        self.guard(algorithms=STRONG)
        for which in (0, 1):
            response = self.ask(extra=self.answer(self.ask(), which=which))
            self.assertEqual(response.status, 200)
            self.assertEqual(authenticated_user(self.passed[-1]), "alice")

    def test_wrong(self) -> None:
        """A wrong password and a name that nobody has get the same answer."""
        failed: list[str] = []
        self.guard(on_failure=lambda req, user: failed.append(user))
        for who in ({"password": "wrong"}, {"username": "nobody"}):
            response = self.ask(extra=self.answer(self.ask(), **cast(Any, who)))
            self.assertEqual(response.status, 401)
            self.assertFalse(self.challenges(response)[0].stale)
        self.assertEqual((self.passed, failed), ([], ["alice", "nobody"]))

    def test_checkers(self) -> None:
        """Checkers of twisted.cred know the passwords, each algorithm asked for and no other."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write("alice:open-sesame\n")
        memory = InMemoryUsernamePasswordDatabaseDontUse()
        memory.addUser(b"alice", b"open-sesame")
        for checker in (memory, FilePasswordDB(path), HashChecker(), Careless()):
            self.passed.clear()
            self.guard(checker, algorithms=STRONG)
            good = 401 if isinstance(checker, Careless) else 200
            # The hash that is kept is one of MD5.
            for which in (1,) if isinstance(checker, HashChecker) else (0, 1):
                response = self.ask(extra=self.answer(self.ask(), which=which))
                self.assertEqual(response.status, good, checker)
            for who in ({"password": "wrong"}, {"username": "nobody"}):
                extra = self.answer(self.ask(), which=1, **cast(Any, who))
                self.assertEqual(self.ask(extra=extra).status, 401, checker)
            self.setUp()

    def test_checkers_that_want_more(self) -> None:
        """A checker that needs the password itself is refused at once."""
        self.assertRaises(LocalProtocolError, DigestAuth, "example.net", AllowAnonymousAccess())

    def test_replayed(self) -> None:
        """The same credentials do not open twice; a higher count does."""
        self.guard()
        first = self.ask()
        credentials = self.answer(first)
        self.assertEqual(self.ask(extra=credentials).status, 200)
        replayed = self.ask(extra=credentials)
        self.assertEqual(replayed.status, 401)
        self.assertTrue(self.challenges(replayed)[0].stale)
        self.assertEqual(self.ask(extra=self.answer(first, nonce_count=2)).status, 200)

    def test_expired(self) -> None:
        """An old nonce is stale, when the password is right; a wrong one is just wrong."""
        self.guard(nonce_lifetime=60.0)
        first = self.ask()
        self.clock.advance(61)
        stale = self.ask(extra=self.answer(first))
        self.assertTrue(self.challenges(stale)[0].stale)
        wrong = self.ask(extra=self.answer(first, password="wrong"))
        self.assertFalse(self.challenges(wrong)[0].stale)
        self.assertEqual(self.ask(extra=self.answer(stale)).status, 200)

    def test_forged_nonce(self) -> None:
        """A nonce that was not made here is worth nothing."""
        self.guard()
        other = DigestAuth("example.net", lookup)
        forged = str(digest.Challenge.digest("example.net", other._nonces.make(0.0)))
        response = Response(401, headers={"WWW-Authenticate": forged})
        self.assertEqual(self.ask(extra=self.answer(response)).status, 401)

    def test_shared_key(self) -> None:
        """Two processes with the same key accept each other's nonces."""
        self.guard(key=b"k" * 32)
        other = DigestAuth("example.net", lookup, key=b"k" * 32)
        made = str(digest.Challenge.digest("example.net", other._nonces.make(0.0)))
        response = Response(401, headers={"WWW-Authenticate": made})
        self.assertEqual(self.ask(extra=self.answer(response)).status, 200)

    def test_forgotten_nonces(self) -> None:
        """When there are too many nonces the oldest is stale, not open to be used again."""
        self.guard(max_nonces=1)
        first = self.ask()
        credentials = self.answer(first)
        self.assertEqual(self.ask(extra=credentials).status, 200)
        self.clock.advance(1)
        self.assertEqual(self.ask(extra=self.answer(self.ask())).status, 200)
        again = self.ask(extra=credentials)
        self.assertEqual(again.status, 401)
        self.assertTrue(self.challenges(again)[0].stale)

    def test_later_lookups(self) -> None:
        """Passwords and hashes may come now, later, or from a coroutine."""
        hashes = {
            name: digest.make_ha1("alice", "example.net", "open-sesame", name)
            for name in ("MD5", "SHA-256")
        }

        async def coroutine(name: str, realm: str) -> Ha1:
            return Ha1(hashes)

        def deferred(name: str, realm: str) -> Deferred[str]:
            return succeed("open-sesame")

        for find in (coroutine, deferred):
            auth = DigestAuth("example.net", find)
            self.srf.use("message", auth)
        self.use()
        first = self.ask("MESSAGE")
        self.assertEqual(first.status, 401)
        # Each of the two asks with nonces of its own: here the first lets in, the second asks.
        second = self.ask("MESSAGE", extra=self.answer(first, method="MESSAGE"))
        self.assertEqual(second.status, 401)
        self.assertNotEqual(self.challenges(first)[0].nonce, self.challenges(second)[0].nonce)

    def test_missing_hash(self) -> None:
        """Who has only an MD5 hash cannot come in with SHA-256."""
        md5 = digest.make_ha1("alice", "example.net", "open-sesame", "MD5")
        self.guard(lambda name, realm: Ha1({"MD5": md5}), algorithms=STRONG)
        self.assertEqual(self.ask(extra=self.answer(self.ask(), which=0)).status, 401)
        self.assertEqual(self.ask(extra=self.answer(self.ask(), which=1)).status, 200)

    def test_failing_lookup(self) -> None:
        """A lookup that fails is a 500, and lets nobody in."""

        def fail(name: str, realm: str) -> str:
            raise RuntimeError("the database is gone")

        self.guard(fail)
        self.assertEqual(self.ask(extra=self.answer(self.ask())).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.passed, [])

    def test_malformed(self) -> None:
        """Credentials that cannot be read, or are for another URI, are a 400."""
        self.guard(check_uri=True)
        self.assertEqual(self.ask(extra="Authorization: Digest , ,=\n").status, 400)
        other = self.answer(self.ask(), uri="sip:else@127.0.0.1")
        self.assertEqual(self.ask(extra=other).status, 400)

    def test_auth_int(self) -> None:
        """With auth-int a changed body does not come in."""
        self.guard(qop=("auth-int",))
        credentials = self.answer(self.ask("MESSAGE"), method="MESSAGE", body=b"hello")
        self.assertEqual(self.ask("MESSAGE", credentials, body="hullo").status, 401)
        credentials = self.answer(self.ask("MESSAGE"), method="MESSAGE", body=b"hello")
        self.assertEqual(self.ask("MESSAGE", credentials, body="hello").status, 200)

    def test_downgrade(self) -> None:
        """An algorithm that was not offered is not accepted, whatever the proof is worth."""
        self.guard(algorithms=("SHA-256",))
        weak = str(self.challenges(self.ask())[0]).replace("SHA-256", "MD5")
        response = Response(401, headers={"WWW-Authenticate": weak})
        self.assertEqual(self.ask(extra=self.answer(response)).status, 401)

    def test_as_a_proxy(self) -> None:
        """A proxy asks with 407 and reads Proxy-Authorization."""
        self.guard(proxy=True)
        response = self.ask()
        self.assertEqual(response.status, 407)
        asked = response.get_all("Proxy-Authenticate")
        as_server = Response(401, headers={"WWW-Authenticate": asked})
        given = self.answer(as_server).replace("Authorization:", "Proxy-Authorization:")
        self.assertEqual(self.ask(extra=given).status, 200)

    def test_some_methods(self) -> None:
        """Only the methods that are named are asked."""
        self.guard(methods=["REGISTER"])
        self.assertEqual(self.ask("OPTIONS").status, 200)
        self.assertEqual(self.ask("REGISTER").status, 401)

    def test_unknown_algorithm(self) -> None:
        """An algorithm that cannot be computed is refused at once."""
        with self.assertRaises(LocalProtocolError):
            DigestAuth("example.net", lookup, algorithms=["ROT13"])
        with self.assertRaises(LocalProtocolError):
            DigestAuth("example.net", lookup, qop=())


class WindowTests(SynchronousTestCase):
    def test_order(self) -> None:
        """Counts may overtake each other, within a window, and none counts twice."""
        used = _Used()
        self.assertEqual([used.take(n) for n in (3, 1, 2, 1, 3)], [True, True, True, False, False])
        self.assertTrue(used.take(1000))
        self.assertFalse(used.take(4))
        self.assertTrue(used.take(937))
        self.assertFalse(used.take(936))
