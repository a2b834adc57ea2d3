"""The README and the pages of the documentation: what they show works, and what they name exists.

An example in Python carries a name, in a comment above it, and a test of that name runs it: the text
as it stands on the page, with only addresses, ports and file names exchanged, between a real server
and real phones. Commands are read by the programs they are for.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from xml.etree import ElementTree

import twisted.internet
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, readBody

import drachtwist
from drachtwist import (
    CommandRefused,
    ConnectionLost,
    Dialog,
    LocalProtocolError,
    Request,
    Response,
    Router,
    SipError,
    Srf,
    TlsOptions,
)
from drachtwist import sip as sip_messages
from drachtwist import server_tap, tap
from drachtwist.app.routing import route
from drachtwist.ladder import UNICODE, Ladder, Rung
from drachtwist.loading import load_application
from drachtwist.net.endpoints import Connect, Listen, parse_endpoint
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.phone import Phone
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.transactions import cancel_for
from drachtwist.wire.commands import Answer, Ping
from drachtwist.wire.decisions import RoutingQuery, parse_decision
from tests.certificates import identity
from tests.interop.peers import free_port

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


# What the pages say


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    """Find all fenced blocks of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in re.finditer(
            r"(?:^<!-- example: ([\w-]+) -->\n)?^```(\S*)\n(.*?)^```$", text, re.M | re.S
        ):
            line = text.count("\n", 0, match.start(3)) + 1
            found.append(Block(page, line, match[2], match[1] or "", match[3]))
    return tuple(found)


def in_language(language: str) -> list[Block]:
    """Find the blocks of a language."""
    return [block for block in blocks() if block.language == language]


def example(name: str) -> Block:
    """Find the example of a name."""
    [block] = [block for block in blocks() if block.name == name]
    return block


def prose(page: Path) -> str:
    """Give a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def table(page: str, first: str) -> list[list[str]]:
    """Give the cells of the table whose first heading is this."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def code(cell: str) -> list[str]:
    """Give what is set as code."""
    return re.findall(r"`([^`]+)`", cell)


class Files:
    """A directory with the files that the pages speak of."""

    def __init__(self, directory: str) -> None:
        self.path = Path(directory).absolute()
        self.path.mkdir(parents=True)
        (self.path / "app.py").write_text(example("answer").text, "utf-8")
        (self.path / "secret.txt").write_text("a well kept secret\n")
        menu = example("answer").text + "\n\ndef make_srf():\n    return srf\n"
        (self.path / "calls").mkdir()
        (self.path / "calls" / "__init__.py").write_text("")
        (self.path / "calls" / "menu.py").write_text(menu, "utf-8")
        ours = identity()
        for name in ("KEY.pem", "privkey.pem", "server-key.pem"):
            (self.path / name).write_bytes(ours.key)
        for name in ("CERT.pem", "cert.pem", "chain.pem", "server.pem"):
            (self.path / name).write_bytes(ours.certificate)

    def __str__(self) -> str:
        return str(self.path)


# Text


