"""Softphones that none of us wrote: baresip and linphone, with sound and without a screen.

Each is a process with a directory of its own. They send a tone instead of a voice, and baresip
keeps what it hears, so that a test can tell who hears whom.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.protocols.basic import NetstringReceiver

from tests.interop.peers import PATIENCE, InteropTestCase, Peer, free_ports, is_bound, need_program

RATE = 8000
"""Samples a second of what is heard: PCMU and PCMA have no other."""
_RATE = re.compile(rb"audio=[0-9]+/([0-9]+) ")
"""The bits a second that come in, as baresip prints them all the time."""
TONES = {"ann": 425, "bob": 1000, "carol": 1700}
"""What each of them says, in Hz."""


def loudness(samples: list[int], tone: int) -> float:
    """Return which part of the power of a sound is a tone (Goertzel's algorithm).

    :param samples: the sound.
    :param tone: in Hz.
    :returns: from 0 to 1; 0 for silence.
    """
    power = sum(sample * sample for sample in samples)
    if not power:
        return 0.0
    factor = 2 * math.cos(2 * math.pi * tone / RATE)
    last = before = 0.0
    for sample in samples:
        last, before = sample + factor * last - before, last
    found = last * last + before * before - factor * last * before
    return 2 * found / (len(samples) * power)


class _Remote(NetstringReceiver):
    """What a baresip is controlled with: JSON in netstrings."""

    def __init__(self, heard: Callable[[dict[str, Any]], None]) -> None:
        self._heard = heard

    def stringReceived(self, string: bytes) -> None:
        """Take an event, or the response to a command."""
        self._heard(json.loads(string))


class Baresip:
    """A baresip that is registered.

    :param test: what runs it.
    :param name: of the user: ``ann``, ``bob``, ...
    :param domain: where it registers: host and port.
    :param answers: whether it answers calls by itself.
    """

    def __init__(self, test: InteropTestCase, name: str, domain: str, *, answers: bool) -> None:
        need_program("baresip", "baresip-core")
        self.name = name
        self.directory = test.directory / name
        self.directory.mkdir()
        self._test = test
        self._events: list[dict[str, Any]] = []
        self._waiting: list[tuple[str, Deferred[None]]] = []
        self._heard = 0
        # For SIP two ports (the second is for TLS), one for control, some pairs for sound.
        first = free_ports(16)
        self._control = first + 2
        modules = Path("/usr/lib/baresip/modules")
        settings = {
            "poll_method": "epoll",
            "sip_listen": f"127.0.0.1:{first}",
            "call_max_calls": "4",
            "audio_player": "aubridge,nobody",
            "audio_alert": "aubridge,alert",
            "audio_source": f"ausine,{TONES[name]}",
            "ausrc_srate": "48000",
            "ausrc_channels": "2",
            "rtp_ports": f"{first + 4}-{first + 15}",
            "net_interface": "127.0.0.1",
            "module_path": str(modules),
            "snd_path": name,  # relative: it has no room for long names
            "ctrl_tcp_listen": f"127.0.0.1:{self._control}",
        }
        lines = [f"{key} {value}" for key, value in settings.items()]
        lines += [f"module {one}.so" for one in ("g711", "ausine", "aubridge", "sndfile")]
        lines += [f"module_tmp {one}.so" for one in ("uuid", "account")]
        lines += [f"module_app {one}.so" for one in ("menu", "ctrl_tcp")]
        self._write("config", *lines)
        mode = "auto" if answers else "manual"
        parameters = f"auth_user={name};auth_pass=secret-{name};answermode={mode};regint=600"
        self._write("accounts", f"<sip:{name}@{domain}>;{parameters}")
        self._write("contacts", "")
        self.process: Peer

    def _write(self, name: str, *lines: str) -> None:
        (self.directory / name).write_text("\n".join(lines) + "\n", "utf-8")

    async def start(self) -> None:
        """Start it, and control it."""
        self.process = self._test.spawn(
            f"baresip {self.name}", "baresip", "-f", str(self.directory), "-s", TERM="dumb"
        )
        await self._test.comes_true(
            lambda: is_bound(self._control, "tcp"), f"{self.name} to listen", self.process
        )
        endpoint = HostnameEndpoint(cast(Any, reactor), "127.0.0.1", self._control)
        self._remote = await connectProtocol(endpoint, _Remote(self._take))

    def stop(self) -> None:
        """Leave it alone; the test ends the process."""
        self._remote.transport.loseConnection()

    def command(self, name: str, parameters: str = "") -> None:
        """Press a button."""
        text = json.dumps({"command": name, "params": parameters, "token": name})
        self._remote.sendString(text.encode())

    def _take(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        kind = event.get("type", "")
        for waiting in [one for one in self._waiting if one[0] == kind]:
            self._waiting.remove(waiting)
            self._events.clear()
            waiting[1].callback(None)

    def when(self, kind: str) -> Deferred[None]:
        """Wait for an event, which was not waited for yet: ``CALL_ESTABLISHED``, ..."""
        waiting: Deferred[None] = Deferred()
        at = [number for number, event in enumerate(self._events) if event.get("type") == kind]
        if at:
            del self._events[: at[0] + 1]
            waiting.callback(None)
        else:
            self._waiting.append((kind, waiting))

        def give_up(*_: object) -> None:
            raise AssertionError(f"no {kind}: {self.process}")

        return waiting.addTimeout(PATIENCE, cast(Any, reactor), give_up)

    def _sound(self) -> list[int]:
        """Return what it has heard in its last call, as far as that is written.

        baresip 1.0 writes no more once a session was changed.
        """
        files = sorted(self.directory.glob("dump-*-dec.wav"))
        data = files[-1].read_bytes()[44:] if files else b""
        return list(struct.unpack(f"<{len(data) // 2}h", data[: len(data) // 2 * 2]))

    async def hears(self, who: str) -> None:
        """Wait until what it heard last, half a second long, is somebody's tone."""
        length = RATE // 2

        def heard() -> bool:
            sound = self._sound()[-length:]
            return len(sound) == length and loudness(sound, TONES[who]) > 0.9

        await self._test.comes_true(heard, f"{self.name} to hear {who}", self.process)

    async def receives(self, sound: bool) -> None:
        """Wait until sound comes in at full rate, or none at all."""
        said = len(self.process.output)

        def right() -> bool:
            rates = _RATE.findall(self.process.output[said:])
            return bool(rates) and (int(rates[-1]) > 60_000 if sound else int(rates[-1]) < 1_000)

        what = f"{self.name} to receive {'sound' if sound else 'silence'}"
        await self._test.comes_true(right, what, self.process)


class Linphone:
    """A linphone that is driven by its commands.

    :param test: what runs it.
    :param name: of the user.
    :param registrar: host and port of where it registers; nowhere if None.
    """

    def __init__(self, test: InteropTestCase, name: str, registrar: str | None = None) -> None:
        need_program("linphonec", "linphone-cli")
        self._test = test
        self.directory = test.directory / name
        for where in (".local/share/linphone", ".config/linphone"):
            (self.directory / where).mkdir(parents=True)
        self._log = self.directory / "linphone.log"
        port = free_ports(4)
        sections: dict[str, dict[str, object]] = {
            "sip": {
                "sip_port": port,
                "sip_tcp_port": port,
                "sip_tls_port": -1,
                "bind_address": "127.0.0.1",
                "use_ipv6": 0,
                "guess_hostname": 0,
                "contact": f"sip:{name}@127.0.0.1",
            },
            "rtp": {"audio_rtp_port": port + 2},
            "sound": {"echocancellation": 0},
            "video": {"enabled": 0},
        }
        if registrar is not None:
            sections["sip"]["default_proxy"] = 0
            sections["proxy_0"] = {
                "reg_proxy": f"sip:{registrar}",
                "reg_identity": f"sip:{name}@{registrar}",
                "reg_expires": 600,
                "reg_sendregister": 1,
                "publish": 0,
            }
            sections["auth_info_0"] = {"username": name, "passwd": f"secret-{name}"}
        lines = []
        for section, settings in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{key}={value}" for key, value in settings.items()]
        (self.directory / "rc").write_text("\n".join(lines) + "\n", "utf-8")
        self.process: Peer

    async def start(self) -> None:
        """Start it, with files in place of a sound card, and wait until it listens."""
        arguments = ("-c", str(self.directory / "rc"), "-l", str(self._log), "-d", "6")
        self.process = self._test.spawn(
            "linphonec", "linphonec", *arguments, HOME=str(self.directory), TERM="dumb"
        )
        self.command("soundcard use files")
        await self.logs("Creating listening point")

    def command(self, line: str) -> None:
        """Type a command."""
        transport = cast(Any, self.process.transport)
        transport.write(f"{line}\n".encode())

    def log(self) -> str:
        """Return what it logged."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    async def logs(self, text: str) -> None:
        """Wait until it has logged a text."""
        await self._test.comes_true(
            lambda: text in self.log(), f"linphone to log {text}", self.process
        )
