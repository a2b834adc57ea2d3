"""A telephone line for one command: an application, with a server of its own in the same process.

What the application asks for and what the server does with it is what every application gets: there
is no second SIP stack. The server listens on a port that is free, on all addresses, unless told
otherwise.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import sys
from typing import Any

from twisted.internet.error import CannotListenError

from drachtwist.app.received import ReceivedResponse
from drachtwist.app.srf import Srf
from drachtwist.app.targets import complete_uri
from drachtwist.cli.outcomes import CommandError, Exit, of_status
from drachtwist.cli.parsing import Parser, header
from drachtwist.cli.picture import Picture, Screen
from drachtwist.errors import (
    CommandRefused,
    ConnectionFailed,
    ConnectionLost,
    DrachtwistError,
    LocalProtocolError,
    MessageError,
    SipError,
)
from drachtwist.net.selfsigned import make_identity
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.fields import Address
from drachtwist.sip.uri import SipUri, Uri
from drachtwist.tracing import Trace

__all__ = [
    "Line",
    "add_line_options",
    "advice",
    "explained",
    "outcome_of",
    "own_address",
    "prepare",
]

ANY_PORT = "sip:*:0;transport=udp,tcp"
ANY_TLS_PORT = "sip:*:0;transport=tls"
PASSWORD = "DRACHTWIST_PASSWORD"
"""The environment variable that has the password for ``--auth``."""


def add_line_options(parser: Parser) -> None:
    """Add the options of every command that telephones."""
    who = parser.add_argument_group("who and where")
    who.add_argument(
        "--from",
        dest="caller",
        metavar="ADDRESS",
        help="who is calling: alice, alice@example.net, or '\"Alice\" <sip:alice@example.net>'",
    )
    who.add_argument(
        "--auth",
        metavar="USER[:PASSWORD]",
        help=f"answer challenges; without a password it is taken from {PASSWORD} in the"
        " environment, or asked for",
    )
    who.add_argument("--proxy", metavar="URI", default="", help="send it there, whatever URI is")
    who.add_argument(
        "-H",
        "--header",
        dest="headers",
        metavar="'NAME: VALUE'",
        type=header,
        action="append",
        default=[],
        help="a further header; may be repeated",
    )
    who.add_argument(
        "--contact",
        metavar="URI",
        help=f"where to listen, with the port for answers; {ANY_PORT} unless given",
    )
    who.add_argument("--ca", metavar="FILE", help="certificates to trust (PEM) over TLS")
    who.add_argument("--insecure", action="store_true", help="verify no certificate over TLS")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("-v", "--verbose", action="store_true", help="whole messages")
    shown.add_argument("-q", "--quiet", action="store_true", help="nothing but errors")


class Line:
    """What a command telephones with.

    :param reactor: the reactor.
    :param options: what :func:`add_line_options` adds, read.
    :param peer: what the other side is called in the picture.
    :param draws: whether messages are drawn as they pass.
    """

    def __init__(self, reactor: Any, options: Any, peer: str, *, draws: bool) -> None:
        self._command = options.command
        self._options = options
        self.reactor = reactor
        self.screen = Screen(quiet=options.quiet)
        """Where everything is shown."""
        self.picture = Picture(self.screen, peer, whole=options.verbose)
        """The ladder of what passes."""
        self.srf = Srf(reactor=reactor)
        self.server = DrachtioServer(self._config(), reactor)
        self.trace = Trace()
        if draws or options.verbose:
            self.trace.add(self.picture)

    def _config(self) -> ServerConfig:
        options = self._options
        contacts = [options.contact or ANY_PORT]
        tls = TlsOptions(verify=not options.insecure)
        if _wants_tls(options.uri) or _wants_tls(options.proxy):
            if options.contact is None:
                contacts.append(ANY_TLS_PORT)
            tls = _named(socket.gethostname(), verify=not options.insecure)
        return ServerConfig(
            admin_port=0,
            secret=secrets.token_urlsafe(24),
            contacts=tuple(contacts),
            tls=tls,
            peer_ca=options.ca,
            verify_sips=not options.insecure,
        )

    async def open(self) -> None:
        """Be ready to send.

        :raises CommandError: when that cannot be.
        """
        server = self.server
        server.trace = self.trace
        try:
            listening = server.when_listening()
            server.startService()
            await listening
        except (OSError, CannotListenError, DrachtwistError) as error:
            raise self.failed(str(error)) from None
        port = server.admin_port
        assert port is not None, "the configuration asks for one"
        connection = self.srf.connect(
            "tcp:127.0.0.1:" + str(port), secret=server.config.secret, ping_interval=None
        )
        await connection.when_ready()

    async def close(self, *, hurry: bool = False) -> None:
        """Hang up, and close everything.

        :param hurry: do not wait for somebody who says nothing.
        """
        stopping = self.srf.stop()
        if not hurry:
            await stopping
        await self.server.stopService()
        await stopping

    # What it says

    def failed(self, text: str, exit: Exit = Exit.FAILED) -> CommandError:
        """Make the error that ends the command."""
        return CommandError(f"drachtwist {self._command}: {text}", exit)

    @property
    def auth(self) -> tuple[str, str] | None:
        """User name and password, if there are any."""
        found: tuple[str, str] | None = self._options.credentials
        return found

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers that were asked for, From and To among them."""
        options = self._options
        given: set[str] = {name.lower() for name, _ in options.headers}
        # Parameters of the URI would end up behind it, as with the real server.
        own = [("From", options.caller), ("To", f"<{options.uri}>")]
        return [one for one in own if one[0].lower() not in given] + list(options.headers)


