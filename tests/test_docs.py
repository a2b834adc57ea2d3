"""The README and the pages of the documentation: what they show works, and what they name exists.

An example in Python carries a name, in a comment above it, and a test of that name runs it: as it
stands on the page, with only addresses, ports and file names exchanged, between a real server and
real phones. Commands are read by the programs they are for.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_origin
from xml.etree import ElementTree

import twisted.internet
from twisted.application.twist._options import TwistOptions
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist import (
    Dialog,
    Request,
    Response,
    Router,
    SipError,
    Srf,
    TlsOptions,
)
from drachtwist import sip as sip_messages
from drachtwist.cli import main
from drachtwist.cli.entry import COMMANDS
from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.demo.phone import Phone
from drachtwist.hosting import app_tap as tap
from drachtwist.hosting import server_flags, server_tap
from drachtwist.hosting.loading import load_application
from drachtwist.middleware.webhook import route
from drachtwist.net.endpoints import Connect, Listen, parse_endpoint
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.tracing.ladder import UNICODE, Ladder, Rung
from drachtwist.tracing.pcapng import read_pcapng
from drachtwist.tracing.story import Story
from drachtwist.transactions import cancel_for
from drachtwist.wire.decisions import RoutingQuery, parse_decision
from tests.app.doubles import OFFER
from tests.certificates import identity
from tests.interop.peers import Peer, free_port
from tests.server.phones import ready
from tests.testing.test_page import TestingPageTests as TestingPage

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
    heading = re.compile(rf"\| *{re.escape(first)} *\|")
    start = next(number for number, line in enumerate(lines) if heading.match(line))
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
        from tests.aio.pages import AsyncioPageTests
        from tests.test_cookbook import CookbookTests

        cases = (ExampleTests, TestingPage, AsyncioPageTests, CookbookTests)
        tests = {name for case in cases for name in dir(case) if name.startswith("test_")}
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
        # Those of the architecture are drawings, see tests/test_architecture.py.
        texts = [one for one in in_language("text") if one.page.name != "architecture.md"]
        self.assertEqual(
            [block.name for block in texts],
            ["wrong-option", "call-ladder", "check", "call-lines", "ladder", "test-ladder"],
        )

    def test_readme_opens_with_two_commands(self) -> None:
        """The first things to be seen are how to install it, and what sets up everything.

        What is installed is what ``make wheel`` leaves, which sees that it works.
        """
        install, make, *_ = (one.text for one in blocks() if one.page.name == "README.md")
        self.assertEqual(install, "pip install dist/drachtwist-*.whl\ndrachtwist demo\n")
        self.assertEqual(make, "make demo\nmake test\n")
        first = next(one.text for one in blocks() if one.page.name == "quickstart.md")
        self.assertEqual(first, install)
        script = (ROOT / ".ci" / "wheel").read_text("utf-8")
        self.assertIn('cp "$scratch"/dist/*.whl dist/', script)

    def test_time_is_that_of_the_application(self) -> None:
        """No example of an application takes the global reactor, whose time a test cannot set; only
        a program that runs it does, and there it is imported where that is done.
        """
        texts = {str(block): block.text for block in in_language("python")}
        texts |= {path.name: path.read_text() for path in (ROOT / "docs/examples").glob("*.py")}
        of_applications = {name: text for name, text in texts.items() if "srf" in text}
        self.assertGreater(len(of_applications), 35)
        for name, text in of_applications.items():
            top = re.search(r"^from twisted.internet import .*\breactor\b", text, re.M)
            self.assertIsNone(top, name)
            code = text.partition("__main__")[0]
            self.assertIsNone(re.search(r"(?<![.\w=])reactor[.,)]", code), name)

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

    def test_call_lines(self) -> None:
        """The lines about calls are those that the log has."""
        story = Story(lambda: 0.0)
        lines = example("call-lines").text.splitlines()
        with capturedLogs() as logs:
            for line in lines:
                invite = (
                    "INVITE x SIP/2.0\r\nFrom: <sip:alice@192.0.2.1>\r\nTo: <sip:bob@example.net>"
                    f"\r\nCall-ID: {line.rpartition(' ')[2]}\r\n\r\n"
                ).encode()
                found = re.search(r" (\d{3}) .* after ([0-9.]+) s", line)
                if found is None:
                    story.over(invite, "the caller", 62.5)
                else:
                    story.refused(invite, int(found[1]), "", float(found[2]))
        self.assertEqual([formatEvent(one) for one in logs], lines)
        levels = [one["log_level"].name for one in logs]
        self.assertEqual(levels, ["info", "info", "warn"])

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
        "drachtwist.aio",
        "drachtwist.app.interfaces",
        "drachtwist.middleware.webhook",
        "drachtwist.net.endpoints",
        "drachtwist.server.config",
        "drachtwist.testing",
        "drachtwist.net.tap",
        "drachtwist.tracing",
        "drachtwist.tracing.hep",
        "drachtwist.tracing.pcapng",
        "drachtwist.wire.commands",
        "drachtwist.wire.decisions",
        "drachtwist.wire.frames",
        "drachtwist.wire.session",
    )

    def documented(self) -> set[str]:
        """Give the full names that the pages of the reference describe."""
        pages = sorted((ROOT / "docs" / "reference").glob("*.rst"))
        text = "".join(page.read_text("utf-8") for page in pages)
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
                self.assertTrue(described, f"{module}.{name} is not in docs/reference")

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
            if get_origin(value) is not None:
                continue  # an alias of types, which Python 3.10 takes for a class
            if inspect.isclass(value) or inspect.isfunction(value):
                self.assertTrue((value.__doc__ or "").strip(), name)

    def test_examples_in_docstrings(self) -> None:
        """The examples of docstrings on the page can be run."""
        for owner, made in (
            (Router, "admin"),
            (resolve("drachtwist.middleware.webhook"), "resource"),
        ):
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


def printed(*words: str) -> str:
    """Run ``drachtwist`` in this process; give all that it prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            main(words)
        except SystemExit:
            pass
    return out.getvalue()


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

    def test_hosting(self) -> None:
        """Twist, twistd and the plugins take the command lines, and the application is there.

        None writes a pid file that another one from the same directory would find.
        """
        seen = set()
        for block, environment, words in self.commands():
            program, *arguments = words
            program = program.rpartition("/")[2]
            if program not in ("twist", "twistd"):
                continue
            for kind in (tap.Options, server_tap.Options):
                self.patch(kind, "environment", environment)
            if arguments[0] == "--reactor=asyncio":
                del arguments[0]  # this process has its reactor; tests.aio.test_apps starts one
            options: Any = ServerOptions() if program == "twistd" else TwistOptions()
            try:
                options.parseOptions(arguments)
            except (usage.UsageError, SystemExit) as error:
                self.fail(f"{block}: {' '.join(words)}: {error}")
            seen.add((program, options.subCommand))
            if program == "twistd":
                self.assertNotEqual(options["pidfile"], os.path.abspath("twistd.pid"), str(block))
            if options.subCommand == "drachtio":
                found = load_application(options.subOptions["app"])
                self.assertIsInstance(found if isinstance(found, Srf) else found(), Srf)
        expected = {("twist", "drachtio"), ("twist", "drachtio-server"), ("twistd", "drachtio")}
        self.assertLessEqual(expected, seen)

    def test_drachtwist(self) -> None:
        """The command takes the command lines, and each of its parts is shown."""
        seen = set()
        for block, environment, words in self.commands():
            if words[0] != "drachtwist":
                continue
            self.patch(tap.Options, "environment", environment)
            _, name, *rest = [word for word in words if word != "asyncio" and word != "--reactor"]
            try:
                options = import_module(f"drachtwist.cli.{name}").read(rest)
            except (CommandError, SystemExit) as error:
                self.fail(f"{block}: {' '.join(words)}: {error}")
            seen.add(name)
            if name == "run":
                load_application(options["settings"].app)
        self.assertEqual(seen, set(COMMANDS))

    def test_commands_of_drachtwist(self) -> None:
        """The page lists what there is, and all exit statuses."""
        page = "docs/command-line.md"
        rows = table(page, "command")
        self.assertEqual({code(row[0])[0]: row[1] for row in rows}, COMMANDS)
        rows = table(page, "exit status")
        self.assertEqual([int(row[0]) for row in rows], list(Exit))
        for row, exit in zip(rows, Exit, strict=True):
            if exit in (3, 4, 5, 6):
                self.assertIn(f"{exit.value}xx", row[1])

    def test_options_of_drachtwist(self) -> None:
        """Options in the tables of the page are there."""
        text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
        shown = {name: printed(name, "--help") for name in ("run", "call", "register", "send")}
        told = re.findall(r"^\| (`-[^|\n]*) \|", text, re.M)
        self.assertGreater(len(told), 12)
        everything = "\n".join(shown.values())
        for cell in told:
            for option in re.findall(r"--?[a-z][a-z-]*", cell):
                self.assertRegex(everything, rf"(?m)^ +(-\w[^-]*)?{option}\b|, {option}\b", cell)

    def test_wrong_option(self) -> None:
        """What is shown of a wrong command line is what is printed."""
        first, *rest = example("wrong-option").text.splitlines()
        self.assertEqual(printed(*shlex.split(first)[2:]).splitlines(), rest)

    def test_check(self) -> None:
        """What is shown of a checked application is what is printed."""
        Path("app.py").write_text(
            "from drachtwist import Srf\n"
            "from drachtwist.middleware import Registrar\n\n"
            "srf = Srf()\n\n\n"
            "@srf.use\ndef log(req, res, next):\n    next()\n\n\n"
            "@srf.invite\ndef answer(req, res):\n    res.send(486)\n\n\n"
            "@srf.invite\ndef answer_2(req, res):\n    res.send(486)\n\n\n"
            "@srf.register\ndef remember(req, res):\n    res.send(200)\n"
        )
        self.assertEqual(printed("check"), example("check").text)

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
        programs = {words[0].rpartition("/")[2] for _, _, words in self.commands()}
        known = set("make twist twistd drachtwist openssl python pip cd pytest".split())
        self.assertEqual(programs - known, set())

    def test_flags(self) -> None:
        """The tables of flags have all flags, and no others."""
        text = (ROOT / "docs" / "hosting.md").read_text("utf-8")
        _, application, server = re.split(r"^## `twistd", text, flags=re.M)
        everything = (ROOT / "docs" / "server.md").read_text("utf-8")
        found = []
        for part, column, kind in (
            (application.partition("\n## ")[0], 1, tap.Options),
            (server.partition("\n## ")[0], 1, server_tap.Options),
            (everything, 2, server_tap.Options),
        ):
            cells = re.findall(rf"^(?:\|[^|\n]*){{{column - 1}}}\| (`-[^|\n]*) \|", part, re.M)
            told = {flag for cell in cells for flag in code(cell)}
            options = cast(Any, kind())
            given = {"--" + name.rstrip("=") for name in options.longOpt}
            given |= {"-" + letter for letter in options.shortOpt.replace(":", "")}
            found.append((told - {"--help"}, given - {"--help"}))
        self.assertEqual(*found[0])
        # Here only the most important ones; the page about the server has them all.
        self.assertLessEqual(*found[1])
        self.assertEqual(*found[2])

    def test_variables(self) -> None:
        """The variables of the environment are some that the server reads."""
        told = set(re.findall(r"`DRACHTIO_(\w+)`", prose(ROOT / "docs" / "hosting.md")))
        self.assertLessEqual(told, {"HTTP_HANDLER_URI", *server_flags.VARIABLES.values()})
        self.assertTrue(told)

    def test_endpoints(self) -> None:
        """Each endpoint is of the kind that its table says."""
        for page, first, column in (
            ("README.md", "`--endpoint`", 3),
            ("docs/connections.md", "endpoint", 1),
        ):
            rows = table(page, first)
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
                if re.match(r"(unix:/|(tcp|tls|server|client):[^/ ])", text):
                    seen.add(type(parse_endpoint(reactor, text)))
        self.assertEqual(seen, {Connect, Listen})

    def test_tls_options(self) -> None:
        """The table of TLS options has all fields, with the arguments and flags that set them."""
        rows = table("docs/connections.md", "`TlsOptions`")
        fields = [code(row[0])[0] for row in rows]
        self.assertEqual(set(fields), set(TlsOptions.__dataclass_fields__))
        flags = {flag for row in rows for flag in code(row[2])}
        ours = {f"--{name}" for name in tap.Options() if str(name).startswith("tls-")}
        self.assertEqual(flags, ours)
        for row in rows:
            [argument] = code(row[1])
            if argument.endswith("="):
                argument += "server.pem"
            self.assertTrue(parse_endpoint(reactor, f"tls:127.0.0.1:9023:{argument}").tls)


