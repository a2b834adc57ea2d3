"""Structured header values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.digest import Challenge
from drachtwist.sip.fields import (
    Address,
    CSeq,
    Event,
    MediaType,
    RAck,
    Reason,
    Replaces,
    SessionExpires,
    SubscriptionState,
    Via,
    parse_integer,
)
from drachtwist.sip.grammar import quote, split_commas, unfold, unquote
from drachtwist.sip.params import Params
from drachtwist.sip.uri import SipUri

tokens = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,8}", fullmatch=True)
# No line breaks: values are unfolded before they get here.
words = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
param_pairs = st.lists(st.tuples(tokens, st.none() | tokens | words.map(quote)), max_size=4)
addresses = st.builds(
    Address,
    st.none() | words,
    st.sampled_from(["sip:a@example.com", "sips:b@[::1]:5061;lr", "tel:+1201", "urn:a:b"]),
    param_pairs.map(Params),
)


class AddressTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Quoted, plain and missing display names, with and without brackets."""
        for text, display, uri, tag in (
            ('"A. Bell" <sip:a@b>;tag=1', "A. Bell", "sip:a@b", "1"),
            ('"a \\" b\\\\" <sip:a@b>', 'a " b\\', "sip:a@b", None),
            ("Alice<sip:a@b>", "Alice", "sip:a@b", None),
            ("Anna Maria  <sip:a@b;x=1> ; tag = 2", "Anna Maria", "sip:a@b;x=1", "2"),
            ("<sip:a@b>", None, "sip:a@b", None),
            ("sip:a@b;tag=3", None, "sip:a@b", "3"),
            ('"" <sip:a@b>', "", "sip:a@b", None),
            ("Jürgen <sip:a@b>", "Jürgen", "sip:a@b", None),
        ):
            address = Address.parse(text)
            self.assertEqual((address.display, address.uri, address.tag), (display, uri, tag), text)
            self.assertEqual(str(address), text)

    def test_list(self) -> None:
        """Commas separate addresses, but not inside quotes and brackets."""
        text = '"Bell, A" <sip:a,b@c>;x="1,2", sip:d@e;q=1 ,<sip:f@g>'
        found = Address.parse_list(text)
        self.assertEqual([a.uri for a in found], ["sip:a,b@c", "sip:d@e", "sip:f@g"])
        self.assertEqual(found[0].params.text("x"), "1,2")

    def test_wildcard(self) -> None:
        """The star of a REGISTER that removes all contacts is an address of its own kind."""
        (star,) = Address.parse_list("*")
        self.assertTrue(star.is_wildcard)
        self.assertEqual(str(star), "*")

    def test_refused(self) -> None:
        """What is no address is a MessageError."""
        for text in (
            "",
            "alice",
            "<alice>",
            "<sip:a@b",
            "Bell, Alexander <sip:a@b>",
            '"open <sip:a@b>',
            "<sip:a@b>;=x",
            "<sip:a@b> x",
            "sip:a@b?Route=x",
        ):
            self.assertRaises(MessageError, Address.parse, text)
            self.assertRaises(MessageError, Address.parse_list, text)
        self.assertRaises(MessageError, Address.parse, ",<sip:a@b>")

    def test_change(self) -> None:
        """A changed address is written anew, with what was not changed."""
        address = Address.parse('Bob  <sip:a@b>;tag=1;+x="y z"')
        self.assertEqual(
            str(replace(address, params=address.params.with_("tag", 2))),
            '"Bob" <sip:a@b>;tag=2;+x="y z"',
        )
        self.assertEqual(str(replace(address, display=None)), '<sip:a@b>;tag=1;+x="y z"')

    def test_parsed_uri(self) -> None:
        """The URI is taken apart when asked for, and only then found to be bad."""
        self.assertIsInstance(Address.parse("<sip:a@b>").parsed_uri, SipUri)
        bad = Address.parse("<sip:2001:db8::1>")
        self.assertRaises(MessageError, lambda: bad.parsed_uri)

    @given(addresses)
    def test_round_trip(self, address: Address) -> None:
        """An address is read back as it was written."""
        again = Address.parse(str(address))
        self.assertEqual(again, address)
        self.assertEqual(str(again), str(address))

    @given(st.lists(addresses, min_size=1, max_size=4))
    def test_list_round_trip(self, addresses: list[Address]) -> None:
        """A list of addresses falls apart at the right commas."""
        self.assertEqual(Address.parse_list(", ".join(map(str, addresses))), addresses)

    @given(
        st.lists(addresses.map(str), min_size=1, max_size=3),
        st.lists(st.tuples(st.integers(0, 60), st.sampled_from(list('<>,;"\\: *\t='))), max_size=3),
    )
    def test_checked_as_it_is_read(self, texts: list[str], slips: list[tuple[int, str]]) -> None:
        """What a list is checked for is what its reader refuses, neither more nor less."""
        text = ", ".join(texts)
        for at, char in slips:
            text = text[:at] + char + text[at:]

        def refused(read: Callable[[str], object]) -> bool:
            try:
                read(text)
            except MessageError:
                return True
            return False

        self.assertEqual(refused(Address.check_list), refused(Address.parse_list), text)
        self.assertEqual(refused(Address.check), refused(Address.parse), text)


