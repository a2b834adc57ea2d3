"""Header fields: the search in the bytes and the table give the same answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.sip.headers import Headers, header_key

HEAD = (
    b"INVITE sip:a@b SIP/2.0\r\n"
    b"v: SIP/2.0/UDP one\r\n"
    b"Via: SIP/2.0/UDP two\r\n"
    b"FROM : <sip:a@b>;tag=1\r\n"
    b"t\t:\t<sip:c@d>\r\n"
    b"Subject: first\r\n  second\r\n\tthird  \r\n"
    b"X-Empty:\r\n"
    b"Call-ID:x@y\r\n"
    b"subject: again\r\n"
    b"X-Utf: J\xc3\xbcrgen \xff\r\n"
    b"Content-Length: 20\r\n"
    b"\r\n"
    b"X-Body: not a header\r\n\r\n"
)

names = st.sampled_from(["From", "f", "To", "via", "V", "X-Test", "x-test", "Call-ID", "CONTACT"])
values = st.text(
    st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=10
).map(lambda text: text.strip(" \t"))
field_lists = st.lists(st.tuples(names, values), max_size=8)


def from_wire(fields: list[tuple[str, str]]) -> Headers:
    lines = "".join(f"\r\n{name}: {value}" for name, value in fields)
    return Headers.from_bytes(b"BYE sip:a SIP/2.0" + lines.encode() + b"\r\n\r\nFrom: body\r\n\r\n")


class LookupTests(SynchronousTestCase):
    def both(self) -> list[Headers]:
        searched, tabled = Headers.from_bytes(HEAD), Headers.from_bytes(HEAD)
        tabled.items()
        return [searched, tabled]

    def test_first_value(self) -> None:
        """Case, compact forms, blanks before the colon and folding make no difference."""
        for headers in self.both():
            for name, value in (
                ("Via", "SIP/2.0/UDP one"),
                ("v", "SIP/2.0/UDP one"),
                ("From", "<sip:a@b>;tag=1"),
                ("f", "<sip:a@b>;tag=1"),
                ("To", "<sip:c@d>"),
                ("SUBJECT", "first second third"),
                ("s", "first second third"),
                ("X-Empty", ""),
                ("call-id", "x@y"),
                ("X-Utf", "Jürgen \udcff"),
                ("X-Body", None),
                ("ia", None),
                ("Call", None),
                ("no such name", None),
                ("X-Empty:\r\nCall-ID", None),
            ):
                self.assertEqual(headers.get(name), value, name)
                self.assertIs(headers.has(name), value is not None, name)
                self.assertIs(name in headers, value is not None, name)

    def test_all_values(self) -> None:
        """Repeated headers come in order, whatever form their names have."""
        for headers in self.both():
            self.assertEqual(headers.get_all("via"), ["SIP/2.0/UDP one", "SIP/2.0/UDP two"])
            self.assertEqual(headers.get_all("Subject"), ["first second third", "again"])
            self.assertEqual(headers.get_all("Route"), [])

    def test_spelling(self) -> None:
        """The names are those of the message."""
        for headers in self.both():
            self.assertEqual(headers.get_name("from"), "FROM")
            self.assertEqual(headers.get_name("To"), "t")
            self.assertIsNone(headers.get_name("Route"))
            self.assertEqual(list(headers)[:3], ["v", "Via", "FROM"])
            self.assertEqual(len(headers), 10)

    def test_mapping(self) -> None:
        """Indexing gives the first value or raises KeyError."""
        for headers in self.both():
            self.assertEqual(headers["i"], "x@y")
            self.assertRaises(KeyError, lambda h=headers: h["Route"])
            self.assertEqual(headers.get("Route", "none"), "none")

    def test_looking_makes_no_table(self) -> None:
        """Headers that nobody asks for are not parsed."""
        headers = Headers.from_bytes(HEAD)
        headers.get("Call-ID")
        headers.has("Authorization")
        headers.get_all("Via")
        self.assertIsNone(headers._fields)

    def test_bare_line_feeds(self) -> None:
        """Heads with LF line ends are read, and their bodies stay out."""
        headers = Headers.from_bytes(b"BYE sip:a SIP/2.0\nTo: a\n b\nFrom: c\n\nRoute: d\n")
        self.assertEqual(headers.get("To"), "a b")
        self.assertEqual(headers.get("From"), "c")
        self.assertFalse(headers.has("Route"))
        self.assertEqual(headers.items(), [("To", "a b"), ("From", "c")])

    def test_head_without_end(self) -> None:
        """A head that was cut off is read as far as it goes."""
        for end in (b"", b"\r\n"):
            headers = Headers.from_bytes(b"BYE sip:a SIP/2.0\r\nTo: a\r\nFrom: c" + end)
            self.assertEqual(headers.get("From"), "c")
            self.assertEqual(len(headers), 2)

    def test_lines_that_are_no_fields(self) -> None:
        """A line without a name survives, and is told apart."""
        headers = Headers.from_bytes(
            b"BYE sip:a SIP/2.0\r\nnonsense\r\nbad name: x\r\nTo: a\r\n\r\n"
        )
        self.assertEqual(headers.items(), [("To", "a")])
        self.assertEqual(headers.malformed_lines(), ["nonsense", "bad name: x"])
        self.assertEqual(headers.lines(), ["nonsense", "bad name: x", "To: a"])

    @given(field_lists)
    def test_search_and_table_agree(self, fields: list[tuple[str, str]]) -> None:
        """A lookup gives the same before and after the table is made."""
        headers = from_wire(fields)
        for name, _ in [*fields, ("Route", "")]:
            before = headers.get(name), headers.get_all(name), headers.has(name)
            tabled = headers.copy()
            self.assertEqual(tabled.items(), fields)
            after = tabled.get(name), tabled.get_all(name), tabled.has(name)
            self.assertEqual(before, after)
            expected = [v for n, v in fields if header_key(n) == header_key(name)]
            self.assertEqual(before[1], expected)

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Looking things up in any bytes raises nothing."""
        headers = Headers.from_bytes(b"X\r\nTo" + data)
        before = headers.get("To"), headers.get_all("Via")
        headers.items()
        self.assertEqual((headers.get("To"), headers.get_all("Via")), before)


