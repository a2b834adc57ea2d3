#!/usr/bin/env python3
"""Play the drachtio server against one app, check all it says, and measure what it costs.

    driver.py --workload uas --app "node node_app.js" --node-path /path/to/node_modules

Prints one JSON object. README.md has the workloads and the meaning of the figures.
"""

import argparse
import collections
import json
import os
import selectors
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time

import messages as m

VERSION = b"v0.9.10"
ENDPOINTS = b"tcp/" + m.SERVER + b",udp/" + m.SERVER
LAST_REST = 0.05  # seconds that the last calls stay up, when no others come to push them out
now = time.perf_counter


class Wrong(Exception):
    """The app said something the server would not accept or a caller could not use."""


def expect(good, text, *values):
    if not good:
        raise Wrong(text % values)


# ---------------------------------------------------------------- the app's process


class Gauge:
    """CPU time and resident size of another process."""

    def __init__(self, pid):
        self.pid = pid
        self.clock = (~pid << 3) | 2  # the CPU clock of that process, all its threads

    def cpu(self):
        return time.clock_gettime_ns(self.clock) / 1e9

    def user_system(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        tick = os.sysconf("SC_CLK_TCK")
        return int(fields[11]) / tick, int(fields[12]) / tick

    def memory(self, name="VmRSS"):
        with open(f"/proc/{self.pid}/status") as f:
            for line in f:
                if line.startswith(name):
                    return int(line.split()[1])


def start_app(args):
    command = shlex.split(args.app) + [
        args.workload,
        "--host",
        args.host,
        "--port",
        str(args.port),
        "--secret",
        args.secret,
        "--window",
        str(args.window),
    ]
    if args.listen:
        command.append("--listen")
    if args.tls:
        command += ["--tls", "--key", args.key, "--cert", args.cert]
    env = dict(os.environ, NODE_ENV="production")
    if args.node_path:
        env["NODE_PATH"] = args.node_path
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)


# ---------------------------------------------------------------- one connection


class Link:
    """A connection to the app: frames in, frames out."""

    def __init__(self, sock, on_frame, on_error, on_close, each):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.on_frame, self.on_error, self.on_close = on_frame, on_error, on_close
        self.each = each
        self.buffer = b""
        self.out = []
        self.received = self.written = 0
        self.open = True
        self.pending = getattr(sock, "pending", lambda: 0)

    def send(self, payload):
        self.out.append(b"%d#%b" % (len(payload), payload))
        self.written += 1

    def flush(self):
        out, self.out = self.out, []
        if not out or not self.open:
            return
        try:
            for data in out if self.each else (b"".join(out),):
                self.sock.sendall(data)
        except OSError:
            self.close()

    def readable(self):
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                return self.close()
            try:
                self.feed(data)
            except (Wrong, ValueError) as err:
                self.on_error(err)
                return self.close()
            self.flush()
            if not self.pending():
                return

    def feed(self, data):
        data = self.buffer + data
        at = 0
        while True:
            mark = data.find(b"#", at, at + 7)
            if mark < 0:
                expect(len(data) - at < 7, "no frame length: %r", data[at : at + 20])
                break
            end = mark + 1 + int(data[at:mark])
            if end > len(data):
                break
            self.received += 1
            self.on_frame(self, data[mark + 1 : end])
            at = end
        self.buffer = data[at:]

    def close(self):
        if self.open:
            self.open = False
            self.on_close(self)
            self.sock.close()


# ---------------------------------------------------------------- calls


class Call:
    """One call as the server sees it: the caller's leg, and the leg the app placed if it did."""

    __slots__ = ("n", "link", "request", "dialog", "tag", "state", "since", "leg")

    def __init__(self, n, link, request):
        self.n = b"%08d" % n
        self.link = link
        self.request = request and m.fill(request, self.n)
        self.dialog = self.tag = b""
        self.state = "new"
        self.since = now()
        self.leg = None


class Leg:
    """A leg the app placed."""

    __slots__ = ("call", "dialog", "caller", "callee", "call_id", "cseq", "state", "since")


TAGGED = b";tag=u"


def address(value):
    """A From or Contact the app gave, as the server completes it."""
    value = (value or b"<sip:localhost>").replace(b"localhost", m.SERVER)
    return value if b"<" in value else b"<%b>" % value


