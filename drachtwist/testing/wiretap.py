"""What stands on the connections of a network: recordings, refusals, and the history of SIP.

Connections between applications and servers carry frames. Those may be recorded, and commands of
applications refused in the server's place. Connections that carry SIP are read for the ladder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import StreamParser
from drachtwist.testing.history import History
from drachtwist.testing.links import What, matcher
from drachtwist.testing.recording import Recorder
from drachtwist.testing.streams import MemoryTransport
from drachtwist.wire.commands import SendMessage, parse_command
from drachtwist.wire.frames import FrameDecoder, encode_frame
from drachtwist.wire.session import new_id

__all__ = ["LinkTap", "Refusal", "watch_sip"]

_ANY_LENGTH = 1 << 30


@dataclass(slots=True)
class Refusal:
    """Commands that a server is made to refuse.

    :param what: which messages, as for :meth:`Link.lose`.
    """

    left: int | None
    what: What
    reason: str

    def applies(self, payload: bytes) -> str | None:
        """Return the id of a command that is refused; None for one that is not."""
        message_id, command = parse_command(payload)
        if not isinstance(command, SendMessage):
            return None
        message = command.message
        kind = Response if message.startswith(b"SIP/") else Request
        if not matcher(self.what)(kind.from_bytes(message)):
            return None
        if self.left is not None:
            self.left -= 1
        return message_id


class LinkTap:
    """Stands on one connection between an application and a server.

    :param application: the application's end.
    :param server: the server's end.
    :param refusals: those of the server; they may change.
    """

    def __init__(
        self, application: MemoryTransport, server: MemoryTransport, refusals: list[Refusal]
    ) -> None:
        self._application = application
        self._refusals = refusals
        self._takes: dict[MemoryTransport, list[Callable[[bytes], None]]] = {
            application: [],
            server: [],
        }
        self._recorder: Recorder | None = None
        self._number = 0
        application.watcher = server.watcher = self._passes

    def record(self, recorder: Recorder, opener: str) -> None:
        """Write down what passes from now on."""
        self._recorder = recorder
        self._number = recorder.connection()
        recorder.note(self._number, opener, "open")
        for end, sender in zip(self._takes, ("app", "server"), strict=True):
            self._takes[end].append(recorder.tap(self._number, sender))

    def closed(self) -> None:
        """Note the end of the connection."""
        if self._recorder is not None:
            self._recorder.note(self._number, "server", "close")

    def _passes(self, end: MemoryTransport, data: bytes) -> bytes:
        for take in self._takes[end]:
            take(data)
        if self._refusals and end is self._application:
            return self._refuse(data)
        return data

    def _refuse(self, data: bytes) -> bytes:
        """Refuse what is to be refused; applications write whole frames."""
        passed = []
        for payload in FrameDecoder(_ANY_LENGTH, 10).feed(data):
            for refusal in self._refusals:
                message_id = refusal.applies(payload)
                if message_id is not None:
                    if refusal.left == 0:
                        self._refusals.remove(refusal)
                    answer = f"{new_id()}|response|{message_id}|NOK|{refusal.reason}"
                    self._application.deliver(encode_frame(answer.encode(), limit=None))
                    break
            else:
                passed.append(encode_frame(payload, limit=None))
        return b"".join(passed)


def watch_sip(near: MemoryTransport, far: MemoryTransport, history: History) -> None:
    """Note the SIP messages that pass over a connection."""
    for end in (near, far):
        parser = StreamParser(1 << 24)
        here, there = end.getHost(), end.getPeer()

        def passes(
            _: MemoryTransport,
            data: bytes,
            parser: StreamParser = parser,
            here: object = (here.host, here.port),
            there: object = (there.host, there.port),
        ) -> bytes:
            for event in parser.feed(data):
                if isinstance(event, Request | Response):
                    history.passed(here, there, bytes(event))  # type: ignore[arg-type]
            return data

        end.watcher = passes
