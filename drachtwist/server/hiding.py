"""Settings as they may be shown: logs and error messages are read by more people than settings."""

from __future__ import annotations

import re

__all__ = ["without_password"]

# In a URL all before the last "@" of the authority; in a SIP URI only what follows the colon.
_WEB = re.compile(r"(://)([^/?#\s:]*)(:?)[^/?#\s]*@", re.IGNORECASE)
# A port that is none is the beginning of a password with characters that had to be percent-coded.
_UP_TO_LAST_AT = re.compile(r"(?<!\S)\S+@")
_ODD = re.compile(r"(://[^/?#@:\[]*:)(?![0-9]*(?:[/?#]|$)|\(hidden\)@).*")
_SIP = re.compile(r"(sips?:)([^:@/\s]*):[^@/\s]*@", re.IGNORECASE)


def without_password(text: str) -> str:
    """Return a text with the passwords hidden that stand in the URLs and SIP URIs in it.

    What stands in a URL alone, without a colon, may be a key, and is hidden too.
    """
    text = _WEB.sub(
        lambda found: f"{found[1]}{found[2] if found[3] else ''}{found[3]}(hidden)@", text
    )
    text = _UP_TO_LAST_AT.sub(lambda found: _ODD.sub(r"\1(hidden)@", found[0], count=1), text)
    return _SIP.sub(r"\1\2:(hidden)@", text)