class Workload:
    """What the driver does with an app, and what it expects back."""

    routes = {b"invite"}
    request = m.INVITE
    holds = False  # do calls stay up between their answer and their BYE?

    def __init__(self, driver):
        self.driver = driver
        self.txns = {}  # transaction -> (call, what reply is due)
        self.legs = {}  # dialog -> leg the app placed

    def begin(self, link, n):
        call = Call(n, link, self.request)
        self.deliver(call, "first", call.request, b"", m.SERVER.replace(b":", b"|") + b"|")
        return call

    def deliver(self, call, due, raw, dialog, received_on=b""):
        txn = m.uuid()
        self.txns[txn] = call, due
        call.since = now()
        call.link.send(m.delivered(b"network", b"udp", m.CALLER, txn, dialog, raw, received_on))

    # frames from the app

    def frame(self, link, payload):
        leader, _, raw = payload.partition(b"\r\n")
        token = leader.split(b"|")
        kind = token[1]
        if kind == b"sip":
            expect(len(token) in (4, 5), "leader of %d fields: %r", len(token), leader)
            sip = m.Sip(raw)
            if sip.start.startswith(b"SIP/2.0 "):
                self.response(link, token[0], token[2], sip)
            else:
                method, uri, version = sip.start.split(b" ")
                expect(version == b"SIP/2.0", "request line %r", sip.start)
                self.sends(link, token[0], token[3], method, uri, sip)
        elif kind == b"proxy":
            self.proxied(link, token, m.Sip(raw))
        elif kind == b"ping":
            link.send(b"%b|response|%b|OK|pong" % (m.uuid(), token[0]))
        else:
            raise Wrong(f"unexpected message {leader!r}")

    # the app answers a request

    def response(self, link, msgid, txn, sip):
        expect(txn in self.txns, "response to unknown transaction %r", txn)
        call, due = self.txns[txn]
        expect(link is call.link, "response on another connection")
        status = int(sip.start[8:11])
        request = call.request if due == "first" else m.fill(m.BYE, call.n, call.tag)
        raw = self.as_sent(call, due, status, request, sip)
        final = status >= 200
        if final:
            del self.txns[txn]
        if due == "first" and self.request is m.INVITE:
            call.dialog = b"%b-2596@carrier.example.com;from-tag=c%b" % (call.n, call.n)
            protocol, tail = b"udp", b"%b|%b|" % (txn, call.dialog)
        else:
            protocol, tail = b"", b"%b||" % txn
        link.send(m.sent(msgid, protocol, m.CALLER, tail, raw))
        if final:
            self.driver.latency(due, call.since)
            self.answered(call, due, status, txn, sip)

    def as_sent(self, call, due, status, request, sip):
        """Check the app's response against its request; return it as the server sends it."""
        given = sip.headers
        to = m.field(request, b"To")
        for name, key in ((b"Call-ID", b"call-id"), (b"CSeq", b"cseq"), (b"From", b"from")):
            if key in given:
                expect(given[key] == m.field(request, name), "%s is %s", name, given[key])
        if b"to" in given:
            uri, _, tag = given[b"to"].partition(b";tag=")
            expect(uri == to.partition(b";tag=")[0], "To is %s", given[b"to"])
            expect(not tag or tag == call.tag or not call.tag, "To tag changed to %s", tag)
            call.tag = call.tag or tag
        if status > 100 and b";tag=" not in to:
            call.tag = call.tag or b"s" + call.n
            to += b";tag=" + call.tag
        lines = [sip.start, b"Via: " + m.field(request, b"Via")]
        invite = request.startswith(b"INVITE")
        if invite:
            lines.append(b"Record-Route: " + m.field(request, b"Record-Route"))
        lines += [
            b"From: " + m.field(request, b"From"),
            b"To: " + to,
            b"Call-ID: " + m.field(request, b"Call-ID"),
            b"CSeq: " + m.field(request, b"CSeq"),
        ]
        if invite and status // 100 == 2:
            if b"contact" not in given:
                lines.append(b"Contact: <sip:" + m.SERVER + b">")
            lines.append(b"Session-Expires: 1800;refresher=uac")
        known, other = sip.extras()
        return b"%b\r\n%bContent-Length: %d\r\n%b\r\n%b" % (
            b"\r\n".join(lines),
            known,
            len(sip.body),
            other,
            sip.body,
        )

    def answered(self, call, due, status, txn, sip):
        expect(status == 200, "%s answered with %s", due, status)
        self.driver.finished(call)

    # the app sends a request, or proxies one

    def sends(self, link, msgid, dialog, method, uri, sip):
        raise Wrong(f"unexpected {method!r}")

    def proxied(self, link, token, sip):
        raise Wrong("unexpected proxy")


