"""The phones of the recordings, as SIPp scenarios: their headers in their order, their bodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from xml.sax.saxutils import quoteattr

from tests.interop.phones import Callee as PlainCallee
from tests.interop.phones import Caller as PlainCaller

__all__ = ["SDP_ALICE", "SDP_BOB", "Callee", "Caller", "Turn", "calling", "talking"]

_P = TypeVar("_P", bound="_Sending")


def _sdp(name: str, session: int, version: int, port: int, direction: str) -> list[str]:
    return [
        "v=0",
        f"o={name} {session} {version} IN IP4 127.0.0.1",
        "s=-",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        f"a={direction}",
    ]


def sdp_alice(version: int = 1, direction: str = "sendrecv") -> list[str]:
    """Give what a caller offers."""
    return _sdp("alice", 1001, version, 32400, direction)


def sdp_bob(version: int = 1, direction: str = "sendrecv") -> list[str]:
    """Give what a called phone answers."""
    return _sdp("bob", 2002, version, 32410, direction)


SDP_ALICE = sdp_alice()
SDP_BOB = sdp_bob()

_SDP = "application/sdp"
_TO = "<sip:[service]@[remote_ip]:[remote_port]>"


def _whole(
    lines: list[str], extra: Sequence[str], body: Sequence[str] | None, kind: str
) -> tuple[str, str]:
    lines = [*lines, *extra]
    if body is None:
        return "\n".join([*lines, "Content-Length: 0", ""]), ""
    lines += [f"Content-Type: {kind}", "Content-Length: [len]", ""]
    return "\n".join(lines), "\n".join(body)


class Turn(NamedTuple):
    """When a phone goes on that waits."""

    title: str
    """What the message that it sends then looks like to the application, as in :mod:`compare`."""
    number: int
    """How many such messages the phone has sent before."""
    freely: bool
    """Whether it goes on as soon as all has come that came before that message."""


class _Sending:
    """What both kinds of phone send.

    Nothing is sent twice: on the loopback address nothing is lost, and how often something comes
    again would depend on how busy the machine is.
    """

    tolerant = False
    _steps: list[str]

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        """When it goes on, for each time that it waits."""
        self.begins = ""
        """What its first message is, if that is a request."""
        self._sent: Counter[str] = Counter()
        self._waits: bool | None = None

    def then(self: _P, freely: bool = True) -> _P:
        """Wait to send the next message until all has come that came before it in the recording.

        :param freely: False to wait for :meth:`LiveTestCase.go` instead.
        """
        self._waits = freely
        # The test reads this, and sends that.
        text = f"waits {len(self.turns)} [call_id]"
        self._steps.append(f'<nop><action><log message="{text}"/></action></nop>')
        self._steps.append('<recv request="GO"/>')
        return self

    def says(self: _P, word: str) -> _P:
        """Tell the test that it has come to this (:meth:`LiveTestCase.heard`)."""
        self._steps.append(f'<nop><action><log message="{word}"/></action></nop>')
        return self

    def say(
        self,
        title: str,
        lines: list[str],
        extra: Sequence[str] = (),
        body: Sequence[str] | None = None,
        kind: str = _SDP,
    ) -> None:
        """Send a message: its lines, more headers, and a body of some content type.

        :param title: what it is for :mod:`compare`, unless nobody waits to send it.
        """
        self.begins = self.begins or title
        if self._waits is not None:
            self.turns.append(Turn(title, self._sent[title], self._waits))
            self._waits = None
        self._sent[title] += 1
        head, text = _whole(lines, extra, body, kind)
        self._steps.append(f"<send><![CDATA[\n\n{head}\n{text}\n\n]]></send>")


class Caller(_Sending, PlainCaller):
    """Alice, who calls from port 32070.

    :param user: whom she calls: the user part of the URI.
    :param name: her display name.
    """

    def __init__(self, user: str = "app", name: str = "Alice") -> None:
        PlainCaller.__init__(self)
        _Sending.__init__(self)
        self._user = user
        self._name = name
        self._last = ""

    def request(  # type: ignore[override]
        self,
        method: str,
        number: int = 1,
        *,
        in_dialog: bool | None = None,
        extra: Sequence[str] = (),
        body: Sequence[str] | None = None,
        kind: str = _SDP,
        branch: str = "[branch]",
        uri: str = "",
        to: str = "",
        contact: bool = True,
        name: str = "",
    ) -> Caller:
        """Send a request.

        :param in_dialog: unless given it is if it is an ACK or its number is higher than 1.
        :param extra: header lines that follow the usual ones.
        :param branch: unless it is a new one.
        :param uri: instead of the usual one.
        :param name: a display name instead of the usual one.
        """
        if in_dialog is None:
            in_dialog = number > 1 or method == "ACK"
        remote = f"sip:{self._user}@[remote_ip]:[remote_port]"
        to = to or f"<{remote}>"
        lines = [
            f"{method} {uri or ('[next_url]' if in_dialog else remote)} SIP/2.0",
            f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}",
            *(["[routes]"] if in_dialog else []),
            f'From: "{name or self._name}" <sip:alice@[local_ip]:[local_port]>'
            ";tag=a[pid]t[call_number]",
            f"To: {to}{'[peer_tag_param]' if in_dialog else ''}",
            "Call-ID: [call_id]",
            f"CSeq: {number} {method}",
            "Max-Forwards: 70",
        ]
        if contact:
            lines.append("Contact: <sip:alice@[local_ip]:[local_port]>")
        if method != "ACK":
            self._last = method
        if method == "INVITE":
            self._invited = len(self._steps)
        self.say(f"sip {method}", lines, extra, body, kind)
        return self

    def got(  # type: ignore[override]
        self,
        status: int,
        *,
        optional: bool = False,
        with_route: bool = False,
        has: dict[str, str] | None = None,
        holding: Sequence[str] = (),
    ) -> Caller:
        """Wait for a response.

        :param holding: what it has to hold: extended regular expressions.
        """
        learns = self._last in ("INVITE", "SUBSCRIBE") and 100 < status < 300
        looks = ""
        for one in holding:
            self._variables.add("seen")
            looks += (
                f'<ereg regexp={quoteattr(one)} search_in="msg" check_it="true" assign_to="seen"/>'
            )
        with_route = with_route or learns
        super().got(status, optional=optional, with_route=with_route, has=has, actions=looks)
        return self

    def got_reliable(self, status: int) -> Caller:
        """Wait for a response that wants a PRACK."""
        self._variables.add("rseq")
        self._steps.append(
            f'<recv response="{status}" rrs="true"><action><ereg regexp="[0-9]+" search_in="hdr" '
            'header="RSeq:" assign_to="rseq"/></action></recv>'
        )
        return self

    def prack(self, number: int) -> Caller:
        """Acknowledge the last reliable response to the first INVITE."""
        return self.request("PRACK", number, extra=["RAck: [$rseq] 1 INVITE"])

    def refused_ack(self) -> Caller:  # type: ignore[override]
        """Acknowledge a refusal of the INVITE."""
        remote = f"sip:{self._user}@[remote_ip]:[remote_port]"
        return self.request("ACK", branch=self._branch, uri=remote, contact=False)

    def challenged(self, status: int) -> Caller:
        """Wait for a challenge, which the next request answers with ``[authentication ...]``."""
        self._steps.append(f'<recv response="{status}" auth="true"/>')
        return self

    def cancel(self) -> Caller:
        """Cancel the INVITE."""
        reason = 'Reason: SIP;cause=487;text="Caller gave up"'
        return self.request("CANCEL", branch=self._branch, extra=[reason], contact=False)

    def answers(
        self,
        status: int = 200,
        reason: str = "OK",
        *,
        extra: Sequence[str] = (),
        body: Sequence[str] | None = None,
        kind: str = _SDP,
        contact: bool = True,
    ) -> Caller:
        """Answer the last request of the application."""
        self.say("", _answer(status, reason, "", contact), extra, body, kind)
        return self


def _answer(status: int, reason: str, tag: str, contact: bool) -> list[str]:
    names = ("Via", "Record-Route", "From", "To", "Call-ID", "CSeq")
    lines = [f"SIP/2.0 {status} {reason}", *[f"[last_{name}:]" for name in names]]
    lines = [line + tag if line == "[last_To:]" else line for line in lines]
    return [*lines, "Contact: <sip:bob@[local_ip]:[local_port]>"] if contact else lines


class Callee(_Sending, PlainCallee):
    """Bob, who is called at one of the ports from 32071 on.

    :param tag: what his tag begins with.
    :param vias: how many Vias the INVITE has: one more for each proxy in between.
    """

    def __init__(self, tag: str = "b", vias: int = 1) -> None:
        PlainCallee.__init__(self, tag, vias)
        _Sending.__init__(self)
        self._method = ""

    def got(self, method: str) -> Callee:
        """Wait for a request."""
        super().got(method)
        if method in ("INVITE", "SUBSCRIBE"):
            self._method = method
            # [next_url] would be the whole Contact, if that has a display name.
            target = (
                '<ereg regexp="sip:[^>]*" search_in="hdr" header="Contact:" assign_to="target"/>'
            )
            self._variables.add("target")
            self._steps.append(self._steps.pop().replace("</action>", f"{target}</action>"))
        return self

    def request(  # type: ignore[override]
        self,
        method: str,
        number: int = 1,
        *,
        extra: Sequence[str] = (),
        body: Sequence[str] | None = None,
        kind: str = _SDP,
        contact: bool = True,
    ) -> Callee:
        """Send a request in the dialog, which was asked for with the first request."""
        lines = [
            f"{method} [$target] SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
            "[routes]",
            f"From: [$to];tag={self._name}[pid]t[call_number]",
            "To: [$from]",
            "Call-ID: [call_id]",
            f"CSeq: {number} {method}",
            "Max-Forwards: 70",
        ]
        if contact:
            lines.append("Contact: <sip:bob@[local_ip]:[local_port]>")
        self.say(f"sip {method}", lines, extra, body, kind)
        return self

    def answer(  # type: ignore[override]
        self,
        status: int,
        reason: str,
        *,
        extra: Sequence[str] = (),
        body: Sequence[str] | None = None,
        kind: str = _SDP,
        contact: bool | None = None,
        in_dialog: bool = False,
    ) -> Callee:
        """Respond to the request for a dialog, whatever came since.

        :param contact: whether there is a Contact; usually when it is no failure.
        """
        tag = "" if in_dialog else f";tag={self._name}[pid]t[call_number]"
        lines = [
            f"SIP/2.0 {status} {reason}",
            f"Via: {', '.join(f'[$via{number}]' for number in range(1, self._vias + 1))}",
            "[last_Record-Route:]",
            "From: [$from]",
            f"To: [$to]{tag}",
            "[last_Call-ID:]",
            "CSeq: [$cseq]",
        ]
        if contact or (contact is None and status < 300):
            lines.append("Contact: <sip:bob@[local_ip]:[local_port]>")
        kind_of = "answer continue" if self._vias > 1 else "sip"
        self.say(f"{kind_of} {status} {self._method}", lines, extra, body, kind)
        return self

    def ok(  # type: ignore[override]
        self,
        status: int = 200,
        reason: str = "OK",
        *,
        extra: Sequence[str] = (),
        body: Sequence[str] | None = None,
        kind: str = _SDP,
        tag: bool = False,
        contact: bool = True,
    ) -> Callee:
        """Respond to the last request, which is no INVITE.

        :param tag: whether To lacks one: outside of a dialog.
        """
        mine = f";tag={self._name}[pid]t[call_number]" if tag else ""
        self.say("", _answer(status, reason, mine, contact), extra, body, kind)
        return self


def calling(**invite: Sequence[str]) -> Caller:
    """Call, until the call is up."""
    phone = Caller().request("INVITE", body=SDP_ALICE, extra=invite.get("extra", ()))
    phone.got(100, optional=True).got(180, optional=True).got(200)
    return phone.request("ACK")


def talking(**invite: Sequence[str]) -> Caller:
    """Call, talk, hang up."""
    return calling(**invite).then().request("BYE", 2).got(200)


def answering(vias: int = 1) -> Callee:
    """Ring, answer, and wait for the BYE."""
    phone = Callee(vias=vias).got("INVITE").answer(180, "Ringing")
    if vias == 1:  # the application does not hear of the 180 of a proxied call
        phone.then()
    return phone.answer(200, "OK", body=SDP_BOB).got("ACK").got("BYE").ok()