# Python


class _Reactor:
    """The reactor, which runs already, and gives other ports than those it is asked for."""

    def __init__(self) -> None:
        self.ran = False
        self.port: Any = None
        self.triggers: list[Callable[[], Any]] = []
        self.started: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def listenTCP(self, port: int, factory: Any, *args: Any, **options: Any) -> Any:
        """Listen on any port of this machine."""
        self.port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
        return self.port

    def callWhenRunning(self, function: Any, *args: Any) -> None:
        self.started = function(*args)

    def addSystemEventTrigger(self, phase: str, event: str, function: Any) -> None:
        self.triggers.append(function)

    def run(self) -> None:
        self.ran = True


class Example:
    """An example that was loaded.

    :param block: its text.
    :param name: what it believes to be called.
    :param changes: what is put in place of parts of the text.
    """

    def __init__(self, block: Block, name: str, changes: dict[str, str]) -> None:
        text = block.text
        for old, new in changes.items():
            assert old in text, f"{block} has no {old!r}"
            text = text.replace(old, new)
        self.said: list[str] = []
        self._waiting: list[tuple[str, Deferred[str]]] = []
        module = ModuleType(name)
        self.names: dict[str, Any] = vars(module)
        self.names["print"] = self._say
        lines = "\n" * (block.line - 1)
        exec(compile(lines + text, str(block.page), "exec"), self.names)
        self.srf: Srf = self.names.get("srf")  # type: ignore[assignment]

    def _say(self, *words: object) -> None:
        text = " ".join(map(str, words))
        self.said.append(text)
        for item in [item for item in self._waiting if item[0] in text]:
            self._waiting.remove(item)
            item[1].callback(text)

    def when_says(self, part: str) -> Deferred[str]:
        """Wait until it has printed something."""
        waiting: Deferred[str] = Deferred()
        for text in self.said:
            if part in text:
                waiting.callback(text)
                return waiting
        self._waiting.append((part, waiting))
        return waiting