class Options(Workload):
    routes = {b"options"}
    request = m.OPTIONS

    def answered(self, call, due, status, txn, sip):
        expect(b"allow" in sip.headers and b"accept" in sip.headers, "no Allow or Accept")
        super().answered(call, due, status, txn, sip)


class Register(Workload):
    routes = {b"register"}
    request = m.REGISTER

    def answered(self, call, due, status, txn, sip):
        contact = m.field(call.request, b"Contact")
        expect(sip.headers.get(b"contact") == contact, "Contact %r", sip.headers.get(b"contact"))
        expect(sip.headers.get(b"expires") == b"3600", "Expires %r", sip.headers.get(b"expires"))
        super().answered(call, due, status, txn, sip)


class Uas(Workload):
    holds = True

    def answered(self, call, due, status, txn, sip):
        expect(status == 200, "%s answered with %s", due, status)
        if due == "first":
            expect(sip.body.startswith(b"v=0\r\n"), "answered without SDP")
            ack = m.fill(m.ACK, call.n, call.tag)
            call.link.send(m.delivered(b"network", b"", m.CALLER, txn, call.dialog, ack))
            self.up(call)
        else:
            self.down(call)

    def up(self, call):
        self.driver.established(call)

    def hangup(self, call):
        self.deliver(call, "bye", m.fill(m.BYE, call.n, call.tag), call.dialog)

    def down(self, call):
        self.driver.finished(call)


class Legs(Workload):
    """The half of a workload where the app places calls."""

    def sends(self, link, msgid, dialog, method, uri, sip):
        if method == b"INVITE":
            expect(not dialog, "INVITE within %r", dialog)
            expect(sip.body.startswith(b"v=0\r\n"), "INVITE without SDP")
            self.place(link, msgid, uri, sip)
            return
        expect(dialog in self.legs, "%s within unknown dialog %r", method, dialog)
        leg = self.legs[dialog]
        if method == b"ACK":
            expect(leg.state == "answered", "ACK when %s", leg.state)
            leg.state = "up"
            self.driver.latency("ack", leg.since)
            self.echo(link, msgid, leg, b"ACK", leg.cseq, sip)
        elif method == b"BYE":
            expect(leg.state == "up", "BYE when %s", leg.state)
            txn = self.echo(link, msgid, leg, b"BYE", leg.cseq + 1, sip)
            self.reply(link, leg, txn, b"BYE", leg.cseq + 1, b"200 OK", b"")
            del self.legs[dialog]
            self.leg_down(leg)
        else:
            raise Wrong(f"unexpected {method!r}")

    def place(self, link, msgid, uri, sip):
        leg = Leg()
        given = sip.headers
        caller = address(given.get(b"from"))
        leg.call = self.leg_for(link, caller)
        n = leg.call.n
        leg.cseq, leg.state = 123145435, "answered"
        leg.caller = caller.partition(b";tag=")[0] + b";tag=s" + n
        leg.callee = given.get(b"to", b"<%b>" % uri)
        leg.call_id = given.get(b"call-id") or b"b1da94f1-6182-1240-f3a2-%b" % n
        leg.dialog = b"%b;from-tag=s%b" % (leg.call_id, n)
        given[b"contact"] = address(given.get(b"contact"))
        known, other = sip.extras()
        raw = (
            b"%b\r\nVia: SIP/2.0/UDP %b;rport;branch=z9hG4bK%b\r\nMax-Forwards: 70\r\n"
            b"%bCSeq: %d INVITE\r\n%bContent-Length: %d\r\n%b\r\n%b"
            % (
                sip.start,
                m.SERVER,
                n,
                self.parties(leg, b""),
                leg.cseq,
                known,
                len(sip.body),
                other,
                sip.body,
            )
        )
        txn = m.uuid()
        link.send(m.sent(msgid, b"udp", m.SERVER, txn, raw))
        self.legs[leg.dialog] = leg
        self.reply(link, leg, txn, b"INVITE", leg.cseq, b"180 Ringing", b"")
        self.reply(link, leg, txn, b"INVITE", leg.cseq, b"200 OK", m.ANSWER)
        leg.since = now()

    def echo(self, link, msgid, leg, method, cseq, sip):
        """Tell the app its request went out, as it went out."""
        txn = m.uuid()
        known, other = sip.extras()
        raw = (
            b"%b sip:%b;transport=UDP SIP/2.0\r\nVia: SIP/2.0/UDP %b;rport;branch=z9hG4bK%b\r\n"
            b"Max-Forwards: 70\r\n%bCSeq: %d %b\r\n%bContent-Length: %d\r\n%b\r\n%b"
            % (
                method,
                m.CALLEE,
                m.SERVER,
                txn[:8],
                self.parties(leg, TAGGED),
                cseq,
                method,
                known,
                len(sip.body),
                other,
                sip.body,
            )
        )
        link.send(m.sent(msgid, b"udp", m.SERVER, txn, raw))
        return txn

    def reply(self, link, leg, txn, method, cseq, status, body):
        raw = (
            b"SIP/2.0 %b\r\nVia: SIP/2.0/UDP %b;rport;branch=z9hG4bK%b\r\n%bCSeq: %d %b\r\n"
            b"Contact: <sip:%b;transport=UDP>\r\n%bContent-Length:   %d\r\n\r\n%b"
            % (
                status,
                m.SERVER,
                leg.call.n,
                self.parties(leg, TAGGED),
                cseq,
                method,
                m.CALLEE,
                body and b"Content-Type: application/sdp\r\n",
                len(body),
                body,
            )
        )
        link.send(m.delivered(b"network", b"udp", m.CALLEE, txn, leg.dialog, raw))

    def parties(self, leg, tag):
        tag = tag and b"%b%b" % (tag, leg.call.n)
        return b"From: %b\r\nTo: %b%b\r\nCall-ID: %b\r\n" % (
            leg.caller,
            leg.callee,
            tag,
            leg.call_id,
        )


