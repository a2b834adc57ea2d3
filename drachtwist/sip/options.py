"""Option tags: the extensions that Require, Supported and their relatives list.

One reader, so that all agree on who needs a PRACK (RFC 3261 sections 19.2 and 20.32, RFC 3262).
Messages have it as :meth:`~drachtwist.sip.message.Message.requires` and ``supports``.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RELIABLE", "lists_option"]

RELIABLE = "100rel"
"""The option tag of reliable provisional responses."""


def lists_option(values: Iterable[str], tag: str) -> bool:
    """Say whether header lines list an option tag.

    :param values: the value of each line of the header.
    :param tag: in lower case; option tags are tokens, and those are case-blind (section 7.3.1).
    """
    for value in values:
        value = value.lower()
        if tag in value and any(tag == part.strip() for part in value.split(",")):
            return True
    return False
