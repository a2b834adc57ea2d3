"""The SIP messages the driver plays, and the frames around them.

Every shape here was copied from what a drachtio server 0.9.10 writes: header order, the
`|`-separated leader, empty fields, the tag the server adds to To, and the headers it adds itself.
`@N@` stands for the call's number and `@TAG@` for the tag the answering side chose.
"""

import itertools
import time

SERVER = b"127.0.0.1:33060"
CALLER = b"127.0.0.1:33065"
CALLEE = b"127.0.0.1:33070"


def _message(text):
    return text.lstrip("\n").replace("\n", "\r\n").encode()


def _with_body(head, body):
    body = _message(body)
    return _message(head).replace(b"@LENGTH@", b"%d" % len(body)) + body


OFFER = """
v=0
o=- 53655765 2353687637 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 33800 RTP/AVP 0 8 18 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:18 G729/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
a=ptime:20
"""

ANSWER = _message("""
v=0
o=user1 53655765 2353687637 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 33900 RTP/AVP 0
a=rtpmap:0 PCMU/8000
""")

INVITE = _with_body(
    """
INVITE sip:+15557654321@127.0.0.1:33060;transport=udp;user=phone SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:33065;branch=z9hG4bK-@N@-1;rport=33065
Record-Route: <sip:127.0.0.1:33071;lr;ftag=abc>
Max-Forwards: 68
From: "Alice Example" <sip:+1555@N@@carrier.example.com>;tag=c@N@
To: <sip:+15557654321@127.0.0.1:33060>
Call-ID: @N@-2596@carrier.example.com
CSeq: 1 INVITE
Contact: <sip:+1555@N@@127.0.0.1:33065;transport=udp>
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH, UPDATE, MESSAGE
Supported: replaces, timer, path
User-Agent: Carrier SBC 7.4.2
P-Asserted-Identity: "Alice Example" <sip:+1555@N@@carrier.example.com>
P-Charging-Vector: icid-value=0a1b2c3d4e5f;icid-generated-at=10.1.1.1
Privacy: none
Date: Mon, 23 Nov 2026 01:00:00 GMT
X-Account: 8842-1
X-Trunk: east-04
Accept: application/sdp
Session-Expires: 1800;refresher=uac
Min-SE: 90
Content-Type: application/sdp
Content-Length:   @LENGTH@

""",
    OFFER,
)

ACK = _message("""
ACK sip:127.0.0.1:33060 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:33065;branch=z9hG4bK-@N@-4;rport=33065
Route: <sip:127.0.0.1:33071;lr;ftag=abc>
From: "Alice Example" <sip:+1555@N@@carrier.example.com>;tag=c@N@
To: <sip:+15557654321@127.0.0.1:33060>;tag=@TAG@
Call-ID: @N@-2596@carrier.example.com
CSeq: 1 ACK
Max-Forwards: 70
User-Agent: Carrier SBC 7.4.2
Content-Length: 0

""")

BYE = _message("""
BYE sip:127.0.0.1:33060 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:33065;branch=z9hG4bK-@N@-6;rport=33065
Route: <sip:127.0.0.1:33071;lr;ftag=abc>
From: "Alice Example" <sip:+1555@N@@carrier.example.com>;tag=c@N@
To: <sip:+15557654321@127.0.0.1:33060>;tag=@TAG@
Call-ID: @N@-2596@carrier.example.com
CSeq: 2 BYE
Max-Forwards: 70
User-Agent: Carrier SBC 7.4.2
Reason: Q.850;cause=16;text="Normal call clearing"
Content-Length: 0

""")

OPTIONS = _message("""
OPTIONS sip:service@127.0.0.1:33060 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:33065;branch=z9hG4bK-@N@-1;rport=33065
Max-Forwards: 70
From: "Carrier SBC" <sip:ping@carrier.example.com>;tag=c@N@
To: <sip:service@127.0.0.1:33060>
Call-ID: @N@-2596@carrier.example.com
CSeq: 102 OPTIONS
Contact: <sip:ping@127.0.0.1:33065>
User-Agent: Carrier SBC 7.4.2
Accept: application/sdp
Date: Mon, 23 Nov 2026 01:00:00 GMT
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH, MESSAGE
Supported: replaces, timer
Content-Length: 0

""")