class Uac(Legs):
    routes = set()
    request = None
    count = 0

    def begin(self, link, n):
        """Nothing: this app starts by itself, and goes on until it is stopped."""

    def leg_for(self, link, caller):
        self.count += 1
        return Call(self.count, link, None)

    def leg_down(self, leg):
        self.driver.finished(leg.call)


class B2bua(Uas, Legs):
    def __init__(self, driver):
        super().__init__(driver)
        self.unplaced = {}  # calling number -> call

    def begin(self, link, n):
        call = super().begin(link, n)
        call.state = "up"
        self.unplaced[b"+1555" + call.n] = call

    def leg_for(self, link, caller):
        number = caller.partition(b"sip:")[2].partition(b"@")[0]
        expect(number in self.unplaced, "an INVITE from %r", caller)
        call = self.unplaced.pop(number)
        self.driver.latency("leg", call.since)
        call.leg = True
        return call

    def as_sent(self, call, due, status, request, sip):
        if due == "first" and status == 200:
            expect(call.leg, "answered before the other leg")
            expect(sip.body == m.ANSWER, "another SDP than the callee gave")
        return super().as_sent(call, due, status, request, sip)

    # the call is over when the caller's BYE is answered and the callee got a BYE

    def down(self, call):
        self.half(call)

    def leg_down(self, leg):
        self.driver.latency("other", leg.call.since)
        self.half(leg.call)

    def half(self, call):
        if call.state == "half":
            self.driver.finished(call)
        call.state = "half"


class Proxy(Workload):
    def proxied(self, link, token, sip):
        expect(len(token) >= 10, "proxy with %d fields", len(token))
        txn = token[2]
        expect(txn in self.txns, "proxy of unknown transaction %r", txn)
        expect(
            token[3:7] == [b"remainInDialog", b"fullResponse", b"", b"serial"],
            "proxy options %r",
            token[3:7],
        )
        expect(token[9].startswith(b"sip:"), "destination %r", token[9])
        expect(sip.start.startswith(b"INVITE sip:"), "proxy of %r", sip.start)
        call, _ = self.txns.pop(txn)
        host, _, port = m.CALLEE.partition(b":")
        raw = m.fill(m.PROXIED_200, call.n)
        link.send(
            b"%b|response|%b|OK|network|%d|udp|%b|%b|%b|||continue\r\n%b"
            % (m.uuid(), token[0], len(raw), host, port, m.clock(), raw)
        )
        link.send(b"%b|response|%b|OK|done" % (m.uuid(), token[0]))
        self.driver.latency("first", call.since)
        self.driver.finished(call)


