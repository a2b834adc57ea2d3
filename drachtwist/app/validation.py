"""Requests that nobody is asked about, and dialogs that are not what they are called.

A server that checks little passes on what it gets. Two things would do harm behind it. A ``|``,
with which frames separate their tokens, would shift them: who writes one into a Call-ID could name
the dialog of somebody else. It is no character of a Call-ID or a tag (RFC 3261 section 25.1). And a
NUL can be sent to nobody, so an application that passes a header on would fail by no fault of its
own.
"""

from __future__ import annotations

from drachtwist.errors import MessageError
from drachtwist.sip import grammar
from drachtwist.sip.message import Message, Request

BAR = ord("|")  # looking for a number is faster than for bytes
_FROM_TAG = b";from-tag="

__all__ = ["BAR", "names", "problem_of", "without_nuls"]


def problem_of(request: Request) -> str | None:
    """Say why nobody is asked about a request; None when nothing is wrong.

    Nothing is where there is no ``|`` and no NUL in it.

    :returns: the phrase of a 400.
    """
    if grammar.has_bare_nul(_head(request.raw)):
        return "NUL In A Header"
    try:
        if "|" in request.call_id:
            return "Bad Call-ID Header"
        if "|" in (request.from_.tag or ""):
            return "Bad From Header"
    except MessageError:
        pass  # whoever asks for it will see
    return None


def without_nuls(raw: bytes) -> bytes:
    """Return a response with blanks for the NULs that may not stand in its headers."""
    head = _head(raw)
    if not grammar.has_bare_nul(head):
        return raw
    return head.replace(b"\0", b" ") + raw[len(head) :]


def names(dialog_id: str, message: Message) -> bool:
    """Return whether a server's name for a dialog is that of the dialog which a message belongs to.

    :param dialog_id: what the server said.
    :param message: a message with the From of the request that made the dialog.
    """
    raw = message._raw
    if BAR not in raw:  # which nearly always settles it: nothing can have shifted the name
        call_id, found, tag = dialog_id.encode("utf-8", "surrogateescape").rpartition(_FROM_TAG)
        if found and tag:
            # As nearly everybody writes it.
            head = raw.find(b"\r\n\r\n")
            at = raw.find(b"\r\nFrom: ", 0, head)
            end = raw.find(b"\r\n", at + 2)
            if (
                at >= 0
                and raw.endswith(b";tag=%b" % tag, at, end)
                and raw[end + 2 : end + 3] > b" "
                and raw.find(b"\r\nCall-ID: %b\r\n" % call_id, 0, head + 2) >= 0
            ):
                return True
    try:
        from_tag = message.from_.tag or ""
    except MessageError:
        return False
    return dialog_id == f"{message.get('Call-ID')};from-tag={from_tag}"


def _head(raw: bytes) -> bytes:
    end = raw.find(b"\r\n\r\n")
    return raw if end < 0 else raw[: end + 4]
