"""Calls of the application: placed, refused, challenged, redirected, cancelled at any moment."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    CommandRefused,
    ConnectionFailed,
    ConnectionLost,
    LocalProtocolError,
    PendingCall,
    SipError,
    Srf,
)
from drachtwist.app.outgoing_request import OutgoingRequest
from drachtwist.sip import Credentials, Request
from drachtwist.sip.digest import verify
from tests.app.doubles import Bench
from tests.whole import TARGET, Whole

SDP = "v=0\r\no=app 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
THEIRS = "v=0\r\no=bob 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"


class UacTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application."""
        self.whole = Whole()
        self.srf = self.whole.srf

    def call(self, uri: str = TARGET, **options: Any) -> tuple[PendingCall, Request]:
        """Place a call; give it, and the INVITE that left."""
        options.setdefault("local_sdp", SDP)
        self.whole.heads()  # what was left of calls before
        calling = self.srf.create_uac(uri, **options)
        return calling, self.whole.request()

    def failed(self, calling: Deferred[Any]) -> SipError:
        """See that a call failed because of a response."""
        error = self.failureResultOf(calling, SipError).value
        assert isinstance(error, SipError)
        return error

    def nothing_left(self) -> None:
        """See that nothing is open any more, on either side."""
        self.whole.pass_time(80, 1.0)
        self.assertTrue(self.srf.idle)
        counts = self.whole.server.core.counts()
        self.assertEqual({name for name, number in counts.items() if number}, {"applications"})