class Churn(Uas):
    """A connection for each call; the call is over when the app has closed it."""

    def down(self, call):
        call.state = "ended"


WORKLOADS = {
    "uas": Uas,
    "options": Options,
    "register": Register,
    "uac": Uac,
    "b2bua": B2bua,
    "proxy": Proxy,
    "churn": Churn,
    "soak": Uas,
}


# ---------------------------------------------------------------- the driver


class Driver:
    def __init__(self, args):
        self.args = args
        self.work = WORKLOADS[args.workload](self)
        self.selector = selectors.DefaultSelector()
        self.each = args.rate > 0 or args.flush == "each"
        self.total = args.warmup + args.calls
        self.started = self.done = self.busy = 0
        self.held = collections.deque()  # (when it was answered, call)
        self.hold = args.hold if args.hold is not None else 2 * args.window
        self.releasing = False
        self.errors = 0
        self.samples = []
        self.times = collections.defaultdict(list)
        self.links = set()
        self.calls_on = {}  # churn: link -> call
        self.frames = 0  # frames of links already closed
        self.marks = {}
        self.routes = set()
        self.ready = False
        self.moved = now()

    # --- what the workloads tell

    def latency(self, kind, since):
        if "start" in self.marks:
            self.times[kind].append(now() - since)

    def established(self, call):
        self.busy -= 1
        self.moved = now()
        self.held.append((self.moved, call))

    def finished(self, call):
        self.busy -= 1
        self.done += 1
        self.moved = now()
        if self.done == self.args.warmup:
            self.mark("start")
        if self.done == self.total and "end" not in self.marks:
            self.mark("end")

    def error(self, why):
        self.errors += 1
        if len(self.samples) < 5:
            self.samples.append(str(why))

    def mark(self, name):
        self.marks[name] = {
            "time": now(),
            "cpu": self.gauge.cpu(),
            "us": self.gauge.user_system(),
            "rss": self.gauge.memory(),
            "frames": self.count_frames(),
            "done": self.done,
        }

    def count_frames(self):
        return self.frames + sum(link.received + link.written for link in self.links)

    # --- connections

    def context(self, server):
        if not self.args.tls:
            return None
        if server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.args.cert, self.args.key)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def accept(self):
        with socket.create_server((self.args.host, self.args.port)) as server:
            server.settimeout(20)
            self.spawn()
            sock, _ = server.accept()
        sock.settimeout(20)
        context = self.context(True)
        return self.add(context.wrap_socket(sock, server_side=True) if context else sock)

    def dial(self):
        deadline = now() + 20
        while True:
            try:
                sock = socket.create_connection((self.args.host, self.args.port), 20)
                break
            except ConnectionRefusedError:
                if now() > deadline:
                    raise
                time.sleep(0.05)
        context = self.context(False)
        return context.wrap_socket(sock) if context else sock

    def connect(self):
        return self.add(self.dial())

    def add(self, sock):
        link = Link(sock, self.on_frame, self.error, self.on_close, self.each)
        self.links.add(link)
        self.selector.register(sock, selectors.EVENT_READ, link.readable)
        return link

    def on_frame(self, link, payload):
        try:
            expect(payload[36:37] == b"|", "no message id: %r", payload[:60])
            kind = payload[37:50].partition(b"|")[0]
            if kind == b"authenticate":
                self.authenticate(link, payload)
            elif kind == b"route":
                self.route(link, payload)
            else:
                self.work.frame(link, payload)
        except (Wrong, ValueError, IndexError) as err:
            self.error(err)

    def authenticate(self, link, payload):
        msgid, _, secret, _ = payload.split(b"|", 3)
        expect(secret == self.args.secret.encode(), "secret %r", secret)
        link.send(b"%b|response|%b|OK|%b|%b|%b" % (m.uuid(), msgid, ENDPOINTS, VERSION, ENDPOINTS))
        if link in self.calls_on:
            self.calls_on[link] = self.work.begin(link, self.calls_on[link])
        elif self.args.listen or not self.work.routes:
            self.ready = True

    def route(self, link, payload):
        msgid, _, verb = payload.split(b"|")
        link.send(b"%b|response|%b|OK" % (m.uuid(), msgid))
        self.routes.add(verb)
        self.ready = self.work.routes <= self.routes

    def on_close(self, link):
        self.frames += link.received + link.written
        self.links.discard(link)
        self.selector.unregister(link.sock)
        call = self.calls_on.pop(link, None)
        if self.args.workload == "churn" and getattr(call, "state", "") == "ended":
            self.finished(call)
        elif "end" not in self.marks:
            self.error("the app closed the connection")
            if self.args.workload != "churn":
                self.total = self.done

    # --- the run

    def spawn(self):
        if self.args.app:
            self.process = start_app(self.args)
            self.gauge = Gauge(self.process.pid)
        else:
            self.process = None
            self.gauge = Gauge(self.args.pid)

    def turn(self, timeout):
        for key, _ in self.selector.select(timeout):
            key.data()

    def begin(self):
        self.busy += 1
        self.started += 1
        if self.args.workload == "churn":
            link = self.connect()
            self.calls_on[link] = self.started
        else:
            self.work.begin(self.link, self.started)

    def release(self):
        self.busy += 1
        _, call = self.held.popleft()
        self.work.hangup(call)

    def flush(self):
        for link in list(self.links):
            link.flush()

    def saturate(self):
        """Keep `window` requests unanswered; an answered call is held until others came after."""
        passive = not self.work.request
        while self.done < self.total and not self.stalled():
            while not passive and self.busy < self.args.window:
                if len(self.held) > self.hold:
                    self.release()
                elif self.started < self.total:
                    self.begin()
                elif self.held and self.held[0][0] + LAST_REST < now():
                    self.release()
                else:
                    break
            self.flush()
            self.turn(LAST_REST if self.held else 1)

    def pace(self):
        """Start calls by the clock, and hang each up `hold-ms` after its answer."""
        rest, first = self.args.hold_ms / 1000, now()
        while self.done < self.total and not self.stalled():
            due = first + self.started / self.args.rate
            while self.started < self.total and due <= now():
                self.begin()
                self.flush()
                due = first + self.started / self.args.rate
            while self.held and self.held[0][0] + rest <= now():
                self.release()
                self.flush()
            wake = [due] if self.started < self.total else []
            wake += [self.held[0][0] + rest] if self.held else []
            self.turn(max(0, min(wake, default=now() + 1) - now()))

    def soak(self):
        """Open every call, look at the memory, then end them all and look again."""
        calls = self.args.calls
        self.settle()
        before = self.gauge.memory()
        self.mark("start")
        self.fill(self.begin, lambda: self.started < calls)
        self.mark("opened")
        self.settle()
        held = self.gauge.memory()
        self.mark("closing")
        self.fill(self.release, lambda: self.held)
        self.mark("end")
        self.settle()
        return {
            "held": calls,
            "rss_before_kb": before,
            "rss_held_kb": held,
            "rss_per_dialog_bytes": round((held - before) * 1024 / calls),
            "rss_after_close_kb": self.gauge.memory(),
        }

    def fill(self, step, more):
        self.moved = now()
        while (more() or self.busy) and not self.stalled():
            while more() and self.busy < self.args.window:
                step()
            self.flush()
            self.turn(1)

    def settle(self):
        if self.args.collect:
            os.kill(self.gauge.pid, signal.SIGUSR2)
        time.sleep(self.args.settle)

    def stalled(self):
        if now() - self.moved < self.args.patience:
            return False
        self.error(
            f"nothing moved for {self.args.patience} s: {self.started} started, "
            f"{self.done} done, {len(self.held)} held"
        )
        return True

    def run(self):
        args = self.args
        extra = {}
        try:
            if args.listen:
                self.spawn()
            if args.workload != "churn":
                self.link = self.connect() if args.listen else self.accept()
                deadline = now() + 20
                while not self.ready:
                    if now() > deadline:
                        raise SystemExit("the app did not authenticate and ask for its routes")
                    self.turn(1)
            else:
                self.dial().close()  # wait until it listens
            rss = self.gauge.memory()
            self.moved = now()
            if args.workload == "soak":
                extra = self.soak()
            else:
                if not args.warmup:
                    self.mark("start")
                self.pace() if args.rate else self.saturate()
            if "end" not in self.marks:
                self.mark("end")
            peak = self.gauge.memory("VmHWM")
            if args.settle and args.workload != "soak":
                self.settle()
            return self.result(rss, peak, extra)
        finally:
            if getattr(self, "process", None):
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()

    def result(self, rss, peak, extra):
        args = self.args
        if "start" not in self.marks:
            return {
                "workload": args.workload,
                "calls": 0,
                "errors": self.errors,
                "error_samples": self.samples,
            }
        start, end = self.marks["start"], self.marks["end"]
        calls = end["done"] - start["done"]
        wall, cpu = end["time"] - start["time"], end["cpu"] - start["cpu"]
        if args.workload == "soak":  # leave the rest between opening and closing out
            opened, closing = self.marks["opened"], self.marks["closing"]
            wall -= closing["time"] - opened["time"]
            cpu -= closing["cpu"] - opened["cpu"]
        frames = end["frames"] - start["frames"]
        return {
            "workload": args.workload,
            "mode": f"paced {args.rate}/s" if args.rate else f"window {args.window}",
            "calls": calls,
            "msgs": frames,
            "wall_s": round(wall, 3),
            "cpu_s": round(cpu, 3),
            "cpu_user_s": round(end["us"][0] - start["us"][0], 2),
            "cpu_sys_s": round(end["us"][1] - start["us"][1], 2),
            "cpu_us_per_call": round(cpu / calls * 1e6, 1) if calls else None,
            "cpu_share": round(cpu / wall, 2),
            "calls_per_s": round(calls / wall),
            "msgs_per_s": round(frames / wall),
            "latency_us": {kind: quantiles(times) for kind, times in self.times.items()},
            "rss_start_kb": rss,
            "rss_end_kb": end["rss"],
            "rss_settled_kb": self.gauge.memory(),
            "rss_peak_kb": peak,
            **extra,
            "errors": self.errors,
            "error_samples": self.samples,
        }


