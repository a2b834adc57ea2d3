"""Challenges of several: two proxies, a proxy that forks, a proxy and the one behind it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from drachtwist import Dialog, SipError
from drachtwist.app.authentication import Nonces
from drachtwist.sip import Request, Response
from drachtwist.sip.digest import Credentials, verify
from tests.app.test_uac import SDP, THEIRS, UacTestCase

Asked = dict[str, str | list[str]]


def challenge(realm: str, nonce: str = "n", *, stale: bool = False) -> str:
    """Write a challenge."""
    end = ", stale=true" if stale else ""
    return f'Digest realm="{realm}", nonce="{nonce}", qop="auth", algorithm=SHA-256{end}'


def proxy(*realms: str) -> Asked:
    """Write the challenges of proxies."""
    return {"Proxy-Authenticate": [challenge(realm) for realm in realms]}


class RealmsTestCase(UacTestCase):
    def shown(self, request: Request, name: str = "Proxy-Authorization") -> dict[str, str]:
        """Give the counts of the nonces by realm; see that all credentials are right."""
        found: dict[str, str] = {}
        for text in request.get_all(name):
            one = Credentials.parse(text)
            method = "INVITE" if request.method == "ACK" else request.method
            self.assertTrue(verify(one, method=method, password="secret"), text)
            self.assertNotIn(one.realm, found)
            found[one.realm] = one.params.get("nc") or ""
        return found

    def last(self) -> Request:
        """Take what was sent, and give the last request."""
        return [one for one in self.whole.sent() if isinstance(one, Request)][-1]

    def answered(self, **options: Any) -> tuple[Dialog, Request, Request]:
        """Call somebody behind two proxies that both ask; give the dialog, the INVITE, the ACK."""
        calling, invite = self.call(**options)
        self.whole.respond(invite, 407, headers=proxy("a"))
        second = self.last()
        self.whole.respond(second, 407, headers=proxy("b"))
        third = self.last()
        self.whole.respond(third, 200, body=THEIRS)
        return self.successResultOf(calling), third, self.last()


class RetryTests(RealmsTestCase):
    def test_one_after_the_other(self) -> None:
        """The second proxy's challenge is answered, and the first one's still."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 407, headers=proxy("a"))
        second = self.last()
        self.assertEqual(self.shown(second), {"a": "00000001"})
        self.whole.respond(second, 407, headers=proxy("b"))
        third = self.last()
        self.assertEqual(self.shown(third), {"a": "00000002", "b": "00000001"})
        self.whole.respond(third, 401, headers={"WWW-Authenticate": challenge("c")})
        fourth = self.last()
        self.assertEqual(self.shown(fourth), {"a": "00000003", "b": "00000002"})
        self.assertEqual(self.shown(fourth, "Authorization"), {"c": "00000001"})
        self.whole.respond(fourth, 200, body=THEIRS)
        self.successResultOf(calling)

    def test_at_once(self) -> None:
        """A proxy that forks hands on the challenges of all: each is answered."""
        for headers in (
            {"WWW-Authenticate": [challenge("a"), challenge("b")]},
            {"WWW-Authenticate": f"{challenge('a')}, {challenge('b')}"},
        ):
            given: Any = headers
            _, invite = self.call(auth=lambda realm, req, res: ("app", "secret"))
            self.whole.respond(invite, 401, headers=given)
            shown = self.shown(self.last(), "Authorization")
            self.assertEqual(shown, {"a": "00000001", "b": "00000001"})

    def test_a_function_per_realm(self) -> None:
        """A function is asked once for each realm."""
        realms: list[str] = []

        def credentials(realm: str, req: Any, res: Any) -> tuple[str, str]:
            realms.append(realm)
            return "app", "secret"

        _, third, _ = self.answered(auth=credentials)
        self.assertEqual(self.shown(third), {"a": "00000002", "b": "00000001"})
        self.assertEqual(realms, ["a", "b"])

    def test_one_is_wrong(self) -> None:
        """Of two that fork one may refuse the password: the other one's is tried."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 407, headers=proxy("a"))
        self.whole.respond(self.last(), 407, headers=proxy("a", "b"))
        third = self.last()
        self.assertEqual(set(self.shown(third)), {"a", "b"})
        self.whole.respond(third, 407, headers=proxy("a", "b"))
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 407)

    def test_stale(self) -> None:
        """A nonce that is too old is replaced, and the other kept."""
        _, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 407, headers=proxy("a", "b"))
        second = self.last()
        stale = {"Proxy-Authenticate": challenge("a", "m", stale=True)}
        self.whole.respond(second, 407, headers=stale)
        self.assertEqual(self.shown(self.last()), {"a": "00000001", "b": "00000002"})

    def test_redirected(self) -> None:
        """What one server asked for is not told to another."""
        _, invite = self.call(auth=("app", "secret"), follow_redirects=True)
        self.whole.respond(invite, 407, headers=proxy("a", "b"))
        moved: Asked = {"Contact": "<sip:c@127.0.0.1:32072>"}
        self.whole.respond(self.last(), 302, headers=moved)
        self.assertEqual(self.shown(self.last()), {})


class InDialogTests(RealmsTestCase):
    def test_ack(self) -> None:
        """The ACK of a 2xx has the credentials of its INVITE (RFC 3261 section 13.2.2.4)."""
        _, third, ack = self.answered(auth=("app", "secret"))
        self.assertEqual(ack.method, "ACK")
        wanted = third.get_all("Proxy-Authorization")
        self.assertEqual((len(wanted), ack.get_all("Proxy-Authorization")), (2, wanted))

    def test_ack_with_answer(self) -> None:
        """So has the ACK that the application sends."""
        calling, invite = self.call(auth=("app", "secret"), local_sdp=None)
        self.whole.respond(invite, 407, headers=proxy("a", "b"))
        second = self.last()
        self.whole.respond(second, 200, body=THEIRS)
        self.successResultOf(calling).ack(SDP)
        ack = self.last()
        wanted = second.get_all("Proxy-Authorization")
        self.assertEqual(ack.get_all("Proxy-Authorization"), wanted)
        self.assertEqual(ack.text, SDP)

    def test_crossing_cancel(self) -> None:
        """So has the ACK of a 200 that crosses the CANCEL."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 407, headers=proxy("a", "b"))
        second = self.last()
        self.whole.respond(second, 180)
        calling.addErrback(lambda failure: None).cancel()
        self.whole.sent()
        self.whole.respond(second, 200, body=THEIRS)
        [ack] = [
            one for one in self.whole.sent() if isinstance(one, Request) and one.method == "ACK"
        ]
        self.assertEqual(len(ack.get_all("Proxy-Authorization")), 2)

    def test_requests(self) -> None:
        """Requests in the dialog have them at once, whichever kind they are."""
        for auth in (("app", "secret"), lambda realm, req, res: ("app", "secret")):
            given: Any = auth
            dialog, _, _ = self.answered(auth=given)
            asking = dialog.info()
            info = self.last()
            self.assertEqual(self.shown(info), {"a": "00000003", "b": "00000002"})
            self.assertEqual(Credentials.parse(info.get("Proxy-Authorization") or "").uri, info.uri)
            self.whole.respond(info, 200)
            self.successResultOf(asking)
            modifying: Deferred[bytes] = dialog.modify(SDP)
            invite = self.last()
            self.assertEqual(self.shown(invite), {"a": "00000004", "b": "00000003"})
            self.whole.respond(invite, 200, body=THEIRS)
            self.successResultOf(modifying)
            ack = self.last()
            wanted = invite.get_all("Proxy-Authorization")
            self.assertEqual((ack.method, ack.get_all("Proxy-Authorization")), ("ACK", wanted))
            dialog.destroy()
            bye = self.last()
            self.assertEqual(self.shown(bye), {"a": "00000005", "b": "00000004"})
            self.whole.respond(bye, 200)
            self.srf._connections.nonces = Nonces()  # the second one begins anew

    def test_challenged_anew(self) -> None:
        """A further realm in the dialog is added to the others."""
        dialog, _, _ = self.answered(auth=("app", "secret"))
        dialog.info()
        self.whole.respond(self.last(), 407, headers=proxy("c"))
        self.assertEqual(set(self.shown(self.last())), {"a", "b", "c"})

    def test_other_credentials(self) -> None:
        """Credentials that the application changes are used from the next challenge on."""
        dialog, _, _ = self.answered(auth=("app", "secret"))
        dialog.auth = ("other", "secret")
        dialog.info()
        self.assertEqual(self.shown(self.last()), {})


