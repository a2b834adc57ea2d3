"""Option tags: the extensions that Require, Supported and their relatives list.

One reader, so that all agree on who needs a PRACK (RFC 3261 sections 19.2 and 20.32, RFC 3262).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drachtwist.sip.message import Response

__all__ = ["RELIABLE", "lists_option", "reliable_number"]

RELIABLE = "100rel"
"""The option tag of reliable provisional responses."""

_RSEQ = re.compile(rb"\nRSeq[ \t]*:", re.IGNORECASE)


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


def reliable_number(response: Response) -> str | None:
    """Return the RSeq of a reliable provisional response; None for any other response.

    It has one, and requires ``100rel`` (RFC 3262 section 3).
    """
    if not _RSEQ.search(response.raw) or not 100 < response.status < 200:
        return None
    if not lists_option(response.get_all("Require"), RELIABLE):
        return None
    return (response.get("RSeq") or "").strip() or None