class CallTests(UacTestCase):
    def test_answered(self) -> None:
        """A call that is answered is acknowledged, and there is a dialog."""
        calling, invite = self.call(headers={"X-A": "1"})
        self.assertEqual((invite.method, invite.uri, invite.get("X-A")), ("INVITE", TARGET, "1"))
        self.assertEqual(invite.text, SDP)
        self.whole.respond(invite, 180)
        self.assertNoResult(calling)
        self.whole.respond(invite, 200, body=THEIRS)
        dialog = self.successResultOf(calling)
        self.assertEqual(self.whole.heads(), ["ACK"])
        self.assertEqual((dialog.type, dialog.dialog_type), ("uac", "INVITE"))
        self.assertEqual((dialog.local.sdp, dialog.remote.sdp), (SDP.encode(), THEIRS.encode()))
        self.assertEqual((dialog.remote.tag, dialog.res.status), ("b", 200))
        self.assertEqual(dialog.local.tag, invite.from_.tag)
        self.assertEqual(dialog.remote.uri, "sip:bob@127.0.0.1:32071")
        ending = dialog.destroy()
        bye = self.whole.request()
        self.whole.respond(bye, 200)
        self.assertEqual(getattr(self.successResultOf(ending), "status", 0), 200)
        self.nothing_left()

    def test_peer_hangs_up(self) -> None:
        """The BYE of the callee reaches the dialog of the call."""
        calling, invite = self.call()
        self.whole.respond(invite, 200, body=THEIRS)
        dialog = self.successResultOf(calling)
        ended = dialog.when_ended()
        self.whole.heads()
        bye = Request("BYE", "sip:app@127.0.0.1:32060")
        bye.set("Via", "SIP/2.0/UDP 127.0.0.1:32071;branch=z9hG4bKbye")
        bye.set("From", f"<{TARGET}>;tag=b")
        bye.set("To", invite.get("From") or "")
        bye.set("Call-ID", invite.call_id)
        bye.set("CSeq", "1 BYE")
        self.whole.receive(bytes(bye).decode().replace("\r\n", "\n"))
        self.assertEqual(self.successResultOf(ended).reason.name, "REMOTE")
        self.assertEqual(self.whole.heads(), ["200 BYE"])
        self.nothing_left()

    def test_refused(self) -> None:
        """A refusal is a SipError with status, phrase and response; nobody sends a stray ACK."""
        calling, invite = self.call()
        self.whole.respond(invite, 404, headers={"Warning": '399 x "no"'})
        error = self.failed(calling)
        self.assertEqual((error.status, error.reason), (404, "Whatever"))
        assert error.response is not None
        self.assertEqual(error.response.get("Warning"), '399 x "no"')
        self.assertEqual(self.whole.heads(), ["ACK"])
        self.nothing_left()

    def test_unusual_refusals(self) -> None:
        """Any final status is a SipError."""
        for status in (440, 469, 555, 607, 608, 299):
            calling, invite = self.call()
            self.whole.respond(invite, status)
            self.assertEqual(self.failed(calling).status, status)

    def test_nobody_answers(self) -> None:
        """Silence is a SipError 408."""
        calling, _ = self.call()
        self.whole.pass_time(33)
        self.assertEqual(self.failed(calling).status, 408)

    def test_who_calls(self) -> None:
        """Numbers and names go to From, Contact and To."""
        _, invite = self.call(calling_number="4711", calling_name='An "A"', called_number="0815")
        self.assertEqual((invite.calling_number, invite.calling_name), ("4711", 'An "A"'))
        self.assertEqual(invite.contacts[0].uri, "sip:4711@127.0.0.1:32060")
        self.assertIn("sip:0815@127.0.0.1:32060", invite.get("To") or "")
        self.assertEqual(invite.uri, TARGET)

    def test_without_scheme(self) -> None:
        """The scheme of the URI may be left out; anything but SIP is refused at once."""
        for uri in ("bob@127.0.0.1:32071", "127.0.0.1:32071", "SIP:127.0.0.1:32071"):
            _, invite = self.call(uri)
            self.assertEqual(invite.uri.lower(), f"sip:{uri.lower().removeprefix('sip:')}")
        for uri in ("tel:+15551212", "http://example.test", "sip:", "", "a b", "mailto:a@b"):
            self.assertRaises(LocalProtocolError, self.srf.create_uac, uri)
            self.assertRaises(LocalProtocolError, self.srf.request, uri, method="OPTIONS")

    def test_proxy(self) -> None:
        """A proxy gets the request, which keeps its URI."""
        self.srf.create_uac("sip:bob@example.test", proxy="sip:127.0.0.1:32099")
        self.whole.pump()
        [(flow, _)] = self.whole.server.wire.sent
        self.assertEqual(flow.remote_port, 32099)

    def test_sdp_later(self) -> None:
        """The session description may be a function, a Deferred or a coroutine."""
        later: Deferred[str] = Deferred()
        self.srf.create_uac(TARGET, local_sdp=lambda: later)
        self.assertEqual(self.whole.heads(), [])
        later.callback(SDP)
        self.assertEqual(self.whole.request().text, SDP)

        async def made() -> str:
            return SDP

        _, invite = self.call(local_sdp=made)
        self.assertEqual(invite.text, SDP)

    def test_sdp_fails(self) -> None:
        """When there is no session description nothing is sent."""
        later: Deferred[str] = Deferred()
        calling = self.srf.create_uac(TARGET, local_sdp=lambda: later)
        later.errback(ZeroDivisionError())
        self.failureResultOf(calling, ZeroDivisionError)
        self.assertEqual(self.whole.heads(), [])

    def test_delayed_offer(self) -> None:
        """Without an offer the 200 has it, and the application's ACK the answer, once."""
        calling, invite = self.call(local_sdp=None)
        self.assertEqual(invite.body, b"")
        self.whole.respond(invite, 200, body=THEIRS)
        dialog = self.successResultOf(calling)
        self.assertEqual(self.whole.heads(), [])
        dialog.ack(SDP)
        ack = self.whole.request()
        self.assertEqual((ack.method, ack.text), ("ACK", SDP))
        self.assertEqual(dialog.local.sdp, SDP.encode())
        self.assertRaises(LocalProtocolError, dialog.ack, SDP)

    def test_not_connected(self) -> None:
        """Without a connection there is a clear error."""
        self.assertRaises(ConnectionFailed, Srf().create_uac, TARGET)

    def test_link_lost(self) -> None:
        """A connection that is lost fails the call."""
        calling, _ = self.call()
        self.whole.lose()
        self.failureResultOf(calling, ConnectionLost)

    def test_server_refuses(self) -> None:
        """What the server does not send fails with its words."""
        calling = self.srf.create_uac(f"{TARGET};transport=ws")
        self.whole.pump()
        error = self.failureResultOf(calling, CommandRefused).value
        self.assertIn("transport not available", str(error))
        self.assertTrue(self.srf.idle)

    def test_injection(self) -> None:
        """A header cannot be smuggled in."""
        with self.assertRaises(LocalProtocolError):
            self.srf.create_uac(TARGET, headers={"X-A": "1\r\nX-B: 2"})
        self.assertTrue(self.srf.idle)

    def test_provisional(self) -> None:
        """Provisional responses are told, and the request as it was sent."""
        told: list[int] = []
        requests: list[OutgoingRequest] = []
        _, invite = self.call(
            on_provisional=lambda response: told.append(response.status),
            on_request=requests.append,
        )
        for status in (100, 180, 183):
            self.whole.respond(invite, status)
        self.assertEqual(told, [180, 183])
        self.assertEqual(requests[0].call_id, invite.call_id)
        self.assertEqual(requests[0].protocol, "udp")

    def test_reliable(self) -> None:
        """A reliable response is acknowledged once, with the answer that the application gives."""
        calling, invite = self.call(local_sdp=None, on_provisional=lambda response: SDP)
        extra = {"Require": "100rel", "RSeq": "7"}
        self.whole.respond(invite, 183, headers=extra, body=THEIRS)
        prack = self.whole.request()
        self.assertEqual((prack.method, prack.get("RAck")), ("PRACK", f"7 {invite.get('CSeq')}"))
        self.assertEqual(prack.text, SDP)
        self.whole.respond(invite, 183, headers=extra, body=THEIRS)
        self.assertEqual(self.whole.heads(), [])
        self.whole.respond(prack, 200)
        self.whole.respond(invite, 200)
        self.successResultOf(calling)
        self.assertEqual(self.whole.heads(), ["ACK"])

    def test_subscribe(self) -> None:
        """A subscription is a dialog from its 202 on; un-subscribing ends it."""
        subscribing = self.srf.create_uac(
            TARGET, method="SUBSCRIBE", headers={"Event": "presence", "Expires": "60"}
        )
        subscribe = self.whole.request()
        self.whole.respond(subscribe, 202)
        dialog = self.successResultOf(subscribing)
        self.assertEqual((dialog.dialog_type, dialog.subscribe_event), ("SUBSCRIBE", "presence"))
        dialog.destroy()
        last = self.whole.request()
        self.assertEqual((last.method, last.get("Expires")), ("SUBSCRIBE", "0"))