class ServerTests(RealmsTestCase):
    """ACKs that the server sends by itself."""

    def test_never_acknowledged(self) -> None:
        """One for an application that does not has the credentials of the INVITE too."""
        calling, invite = self.call(auth=("app", "secret"), no_ack=True)
        self.whole.respond(invite, 407, headers=proxy("a", "b"))
        second = self.last()
        self.whole.respond(second, 200, body=THEIRS)
        self.successResultOf(calling)
        self.whole.sent()
        sent: list[Request | Response] = []
        for _ in range(70):
            self.whole.clock.advance(1)
            sent += self.whole.sent()
        [ack] = [one for one in sent if isinstance(one, Request) and one.method == "ACK"]
        wanted = second.get_all("Proxy-Authorization")
        self.assertEqual(ack.get_all("Proxy-Authorization"), wanted)

    def test_a_second_one_accepts(self) -> None:
        """So has that for another one who accepted, and is hung up on."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 407, headers=proxy("a", "b"))
        second = self.last()
        for tag in ("one", "two"):
            self.whole.respond(second, 200, tag=tag, body=THEIRS)
            acks = [one for one in self.whole.sent() if isinstance(one, Request)]
            wanted = second.get_all("Proxy-Authorization")
            self.assertEqual(acks[0].get_all("Proxy-Authorization"), wanted, tag)
        self.successResultOf(calling)
