"""Which names of drachtio-srf the migration table does not have.

::

    python tests/interop/names.py node_modules/drachtio-srf

The names are read from the package itself: from its type declarations, and from its sources, which
know more than those. The exit status is 1 when a name is missing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "migrating-from-node.md"

SOURCES = {
    "srf.js": "Srf",
    "dialog.js": "Dialog",
    "request.js": "Request",
    "response.js": "Response",
    "proto.js": "Srf",
    "sip_error.js": "SipError",
    "connect.js": "Srf",
}

# Sources of what is no public class: only their events and options count.
INNER = ("drachtio-agent.js", "wire-protocol.js")

_BLOCK = re.compile(r"(?:interface|class) (\w+)(?: extends \w+)? \{(.*?)^ *\}$", re.S | re.M)
_MEMBER = re.compile(r"^\s+(?:export )?(?:get |function )?(\w+)\??\s*[(:]", re.M)
_OPTION_IN_TYPE = re.compile(r"\b(\w+)\??:")
_TYPED_EVENT = re.compile(r"on\((?:event|messageType): ([^,]+),")
_METHOD = re.compile(
    r"^  (?:static |async |get |set )*"
    r"(?!if\b|for\b|while\b|switch\b|catch\b|constructor\b|function\b)"
    r"([A-Za-z]\w*)\s*\([^;{}]*\)\s*\{",
    re.M,
)
_DELEGATED = re.compile(r"\.(?:method|getter|setter|access)\('(\w+)'\)")
_ASSIGNED = re.compile(r"^\s*(?:proto|app|Srf|createServer|\w+\.prototype)\.(\w+) = ", re.M)
_PROPERTY = re.compile(r"\bthis\.([A-Za-z]\w*) = ")
_EMITTED = re.compile(r"\bemit\(\s*'([\w:]+)'")
_LISTENED = re.compile(r"\.(?:on|once|listeners|listenerCount)\(\s*'([\w:]+)'")
_OPTION = re.compile(r"\bopts\.([A-Za-z]\w*)")


def typed_names(declarations: str) -> set[str]:
    """Give what the type declarations name: members, options of inline types, events."""
    found: set[str] = set()
    for block in _BLOCK.finditer(declarations):
        found.update(_MEMBER.findall(block[2]))
    found.update(re.findall(r"export function (\w+)\(", declarations))
    found.update(name for name in _OPTION_IN_TYPE.findall(declarations) if name[:2] == "cb")
    for events in _TYPED_EVENT.findall(declarations):
        found.update(f"'{event}'" for event in re.findall(r"['\"]([\w:]+)['\"]", events))
    return found


def source_names(source: str) -> set[str]:
    """Give what a source names: methods, delegated ones, properties, options, events."""
    code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", source, flags=re.S)
    found: set[str] = set()
    for pattern in (_METHOD, _DELEGATED, _ASSIGNED, _PROPERTY, _OPTION):
        found.update(pattern.findall(code))
    for pattern in (_EMITTED, _LISTENED):
        found.update(f"'{event}'" for event in pattern.findall(code))
    return {name for name in found if not name.startswith("_")}


def inner_names(source: str) -> set[str]:
    """Give the events and options of a source."""
    found = set(_OPTION.findall(source))
    found.update(f"'{event}'" for event in _EMITTED.findall(source))
    return found


def package_names(package: Path) -> set[str]:
    """Give all names of an installed drachtio-srf."""
    library = package / "lib"
    found = typed_names((library / "@types" / "index.d.ts").read_text("utf-8"))
    for name in SOURCES:
        found |= source_names((library / name).read_text("utf-8"))
    for name in INNER:
        found |= inner_names((library / name).read_text("utf-8"))
    return found - {"constructor"}


def table_rows(page: str) -> list[list[str]]:
    """Give the rows of the tables of names: drachtio-srf, drachtwist, test."""
    rows = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if line.startswith("|") and len(cells) == 3 and "`" in cells[0]:
            rows.append(cells)
    return rows


def table_names(page: str) -> set[str]:
    """Give the names of drachtio-srf that the table has, events in quotes."""
    found: set[str] = set()
    for row in table_rows(page):
        for code in re.findall(r"`([^`]+)`", row[0]):
            found.update(re.findall(r"'[\w:]+'", code))
            found.update(re.findall(r"(?<!['\w:])[A-Za-z]\w*(?!['\w])", code))
    return found


def missing_names(package: Path) -> list[str]:
    """Give the names that the table does not have."""
    return sorted(package_names(package) - table_names(PAGE.read_text("utf-8")))


if __name__ == "__main__":
    missing = missing_names(Path(sys.argv[1]))
    print("\n".join(missing) or "nothing is missing")
    sys.exit(bool(missing))