def quantiles(times):
    times = sorted(times)
    return {
        "p50": round(times[len(times) // 2] * 1e6),
        "p99": round(times[len(times) * 99 // 100] * 1e6),
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--workload", choices=sorted(WORKLOADS), required=True)
    add("--app", help="command that starts the app; the standard arguments are added to it")
    add("--pid", type=int, help="measure an app you started yourself")
    add("--calls", type=int, default=20000)
    add("--warmup", type=int, default=3000, help="calls before the measurement starts")
    add("--window", type=int, default=50, help="requests kept unanswered")
    add("--hold", type=int, help="answered calls kept up, window mode (default: twice the window)")
    add("--rate", type=float, default=0, help="start calls at this rate instead of by window")
    add("--hold-ms", type=float, default=100, help="how long a call stays up, rate mode")
    add(
        "--flush",
        choices=("batch", "each"),
        default="batch",
        help="one write for all that is ready, or one for each frame (always so in rate mode)",
    )
    add("--settle", type=float, default=0, help="seconds of rest before memory is read")
    add("--collect", action="store_true", help="send SIGUSR2 before each rest")
    add("--patience", type=float, default=10)
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=33100)
    add("--secret", default="cymru")
    add("--listen", action="store_true", help="outbound mode: the app listens, the driver connects")
    add("--tls", action="store_true")
    add("--key")
    add("--cert")
    add("--node-path", help="where Node finds its modules (NODE_PATH)")
    args = parser.parse_args()
    if bool(args.app) == bool(args.pid):
        parser.error("give one of --app and --pid")
    if args.tls and not (args.key and args.cert):
        parser.error("--tls needs --key and --cert")
    args.listen = args.listen or args.workload == "churn"
    if args.workload == "soak":
        args.warmup = 0
        args.settle = args.settle or 3
    return args


if __name__ == "__main__":
    outcome = Driver(arguments()).run()
    print(json.dumps(outcome, indent=1))
    sys.exit(1 if outcome["errors"] else 0)