class CancelTests(UacTestCase):
    def test_while_ringing(self) -> None:
        """Cancelling the Deferred sends CANCEL; it fails at once."""
        calling, invite = self.call()
        self.whole.respond(invite, 180)
        calling.cancel()
        self.failureResultOf(calling, CancelledError)
        cancel = self.whole.request()
        self.assertEqual(cancel.method, "CANCEL")
        self.whole.respond(cancel, 200)
        self.whole.respond(invite, 487)
        self.nothing_left()

    def test_with_a_reason(self) -> None:
        """The CANCEL may say why; the call then ends with what comes of it."""
        calling, invite = self.call()
        self.whole.respond(invite, 180)
        calling.cancel_request({"Reason": 'SIP;cause=200;text="Call completed elsewhere"'})
        cancel = self.whole.request()
        self.assertEqual(
            (cancel.method, cancel.get("Reason")),
            ("CANCEL", 'SIP;cause=200;text="Call completed elsewhere"'),
        )
        self.assertNoResult(calling)
        self.whole.respond(cancel, 200)
        self.whole.respond(invite, 487)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 487)
        self.nothing_left()

    def test_before_the_server_answered(self) -> None:
        """A call that is cancelled before its transaction has a name is cancelled then."""
        calling = self.srf.create_uac(TARGET, local_sdp=SDP)
        calling.cancel()
        self.failureResultOf(calling, CancelledError)
        invite = self.whole.request()
        self.whole.respond(invite, 180)
        self.assertEqual(self.whole.heads(), ["CANCEL"])

    def test_before_it_is_sent(self) -> None:
        """A call that waits for its session description is never placed."""
        later: Deferred[str] = Deferred()
        calling = self.srf.create_uac(TARGET, local_sdp=lambda: later)
        calling.cancel()
        self.failureResultOf(calling, CancelledError)
        later.callback(SDP)
        self.assertEqual(self.whole.heads(), [])

    def test_crossing_200(self) -> None:
        """A 200 that crosses the CANCEL is acknowledged and ended."""
        calling, invite = self.call()
        self.whole.respond(invite, 180)
        calling.cancel()
        self.failureResultOf(calling, CancelledError)
        self.assertEqual(self.whole.heads(), ["CANCEL"])
        self.whole.respond(invite, 200, body=THEIRS)
        heads = self.whole.heads()
        self.assertEqual(heads[:2], ["ACK", "BYE"])
        self.assertEqual(self.srf.links[0].session.pending, 0)
        self.nothing_left()

    def test_while_credentials_are_fetched(self) -> None:
        """A call that is cancelled between a challenge and its answer is not repeated."""
        later: Deferred[tuple[str, str]] = Deferred()
        calling, invite = self.call(auth=lambda realm, req, res: later)
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        calling.cancel()
        self.failureResultOf(calling, CancelledError)
        later.callback(("app", "secret"))
        self.assertEqual(self.whole.heads(), ["ACK"])
        self.nothing_left()

    def test_during_the_retry(self) -> None:
        """A CANCEL goes to the request with the credentials, not to the first one."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        again = self.whole.request_after_ack()
        self.whole.respond(again, 180)
        calling.cancel()
        self.failureResultOf(calling, CancelledError)
        cancel = self.whole.request()
        self.assertEqual(cancel.vias[0].branch, again.vias[0].branch)

    def test_headers(self) -> None:
        """The request that was sent can be cancelled with any headers; the call fails with 487."""
        requests: list[OutgoingRequest] = []
        calling, invite = self.call(on_request=requests.append)
        self.whole.respond(invite, 180)
        requests[0].cancel({"Reason": "SIP;cause=200"})
        cancel = self.whole.request()
        self.assertEqual(cancel.get("Reason"), "SIP;cause=200")
        self.whole.respond(invite, 487)
        self.assertEqual(self.failed(calling).status, 487)

    def test_timeout(self) -> None:
        """A call may take so long, then it is cancelled and fails with 408."""
        calling, invite = self.call(timeout=5)
        self.whole.respond(invite, 180)
        sent = self.whole.pass_time(6)
        self.assertEqual(sent[0], (5.0, "CANCEL"))
        self.whole.respond(invite, 487)
        self.assertEqual(self.failed(calling).status, 408)

    def test_add_timeout(self) -> None:
        """Deferred.addTimeout just works."""
        calling, invite = self.call()
        calling.addTimeout(3, self.whole.clock)
        self.whole.respond(invite, 180)
        self.assertEqual(self.whole.pass_time(4)[0], (3.0, "CANCEL"))
        self.failureResultOf(calling, TimeoutError)


CHALLENGE = 'Digest realm="a, b", nonce="n", qop="auth,auth-int", algorithm=SHA-256, opaque="o"'
OLD = 'Digest realm="a, b", nonce="n", qop="auth", algorithm=MD5'


class DigestTests(UacTestCase):
    def check(self, request: Request, header: str = "Authorization") -> Credentials:
        """See that a request has the right credentials."""
        text = request.get(header)
        assert text is not None, "no credentials"
        credentials = Credentials.parse(text)
        self.assertTrue(verify(credentials, method=request.method, password="secret"))
        return credentials

    def test_challenge(self) -> None:
        """A challenge is answered: same Call-ID and From tag, next number, where it came from."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        again = self.whole.request_after_ack()
        credentials = self.check(again)
        self.assertEqual((credentials.algorithm, credentials.opaque), ("SHA-256", "o"))
        self.assertEqual(again.call_id, invite.call_id)
        self.assertEqual(again.from_.tag, invite.from_.tag)
        self.assertEqual(again.cseq.number, invite.cseq.number + 1)
        self.assertNotEqual(again.vias[0].branch, invite.vias[0].branch)
        self.assertEqual(again.text, SDP)
        self.whole.respond(again, 200, body=THEIRS)
        self.successResultOf(calling)

    def test_behind_ringing(self) -> None:
        """A challenge may come from behind a proxy that rang by itself."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 183)
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        again = self.whole.request_after_ack()
        self.check(again)
        self.whole.respond(again, 200, body=THEIRS)
        self.successResultOf(calling)

    def test_strongest(self) -> None:
        """Of two challenges for a realm the stronger one is answered, not a mixture."""
        for texts in ([OLD, CHALLENGE], [CHALLENGE, OLD]):
            _, invite = self.call(auth=("app", "secret"))
            self.whole.respond(invite, 401, headers={"WWW-Authenticate": ", ".join(texts)})
            again = self.whole.request_after_ack()
            self.assertEqual(self.check(again).algorithm, "SHA-256")

    def test_both_kinds(self) -> None:
        """A proxy and the callee may both ask in one call."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 407, headers={"Proxy-Authenticate": OLD})
        second = self.whole.request_after_ack()
        self.check(second, "Proxy-Authorization")
        self.whole.respond(second, 401, headers={"WWW-Authenticate": CHALLENGE})
        third = self.whole.request_after_ack()
        self.check(third, "Proxy-Authorization")
        self.check(third)
        self.whole.respond(third, 200, body=THEIRS)
        self.successResultOf(calling)

    def test_wrong_password(self) -> None:
        """A second challenge for the same realm means that the password is wrong."""
        calling, invite = self.call(auth=("app", "wrong"))
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        again = self.whole.request_after_ack()
        self.whole.respond(again, 401, headers={"WWW-Authenticate": CHALLENGE})
        self.assertEqual(self.failed(calling).status, 401)
        self.assertEqual(self.whole.heads(), ["ACK"])

    def test_stale(self) -> None:
        """A nonce that is too old is replaced."""
        _, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        again = self.whole.request_after_ack()
        stale = CHALLENGE.replace('"n"', '"m"') + ", stale=true"
        self.whole.respond(again, 401, headers={"WWW-Authenticate": stale})
        self.assertEqual(self.check(self.whole.request_after_ack()).nonce, "m")

    def test_ever_new_nonces(self) -> None:
        """Who asks for another nonce each time is answered four times, and not for ever."""
        stale = 'Digest realm="r", nonce="{}", qop="auth", stale=true'
        asking = self.srf.request(TARGET, method="OPTIONS", auth=("app", "secret"))
        sent = 0
        while not asking.called:
            headers = {"WWW-Authenticate": stale.format(sent)}
            self.whole.respond(self.whole.request(), 401, headers=headers)
            sent += 1
            self.assertLess(sent, 10)
        self.assertEqual((self.successResultOf(asking).status, sent), (401, 5))

    def test_unknown_algorithm(self) -> None:
        """A challenge that cannot be answered is a refusal."""
        calling, invite = self.call(auth=("app", "secret"))
        challenge = 'Digest realm="r", nonce="n", algorithm=ROT13'
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": challenge})
        self.assertEqual(self.failed(calling).status, 401)

    def test_no_credentials(self) -> None:
        """Without credentials, or when there are none for the realm, a challenge is a refusal."""
        for auth in (None, lambda realm, req, res: None):
            calling, invite = self.call(auth=auth)
            self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
            self.assertEqual(self.failed(calling).status, 401)

    def test_coroutine(self) -> None:
        """Credentials may come from a coroutine, which is told the realm."""
        realms: list[str] = []

        async def credentials(realm: str, req: Any, res: Any) -> tuple[str, str]:
            realms.append(realm)
            return "app", "secret"

        _, invite = self.call(auth=credentials)
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        self.check(self.whole.request_after_ack())
        self.assertEqual(realms, ["a, b"])

    def test_failing_callback(self) -> None:
        """A function for credentials that fails, fails the call."""

        def credentials(realm: str, req: Any, res: Any) -> tuple[str, str]:
            raise ZeroDivisionError

        calling, invite = self.call(auth=credentials)
        self.whole.respond(invite, 401, headers={"WWW-Authenticate": CHALLENGE})
        self.failureResultOf(calling, ZeroDivisionError)
        self.nothing_left()

    def test_in_a_dialog(self) -> None:
        """Requests in the dialog are answered for as well; a BYE ends it in the second attempt."""
        calling, invite = self.call(auth=("app", "secret"))
        self.whole.respond(invite, 200, body=THEIRS)
        dialog = self.successResultOf(calling)
        self.whole.heads()
        asking = dialog.info(headers={"X-A": "1", "Content-Type": "text/plain"}, body="5")
        ending = dialog.destroy()
        info, bye = (one for one in self.whole.sent() if isinstance(one, Request))
        for request in (info, bye):
            self.whole.respond(request, 401, headers={"WWW-Authenticate": CHALLENGE})
            again = self.whole.request()
            self.check(again)
            self.assertGreater(again.cseq.number, request.cseq.number)
            self.assertEqual((again.method, again.get("X-A")), (request.method, request.get("X-A")))
            self.assertEqual(again.text, request.text)
            self.whole.respond(again, 200)
        self.assertEqual(self.successResultOf(asking).status, 200)
        self.assertEqual(getattr(self.successResultOf(ending), "status", 0), 200)
        self.nothing_left()

    def test_wrong_in_a_dialog(self) -> None:
        """A wrong password ends with the challenge as the response."""
        calling, invite = self.call(auth=("app", "wrong"))
        self.whole.respond(invite, 200, body=THEIRS)
        dialog = self.successResultOf(calling)
        self.whole.heads()
        asking = dialog.info()
        for _ in range(2):
            info = self.whole.request()
            self.whole.respond(info, 407, headers={"Proxy-Authenticate": CHALLENGE})
        self.assertEqual(self.successResultOf(asking).status, 407)


