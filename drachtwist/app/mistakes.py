"""What is said of the usual mistakes, where one is found out: what was given, and what is wanted.

Nobody pays for these texts who makes no mistake: they are made where something failed already, or
could not be taken for what it should be. What was given is told by its type alone where it may hold
a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from drachtwist.errors import LocalProtocolError

__all__ = [
    "misplaced_options",
    "no_dialogs",
    "no_handler",
    "no_method",
    "no_request",
    "said",
]

_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


def said(value: object) -> str:
    """Name what was given, without what is in it."""
    return "None" if value is None else type(value).__name__


def misplaced_options(function: str, values: Sequence[Any]) -> TypeError:
    """Make the error of who gives options without their names, or in one object, as in Node.

    :param values: what stands where nothing does.
    """
    what = type(values[0]).__name__
    if isinstance(values[0], Mapping):
        names = [_CAPITAL.sub(r"_\1", str(name)).lower() for name in values[0]]
        what = f"a {what}: " + ", ".join(f"{name}=..." for name in names[:8])
    return TypeError(f"{function}() takes its options by name, not as {what}")


def no_handler(handler: object) -> LocalProtocolError:
    """Make the error of who gives something to be called that cannot be."""
    return LocalProtocolError(f"not a handler: {handler!r}")


def no_method(method: object) -> LocalProtocolError:
    """Make the error of who gives something else than a method."""
    return LocalProtocolError(f"a method is text, such as 'INFO', not {said(method)}")


def no_request(function: str, error: AttributeError, *given: object) -> Exception:
    """Make the error of who gives something else than a request, and perhaps its response.

    :param error: what came of that; it stays when a result was not awaited.
    :param given: the request, and the response if there has to be one.
    """
    req = given[0]
    if hasattr(req, "_answer") or any(isinstance(one, Deferred) for one in given):
        return error
    wanted = "the request that the handler got"
    if len(given) > 1:
        wanted = "the request and the response that the handler got, in this order"
    return LocalProtocolError(f"{function}() takes {wanted}, not {type(req).__name__}")


def no_dialogs(function: str, error: AttributeError, *given: object) -> Exception:
    """Make the error of who gives something else than dialogs; see :func:`no_request`."""
    wrong = [one for one in given if not hasattr(one, "dialog_type")]
    if not wrong or any(isinstance(one, Deferred) for one in given):
        return error
    wanted = "a dialog" if len(given) == 1 else "two dialogs"
    return LocalProtocolError(f"{function}() takes {wanted}, not {type(wrong[0]).__name__}")
