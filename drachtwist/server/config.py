"""What an embedded server is told, as one frozen value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from drachtwist.errors import LocalProtocolError, MessageError, RemoteProtocolError
from drachtwist.net.contacts import Contact
from drachtwist.net.names import name_server
from drachtwist.net.tls import PemSource, TlsOptions
from drachtwist.server.hiding import without_password
from drachtwist.server.limits import ServerLimits
from drachtwist.server.spammers import Spammers
from drachtwist.sip.uri import SipUri, Uri
from drachtwist.transactions.timing import Timing
from drachtwist.wire.decisions import AppAddress

__all__ = ["SERVER_TIMING", "Contact", "RequestHandler", "ServerConfig"]

SERVER_TIMING = Timing(request_step=1.0, ring=185.0)
"""RFC 3261's timers, but for two habits of the real server: a request is repeated for the first
time after a second, and a called party may ring for 185 seconds."""

_DIRECT = re.compile(r"(tcp|tls)://([^/?#]*)/?")


@dataclass(frozen=True, slots=True)
class RequestHandler:
    """Who decides about new requests: a web application, or an application that is connected to.

    :raises LocalProtocolError: when the URI is neither ``http://`` or ``https://`` nor
        ``tcp://host:port`` or ``tls://host:port``.
    """

    uri: str = field(repr=False)
    """It may hold a password, which is not shown."""
    method: str = "*"
    """The SIP method that it is for; ``*`` for all that have no handler of their own."""
    http_method: str = "GET"
    """``GET`` or ``POST``, which takes the SIP message along."""
    verify_peer: bool = False
    """Whether the certificates of applications that it leads to over TLS are verified; those of web
    applications always are."""
    address: AppAddress | None = field(init=False, repr=False)
    """Where the application listens; None for a web application."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", self.method.upper())
        object.__setattr__(self, "http_method", self.http_method.upper())
        object.__setattr__(self, "address", None)
        if self.http_method not in ("GET", "POST"):
            raise LocalProtocolError(f"web applications are asked by GET or POST: {self}")
        if re.fullmatch(
            r"https?://([^\s/?#@]*@)?([^\s/?#@:\[]+|\[[^\s/?#@]+\])(:[0-9]*)?([/?#]\S*)?", self.uri
        ):
            return
        found = _DIRECT.fullmatch(self.uri)
        if found is None:
            raise LocalProtocolError(
                f"not a request handler: {self}"
                " (http://..., https://..., tcp://host:port or tls://host:port)"
            )
        try:
            address = AppAddress.parse(f"{found[2]};transport={found[1]}")
        except RemoteProtocolError:
            raise LocalProtocolError(f"no host and port in {self}") from None
        object.__setattr__(self, "address", address)

    def __str__(self) -> str:
        return without_password(self.uri)

    def __repr__(self) -> str:
        return (
            f"RequestHandler(uri={str(self)!r}, method={self.method!r},"
            f" http_method={self.http_method!r}, verify_peer={self.verify_peer!r})"
        )


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The settings of a :class:`~drachtwist.server.service.DrachtioServer`."""

    admin_host: str = "127.0.0.1"
    """The address that applications connect to."""
    admin_port: int | None = 9022
    """The TCP port that applications connect to; 0 for any free one, None for none."""
    admin_tls_port: int | None = None
    """The same with TLS."""
    secret: str = field(default="cymru", repr=False)
    """What applications have to show."""
    contacts: tuple[str | Contact, ...] = ("sip:127.0.0.1:5060;transport=udp,tcp",)
    """Where SIP is served, as :meth:`drachtwist.net.sip.transports.SipTransports.listen` reads it:
    ``sip:HOST:PORT;transport=udp,tcp``, where the host may be ``*`` and the port 0. A
    :class:`Contact` also says what is known of the place elsewhere: external address and names."""
    request_handlers: tuple[RequestHandler, ...] = ()
    """Applications to connect to. The first one for a method counts."""
    tls: TlsOptions | None = None
    """Key and certificate of the TLS ports, for SIP and for applications; and, by ``verify`` and
    ``ca``, whether the certificates of all SIP peers that are connected to over TLS are verified,
    and by the word of whom."""
    peer_ca: PemSource = None
    """Whom to trust when connecting to SIP peers, instead of ``ca`` of ``tls`` or the system's
    authorities."""
    verify_sips: bool = True
    """Whether the certificates of SIP peers that ``sips:`` URIs lead to are verified even if those
    of others are not (RFC 3261 section 26.3.1): they have to be for the domain of the URI, as RFC
    5922 says. The real server never does that."""
    verify_applications: bool = False
    """Whether the certificates of all applications that are connected to over TLS are verified:
    who signed them, and whether they are for the host that was asked for. The real server never
    does that."""
    application_ca: PemSource = None
    """Whom to trust then, and for web applications, instead of the system's authorities."""
    timing: Timing = SERVER_TIMING
    """The timers of SIP transactions."""
    answer_within: float = 64.0
    """Seconds that an application has for its first response to a new request."""
    orphan_grace: float | None = 60.0
    """Seconds that a call goes on whose application is gone, unless somebody takes it, until it is
    ended with a BYE; 0 for none, None for any time, as the real server. Applications of this
    package try to come back every 30 seconds or more often, and then end their calls."""
    max_orphans: int = 10_000
    """How many such calls there may be; of more, the oldest are ended."""
    cdrs: bool = False
    """Whether call detail records are written."""
    outbound_proxy: str | None = None
    """A SIP URI that new requests are sent to instead of to their own, unless they name a route."""
    name_servers: tuple[str, ...] = ()
    """Addresses of the name servers, each with a port behind a colon if it is not 53; those of the
    system unless given."""
    udp_mtu: int | None = 0
    """Bytes of the longest request that goes over UDP where its URI names no transport; longer ones
    go over TCP. 0 for the 1300 of RFC 3261, None for requests of any length."""
    default_refresher: str | None = None
    """Who refreshes a session when the caller leaves that open: ``uac``, ``uas``, or None for no
    session timer."""
    shortest_session: int = 90
    """The shortest interval of a session timer, in seconds (Min-SE of RFC 4028): a caller that asks
    for less gets this, and a refresh that does is refused with 422."""
    nat_detection: str = "usual"
    """``usual``: answer where a request came from if its Contact is not that address;
    ``aggressive``: also if its Contact or Record-Route says ``nat=yes``; ``off``: never."""
    spammers: Spammers | None = None
    """Requests to refuse, or to pass over, before anything else."""
    reject_register_with_no_realm: bool = False
    """Whether a REGISTER for an IPv4 address instead of a domain is refused with 403."""
    options_user_agent: str | None = None
    """The User-Agent whose OPTIONS are answered 200 without an application."""
    always_send_180: bool = False
    """Whether every new INVITE is answered 180 at once."""
    extensions: frozenset[str] = frozenset()
    """Option tags that callers may require besides the registered ones; ``*`` for any. A request
    that requires others is answered 420. Where the server is a proxy, ``*`` does not count for
    Proxy-Require: no application can do for the proxy what that names."""
    local_domain: str | None = None
    """A domain that, with those below it, stands for this server in requests to be proxied."""
    udp_buffer_size: int | None = None
    """Bytes that the system is to keep for each UDP socket and direction."""
    listen_backlog: int = 512
    """How many connections to a SIP port may wait to be accepted: 1 to 1000."""
    max_timeouts: int = 0
    """After how many requests in a row without any response a connection to a SIP peer is closed;
    0 for never."""
    tcp_keepalive: int = 45
    """Seconds between two probes of an idle connection to an application; 0 for none."""
    prometheus_host: str = "127.0.0.1"
    """The address that numbers for Prometheus are served on."""
    prometheus_port: int | None = None
    """The port for it; 0 for any free one, None for no numbers at all."""
    capture_host: str | None = None
    """The address or name of Homer, which all SIP is sent to as HEP3; None for nobody."""
    capture_port: int = 9060
    """Its UDP port."""
    capture_id: int = 0
    """The number that it knows this server by: 0 to 4294967295."""
    log_calls: bool = False
    """Whether there is a line in the log for each call when it is over; ``twistd drachtio-server``
    writes them."""
    log_level: str = "info"
    """What is logged, where a process is this server's: ``notice``, ``error``, ``warning``,
    ``info`` or ``debug``; see :func:`drachtwist.net.logs.set_level`."""
    require_authentication: bool = True
    """Whether commands are refused before the right secret was shown. The real server carries
    them out."""
    limits: ServerLimits = field(default_factory=ServerLimits)
    """What peers may cost: connections, memory and time."""
    version: str = "v0.9.10+drachtwist"
    """What applications are told on authentication: the version whose behaviour this is, and which
    server it is."""

    def __post_init__(self) -> None:
        for name in ("contacts", "request_handlers", "name_servers", "extensions"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise LocalProtocolError(f"{name} is a list, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, "extensions", frozenset(tag.lower() for tag in self.extensions))
        for name, allowed in (
            ("default_refresher", (None, "uac", "uas")),
            ("nat_detection", ("usual", "aggressive", "off")),
        ):
            if getattr(self, name) not in allowed:
                raise LocalProtocolError(f"{name} is one of {allowed}, not {getattr(self, name)!r}")
        self._check_numbers()
        self._check_addresses()

    def _check_numbers(self) -> None:
        if self.shortest_session < 1:
            raise LocalProtocolError(
                f"a session lasts a second or more, not {self.shortest_session}"
            )
        if self.max_orphans < 0 or (self.orphan_grace is not None and not self.orphan_grace >= 0):
            raise LocalProtocolError(
                "orphan_grace and max_orphans are numbers from 0 on, not"
                f" {self.orphan_grace!r} and {self.max_orphans!r}"
            )
        if self.udp_mtu is not None and self.udp_mtu < 0:
            raise LocalProtocolError(f"udp_mtu is a number of bytes, not {self.udp_mtu!r}")
        for name, most in (("capture_port", 65535), ("capture_id", (1 << 32) - 1)):
            if not 0 <= getattr(self, name) <= most:
                raise LocalProtocolError(f"{name} is a number from 0 to {most}")
        for name, most in (("listen_backlog", 1000), ("udp_buffer_size", (1 << 31) - 1)):
            number = getattr(self, name)
            if number is not None and not 1 <= number <= most:
                raise LocalProtocolError(f"{name} is a number from 1 to {most}, not {number!r}")

    def _check_addresses(self) -> None:
        for contact in self.contacts:
            if not isinstance(contact, (str, Contact)):
                raise LocalProtocolError(f"a contact is a text or a Contact, not {contact!r}")
        if not self.contacts:
            raise LocalProtocolError("a server needs a contact to serve SIP on")
        for server in self.name_servers:
            name_server(server)
        if self.outbound_proxy is not None:
            try:
                proxy = Uri.parse(self.outbound_proxy)
            except MessageError:
                proxy = None
            if not isinstance(proxy, SipUri):
                raise LocalProtocolError(
                    f"the outbound proxy is a SIP URI, not {self.outbound_proxy!r}"
                )
