"""Docstrings say what a function does, in the imperative, and which errors it raises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import drachtwist

ROOT = Path(drachtwist.__file__).parent
_Function = ast.FunctionDef | ast.AsyncFunctionDef

# With these begins what is said of a thing, not what a function does.
_NO_VERBS = frozenset(
    """
    a an another any both each either every everybody everything he her his how if it its neither
    no nobody none nothing one our she some somebody something that the their there these they this
    those we what when where whether which who whose why
    """.split()
)
# Not "Return" and "Note", or no imperatives.
_OTHER_VERBS = re.compile(r"(?i)(give (?!up)|learn|gives |returns |sends )")

# A function that is called by what has happened may say just that.
_EVENT = re.compile(
    r"(ed|[lL]ost|gone|late|hung_up|_again|too_long|startedConnecting|over|broken|unread|link_up|link_down|cdr|wrong_secret|forgotten"
    r"|provisional|connection(Made|Lost))$"
)
_SAY_NOTHING = frozenset(
    "a an and are called for given in is it its of or that the this to".split()
)


def functions() -> Iterator[tuple[str, _Function, str, bool]]:
    """Yield each function with a docstring: where it is, itself, that, and whether it is public."""

    def within(
        node: ast.AST, where: str, public: bool
    ) -> Iterator[tuple[str, _Function, str, bool]]:
        for one in ast.iter_child_nodes(node):
            if isinstance(one, ast.ClassDef):
                yield from within(one, f"{where}.{one.name}", public and one.name[0] != "_")
            elif isinstance(one, _Function):
                said = ast.get_docstring(one)
                if said is not None and not any(map(_is_attribute, one.decorator_list)):
                    yield f"{where}.{one.name}", one, said, public and one.name[0] != "_"

    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        yield from within(ast.parse(path.read_text("utf-8")), name, True)


def _is_attribute(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).split(".")[-1] in ("property", "setter", "cached_property")


def errors_of(function: _Function) -> set[str]:
    """Return the names of the errors that a function raises itself."""
    found = set()
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Try) and node.handlers:
            # What is raised in there may be for the handlers.
            waiting += [*node.handlers, *node.orelse, *node.finalbody]
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).split(".")[-1])
        waiting += ast.iter_child_nodes(node)
    return {name for name in found if name[0].isupper()}


class DocstringTests(SynchronousTestCase):
    def test_imperative(self) -> None:
        """They tell the function what to do, but for options, and events that it is named by."""
        wrong = []
        for where, function, said, _ in functions():
            first = re.findall(r"[A-Za-z']+", said)[0].lower()
            if _OTHER_VERBS.match(said) or (
                first in _NO_VERBS
                and not function.name.startswith("opt_")
                and not _EVENT.search(function.name)
            ):
                wrong.append(f"{where}: {said.splitlines()[0]}")
        self.assertEqual(wrong, [])

    def test_they_say_something(self) -> None:
        """None has the words of the function's name alone."""
        wrong = []
        for where, function, said, _ in functions():
            name = {word.lower().rstrip("s") for word in re.findall("[A-Z]?[a-z]+", function.name)}
            words = {word.lower() for word in re.findall("[A-Za-z]+", said)} - _SAY_NOTHING
            if {word.rstrip("s") for word in words} <= name:
                wrong.append(f"{where}: {said}")
        self.assertEqual(wrong, [])

    def test_errors(self) -> None:
        """A public function names the errors that it raises itself, or who tells more.

        What is said of an option is shown to its users.
        """
        wrong = []
        for where, function, said, public in functions():
            if not public or "see :" in said or function.name.startswith("opt_"):
                continue
            missing = {name for name in errors_of(function) if name not in said}
            if missing - {"AssertionError", "NotImplementedError", "SystemExit"}:
                wrong.append(f"{where}: {sorted(missing)}")
        self.assertEqual(wrong, [])

    def test_errors_are_found(self) -> None:
        """What is raised is found, but not what functions within raise, nor what is caught."""
        source = """
def f():
    try:
        raise KeyError("caught")
    except KeyError:
        pass
    if one:
        raise errors.SipError(500)
    raise failure
    def g():
        raise ValueError("no")
"""
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef)
        self.assertEqual(errors_of(function), {"SipError"})
