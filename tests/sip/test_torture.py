"""The torture messages of RFC 4475 and RFC 5118 against what the RFCs want made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import MessageError
from drachtwist.sip.fields import Address, CSeq, Via
from drachtwist.sip.grammar import unescape
from drachtwist.sip.message import Request, Response
from drachtwist.sip.params import Params
from drachtwist.sip.parsing import parse_datagram, parse_message
from drachtwist.sip.stream import Malformed, StreamParser
from drachtwist.sip.uri import SipUri

DATA = Path(__file__).parent.parent / "data" / "torture"
MESSAGES: list[dict[str, Any]] = json.loads((DATA / "manifest.json").read_text("utf-8"))["messages"]

AnyMessage = Request | Response


def octets(entry: dict[str, Any]) -> bytes:
    suffix: str = entry.get("wire_suffix", "")
    data: bytes = (DATA / entry["file"]).read_bytes()
    return data + suffix.encode("ascii")


def sip_uri(text: str) -> SipUri:
    uri = Address.parse(f"<{text}>").parsed_uri
    assert isinstance(uri, SipUri), text
    return uri


def request_uri(message: AnyMessage) -> SipUri:
    assert isinstance(message, Request)
    assert isinstance(message.request_uri, SipUri)
    return message.request_uri


def params(values: Params, without: str) -> dict[str, str | None]:
    return {name: value for name, value in values.items() if name.lower() != without}


def address(value: Address) -> dict[str, Any]:
    raw = str(value).partition("<")[0].strip() if "<" in str(value) else ""
    return {
        "display_raw": raw or None,
        "display": value.display,
        "uri": value.uri,
        "tag": value.tag,
        "params": params(value.params, "tag"),
    }


def contact(value: Address) -> dict[str, Any]:
    return {"uri": value.uri, "display": value.display, "params": dict(value.params)}


def hop(value: Via) -> dict[str, Any]:
    return {
        "version": f"{value.protocol}/{value.version}",
        "transport": value.transport,
        "host": value.host,
        "port": value.port,
        "branch": value.branch,
        "params": params(value.params, "branch"),
    }


def hops(values: list[Via]) -> list[dict[str, Any] | str]:
    if len(values) <= 5:
        return [hop(value) for value in values]
    return [hop(values[0]), "...", hop(values[-1])]


def one_or_many(message: AnyMessage, name: str, read: Callable[[str], Any]) -> Any:
    found = [read(text) for text in message.get_all(name)]
    return None if not found else found[0] if len(found) == 1 else found


def cseq(text: str) -> dict[str, Any]:
    try:
        value = CSeq.parse(text)
    except MessageError:
        # Out of range, yet an error response copies it as text.
        number, method = text.split()
        return {"number": int(number), "method": method}
    return {"number": value.number, "method": value.method}


def digest(message: AnyMessage) -> str | None:
    return hashlib.sha256(message.body).hexdigest() if message.body else None


def header_texts(message: AnyMessage, wanted: dict[str, str]) -> dict[str, str | None]:
    return {name: message.get(name) for name in wanted}


def contact_uri(message: AnyMessage) -> SipUri:
    return sip_uri(message.contacts[0].uri)


def escapes_resolved(values: Params) -> dict[str | None, str | None]:
    return {
        unescape(name): None if value is None else unescape(value) for name, value in values.pairs
    }


def as_text(value: Any) -> Any:
    return None if value is None else str(value)


# Each fact of the manifest, and how our reading of the message yields it.
FACTS: dict[str, Callable[[Any, Any], Any]] = {
    "method": lambda m, _: m.method,
    "request_uri": lambda m, _: m.uri,
    "sip_version": lambda m, _: f"SIP/{m.version}",
    "status": lambda m, _: m.status,
    "reason": lambda m, _: m.reason,
    "call_id": lambda m, _: one_or_many(m, "Call-ID", str),
    "cseq": lambda m, _: one_or_many(m, "CSeq", cseq),
    "from": lambda m, _: one_or_many(m, "From", lambda t: address(Address.parse(t))),
    "to": lambda m, _: one_or_many(m, "To", lambda t: address(Address.parse(t))),
    "from_raw": lambda m, _: m.get("From"),
    "to_raw": lambda m, _: m.get("To"),
    "lenient_to_uri": lambda m, _: m.to.uri,
    "via_count": lambda m, _: len(m.vias),
    "via": lambda m, _: hops(m.vias),
    "via_hosts": lambda m, _: [via.host for via in m.vias],
    "via_ports": lambda m, _: [via.port for via in m.vias],
    "via_transports": lambda m, _: [via.transport for via in m.vias],
    "via_received": lambda m, _: m.vias[0].received,
    "contact_count": lambda m, _: len(m.contacts),
    "contact": lambda m, _: [contact(value) for value in m.contacts],
    "contact_q": lambda m, _: float(m.contacts[0].params["q"] or ""),
    "contact_uri_params": lambda m, _: dict(contact_uri(m).params),
    "contact_uri_params_decoded": lambda m, _: escapes_resolved(contact_uri(m).params),
    "contact_uri_headers_decoded": lambda m, _: escapes_resolved(contact_uri(m).headers),
    "contact_user_decoded": lambda m, _: contact_uri(m).user_text,
    "contact_users_decoded": lambda m, _: [sip_uri(c.uri).user_text for c in m.contacts],
    "content_length": lambda m, _: one_or_many(m, "Content-Length", int),
    "body_length": lambda m, _: len(m.body),
    "body_sha256": lambda m, _: digest(m),
    "content_type": lambda m, _: as_text(m.content_type),
    "body_part_count": lambda m, _: len(m.parts),
    "body_part_types": lambda m, _: [part.content_type.essence for part in m.parts],
    "body_boundary": lambda m, _: m.content_type.boundary if m.content_type else None,
    "max_forwards": lambda m, _: one_or_many(m, "Max-Forwards", int),
    "header_field_count": lambda m, _: len(m.headers),
    "headers": header_texts,
    "route": lambda m, _: [{"uri": r.uri} for r in m.get_parsed_header("Route")],
    "route_count": lambda m, _: len(m.get_parsed_header("Route")),
    "record_route_count": lambda m, _: len(m.get_parsed_header("Record-Route")),
    "accept": lambda m, _: [str(kind) for kind in m.get_parsed_header("Accept")],
    "require": lambda m, _: m.get_parsed_header("Require"),
    "proxy_require": lambda m, _: m.get_parsed_header("Proxy-Require"),
    "top_via_branch_has_magic_cookie": lambda m, _: (m.vias[0].branch or "").startswith("z9hG4bK"),
    "request_uri_user": lambda m, _: request_uri(m).user,
    "request_uri_user_decoded": lambda m, _: request_uri(m).user_text,
    "request_uri_password": lambda m, _: request_uri(m).password,
    "request_uri_host": lambda m, _: request_uri(m).address,
    "request_uri_port": lambda m, _: request_uri(m).port,
    "request_uri_params": lambda m, _: dict(request_uri(m).params),
    "from_user_decoded": lambda m, _: sip_uri(m.from_.uri).user_text,
    "to_user_decoded": lambda m, _: sip_uri(m.to.uri).user_text,
    "longest_line_at_least": lambda m, least: min(least, max(map(len, m.headers.lines()))),
}

# Facts about the datagram around the message.
AROUND = {"trailing_octets", "octets_after_header_section", "request_line_raw"}
# Readings that are left to whoever wants them.
NOT_OURS = {"lenient_request_uri", "request_uri_host_meant"}
START_LINE = {"method", "request_uri", "sip_version", "status", "reason"}


def readings(
    message: AnyMessage, facts: dict[str, Any], skip: Set[str] = frozenset()
) -> Iterator[tuple[str, Any, Any]]:
    """Give name, reading and statement of each fact that can be read from a message."""
    for key, wanted in facts.items():
        if key in AROUND or key in NOT_OURS or key in skip:
            continue
        if key != "body_length" or wanted is not None:
            yield key, FACTS[key](message, wanted), wanted


class TortureTests(SynchronousTestCase):
    maxDiff = None

    def check(self, name: str, message: AnyMessage, facts: dict[str, Any], skip: set[str]) -> None:
        for key, found, wanted in readings(message, facts, skip):
            self.assertEqual(found, wanted, f"{name}: {key}")

    def check_around(self, name: str, data: bytes, facts: dict[str, Any], body: int | None) -> None:
        """Check the facts about a datagram.

        :param body: how many octets of it were taken for the body, if that is known.
        """
        head, _, rest = data.partition(b"\r\n\r\n")
        self.assertEqual(len(rest), facts["octets_after_header_section"], name)
        if body is not None:
            self.assertEqual(len(rest) - body, facts["trailing_octets"], name)
        line = head.partition(b"\r\n")[0].decode()
        self.assertEqual(line, facts.get("request_line_raw", line), name)

    def test_all_messages_are_here(self) -> None:
        """The octets are those that the manifest was made for."""
        self.assertEqual(len(MESSAGES), 49 + 1 + 12)
        for entry in MESSAGES:
            data = (DATA / entry["file"]).read_bytes()
            self.assertEqual(hashlib.sha256(data).hexdigest(), entry["sha256"], entry["name"])

    def test_verdicts(self) -> None:
        """What the RFCs call valid is accepted, what they want turned down is turned down."""
        for entry in MESSAGES:
            with self.subTest(entry["name"]):
                if entry["parser"] == "accept":
                    parse_datagram(octets(entry))
                elif entry["parser"] == "reject":
                    self.assertRaises(MessageError, parse_datagram, octets(entry))

    def test_statuses(self) -> None:
        """A request that is turned down here gets one of the statuses that the RFC names."""
        seen = 0
        for entry in MESSAGES:
            wanted = [s for e in entry["element"] or () for s in e.get("status", ())]
            if entry["kind"] != "request" or entry["parser"] not in ("reject", "may_reject"):
                continue
            try:
                parse_datagram(octets(entry))
            except MessageError as error:
                self.assertIn(error.status, wanted, entry["name"])
                seen += 1
        self.assertGreater(seen, 15)

    def test_expected_facts(self) -> None:
        """Every fact that the manifest states about a valid message is read from it."""
        checked = 0
        for entry in MESSAGES:
            if entry.get("expect"):
                data = octets(entry)
                message = parse_datagram(data)
                self.check(entry["name"], message, entry["expect"], set())
                self.check_around(entry["name"], data, entry["expect"], len(message.body))
                checked += 1
        self.assertGreater(checked, 35)

    def test_recoverable_facts(self) -> None:
        """A lenient reading of an invalid message still yields what an answer is built from."""
        checked = 0
        for entry in MESSAGES:
            facts = entry.get("recoverable")
            if not facts:
                continue
            data = octets(entry)
            skip: set[str] = set()
            message: AnyMessage
            try:
                message = parse_message(data)
            except MessageError:
                # Nothing of an unreadable start line can be relied upon.
                skip = START_LINE
                kind = Request if entry["kind"] == "request" else Response
                message = kind.from_bytes(data)
            if entry["name"] == "regbadct":
                # The ? needs brackets around it, so we do not guess what the Contact means.
                self.assertRaises(MessageError, lambda m=message: m.contacts)
                skip = {"contact", "contact_count"}
            self.check(entry["name"], message, facts, skip)
            self.check_around(entry["name"], data, facts, None)
            checked += 1
        self.assertGreater(checked, 15)

    def test_all_serialise_unchanged(self) -> None:
        """Nobody touched them, so all of them leave as they came, whatever was looked at."""
        for entry in MESSAGES:
            data = octets(entry)
            message = Request.from_bytes(data)
            message.headers.items()
            self.assertEqual(bytes(message), data, entry["name"])

    def test_stream_verdicts(self) -> None:
        """On a stream the faults in Content-Length close the connection, and nothing else does."""
        for entry in MESSAGES:
            if entry["valid"] is None:
                continue
            actions = {
                e["action"]: e.get("transport") for e in entry["element"] if "transport" in e
            }
            parser = StreamParser()
            events = parser.feed(octets(entry))
            name = entry["name"]
            if "close" in actions or entry["name"] == "inv2543":
                self.assertIsNotNone(parser.error, name)
            elif "wait_then_close" in actions:
                self.assertEqual(events, [], name)
                self.assertGreater(parser.pending, 0, name)
            elif entry["parser"] == "accept":
                self.assertFalse(isinstance(events[0], Malformed), name)
            elif entry["parser"] == "reject":
                self.assertIsInstance(events[0], Malformed, name)
