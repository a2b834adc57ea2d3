"""Keys of RFC 3261 sections 17.1.3, 17.2.3 and 9.2."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import MessageError
from drachtwist.sip.derived import cancel_for, failure_ack
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from drachtwist.transactions.matching import (
    cancelled_key,
    client_key,
    merge_key,
    request_client_key,
    server_key,
)
from tests.transactions.messages import request, response

BRANCHES = st.from_regex(r"z9hG4bK[A-Za-z0-9.\-_~!%*+`']{1,20}", fullmatch=True)


def with_via(via: str, method: str = "INVITE") -> Request:
    message = request(method)
    message.set("Via", via)
    return message


def ack_to(invite: Request, status: int = 486) -> Request:
    message = parse_message(failure_ack(invite, response(invite, status)))
    assert isinstance(message, Request)
    return message


class ServerKeyTests(SynchronousTestCase):
    def test_repeated_request(self) -> None:
        """A request that comes again has the same key, even if other headers differ."""
        again = request()
        again.set("To", "<sip:other@192.0.2.2>")
        self.assertEqual(server_key(request()), server_key(again))

    def test_what_makes_a_difference(self) -> None:
        """Branch, sent-by and method do."""
        keys = {
            server_key(message)
            for message in (
                request(),
                request(branch="z9hG4bKother"),
                request("OPTIONS"),
                with_via("SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKabc"),
                with_via("SIP/2.0/UDP 192.0.2.3:5060;branch=z9hG4bKabc"),
            )
        }
        self.assertEqual(len(keys), 5)

    def test_spellings_of_one_via(self) -> None:
        """Blanks, case, other parameters and further Vias do not."""
        for via in (
            "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKabc",
            "SIP/2.0/UDP 192.0.2.1:5060 ; Branch = z9hG4bKabc;received=192.0.2.7",
            "sip / 2.0 / UDP   192.0.2.1 : 5060;branch=z9hG4bKabc",
            'SIP/2.0/UDP 192.0.2.1:5060;x=";branch=z9hG4bKno, ";branch=z9hG4bKabc',
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc, SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK2",
            "SIP/2.0/TLS-SCTP 192.0.2.1:5060;branch=z9hG4bKabc",
        ):
            self.assertEqual(server_key(with_via(via)), server_key(request()), via)
        self.assertEqual(
            server_key(with_via("SIP/2.0/UDP [2001:DB8::1]:5060;branch=z9hG4bKabc")),
            server_key(with_via("SIP / 2.0/UDP [2001:db8::1]:5060;branch=z9hG4bKabc")),
        )

    def test_ack_to_a_failure(self) -> None:
        """It belongs to its INVITE."""
        self.assertEqual(server_key(ack_to(request())), server_key(request()))

    def test_ack_to_an_answer(self) -> None:
        """It has a branch of its own, so it belongs to no transaction."""
        self.assertNotEqual(server_key(request("ACK", branch="z9hG4bKnew")), server_key(request()))

    def test_cancel(self) -> None:
        """A CANCEL is a transaction of its own, and names the one that it ends."""
        cancel = cancel_for(request())
        self.assertEqual(cancelled_key(cancel), server_key(request()))
        self.assertNotEqual(server_key(cancel), server_key(request()))

    def test_peers_of_rfc_2543(self) -> None:
        """Without the magic cookie the ACK and CANCEL are found as well, by other headers."""
        for via in ("SIP/2.0/UDP 192.0.2.1", "SIP/2.0/UDP 192.0.2.1;branch=1"):
            invite = with_via(via)
            key = server_key(invite)
            self.assertEqual(server_key(with_via(via)), key)
            self.assertEqual(server_key(ack_to(invite)), key)
            self.assertEqual(cancelled_key(cancel_for(invite)), key)
            self.assertNotEqual(server_key(cancel_for(invite)), key)
            for name, value in (
                ("From", "<sip:alice@192.0.2.1>;tag=a2"),
                ("Call-ID", "two@192.0.2.1"),
                ("CSeq", "8 INVITE"),
                ("Via", f"{via};ttl=1"),
            ):
                other = with_via(via)
                other.set(name, value)
                self.assertNotEqual(server_key(other), key)
            other = with_via(via)
            other.uri = "sip:carol@192.0.2.2"
            self.assertNotEqual(server_key(other), key)

    def test_no_via(self) -> None:
        """A request without Via has no key."""
        message = request()
        message.remove("Via")
        self.assertRaises(MessageError, server_key, message)
        message.set("Via", "rubbish")
        self.assertRaises(MessageError, server_key, message)

    @given(BRANCHES, BRANCHES)
    def test_branches(self, one: str, two: str) -> None:
        """Keys are equal exactly when the branches are."""
        keys = [server_key(request(branch=branch)) for branch in (one, two)]
        self.assertEqual(keys[0] == keys[1], one == two)

    def test_merged_requests(self) -> None:
        """Copies that took different ways have From tag, Call-ID and CSeq in common."""
        self.assertEqual(merge_key(request()), merge_key(request(branch="z9hG4bKway2")))
        self.assertNotEqual(merge_key(request()), merge_key(request("OPTIONS")))


class ClientKeyTests(SynchronousTestCase):
    def test_response(self) -> None:
        """A response has the key of its request, which a CANCEL with the same branch has not."""
        invite = request()
        cancel = cancel_for(invite)
        self.assertEqual(client_key(response(invite, 180)), request_client_key(invite))
        self.assertEqual(client_key(response(cancel, 200)), request_client_key(cancel))
        self.assertNotEqual(request_client_key(invite), request_client_key(cancel))

    def test_response_that_is_nobodys(self) -> None:
        """A response without a branch, Via or CSeq has no key."""
        stray = Response(200, headers={"Via": "SIP/2.0/UDP 192.0.2.1", "CSeq": "1 INVITE"})
        self.assertRaises(MessageError, client_key, stray)
        self.assertRaises(MessageError, client_key, Response(200, headers={"CSeq": "1 INVITE"}))
        stray = Response(200, headers={"Via": "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"})
        self.assertRaises(MessageError, client_key, stray)
        self.assertRaises(MessageError, request_client_key, with_via("SIP/2.0/UDP 192.0.2.1;rport"))