class ExampleTests(TestCase):
    timeout = 30

    async def serve(self, **options: Any) -> DrachtioServer:
        """Start a server on free ports."""
        options.setdefault("admin_port", 0)
        options.setdefault("contacts", ("sip:127.0.0.1:0;transport=udp",))
        server = DrachtioServer(ServerConfig(**options), reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        return server

    def load(
        self, name: str, changes: dict[str, str] | None = None, module: str = "example"
    ) -> Example:
        """Load an example, with parts of its text exchanged."""
        loaded = Example(example(name), module, changes or {})
        if loaded.srf is not None:
            self.addCleanup(loaded.srf.stop)
        return loaded

    async def connect(self, srf: Srf, server: DrachtioServer) -> None:
        """Connect an application to a server."""
        assert server.admin_port is not None
        connection = srf.connect(f"tcp:127.0.0.1:{server.admin_port}", secret="cymru")
        await ready(await connection.when_connected())

    async def host(self, name: str) -> tuple[Example, DrachtioServer]:
        """Load an example, and give it a server."""
        loaded, server = self.load(name), await self.serve()
        await self.connect(loaded.srf, server)
        return loaded, server

    def port_of(self, server: DrachtioServer) -> int:
        """Give the port where a server serves SIP over UDP."""
        return int(server.sip_addresses[0].rpartition(":")[2])

    def uri(self, server: DrachtioServer, user: str = "bob") -> str:
        """Give an address at a server."""
        return f"sip:{user}@127.0.0.1:{self.port_of(server)}"

    def phone(self, server: DrachtioServer, **options: Any) -> Phone:
        """Make a phone that uses a server."""
        phone = Phone(("127.0.0.1", self.port_of(server)), "alice", clock=reactor, **options)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return phone

    def first(self, on: Callable[[Callable[[Any], Any]], Any]) -> Deferred[Any]:
        """Wait until an event comes for the first time."""
        waiting: Deferred[Any] = Deferred()
        on(lambda event: None if waiting.called else waiting.callback(event))
        return waiting

    async def refused(self, asking: Deferred[Any]) -> int:
        """See that a request is refused; give the status."""
        error: SipError = await self.assertFailure(asking, SipError)
        return error.status

    async def sender(self) -> Srf:
        """Make an application that can send requests, with a server of its own."""
        srf = Srf()
        server = await self.serve()
        self.addCleanup(srf.stop)
        await self.connect(srf, server)
        return srf

    async def called(self) -> DrachtioServer:
        """Start somebody who answers calls."""
        return (await self.host("answer"))[1]

    # Quickstart

    async def test_answer(self) -> None:
        """The ten lines ring, answer, and tell who hung up."""
        loaded, server = await self.host("answer")
        heard: list[int] = []
        call = await self.phone(server).call(
            self.uri(server), on_provisional=lambda response: heard.append(response.status)
        )
        self.assertIn(180, heard)
        await call.hang_up()
        self.assertEqual(await loaded.when_says("alice"), "alice: the peer ended it")

    async def test_keys(self) -> None:
        """Who calls a closed line is sent away; others hang up with a key."""
        _, server = await self.host("keys")
        phone = self.phone(server)
        self.assertEqual(await self.refused(phone.call(self.uri(server, "closed"))), 480)
        call = await phone.call(self.uri(server))
        await call.press("1")
        self.assertFalse(call.over)
        await call.press("#")
        bye = await call.when_ended()
        assert bye is not None
        self.assertEqual(bye.method, "BYE")
        self.assertEqual((await phone.request("OPTIONS", self.uri(server))).status, 200)

    # Tracing

    async def test_tracing(self) -> None:
        """The ladder of a call that is refused is printed, with both of its legs."""
        loaded = self.load("tracing", {"127.0.0.1:5070": "127.0.0.1:1"})
        server = await self.serve()
        await self.connect(loaded.srf, server)
        status = await self.refused(self.phone(server).call(self.uri(server)))
        await loaded.when_says(f"{status}: this is what passed")
        said = await loaded.when_says(" INVITE sip:bob@127.0.0.1:1")
        self.assertIn(" INVITE sip:bob@127.0.0.1:", said)

    async def test_tracing_server(self) -> None:
        """The server's sockets are seen, and what passes is in the file."""
        directory = self.mktemp()
        os.mkdir(directory)
        path = os.path.join(directory, "calls.pcapng")
        loaded = self.load(
            "tracing-server", {"calls.pcapng": path, "sip:127.0.0.1:5060": "sip:127.0.0.1:0"}
        )
        server = loaded.names["server"]
        self.addCleanup(loaded.names["trace"].close)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        asking = self.phone(server).request("OPTIONS", self.uri(server))
        self.assertEqual(await self.refused(asking), 503)
        found = read_pcapng(path)
        self.assertEqual([one.method or one.status for one in found], ["OPTIONS", 503])

    # Connections

    async def test_inbound(self) -> None:
        """The application connects, and says where the server serves SIP."""
        server = await self.serve()
        loaded = self.load("inbound", {"192.168.1.100:9022": f"127.0.0.1:{server.admin_port}"})
        await ready(await loaded.names["connection"].when_connected())
        said = await loaded.when_says("connected to a server")
        self.assertIn(str(self.port_of(server)), said)
        answer = await self.phone(server).request("OPTIONS", self.uri(server))
        self.assertEqual(answer.status, 200)

    async def test_outbound(self) -> None:
        """The server connects to the application for a call."""
        loaded = self.load("outbound", {"tcp:3001": "tcp:0"})
        address = await loaded.names["listener"].when_listening()
        handler = RequestHandler(f"tcp://127.0.0.1:{address.port}")
        server = await self.serve(request_handlers=(handler,))
        call = await self.phone(server).call(self.uri(server))
        self.assertEqual([link.outbound for link in loaded.srf.links], [True])
        await call.hang_up()

    async def test_keeping(self) -> None:
        """A call goes on when the connection is cut and comes back."""
        loaded, server = await self.host("keeping")
        back: Deferred[None] = Deferred()

        def watch(sent: bool, message: Any) -> None:
            if not sent and bytes(message).startswith(b"OPTIONS "):
                back.callback(None)

        call = await self.phone(server, watcher=watch).call(self.uri(server))
        await call.request("OPTIONS")  # the ACK came before it
        [link] = loaded.srf.links
        link.abort()
        await back
        self.assertNotEqual(loaded.srf.links, [link])
        self.assertFalse(call.over)
        await call.hang_up()
        await loaded.when_says("DialogEnd.REMOTE")

    async def test_callback(self) -> None:
        """A web application sends a call to the application that waits for it, or away."""
        loaded = self.load("outbound", {"tcp:3001": "tcp:0"})
        address = await loaded.names["listener"].when_listening()
        stand_in = _Reactor()
        self.patch(twisted.internet, "reactor", stand_in)
        self.load("callback", {"10.32.100.2:3001": f"127.0.0.1:{address.port}"}, "__main__")
        self.patch(twisted.internet, "reactor", reactor)
        self.assertTrue(stand_in.ran)
        self.addCleanup(stand_in.port.stopListening)
        web = f"http://127.0.0.1:{stand_in.port.getHost().port}/"
        server = await self.serve(request_handlers=(RequestHandler(web),))
        phone = self.phone(server)
        self.assertEqual(await self.refused(phone.call(self.uri(server, "closed"))), 480)
        call = await phone.call(self.uri(server))
        await call.hang_up()

    async def test_ending(self) -> None:
        """With the call the connection ends, unless it is one that lasts."""
        port = free_port()
        loaded = self.load("ending")
        listener = loaded.srf.listen(f"tcp:{port}:interface=127.0.0.1", secret="cymru")
        await listener.when_listening()
        handler = RequestHandler(f"tcp://127.0.0.1:{port}")
        server, other = await self.serve(request_handlers=(handler,)), await self.serve()
        await self.connect(loaded.srf, other)
        closed = self.first(loaded.srf.on_close)
        lasting = await self.phone(other).call(self.uri(other))
        await lasting.hang_up()
        passing = await self.phone(server).call(self.uri(server))
        await passing.hang_up()
        self.assertTrue((await closed).outbound)
        self.assertEqual([link.outbound for link in loaded.srf.links], [False])

    async def test_mixing(self) -> None:
        """One application serves two servers that it connects to, and one that connects to it."""
        servers = [await self.serve(), await self.serve()]
        port = free_port()
        loaded = self.load(
            "mixing",
            {
                "192.168.1.100:9022": f"127.0.0.1:{servers[0].admin_port}",
                "192.168.1.101:9022": f"127.0.0.1:{servers[1].admin_port}",
                "tcp:3001": f"tcp:{port}:interface=127.0.0.1",
            },
        )
        both: Deferred[None] = Deferred()
        loaded.srf.on_connect(
            lambda link: both.callback(None) if len(loaded.srf.links) == 2 else None
        )
        await both
        for link in list(loaded.srf.links):
            await ready(link)
        handler = RequestHandler(f"tcp://127.0.0.1:{port}")
        servers.append(await self.serve(request_handlers=(handler,)))
        sender = await self.sender()
        for number, server in enumerate(servers):
            response = await sender.request(
                self.uri(server),
                method="MESSAGE",
                headers={"Content-Type": "text/plain"},
                body=f"number {number}",
            )
            self.assertEqual(response.status, 200)
        self.assertEqual(
            loaded.said, ["inbound: number 0", "inbound: number 1", "outbound: number 2"]
        )

    async def test_tags(self) -> None:
        """A web application finds the application by its tag."""
        loaded = self.load("tags")
        decision = loaded.names["where"](RoutingQuery("OPTIONS"))
        self.assertIn(decision.tag, loaded.srf.tags)
        site = self.web(loaded.names["where"])
        server = await self.serve(request_handlers=(RequestHandler(site),))

        @loaded.srf.options
        def alive(req: Request, res: Response) -> None:
            res.send(200)

        await self.connect(loaded.srf, server)
        answer = await self.phone(server).request("OPTIONS", self.uri(server))
        self.assertEqual(answer.status, 200)

    def web(self, where: Any) -> str:
        """Serve a web callback; give its address."""
        from twisted.web.server import Site

        from drachtwist.middleware.webhook import RoutingResource

        port = cast(Any, reactor).listenTCP(0, Site(RoutingResource(where)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}/"

    # TLS

    def pem_files(self) -> Files:
        """Write a key and a self-signed certificate."""
        return Files(self.mktemp())

    async def test_tls_inbound(self) -> None:
        """A self-signed certificate is trusted by naming it, and only then."""
        files = self.pem_files()
        ours = TlsOptions(key=files.path / "KEY.pem", certificate=files.path / "server.pem")
        server = await self.serve(admin_tls_port=0, tls=ours)
        place = {"127.0.0.1:9023": f"127.0.0.1:{server.admin_tls_port}"}
        trusting = self.load(
            "tls-inbound", {**place, '"server.pem"': repr(str(files.path / "server.pem"))}
        )
        await ready(await self.first(trusting.srf.on_connect))
        answer = await self.phone(server).request("OPTIONS", self.uri(server))
        self.assertEqual(answer.status, 200)
        doubting = self.load("tls-inbound", {**place, 'ca="server.pem"': ""})
        error = await self.first(doubting.srf.on_error)
        self.assertIn("not trusted", str(error))

    async def test_tls_outbound(self) -> None:
        """The server connects with TLS."""
        files = self.pem_files()
        port = free_port()
        loaded = self.load(
            "tls-outbound",
            {
                "tls:3001": f"tls:{port}",
                '"server-key.pem"': repr(str(files.path / "server-key.pem")),
                '"server.pem"': repr(str(files.path / "server.pem")),
            },
        )
        handler = RequestHandler(f"tls://127.0.0.1:{port}")
        server = await self.serve(request_handlers=(handler,))
        answer = await self.phone(server).request("OPTIONS", self.uri(server))
        self.assertEqual(answer.status, 200)
        self.assertEqual(len(loaded.said), 0)

    # Hosting

    async def test_lifecycle(self) -> None:
        """What calls need is open before they come, and closed behind them."""
        database = self.mktemp()
        with sqlite3.connect(database) as prepared:
            prepared.execute("create table prices (number text, cents int)")
            prepared.execute("insert into prices values ('bob', 5)")
        loaded, server = self.load("lifecycle", {"prices.sqlite": database}), await self.serve()
        await self.connect(loaded.srf, server)
        self.assertEqual(await loaded.when_says("prices"), "1 prices")
        phone = self.phone(server)
        self.assertEqual(await self.refused(phone.call(self.uri(server))), 480)
        self.assertEqual(await self.refused(phone.call(self.uri(server, "carol"))), 403)
        pool = loaded.srf.locals["pool"]
        self.assertTrue(pool.running)
        await loaded.srf.stop()
        self.assertFalse(pool.running or loaded.srf.locals["again"].running)

    async def test_embedded(self) -> None:
        """A program of its own has the server and the application."""
        stand_in = _Reactor()
        self.patch(twisted.internet, "reactor", stand_in)
        loaded = Example(
            example("embedded"), "__main__", {"127.0.0.1:5060": "127.0.0.1:0", "drain=10": ""}
        )
        self.patch(twisted.internet, "reactor", reactor)
        self.assertTrue(stand_in.ran)
        [stop] = stand_in.triggers
        try:
            await stand_in.started
            server = loaded.names["server"]
            self.assertIn("udp/127.0.0.1:", await loaded.when_says("SIP on "))  # in any order
            await ready(await self.first(loaded.srf.on_connect))
            answer = await self.phone(server).request("OPTIONS", self.uri(server))
            self.assertEqual(answer.status, 200)
        finally:
            await stop()
        self.assertEqual(loaded.srf.links, [])
        self.assertEqual(server.sip_addresses, ())

    async def test_tac(self) -> None:
        """Services of a .tac file start and stop together, under twistd."""
        self.assertEqual(await self.tac(example("tac").text), -15)

    async def test_exit_status(self) -> None:
        """With a little more the exit status is 0."""
        self.assertEqual(await self.tac(example("tac").text + example("exit-status").text), 0)

    async def test_start_status(self) -> None:
        """What an application cannot open ends the process with status 1, and why."""
        failing = "\n@srf.on_start\ndef bad():\n    raise OSError('no disk')\n"
        peer = self.twistd_on(example("tac").text + failing + example("start-status").text)
        self.assertEqual(await peer.ended, 1, str(peer))
        self.assertIn(b"bad failed: OSError: no disk", peer.output)

    def twistd_on(self, text: str) -> Peer:
        """Start twistd with a .tac file."""
        path = Path(self.mktemp()).absolute().with_suffix(".tac")
        path.write_text(text, "utf-8")
        peer = Peer("twistd -ny app.tac")
        arguments = [
            *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
            *("-n", "--pidfile=", "-y", str(path)),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        cast(Any, reactor).spawnProcess(peer, arguments[0], arguments, environment)
        self.addCleanup(peer.kill, "KILL")
        return peer

    async def tac(self, text: str) -> int:
        """Run a .tac file; give the exit status."""
        admin, sip = free_port(), free_port()
        peer = self.twistd_on(text.replace("9022", str(admin)).replace("5060", str(sip)))
        await peer.when_prints("starting up")
        installed: Any = reactor
        phone = Phone(("127.0.0.1", sip), clock=installed)
        listening = installed.listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        while True:
            try:
                answer = await phone.request("OPTIONS", f"sip:a@127.0.0.1:{sip}")
                break
            except SipError as error:
                # The application is not there yet.
                self.assertEqual(error.status, 503)
        self.assertEqual(answer.status, 200)
        peer.kill("TERM")
        status = await peer.ended
        self.assertIn(b"Server Shut Down", peer.output)
        self.assertNotIn(b"Traceback", peer.output)
        return status

    async def test_wire(self) -> None:
        """The wire alone answers OPTIONS, in twenty lines or so."""
        server = await self.serve()
        loaded = self.load("wire", {"127.0.0.1:9022": f"127.0.0.1:{server.admin_port}"})
        link = await loaded.names["connecting"]
        self.assertIn("udp/127.0.0.1:", await loaded.when_says("SIP on "))  # in any order
        await ready(link)
        answer = await self.phone(server).request("OPTIONS", self.uri(server))
        self.assertEqual(answer.status, 200)
        link.close()
        await loaded.when_says("lost:")

    async def test_wire_listener(self) -> None:
        """The wire alone waits for servers, one connection for each request."""
        loaded = self.load("wire-listener", {"tcp:3001": "tcp:0"})
        port = await loaded.names["listening"]
        self.addCleanup(port.stopListening)
        handler = RequestHandler(f"tcp://127.0.0.1:{port.getHost().port}")
        server = await self.serve(admin_port=None, request_handlers=(handler,))
        for _ in range(2):
            answer = await self.phone(server).request("OPTIONS", self.uri(server))
            self.assertEqual(answer.status, 200)
        await loaded.when_says("a request follows")
        await loaded.when_says("sent")
        await server.stopService()
        await loaded.when_says("closed:")

    # Calls

    async def test_registrar(self) -> None:
        """A registration is kept; one without a place is refused."""
        loaded, server = await self.host("registrar")
        sender = await self.sender()
        answer = await sender.request(
            self.uri(server),
            method="REGISTER",
            headers={"From": "<sip:ann@example.net>", "Contact": "<sip:ann@192.0.2.9>"},
        )
        self.assertEqual(answer.status, 200)
        self.assertEqual(loaded.names["contacts"], {"ann": "<sip:ann@192.0.2.9>"})

    async def test_middleware(self) -> None:
        """Middleware refuses, tells, and takes failures."""
        loaded, server = await self.host("middleware")
        sender = await self.sender()

        async def text(body: str) -> sip_messages.Response:
            headers = {"Content-Type": "text/plain"}
            return await sender.request(
                self.uri(server, "4711-9"), method="MESSAGE", headers=headers, body=body
            )

        good, empty = await text("hello"), await text("")
        self.assertEqual([good.status, good.get("X-Customer")], [202, "4711"])
        self.assertEqual([empty.status, empty.reason], [400, "an empty message"])
        loaded.srf.set("blocked", ["127.0.0.1"])
        self.assertEqual((await text("hello")).status, 403)

    async def test_passwords(self) -> None:
        """Who knows the password is registered, and can be called by name."""
        answering = await self.called()
        loaded, server = await self.host("passwords")
        sender = await self.sender()
        register = {
            "From": "<sip:bob@127.0.0.1>",
            "To": "<sip:bob@127.0.0.1>",
            "Contact": f"<{self.uri(answering, 'bob')}>",
        }
        first = await sender.request(self.uri(server), method="REGISTER", headers=register)
        self.assertEqual(first.status, 401)
        let_in = await sender.request(
            self.uri(server), method="REGISTER", headers=register, auth=("bob", "mellon")
        )
        self.assertEqual(let_in.status, 200)
        phone = self.phone(server)
        self.assertEqual(await self.refused(phone.call(self.uri(server, "carol"))), 480)
        call = await phone.call(self.uri(server, "bob"))
        await call.hang_up()
        self.assertEqual(len(loaded.names["registrar"].store), 1)

    async def test_strong(self) -> None:
        """SHA-256 is offered, and MD5 alone to who could use none of both."""
        _, server = await self.host("strong")
        sender = await self.sender()
        register = {"From": "<sip:bob@127.0.0.1>", "To": "<sip:bob@127.0.0.1>"}
        for expected in (2, 1):
            response = await sender.request(self.uri(server), method="REGISTER", headers=register)
            self.assertEqual(len(response.get_all("WWW-Authenticate")), expected)
        let_in = await sender.request(
            self.uri(server), method="REGISTER", headers=register, auth=("bob", "mellon")
        )
        self.assertEqual(let_in.status, 200)

    async def test_nat(self) -> None:
        """Who is registered can be called, and who is not gets his answer."""
        answering = await self.called()
        _, server = await self.host("nat")
        sender = await self.sender()
        register = {
            "From": "<sip:bob@127.0.0.1>",
            "To": "<sip:bob@127.0.0.1>",
            "Contact": f"<{self.uri(answering, 'bob')}>",
        }
        let_in = await sender.request(self.uri(server), method="REGISTER", headers=register)
        self.assertEqual(let_in.status, 200)
        phone = self.phone(server)
        self.assertEqual(await self.refused(phone.call(self.uri(server, "carol"))), 480)
        call = await phone.call(self.uri(server, "bob"))
        await call.hang_up()

    async def test_fences(self) -> None:
        """Scanners are refused, and who asks too often; others are not."""
        loaded, server = await self.host("fences")
        sender = await self.sender()
        answers = []
        for agent in (
            "friendly-scanner",
            "Linphone",
            "Linphone",
            "Linphone",
            "Linphone",
            "Linphone",
        ):
            response = await sender.request(
                self.uri(server), method="OPTIONS", headers={"User-Agent": agent}
            )
            answers.append(response.status)
        self.assertEqual(answers[:2], [403, 200])
        self.assertIn(503, answers)
        loaded.names["pressure"].stop()

    async def test_unhandled(self) -> None:
        """What nobody takes is answered as the table says."""
        srf, port = Srf(), free_port()
        self.addCleanup(srf.stop)
        srf.use("MESSAGE", lambda req, res, next: next())
        await srf.listen(f"tcp:{port}:interface=127.0.0.1", secret="cymru").when_listening()
        handler = RequestHandler(f"tcp://127.0.0.1:{port}")
        server, sender = await self.serve(request_handlers=(handler,)), await self.sender()
        answers = {}
        for what, method, headers in (
            ("anything else", "MESSAGE", {}),
            ("a method without handlers, while others have some", "OPTIONS", {}),
            ("in a dialog that does not exist", "INFO", {"To": "<sip:bob@127.0.0.1>;tag=gone"}),
        ):
            response = await sender.request(self.uri(server), method=method, headers=headers)
            answers[what] = response
        rows = dict(cast(Any, table("docs/calls.md", "request")))
        for what, response in answers.items():
            self.assertEqual(rows[what][:3], str(response.status), what)
        self.assertEqual([one.get("Allow") for one in answers.values()][1], "MESSAGE")

    async def test_ringing(self) -> None:
        """A call is answered and acknowledged; one that is given up is remembered."""
        loaded, server = await self.host("ringing")
        sent: list[Request] = []

        def watch(out: bool, message: Any) -> None:
            if out:
                sent.append(message)

        phone = self.phone(server, watcher=watch)
        call = await phone.call(self.uri(server))
        await loaded.when_says("talking")
        await call.hang_up()
        sent.clear()

        def give_up(response: sip_messages.Response) -> None:
            if response.status == 180:
                cast(Any, phone.transport).write(bytes(cancel_for(sent[0])), phone.server)

        calling = phone.call(self.uri(server), on_provisional=give_up)
        self.assertEqual(await self.refused(calling), 487)
        self.assertEqual(await loaded.when_says("no call"), "no call: 487")
        self.assertEqual(loaded.names["missed"], ["alice"])

    async def test_dialog(self) -> None:
        """Requests go both ways in a call, and its end is told."""
        loaded, server = await self.host("dialog")
        phone = self.phone(server)
        call = await phone.call(self.uri(server))
        await loaded.when_says("told the phone: 200")
        self.assertEqual(call.requests[0].text, "You are connected.")
        await call.press("1")
        held = (
            "v=0\r\no=phone 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            "m=audio 9 RTP/AVP 0 8 101\r\na=inactive\r\n"
        )
        await call.request("INVITE", {"Content-Type": "application/sdp"}, held)
        await loaded.when_says("on hold")
        await call.hang_up()
        await loaded.when_says("REMOTE")

    async def test_early(self) -> None:
        """Before a call is answered, both sides say something; a phone answers when it is told."""
        loaded, server = await self.host("early")
        caller = await self.sender()
        ringing: list[Any] = []
        text = {"Content-Type": "text/plain"}

        @caller.info
        def told(req: Request, res: Response) -> None:
            res.send(200)
            ringing[0].early_dialog.info(headers=text, body=req.text[6])

        call = await caller.create_uac(
            self.uri(server), local_sdp=OFFER, on_provisional=ringing.append
        )
        self.assertEqual(loaded.said, ["pressed 5"])
        await call.destroy()

        phone = Srf()
        self.addCleanup(phone.stop)

        @phone.invite
        async def ring(req: Request, res: Response) -> None:
            await res.send(180)
            early = req.early_dialog
            assert early is not None

            @early.on_notify
            async def talk(notify: Request, answer: Response) -> None:
                answer.send(200 if notify.get("Event") == "talk" else 489)
                await phone.create_uas(req, res, local_sdp=OFFER)

        its_server = await self.serve()
        await self.connect(phone, its_server)
        answered = await loaded.names["answer_now"](self.uri(its_server))
        await answered.destroy()

    async def test_placing(self) -> None:
        """A call is placed, heard ringing, answered, and ended; a refusal is told."""
        loaded, _ = await self.host("placing")
        answering = await self.called()
        await loaded.names["remind"](self.uri(answering))
        self.assertIn("hears 180", loaded.said)
        self.assertEqual(loaded.said[-1], "answered")
        _, refusing = await self.host("keys")
        loaded.said.clear()
        await loaded.names["remind"](self.uri(refusing, "closed"))
        self.assertIn("no answer: 480", loaded.said[-1])

    async def test_asking(self) -> None:
        """A request outside of dialogs brings its response."""
        loaded, server = await self.host("asking")
        self.assertTrue(await loaded.names["is_alive"](self.phone(server).uri))
        self.assertFalse(await loaded.names["is_alive"](self.uri(await self.called())))

    async def test_b2bua(self) -> None:
        """A caller is connected with somebody else, and both calls end together."""
        answering, server = await self.called(), await self.serve()
        loaded = self.load("b2bua", {"sip:bob@192.168.1.20": self.uri(answering)})
        await self.connect(loaded.srf, server)
        phone = self.phone(server)
        self.assertEqual(await self.refused(phone.call(self.uri(server, "support"))), 404)
        call = await phone.call(self.uri(server, "sales"))
        await call.hang_up()

    async def test_forwarding(self) -> None:
        """A caller is forwarded to the first who answers."""
        answering, server = await self.called(), await self.serve()
        _, busy = await self.host("keys")
        loaded = self.load(
            "forwarding",
            {
                "sip:bob@192.168.1.20": self.uri(busy, "closed"),
                "sip:carol@192.168.1.21": self.uri(answering, "carol"),
            },
        )
        await self.connect(loaded.srf, server)
        phone = self.phone(server)
        self.assertEqual(await self.refused(phone.call(self.uri(server, "support"))), 404)
        call = await phone.call(self.uri(server, "sales"))
        self.assertEqual(await loaded.when_says("200"), "connected 200")
        await call.hang_up()

    async def test_group(self) -> None:
        """Of several phones the one that answers is connected; a refusal by all is passed on."""
        answering, server = await self.called(), await self.serve()
        _, busy = await self.host("keys")
        loaded = self.load(
            "group",
            {
                "sip:bob@192.168.1.20": self.uri(busy, "closed"),
                "sip:carol@192.168.1.21": self.uri(answering, "carol"),
            },
        )
        await self.connect(loaded.srf, server)
        phone = self.phone(server)
        call = await phone.call(self.uri(server))
        await call.hang_up()
        loaded.names["group"].pop()
        self.assertEqual(await self.refused(phone.call(self.uri(server))), 480)
        await loaded.when_says("nobody answered: 480")
