"""A call of a phone: the dialog, what was said of the sound, what came from the other side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from twisted.internet.defer import Deferred, fail, succeed

from drachtwist.errors import MessageError, SipError
from drachtwist.net.observers import Observers
from drachtwist.sip.derived import cancel_for
from drachtwist.sip.fields import Address
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.message import Message, Request, Response
from drachtwist.sip.sdp import Sdp
from drachtwist.testing.agent import ClientTransaction, ServerTransaction, reply
from drachtwist.testing.errors import PhoneError
from drachtwist.testing.exchange import Exchange
from drachtwist.testing.media import (
    DIGITS,
    OwnSdp,
    answer_to,
    event_format,
    goes,
    offer_of,
    place_of,
    sdp_in,
)
from drachtwist.testing.ports import Telephone
from drachtwist.testing.transfers import fragment_status, with_replaces
from drachtwist.transactions.machine import Effect, TimedOut, Transmit
from drachtwist.transactions.retransmission import AnswerRepeater, ProvisionalRepeater, Repeater

__all__ = ["Call"]


class Call:
    """A call, whoever began it."""

    def __init__(
        self, phone: Telephone, call_id: str, local: str, remote: str, target: str
    ) -> None:
        self.phone = phone
        self.call_id = call_id
        self.outgoing = True
        """Whether the phone began it."""
        self.invite: Request
        """The INVITE that began it, as it was sent last."""
        self.status: int | None = None
        """The status of the last response to it, sent or received; 408 when nobody answered."""
        self.responses: list[Response] = []
        """The responses to it, sent or received."""
        self.requests: list[Request] = []
        """What the other side sent in the call, its ACKs too."""
        self.acked = False
        """Whether the 2xx was acknowledged."""
        self.up = False
        """Whether it was answered, and is not over."""
        self.over = False
        """Whether it has ended, or failed."""
        self.ended_by: str | None = None
        """Who ended it: ``self`` or ``peer``; None while it goes on, and when it was not answered
        because of the network."""
        self.transfer: list[int] = []
        """How the transfer goes that :meth:`refer` asked for: the statuses that were told."""
        self.pressed = ""
        """The keys that the other side has pressed."""
        self.local_sdp: Sdp | None = None
        """What the phone has said of its sound last."""
        self.remote_sdp: Sdp | None = None
        """What the other side has said of its sound last."""
        self.port = phone.next_media_port()
        """Where its sound goes to, unless it has a description of its own."""
        self._local = local
        self._remote = remote
        self._target = target
        self._routes: list[str] = []
        self._number = 0
        self._version = 0
        self._peer_cseq = -1
        self._transaction: ServerTransaction | None = None
        self._client: ClientTransaction | None = None
        self._ack: bytes | None = None
        self._leaves = False
        self._rseq = 0
        self._repeaters: list[Repeater] = []
        self._seen_rseq: set[str] = set()
        self._until_answered: Observers[Call] = Observers()
        self._until_over: Observers[Call] = Observers()
        self._extra: HeadersLike = None

    def __repr__(self) -> str:
        arrow = "to" if self.outgoing else "from"
        return f"<Call of {self.phone.name} {arrow} {self._remote}: {self.state}>"

    # Where it is

    @property
    def state(self) -> str:
        """``calling``, ``ringing``, ``up`` or ``over``."""
        if self.over:
            return "over"
        if self.up:
            return "up"
        return "ringing" if self.ringing else "calling"

    @property
    def ringing(self) -> bool:
        """Whether there was a 180 or the like, and nothing final."""
        return not (self.up or self.over) and self.status is not None and 101 <= self.status < 200

    @property
    def answered(self) -> bool:
        """Whether it was answered, also if it is over by now."""
        return any(200 <= one.status < 300 for one in self.responses)

    @property
    def response(self) -> Response | None:
        """The final response to the INVITE; None while there is none."""
        found = [one for one in self.responses if one.status >= 200]
        return found[-1] if found else None

    @property
    def local_tag(self) -> str:
        """The tag of this side."""
        return Address.parse(self._local).tag or ""

    @property
    def remote_tag(self) -> str:
        """The tag of the other side; empty while there is none."""
        return Address.parse(self._remote).tag or ""

    def when_answered(self) -> Deferred[Call]:
        """Wait until it is up.

        :returns: the call. Fails with :exc:`SipError` when it is refused, or nobody answers.
        """
        if self.answered:
            return succeed(self)
        if self.over:
            return fail(self._refusal())
        return self._until_answered.wait()

    def when_ended(self) -> Deferred[Call]:
        """Wait until it is over, however that comes."""
        return succeed(self) if self.over else self._until_over.wait()

    def hears(self, other: Call) -> bool:
        """Return whether the sound of another call comes here, by what the descriptions say."""
        there = place_of(other.remote_sdp)
        return (
            self.up
            and other.up
            and there is not None
            and there == place_of(self.local_sdp)
            and goes(other.local_sdp, other.remote_sdp)
        )

    def talks_to(self, other: Call) -> bool:
        """Return whether both calls hear each other: the application has connected them."""
        return self.hears(other) and other.hears(self)

    @property
    def on_hold(self) -> bool:
        """Whether the other side holds the call: it is up, and nothing is heard or wanted."""
        if not self.up:
            return False
        return not goes(self.local_sdp, self.remote_sdp)

    @property
    def telephone_event(self) -> str | None:
        """The payload type for keys in the sound (RFC 4733) that the other side wants; None if both
        have not agreed on any.
        """
        if event_format(self.local_sdp) is None:
            return None
        return event_format(self.remote_sdp)

    # What the caller does

    def begin(self, sdp: OwnSdp, headers: HeadersLike) -> None:
        """Send the INVITE."""
        self._extra = headers
        self.invite = self._invite(self._offer(sdp))
        self._ask_invite()

    def hang_up(self, headers: HeadersLike = None) -> None:
        """End it: with a BYE when it is up; before, with a CANCEL or a 603.

        :raises PhoneError: when it is over.
        """
        if self.over:
            raise self._cannot("hang up", "it is over")
        if self.up:
            self.phone.send_in(self, self._request("BYE", headers))
            self._end("self")
        elif self.outgoing:
            self._leaves = True
            assert self._client is not None
            self._client.cancel()
        else:
            self.refuse(603)
        self.phone.settle()

    # What the called side does

    def ring(
        self,
        status: int = 180,
        *,
        sdp: OwnSdp | Literal[True] = None,
        headers: HeadersLike = None,
        reliable: bool = False,
    ) -> None:
        """Send a provisional response.

        :param sdp: a description, for sound before the answer; True for the phone's own.
        :param reliable: send it until a PRACK comes (RFC 3262).
        :raises PhoneError: when the call is not one that came in and waits.
        """
        transaction = self._waiting("ring")
        response = self._reply(status, headers)
        if sdp is not None:
            self._describe(response, None if sdp is True else sdp)
        if reliable:
            self._rseq += 1
            response.set("Require", "100rel")
            response.set("RSeq", str(self._rseq))
        self._answer_with(transaction, response)
        if reliable:
            self._repeat(ProvisionalRepeater(bytes(response), self._now(), self._rseq))
        self.phone.settle()

    def answer(self, *, sdp: OwnSdp = None, headers: HeadersLike = None, status: int = 200) -> None:
        """Answer the call.

        :raises PhoneError: when it is not one that came in and waits.
        """
        transaction = self._waiting("answer")
        response = self._reply(status, headers)
        self._describe(response, sdp)
        self.up = True
        self._answer_with(transaction, response)
        self._repeat(AnswerRepeater(bytes(response), self._now()))
        transaction.on_ack = lambda request: self._acked(request)
        self._until_answered.fire(self)
        self.phone.settle()

    def refuse(
        self, status: int = 603, reason: str | None = None, *, headers: HeadersLike = None
    ) -> None:
        """Refuse the call, or redirect it (``refuse(302, headers={"Contact": ...})``).

        :raises PhoneError: when it is not one that came in and waits.
        """
        transaction = self._waiting("refuse")
        self._answer_with(transaction, self._reply(status, headers, reason))
        self._end("self")
        self.phone.settle()

    # What both do

    def request(
        self,
        method: str,
        *,
        headers: HeadersLike = None,
        body: str | bytes = "",
        content_type: str | None = None,
    ) -> Exchange:
        """Send a request in the dialog.

        :raises PhoneError: when there is no dialog.
        """
        if not (self.up or (self.remote_tag and not self.over)):
            raise self._cannot(f"send {method}", f"it is {self.state}")
        request = self._request(method, headers, body, content_type)
        exchange = self.phone.send_in(self, request)
        self.phone.settle()
        return exchange

    def reinvite(self, sdp: OwnSdp = None, *, headers: HeadersLike = None) -> Exchange:
        """Make another offer; an empty one asks for the offer of the other side.

        :raises PhoneError: when the call is not up.
        """
        if not self.up:
            raise self._cannot("send a re-INVITE", f"it is {self.state}")
        offer = self._offer(sdp)
        request = self._request("INVITE", headers, offer or "")
        exchange = self.phone.send_in(self, request)
        self.phone.settle()
        return exchange

    def hold(self) -> Exchange:
        """Put the other side on hold: the phone still sends, music say, and hears nothing."""
        return self.reinvite(self._own("sendonly"))

    def resume(self) -> Exchange:
        """Take the other side off hold."""
        return self.reinvite(self._own("sendrecv"))

    def press(self, keys: str, *, by: str = "info", milliseconds: int = 160) -> None:
        """Press keys.

        :param by: ``info``: an INFO for each, as many phones send it. ``rfc4733``: an event in the
            sound; it arrives in the ``pressed`` of the call that the description of the other side
            leads to.
        :raises PhoneError: for what is no key, when the call is not up, and when both sides have
            not agreed on ``telephone-event``.
        """
        wrong = [key for key in keys if key not in DIGITS]
        if wrong or not keys:
            raise PhoneError(f"{keys!r} are no keys of a phone: it has {DIGITS}")
        if not self.up:
            raise self._cannot("press keys", f"it is {self.state}")
        if by == "info":
            for key in keys:
                body = f"Signal={key}\r\nDuration={milliseconds}\r\n"
                self.request("INFO", body=body, content_type="application/dtmf-relay")
            return
        if by != "rfc4733":
            raise PhoneError(f"keys are pressed by 'info' or by 'rfc4733', not by {by!r}")
        if self.telephone_event is None:
            raise self._cannot("press keys by rfc4733", "telephone-event was not agreed on")
        self.phone.carry_keys(self, keys)

    def refer(
        self, to: Any, *, replaces: Call | None = None, headers: HeadersLike = None
    ) -> Exchange:
        """Ask the other side to call somebody else (RFC 3515); :attr:`transfer` tells how it goes.

        :param to: a phone, a user of the server, or a URI.
        :param replaces: a call of ours that the new one is to take over (RFC 3891).
        """
        uri = self.phone.uri_of(to) if replaces is None else replaces._target
        if replaces is not None:
            uri = with_replaces(uri, replaces.call_id, replaces.remote_tag, replaces.local_tag)
        given = Headers(headers)
        given.set("Refer-To", f"<{uri}>")
        if not given.has("Referred-By"):
            given.set("Referred-By", f"<{self.phone.aor}>")
        return self.request("REFER", headers=[*given.items()])

    # What comes

    def invited(self, transaction: ServerTransaction) -> None:
        """Take in the INVITE."""
        self.outgoing = False
        self.invite = transaction.request
        self._transaction = transaction
        self._peer_cseq = self.invite.cseq.number
        self._routes = _routes(self.invite, reverse=False)
        self._take_sdp(self.invite)

    def requested(self, request: Request, transaction: ServerTransaction | None) -> None:
        """Take in a request in the dialog."""
        self.requests.append(request)
        if transaction is None:
            self._acked(request)
            return
        if request.contacts and request.method in ("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY"):
            self._target = request.contacts[0].uri
        wanted = self.phone.reply_to(request)
        if wanted is not None:
            transaction.send(self._in_dialog(request, wanted))
            return
        handler: Callable[[Request, ServerTransaction], None] = getattr(
            self, f"_on_{request.method.lower()}", self._on_other
        )
        handler(request, transaction)

    def cancelled(self) -> None:
        """The caller gave up."""
        if self._transaction is not None and not self._transaction.answered:
            self._answer_with(self._transaction, self._reply(487))
            self._end("peer")

    def answered_again(self, response: Response) -> None:
        """A 2xx came again, long after: acknowledge it again."""
        if self._ack is not None and response.to_tag == self.remote_tag:
            self.phone.transmit(self._ack, self._next_hop())

    def bye(self) -> None:
        """Send a BYE if it is up, at the end of a test."""
        if self.up:
            self.hang_up()

    # Inside: the INVITE of the caller

    def _ask_invite(self) -> None:
        self._client = self.phone.ask(self.invite, self._next_hop(), self._responded)
        self._client.on_cancel = self._cancel

    def _invite(self, body: str | None) -> Request:
        request = self._request("INVITE", self._extra, body or "")
        for name, value in self.phone.headers.items():
            if not request.has(name):
                request.set(name, value)
        return request

    def _cancel(self) -> None:
        self.phone.ask(cancel_for(self.invite), self._next_hop(), lambda _: None)

    def _responded(self, response: Response | None) -> None:
        if response is None:
            self.status = 408
            self._end(None)
            return
        if self.answered and 200 <= response.status < 300:
            self._further(response)
            return
        self.responses.append(response)
        self.status = response.status
        if response.status < 200:
            self._rings(response)
        elif response.status < 300:
            self._connected(response)
        elif not self._authenticate(response):
            self._end("self" if self._leaves else "peer")

    def _rings(self, response: Response) -> None:
        if response.to_tag and not self.remote_tag:
            self._remember(response)
        self._take_sdp(response)
        number = response.reliable_number
        if number is not None and number not in self._seen_rseq:
            self._seen_rseq.add(number)
            rack = f"{number} {self.invite.cseq.number} INVITE"
            self.phone.send_in(self, self._request("PRACK", {"RAck": rack}))

    def _remember(self, response: Response) -> None:
        self._remote = response.get("To") or self._remote
        self._routes = _routes(response, reverse=True)
        if response.contacts:
            self._target = response.contacts[0].uri

    def _connected(self, response: Response) -> None:
        self._remember(response)
        late = self.local_sdp is None
        self._take_sdp(response)
        body = ""
        if late and self.remote_sdp is not None:
            body = self._answer(self.remote_sdp)
        self._acknowledge(self.invite, body)
        self.acked = True
        self.up = True
        self._until_answered.fire(self)
        if self._leaves:
            self.hang_up()

    def _acknowledge(self, invite: Request, body: str) -> None:
        ack = self._request("ACK", None, body, number=invite.cseq.number)
        for name in ("Authorization", "Proxy-Authorization"):
            for value in invite.get_all(name):
                ack.add(name, value)
        self._ack = bytes(ack)
        self.phone.transmit(self._ack, self._next_hop())

    def _further(self, response: Response) -> None:
        """Take in a 2xx that comes again, or that of another phone, which is let go."""
        if response.to_tag == self.remote_tag:
            if self._ack is not None:
                self.phone.transmit(self._ack, self._next_hop())
            return
        self.responses.append(response)
        other = Call(self.phone, self.call_id, self._local, self._remote, self._target)
        other.invite, other._number = self.invite, self._number
        other._connected(response)
        other.hang_up()

    def _authenticate(self, response: Response) -> bool:
        if response.status not in (401, 407) or self._leaves:
            return False
        again = self.phone.with_credentials(self.invite, response)
        if again is None:
            return False
        self._number = again.cseq.number
        self.invite = again
        self._ask_invite()
        return True

    # Inside: what the other side asks

    def _on_bye(self, request: Request, transaction: ServerTransaction) -> None:
        transaction.send(self._in_dialog(request, 200))
        if not self.over:
            if self._transaction is not None and not self._transaction.answered:
                self._answer_with(self._transaction, self._reply(487))
            self._end("peer")

    def _on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        self._take_sdp(request)
        response = self._in_dialog(request, 200)
        self._describe(response, self.phone.sdp, offer=sdp_in(request))
        transaction.send(response)
        self.acked = False
        self._repeat(AnswerRepeater(bytes(response), self._now()))
        transaction.on_ack = lambda ack: self._acked(ack)

    def _on_update(self, request: Request, transaction: ServerTransaction) -> None:
        response = self._in_dialog(request, 200)
        offer = sdp_in(request)
        if offer is not None:
            self._take_sdp(request)
            self._describe(response, self.phone.sdp, offer=offer)
        transaction.send(response)

    def _on_prack(self, request: Request, transaction: ServerTransaction) -> None:
        number = (request.get("RAck") or "").split(" ")[0]
        for repeater in self._repeaters:
            if isinstance(repeater, ProvisionalRepeater) and str(repeater.rseq) == number:
                repeater.confirm()
        transaction.send(self._in_dialog(request, 200))

    def _on_info(self, request: Request, transaction: ServerTransaction) -> None:
        transaction.send(self._in_dialog(request, 200))
        self.pressed += _keys_in(request)

    def _on_notify(self, request: Request, transaction: ServerTransaction) -> None:
        transaction.send(self._in_dialog(request, 200))
        status = fragment_status(request)
        if status is not None:
            self.transfer.append(status)

    def _on_refer(self, request: Request, transaction: ServerTransaction) -> None:
        transaction.send(self._in_dialog(request, 202))
        self.phone.follow(self, request)

    def _on_other(self, request: Request, transaction: ServerTransaction) -> None:
        transaction.send(self._in_dialog(request, 200))

    def _acked(self, ack: Request) -> None:
        if ack not in self.requests:
            self.requests.append(ack)
        for repeater in self._repeaters:
            if isinstance(repeater, AnswerRepeater):
                repeater.confirm()
        self.acked = True
        self._take_sdp(ack)

    # Inside: messages

    def _request(
        self,
        method: str,
        headers: HeadersLike = None,
        body: str | bytes = "",
        content_type: str | None = None,
        number: int | None = None,
    ) -> Request:
        if number is None:
            self._number += 1
            number = self._number
        fields: list[tuple[str, str]] = [
            ("Via", self.phone.via()),
            ("Max-Forwards", "70"),
            *(("Route", route) for route in self._routes),
            ("From", self._local),
            ("To", self._remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{number} {method}"),
            ("Contact", f"<{self.phone.uri}>"),
        ]
        request = Request(method, self._target, fields, body)
        if body:
            request.set("Content-Type", content_type or "application/sdp")
        _put(request, headers)
        return request

    def _reply(
        self, status: int, headers: HeadersLike = None, reason: str | None = None
    ) -> Response:
        tag = self.local_tag if status > 100 else ""
        response = reply(self.invite, status, reason, tag)
        if 100 < status < 300:
            response.set("Contact", f"<{self.phone.uri}>")
            for route in self.invite.get_all("Record-Route"):
                response.add("Record-Route", route)
        _put(response, headers)
        return response

    def _in_dialog(self, request: Request, status: int) -> Response:
        response = reply(request, status)
        if request.method in ("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"):
            response.set("Contact", f"<{self.phone.uri}>")
        return response

    def _answer_with(self, transaction: ServerTransaction, response: Response) -> None:
        self.responses.append(response)
        self.status = response.status
        transaction.send(response)

    def _next_hop(self) -> tuple[str, int]:
        first = self._routes[0] if self._routes else None
        if first is None and not self.remote_tag and self.outgoing:
            return self.phone.server_address
        uri = self._target if first is None else Address.parse(first).uri
        return self.phone.next_hop(uri)

    # Inside: sound

    def _own(self, direction: str = "sendrecv") -> str:
        self._version += 1
        return offer_of(self.phone.name, self.phone.host.host, self.port, self._version, direction)

    def _offer(self, sdp: OwnSdp) -> str | None:
        """Return the offer, and remember it; None for none."""
        text = self._text_of(sdp if sdp is not None else self.phone.sdp)
        if text is None:
            text = self._own()
        self.local_sdp = Sdp(text) if text else None
        return text

    def _answer(self, offer: Sdp) -> str:
        text = self._text_of(self.phone.sdp)
        if text is None:
            self._version += 1
            text = answer_to(offer, self.phone.name, self.phone.host.host, self.port, self._version)
        self.local_sdp = Sdp(text)
        return text

    def _describe(self, response: Response, sdp: OwnSdp, offer: Sdp | None = None) -> None:
        """Put a description into a response: an answer if there was an offer."""
        offer = offer if offer is not None else sdp_in(self.invite)
        text = self._text_of(sdp if sdp is not None else self.phone.sdp)
        if text is None and offer is not None:
            text = self._answer(offer)
        elif text is None:
            text = self._own()
        self.local_sdp = Sdp(text) if text else None
        if text:
            response.body = text
            response.set("Content-Type", "application/sdp")

    def _text_of(self, sdp: OwnSdp) -> str | None:
        if callable(sdp):
            sdp = sdp(self)
        if sdp is None:
            return None
        return sdp.decode("utf-8") if isinstance(sdp, bytes) else str(sdp)

    def _take_sdp(self, message: Message) -> None:
        found = sdp_in(message)
        if found is not None:
            self.remote_sdp = found

    def take_answer(self, response: Response, invite: Request) -> None:
        """Take in the answer to a re-INVITE of ours."""
        late = not invite.body
        self._take_sdp(response)
        body = self._answer(self.remote_sdp) if late and self.remote_sdp is not None else ""
        self._acknowledge(invite, body)

    # Inside: what repeats, and the end

    def _now(self) -> float:
        return self.phone.now()

    def _repeat(self, repeater: Repeater) -> None:
        repeater.owner = _Repeating(self, repeater)
        self._repeaters.append(repeater)
        self.phone.watch(repeater)

    def give_up(self, repeater: Repeater) -> None:
        """Fail, since nobody acknowledges."""
        if isinstance(repeater, AnswerRepeater) and self.up:
            self.phone.remark("no ACK came")
            self.hang_up()

    def repeat(self, data: bytes) -> None:
        """Send a response once more."""
        if self._transaction is not None:
            self._transaction.react([Transmit(data)])

    def _end(self, by: str | None) -> None:
        if self.over:
            return
        was_up = self.up
        self.up = False
        self.over = True
        self.ended_by = by
        for repeater in self._repeaters:
            repeater.confirm()
            self.phone.forget(repeater)
        self._repeaters.clear()
        if not was_up:
            self._until_answered.fail(self._refusal)
        self._until_over.fire(self)

    def _refusal(self) -> SipError:
        return SipError(self.status or 408, "", self.response)

    def _waiting(self, what: str) -> ServerTransaction:
        transaction = self._transaction
        if transaction is None:
            raise self._cannot(what, "the phone began it itself")
        if self.over or transaction.answered:
            raise self._cannot(what, f"it is {self.state}")
        return transaction

    def _cannot(self, what: str, why: str) -> PhoneError:
        other = "to" if self.outgoing else "from"
        return PhoneError(
            f"{self.phone.name} cannot {what}: the call {other} {self._remote}: {why}"
        )


class _Repeating:
    """What a repeater of a call owns."""

    def __init__(self, call: Call, repeater: Repeater) -> None:
        self._call = call
        self._repeater = repeater

    def react(self, effects: list[Effect]) -> None:
        """Do what it wants."""
        for effect in effects:
            if isinstance(effect, Transmit):
                self._call.repeat(effect.data)
            elif isinstance(effect, TimedOut):
                self._call.give_up(self._repeater)
        self._call.phone.watch(self._repeater)


def _routes(message: Message, *, reverse: bool) -> list[str]:
    try:
        found = [str(one) for one in message.get_parsed_header("Record-Route") or ()]
    except MessageError:
        return []
    return found[::-1] if reverse else found


def _put(message: Message, headers: HeadersLike) -> None:
    """Put headers into a message; several of one name stay several."""
    given = Headers(headers)
    names: Iterable[str] = {name.lower() for name, _ in given.items()}
    for name in names:
        message.remove(name)
    for name, value in given.items():
        message.add(name, value)


def _keys_in(request: Request) -> str:
    """Read the keys out of an INFO, in either of the usual forms."""
    kind = (request.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind == "application/dtmf":
        return request.text.strip()
    if kind != "application/dtmf-relay":
        return ""
    for line in request.text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip().lower() == "signal":
            return value.strip()
    return ""
