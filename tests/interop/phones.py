"""SIPp scenarios, put together from steps: what a caller does, and what a called phone does.

SIPp takes in one message after the other, in the order of the scenario. What SIP allows besides is
told to it here: over UDP whoever was slow for half a second gets messages again, or causes them. So
responses belong to transactions, whose final response may come again, and each request that came
may come again while something else is waited for.
"""

from __future__ import annotations

import re
from typing import TypeVar
from xml.sax.saxutils import quoteattr

__all__ = ["Callee", "Caller", "spoken"]

_P = TypeVar("_P", bound="_Phone")
_AGAIN = '<recv request="{}" optional="global" advance_state="false"/>'
_COMES_AGAIN = re.compile(_AGAIN.format("[A-Z]+"))
_BRANCH_OF = re.compile(r"\[branch of ([0-9]+)\]")


def _sdp(name: str, direction: str = "") -> list[str]:
    lines = [
        "v=0",
        f"o={name} 1001 {2 if direction else 1} IN IP[local_ip_type] [local_ip]",
        "s=-",
        "c=IN IP[media_ip_type] [media_ip]",
        "t=0 0",
        "m=audio [media_port] RTP/AVP 0",
        "a=rtpmap:0 PCMU/8000",
    ]
    return [*lines, f"a={direction}"] if direction else lines


class _Phone:
    tolerant = True
    """Whether messages may come again."""

    def __init__(self) -> None:
        self._steps: list[str] = []
        self._variables: set[str] = set()
        self._again: dict[str, bool] = {}  # requests that came: whether they may come again yet
        self._open: list[str] = []  # transactions of ours without a final response
        self._invited = 0  # the step that sent the last INVITE

    def xml(self, name: str, transport: str = "udp") -> str:
        """Write the scenario.

        :param transport: only over UDP requests come again.
        """
        places = list(range(len(self._steps)))
        if transport != "udp":
            places = [at for at in places if not _COMES_AGAIN.fullmatch(self._steps[at])]
        steps: list[str] = []
        for at in places:
            step = self._steps[at]
            for of in _BRANCH_OF.findall(step):
                back = len(steps) - places.index(int(of))
                step = step.replace(f"[branch of {of}]", f"[branch-{back}]")
            steps.append(step)
        if self._variables:
            steps.append(f'<Reference variables="{",".join(sorted(self._variables))}"/>')
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE scenario SYSTEM "sipp.dtd">\n'
            f"<scenario name={quoteattr(name)}>\n" + "\n".join(steps) + "\n</scenario>\n"
        )

    def send(
        self,
        lines: list[str],
        body: list[str] | None = None,
        repeat: bool = False,
        attributes: str = "",
        kind: str = "application/sdp",
    ) -> None:
        """Send a message.

        :param kind: the type of the body.
        """
        length = "[len]" if body else "0"
        if body:
            lines = [*lines, f"Content-Type: {kind}"]
        text = "\n".join([*lines, f"Content-Length: {length}", "", *(body or [])])
        attributes += ' retrans="500"' * repeat
        self._steps.append(f"<send{attributes}><![CDATA[\n\n{text}\n\n]]></send>")

    def _ask(
        self,
        method: str,
        number: int,
        lines: list[str],
        body: list[str] | None,
        kind: str = "application/sdp",
    ) -> None:
        """Send a request, which begins a transaction."""
        name = f"{method.lower()}{number}"
        if method == "ACK":
            self.send(lines, body, attributes=f' ack_txn="invite{number}"')
            return
        if method == "INVITE":
            self._invited = len(self._steps)
        self._open.append(name)
        self.send(lines, body, True, f' start_txn="{name}"', kind)

    def _received(self, attributes: str, has: dict[str, str] | None, actions: str = "") -> None:
        """Wait for a message.

        :param has: regular expressions that headers of it have to match.
        """
        for name, pattern in (has or {}).items():
            variable = f"checked{len(self._variables)}"
            self._variables.add(variable)
            actions += (
                f'<ereg regexp={quoteattr(pattern)} search_in="hdr" header="{name}:"'
                f' check_it="true" assign_to="{variable}"/>'
            )
        inside = f"<action>{actions}</action>" if actions else ""
        self._steps.append(f"<recv {attributes}>{inside}</recv>")

    def _requested(
        self, method: str, attributes: str, has: dict[str, str] | None, actions: str = ""
    ) -> None:
        """Wait for a request."""
        self._come_again(method)
        self._again.setdefault(method, False)
        self._received(f'request="{method}"{attributes}', has, actions)

    def _responded(
        self, status: int, optional: bool, attributes: str, has: dict[str, str] | None, actions: str
    ) -> None:
        """Wait for the response to the last request that has no final one."""
        self._come_again()
        if self._open:
            attributes += f' response_txn="{self._open[-1]}"'
            if status >= 200:
                self._open.pop()
        attributes += ' optional="true"' * optional
        self._received(f'response="{status}"{attributes}', has, actions)

    def _come_again(self, awaited: str = "") -> None:
        """Say which of the requests that came may come again from now on."""
        for method, said in self._again.items():
            if self.tolerant and not said and method != awaited:
                self._again[method] = True
                self._steps.append(_AGAIN.format(method))

    def asked(self, method: str) -> None:
        """Wait for a request in the dialog, and answer it with 200."""
        self.got_request(method).ok(sdp=method == "INVITE")

    def got_request(self: _P, method: str, has: dict[str, str] | None = None) -> _P:
        """Wait for a request, which is not answered by this.

        :param has: regular expressions that headers of it have to match.
        """
        self._requested(method, "", has)
        return self

    def ok(self: _P, sdp: bool = False, extra: list[str] | None = None, status: int = 200) -> _P:
        """Answer the last request, with 200 unless told otherwise."""
        names = ("Via", "Record-Route", "From", "To", "Call-ID", "CSeq")
        contact = "Contact: <sip:phone@[local_ip]:[local_port];transport=[transport]>"
        lines = [f"SIP/2.0 {status} OK", *[f"[last_{name}:]" for name in names], contact]
        self.send([*lines, *(extra or [])], _sdp("phone", "sendrecv") if sdp else None)
        return self

    def wait(self: _P, milliseconds: int) -> _P:
        """Wait, while nothing may come."""
        self._steps.append(f'<pause milliseconds="{milliseconds}"/>')
        return self


