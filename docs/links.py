"""Links for the tables of names of drachtio-srf: each leads to what stands for it here.

In a table whose second heading is ``drachtwist``, a name in the second column leads to its place in
the reference, and a name in the first to that of the one that stands for it. A name that has no
place is a warning of Sphinx, which the build does not let pass.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx import addnodes

PAGE = "migrating-from-node"

_NAME = re.compile(r"((?:[a-z]\w*\.)*[A-Z]\w*(?:\.\w+)?)(?:\([\w, ]*\))?")


def target_of(text: str) -> str | None:
    """Return the full name of what a text of the second column names; None for what is no name.

    The names are those of ``drachtwist``, or of a module in it: ``sip.Uri.parse``.
    """
    found = _NAME.fullmatch(text)
    return None if found is None or text == "None" else f"drachtwist.{found[1]}"


def link(app: Any, doctree: nodes.document) -> None:
    """Put the links into the tables of the page."""
    if app.env.docname != PAGE:
        return
    for table in doctree.findall(nodes.table):
        headings = [
            one.astext() for one in next(iter(table.findall(nodes.thead))).findall(nodes.entry)
        ]
        if headings[:2] != ["drachtio-srf", "drachtwist"]:
            continue
        table["classes"].append("names")
        for row in next(iter(table.findall(nodes.tbody))).findall(nodes.row):
            theirs, ours = (list(one.findall(nodes.literal)) for one in row.children[:2])
            targets = [target_of(one.astext()) for one in ours]
            for one, target in zip(ours, targets, strict=True):
                refer(one, target)
            known = [one for one in targets if one is not None]
            if known:
                one_by_one = len(known) == len(theirs)
                for at, one in enumerate(theirs):
                    refer(one, known[at] if one_by_one else known[0])


def refer(literal: nodes.literal, target: str | None) -> None:
    """Make a text a link."""
    if target is not None:
        reference = addnodes.pending_xref(
            "",
            literal.deepcopy(),
            refdomain="py",
            reftype="obj",
            reftarget=target,
            refwarn=True,
            refdoc=PAGE,
            names_table=True,
        )
        literal.replace_self(reference)


def inherited(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Find what a class has from another one where that one has it, or else the class itself."""
    if node.get("reftype") != "obj" or not node.get("names_table"):
        return None
    owner, _, name = node["reftarget"].rpartition(".")
    domain = env.get_domain("py")
    homes = [owner]
    homes += [f"drachtwist.sip.{one.__name__}" for one in type_of(owner).__mro__]
    for target in (*[f"{home}.{name}" for home in homes], owner):
        if target in domain.objects:
            found = domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", target, node, contnode
            )
            if found is not None:
                return found
    return None


def type_of(name: str) -> type:
    """Import a class by its full name; what is no class counts as one that has nothing."""
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        found = object
    return found if isinstance(found, type) else object


def setup(app: Any) -> None:
    """Have the links put in when a page was read."""
    app.connect("doctree-read", link)
    app.connect("missing-reference", inherited)
