"""Tests of the messages of both directions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.wire.commands import (
    AddRoute,
    Answer,
    Authenticate,
    Cdr,
    Command,
    Delivery,
    DialogId,
    Malformed,
    MessageId,
    Ping,
    Proxy,
    RemoveRoute,
    SendMessage,
    TransactionId,
    check_tags,
    parse_command,
    parse_event,
)
from tests.transcripts import numbers, transcript

TOKENS = st.text(st.characters(exclude_characters="|\r\n\0", exclude_categories=["Cs"]), max_size=9)
WORDS = TOKENS.filter(lambda text: "," not in text and text != "")
MESSAGES = st.binary(min_size=1, max_size=30)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Authenticate, TOKENS, st.lists(WORDS, max_size=3).map(tuple)),
    st.builds(AddRoute, TOKENS),
    st.builds(RemoveRoute, TOKENS),
    st.just(Ping()),
    st.builds(
        SendMessage,
        MESSAGES,
        TOKENS.map(TransactionId),
        TOKENS.map(DialogId),
        TOKENS,
    ),
    st.builds(
        Proxy,
        TOKENS.map(TransactionId),
        st.lists(TOKENS, min_size=1, max_size=3).map(tuple),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        TOKENS,
        TOKENS,
        MESSAGES,
    ),
)


class CommandTests(SynchronousTestCase):
    @given(TOKENS, COMMANDS)
    def test_round_trip(self, message_id: str, command: Command) -> None:
        """What one end writes is what the other reads."""
        assert not isinstance(command, Malformed)
        payload = message_id.encode() + b"|" + bytes(command)
        self.assertEqual(parse_command(payload), (message_id, command))

    @given(st.binary(max_size=60))
    def test_arbitrary_bytes(self, payload: bytes) -> None:
        """Whatever comes is a value, from either side."""
        _, command = parse_command(payload)
        self.assertIsNotNone(command)
        self.assertIsNotNone(parse_event(payload))

    def test_malformed(self) -> None:
        """What breaks a real server is a value here, with the words of its refusal."""
        for payload, problem in (
            (b"x", "Invalid message format"),
            (b"", "Invalid message format"),
            (b"x|foo", "Unknown message type"),
            (b"x|sip", "Invalid message format"),
            (b"x|sip|", "Invalid message format"),
            (b"x|route", "Invalid message format"),
            (b"x|authenticate", "incorrect secret"),
            (b"x|proxy|t", "Invalid proxy request: not enough information provided"),
        ):
            _, command = parse_command(payload)
            assert isinstance(command, Malformed), payload
            self.assertEqual(command.problem, problem)

    def test_separators_are_refused(self) -> None:
        """Nothing that is sent can smuggle in another token or line."""
        for command in (
            Authenticate("a|b"),
            Authenticate("s", ("a\r\nb",)),
            AddRoute("invite|x"),
            SendMessage(b"x", TransactionId("a\n")),
            SendMessage(b"x", route="sip:a@b|"),
            Proxy(TransactionId("t"), ("sip:a@b|sip:c@d",)),
        ):
            with self.assertRaises(LocalProtocolError):
                bytes(command)

    def test_secret_is_hidden(self) -> None:
        """The secret does not show in the repr."""
        self.assertNotIn("cymru", repr(Authenticate("cymru", ("a",))))

    def test_tags(self) -> None:
        """At most 20 tags, of 1 to 32 of the allowed characters."""
        good = ["aZ09-_+@:", "x" * 32]
        self.assertEqual(check_tags(good), tuple(good))
        for bad in (["a"] * 21, ["x" * 33], [""], ["a b"], ["a,b"], ["é"], "abc"):
            with self.assertRaises(LocalProtocolError):
                check_tags(bad)


class RecordingTests(SynchronousTestCase):
    def test_every_frame_of_a_real_server(self) -> None:
        """All recorded frames are understood, and written again as they were."""
        kinds = set()
        for number in numbers():
            for line in transcript(number):
                if line.event == "frame" and line.sender == "server":
                    event = parse_event(line.frame)
                    assert not isinstance(event, Malformed), (number, line)
                    self.assertEqual(bytes(event), line.frame)
                    kinds.add(type(event))
        self.assertEqual(kinds, {Delivery, Answer, Cdr})

    def test_every_frame_of_the_application(self) -> None:
        """All recorded commands that are well formed are written again as they were."""
        seen = 0
        for number in numbers():
            if number in (37, 38, 41):  # these send what nobody should
                continue
            for line in transcript(number):
                if line.event == "frame" and line.sender == "app":
                    message_id, command = parse_command(line.frame)
                    assert not isinstance(command, Malformed), (number, line)
                    again = message_id.encode() + b"|" + bytes(command)
                    self.assertEqual(again, line.frame)
                    seen += 1
        self.assertGreater(seen, 200)

    def test_tokens_of_a_new_request(self) -> None:
        """The first line of a delivery is read as the protocol says."""
        delivery = next(
            event
            for line in transcript(4)
            if line.event == "frame" and isinstance(event := parse_event(line.frame), Delivery)
        )
        self.assertEqual(
            (
                delivery.source,
                delivery.size,
                delivery.protocol,
                delivery.address,
                delivery.port,
                delivery.time,
                delivery.transaction_id,
                delivery.dialog_id,
                delivery.received_on,
                delivery.session_token,
                delivery.raw[:10],
            ),
            (
                "network",
                507,
                "udp",
                "127.0.0.1",
                32070,
                "01:51:23.347473",
                "2e1f6812-e78c-411b-903d-236d6336d677",
                "",
                "127.0.0.1:32060",
                "",
                b"INVITE sip",
            ),
        )

    def test_tokens_of_answers(self) -> None:
        """Answers to requests and to responses have their ids in different places."""
        answers = [
            event
            for line in transcript(5)
            if line.event == "frame" and isinstance(event := parse_event(line.frame), Answer)
        ]
        ok = next(a for a in answers if a.raw.startswith(b"SIP/2.0 200 OK"))
        bye = next(a for a in answers if a.raw.startswith(b"BYE"))
        self.assertTrue(ok.ok and bye.ok)
        self.assertIn(";from-tag=", ok.dialog_id)
        self.assertEqual(bye.dialog_id, "")
        self.assertEqual(len(bye.transaction_id), 36)
        self.assertEqual((bye.protocol, bye.address), ("udp", "127.0.0.1"))

    def test_make_a_delivery(self) -> None:
        """A server builds deliveries that an application reads back."""
        made = Delivery.make(
            "i", "network", 5, "udp", "1.2.3.4", 5060, "00:00:00.000001", "t", "", b"X", ("h", 1)
        )
        read = parse_event(bytes(made))
        assert isinstance(read, Delivery)
        self.assertEqual(read, made)
        self.assertEqual(read.received_on, "h:1")
        self.assertEqual(MessageId("i"), read.tokens[0])
