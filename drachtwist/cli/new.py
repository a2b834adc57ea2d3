"""``drachtwist new``: make a project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.cli.parsing import Parser

__all__ = ["FILES", "main", "make_project", "read"]

FILES = {
    "app.py": "app.py.in",
    "tests/test_app.py": "test_app.py.in",
    "README.md": "README.md.in",
    "pyproject.toml": "pyproject.toml.in",
    "Dockerfile": "Dockerfile.in",
    ".dockerignore": "dockerignore.in",
    ".gitignore": "gitignore.in",
}
"""What a project consists of, and what it is made of."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([_-][A-Za-z0-9]+)*")


def main(words: Sequence[str]) -> int:
    """Make a project."""
    directory = Path(read(words).name).expanduser()
    made = make_project(directory)
    print(f"made {directory}/ with {', '.join(name for name in made if name[0] != '.')}")
    print("\nNext:\n")
    for line, what in (
        (f"cd {directory}", ""),
        ("drachtwist run --reload", "serve it on sip:127.0.0.1:5060"),
        ("drachtwist call sip:hello@127.0.0.1:5060", "in another terminal"),
        ("pip install pytest && pytest", "its tests"),
    ):
        print(f"  {line.ljust(42)}  # {what}" if what else f"  {line}")
    return Exit.OK


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "new",
        """
        Make a project in a new directory: an application that answers calls, its tests, a
        README, a pyproject.toml and a Dockerfile. The tests pass as they are.
        """,
        ("drachtwist new shop", "drachtwist new ~/src/shop && cd ~/src/shop && drachtwist run"),
    )
    parser.add_argument("name", metavar="NAME", help="of the project, or the path of its directory")
    return parser.parse_args(words)


def make_project(directory: Path) -> list[str]:
    """Write the files of a project.

    :param directory: where; its name is that of the project. It must not be there, or be empty.
    :returns: the names of the files.
    :raises CommandError: when the directory cannot be used.
    """
    name = directory.resolve().name
    if _NAME.fullmatch(name) is None:
        raise CommandError(
            f"drachtwist new: {name!r} is no name for a project: letters, digits, and single - or _"
            " between them",
            Exit.USAGE,
        )
    template = files("drachtwist.cli") / "template"
    try:
        if directory.exists() and any(directory.iterdir()):
            raise CommandError(f"drachtwist new: there is something in {directory} already")
        for path, source in FILES.items():
            text = (template / source).read_text("utf-8").replace("{{name}}", name)
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"drachtwist new: cannot write {directory}: {error.strerror}") from None
    return list(FILES)
