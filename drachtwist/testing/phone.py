"""A phone: what a test calls with, and is called at."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip import digest
from drachtwist.sip.encoding import encoded_body
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.message import Request, Response
from drachtwist.sip.status import reason_phrase
from drachtwist.testing.agent import (
    Agent,
    ClientTransaction,
    ServerTransaction,
    User,
    address_in,
    reply,
)
from drachtwist.testing.call import Call
from drachtwist.testing.errors import PhoneError
from drachtwist.testing.exchange import Exchange
from drachtwist.testing.history import Address
from drachtwist.testing.hosts import Host
from drachtwist.testing.links import Link, Message, What, matcher
from drachtwist.testing.media import OwnSdp
from drachtwist.testing.ports import Surroundings
from drachtwist.testing.serving import Server
from drachtwist.testing.transfers import referred_to
from drachtwist.transactions.machine import Machine

__all__ = ["Answers", "Phone", "Replies"]

Answers = Union[int, Sequence[int], Callable[[Call], object], None]  # noqa: UP007
"""What a phone does with a call: a status, several in order, a function, or nothing by itself."""

Replies = Mapping[str, Union[int, Callable[[Request], int]]]  # noqa: UP007
"""What a phone answers to other requests, by method: a status, or a function of the request."""

_FIRST_MEDIA_PORT = 40000
_TRYING_AFTER = 0.2
"""Seconds after which an INVITE that nobody answers gets a 100 (RFC 3261 section 17.2.1)."""


class Phone(User):
    """A user agent; :meth:`Network.phone` makes it."""

    def __init__(
        self,
        network: Surroundings,
        host: Host,
        server: Server,
        *,
        answers: Answers = None,
        rings: float | None = None,
        sdp: OwnSdp = None,
        password: str | None = None,
        replies: Replies | None = None,
        transport: str = "udp",
        domain: str | None = None,
        headers: HeadersLike = None,
        automatic: bool = True,
        port: int = 5060,
    ) -> None:
        if transport not in ("udp", "tcp"):
            raise PhoneError(f"a phone speaks 'udp' or 'tcp', not {transport!r}")
        self.network = network
        self.host = host
        self.name = host.name
        self.server = server
        self.answers = answers
        """What it does with calls; may be changed."""
        self.rings = rings
        """Seconds that it rings before that; None for not at all."""
        self.sdp = sdp
        """Its session description, if it has one of its own."""
        self.password = password
        self.replies: dict[str, int | Callable[[Request], int]] = dict(replies or {})
        """What it answers to requests other than the INVITE of a call."""
        self.headers = Headers(headers)
        """Headers that its INVITEs have."""
        self.domain = domain or server.host.host
        self.calls: list[Call] = []
        """All its calls, the oldest first."""
        self._by_id: dict[str, list[Call]] = {}
        self.requests: list[Request] = []
        """The requests that came outside of calls."""
        self.bindings: list[Exchange] = []
        """Its registrations."""
        self._numbers = itertools.count(1)
        self._media_ports = itertools.count(_FIRST_MEDIA_PORT, 2)
        self._ignored: list[list[Any]] = []
        self._nonces: dict[str, int] = {}
        self.agent = Agent(
            host, port, transport, network.datagrams, network.history, self, automatic=automatic
        )

    def __repr__(self) -> str:
        return f"<Phone {self.name} {self.agent.where[0]}:{self.agent.where[1]}>"

    # Who and where it is

    @property
    def uri(self) -> str:
        """Its Contact: where it is."""
        host, port = self.agent.where
        transport = "" if self.agent.transport == "udp" else f";transport={self.agent.transport}"
        return f"sip:{self.name}@{host}:{port}{transport}"

    @property
    def aor(self) -> str:
        """The address of its user, at the server or in its ``domain``."""
        return f"sip:{self.name}@{self.domain}"

    @property
    def link(self) -> Link:
        """What lies between it and the others."""
        return self.agent.link

    @property
    def received(self) -> list[Message]:
        """Every message that came, also those that came again."""
        return self.agent.received

    @property
    def sent(self) -> list[Message]:
        """Every message that it sent, also again."""
        return self.agent.sent

    @property
    def call(self) -> Call:
        """The last call that it has, whoever began it.

        :raises PhoneError: when it never had one.
        """
        if not self.calls:
            raise PhoneError(f"{self.name} has no call: nobody called, and it called nobody")
        return self.calls[-1]

    # Calls

    def invite(self, to: Any, *, sdp: OwnSdp = None, headers: HeadersLike = None) -> Call:
        """Call somebody.

        :param to: a user of the server, a URI, or another phone, which is called by its user.
        :param sdp: the offer, its own if None; an empty one leaves that to the other side.
        :param headers: further headers; they replace those of the same name.
        """
        number = next(self._numbers)
        local = f'"{self.name.capitalize()}" <{self.aor}>;tag={self.name}-{number}'
        uri = self.uri_of(to)
        call_id = f"{self.network.number}-{self.name}-{number}@{self.host.host}"
        call = Call(self, call_id, local, f"<{uri}>", uri)
        self._keep(call)
        call.begin(sdp, headers)
        self.settle()
        return call

    def ring(self, status: int = 180, **options: Any) -> Call:
        """Let the call that came ring; see :meth:`Call.ring`."""
        call = self._last("ring", lambda one: not one.outgoing and not one.up)
        call.ring(status, **options)
        return call

    def answer(self, **options: Any) -> Call:
        """Answer the call that came; see :meth:`Call.answer`."""
        call = self._last("answer", lambda one: not one.outgoing and not one.up)
        call.answer(**options)
        return call

    def refuse(self, status: int = 603, **options: Any) -> Call:
        """Refuse the call that came; see :meth:`Call.refuse`."""
        call = self._last("refuse", lambda one: not one.outgoing and not one.up)
        call.refuse(status, **options)
        return call

    def hang_up(self) -> Call:
        """End the call; see :meth:`Call.hang_up`."""
        call = self._last("end", lambda one: True)
        call.hang_up()
        return call

    def press(self, keys: str, **options: Any) -> None:
        """Press keys in the call; see :meth:`Call.press`."""
        self._last("press keys in", lambda one: one.up).press(keys, **options)

    def refer(self, to: Any, **options: Any) -> Exchange:
        """Transfer the call; see :meth:`Call.refer`."""
        return self._last("transfer", lambda one: one.up).refer(to, **options)

    def _last(self, what: str, fits: Callable[[Call], bool]) -> Call:
        for call in reversed(self.calls):
            if not call.over and fits(call):
                return call
        have = ", ".join(f"{one!r}" for one in self.calls) or "it never had any"
        raise PhoneError(f"{self.name} has no call to {what}: {have}")

    # Everything else

    def request(
        self,
        method: str,
        to: Any,
        *,
        headers: HeadersLike = None,
        body: str | bytes = "",
        content_type: str = "text/plain",
    ) -> Exchange:
        """Send a request outside of calls.

        :param to: as for :meth:`invite`.
        """
        number = next(self._numbers)
        uri = self.uri_of(to)
        fields = [
            ("Via", self.via()),
            ("Max-Forwards", "70"),
            ("From", f'"{self.name.capitalize()}" <{self.aor}>;tag={self.name}-{number}'),
            ("To", f"<{uri}>"),
            ("Call-ID", f"{self.network.number}-{self.name}-{number}@{self.host.host}"),
            ("CSeq", f"1 {method}"),
            ("Contact", f"<{self.uri}>"),
        ]
        request = Request(method, uri, fields, body)
        if body:
            request.set("Content-Type", content_type)
        given = Headers(headers)
        for name, _ in given.items():
            request.remove(name)
        for name, value in given.items():
            request.add(name, value)
        exchange = self._exchange(request, self.server_address)
        self.settle()
        return exchange

    def register(self, *, expires: int = 3600, contact: str | None = None) -> Exchange:
        """Register at the server, with the phone's password if it is asked for.

        :param expires: seconds; 0 to be reachable no more.
        :param contact: where it is to be called, instead of at its own address; ``*`` for all.
        """
        where = contact or f"<{self.uri}>"
        exchange = self.request(
            "REGISTER",
            f"sip:{self.domain}",
            headers={"To": f"<{self.aor}>", "Contact": where, "Expires": str(expires)},
        )
        self.bindings.append(exchange)
        return exchange

    def options(self, to: Any, *, headers: HeadersLike = None) -> Exchange:
        """Ask whether somebody is there."""
        return self.request("OPTIONS", to, headers=headers)

    def message(self, to: Any, text: str, *, headers: HeadersLike = None) -> Exchange:
        """Send a short message (RFC 3428)."""
        return self.request("MESSAGE", to, headers=headers, body=text)

    def subscribe(
        self, to: Any, event: str, *, expires: int = 3600, headers: HeadersLike = None
    ) -> Exchange:
        """Subscribe to something; the NOTIFYs are among :attr:`requests`."""
        given = Headers(headers)
        given.set("Event", event)
        given.set("Expires", str(expires))
        return self.request("SUBSCRIBE", to, headers=[*given.items()])

    def send(self, message: str | bytes | Message, to: Address | None = None) -> None:
        """Send a message as it is, for full control.

        :param message: a message; of a text, lines may end in LF alone.
        :param to: host and port; the server if None.
        """
        if isinstance(message, str):
            head, _, body = message.replace("\r\n", "\n").lstrip("\n").partition("\n\n")
            data = (head.rstrip("\n").replace("\n", "\r\n") + "\r\n\r\n" + body).encode()
        else:
            data = bytes(message)
        self.transmit(data, to or self.server_address)
        self.settle()

    def ignore(self, count: int | None = None, what: What = None) -> None:
        """Do nothing with the next messages that come, as if the phone had hung.

        :param count: how many; None for all from now on.
        :param what: which ones, as for :meth:`Link.lose`.
        """
        self._ignored.append([count, matcher(what)])

    def leave(self) -> None:
        """Take it off the network, without a word to anybody."""
        self.agent.close()

    def uri_of(self, to: Any) -> str:
        """Write whom a request is for as a URI.

        :raises PhoneError: for nobody.
        """
        if isinstance(to, Phone):
            return to.aor if to.server is self.server else to.uri
        text = str(to)
        if ":" in text:
            return text
        if "@" in text:
            return f"sip:{text}"
        if not text:
            raise PhoneError("say whom: a user, a URI or a phone")
        host = self.server.host.host
        port = self.server.port
        return f"sip:{text}@{host}" + (f":{port}" if port != 5060 else "")

    # What calls use

    @property
    def server_address(self) -> Address:
        """Where requests go that belong to no dialog."""
        return self.server.host.host, self.server.port

    def via(self) -> str:
        """Write a Via with a new branch."""
        return self.agent.via()

    def now(self) -> float:
        """Return the time."""
        return self.agent.seconds()

    def next_media_port(self) -> int:
        """Return a port for the sound of a call."""
        return next(self._media_ports)

    def next_hop(self, uri: str) -> Address:
        """Return where a URI leads; the server if that is not known."""
        return address_in(uri, self.host.internet.resolve) or self.server_address

    def transmit(self, data: bytes, target: Address) -> None:
        """Send octets."""
        self.agent.transmit(data, target)

    def ask(
        self, request: Request, target: Address, told: Callable[[Response | None], object]
    ) -> ClientTransaction:
        """Send a request."""
        return self.agent.ask(request, target, told)

    def watch(self, machine: Machine) -> None:
        """Watch the deadline of a machine."""
        self.agent.watch(machine)

    def forget(self, machine: Machine) -> None:
        """Watch it no more."""
        self.agent.forget(machine)

    def settle(self) -> None:
        """Let happen what takes no time."""
        self.network.settle()

    def remark(self, text: str) -> None:
        """Put a remark into the ladder."""
        self.network.history.remark(self.agent.where, text)

    def send_in(self, call: Call, request: Request) -> Exchange:
        """Send a request in the dialog of a call."""
        return self._exchange(request, call._next_hop(), call)

    def carry_keys(self, call: Call, keys: str) -> None:
        """Carry keys that are pressed in the sound of a call."""
        self.network.carry_keys(call, keys)

    def follow(self, call: Call, request: Request) -> None:
        """Call whom a REFER names, and tell who sent it how that goes."""
        try:
            target, headers = referred_to(request)
        except MessageError as error:
            self.remark(f"cannot follow the REFER: {error}")
            return

        def tell(status: int, state: str) -> None:
            if not call.over:
                call.request(
                    "NOTIFY",
                    headers={"Event": "refer", "Subscription-State": state},
                    body=f"SIP/2.0 {status} {reason_phrase(status)}\r\n",
                    content_type="message/sipfrag;version=2.0",
                )

        tell(100, "active;expires=60")
        other = self.invite(target, headers=headers)
        over = "terminated;reason=noresource"
        other.when_answered().addBoth(lambda _: tell(other.status or 408, over))

    def reply_to(self, request: Request) -> int | None:
        """Return what :attr:`replies` says of a request; None for nothing."""
        found = self.replies.get(request.method)
        return found(request) if callable(found) else found

    def with_credentials(self, request: Request, response: Response) -> Request | None:
        """Make a request again, with an answer to the challenge; None when that is no use."""
        if self.password is None:
            return None
        asked = "WWW-Authenticate" if response.status == 401 else "Proxy-Authenticate"
        given = "Authorization" if response.status == 401 else "Proxy-Authorization"
        try:
            challenge = digest.choose(response.get_parsed_header(asked) or ())
        except MessageError:
            return None
        if challenge is None or (request.has(given) and not challenge.stale):
            return None
        nonce_count = self._nonces[challenge.nonce] = self._nonces.get(challenge.nonce, 0) + 1
        try:
            credentials = digest.answer(
                challenge,
                username=self.name,
                password=self.password,
                method=request.method,
                uri=request.uri,
                body=encoded_body(request.body),
                nonce_count=nonce_count,
            )
        except LocalProtocolError as error:
            self.remark(str(error))
            return None
        again = Request.from_bytes(bytes(request))
        again.set("Via", self.via())
        again.set("CSeq", f"{request.cseq.number + 1} {request.method}")
        again.set(given, str(credentials))
        return again

    # What comes

    def passes(self, message: Message) -> bool:
        """Return whether to look at a message at all."""
        for rule in self._ignored:
            if rule[1](message):
                if rule[0] is not None:
                    rule[0] -= 1
                    if not rule[0]:
                        self._ignored.remove(rule)
                return False
        return True

    def requested(self, request: Request, transaction: ServerTransaction | None) -> None:
        """Take in a request."""
        call = self._find(request)
        if call is not None:
            call.requested(request, transaction)
        elif transaction is None:
            return  # an ACK to a call that is over
        elif request.to_tag:
            self.requests.append(request)
            self._requested_again(request, transaction)
        elif request.method == "INVITE":
            self._called(transaction)
        else:
            self.requests.append(request)
            status = self.reply_to(request)
            if status is None:
                known = request.method in ("OPTIONS", "MESSAGE", "NOTIFY", "INFO")
                status = 200 if known else 405
            transaction.send(self._reply(request, status))

    def _requested_again(self, request: Request, transaction: ServerTransaction) -> None:
        """Answer a request of a dialog that is no call: a NOTIFY of a subscription, say."""
        status = self.reply_to(request)
        if status is None:
            status = 200 if request.method == "NOTIFY" else 481
        transaction.send(self._reply(request, status))

    def _reply(self, request: Request, status: int) -> Response:
        response = reply(request, status, None, f"{self.name}-{next(self._numbers)}")
        response.set("Contact", f"<{self.uri}>")
        return response

    def _called(self, transaction: ServerTransaction) -> None:
        invite = transaction.request
        local = f"{invite.get('To')};tag={self.name}-{next(self._numbers)}"
        target = invite.contacts[0].uri if invite.contacts else invite.from_.uri
        call = Call(self, invite.call_id, local, invite.get("From") or "", target)
        replaced = self._replaced(invite)
        self._keep(call)
        call.invited(transaction)
        if replaced is not None:
            call.answer()
            replaced.hang_up()
            return
        if callable(self.answers):
            self.answers(call)
        elif self.answers is not None:
            self._answer_by_itself(call, self.answers)
        if not transaction.machine.status:
            self.host.callLater(_TRYING_AFTER, self._trying, call, transaction)

    def _trying(self, call: Call, transaction: ServerTransaction) -> None:
        if not transaction.machine.status:
            transaction.send(reply(transaction.request, 100))

    def _answer_by_itself(self, call: Call, answers: int | Sequence[int]) -> None:
        statuses = [answers] if isinstance(answers, int) else list(answers)
        final = [one for one in statuses if one >= 200]
        for status in statuses:
            if status < 200:
                call.ring(status)
        if self.rings is not None:
            if not call.ringing:
                call.ring()
            self.host.callLater(self.rings, self._final, call, final)
        else:
            self._final(call, final)

    def _final(self, call: Call, statuses: Sequence[int]) -> None:
        if call.over or call.up or not statuses:
            return
        if statuses[0] < 300:
            call.answer(status=statuses[0])
        else:
            call.refuse(statuses[0])

    def _replaced(self, invite: Request) -> Call | None:
        """Find the call that a new one is to take over (RFC 3891)."""
        text = invite.get("Replaces")
        if text is None:
            return None
        call_id, *params = [part.strip() for part in text.split(";")]
        tags = {name: tag for name, _, tag in (part.partition("=") for part in params)}
        for call in self.calls:
            if call.up and call.call_id == call_id and call.local_tag == tags.get("to-tag"):
                return call
        return None

    def cancelled(self, transaction: ServerTransaction) -> None:
        """The caller gave up."""
        for call in self._by_id.get(transaction.request.call_id, ()):
            if call._transaction is transaction:
                call.cancelled()

    def answered_again(self, response: Response) -> None:
        """A 2xx came again."""
        for call in self._by_id.get(response.call_id, ()):
            if call.outgoing:
                call.answered_again(response)

    def _find(self, request: Request) -> Call | None:
        """Find the call that a request is for."""
        to_tag, from_tag = request.to_tag, request.from_tag
        if to_tag:
            for call in reversed(self._by_id.get(request.call_id, ())):
                if call.local_tag == to_tag and call.remote_tag in ("", from_tag):
                    return call
        return None

    def _keep(self, call: Call) -> None:
        self.calls.append(call)
        self._by_id.setdefault(call.call_id, []).append(call)

    def _exchange(self, request: Request, target: Address, call: Call | None = None) -> Exchange:
        exchange = Exchange(request)

        def told(response: Response | None) -> None:
            if response is None:
                exchange.give_up()
                return
            if exchange.over and request.method == "INVITE" and response.status < 300:
                return  # the 2xx came again: its ACK goes again
            exchange.responses.append(response)
            if response.status < 200:
                return
            if call is not None and exchange.request.method == "INVITE" and response.status < 300:
                call.take_answer(response, exchange.request)
            if response.status in (401, 407):
                again = self.with_credentials(exchange.request, response)
                if again is not None:
                    if call is not None:
                        call._number = again.cseq.number
                    exchange.request = again
                    self.ask(again, target, told)
                    return
            exchange.end()

        self.ask(request, target, told)
        return exchange