class RedirectTests(UacTestCase):
    def test_reported(self) -> None:
        """A redirect is a SipError unless it is to be followed."""
        calling, invite = self.call()
        self.whole.respond(invite, 302)
        self.assertEqual(self.failed(calling).status, 302)

    def test_followed(self) -> None:
        """The contacts are tried, the best first; each gets a call of its own."""
        calling, invite = self.call(follow_redirects=True)
        contact = "<sip:a@127.0.0.1:32072>;q=0.1, <sip:b@127.0.0.1:32073>;q=0.9"
        self.whole.respond(invite, 302, headers={"Contact": contact})
        best = self.whole.request_after_ack()
        self.assertEqual(best.uri, "sip:b@127.0.0.1:32073")
        self.assertNotEqual(best.call_id, invite.call_id)
        self.whole.respond(best, 486, port=32073)
        other = self.whole.request_after_ack()
        self.assertEqual(other.uri, "sip:a@127.0.0.1:32072")
        self.whole.respond(other, 200, body=THEIRS, port=32072)
        self.successResultOf(calling)

    def test_behind_ringing(self) -> None:
        """A phone that rang may send the caller elsewhere."""
        calling, invite = self.call(follow_redirects=True)
        self.whole.respond(invite, 180)
        self.whole.respond(invite, 302, headers={"Contact": "<sip:carol@127.0.0.1:32072>"})
        again = self.whole.request_after_ack()
        self.assertEqual(again.uri, "sip:carol@127.0.0.1:32072")
        self.whole.respond(again, 200, body=THEIRS, port=32072)
        self.assertEqual(self.successResultOf(calling).remote.uri, "sip:bob@127.0.0.1:32072")

    def test_kept_uri(self) -> None:
        """The request keeps its URI, and only goes elsewhere."""
        self.call(follow_redirects=True, keep_uri_on_redirect=True)
        calling, invite = self.call(follow_redirects=True, keep_uri_on_redirect=True)
        self.whole.respond(invite, 302, headers={"Contact": "<sip:a@127.0.0.1:32072>"})
        self.whole.pump()
        flow, data = self.whole.server.wire.sent[-1]
        self.assertEqual(flow.remote_port, 32072)
        self.assertTrue(data.startswith(f"INVITE {TARGET} ".encode()))
        self.assertNoResult(calling)

    def test_circle(self) -> None:
        """Redirects that go on for ever are not followed for ever."""
        calling, invite = self.call(follow_redirects=True)
        for number in range(4):
            contact = f"<sip:a{number}@127.0.0.1:32071>"
            self.whole.respond(invite, 302, headers={"Contact": contact})
            invite = self.whole.request_after_ack()
        self.whole.respond(invite, 302, headers={"Contact": "<sip:z@127.0.0.1:32071>"})
        self.assertEqual(self.failed(calling).status, 302)


