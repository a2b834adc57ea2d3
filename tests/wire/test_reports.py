"""What servers tell: what is written is what is read, by name."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.wire import reports
from drachtwist.wire.commands import Answer, Cdr, Delivery, parse_event
from drachtwist.wire.session import ServerSession

RAW = b"BYE sip:a SIP/2.0\r\n\r\n\xff"


def answer(tokens: tuple[str, ...], raw: bytes = b"") -> Answer:
    """Let a server answer a command; read it as an application does."""
    session = ServerSession("x", [], "v0.9.10")
    session.answer("m", "OK", *tokens, raw=raw)
    _, _, payload = session.data_to_send().partition(b"#")
    event = parse_event(payload)
    assert isinstance(event, Answer)
    return event


class ReportTests(SynchronousTestCase):
    def test_delivery(self) -> None:
        """Each token is where its name says, with and without the address that was asked."""
        for received_on, expected in (("", ""), ("10.0.0.1|5062|", "10.0.0.1:5062")):
            event = parse_event(
                reports.delivery(
                    "f",
                    "network",
                    7,
                    "udp",
                    "1.2.3.4",
                    5060,
                    "12:00:00.000001",
                    "t",
                    "d",
                    RAW,
                    received_on,
                )
            )
            assert isinstance(event, Delivery)
            self.assertEqual((event.source, event.size, event.protocol), ("network", 7, "udp"))
            self.assertEqual((event.address, event.port), ("1.2.3.4", 5060))
            self.assertEqual((event.transaction_id, event.dialog_id), ("t", "d"))
            self.assertEqual((event.time, event.raw), ("12:00:00.000001", RAW))
            self.assertEqual(event.received_on, expected)
            self.assertEqual(event.session_token, "")
            tokens = event.tokens
            self.assertEqual(
                (tokens[reports.SOURCE], tokens[reports.TRANSACTION_ID]), ("network", "t")
            )
            self.assertEqual(tokens[reports.DIALOG_ID], "d")

    def test_old_servers(self) -> None:
        """What older servers do not send is empty, and what they send besides is found."""
        event = parse_event(b"f|sip|network|7|udp|1.2.3.4|5060|12:00:00.000001|t|d|h|1|s\r\n" + RAW)
        assert isinstance(event, Delivery)
        self.assertEqual((event.received_on, event.session_token), ("h:1", "s"))
        event = Delivery(["f", "sip", "network"], RAW)
        self.assertEqual((event.transaction_id, event.dialog_id, event.received_on), ("", "", ""))

    def test_echoes(self) -> None:
        """A command is answered with where its message went; a response with its dialog."""
        sent = answer(reports.echo(9, "tcp", "1.2.3.4", 5060, "12:00:00.000001", "t"), RAW)
        self.assertTrue(sent.ok)
        self.assertEqual((sent.transaction_id, sent.dialog_id), ("t", ""))
        self.assertEqual((sent.size, sent.protocol, sent.raw), (9, "tcp", RAW))
        sent = answer(reports.echo(9, "tcp", "1.2.3.4", 5060, "12:00:00.000001", "t", "d"), RAW)
        self.assertEqual((sent.transaction_id, sent.dialog_id), ("t", "d"))
        self.assertEqual((sent.address, sent.port), ("1.2.3.4", 5060))
        self.assertFalse(sent.is_continue or sent.is_done)

    def test_passed_on(self) -> None:
        """More answers follow one that passes a response on; the last one says so."""
        one = answer(reports.passed_on(9, "udp", "1.2.3.4", 5060, "12:00:00.000001"), RAW)
        self.assertTrue(one.is_continue and not one.is_done)
        self.assertEqual((one.protocol, one.address, one.port), ("udp", "1.2.3.4", 5060))
        self.assertEqual(one.time, "12:00:00.000001")
        last = answer((reports.DONE,))
        self.assertTrue(last.is_done and not last.is_continue)

    def test_records(self) -> None:
        """Records have a detail where there is one."""
        for detail in ("", "uas"):
            record = parse_event(
                reports.record("f", "start", "network", "12:00:00.000001", RAW, detail)
            )
            self.assertEqual(record, Cdr("start", "network", "12:00:00.000001", detail, RAW, "f"))
