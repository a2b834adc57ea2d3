"""RFC 3261 chapter 17 with RFC 6026: machines with deadlines instead of timers, without I/O."""

from __future__ import annotations

from drachtwist.sip.derived import cancel_for, failure_ack
from drachtwist.transactions.client import InviteClient, NonInviteClient
from drachtwist.transactions.deadlines import Deadlines
from drachtwist.transactions.layer import TransactionLayer
from drachtwist.transactions.machine import (
    Deliver,
    Effect,
    Machine,
    RingTimedOut,
    SendCancel,
    State,
    Terminated,
    TimedOut,
    Transaction,
    Transmit,
    TransportFailed,
)
from drachtwist.transactions.matching import (
    cancelled_key,
    cancelled_keys,
    client_key,
    merge_key,
    request_client_key,
    server_key,
)
from drachtwist.transactions.retransmission import AnswerRepeater, ProvisionalRepeater
from drachtwist.transactions.server import InviteServer, NonInviteServer, trying
from drachtwist.transactions.timing import DEFAULT_TIMING, Timing

__all__ = [
    "DEFAULT_TIMING",
    "AnswerRepeater",
    "Deadlines",
    "Deliver",
    "Effect",
    "InviteClient",
    "InviteServer",
    "Machine",
    "NonInviteClient",
    "NonInviteServer",
    "ProvisionalRepeater",
    "RingTimedOut",
    "SendCancel",
    "State",
    "Terminated",
    "TimedOut",
    "Timing",
    "Transaction",
    "TransactionLayer",
    "Transmit",
    "TransportFailed",
    "cancel_for",
    "cancelled_key",
    "cancelled_keys",
    "client_key",
    "failure_ack",
    "merge_key",
    "request_client_key",
    "server_key",
    "trying",
]