class RequestTests(UacTestCase):
    def test_response(self) -> None:
        """A request outside of dialogs gives its final response, a refusal too."""
        for status in (200, 404):
            asking = self.srf.request(TARGET, method="OPTIONS", headers={"X-A": "1"})
            options = self.whole.request()
            self.assertEqual((options.method, options.get("X-A")), ("OPTIONS", "1"))
            self.whole.respond(options, 100)
            self.whole.respond(options, status)
            response = self.successResultOf(asking)
            self.assertEqual((response.status, response.source_port), (status, 32071))
        self.nothing_left()

    def test_digest(self) -> None:
        """Challenges are answered."""
        asking = self.srf.request(TARGET, method="REGISTER", auth=("app", "secret"))
        register = self.whole.request()
        self.whole.respond(register, 401, headers={"WWW-Authenticate": CHALLENGE})
        again = self.whole.request()
        self.assertTrue(again.has("Authorization"))
        self.whole.respond(again, 200)
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_unheard(self) -> None:
        """A failure that nobody waits for is a line in the log, not an unhandled error."""
        self.srf.request(TARGET, method="OPTIONS")
        self.whole.request()
        self.whole.lose()
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_link_lost(self) -> None:
        """A connection that is lost fails the request."""
        asking = self.srf.request(TARGET, method="OPTIONS")
        self.whole.request()
        self.whole.lose()
        self.failureResultOf(asking, ConnectionLost)


