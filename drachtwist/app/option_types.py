"""What the options of calls may be, so that a slip is told where it is made.

Most options are used long after they were given, and a value of a wrong kind would fail there with
an error that names neither the option nor what it takes; or not at all: a text where names are
wanted is a list of letters to Python. What an option was given is told by its type alone, as it
may hold a password.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from drachtwist import sip
from drachtwist.app.destinations import is_target
from drachtwist.app.mistakes import said
from drachtwist.errors import LocalProtocolError
from drachtwist.net.tls import TlsOptions
from drachtwist.sip.headers import HeadersLike, checked_lines, checked_name

__all__ = [
    "SDP_BEGINS",
    "check_calling",
    "check_connecting",
    "check_description",
    "check_modification",
    "check_options",
]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_body(value: Any) -> bool:
    # bytes have __bytes__ since Python 3.11.
    return isinstance(value, str | bytes | bytearray | memoryview) or hasattr(value, "__bytes__")


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_credentials(value: Any) -> bool:
    return callable(value) or (
        isinstance(value, tuple) and len(value) == 2 and all(isinstance(one, str) for one in value)
    )


def _is_headers(value: Any) -> bool:
    """Return whether these are headers; what is wrong in them is told as it is found.

    :raises LocalProtocolError: for a name or a value that is none.
    """
    if isinstance(value, sip.Headers):
        return True
    if isinstance(value, Mapping):
        value = list(value.items())
    if isinstance(value, list | tuple):
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in value):
            return False
        for name, given in value:
            if not isinstance(name, str):
                checked_name(name)
            if not isinstance(given, str):
                checked_lines(given, name)
        return True
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def _is_source(value: Any) -> bool:
    return _is_body(value) or callable(value) or isinstance(value, Deferred | Awaitable)


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, Iterable)
        and not isinstance(value, str | bytes | Mapping)
        and all(isinstance(one, str) for one in value)
    )


def _is_targets(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and all(map(is_target, value))
    )


_URI = "a SIP URI as text, or somebody who registered (a Binding)"
_HEADERS = "a mapping of names to values, or pairs of them"
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "uri": (is_target, _URI),
    "uris": (_is_targets, f"a list, each of it {_URI}"),
    "destinations": (lambda value: is_target(value) or _is_targets(value), f"{_URI}, or a list"),
    **dict.fromkeys(
        ("method", "calling_number", "calling_name", "called_number", "proxy"), (_is_text, "text")
    ),
    "body": (_is_body, "text or bytes"),
    "headers": (_is_headers, _HEADERS),
    "auth": (
        _is_credentials,
        "a tuple of user name and password, or a function of realm, request and challenge",
    ),
    "timeout": (_is_seconds, "a number of seconds"),
    **dict.fromkeys(
        ("provisional_timeout", "final_timeout"),
        (
            lambda value: _is_seconds(value) or isinstance(value, str),
            "a number of seconds, or '2s'",
        ),
    ),
    "local_sdp": (
        _is_source,
        "a session description as text or bytes, something awaitable that becomes one, or a"
        " function without arguments that gives one",
    ),
    **dict.fromkeys(
        ("local_sdp_a", "local_sdp_b"),
        (
            _is_source,
            "a session description as text or bytes, something awaitable that becomes one, or a"
            " function of the other side's description and its message",
        ),
    ),
    "response_headers": (_is_headers, _HEADERS),
    **dict.fromkeys(
        ("proxy_request_headers", "proxy_response_headers"), (_is_names, "a list of header names")
    ),
    **dict.fromkeys(
        ("on_request", "on_provisional", "on_update", "on_uac"), (callable, "a function")
    ),
    **dict.fromkeys(
        (
            "follow_redirects",
            "keep_uri_on_redirect",
            "no_ack",
            "pass_failure",
            "pass_provisional_responses",
            "record_route",
            "full_response",
        ),
        (lambda value: isinstance(value, bool), "True or False"),
    ),
}


def check_options(**options: Any) -> None:
    """Refuse options of the wrong kind; None is none, except where there has to be something.

    :raises LocalProtocolError: says which one, what it was given, and what it takes.
    """
    for name, value in options.items():
        if value is None and name not in _NEEDED:
            continue
        fits, wanted = _KINDS[name]
        if not fits(value):
            raise LocalProtocolError(f"{name} takes {wanted}, not {_given(name, value)}")


def _given(name: str, value: Any) -> str:
    """Name what an option was given."""
    if name in ("uris", "destinations") and isinstance(value, list | tuple):
        wrong = next((one for one in value if not is_target(one)), None)
        return f"{said(wrong)} among them"
    return said(value)


def check_modification(sdp: Any) -> None:
    """Refuse what changes no session.

    :raises LocalProtocolError: for what is neither a session description nor one of the two words.
    """
    given = said(sdp)
    if isinstance(sdp, str | bytes):
        if sdp in _WORDS or sdp[:3] in SDP_BEGINS:
            return
        given = repr(sdp[:40])
    elif _is_body(sdp):
        return
    raise LocalProtocolError(
        f"modify() takes a session description, 'hold' or 'unhold', not {given}"
    )


_WORDS = ("hold", "unhold")
SDP_BEGINS = ("v=0", b"v=0")
"""What a session description begins with (RFC 8866 section 5.1)."""


def check_description(body: Any, headers: HeadersLike) -> None:
    """Refuse a body that is no session description, unless headers say what it is.

    Servers take it for one only when it begins as one, and refuse it, or send it without a type.

    :raises LocalProtocolError: says what it is.
    """
    if isinstance(body, str | bytes):
        given = repr(body[:40])
    elif bytes(body).startswith(b"v=0"):
        return
    else:
        given = type(body).__name__
    if not sip.Headers(headers).has("Content-Type"):
        raise LocalProtocolError(
            f"no session description, which begins with v=0: {given}; any other body needs a"
            " Content-Type header"
        )


def check_connecting(**options: Any) -> None:
    """Refuse options of a connection, or of a listener, of the wrong kind.

    :raises LocalProtocolError: says which one, what it was given, and what it takes.
    """
    for name, value in options.items():
        fits, wanted = _CONNECTING[name]
        if not fits(value):
            shows = name == "port" or (name != "secret" and isinstance(value, int | float))
            given = repr(value) if shows else said(value)
            raise LocalProtocolError(f"{name} takes {wanted}, not {given}")


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535


_CONNECTING: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("secret", "host"), (_is_text, "text")),
    "port": (_is_port, "a number from 0 to 65535"),
    "tls": (
        lambda value: value is None or isinstance(value, TlsOptions | bool),
        "TlsOptions, True or False",
    ),
    "ping_interval": (
        lambda value: value is None or _is_seconds(value),
        "a number of seconds, or None",
    ),
    **dict.fromkeys(("pong_timeout", "drain"), (_is_seconds, "a number of seconds")),
}


def check_calling(options: Mapping[str, object]) -> None:
    """Refuse options of a call that is placed later; see :func:`check_options`.

    :raises LocalProtocolError: for a wrong kind.
    :raises TypeError: for a name that is no option.
    """
    for name in options:
        if name not in _KINDS and name != "link":
            raise TypeError(f"{name} is no option of a call")
    known = {name: value for name, value in options.items() if name != "link"}
    for name in ("headers", "response_headers"):
        if callable(known.get(name)):
            del known[name]
    check_options(**known)


_NEEDED = frozenset(("uri", "uris", "method", "body", "proxy"))
