"""Which source files of an application have changed."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["Watch", "files_below", "loaded_files"]

MOST = 5000
"""Files that are looked for in a directory."""
_NOT_THEIRS = {"node_modules", "site-packages", "__pycache__"}


class Watch:
    """Files, as they were when they were seen first."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}

    def add(self, files: Iterable[str]) -> list[str]:
        """Look at files, and remember those that were not seen before.

        :returns: those that have changed since they were. One that is gone has not: editors that
            write another one and rename it would be seen doing that.
        """
        changed = []
        for file in files:
            try:
                found = os.stat(file)
            except OSError:
                continue
            state = (found.st_mtime_ns, found.st_size)
            if self._seen.setdefault(file, state) != state:
                changed.append(file)
        return changed

    def __contains__(self, file: str) -> bool:
        return file in self._seen


def loaded_files() -> Iterator[str]:
    """Return the files of all modules that are the user's own: not Python's, and not installed."""
    others = [str(Path(__file__).parent.parent) + os.sep]
    for name in ("stdlib", "platstdlib", "purelib", "platlib"):
        others.append(sysconfig.get_path(name) + os.sep)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py") and not file.startswith(tuple(others)):
            yield file


def files_below(directory: Path) -> Iterator[str]:
    """Return the Python files in a directory and below, but for what is not written by hand."""
    count = 0
    for parent, directories, names in os.walk(directory):
        directories[:] = [
            name
            for name in sorted(directories)
            if name[0] != "."
            and name not in _NOT_THEIRS
            and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
        ]
        for name in names:
            if name.endswith(".py"):
                count += 1
                if count > MOST:
                    return
                yield os.path.join(parent, name)