class PendingRequestTests(UacTestCase):
    def test_at_once(self) -> None:
        """The request is there at once, and as it was sent when the server has said so."""
        pending = self.srf.request(TARGET, method="OPTIONS")
        self.assertIsNone(pending.request)
        sent = self.whole.request()
        assert pending.request is not None
        self.assertEqual(pending.request.call_id, sent.get("Call-ID"))
        self.whole.respond(sent, 200)
        self.assertEqual(self.successResultOf(pending).status, 200)

    def test_cancelled_with_headers(self) -> None:
        """An INVITE is cancelled with any headers, and the 487 is the result."""
        pending = self.srf.request(TARGET, method="INVITE", body=SDP)
        invite = self.whole.request()
        self.whole.respond(invite, 180)
        pending.cancel_request({"Reason": "SIP;cause=200", "X-A": "1"})
        cancel = self.whole.request()
        self.assertEqual((cancel.method, cancel.get("X-A")), ("CANCEL", "1"))
        self.whole.respond(invite, 487)
        self.assertEqual(self.successResultOf(pending).status, 487)

    def test_others_are_not_cancelled(self) -> None:
        """Nothing but an INVITE is cancelled (RFC 3261 section 9.1): its response is the result."""
        bench = Bench()
        server = bench.connect()
        pending = bench.srf.request(TARGET, method="MESSAGE")
        transaction_id = server.confirm(server.one())
        pending.cancel_request()
        self.assertEqual(server.heads(), [])
        server.respond(transaction_id, 202, method="MESSAGE")
        self.assertEqual(self.successResultOf(pending).status, 202)
        self.assertTrue(bench.srf.idle)

    def test_deferred_cancelled(self) -> None:
        """Who cancels the Deferred waits no longer, and the INVITE is cancelled behind it."""
        pending = self.srf.request(TARGET, method="INVITE", body=SDP)
        invite = self.whole.request()
        self.whole.respond(invite, 180)
        pending.addTimeout(5, self.whole.clock)
        self.whole.clock.advance(5)
        self.failureResultOf(pending, DeferredTimeout)
        self.assertEqual(self.whole.request().method, "CANCEL")
        self.whole.respond(invite, 487)
        self.nothing_left()


