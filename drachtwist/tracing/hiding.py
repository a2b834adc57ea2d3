"""Messages as they may be shown: without what somebody could use.

In a log, which many read and which is kept for long, stand no passwords and nothing that they
could be guessed from: the answers to challenges (RFC 8760), basic and bearer credentials, cookies,
session keys (RFC 4568), and passwords in URIs. A file for Wireshark and what goes to Homer are the
messages as they are.
"""

from __future__ import annotations

import re

__all__ = ["without_secrets"]

_HIDDEN = "(hidden)"
_CREDENTIALS = re.compile(
    r"(?im)^((?:proxy-)?authorization[ \t]*:[ \t]*)(\S+)((?:[^\r\n]|\r?\n[ \t])*)"
)
_COOKIE = re.compile(r"(?im)^((?:cookie|set-cookie)[ \t]*:)[^\r\n]*")
_RESPONSE = re.compile(r'(?i)\b(response|cnonce)([ \t]*=[ \t]*)(?:"[^"\r\n]*"|[^",\s]+)')
_KEY = re.compile(r"(?im)^(a=crypto:\S+ \S+ inline:)[^\s|;]+")
_OLD_KEY = re.compile(r"(?im)^(k=[a-z0-9]+:)[^\r\n]+")
_PASSWORD = re.compile(r"(?i)(\bsips?:[^\s@:<>;?,\"]{1,255}):[^\s@<>,\"]{1,255}@")


def without_secrets(text: str) -> str:
    """Return a message, or a line of one, without secrets.

    :param text: with any line ends.
    """
    text = _CREDENTIALS.sub(_without_response, text)
    text = _COOKIE.sub(rf"\1 {_HIDDEN}", text)
    text = _KEY.sub(rf"\1{_HIDDEN}", text)
    text = _OLD_KEY.sub(rf"\1{_HIDDEN}", text)
    return _PASSWORD.sub(rf"\1:{_HIDDEN}@", text)


def _without_response(found: re.Match[str]) -> str:
    name, scheme, rest = found.groups()
    if scheme.lower() != "digest":
        return f"{name}{scheme} {_HIDDEN}"
    return name + scheme + _RESPONSE.sub(rf"\1\2{_HIDDEN}", rest)
