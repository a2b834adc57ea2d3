#!/usr/bin/env python3
"""Does everybody get an answer, and does nothing grow, while links are cut and garbage comes?

    python benchmarks/soak.py [--duration 120] [--rate 30] [--outbound] [--seed 1]

A server and an application, each in a process of its own, take calls over UDP on loopback from
phones in this one. Between the two is a relay, which cuts their connection every 20 to 40 seconds:
it closes it and takes no other for up to two seconds, or lets nothing through for up to three and
closes it then. Two of a hundred datagrams are garbage: the torture messages of RFC 4475 and 5118,
requests with a few bytes changed, and noise.

What a call has to come to depends on whom it is for (see ``soak_app.py``). Each that comes to
something else has failed, and a failure is attributed to a cut when the call was under way between
the cut and the first request that was answered after it. A phone that hears nothing at all within
its time, or is left in a call, is never attributed: nobody may be left alone. With ``--faults``
other things go wrong: processes are killed, or restarted. Only the end of the server may leave
phones alone, and that of an application which drains may not cost a single call.

The exit status is 1 when a failure is not attributed; when a Deferred of the application has not
fired, or a dialog of the server is left, in the end; when one of them logs an error, or does not
stop well; or when memory or open files of one of them are not flat. It needs Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from server import free_port
from soak_phones import PATIENCE, SDP, T1, T2, Call, Failed, Garbage, Message, Phone, Silence
from soak_programs import Program, Relay, dropped, growth, waiting

HERE = Path(__file__).resolve().parent
SLACK = 0.5
"""Seconds after the first answer behind a cut for which failures are still attributed to it."""
LAST_WORDS = 0.05
"""Seconds in which the phones read what a server sent before its end; none starts so soon."""
RECOVERY = 30.0
"""Seconds within which requests have to be answered again behind a cut."""
WARM_UP = 180.0
"""Seconds that memory may grow for: half of the time, if that is less."""
FILES = 8
"""Open files that there may be more, likewise, and in the end."""
AGENT = "soak"
"""Whose OPTIONS the server answers by itself."""
KINDS = {"answer": 38, "hangup": 16, "bridge": 18, "ring": 12, "busy": 6, "ask": 10}
"""What phones do, and how often out of a hundred times."""
FAULTS = {
    "closed": "the link is closed, and there is no other for up to two seconds",
    "stalled": "nothing comes through for up to three seconds, and then the link is closed",
    "application-kill": "the application is killed, and started again",
    "application-drain": "another application takes over from one that ends with its last call",
    "server-kill": "the server is killed, and started again",
    "server-term": "the server is ended, and started again",
}
"""What goes wrong, one of them at a time."""
USUAL = ("closed", "closed", "stalled")


@dataclass
class Cut:
    """One cut of the link."""

    kind: str
    at: float
    until: float = float("inf")
    """When requests were answered again."""

    @property
    def may_fail(self) -> bool:
        """Whether it may cost calls."""
        return self.kind != "application-drain"

    @property
    def may_silence(self) -> bool:
        """Whether phones may be left alone: nobody is there to tell them."""
        return self.kind.startswith("server-")


@dataclass
class Outcome:
    """What came of a call."""

    kind: str
    began: float
    over: float
    failure: str = ""
    silent: bool = False


@dataclass
class Soak:
    """One run."""

    options: argparse.Namespace
    directory: Path
    outcomes: list[Outcome] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    running: dict[str, Program] = field(default_factory=dict)
    started: int = 0
    pause: float = 0.0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._zero

    async def run(self) -> None:
        """Do it."""
        options = self.options
        # One for each use, so that no timing changes what is drawn for another.
        self.chance, line, noise, self.callee_chance = (
            random.Random(f"{options.seed} {name}") for name in ("calls", "cuts", "noise", "callee")
        )
        self._zero = time.monotonic()
        loop = asyncio.get_running_loop()
        sip, admin, metrics = free_port(), free_port(), free_port()
        relay = Relay(admin)
        server_address = ("127.0.0.1", sip)
        garbage = Garbage(server_address, noise, options.garbage)
        await loop.create_datagram_endpoint(lambda: garbage, ("127.0.0.1", 0))
        self.caller = Phone(server_address, self.chance, garbage)
        self.callee = Phone(server_address, self.callee_chance, garbage)
        for phone in (self.caller, self.callee):
            await loop.create_datagram_endpoint(lambda phone=phone: phone, ("127.0.0.1", 0))  # type: ignore[misc]
        self.callee.strays = self._rung
        self.uri = f"sip:%s@127.0.0.1:{sip}"
        await relay.start()
        server_flags = ["--noconfig", "-p", str(admin), "--orphan-grace", str(options.grace)]
        server_flags += ["-c", f"sip:127.0.0.1:{sip};transport=udp"]
        server_flags += ["--prometheus-scrape-port", str(metrics)]
        server_flags += ["--user-agent-options-auto-respond", AGENT]
        # Whoever is named in garbage shall not be looked up.
        server_flags += ["--name-server", f"127.0.0.1:{free_port()}"]
        app_flags = ["--app", str(HERE / "soak_app.py"), "--drain", str(self._most)]
        word = "connected to"
        if options.outbound:
            listening = relay.to = free_port()
            server_flags += ["--http-handler", f"tcp://127.0.0.1:{relay.port}"]
            app_flags += ["-e", f"tcp:{listening}:interface=127.0.0.1"]
            word = "listening for servers"
        else:
            app_flags += ["-e", f"tcp:127.0.0.1:{relay.port}"]
        more = {"CALLEE": f"sip:callee@{self.callee.address}", "KEEP": options.keep}
        self._flags = {
            "server": (("listening", "drachtio-server", *server_flags), {}),
            "application": ((word, "drachtio", *app_flags), more),
        }
        try:
            await self._start("server")
            await self._start("application")
            await self._soak(relay, line)
            await self._look(metrics)
            self.garbage = garbage
            for name, address in (
                ("of phones", f":{sip}"),
                ("to phones", self.caller.address),
                ("to called phones", self.callee.address),
            ):
                self.dropped[name] = dropped(int(address.rpartition(":")[2]))
        finally:
            relay.close()
            for name in ("application", "server"):
                if name in self.running:
                    await self._end(self.running[name])
        for program in self.programs:
            self.problems += list(program.problems())[:3]

    async def _start(self, name: str) -> None:
        """Start a program; of several with the same name the last one counts."""
        words, more = self._flags[name]
        count = sum(one.name == name for one in self.programs)
        title = name if not count else f"{name}-{count + 1}"

        def start() -> Program:
            return Program(name, self.directory / f"{title}.log", *words, **more)

        program = await asyncio.get_running_loop().run_in_executor(None, start)
        self.programs.append(program)
        self.running[name] = program

    async def _end(self, program: Program) -> None:
        """End one in good order."""
        loop = asyncio.get_running_loop()
        trouble = await loop.run_in_executor(None, program.stop, self._most)
        if trouble:
            self.problems.append(trouble)

    async def _soak(self, relay: Relay, line: random.Random) -> None:
        options = self.options
        self._zero = time.monotonic()
        self._enough = asyncio.Event()
        self.legs: set[asyncio.Task[None]] = set()
        self.ending: list[asyncio.Task[None]] = []
        self.under_way: dict[asyncio.Task[Any], Call] = {}
        calls: set[asyncio.Task[None]] = set()
        cutting = asyncio.ensure_future(self._cut_now_and_then(relay, line))
        watching = [asyncio.ensure_future(one) for one in (self._watch(), self._listen_to_server())]
        while (now := self.now()) < options.duration:
            task = asyncio.ensure_future(self._place())
            calls.add(task)
            task.add_done_callback(calls.discard)
            self.started += 1
            await asyncio.sleep(max(0.0, self.started / options.rate - now))
        self.last = self.now()
        self._enough.set()
        await cutting
        while calls or self.legs or self.ending:
            await asyncio.wait([*calls, *self.legs, *self.ending])
            self.ending = [one for one in self.ending if not one.done()]
        for one in watching:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one
        self._tell()

    # Calls

    async def _place(self) -> None:
        chance = self.chance
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        hold = chance.uniform(0.3, self.options.hold)
        user = f"hangup-{hold:.2f}" if kind == "hangup" else kind
        extra = chance.random()
        call = Call(self.caller, self.uri % user)
        if kind == "ask":
            work = self._asks(call, chance.choice(("OPTIONS", "MESSAGE")))
        elif kind == "ring":
            work = self._cancels(call, hold / 4)
        elif kind == "busy":
            work = call.ask("INVITE", SDP, expected=(486,))
        else:
            work = self._talks(call, kind, hold, extra)
        await self._judge(kind, call, work)

    async def _judge(self, kind: str, call: Call, work: Awaitable[Any]) -> None:
        outcome = Outcome(kind, self.now(), 0.0)
        task = asyncio.current_task()
        assert task is not None
        self.under_way[task] = call
        try:
            await work
        except (Failed, Silence) as error:
            outcome.failure = str(error)
            outcome.silent = isinstance(error, Silence)
        except asyncio.CancelledError:
            outcome.failure, outcome.silent = "given up, since the server was restarted", True
        except Exception as error:
            outcome.failure, outcome.silent = f"the soak itself failed: {error!r}", True
        del self.under_way[task]
        outcome.over = self.now()
        self.outcomes.append(outcome)
        # What comes again late is answered for a while.
        asyncio.get_running_loop().call_later(PATIENCE, call.forget)

    async def _asks(self, call: Call, method: str) -> None:
        await call.ask(method, "hello" if method == "MESSAGE" else "")

    async def _cancels(self, call: Call, after: float) -> None:
        await call.ask("INVITE", SDP, cancel=after, expected=(487,))

    async def _talks(self, call: Call, kind: str, hold: float, extra: float) -> None:
        await call.ask("INVITE", SDP)
        if kind == "hangup":
            await call.hung_up(self._most)
            return
        try:
            await call.stays(hold / 2)
            if kind == "answer" and extra < 0.3:
                await call.ask("INFO", "Signal=1")
            elif extra < 0.5:
                await call.ask("INVITE", SDP)
            await call.stays(hold / 2)
        except Failed:
            if not call.over.done():  # it is still in the call
                with contextlib.suppress(Failed):
                    await call.ask("BYE")
            raise
        await call.ask("BYE")

    @property
    def _most(self) -> float:
        """Seconds that a call can last."""
        return float(self.options.hold) + float(self.options.grace) + PATIENCE + 5.0

    def _rung(self, invite: Message) -> None:
        """A bridged call comes."""
        if invite.method != "INVITE" or ";tag=" in invite.get("To"):
            self.callee.send(self.callee.answer(invite, 481, "none"))
            return
        leg = Call(self.callee, invite.contact, invite)
        task = asyncio.ensure_future(self._judge("leg", leg, self._picks_up(leg, invite)))
        self.legs.add(task)
        task.add_done_callback(self.legs.discard)

    async def _picks_up(self, leg: Call, invite: Message) -> None:
        self.callee.send(self.callee.answer(invite, 180, leg.tag))
        with contextlib.suppress(asyncio.TimeoutError):
            wait = self.callee_chance.uniform(0.02, 0.5)
            await asyncio.wait_for(asyncio.shield(leg.over), wait)
            # It was cancelled. That its ACK comes is not looked at: 487 is sent once.
            self.callee.send(self.callee.answer(invite, 487, leg.tag))
            raise Failed(f"cancelled ({leg.over.result().get('Reason') or 'no reason'})")
        interval, waited = T1, 0.0
        while not leg.acknowledged.is_set() and not leg.over.done():
            if waited >= PATIENCE:
                raise Silence("no ACK")
            self.callee.send(self.callee.answer(invite, 200, leg.tag, SDP))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(leg.acknowledged.wait(), interval)
            waited += interval
            interval = min(T2, 2 * interval)
        await leg.hung_up(self._most)

    # Trouble

    async def _cut_now_and_then(self, relay: Relay, chance: random.Random) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                wait = chance.uniform(*self.options.cuts)
                await asyncio.wait_for(self._enough.wait(), wait)
                return
            cut = Cut(chance.choice(self.options.faults), self.now())
            self.cuts.append(cut)
            what, _, how = cut.kind.partition("-")
            lost: list[asyncio.Task[Any]] = []
            if what == "closed":
                await relay.cut(0.0, chance.uniform(0.0, 2.0))
            elif what == "stalled":
                await relay.cut(chance.uniform(0.5, 3.0), 0.0)
            elif how == "drain":
                old = self.running[what]
                await self._start(what)
                self.ending.append(asyncio.ensure_future(self._end(old)))
            else:
                if how == "term":
                    await self._end(self.running[what])
                else:
                    await asyncio.get_running_loop().run_in_executor(None, self.running[what].kill)
                if cut.may_silence:
                    # Nobody can tell them anything. Who has not heard of the one that is gone
                    # repeats the request, and the next one takes it.
                    await asyncio.sleep(LAST_WORDS)
                    lost = [task for task, call in self.under_way.items() if call.heard]
                await self._start(what)
            await self._recover(cut, self.now())
            for task in lost:
                task.cancel()

    async def _recover(self, cut: Cut, since: float) -> None:
        """Ask until somebody answers."""
        while True:
            probe = Call(self.caller, self.uri % "probe")
            try:
                await asyncio.wait_for(probe.ask("OPTIONS"), 5)
                break
            except (Failed, asyncio.TimeoutError):
                await asyncio.sleep(0.1)
            finally:
                probe.forget()
        cut.until = self.now() + SLACK
        if cut.until - cut.at > RECOVERY:
            self.problems.append(
                f"{cut.until - cut.at:.1f} s passed until the link was of use again"
            )

    def cut_of(self, outcome: Outcome) -> Cut | None:
        """Return the cut that a failure is attributed to."""
        for cut in self.cuts:
            if not cut.may_fail or (outcome.silent and not cut.may_silence):
                continue
            if outcome.began <= cut.until and cut.at <= outcome.over:
                return cut
        return None

    async def _listen_to_server(self) -> None:
        """Measure how long the server takes for what it answers by itself."""
        loop = asyncio.get_running_loop()
        while True:
            probe = Call(self.caller, self.uri % "server", extra=f"User-Agent: {AGENT}")
            began = loop.time()
            try:
                await probe.ask("OPTIONS")
                self.latencies.append((self.now(), loop.time() - began))
            except Failed as error:
                self.problems.append(f"the server itself answers {error}")
            except Silence:
                self.latencies.append((self.now(), loop.time() - began))
            probe.forget()
            await asyncio.sleep(0.5)

    async def _watch(self) -> None:
        tell_at = 10.0
        due = self.now()
        while True:
            self.pause = max(self.pause, self.now() - due)
            for program in self.running.values():
                program.sample(self.now(), self.started)
            if self.now() >= tell_at:
                tell_at += 10.0
                self._tell()
            due = self.now() + 1.0
            await asyncio.sleep(1.0)

    def _tell(self) -> None:
        failed = [one for one in self.outcomes if one.failure]
        lost = sum(self.cut_of(one) is None for one in failed)
        state = ", ".join(
            f"{one.name} {one.samples[-1].rss / 2**20:.1f} MiB {one.samples[-1].files} files"
            for one in self.running.values()
            if one.samples
        )
        print(
            f"{self.now():5.0f} s: {self.started} calls, {len(failed)} failed, {lost} of them not"
            f" by one of {len(self.cuts)} cuts; {state}; load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
            flush=True,
        )

    async def _look(self, metrics: int) -> None:
        """See that nothing is left at either."""
        loop = asyncio.get_running_loop()
        until = self.now() + self.options.grace + PATIENCE
        while True:
            left = await self._left(loop, metrics)
            if not left:
                return
            if self.now() > until:
                self.problems.append(f"left in the end: {', '.join(left)}")
                return
            await asyncio.sleep(1)

    async def _left(self, loop: asyncio.AbstractEventLoop, port: int) -> list[str]:
        def scrape() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                return str(page.read().decode())

        found = []
        for program in self.running.values():
            if not program.samples:
                continue
            first = program.samples[0].files
            if (sample := program.look(self.now(), self.started)) is None:
                found.append(f"the {program.name} has ended")
                continue
            files = sample.files
            if files > first + FILES:
                found.append(f"{files - first} files more of the {program.name}")
        for line in (await loop.run_in_executor(None, scrape)).splitlines():
            match = re.match(r"(drachtio_(?:stable_dialogs|orphans)(?:\{.*\})?) (\S+)$", line)
            if match and float(match[2]):
                found.append(f"{match[1]} {match[2]}")
        asking = Call(self.caller, self.uri % "counts")
        try:
            counts = json.loads((await asking.ask("MESSAGE", "?")).body)
        except Failed as error:
            return [*found, f"the counts of the application: {error}"]
        finally:
            asking.forget()
        for name in counts:
            what = name.removesuffix(" given")
            if what != name and counts[name] != counts.get(f"{what} fired", 0):
                found.append(f"{counts[name] - counts.get(f'{what} fired', 0)} of {what}")
        return found

    # The end

    def write_samples(self, path: Path) -> None:
        """Write down what the programs had, second by second."""
        with path.open("w", encoding="ascii") as file:
            for program in self.programs:
                for one in program.samples:
                    print(program.name, *astuple(one), sep=",", file=file)
            for at, latency in self.latencies:
                print("latency", at, latency, sep=",", file=file)

    @property
    def restarted(self) -> bool:
        """Whether a program was started again, so that there is nothing to compare."""
        return len(self.programs) > len({one.name for one in self.programs})

    def report(self) -> Iterator[str]:
        """Say what came of it; problems are noted on the way."""
        options = self.options
        warm_up = min(WARM_UP, options.duration / 2)
        failed = [one for one in self.outcomes if one.failure]
        lost = [one for one in failed if self.cut_of(one) is None]
        yield f"\n| {'outbound' if options.outbound else 'inbound'} | |\n|---|---|"
        yield f"| time | {options.duration:.0f} s, seed {options.seed} |"
        yield f"| calls and requests of phones | {self.started} |"
        legs = sum(one.kind == "leg" for one in self.outcomes)
        yield f"| calls that phones got | {legs} |"
        yield f"| datagrams of phones, garbage | {self.garbage.useful}, {self.garbage.sent} |"
        yield f"| longest pause of the phones, in seconds | {self.pause:.1f} |"
        if self.latencies:
            middle = statistics.median(one for _, one in self.latencies)
            at, most = max(self.latencies, key=lambda one: one[1])
            text = f"{middle * 1e3:.0f}, at most {most * 1e3:.0f} (at {at:.0f} s)"
            yield f"| milliseconds until the server answered by itself | {text} |"
        text = ", ".join(f"{name} {count}" for name, count in self.dropped.items())
        yield f"| datagrams that the system dropped | {text} |"
        yield f"| cuts | {len(self.cuts)} |"
        spans = [one.until - one.at - SLACK for one in self.cuts if one.until < float("inf")]
        if spans:
            text = f"{statistics.median(spans):.1f}, at most {max(spans):.1f}"
            yield f"| seconds until requests were answered again | {text} |"
        yield f"| failed, by a cut | {len(failed) - len(lost)} |"
        yield f"| failed, otherwise | {len(lost)} |"
        for program in () if self.restarted else self.programs:
            start, warm, end = (program.at(when) for when in (0.0, warm_up, self.last))
            memory = ", ".join(f"{one.rss / 2**20:.1f}" for one in (start, warm, end))
            files = ", ".join(str(one.files) for one in (start, warm, end))
            busy = (end.cpu - start.cpu) / max(end.at - start.at, 1.0)
            yield f"| {program.name}: MiB at 0, {warm_up:.0f} and {self.last:.0f} s | {memory} |"
            yield f"| {program.name}: open files then | {files} |"
            yield f"| {program.name}: part of a processor | {busy:.1%} |"
            most, at = waiting(program.samples)
            text = f"{most:.0%} (at {at:.0f} s)"
            yield f"| {program.name}: most that it waited for a processor in ten seconds | {text} |"
            grown = growth(program.samples, warm_up, self.last)
            if grown is None:
                yield f"| {program.name}: growth | too short a time to tell |"
                continue
            more, most, opened, calls = grown
            yield (
                f"| {program.name}: growth of the middle of the last third | {more / 1024:+.0f} KiB"
                f" in {calls} calls, {opened:+d} files |"
            )
            if more > most:
                self.problems.append(
                    f"the {program.name} grew by {more / 1024:.0f} KiB in {calls} calls, which is"
                    f" more than {most / 1024:.0f}"
                )
            if opened > FILES and not options.outbound:  # there each call has one
                self.problems.append(f"the {program.name} has {opened} more files open")
        kinds = Counter((one.kind, one.failure, self.cut_of(one) is None) for one in failed)
        if kinds:
            yield "\n| failed | how | times | by a cut |\n|---|---|---|---|"
            for (kind, failure, stray), times in kinds.most_common(40):
                yield f"| {kind} | {failure} | {times} | {'no' if stray else 'yes'} |"
        self.problems += [
            f"{one.kind}, {one.began:.1f} to {one.over:.1f} s: {one.failure}" for one in lost[:20]
        ]
        if self.problems:
            yield "\nIt is not well:"
            yield from self.problems


def span(text: str) -> tuple[float, float]:
    """Read two numbers with a colon between them."""
    low, _, high = text.partition(":")
    found = float(low), float(high or low)
    if not 0 < found[0] <= found[1]:
        raise argparse.ArgumentTypeError(f"no span of time: {text!r}")
    return found


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--duration", type=float, default=120.0, help="seconds; 120 unless given")
    parser.add_argument("--rate", type=float, default=30.0, help="calls a second; 30 unless given")
    parser.add_argument(
        *("--cuts", "-c"),
        type=span,
        default=(20.0, 40.0),
        metavar="FROM:TO",
        help="seconds between two cuts; 20:40 unless given",
    )
    parser.add_argument(
        "--garbage", type=float, default=0.02, help="part of all datagrams; 0.02 unless given"
    )
    parser.add_argument("--hold", type=float, default=8.0, help="longest call in seconds; 8")
    parser.add_argument(
        "--grace", type=int, default=10, help="--orphan-grace of the server in seconds; 10"
    )
    parser.add_argument("--seed", default="1", help="of all that is random; 1 unless given")
    parser.add_argument(
        "--faults",
        type=lambda text: text.split(","),
        default=list(USUAL),
        metavar="FAULT,...",
        help="what a cut is, one of these each time: "
        + "; ".join(f"{name}: {what}" for name, what in FAULTS.items())
        + f". {','.join(USUAL)} unless given",
    )
    parser.add_argument(
        "--outbound", action="store_true", help="the server connects, for each request"
    )
    parser.add_argument(
        "--keep", default="", help="keep_calls of the application in seconds; it keeps none"
    )
    parser.add_argument("--logs", type=Path, help="where the logs go; otherwise nowhere")
    options = parser.parse_args()
    if not 0 <= options.garbage < 1:
        parser.error("--garbage is a part, from 0 to 1")
    for fault in set(options.faults) - set(FAULTS):
        parser.error(f"there is no such fault: {fault}")
    if options.outbound and "application-drain" in options.faults:
        parser.error("with --outbound there is one application only")
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.logs or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        for log in directory.glob("*.log"):
            log.unlink()
        soak = Soak(options, directory)
        asyncio.run(soak.run())
        print("\n".join(soak.report()), flush=True)
        if options.logs:
            soak.write_samples(directory / "samples.csv")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
