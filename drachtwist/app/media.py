"""What a re-INVITE does to the media: holding, resuming, and the answer to it.

Session descriptions are changed line by line: what is not about the direction of the media stays
byte for byte as the application gave it. In particular the version in the o= line of an *answer*
stays, because the application numbers its own descriptions.
"""

from __future__ import annotations

import re

__all__ = ["answer_offer", "change_direction", "is_hold", "is_refresh"]

_DIRECTIONS = (b"sendrecv", b"sendonly", b"recvonly", b"inactive")
_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_ORIGIN = re.compile(rb"^o=(\S+) (\S+) (\d+) ", re.MULTILINE)
_ZERO = re.compile(rb"^c=IN IP4 0\.0\.0\.0\s*$", re.MULTILINE)

# Who may send, and who may receive.
_SENDS = {b"sendrecv", b"sendonly"}
_RECEIVES = {b"sendrecv", b"recvonly"}


def _sections(sdp: bytes) -> list[list[bytes]]:
    """Split into the session's lines and those of each medium, line ends kept."""
    sections: list[list[bytes]] = [[]]
    for line in _LINES.findall(sdp):
        if line.startswith(b"m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def _stated(section: list[bytes]) -> bytes | None:
    for line in section:
        if line.startswith(b"a=") and line[2:].strip() in _DIRECTIONS:
            return line[2:].strip()
    return None


def _directions(sections: list[list[bytes]]) -> list[bytes]:
    """Give the direction of each medium; absent means sendrecv (RFC 8866 section 6.7)."""
    default = _stated(sections[0]) or b"sendrecv"
    return [_stated(section) or default for section in sections[1:]]


def _is_rejected(medium: list[bytes]) -> bool:
    words = medium[0].split()
    return len(words) > 1 and words[1].split(b"/")[0] == b"0"


def _wanted(sections: list[list[bytes]]) -> list[bytes]:
    """Give the directions, with the connection address 0.0.0.0 taken as "do not send to me"."""
    session_zero = bool(_ZERO.search(b"".join(sections[0])))
    found = []
    for medium, direction in zip(sections[1:], _directions(sections), strict=True):
        own = [line for line in medium if line.startswith(b"c=")]
        zero = bool(_ZERO.match(own[0])) if own else session_zero
        found.append(_join(direction in _SENDS, direction in _RECEIVES and not zero))
    return found


def _join(sends: bool, receives: bool) -> bytes:
    if sends:
        return b"sendrecv" if receives else b"sendonly"
    return b"recvonly" if receives else b"inactive"


def is_hold(sdp: bytes) -> bool:
    """Whether whoever wrote this wants no media: RFC 3264 section 8.4, or RFC 2543's 0.0.0.0."""
    sections = _sections(sdp)
    wanted = [
        direction
        for medium, direction in zip(sections[1:], _wanted(sections), strict=True)
        if not _is_rejected(medium)
    ]
    return bool(wanted) and not any(direction in _RECEIVES for direction in wanted)


def is_refresh(old: bytes, new: bytes) -> bool:
    """Whether the version says that nothing changed (RFC 3264 section 8)."""
    before, after = _ORIGIN.search(old), _ORIGIN.search(new)
    return before is not None and after is not None and before.groups() == after.groups()


def answer_offer(local: bytes, offer: bytes) -> bytes:
    """Answer an offer with what we said before, the directions turned round.

    :param local: our last description, as the application gave it.
    :param offer: the peer's new one. Media that ours does not know are rejected.
    """
    theirs = _sections(offer)
    ours = _sections(local)
    directions = []
    for wanted, willing in zip(_wanted(theirs), _directions(ours), strict=False):
        sends = wanted in _RECEIVES and willing in _SENDS
        directions.append(_join(sends, wanted in _SENDS and willing in _RECEIVES))
    for medium in theirs[len(ours) :]:
        words = medium[0].split()
        if len(words) > 3:
            ours.append([b" ".join([words[0], b"0", *words[2:]]) + b"\r\n"])
    return _written(ours, directions)


def change_direction(sdp: bytes, direction: str) -> bytes:
    """Offer other directions: every medium gets this one, and the version goes up by one."""
    sections = _sections(sdp)
    written = _written(sections, [direction.encode("ascii")] * (len(sections) - 1))
    return _ORIGIN.sub(
        lambda found: b"o=%b %b %d " % (found[1], found[2], int(found[3]) + 1), written, count=1
    )


def _written(sections: list[list[bytes]], directions: list[bytes]) -> bytes:
    """Join the sections again, with these directions."""
    current = _directions(sections)
    for medium, old, new in zip(sections[1:], current, directions, strict=False):
        if old == new or _is_rejected(medium):
            continue
        end = medium[0][len(medium[0].rstrip(b"\r\n")) :] or b"\r\n"
        for at, line in enumerate(medium):
            if line.startswith(b"a=") and line[2:].strip() in _DIRECTIONS:
                medium[at] = b"a=" + new + end
                break
        else:
            if not medium[-1].endswith((b"\n", b"\r")):
                medium[-1] += end
            medium.append(b"a=" + new + end)
    return b"".join(line for section in sections for line in section)