class ChangeTests(SynchronousTestCase):
    def test_made_from(self) -> None:
        """Mappings and pairs both do; numbers, lists and field values become text."""
        self.assertEqual(
            Headers({"Expires": 60, "X": ["a", "b"]}).items(),
            [("Expires", "60"), ("X", "a"), ("X", "b")],
        )
        self.assertEqual(Headers([("a", "1"), ("A", "2")]).get_all("a"), ["1", "2"])
        self.assertEqual(len(Headers()), 0)

    def test_set(self) -> None:
        """Setting replaces all of a header at the place of the first, compact forms included."""
        headers = Headers([("v", "1"), ("To", "2"), ("Via", "3")])
        headers.set("Via", ["4", "5"])
        self.assertEqual(headers.items(), [("Via", "4"), ("Via", "5"), ("To", "2")])
        headers.set("X", 6)
        self.assertEqual(headers.items()[-1], ("X", "6"))
        headers.set("Via", [])
        self.assertEqual(headers.items(), [("To", "2"), ("X", "6")])

    def test_add_prepend_remove(self) -> None:
        """New lines go to the end, or in front of their like; remove takes all."""
        headers = Headers([("To", "1"), ("Via", "2")])
        headers.add("Route", "3")
        headers.prepend("Via", "4")
        headers.prepend("X-First", "5")
        self.assertEqual(
            headers.items(),
            [("X-First", "5"), ("To", "1"), ("Via", "4"), ("Via", "2"), ("Route", "3")],
        )
        headers.remove("v")
        headers.remove("Contact")
        self.assertEqual(list(headers), ["X-First", "To", "Route"])

    def test_untouched_lines_stay(self) -> None:
        """A change leaves the other lines as they were, to the blank."""
        headers = Headers.from_bytes(HEAD)
        headers.set("Call-ID", "new")
        lines = headers.lines()
        self.assertIn("FROM : <sip:a@b>;tag=1", lines)
        self.assertIn("Subject: first\r\n  second\r\n\tthird  ", lines)
        self.assertIn("Call-ID: new", lines)

    def test_copy_is_independent(self) -> None:
        """Changing a copy does not change the original, nor the other way round."""
        headers = Headers.from_bytes(HEAD)
        for original in (headers, Headers({"Call-ID": "x@y"})):
            copy = original.copy()
            copy.set("Call-ID", "new")
            self.assertEqual(original.get("Call-ID"), "x@y")
            original.remove("Call-ID")
            self.assertEqual(copy.get("Call-ID"), "new")

    def test_injection_is_refused(self) -> None:
        """No value brings a second header along, and no name either; nothing has changed then."""
        headers = Headers({"X": "1"})
        for name, value in (
            ("X", "a\r\nEvil: 1"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0b"),
            ("X", ["fine", "a\r\n"]),
            ("X\r\nY", "1"),
            ("X:", "1"),
            ("X Y", "1"),
            ("", "1"),
            ("Ü", "1"),
        ):
            self.assertRaises(LocalProtocolError, headers.set, name, value)
            self.assertRaises(LocalProtocolError, headers.add, name, value)
            self.assertRaises(LocalProtocolError, headers.prepend, name, value)
            self.assertRaises(LocalProtocolError, Headers, {name: value})
        self.assertEqual(headers.items(), [("X", "1")])

    @given(field_lists, st.lists(st.tuples(st.sampled_from("sapr"), names, values), max_size=5))
    def test_multimap_laws(
        self, fields: list[tuple[str, str]], steps: list[tuple[str, str, str]]
    ) -> None:
        """After any changes the headers are what a plain list of pairs would be."""
        for headers in (Headers(fields), from_wire(fields)):
            model = list(fields)
            for step, name, value in steps:
                same = [i for i, (n, _) in enumerate(model) if header_key(n) == header_key(name)]
                if step == "s":
                    headers.set(name, value)
                    at = same[0] if same else len(model)
                    model = [pair for i, pair in enumerate(model) if i not in same]
                    model.insert(at, (name, value))
                elif step == "a":
                    headers.add(name, value)
                    model.append((name, value))
                elif step == "p":
                    headers.prepend(name, value)
                    model.insert(same[0] if same else 0, (name, value))
                else:
                    headers.remove(name)
                    model = [pair for i, pair in enumerate(model) if i not in same]
            self.assertEqual(headers.items(), model)
            self.assertEqual(headers, Headers(model))
            for name, _ in model:
                expected = [v for n, v in model if header_key(n) == header_key(name)]
                self.assertEqual(headers.get_all(name), expected)
                self.assertEqual(headers.get(name), expected[0])