REGISTER = _message("""
REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:33065;branch=z9hG4bK-@N@-1;rport=33065
Max-Forwards: 70
From: "Alice Example" <sip:alice@example.com>;tag=c@N@
To: "Alice Example" <sip:alice@example.com>
Call-ID: @N@-2596@carrier.example.com
CSeq: 2 REGISTER
Contact: <sip:alice@127.0.0.1:33065;transport=udp;rinstance=c@N@>;expires=3600;\
+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";reg-id=1
Authorization: Digest username="alice", realm="example.com", nonce="6f1d8a0c5b7e4d2f9a3c", \
uri="sip:example.com", response="6629fae49393a05397450978507c4ef1", algorithm=MD5, \
cnonce="0a4f113b", qop=auth, nc=00000001
User-Agent: Softphone 5.20.1
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO, MESSAGE
Supported: path, outbound, gruu
Expires: 3600
Content-Length: 0

""")

# what comes back through a proxied INVITE: two Via fields in one header, as the server folds them
PROXIED_200 = (
    _message("""
SIP/2.0 200 OK
Via: SIP/2.0/UDP 127.0.0.1:33060;rport;branch=z9hG4bK-p@N@, \
SIP/2.0/UDP 127.0.0.1:33065;branch=z9hG4bK-@N@-1;rport=33065
From: "Alice Example" <sip:+1555@N@@carrier.example.com>;tag=c@N@
To: <sip:+15557654321@127.0.0.1:33060>;tag=u@N@
Call-ID: @N@-2596@carrier.example.com
CSeq: 1 INVITE
Contact: <sip:127.0.0.1:33070;transport=UDP>
Content-Type: application/sdp
Content-Length:   %d

""")
    % len(ANSWER)
    + ANSWER
)

_KNOWN = {
    b"accept": b"Accept",
    b"allow": b"Allow",
    b"contact": b"Contact",
    b"expires": b"Expires",
    b"content-type": b"Content-Type",
    b"server": b"Server",
    b"supported": b"Supported",
    b"user-agent": b"User-Agent",
}
_OWN = {b"via", b"route", b"record-route", b"from", b"to", b"call-id", b"cseq", b"content-length"}

_serial = itertools.count(1)


def uuid():
    """An identifier of the shape the server makes: unique here, and cheap."""
    n = next(_serial)
    return b"%08x-1a2b-4c3d-8e4f-%012x" % (n * 2654435761 & 0xFFFFFFFF, n)


_clock = [0, b""]


def clock():
    """The server's time stamp, HH:MM:SS.micros."""
    micros = time.time_ns() // 1000
    if micros // 1000000 != _clock[0]:
        _clock[:] = micros // 1000000, time.strftime("%H:%M:%S", time.gmtime()).encode()
    return b"%b.%06d" % (_clock[1], micros % 1000000)


def fill(template, n, tag=b""):
    return template.replace(b"@N@", n).replace(b"@TAG@", tag)


def field(message, name):
    """One header's value out of a message we made ourselves."""
    start = message.index(b"\r\n" + name + b": ") + len(name) + 4
    return message[start : message.index(b"\r\n", start)]


class Sip:
    """A SIP message the app sent, cut into parts and checked for its length."""

    __slots__ = ("start", "headers", "body")

    def __init__(self, raw):
        head, gap, self.body = raw.partition(b"\r\n\r\n")
        if not gap:
            raise ValueError("no blank line after the headers")
        self.start, *lines = head.split(b"\r\n")
        self.headers = headers = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError(f"not a header: {line!r}")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get(b"content-length", 0))
        if length != len(self.body):
            raise ValueError(f"Content-Length {length} for a body of {len(self.body)} bytes")

    def extras(self):
        """The headers the app added, in the server's order: those it knows, then the others."""
        known, other = [], []
        for name, value in self.headers.items():
            if name in _KNOWN:
                known.append(b"%b: %b\r\n" % (_KNOWN[name], value))
            elif name not in _OWN:
                other.append(b"%b: %b\r\n" % (name.title(), value))
        if self.body.startswith(b"v=0") and b"content-type" not in self.headers:
            known.append(b"Content-Type: application/sdp\r\n")
        return b"".join(known), b"".join(other)


def delivered(source, protocol, address, txn, dialog, raw, received_on=b""):
    """A message the server hands to the app."""
    host, _, port = address.partition(b":")
    return b"%b|sip|%b|%d|%b|%b|%b|%b|%b|%b|%b\r\n%b" % (
        uuid(),
        source,
        len(raw),
        protocol,
        host,
        port,
        clock(),
        txn,
        dialog,
        received_on,
        raw,
    )


def sent(msgid, protocol, address, tail, raw):
    """The server's answer to something the app asked it to send."""
    host, _, port = address.partition(b":")
    return b"%b|response|%b|OK|application|%d|%b|%b|%b|%b|%b|Msg sent:|\r\n%b" % (
        uuid(),
        msgid,
        len(raw),
        protocol,
        host,
        port,
        clock(),
        tail,
        raw,
    )
