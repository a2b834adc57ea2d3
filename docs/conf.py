"""How Sphinx builds these pages. Nothing is fetched from the network."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import links
import pictures

from drachtwist.version import VERSION

project = "drachtwist"
author = "The drachtwist developers"
release = version = VERSION

extensions = ["sphinx.ext.autodoc", "myst_parser"]
if find_spec("sphinx_copybutton") is not None:
    extensions.append("sphinx_copybutton")
exclude_patterns = ["_build", "changes"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_title = f"drachtwist {VERSION}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False

pygments_style = "friendly"
pygments_dark_style = "native"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
python_use_unqualified_type_names = True
add_module_names = False

# Request and Response are names of SIP messages, and of those that an application gets. Where the
# module of a signature has neither, this tells which is meant.
MEANT = {"drachtwist.app.interfaces": "drachtwist", "drachtwist.errors": "drachtwist.sip"}


def qualify(app, what, name, obj, options, signature, result):
    for module, home in MEANT.items():
        if name.startswith(module + "."):
            signature, result = (
                text and re.sub(r"(?<![\w.])(Request|Response)\b", rf"~{home}.\1", text)
                for text in (signature, result)
            )
    return signature, result


def setup(app):
    app.connect("autodoc-process-signature", qualify)
    links.setup(app)
    pictures.setup(app)
