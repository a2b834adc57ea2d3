"""tshark, where it is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.interop.peers import need_program

__all__ = ["fields_of", "tshark"]


def tshark(path: str, *arguments: str) -> list[str]:
    """Let tshark read a file; give the lines that it prints."""
    command = [need_program("tshark", "tshark"), "-n", "-r", path, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.split("\n") if line]


def fields_of(path: str, names: Sequence[str], *arguments: str) -> list[list[str]]:
    """Let tshark read a file; give fields of its SIP messages."""
    wanted = [part for name in names for part in ("-e", name)]
    how = ("-Y", "sip", "-T", "fields", "-E", "separator=;")
    return [line.split(";") for line in tshark(path, *how, *wanted, *arguments)]
