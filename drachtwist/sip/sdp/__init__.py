"""Session descriptions, both ways (RFC 8866, RFC 3264): read, edited and answered.

A description is its lines, and stays so: every view is read from the lines when it is asked for,
and an edit exchanges the lines that it is about. All others, known or not, well-formed or not, keep
every octet and their line ends. So reading never fails; asking for a view of a line that cannot be
read does, with :class:`~drachtwist.errors.SdpError`, which says where the line is.
"""

from __future__ import annotations

from drachtwist.sip.sdp.answering import answer, answer_with, description_of, refuse, sdp_of
from drachtwist.sip.sdp.description import Sdp
from drachtwist.sip.sdp.streams import Media
from drachtwist.sip.sdp.values import Codec, Connection, Direction, Origin, mirrored

__all__ = [
    "Codec",
    "Connection",
    "Direction",
    "Media",
    "Origin",
    "Sdp",
    "answer",
    "answer_with",
    "description_of",
    "mirrored",
    "refuse",
    "sdp_of",
]
