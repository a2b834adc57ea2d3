"""The options of calls are declared once, and whoever takes them takes them so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ForwardRef

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Simring, Srf, hunt
from drachtwist.app.b2bua import create_b2bua
from drachtwist.app.call_options import (
    BridgeOptions,
    CallOptions,
    SimringOptions,
    TargetOptions,
    TriedOptions,
)
from drachtwist.app.option_types import _KINDS
from drachtwist.app.uac import prepare_uac

_FURTHER = {"uri", "uris", "srf", "connections", "req", "res", "body", "local_sdp"}
# Who writes out which of them, and what it has besides.
TAKERS: list[tuple[Callable[..., Any], type, set[str], set[str]]] = [
    (Srf.create_uac, CallOptions, set(), {"headers"}),
    (prepare_uac, CallOptions, set(), {"headers"}),
    (Srf.create_b2bua, BridgeOptions, set(), set()),
    (create_b2bua, BridgeOptions, set(), set()),
    (
        Srf.request,
        CallOptions,
        {
            *("calling_number", "calling_name", "called_number", "timeout"),
            *("follow_redirects", "keep_uri_on_redirect", "no_ack", "on_update"),
        },
        {"headers"},
    ),
    (Simring, SimringOptions, set(TargetOptions.__annotations__), set()),
]


def declared(options: Any) -> dict[str, str]:
    """Return the types that are declared, as they are written."""
    return {
        name: kind.__forward_arg__ if isinstance(kind, ForwardRef) else str(kind)
        for name, kind in options.__annotations__.items()
    }


def taken(taker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the options that are written out in a signature."""
    found = dict(inspect.signature(taker).parameters)
    return {
        name: one
        for name, one in found.items()
        if one.kind is one.KEYWORD_ONLY and name not in _FURTHER
    }


class CallOptionTests(SynchronousTestCase):
    def test_types(self) -> None:
        """Signatures have all options of their kind, of the types that are declared."""
        for taker, options, lacking, further in TAKERS:
            wanted = {name: kind for name, kind in declared(options).items() if name not in lacking}
            found = {
                name: str(one.annotation)
                for name, one in taken(taker).items()
                if name not in further
            }
            self.assertEqual(found, wanted, taker)

    def test_defaults(self) -> None:
        """An option is the same everywhere when it is not given."""
        known: dict[str, Any] = {}
        for taker, *_ in TAKERS:
            for name, one in taken(taker).items():
                if one.default is not inspect.Parameter.empty:
                    self.assertEqual(known.setdefault(name, one.default), one.default, name)
        self.assertIs(known["follow_redirects"], False)

    def test_checked(self) -> None:
        """For each of them there is a check of what it is given; any connection will do."""
        every = {**declared(CallOptions), **declared(BridgeOptions), **declared(SimringOptions)}
        self.assertEqual(set(every) - set(_KINDS), {"link"})

    def test_attempts(self) -> None:
        """Who tries one after the other has the time and the refusals itself."""
        own = set(declared(BridgeOptions)) - set(declared(TriedOptions))
        self.assertEqual(own, {"timeout", "pass_failure"})
        self.assertLessEqual(own, set(taken(hunt)))
