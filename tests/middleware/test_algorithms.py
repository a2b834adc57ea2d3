"""Which algorithm a password is asked with: phones know different ones."""

from __future__ import annotations

from typing import Any

from drachtwist import LocalProtocolError, Request
from drachtwist.middleware import STRONG, DigestAuth
from drachtwist.sip import Response, digest
from tests.middleware.requests import MiddlewareTestCase

URI = "sip:app@127.0.0.1:32060"


def challenges(response: Response) -> list[digest.Challenge]:
    """Give the challenges of a response."""
    return [digest.Challenge.parse(text) for text in response.get_all("WWW-Authenticate")]


def algorithms(response: Response) -> list[str]:
    """Give the algorithms that a response offers."""
    return [one.algorithm for one in challenges(response)]


def credentials(challenge: digest.Challenge, **options: Any) -> str:
    """Answer a challenge."""
    given: dict[str, Any] = {
        "username": "alice",
        "password": "pw",
        "method": "REGISTER",
        "uri": URI,
        **options,
    }
    return f"Authorization: {digest.answer(challenge, **given)}\n"


class AlgorithmTests(MiddlewareTestCase):
    def guard(self, **options: Any) -> None:
        """Guard the application."""
        self.asked: list[tuple[str, str]] = []

        def lookup(user: str, realm: str) -> str:
            self.asked.append((user, realm))
            return "pw"

        self.use(DigestAuth(options.pop("realm", "example.net"), lookup, **options))

    def register(self, extra: str = "", call: str = "r", number: int = 0) -> Response:
        """Send a REGISTER."""
        self._number += 1
        return self.ask("REGISTER", extra, call=call, number=number or self._number)

    def test_what_every_phone_knows(self) -> None:
        """Without a word about it, MD5 alone: some phones refuse any set that has another one."""
        self.guard()
        self.assertEqual(algorithms(self.register()), ["MD5"])

    def test_strong(self) -> None:
        """One word offers SHA-256 in front of it, and either opens."""
        self.guard(algorithms=STRONG)
        response = self.register()
        self.assertEqual(algorithms(response), ["SHA-256", "MD5"])
        for count, challenge in enumerate(challenges(response), 1):
            given = credentials(challenge, nonce_count=count)
            self.assertEqual(self.register(given).status, 200)

    def test_comes_back(self) -> None:
        """Who comes back without credentials knew none, and is asked with the last alone."""
        self.guard(algorithms=STRONG)
        self.assertEqual(algorithms(self.register()), ["SHA-256", "MD5"])
        response = self.register()
        self.assertEqual(algorithms(response), ["MD5"])
        self.assertEqual(self.register(credentials(challenges(response)[0])).status, 200)
        # A phone that begins anew each time is known again.
        self.clock.advance(3600)
        self.assertEqual(algorithms(self.register(call="other")), ["MD5"])

    def test_knows_it(self) -> None:
        """Who has answered with the stronger one is offered it again."""
        self.guard(algorithms=STRONG)
        for _ in range(3):
            response = self.register()
            self.assertEqual(algorithms(response), ["SHA-256", "MD5"])
            self.assertEqual(self.register(credentials(challenges(response)[0])).status, 200)

    def test_others_are_not_concerned(self) -> None:
        """Somebody else at the same address, and other calls, are asked as at first."""
        self.guard(algorithms=STRONG)
        self.register()
        self.assertEqual(algorithms(self.ask("INVITE", call="i1")), ["SHA-256", "MD5"])
        self.assertEqual(algorithms(self.ask("INVITE", call="i2")), ["SHA-256", "MD5"])
        self.assertEqual(algorithms(self.register()), ["MD5"])

    def test_forgotten(self) -> None:
        """Who came back once is asked as at first again when a day has gone by."""
        self.guard(algorithms=STRONG)
        self.register()
        self.register()
        self.clock.advance(86_401)
        self.assertEqual(algorithms(self.register()), ["SHA-256", "MD5"])

    def test_one_word(self) -> None:
        """One algorithm may be given alone."""
        self.guard(algorithms="SHA-256")
        self.assertEqual(algorithms(self.register()), ["SHA-256"])
        self.assertEqual(algorithms(self.register()), ["SHA-256"])
        with self.assertRaises(LocalProtocolError):
            DigestAuth("r", lambda user, realm: None, algorithms="SHA-3")


class RealmTests(MiddlewareTestCase):
    def setUp(self) -> None:
        """Have a realm for each domain."""
        super().setUp()
        self.asked: list[tuple[str, str]] = []

        def realm(req: Request) -> str | None:
            return {"a.example": "A", "b.example": "B"}.get(req.request_uri.host)  # type: ignore[union-attr]

        def lookup(user: str, realm: str) -> str:
            self.asked.append((user, realm))
            return f"pw of {realm}"

        self.use(DigestAuth(realm, lookup))

    def to(self, host: str, extra: str = "") -> Response:
        """Send an OPTIONS to a host."""
        from tests.server.doubles import request

        self._number += 1
        text = request("OPTIONS", call=f"t{self._number}", extra=extra)
        self.whole.receive(
            text.replace("sip:app@127.0.0.1:32060 SIP", f"sip:app@{host} SIP"), 32070
        )
        return [one for one in self.whole.sent() if isinstance(one, Response)][-1]

    def test_tenants(self) -> None:
        """Each has its own passwords, and those of one do not open another."""
        for host, realm, other in (
            ("a.example", "A", "b.example"),
            ("b.example", "B", "a.example"),
        ):
            [challenge] = challenges(self.to(host))
            self.assertEqual(challenge.realm, realm)
            given = credentials(
                challenge, method="OPTIONS", uri=f"sip:app@{host}", password=f"pw of {realm}"
            )
            self.assertEqual(self.to(other, given).status, 401)
            self.assertEqual(self.to(host, given).status, 200)
        self.assertEqual(self.asked, [("alice", "A"), ("alice", "B")])

    def test_nobodys(self) -> None:
        """A request for no tenant is refused."""
        self.assertEqual(self.to("c.example").status, 403)
        self.assertEqual(self.passed, [])


class UriTests(MiddlewareTestCase):
    def ask_with(self, uri: str) -> int:
        """Bring credentials for a URI."""
        [challenge] = challenges(self.ask())
        return self.ask(extra=credentials(challenge, method="OPTIONS", uri=uri)).status

    def test_rewritten(self) -> None:
        """Proxies rewrite the Request-URI, so that of the credentials may be another."""
        self.use(DigestAuth("r", lambda user, realm: "pw"))
        self.assertEqual(self.ask_with("sip:example.net"), 200)

    def test_checked(self) -> None:
        """Where no proxy is in between it may be asked for."""
        self.use(DigestAuth("r", lambda user, realm: "pw", check_uri=True))
        self.assertEqual(self.ask_with("sip:example.net"), 400)
        self.assertEqual(self.ask_with(URI), 200)
