"""Recordings 28 to 41, lived again: outbound connections, losses, odd messages."""

from __future__ import annotations

from drachtwist.net.tls import TlsOptions
from tests.certificates import identity
from tests.interop.live.cases import ByHand, Different, LiveTestCase
from tests.interop.live.phones import SDP_ALICE, Callee, Caller, answering, talking
from tests.transcripts import transcript

LONG = "Frames may be longer than 12,228 bytes"
UTF8 = "text/plain;charset=UTF-8"
ROUTE = '{"action": "route", "data": {"uri": "127.0.0.1:32131"}}'


def asking() -> Caller:
    """Call."""
    return Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True)


def refused(status: int, *holding: str) -> Caller:
    """Call in vain."""
    return asking().got(status, holding=holding).refused_ack()


class LiveTests(LiveTestCase):
    application = "app_28_40.js"
    different = {
        36: [
            Different("cdr:stop BYE #5: .*'Max-Forwards: 69'$", "Max-Forwards goes down"),
            Different("cdr:start 200 INVITE #5: .*'Content-Length: 166'$", "are written anew"),
        ],
        37: [Different("OPTIONS #1: recorded 'To: .* live 'To: <", "To stands in brackets")],
        38: [
            Different("^connection [345], .* only live: (sip 503|.*: answer OK )", LONG),
            Different(r"^connection 5: close: recorded \['server'\], live \['app'\]", LONG),
            Different(r"^connection 7: close: .* live \['server'\]", "always ends the connection"),
            Different("^connection 7, app: not live: bytes 41#", "always ends the connection"),
            Different(r"^connection 14: close: .* live \['app'\]", "may come at once"),
            Different("^connection 14, .* only live: to ping: answer OK ", "may come at once"),
            Different("^connection 14, server: not live: answer OK$", "may come at once"),
        ],
        41: [
            Different(r"^connection ([123]|12): close: .* live \['app'\]", "nobody else suffers"),
            Different("^connection [12], .*: answer NOK ", "A `tel:` URI without a route"),
            Different("^connection 3, .* only live: (sip 503|.*: answer OK )", "sent there"),
            Different("^connection 4, .*: answer NOK ", "a request with a transaction id"),
            Different(r"^connection 5: close: .* live \['server'\]", "their connection is closed"),
            Different("^connection [5-9], .*: answer NO ", "few tokens get `NO`"),
            Different("^connection 12, .*: answer NOK ", "a status line without a number"),
        ],
    }

    async def replayed(self, connection: int, frames: int = 1000) -> ByHand:
        """Send what was sent on a connection, or some of that."""
        client = await self.by_hand(connection)
        await client.play(frames)
        await client.answered()
        return client

    async def test_28(self) -> None:
        """The server connects to the application, for one call."""
        await self.begin(28, [(200, ROUTE)])
        app = await self.app(port=await self.relay_to_app(32131))
        phone = asking().got(200).request("ACK").then()
        phone.request("INFO", 2, body=["hello"], kind="text/plain").got(200).then()
        await self.caller(phone.request("BYE", 3).got(200))
        await self.tell(app, "close")
        await self.compare()

    async def test_29(self) -> None:
        """The server connects to the application over TLS."""
        me = identity()
        (self.directory / "key.pem").write_bytes(me.key)
        (self.directory / "certificate.pem").write_bytes(me.certificate)
        tls = TlsOptions(key=me.key, certificate=me.certificate, ca=me.certificate)
        route = ROUTE.replace("32131", "32131;transport=tls")
        await self.begin(29, [(200, route)], tls=TlsOptions(ca=me.certificate))
        app = await self.app(port=await self.relay_to_app(32131, tls))
        await self.caller(talking())
        await self.tell(app, "close")
        await self.compare()

    async def test_30(self) -> None:
        """The routing web server decides by itself; then it gives wrong answers; then none."""
        told = [line for line in transcript(30) if line.event == "response"]
        await self.begin(30, [(line.status, line.body) for line in told])
        await self.caller(refused(503, "^SIP/2.0 503 Max Calls Exceeded"))
        await self.caller(refused(404, "^SIP/2.0 404 Not Found"))
        carol = self.with_live_ports("Contact: <sip:carol@127.0.0.1:32073>")
        dave = self.with_live_ports("Contact: <?sip:dave@127.0.0.1:32074")
        await self.caller(refused(302, "^SIP/2.0 302 Moved", carol, dave))
        await self.caller(refused(500))
        bob = await self.callee(answering(vias=2))
        phone = asking().got(180).got(200, holding=["Record-Route:"]).request("ACK")
        await self.caller(phone.request("BYE", 2).got(200))
        await self.succeeds(bob)
        for _ in range(4):
            await self.caller(refused(500))
        at = "[remote_ip]:[remote_port]"
        phone = Caller().request("REGISTER", uri=f"sip:{at}", to=f"<sip:alice@{at}>")
        await self.caller(phone.got(403))
        await self.web.stopListening()
        await self.caller(refused(500))
        await self.compare()

    async def test_31(self) -> None:
        """The server is to connect to an application that does not listen."""
        await self.begin(31, [(200, ROUTE.replace("32131", "32139"))])
        await self.caller(refused(480, "^SIP/2.0 480 Temporarily Unavailable"))
        await self.compare()

    async def test_32(self) -> None:
        """Applications are killed: one in a call, another when its phone rings."""
        await self.begin(32)
        app = await self.app()
        phone = asking().got(200).request("ACK").then(freely=False)
        phone.request("INFO", 2, body=["hello"], kind="text/plain").got(500)
        call = await self.calling(phone.request("BYE", 3).got(200))
        await self.app_ends(app, "KILL")
        self.go(call)
        await self.succeeds(call)
        app = await self.app("32-ringing")
        phone = Caller("ring").request("INVITE", body=SDP_ALICE).got(100, optional=True)
        phone.got(180).got(480).refused_ack()
        call = await self.calling(phone, user="ring")
        await self.app_ends(app, "KILL")
        await self.succeeds(call)
        await self.caller(refused(503))
        await self.compare()

    async def test_33(self) -> None:
        """No ACK comes, and the server ends the call."""
        await self.begin(33)
        await self.app()
        call = await self.calling(asking().got(200).got_request("BYE").answers())
        await self.before("server", "sip BYE")
        self.later(32)
        await self.compare(call)

    async def test_34(self) -> None:
        """The application calls without SDP, and gives it with the ACK."""
        await self.begin(34)
        phone = await self.callee(answering())
        await self.app()
        await self.compare(phone)

    async def test_35(self) -> None:
        """Japanese, accents and emoji in names, headers and bodies, in both directions."""
        await self.begin(35)
        app = await self.app()
        sdp = [line.replace("s=-", "s=電話 📞") for line in SDP_ALICE]
        subject = "Subject: ありがとう 🎉 déjà vu"
        phone = Caller(name="花子 😀").request("INVITE", extra=[subject], body=sdp)
        phone.got(100, optional=True).got(200).request("ACK", name="Alice")
        phone.request("MESSAGE", 2, body=["もしもし 🍣 æøå"], kind=UTF8).got(200)
        phone.got_request("INFO").answers(extra=["X-Note: 了解 ✅"], body=["はい 🙆"], kind=UTF8)
        await self.caller(phone.then().request("BYE", 3).got(200))
        bob = await self.callee(answering())
        await self.tell(app, "sip INVITE")
        await self.succeeds(bob)
        callee = Callee().got("MESSAGE").ok(body=["元気です 😄"], kind=UTF8, tag=True)
        bob = await self.callee(callee)
        await self.tell(app, "sip MESSAGE")
        await self.compare(bob)

    async def test_36(self) -> None:
        """Records of calls: answered, refused, cancelled, made by the application, proxied."""
        await self.begin(36, cdrs=True)
        app = await self.app()

        def call(user: str) -> Caller:
            phone = Caller(user).request("INVITE", body=SDP_ALICE)
            return phone.got(100, optional=True)

        await self.caller(talking())
        phone = call("hangup").got(200).request("ACK")
        await self.caller(phone.got_request("BYE").answers(), user="hangup")
        await self.caller(call("busy").got(486).refused_ack(), user="busy")
        phone = call("ring").got(180).then().cancel().got(200).got(487)
        await self.caller(phone.refused_ack(), user="ring")
        for callee in (
            answering(),
            Callee().got("INVITE").answer(404, "Not Found").got("ACK"),
        ):
            bob = await self.callee(callee)
            await self.tell(app, "sip INVITE")
            await self.succeeds(bob)
        bob = await self.callee(answering(vias=2))
        phone = call("proxy").got(180).got(200).request("ACK")
        await self.caller(phone.then().request("BYE", 2).got(200), user="proxy")
        await self.compare(bob)

    async def test_37(self) -> None:
        """Commands that are refused; those before the secret was shown are allowed here."""
        await self.begin(37, require_authentication=False)
        sent = [line.frame for line in self.recorded if line.sender == "app" and line.frame]
        removal = next(at for at, frame in enumerate(sent) if b"|remove_route|" in frame)
        client = await self.replayed(1, removal)
        await self.caller(Caller().request("OPTIONS").got(503), at_once=True)
        await client.play(2)
        await client.answered()
        call = await self.calling(refused(486), at_once=True)
        await client.play(1)
        await self.succeeds(call)
        await client.play()
        for connection in (2, 3, 4):
            await self.replayed(connection)
        await self.compare()

    async def test_38(self) -> None:
        """Frames of all sizes, and what is no frame."""
        # Two of its requests are long; this is how the real server sends them.
        await self.begin(38, udp_mtu=None)
        for connection in range(1, 16):
            if connection == 7:  # for garbage and what follows not to be read at once
                client = await self.replayed(connection, 2)
                await client.play()
            else:
                await self.replayed(connection)
        await self.compare()

    async def test_39(self) -> None:
        """Bodies of two parts: one comes, one goes."""
        await self.begin(39)
        app = await self.app()
        mark = "--OSS-unique-boundary-42"
        body = [
            *(mark, "Content-Type: application/sdp", "", *SDP_ALICE),
            *(mark, "Content-Type: application/rs-metadata+xml"),
            *("Content-Disposition: recording-session", ""),
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<recording xmlns="urn:ietf:params:xml:ns:recording:1">',
            "<datamode>complete</datamode>",
            '<session session_id="c2Vzc2lvbjE=">'
            "<sipSessionID>ab30317f1a784dc48ff824d0d3715d86</sipSessionID></session>",
            *("</recording>", f"{mark}--"),
        ]
        kind = f"multipart/mixed;boundary={mark[2:]}"
        phone = Caller().request("INVITE", extra=["Require: siprec"], body=body, kind=kind)
        phone.got(100, optional=True).got(200).request("ACK").then()
        await self.caller(phone.request("BYE", 2).got(200))
        bob = await self.callee(answering())
        await self.tell(app, "sip INVITE")
        await self.compare(bob)

    async def test_40(self) -> None:
        """Requests right behind the ACK, and before it."""
        await self.begin(40)
        app = await self.app()

        def info(phone: Caller, number: int, text: str) -> Caller:
            phone.request(
                "INFO",
                number,
                extra=[f"X-Seq: {number}"],
                body=[text],
                kind="text/plain",
            )
            return phone

        async def call(phone: Caller, answers: int) -> None:
            peer = await self.calling(phone)
            for _ in range(answers):
                await self.tell(app, "sip 200 INFO")
            await self.succeeds(peer)

        phone = asking().got(180).got(200).request("ACK")
        info(info(phone, 2, "one"), 3, "two").got(200).got(200)
        await call(phone.then().request("BYE", 4).got(200), 2)
        phone = info(asking().got(180).got(200), 2, "before the ACK").request("ACK").got(200)
        await call(phone.then().request("BYE", 3).got(200), 1)
        phone = asking().got(180).got(200).request("ACK")
        await call(phone.request("BYE", 2).got(200), 0)
        await self.compare()

    async def test_41(self) -> None:
        """What ends or silences the real server."""
        await self.begin(41)
        for connection in range(1, 12):
            await self.replayed(connection)
        for connection, commands in ((12, 1), (13, 3), (14, 1), (15, 1)):
            client = await self.replayed(connection, 2)
            phone = refused(500 if connection == 14 else 486)
            call = await self.calling(phone, at_once=True)
            await client.play(commands)
            await client.answered()
            if connection == 12:
                call.kill()  # nobody has answered it
                await call.ended
            else:
                await self.succeeds(call)
            await client.play()
            await client.answered()
            await client.closed()  # or the next call would come here
        await self.compare()
