"""The embedded server as a process: started, told to read its files again, and stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from drachtwist.errors import DrachtwistError
from drachtwist.hosting.collector import Collector
from drachtwist.hosting.process import give_up, reload_on_sighup, stop_on_sigterm
from drachtwist.hosting.tracing import Tracing
from drachtwist.net.logs import Logger
from drachtwist.server.config import ServerConfig
from drachtwist.server.configfile import (
    Finding,
)
from drachtwist.server.hiding import without_password
from drachtwist.server.limits import (
    show_limit,
)

__all__ = ["ServerService", "describe"]


def describe(config: ServerConfig, path: str | None, findings: Sequence[Finding]) -> list[str]:
    """Write settings down for people, without secrets.

    :param path: the configuration file, if one was read.
    """
    lines = [f"configuration file: {path or 'none'}"]
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if one.name == "secret":
            shown = "(hidden)"
        elif one.name == "request_handlers":
            shown = ", ".join(
                f"{handler.method} {handler.http_method} {without_password(handler.uri)}"
                for handler in value
            )
        elif one.name == "tls" and value is not None:
            names = ("key", "certificate", "chain", "dh_parameters", "ciphers", "verify_clients")
            said = [(name, getattr(value, name)) for name in names]
            said.append(("verify", value.verify))
            said.append(("minimum", value.minimum if value.has_identity else None))
            shown = ", ".join(f"{name} {text}" for name, text in said if text)
        elif one.name == "limits":
            limits = config.limits.settled(dials=bool(config.request_handlers))
            given = dataclasses.asdict(limits)
            shown = ", ".join(f"{name} {show_limit(number)}" for name, number in given.items())
        elif isinstance(value, (tuple, frozenset)):
            items = sorted(value) if isinstance(value, frozenset) else value
            shown = ", ".join(without_password(str(item)) for item in items)
        else:
            shown = "" if value is None else without_password(str(value))
        lines.append(f"{one.name}: {shown or '-'}")
    lines += [f"not obeyed: {finding}" for finding in findings]
    return lines


def _then(result: Any, do: Callable[[], object]) -> Any:
    do()
    return result


class ServerService(Service):
    """The server, as twistd starts and stops it."""

    _log = Logger(namespace="drachtwist")

    def __init__(
        self,
        config: ServerConfig,
        reactor: Any,
        path: str | None = None,
        findings: Sequence[Finding] = (),
        reread: Callable[[], ServerConfig] | None = None,
    ) -> None:
        from drachtwist.server.service import DrachtioServer

        self._reactor = reactor
        self._path = path
        self._findings = findings
        self._reread = reread
        self._waits = False
        self.server = DrachtioServer(config, reactor)
        self.tracing: Tracing | None = None
        """What is done with the messages that pass."""
        self.collector: Collector | None = None
        """What keeps Python's collector from stopping the process."""

    def privilegedStartService(self) -> None:
        """Open the ports, before privileges are given up."""
        super().privilegedStartService()
        self._trace()
        self._wait()
        self.server.privilegedStartService()

    def _trace(self) -> None:
        if self.tracing is not None and self.tracing.trace is None:
            self.server.trace = self.tracing.use()
            self.tracing.start()

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            # Before it says that it listens: whoever reads that may send signals.
            stop_on_sigterm(self._reactor, self.server.hurry)
            reload_on_sighup(self._reactor, self.reload)
            self.server.when_listening().addCallbacks(self._opened, self._failed)

    def startService(self) -> None:
        """Open the ports; a port that cannot be opened ends the process."""
        super().startService()
        if self._path is not None:
            self._log.info("configured by {path}", path=self._path)
        for finding in self._findings:
            self._log.warn("not obeyed: {finding}", finding=finding)
        self._trace()
        self._wait()
        if self.collector is not None:
            self.collector.start()
        self.server.startService()

    def stopService(self) -> Deferred[Any]:
        """Close the ports."""
        super().stopService()
        if self.collector is not None:
            self.collector.stop()
        stopped = self.server.stopService()
        if self.tracing is not None:
            tracing = self.tracing
            stopped.addBoth(_then, tracing.stop)
        return stopped

    @property
    def is_idle(self) -> bool:
        """Whether no call is up."""
        core = self.server.core
        return core is None or not len(core.dialogs)

    def reload(self) -> None:
        """Read TLS files and the list of spammers again; calls and connections stay as they are."""
        config = None
        if self._reread is not None:
            try:
                config = self._reread()
            except DrachtwistError as error:
                self._log.error("everything stays as it was: {error}", error=error)
                return
        if not self.server.reload(config):
            self._log.info("read again: keys, certificates, authorities, spammers")

    def _opened(self, _: object) -> None:
        # Whoever reads it may take it for the sign that the process is up, and can be stopped.
        self._reactor.callWhenRunning(self._listening)

    def _listening(self) -> None:
        self._log.info(
            "listening: SIP on {sip}; applications on {admin}",
            sip=", ".join(self.server.sip_addresses),
            admin=", ".join(
                f"{kind}:{port}"
                for kind, port in (
                    ("tcp", self.server.admin_port),
                    ("tls", self.server.admin_tls_port),
                )
                if port
            )
            or "no port",
        )
        if self.server.prometheus_port is not None:
            self._log.info("numbers on port {port}", port=self.server.prometheus_port)

    def _failed(self, failure: Failure) -> None:
        known = failure.check(DrachtwistError, OSError, CannotListenError) is not None
        problem = f"the server cannot start: {failure.getErrorMessage()}"
        give_up(self._reactor, problem, None if known else failure)