class Caller(_Phone):
    """Calls."""

    _remote = "sip:[service]@[remote_ip]:[remote_port]"

    def _request(self, method: str, number: int, branch: str, extra: list[str]) -> list[str]:
        in_dialog = number > 1 or method == "ACK"
        return [
            f"{method} {'[next_url]' if in_dialog else self._remote} SIP/2.0",
            f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}",
            *(["[routes]"] if in_dialog else []),
            'From: "Alice" <sip:alice@[local_ip]:[local_port]>;tag=[pid]a[call_number]',
            f"To: <{self._remote}>{'[peer_tag_param]' if in_dialog else ''}",
            "Call-ID: [call_id]",
            f"CSeq: {number if method != 'ACK' else max(number, 1)} {method}",
            "Contact: <sip:alice@[local_ip]:[local_port];transport=[transport]>",
            "Max-Forwards: 70",
            *extra,
        ]

    def request(
        self,
        method: str,
        number: int = 1,
        *,
        extra: list[str] | None = None,
        sdp: bool = False,
        direction: str = "",
        dtmf: str = "",
    ) -> Caller:
        """Send a request; a CANCEL is for the last INVITE.

        :param sdp: whether it has an offer or answer, with a direction if one is given.
        :param dtmf: a key that it tells of.
        """
        body = _sdp("alice", direction) if sdp else None
        kind = "application/sdp"
        if dtmf:
            body, kind = [f"Signal={dtmf}", "Duration=160"], "application/dtmf-relay"
        branch = self._branch if method == "CANCEL" else "[branch]"
        lines = self._request(method, number, branch, extra or [])
        self._ask(method, number, lines, body, kind)
        return self

    @property
    def _branch(self) -> str:
        """That of the last INVITE."""
        return f"[branch of {self._invited}]"

    def got(
        self,
        status: int,
        *,
        optional: bool = False,
        with_route: bool = False,
        has: dict[str, str] | None = None,
        direction: str = "",
        actions: str = "",
    ) -> Caller:
        """Wait for a response.

        :param has: regular expressions that headers of it have to match.
        :param direction: what its session description has to say.
        :param actions: what else SIPp is to do with it.
        """
        if direction:
            self._variables.add("direction")
            actions += (
                f'<ereg regexp="a={direction}" search_in="body" check_it="true"'
                ' assign_to="direction"/>'
            )
        self._responded(status, optional, ' rrs="true"' * with_route, has, actions)
        return self

    def refused_ack(self, number: int = 1) -> Caller:
        """Acknowledge the refusal of the last INVITE."""
        lines = self._request("ACK", number, self._branch, [])
        if number == 1:
            lines[0] = f"ACK {self._remote} SIP/2.0"
            lines.remove("[routes]")
        self._ask("ACK", number, lines, None)
        return self


