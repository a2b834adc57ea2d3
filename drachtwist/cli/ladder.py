"""``drachtwist ladder``: draw the calls in a capture file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.cli.parsing import Parser
from drachtwist.cli.picture import Screen, printable
from drachtwist.errors import LocalProtocolError
from drachtwist.tracing import Passed, Ring, draw_messages
from drachtwist.tracing.pcapng import read_pcapng

__all__ = ["main", "read"]

MOST = 1 << 20
"""Calls that are looked for in a file."""


def main(words: Sequence[str]) -> int:
    """Draw what is in a file.

    :raises CommandError: when it cannot be read, or has no such call.
    """
    options = read(words)
    screen = Screen()
    try:
        messages = read_pcapng(options.file)
    except OSError as error:
        raise CommandError(
            f"drachtwist ladder: cannot read {options.file}: {error.strerror}"
        ) from None
    except LocalProtocolError as error:
        raise CommandError(f"drachtwist ladder: {error}") from None
    calls = [call for call in _calls(messages) if _wanted(call, options)]
    if not calls:
        which = f" with the Call-ID {options.call_id}" if options.call_id else ""
        raise CommandError(f"drachtwist ladder: there is no call{which} in {options.file}")
    for call in calls:
        if options.list:
            screen.say(_line(call))
        else:
            _draw(screen, call, options)
    return Exit.OK


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "ladder",
        """
        Draw the calls in a capture file, pcapng or pcap: those that 'twist drachtio
        --trace-file' writes, and those of tcpdump, Wireshark or sngrep. Legs of a call that
        pass a session description on are drawn side by side.
        """,
        (
            "drachtwist ladder trace.pcapng",
            "drachtwist ladder trace.pcapng --list",
            "drachtwist ladder trace.pcapng --call-id 3848276298220188511@atlanta.example -v",
        ),
    )
    parser.add_argument("file", metavar="FILE", help="the capture")
    parser.add_argument(
        "--call-id",
        metavar="CALL-ID",
        help="draw only the call that it belongs to; its beginning is enough",
    )
    parser.add_argument("--list", action="store_true", help="one line for each call, no drawing")
    parser.add_argument("--all", action="store_true", help="draw what began without an INVITE, too")
    parser.add_argument("-v", "--verbose", action="store_true", help="whole messages")
    return parser.parse_args(words)


def _calls(messages: Iterable[Passed]) -> list[list[Passed]]:
    """Sort messages into calls, that which began first first."""
    ring = Ring(MOST, 1 << 40)
    seen: dict[bytes, None] = {}
    for message in messages:
        ring.add(message)
        seen.setdefault(message.call_id)
    calls = []
    while seen:
        call_id = next(iter(seen))
        calls.append(ring.messages(call_id))
        for related in ring.related(call_id):
            seen.pop(related.encode("utf-8", "surrogateescape"), None)
        seen.pop(call_id, None)
    return [call for call in calls if call]


def _wanted(call: Sequence[Passed], options: Any) -> bool:
    if options.call_id is not None:
        wanted = options.call_id.encode("utf-8", "surrogateescape")
        return any(one.call_id.startswith(wanted) for one in call)
    return bool(options.all or call[0].method == "INVITE")


def _line(call: Sequence[Passed]) -> str:
    """Say in a line what a call was."""
    first = call[0]
    finals = [one.status for one in call if one.status >= 200]
    answer = str(finals[0]) if finals else "no answer"
    seconds = call[-1].time - first.time
    call_id = first.call_id.decode("utf-8", "replace")
    return printable(f"{call_id}  {first.summary}  {answer}  {seconds:.3f} s  {len(call)} messages")


def _draw(screen: Screen, call: Sequence[Passed], options: Any) -> None:
    first = call[0]
    screen.say(f"Call-ID {printable(first.call_id.decode('utf-8', 'replace'))}")
    screen.say()
    drawn = draw_messages(call, width=screen.width, strokes=screen.strokes, colour=screen.colour)
    screen.say(drawn)
    screen.say()
    if options.verbose:
        for one in call:
            way = "to" if one.sent else "from"
            screen.say(
                f"{one.time - first.time:.3f} {way} {one.way.remote_host}:{one.way.remote_port}"
            )
            for line in one.text.splitlines():
                screen.say(f"    {printable(line)}")
            screen.say()