class PageTests(SynchronousTestCase):
    def test_every_example_has_a_test(self) -> None:
        """Whatever is shown in Python is run by a test of its name."""
        tests = {name for name in dir(ExampleTests) if name.startswith("test_")}
        for block in in_language("python"):
            if block.page.name == "README.md":
                self.assertEqual(block.text, example("answer").text, str(block))
                continue
            self.assertTrue(block.name, f"{block}: no name")
            self.assertIn(f"test_{block.name.replace('-', '_')}", tests, str(block))

    def test_every_block_is_known(self) -> None:
        """There is no block of a kind that no test looks at."""
        known = {"python", "sh", "xml", "json", "text", "{toctree}"}
        self.assertEqual({block.language for block in blocks()} - known, set())
        self.assertEqual([block.name for block in in_language("text")], ["ladder"])

    def test_readme_opens_with_two_commands(self) -> None:
        """The first thing to be seen are the commands that set up everything."""
        first = next(block for block in blocks() if block.page.name == "README.md")
        self.assertEqual(first.text, "make demo\nmake test\n")

    def test_links(self) -> None:
        """Links inside the repository lead to files that are there."""
        for page in PAGES:
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose(page)):
                self.assertTrue((page.parent / target).is_file(), f"{page.name}: {target}")
            for target in re.findall(r"\{doc\}`([^`]+)`", prose(page)):
                self.assertTrue((page.parent / f"{target}.md").is_file(), f"{page.name}: {target}")

    def test_names(self) -> None:
        """Names that the pages refer to exist."""
        seen = 0
        for page in PAGES:
            for text in re.findall(
                r"\{(?:class|meth|func|exc|attr|mod)\}`(?:[^`<]*<)?~?([\w.]+)>?`", prose(page)
            ):
                resolve(text)
                seen += 1
        self.assertGreater(seen, 50)

    def test_methods_have_decorators(self) -> None:
        """The list of decorators is that of the router."""
        text = prose(ROOT / "docs" / "calls.md")
        listed = re.search(r"decorator for each SIP method: (.*?)\.", text, re.S)
        assert listed is not None
        names = set(code(listed[1]))
        methods = {
            m.lower()
            for m in (
                "INVITE ACK BYE INFO MESSAGE NOTIFY OPTIONS PRACK PUBLISH"
                " REFER REGISTER SUBSCRIBE UPDATE"
            ).split()
        }
        self.assertEqual(names, methods)
        for name in names:
            self.assertTrue(callable(getattr(Router, name)), name)

    def test_names_of_drachtio(self) -> None:
        """What stands in for a name of drachtio-srf exists."""
        kinds: dict[str, Any] = {"srf": Srf, "dialog": Dialog, "req": Request, "res": Response}
        seen = 0
        for _, ours in table("docs/differences.md", "drachtio-srf"):
            for text in code(ours):
                for kind, name in re.findall(r"\b(srf|dialog|req|res)\.(\w+)", text):
                    self.assertTrue(hasattr(kinds[kind], name), text)
                    seen += 1
        self.assertGreater(seen, 15)
        options = code(table("docs/differences.md", "drachtio-srf")[-1][1])[1:]
        self.assertLess(set(options), set(TlsOptions.__dataclass_fields__))

    def test_ladder(self) -> None:
        """The diagram is one that the demo draws."""
        lines = example("ladder").text.splitlines()
        ladder = Ladder(
            [("Alice's phone", "127.0.0.1:52928"), ("drachtwist", "127.0.0.1:5060, UDP")],
            68,
            UNICODE,
        )
        drawn = ladder.head()
        for line in lines[len(drawn) : -1]:
            time, text = float(line[:9]), line[9:].strip("│ ")
            at = (1, 1) if "─" not in text else (1, 0) if text.startswith("◀") else (0, 1)
            drawn.append(ladder.draw(Rung(time, *at, text.strip("─▶◀ "))))
        drawn.append(drawn[2])
        self.assertEqual([line.rstrip() for line in drawn], lines)

    def test_xml(self) -> None:
        """The configuration of the real server is well-formed, and says what the text says."""
        handlers, admin = [ElementTree.fromstring(block.text) for block in in_language("xml")]
        handler = handlers.find("request-handler")
        assert handler is not None and handler.text is not None
        RequestHandler(handler.text, handler.attrib["sip-method"])
        port = admin.find("admin")
        assert port is not None
        self.assertEqual(port.attrib, {"port": "9022", "tls-port": "9023", "secret": "cymru"})
        names = [each.tag for each in admin.iterfind("sip/tls/*")]
        self.assertEqual(names, ["key-file", "cert-file", "chain-file", "dh-param"])

    def test_json(self) -> None:
        """The answer of a web application is the one that the function makes."""
        [block] = in_language("json")
        self.assertEqual(json.loads(block.text)["action"], "route")
        decision = parse_decision(block.text.encode())
        self.assertEqual(decision, route("10.32.100.2:3001", tls=True))


