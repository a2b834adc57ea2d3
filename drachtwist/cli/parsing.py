"""What the words of a command mean: help with examples, and errors that are the last line."""

from __future__ import annotations

import argparse
import inspect
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.hosting.command_line import nearest

__all__ = ["Parser", "count", "header", "port", "seconds"]

_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that is not indented as the source is, with room for the options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


class Parser(argparse.ArgumentParser):
    """Reads the words behind a command's name.

    :param name: of the command.
    :param about: what it does.
    :param examples: lines that can be typed.
    """

    def __init__(self, name: str, about: str, examples: Sequence[str]) -> None:
        lines = [f"  {line}" for line in examples]
        super().__init__(
            prog=f"drachtwist {name}",
            description=inspect.cleandoc(about),
            epilog="\n".join(["examples:", *lines]),
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """Read the words.

        :raises CommandError: when they cannot be understood.
        """
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(self._unknown(rest[0]))
        return options

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, behind the option that it is about.

        :raises CommandError: always.
        """
        message = message.removeprefix("argument ")
        raise CommandError(
            "\n".join([*self._about(message), f"{self.prog}: {message}"]), Exit.USAGE
        )

    # Inside

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"what is {word!r}?"
        word = word.partition("=")[0]
        meant = nearest(word, self._option_string_actions)
        return f"there is no option {word}" + (f"; did you mean {meant}?" if meant else "")

    def _about(self, message: str) -> list[str]:
        """Return the lines about the option that a message names, or else the usage."""
        for found in _OPTION.findall(message):
            action = self._option_string_actions.get(found)
            if action is not None:
                formatter = self._get_formatter()
                formatter.start_section(None)
                formatter.add_argument(action)
                formatter.end_section()
                return [formatter.format_help().strip("\n"), ""]
        return [self.format_usage().strip("\n"), ""]


def shown_width() -> int:
    """Return the columns of the terminal."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 100


def port(text: str) -> int:
    """Read a port number.

    :raises ArgumentTypeError: for anything else.
    """
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port number (0 to 65535)")
    return int(text)


def seconds(text: str) -> float:
    """Read a time in seconds.

    :raises ArgumentTypeError: for anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number


def count(text: str) -> int:
    """Read how often.

    :raises ArgumentTypeError: for anything else.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def header(text: str) -> tuple[str, str]:
    """Read a header: ``Name: value``.

    :raises ArgumentTypeError: for anything else.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no header, which is 'Name: value'")
    return name.strip(), value.strip()
