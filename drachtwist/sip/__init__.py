"""SIP text and values: messages, headers, URIs, digest. Standard library only."""

from __future__ import annotations

from drachtwist.sip.digest import Challenge, Credentials
from drachtwist.sip.encoding import encode_request, encode_response
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
)
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.message import Message, Request, Response
from drachtwist.sip.multipart import Part
from drachtwist.sip.params import Params
from drachtwist.sip.parsing import parse_datagram, parse_message
from drachtwist.sip.status import REASONS, reason_phrase
from drachtwist.sip.uri import OtherUri, SipUri, TelUri, Uri

__all__ = [
    "REASONS",
    "Address",
    "CSeq",
    "Challenge",
    "Credentials",
    "Event",
    "Headers",
    "HeadersLike",
    "MediaType",
    "Message",
    "OtherUri",
    "Params",
    "Part",
    "RAck",
    "Reason",
    "Replaces",
    "Request",
    "Response",
    "SessionExpires",
    "SipUri",
    "SubscriptionState",
    "TelUri",
    "Uri",
    "Via",
    "encode_request",
    "encode_response",
    "parse_datagram",
    "parse_message",
    "reason_phrase",
]
