"""Where a setting of the embedded server comes from: a flag, or else an environment variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from drachtwist.hosting.server_flags import (
    SWITCHES_NOT_OBEYED,
    VALUES_NOT_OBEYED,
    VARIABLES,
    VARIABLES_NOT_OBEYED,
)
from drachtwist.server.configfile import Finding

__all__ = ["Sources", "decimal"]


class Sources:
    """Flags and variables; a flag wins over its variable.

    :param flags: what the command line says, by name; None for what it does not.
    :param environment: the variables.
    :param findings: here goes what is accepted and not obeyed.
    """

    def __init__(
        self, flags: Mapping[str, Any], environment: Mapping[str, str], findings: list[Finding]
    ) -> None:
        self.flags = flags
        self.environment = environment
        self.findings = findings

    def variable(self, name: str) -> str | None:
        """Return an environment variable, named without ``DRACHTIO_``; None when empty."""
        return self.environment.get(f"DRACHTIO_{name}") or None

    def text(self, flag: str) -> str | None:
        """Return what a flag with a variable says, None when nobody says anything."""
        value: str | None = self.flags[flag]
        return value if value is not None else self.variable(VARIABLES[flag])

    def number(self, flag: str, most: int, otherwise: int | None) -> int | None:
        """Return the number that a flag says, from 0 to ``most``.

        :param otherwise: returned when neither the flag nor its variable is given.
        :raises UsageError: for anything else than such a number.
        """
        text = self.text(flag)
        if text is None:
            return otherwise
        number = decimal(text, most)
        if number is None:
            what = "port number" if "port" in flag else "number"
            raise usage.UsageError(f"{self.origin(flag)} {text!r} is no {what} (0 to {most})")
        return number

    def variable_number(self, name: str, most: int) -> int:
        """Return the number that a variable without a flag says; 0 unless given.

        :raises UsageError: for anything else than a number from 0 to ``most``.
        """
        text = self.variable(name)
        number = 0 if text is None else decimal(text, most)
        if number is None:
            raise usage.UsageError(f"DRACHTIO_{name} {text!r} is no number (0 to {most})")
        return number

    def switch(self, flag: str, variable: str, otherwise: bool | None) -> bool:
        """Say whether the flag, the variable (``1``) or the file switches something on."""
        return bool(self.flags[flag] or self.variable(variable) == "1" or otherwise)

    def origin(self, flag: str) -> str:
        """Name the flag or the variable that said something, for messages about it."""
        return f"--{flag}" if self.flags[flag] is not None else f"DRACHTIO_{VARIABLES[flag]}"

    def note(self, setting: str, problem: str) -> None:
        """Report a setting that is accepted, and not obeyed as it stands."""
        self.findings.append(Finding(setting, problem))

    def note_what_is_not_obeyed(self) -> None:
        """Report what the real server has and this one has not."""
        for name, why in (VALUES_NOT_OBEYED | SWITCHES_NOT_OBEYED).items():
            if self.flags[name]:
                self.note(f"--{name}", f"not supported: {why}")
        for name, why in VARIABLES_NOT_OBEYED.items():
            if self.variable(name) is not None:
                self.note(f"DRACHTIO_{name}", f"not supported: {why}")


def decimal(text: str, most: int) -> int | None:
    """Read a number of up to ten decimal digits, from 0 to ``most``; None for anything else."""
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > most:
        return None
    return int(text)