class Callee(_Phone):
    """Is called.

    :param name: its tag.
    :param vias: how many Vias there are: one more for each proxy in between.
    """

    def __init__(self, name: str = "b", vias: int = 1) -> None:
        super().__init__()
        self._name = name
        self._vias = vias

    def got(self, method: str) -> Callee:
        """Wait for a request."""
        if method not in ("INVITE", "SUBSCRIBE"):
            return self.got_request(method)
        actions = []
        wanted = [(f"via{number}", "Via:", number) for number in range(1, self._vias + 1)]
        wanted += [(name.lower(), f"{name}:", 1) for name in ("From", "To", "CSeq")]
        for variable, header, occurrence in wanted:
            self._variables.add(variable)
            actions.append(
                f'<ereg regexp="[^ ].*" search_in="hdr" header="{header}" occurrence="{occurrence}"'
                f' assign_to="{variable}"/>'
            )
        self._requested(method, ' rrs="true"', None, "".join(actions))
        return self

    def request(
        self, method: str, number: int = 1, *, extra: list[str] | None = None, sdp: bool = False
    ) -> Callee:
        """Send a request in the dialog, which was asked for with the first INVITE."""
        lines = [
            f"{method} [next_url] SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
            "[routes]",
            f"From: [$to];tag=[pid]{self._name}[call_number]",
            "To: [$from]",
            "Call-ID: [call_id]",
            f"CSeq: {number} {method}",
            "Contact: <sip:bob@[local_ip]:[local_port];transport=[transport]>",
            "Max-Forwards: 70",
            *(extra or []),
        ]
        self._ask(method, number, lines, _sdp(self._name) if sdp else None)
        return self

    def responded(
        self, status: int, *, optional: bool = False, has: dict[str, str] | None = None
    ) -> Callee:
        """Wait for the response to it."""
        self._responded(status, optional, "", has, "")
        return self

    def answer(
        self,
        status: int,
        *,
        sdp: bool = False,
        extra: list[str] | None = None,
        repeat: bool = False,
        in_dialog: bool = False,
        contact: bool = True,
    ) -> Callee:
        """Respond to the INVITE."""
        tag = "" if in_dialog else f";tag=[pid]{self._name}[call_number]"
        vias = [f"Via: [$via{number}]" for number in range(1, self._vias + 1)]
        lines = [
            f"SIP/2.0 {status} Whatever",
            *vias,
            "[last_Record-Route:]",
            "From: [$from]",
            f"To: [$to]{tag}",
            "[last_Call-ID:]",
            "CSeq: [$cseq]",
            *(["Contact: <sip:bob@[local_ip]:[local_port];transport=[transport]>"] * contact),
            *(extra or []),
        ]
        self.send(lines, _sdp(self._name) if sdp else None, repeat)
        return self


def spoken(xml: str, *, remote: int | None = None, local: int | None = None) -> str:
    """Let a scenario that is played over TCP say that it is TLS, as it is behind a relay.

    :param remote: the port that the peer serves TLS on, for a caller.
    :param local: the port that the phone is reached on, for a phone that is called.
    """
    text = xml.replace("SIP/2.0/[transport]", "SIP/2.0/TLS").replace("[transport]", "tls")
    # SIPp's own scenarios have neither brackets nor a transport there.
    text = re.sub(r"Contact: (sip:[^<>\n]*)", r"Contact: <\1;transport=tls>", text)
    text = re.sub(r"(sip:\S*:\[remote_port\]) SIP/2\.0", r"\1;transport=tls SIP/2.0", text)
    if remote is not None:
        text = text.replace("[remote_port]", str(remote))
    return text if local is None else text.replace("[local_port]", str(local))


def answering(vias: int = 1) -> Callee:
    """Ring, answer, and wait for the BYE."""
    phone = Callee(vias=vias).got("INVITE").answer(180).answer(200, sdp=True, repeat=True)
    return phone.got("ACK").got("BYE").ok()


def refusing(status: int = 486, extra: list[str] | None = None, vias: int = 1) -> Callee:
    """Refuse."""
    return Callee("r", vias).got("INVITE").answer(status, extra=extra, repeat=True).got("ACK")


def ringing(vias: int = 1) -> Callee:
    """Ring until the caller gives up."""
    phone = Callee("c", vias).got("INVITE").answer(180).got("CANCEL").ok()
    return phone.answer(487, repeat=True).got("ACK")


def hanging_up(vias: int = 1) -> Callee:
    """Answer, and hang up."""
    phone = Callee("h", vias).got("INVITE").answer(180).answer(200, sdp=True, repeat=True)
    return phone.got("ACK").request("BYE").responded(200)


def calling(direction: str = "") -> Caller:
    """Call, until the call is up."""
    phone = Caller().request("INVITE", sdp=True, direction=direction)
    for status in (100, 180, 183):
        phone.got(status, optional=True)
    return phone.got(200, with_route=True).request("ACK")


def talking() -> Caller:
    """Call, talk, hang up."""
    return calling().request("BYE", 2).got(200)