def resolve(name: str) -> Any:
    """Find what a dotted name means.

    :raises AttributeError: when there is no such thing.
    """
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        for part in parts[size:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


class ReferenceTests(SynchronousTestCase):
    PROMISED = (
        "drachtwist",
        "drachtwist.errors",
        "drachtwist.sip",
        "drachtwist.app.interfaces",
        "drachtwist.app.routing",
        "drachtwist.net.endpoints",
        "drachtwist.server.config",
        "drachtwist.wire.commands",
        "drachtwist.wire.decisions",
        "drachtwist.wire.frames",
        "drachtwist.wire.session",
    )

    def documented(self) -> set[str]:
        """Give the full names that the reference page describes."""
        text = (ROOT / "docs" / "reference.rst").read_text("utf-8")
        found = set()
        module = ""
        for kind, name, rest in re.findall(
            r"^\.\. (?:py:)?(\w+):: (\S+?)(?:\(\))?\n((?:   \S.*\n)*)", text, re.M
        ):
            if kind == "currentmodule":
                module = name
            elif kind == "automodule":
                module = name
                members = re.search(r"^   :members:(.*)$", rest, re.M)
                if members is not None:
                    names = members[1].replace(",", " ").split()
                    names = names or importlib.import_module(name).__all__
                    found |= {f"{name}.{each}" for each in names}
            else:
                found.add(name if "." in name else f"{module}.{name}")
        return found

    def test_everything_public_is_described(self) -> None:
        """Each public name of the modules on the page is described there, under some name."""
        documented = self.documented()
        objects = [resolve(name) for name in documented]
        for module in self.PROMISED:
            for name in importlib.import_module(module).__all__:
                value = resolve(f"{module}.{name}")
                described = f"{module}.{name}" in documented or any(
                    value is each for each in objects
                )
                self.assertTrue(described, f"{module}.{name} is not in docs/reference.rst")

    def test_everything_described_is_public(self) -> None:
        """The page describes nothing that its module does not hand out."""
        for name in self.documented():
            home, _, attribute = name.rpartition(".")
            module = importlib.import_module(home)
            self.assertIn(attribute, module.__all__, name)

    def test_everything_has_a_docstring(self) -> None:
        """No class or function is left without a word, so Sphinx leaves none out."""
        for name in self.documented():
            value = resolve(name)
            if isinstance(value, type) or callable(value):
                self.assertTrue((value.__doc__ or "").strip(), name)

    def test_examples_in_docstrings(self) -> None:
        """The examples of docstrings on the page can be run."""
        for owner, made in ((Router, "admin"), (resolve("drachtwist.app.routing"), "resource")):
            lines = (owner.__doc__ or "").partition("::\n")[2].splitlines()
            indent = min(len(line) - len(line.lstrip()) for line in lines[1:3] if line.strip())
            taken = []
            for line in lines[1:]:
                if line.strip() and not line.startswith(" " * indent):
                    break
                taken.append(line[indent:])
            namespace: dict[str, Any] = {"Router": Router, "srf": Srf()}
            exec("\n".join(taken), namespace)
            self.assertIn(made, namespace)


# Commands


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Go to a directory that has the files."""
        self.files = Files(self.mktemp())
        before = os.getcwd()
        os.chdir(self.files.path)
        self.addCleanup(os.chdir, before)
        path, modules = list(sys.path), set(sys.modules)

        def forget() -> None:
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                if name.split(".")[0] in ("app", "calls"):
                    del sys.modules[name]

        self.addCleanup(forget)

    def commands(self) -> Iterator[tuple[Block, dict[str, str], list[str]]]:
        """Give each command with its environment."""
        for block in in_language("sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line)
                environment = {}
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    name, _, value = words.pop(0).partition("=")
                    environment[name] = value
                yield block, environment, words

    def test_twistd(self) -> None:
        """Twistd and the plugins take the command lines, and the application is there."""
        seen = set()
        for block, environment, words in self.commands():
            program, *arguments = words
            if program not in ("twistd", ".venv/bin/twistd"):
                continue
            for kind in (tap.Options, server_tap.Options):
                self.patch(kind, "environment", environment)
            options = ServerOptions()
            try:
                options.parseOptions(arguments)
            except (usage.UsageError, SystemExit) as error:
                self.fail(f"{block}: {' '.join(words)}: {error}")
            seen.add(options.subCommand)
            self.assertTrue(options["nodaemon"], str(block))
            if options.subCommand == "drachtio":
                found = load_application(options.subOptions["app"])
                self.assertIsInstance(found if isinstance(found, Srf) else found(), Srf)
        self.assertEqual(seen, {"drachtio", "drachtio-server"})

    def test_make(self) -> None:
        """What make is told to make, the Makefile makes."""
        text = (ROOT / "Makefile").read_text("utf-8")
        phony = re.search(r"^\.PHONY: (.*)$", text, re.M)
        assert phony is not None
        seen = 0
        for block, _, words in self.commands():
            if words[0] == "make":
                for target in words[1:]:
                    self.assertIn(target, phony[1].split(), str(block))
                    self.assertRegex(text, rf"(?m)^{target}:")
                    seen += 1
        self.assertGreater(seen, 2)

    def test_openssl(self) -> None:
        """The certificate that is made by hand serves both sides of a connection."""
        if shutil.which("openssl") is None:
            self.skipTest("openssl is not installed")
        [words] = [words for _, _, words in self.commands() if words[0] == "openssl"]
        for name in ("server-key.pem", "server.pem"):
            Path(name).unlink()
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        options = TlsOptions(key="server-key.pem", certificate="server.pem", ca="server.pem")
        options.server_context().getContext()
        options.client_creator("sip.example.org")

    def test_scripts(self) -> None:
        """Programs of the repository that are named are there."""
        for block, _, words in self.commands():
            if words[0] == "python":
                self.assertTrue((ROOT / words[1]).is_file(), str(block))
                text = (ROOT / words[1]).read_text("utf-8")
                for word in words[2:]:
                    if word.startswith("--"):
                        self.assertIn(f'"{word}"', text, str(block))

    def test_no_other_commands(self) -> None:
        """There is no command that no test looks at."""
        programs = {words[0] for _, _, words in self.commands()}
        known = {"make", "twistd", ".venv/bin/twistd", "openssl", "python"}
        self.assertEqual(programs - known, set())

    def test_flags(self) -> None:
        """The tables of flags have all flags, and no others."""
        text = (ROOT / "docs" / "hosting.md").read_text("utf-8")
        _, application, server = re.split(r"^## `twistd", text, flags=re.M)
        for part, kind in ((application, tap.Options), (server, server_tap.Options)):
            part = part.partition("\n## ")[0]
            cells = re.findall(r"^\| (`-.*?) \|", part, re.M)
            told = {flag for cell in cells for flag in code(cell)}
            options = cast(Any, kind())
            given = {f"--{name}" for name in options.longOpt_names()} if False else set()
            for name in options.longOpt:
                given.add("--" + name.rstrip("="))
            for letter in options.shortOpt.replace(":", ""):
                given.add("-" + letter)
            self.assertEqual(told, given - {"--help"})

    def test_variables(self) -> None:
        """The variables of the environment are those that the server reads."""
        told = set(re.findall(r"`(DRACHTIO_\w+)`", prose(ROOT / "docs" / "hosting.md")))
        described = set(re.findall(r"DRACHTIO_\w+", server_tap.Options.longdesc))
        self.assertEqual(told, described)

    def test_endpoints(self) -> None:
        """Each endpoint is of the kind that its table says."""
        for page, first, column in (
            ("README.md", "`--endpoint`", 3),
            ("docs/connections.md", "endpoint", 1),
        ):
            rows = table_of_endpoints(page, first)
            self.assertEqual(len(rows), 4, page)
            for row in rows:
                [text] = code(row[0])
                parsed = parse_endpoint(reactor, text)
                kind = Connect if "inbound" in row[column] else Listen
                self.assertIsInstance(parsed, kind, text)
                self.assertEqual(parsed.tls, text.startswith("tls"), text)

    def test_endpoints_in_the_text(self) -> None:
        """Endpoints that the text gives as examples are understood."""
        seen = set()
        for page in PAGES:
            for text in code(prose(page)):
                if re.match(r"(tcp|tls|unix|server|client):[^/ ]", text) or text.startswith(
                    "unix:/"
                ):
                    seen.add(type(parse_endpoint(reactor, text)))
        self.assertEqual(seen, {Connect, Listen})

    def test_tls_options(self) -> None:
        """The table of TLS options has all fields, with the arguments and flags that set them."""
        rows = table("docs/connections.md", "`TlsOptions`")
        fields = [code(row[0])[0] for row in rows]
        self.assertEqual(set(fields), set(TlsOptions.__dataclass_fields__))
        flags = {flag for row in rows for flag in code(row[2])}
        ours = {f"--{row[0]}" for row in tap.Options.optParameters if row[0].startswith("tls-")}
        self.assertEqual(flags, ours)
        value = "server.pem"
        for row, field in zip(rows, fields, strict=True):
            argument = code(row[1])[0]
            if argument.endswith("="):
                argument += value
            # Without a key the endpoint would be refused as one to connect to would not.
            parse_endpoint(reactor, f"tls:127.0.0.1:9023:verify=no:{argument}")
            self.assertTrue(field)