class NonceTests(UacTestCase):
    def test_reused(self) -> None:
        """The next request to the same server answers the challenge that is known already."""
        challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth"'}
        asking = self.srf.request(TARGET, method="OPTIONS", auth=("bob", "secret"))
        self.whole.respond(self.whole.request(), 401, headers=challenge)
        first = self.whole.request()
        self.assertIn("nc=00000001", first.get("Authorization") or "")
        self.whole.respond(first, 200)
        self.successResultOf(asking)
        asking = self.srf.request(TARGET, method="OPTIONS", auth=("bob", "secret"))
        second = self.whole.request()
        self.assertIn("nc=00000002", second.get("Authorization") or "")
        self.assertIn('nonce="n1"', second.get("Authorization") or "")
        stale = {"WWW-Authenticate": 'Digest realm="r", nonce="n2", qop="auth", stale=true'}
        self.whole.respond(second, 401, headers=stale)
        third = self.whole.request()
        [credentials] = third.get_all("Authorization")
        self.assertIn('nonce="n2"', credentials)
        self.assertIn("nc=00000001", credentials)
        self.whole.respond(third, 200)
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_wrong_password(self) -> None:
        """What did not help is not sent once more before it is asked for."""
        challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth"'}
        asking = self.srf.request(TARGET, method="OPTIONS", auth=("bob", "wrong"))
        for _ in range(2):
            self.whole.respond(self.whole.request(), 401, headers=challenge)
        self.assertEqual(self.successResultOf(asking).status, 401)
        self.srf.request(TARGET, method="OPTIONS", auth=("bob", "wrong"))
        self.assertIsNone(self.whole.request().get("Authorization"))

    def test_others(self) -> None:
        """Other servers, and other users, are told nothing."""
        challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth"'}
        asking = self.srf.request(TARGET, method="OPTIONS", auth=("bob", "secret"))
        self.whole.respond(self.whole.request(), 401, headers=challenge)
        self.whole.respond(self.whole.request(), 200)
        self.successResultOf(asking)
        for uri, user in ((TARGET, "eve"), ("sip:bob@127.0.0.1:32099", "bob")):
            other = self.srf.request(uri, method="OPTIONS", auth=(user, "secret"))
            sent = self.whole.request()
            self.assertIsNone(sent.get("Authorization"))
            self.whole.respond(sent, 200)
            self.successResultOf(other)