class ParamsTests(SynchronousTestCase):
    def test_mapping(self) -> None:
        """Names are blind to case, values stand as written, the first of a name counts."""
        params = Params.parse(' ;Expires = 60; lr;x="a;b";expires=7')
        self.assertEqual(params["expires"], "60")
        self.assertEqual((params.get("LR"), params.get("none", "d")), (None, "d"))
        self.assertIn("lr", params)
        self.assertNotIn("none", params)
        self.assertRaises(KeyError, lambda: params["none"])
        self.assertEqual(params.text("x"), "a;b")
        self.assertEqual(list(params), ["Expires", "lr", "x"])
        self.assertEqual(len(params), 3)
        self.assertEqual(str(params), ' ;Expires = 60; lr;x="a;b";expires=7')

    def test_changing_copies(self) -> None:
        """with_ keeps the place, without removes, the original stays."""
        params = Params.parse(";a=1;b=2;A=3")
        self.assertEqual(str(params.with_("a", 4)), ";a=4;b=2")
        self.assertEqual(str(params.with_("c")), ";a=1;b=2;A=3;c")
        self.assertEqual(str(params.without("A")), ";b=2")
        self.assertEqual(str(params), ";a=1;b=2;A=3")

    def test_refused(self) -> None:
        """A value that would bring a parameter or header along is refused."""
        for value in ("a;b", "a,b", 'a"b', "a\r\nb", "a b", "<x>", '"a\0"'):
            self.assertRaises(LocalProtocolError, Params, {"n": value})
        self.assertRaises(LocalProtocolError, Params, {"n=1;m": "2"})
        self.assertRaises(MessageError, Params.parse, ";=a")

    @given(param_pairs)
    def test_round_trip(self, pairs: list[tuple[str, str | None]]) -> None:
        """Order, spelling and repeats survive."""
        self.assertEqual(list(Params.parse(str(Params(pairs))).pairs), pairs)

    @given(param_pairs)
    def test_equality(self, pairs: list[tuple[str, str | None]]) -> None:
        """Neither order nor the case of names matters for equality and hash."""
        one, two = Params(pairs), Params([(n.swapcase(), v) for n, v in reversed(pairs)])
        self.assertEqual(one, two)
        self.assertEqual(hash(one), hash(two))


class ViaTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Blanks around the slashes and the colon are allowed."""
        via = Via.parse(
            "SIP / 2.0 / UDP [2001:db8::9] : 5070 ;branch=z9hG4bK1;received=[::1];rport=7"
        )
        self.assertEqual((via.transport, via.host, via.port), ("UDP", "[2001:db8::9]", 5070))
        self.assertEqual((via.branch, via.received, via.rport), ("z9hG4bK1", "::1", 7))
        self.assertTrue(via.wants_rport)

    def test_list(self) -> None:
        """Several hops may share a line."""
        vias = Via.parse_list("SIP/2.0/UDP a;branch=1, SIP/2.0/TCP b:5060;rport")
        self.assertEqual([v.host for v in vias], ["a", "b"])
        self.assertEqual([v.rport for v in vias], [None, None])
        self.assertEqual(str(vias[1]), "SIP/2.0/TCP b:5060;rport")

    def test_note_source(self) -> None:
        """A server notes where the request came from in a copy."""
        via = Via.parse("SIP/2.0/UDP a:1;rport;branch=2")
        noted = replace(via, params=via.params.with_("received", "192.0.2.1").with_("rport", 9))
        self.assertEqual(str(noted), "SIP/2.0/UDP a:1;rport=9;branch=2;received=192.0.2.1")

    def test_refused(self) -> None:
        """What is no hop is a MessageError."""
        for text in ("", "SIP/2.0/UDP", "SIP/2.0/UDP a;=x", "SIP/2.0/UDP a:99999", "UDP a", "a, b"):
            self.assertRaises(MessageError, Via.parse, text)


class SmallFieldTests(SynchronousTestCase):
    def test_cseq(self) -> None:
        """Leading zeros are fine, 2**31 is not."""
        self.assertEqual(CSeq.parse("0009 INVITE"), CSeq(9, "INVITE"))
        self.assertEqual(str(CSeq(9, "INVITE")), "9 INVITE")
        for text in ("2147483648 INVITE", "-1 INVITE", "INVITE", "1", "9" * 5000 + " INVITE"):
            self.assertRaises(MessageError, CSeq.parse, text)

    def test_rack(self) -> None:
        """A RAck names the response and the request."""
        self.assertEqual(RAck.parse("776656 1 INVITE"), RAck(776656, 1, "INVITE"))
        self.assertEqual(str(RAck(1, 2, "INVITE")), "1 2 INVITE")
        self.assertRaises(MessageError, RAck.parse, "1 INVITE")

    def test_numbers(self) -> None:
        """A number is digits, and not too many of them."""
        self.assertEqual(parse_integer(" 0068 "), 68)
        for text in ("", "-1", "1.5", "x", "4294967296", "٣"):
            self.assertRaises(MessageError, parse_integer, text)

    def test_media_type(self) -> None:
        """A media type compares in lower case and unquotes its boundary."""
        kind = MediaType.parse('Multipart/Mixed; boundary="a b"')
        self.assertEqual((kind.type, kind.subtype, kind.boundary), ("multipart", "mixed", "a b"))
        self.assertEqual(str(kind), 'Multipart/Mixed; boundary="a b"')
        self.assertRaises(MessageError, MediaType.parse, "text")

    def test_event_headers(self) -> None:
        """Event and Subscription-State have their parameters as attributes."""
        event = Event.parse("refer;id=93809824")
        self.assertEqual((event.package, event.id), ("refer", "93809824"))
        state = SubscriptionState.parse("terminated;reason=timeout;retry-after=5;expires=x")
        self.assertEqual(
            (state.state, state.reason, state.retry_after, state.expires),
            ("terminated", "timeout", 5, None),
        )

    def test_reason(self) -> None:
        """Several reasons may share a line, with commas in their texts."""
        one, two = Reason.parse_list('Q.850;cause=16;text="Normal, clearing", SIP;cause=200')
        self.assertEqual((one.protocol, one.cause, one.text), ("Q.850", 16, "Normal, clearing"))
        self.assertEqual((two.protocol, two.cause, two.text), ("SIP", 200, None))

    def test_replaces(self) -> None:
        """Replaces, Join and Target-Dialog name a dialog."""
        replaces = Replaces.parse("a@b;to-tag=1;from-tag=2;early-only")
        self.assertEqual((replaces.call_id, replaces.to_tag, replaces.from_tag), ("a@b", "1", "2"))
        self.assertTrue(replaces.early_only)
        self.assertEqual(Replaces.parse("a@b;local-tag=1;remote-tag=2").from_tag, "2")

    def test_session_expires(self) -> None:
        """The session timer has seconds and a refresher."""
        timer = SessionExpires.parse("1800;refresher=uas")
        self.assertEqual((timer.seconds, timer.refresher), (1800, "uas"))
        self.assertRaises(MessageError, SessionExpires.parse, "soon")


class GrammarTests(SynchronousTestCase):
    def test_hostile_values(self) -> None:
        """Values made to exhaust a backtracking parser are refused before the test times out."""
        blanks = " " * 60_000
        for text in (
            ";a= " * 10_000 + '"',
            f";a={blanks}" * 3 + '"',
            "<sip:a@b>" + ";a= " * 10_000 + '"',
            '"' + '\\"' * 30_000,
            f"SIP/2.0/UDP host{blanks}:{blanks}x",
            "<" * 60_000,
            f"Digest a=b,{blanks}" * 2 + "=",
            f"a{blanks}\n " * 2,
        ):
            unfold(text)
            list(split_commas(text))
            for parse in (Address.parse_list, Via.parse_list, Reason.parse, Challenge.parse):
                self.assertRaises(MessageError, parse, text)
            self.assertRaises(MessageError, Params.parse, text)

    @given(words)
    def test_quote_round_trip(self, text: str) -> None:
        """Unquoting undoes quoting."""
        self.assertEqual(unquote(quote(text)), text)

    @given(st.lists(tokens | words.map(quote), max_size=5))
    def test_split_commas(self, items: list[str]) -> None:
        """Items come apart at the commas between them and no others."""
        self.assertEqual(list(split_commas(" ,".join(items))), items)

    @given(st.text(st.sampled_from('ab"\\<>,;= \t'), max_size=30))
    def test_parsers_never_surprise(self, text: str) -> None:
        """Whatever the text, a parser returns or raises a MessageError."""
        list(split_commas(text))
        for parse in (Address.parse_list, Via.parse_list, Reason.parse_list, Params.parse):
            try:
                parse(text)
            except MessageError as error:
                self.assertEqual(error.status, 400)
