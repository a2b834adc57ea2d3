"""Numbers out of URIs, and into them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip import SipUri, Uri
from drachtwist.sip.numbers import number_of, sip_uri


class NumberTests(SynchronousTestCase):
    def test_into_a_uri(self) -> None:
        """What a URI cannot have is escaped; nobody is no user part at all."""
        for number, uri in (
            ("+1201", "sip:+1201@h"),
            ("alice", "sip:alice@h"),
            ("", "sip:h"),
            (None, "sip:h"),
            ("#31#7", "sip:%2331%237@h"),
            ("%23", "sip:%23@h"),
            ("a b@c:d", "sip:a%20b%40c%3Ad@h"),
            ("é<>", "sip:%C3%A9%3C%3E@h"),
        ):
            self.assertEqual(sip_uri(number, "h"), uri)

    @given(st.text(max_size=20))
    def test_any(self, number: str) -> None:
        """Whatever the number is, it makes a SIP URI."""
        uri = Uri.parse(sip_uri(number, "h"))
        assert isinstance(uri, SipUri)
        self.assertEqual((uri.host, uri.user is None), ("h", number == ""))

    @given(st.text(st.sampled_from("siptel:@;+1.-#<>? "), max_size=20))
    def test_any_uri(self, text: str) -> None:
        """Whatever the URI is, it has a number or none."""
        self.assertIsInstance(number_of(text), str)