def prepare(parser: Parser, options: Any) -> None:
    """Check what the options say, before anything starts, and find what belongs to them.

    :raises CommandError: when it cannot be meant.
    """
    options.command = parser.prog.rpartition(" ")[2]
    try:
        options.uri = complete_uri(options.uri, bool(options.proxy))
        if options.proxy:
            options.proxy = complete_uri(options.proxy, False)
    except (LocalProtocolError, MessageError) as error:
        parser.error(str(error))
    options.credentials = _credentials(parser, options.auth)
    caller = options.caller
    if caller is None:
        caller = options.credentials[0] if options.credentials else "drachtwist"
    if "<" not in caller:
        if "@" not in caller and ":" not in caller:
            caller += "@localhost"  # in whose place the server puts its own address
        caller = f"<{caller if ':' in caller else f'sip:{caller}'}>"
    try:
        Address.parse(caller)
    except MessageError as error:
        parser.error(f"--from: {error}")
    options.caller = caller


def _credentials(parser: Parser, auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    user, colon, password = auth.partition(":")
    if not user:
        parser.error("--auth: who? It is USER or USER:PASSWORD")
    if not colon:
        found = os.environ.get(PASSWORD)
        if found is None:
            if not sys.stdin.isatty():
                parser.error(f"--auth: there is no password; {PASSWORD} may have it")
            found = getpass.getpass(f"password of {user}: ")
        password = found
    return user, password


def _wants_tls(uri: str) -> bool:
    try:
        parsed = Uri.parse(uri)
    except MessageError:
        return False
    return isinstance(parsed, SipUri) and (parsed.secure or parsed.transport == "tls")


def _named(name: str, *, verify: bool) -> TlsOptions:
    made = make_identity([name])
    return TlsOptions(key=made.key, certificate=made.certificate, verify=verify)


def own_address(uri: str) -> str:
    """Return the address of this machine that somebody is reached from.

    Nothing is sent for that. It is that of the machine itself when the name cannot be found.
    """
    try:
        parsed = Uri.parse(uri)
    except MessageError:
        return "127.0.0.1"
    host = parsed.address if isinstance(parsed, SipUri) else ""
    try:
        found = socket.getaddrinfo(host, 5060, type=socket.SOCK_DGRAM)
        family, _, _, _, where = found[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def outcome_of(response: Any) -> Exit:
    """Return the exit status for a final response."""
    made_up = isinstance(response, ReceivedResponse) and not response.source_address
    return of_status(response.status, made_up=made_up)


def explained(error: BaseException | None, uri: str) -> tuple[str, Exit]:
    """Say why something was not answered, and how the command ends.

    :raises BaseException: the error itself, when it is none that is expected.
    """
    if isinstance(error, SipError):
        response = error.response
        exit = of_status(error.status) if response is None else outcome_of(response)
        if exit is Exit.NO_ANSWER:
            return f"no answer from {uri} ({error.status} {error.reason})", exit
        return f"{error.status} {error.reason}{_advice(error.status)}", exit
    if isinstance(error, CommandRefused):
        return f"{uri} cannot be reached: {error}", Exit.NO_ANSWER
    if isinstance(error, (ConnectionFailed, ConnectionLost, LocalProtocolError)):
        return str(error), Exit.FAILED
    assert error is not None, "something failed"
    raise error


def _advice(status: int) -> str:
    if status in (401, 407):
        return "; --auth USER:PASSWORD answers that, if they are right"
    return ""


def advice(response: Any) -> str:
    """Return what may be done about a refusal."""
    return _advice(response.status)
