"""What of a URI goes into a request for it, and in which order contacts are tried."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip import Address
from drachtwist.sip.replies import rank
from drachtwist.sip.targets import by_preference, split_target


class TargetTests(SynchronousTestCase):
    def test_split(self) -> None:
        """Headers and method leave the URI (RFC 3261 sections 19.1.1 and 19.1.5)."""
        for uri, bare in (
            ("sip:a@h", "sip:a@h"),
            ("sip:a@h;transport=tcp?Subject=x", "sip:a@h;transport=tcp"),
            ("sip:a@h;Method=BYE;lr?a=b", "sip:a@h;lr"),
            ("sip:what?@h", "sip:what?@h"),
            ("sip:what?@h?Subject=x", "sip:what?@h"),
            ("sips:h?Subject=x", "sips:h"),
            ("tel:+1;x=?", "tel:+1;x=?"),
            ('sip:a@h;thinfo="VG8+"?b=c', 'sip:a@h;thinfo="VG8+"'),
        ):
            self.assertEqual(split_target(uri)[0], bare, uri)

    def test_headers(self) -> None:
        """Headers that do no harm are kept, whoever asserts something of himself is not."""
        uri = (
            "sip:a@h?Subject=a%20b&Replaces=1%3Bto-tag%3D2%3Bfrom-tag%3D3&From=%3Csip:b@h%3E"
            "&Route=%3Csip:c%3E&P-Asserted-Identity=%3Csip:d%3E&body=x&x&Reason=%0D%0AX: y"
        )
        self.assertEqual(
            split_target(uri)[1], [("Subject", "a b"), ("Replaces", "1;to-tag=2;from-tag=3")]
        )

    def test_order(self) -> None:
        """Contacts come by q, equal ones in their order; one without q comes first of all."""
        text = (
            "<sip:a>;q=0.5, <sip:b>, <sip:c>;q=0.5, *, <sip:d>;q=nan, <sip:e>;q=1.000, <sip:f>;q=0"
        )
        parts = [Address.parse(part) for part in text.split(", ")]
        found = [one.uri for one in by_preference(parts)]
        self.assertEqual(found, [f"sip:{name}" for name in "beacdf"])


class RankTests(SynchronousTestCase):
    def test_classes(self) -> None:
        """6xx first, then the lowest class; what helps to try again before the others (16.7)."""
        order = [603, 302, 407, 486, 408, 500, 503]
        self.assertEqual(sorted([503, 408, 486, 302, 500, 407, 603], key=rank, reverse=True), order)
        for status in (401, 407, 415, 420, 484):
            self.assertEqual(rank(status), rank(401))
