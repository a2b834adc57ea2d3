"""URIs: taking apart, putting together, comparing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.params import UriHeaders, UriParams
from drachtwist.sip.uri import AnyUri, OtherUri, SipUri, TelUri, Uri, normal_user

users = st.from_regex(r"[A-Za-z0-9\-_.!~*'()&=+$,;?/]{1,8}(%[0-9A-F]{2})?", fullmatch=True)
hosts = st.one_of(
    st.from_regex(r"[a-z][a-z0-9\-]{0,6}(\.[a-z]{2,4})?", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda a: f"[{a}]"),
)
pairs = st.lists(
    st.tuples(
        st.from_regex(r"[a-z\-]{1,6}", fullmatch=True),
        st.none() | st.from_regex(r"[A-Za-z0-9%\[\]:+$]{0,6}", fullmatch=True),
    ),
    max_size=3,
)
sip_uris = st.builds(
    SipUri,
    st.sampled_from(["sip", "sips", "SIP"]),
    st.none() | users,
    st.none(),
    hosts,
    st.none() | st.integers(0, 65535),
    pairs.map(UriParams),
    pairs.map(UriHeaders),
)


def sip(text: str) -> SipUri:
    uri = Uri.parse(text)
    assert isinstance(uri, SipUri), uri
    return uri


class ParsingTests(SynchronousTestCase):
    def test_all_parts(self) -> None:
        """Every part of a full SIP URI is where the grammar puts it."""
        uri = sip(
            "sips:alice:secret@[2001:db8::1]:5061;transport=tcp;lr?Subject=a%20b&Priority=urgent"
        )
        self.assertTrue(uri.secure)
        self.assertEqual((uri.user, uri.password), ("alice", "secret"))
        self.assertEqual((uri.host, uri.address, uri.port), ("[2001:db8::1]", "2001:db8::1", 5061))
        self.assertEqual(dict(uri.params), {"transport": "tcp", "lr": None})
        self.assertEqual(uri.transport, "tcp")
        self.assertEqual(uri.headers.text("subject"), "a b")

    def test_family(self) -> None:
        """The kind of host decides how it is resolved."""
        for text, family in (
            ("sip:a@192.0.2.1", "ipv4"),
            ("sip:a@192.0.2.example", "name"),
            ("sip:a@example.com", "name"),
            ("sip:a@[::1]", "ipv6"),
        ):
            self.assertEqual(sip(text).family, family, text)

    def test_user_with_separators(self) -> None:
        """What stands in front of the @ belongs to the user, even a question mark."""
        uri = sip("sip:user;par=u%40example.net?x@example.com;lr")
        self.assertEqual(uri.user_text, "user;par=u@example.net?x")
        self.assertEqual(dict(uri.params), {"lr": None})

    def test_escapes_resolve_once(self) -> None:
        """An escaped percent sign does not start another escape, and UTF-8 is put together."""
        self.assertEqual(sip("sip:%2541@h").user_text, "%41")
        self.assertEqual(sip("sip:J%C3%BCrgen@h").user_text, "Jürgen")
        self.assertEqual(sip("sip:100%@h").user_text, "100%")

    def test_tel(self) -> None:
        """A tel: URI has a number and a context."""
        uri = Uri.parse("tel:863-1234;phone-context=+1-914-555")
        assert isinstance(uri, TelUri)
        self.assertEqual((uri.number, uri.context), ("863-1234", "+1-914-555"))
        self.assertEqual(str(uri), "tel:863-1234;phone-context=+1-914-555")

    def test_other(self) -> None:
        """Any other scheme is kept as it is."""
        self.assertEqual(Uri.parse("urn:service:sos"), OtherUri("urn", "service:sos"))
        self.assertEqual(str(Uri.parse("http://example.com/?a=b")), "http://example.com/?a=b")

    def test_refused(self) -> None:
        """What breaks the grammar of its scheme is no URI."""
        for text in (
            "",
            "alice",
            "sip:",
            "sip:a@",
            "sip:2001:db8::10",
            "sip:a@host:99999",
            "sip:a b@host",
            "sip:a@host; lr",
            "sip:a@192.0.2.256",
            "sip:a@[1::2::3]",
            "<sip:a@host>",
            "sip:a@ho\r\nst",
            "tel:bob",
            "1a:b",
        ):
            self.assertRaises(MessageError, Uri.parse, text)

    @given(sip_uris)
    def test_round_trip(self, uri: SipUri) -> None:
        """A URI is read back as it was written, part by part and letter by letter."""
        text = str(uri)
        again = Uri.parse(text)
        self.assertEqual(again, uri)
        self.assertEqual(str(again), text)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a URI that writes itself unchanged, or a MessageError."""
        for candidate in (text, f"sip:{text}", f"tel:{text}", f"sip:a@b;{text}"):
            try:
                self.assertEqual(str(Uri.parse(candidate)), candidate)
            except MessageError:
                pass

    def test_params_that_would_break_out(self) -> None:
        """A parameter cannot bring a second one along."""
        for name, value in (("a;b", "c"), ("a", "b;c"), ("a", "b?c"), ("a", "x\r\ny"), ("", "x")):
            self.assertRaises(LocalProtocolError, UriParams, {name: value})


class ComparingTests(SynchronousTestCase):
    """The examples of RFC 3261 section 19.1.4, and what its rules say beyond them."""

    def assertSame(self, one: str, two: str, same: bool) -> None:
        a: AnyUri = Uri.parse(one)
        b: AnyUri = Uri.parse(two)
        self.assertIs(a.equivalent(b), same, f"{one} {two}")
        self.assertIs(b.equivalent(a), same, f"{two} {one}")

    def test_equivalent(self) -> None:
        """Case of the host, needless escapes, order, and unknown parameters make no difference."""
        for one, two in (
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("tel:+1-201-555-0123", "tel:+12015550123"),
            ("URN:service:sos", "urn:service:sos"),
        ):
            self.assertSame(one, two, True)

    def test_different(self) -> None:
        """Case of the user, ports, some parameters and all headers do."""
        for one, two in (
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:a%3Bb@c", "sip:a;b@c"),
            ("sip:a%253B@c", "sip:a%3B@c"),
            ("tel:+12015550123", "sip:+12015550123@h"),
            ("tel:+12015550123", "tel:12015550123"),
            ("urn:a:b", "urn:a:B"),
        ):
            self.assertSame(one, two, False)

    @given(st.binary(max_size=8))
    def test_normal_user(self, octets: bytes) -> None:
        """A user in its normal form is a user again, whatever was escaped in it."""
        user = "".join(f"%{octet:02x}" for octet in octets) or "a"
        uri = Uri.parse(f"sip:{normal_user(user)}@h")
        assert isinstance(uri, SipUri)
        self.assertEqual(uri.host, "h")
        self.assertTrue(uri.equivalent(Uri.parse(f"sip:{user}@h")))
