"""Recordings of a real server, played to applications that answer, as a user would write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    AuthenticationError,
    ConnectionLost,
    Dialog,
    DialogEnd,
    LocalProtocolError,
    Request,
    Response,
    SipError,
    sip,
)
from drachtwist.errors import FrameTooLarge
from drachtwist.sip import digest
from drachtwist.wire.commands import Answer
from drachtwist.wire.frames import encode_frame
from tests.app.player import Player, ReplayTestCase, message_of, session
from tests.transcripts import transcript


class ReplayTests(ReplayTestCase):
    """One test for each recording."""

    def test_01_routes(self) -> None:
        """Tags are shown, and routes added and withdrawn; none is repeated."""

        def application(player: Player) -> Callable[[], None]:
            srf = player.srf

            def ok(req: Request, res: Response) -> None:
                res.send(200)

            for add in (srf.invite, srf.register, srf.options, srf.subscribe, srf.message):
                add(ok)
            player.start(tags=["alpha", "team-blue"])
            player.clock.callLater(0.35, srf.publish, ok)
            player.clock.callLater(0.776, srf.unregister_for_messages, "message")
            player.clock.callLater(1.18, srf.reregister_for_messages, "message")

            def check() -> None:
                # Node said five again when the sixth was added.
                self.assertEqual(player.skipped[:2], ["route|invite", "route|register"])
                self.assertEqual(len(player.skipped), 5)

            return check

        self.play(1, application)

    def test_02_wrong_secret(self) -> None:
        """A wrong secret is reported once; Node tried it 14 times in three seconds."""
        for reads in ("together", "cut"):
            player = Player(self, 2, reads)
            errors: list[Exception] = []
            player.srf.on_error(errors.append)
            player.start(secret="not-the-secret")
            player.lines = tuple(line for line in player.lines if line.connection == 1)
            player.play()
            player.clock.advance(0)
            player.clock.advance(3600)
            self.assertEqual(player.opened, [])
            [error] = errors
            self.assertIsInstance(error, AuthenticationError)
            self.assertIn("incorrect secret", str(error))

    def test_03_pings(self) -> None:
        """The server is asked every five seconds whether it is there."""

        def application(player: Player) -> None:
            player.start(ping_interval=5.0)

        self.play(3, application)

    def test_04_caller_hangs_up(self) -> None:
        """A call rings, is answered, and ended by the caller."""

        def application(player: Player) -> Callable[[], None]:
            ends: list[Request | None] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                ringing = res.send(180)
                await player.sleep(0.3)
                self.assertEqual((await ringing).to.tag, "g6pNjyrX1BvmS")
                dialog = await player.srf.create_uas(req, res, local_sdp=session())
                self.assertEqual(dialog.local.tag, "g6pNjyrX1BvmS")
                dialog.on_destroy(ends.append)

            player.start()

            def check() -> None:
                self.assertEqual([bye.method for bye in ends if bye], ["BYE"])
                self.assertTrue(player.srf.idle)

            return check

        self.play(4, application)

    def test_05_application_hangs_up(self) -> None:
        """A call is answered with a header more, and ended with another."""

        def application(player: Player) -> Callable[[], None]:
            statuses: list[int] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                dialog = await player.srf.create_uas(
                    req, res, local_sdp=session(), headers={"X-Greeting": "hello"}
                )
                await player.sleep(0.5)
                response = await dialog.destroy({"X-Why": "finished"})
                assert response is not None
                statuses.append(response.status)

            player.start()
            return lambda: self.assertEqual(statuses, [200])

        self.play(5, application)

    def test_06_refused(self) -> None:
        """A call is refused with a phrase and a header."""

        def application(player: Player) -> Callable[[], None]:
            echoes: list[sip.Response] = []

            @player.srf.invite
            def refuse(req: Request, res: Response) -> None:
                sending = res.send(486, "Busy Right Now", headers={"Retry-After": "30"})
                sending.addCallback(echoes.append)

            player.start()
            return lambda: self.assertEqual([echo.status for echo in echoes], [486])

        self.play(6, application)

    def test_07_cancelled(self) -> None:
        """A call that rings is cancelled; nothing is said about that."""

        def application(player: Player) -> Callable[[], None]:
            outcomes: list[Any] = []

            @player.srf.invite
            async def ring(req: Request, res: Response) -> None:
                req.on_cancel(outcomes.append)
                res.send(180)
                await player.sleep(0.5)
                try:
                    await player.srf.create_uas(req, res, local_sdp=session())
                except SipError as error:
                    outcomes.append(error.status)

            player.start()

            def check() -> None:
                cancel, status = outcomes
                self.assertEqual(cancel.get("Reason"), 'SIP;cause=487;text="Caller gave up"')
                self.assertEqual(status, 487)

            return check

        self.play(7, application)

    def test_08_reliable(self) -> None:
        """A reliable response is acknowledged, and the acknowledgement answered."""

        def application(player: Player) -> Callable[[], None]:
            racks: list[str | None] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                res.send(
                    183,
                    headers={"Require": "100rel"},
                    body=session(),
                    on_prack=lambda prack: racks.append(prack.get("RAck")),
                )
                await player.sleep(0.2)
                await player.srf.create_uas(req, res, local_sdp=session())

            player.start()
            return lambda: self.assertEqual(racks, ["782606194 1 INVITE"])

        self.play(8, application)

    def test_18_modified(self) -> None:
        """A call is held and resumed by the caller, then modified twice; once that is refused."""

        def application(player: Player) -> Callable[[], None]:
            events: list[Any] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                dialog = await player.srf.create_uas(req, res, local_sdp=session())
                dialog.on_hold(lambda req: events.append("hold"))
                dialog.on_unhold(lambda req: events.append("unhold"))
                dialog.on_destroy(lambda bye: events.append("over"))
                await player.sleep(1.015)
                events.append(len(await dialog.modify(session(2, 32600))))
                await player.sleep(0.2)
                try:
                    await dialog.modify(session(3, 32700))
                except SipError as error:
                    events.append(error.status)
                self.assertEqual(dialog.local.sdp, session(2, 32600).encode())

            player.start()
            return lambda: self.assertEqual(events, ["hold", "unhold", 168, 488, "over"])

        self.play(18, application)

    def test_19_requests_in_a_dialog(self) -> None:
        """Requests of many kinds go both ways in a dialog; a refusal is a result."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                dialog = await player.srf.create_uas(req, res, local_sdp=session())

                @dialog.on_info
                def info(req: Request, res: Response) -> None:
                    seen.append(req.text)
                    headers = {"Content-Type": "text/plain", "X-Seen": "yes"}
                    res.send(200, headers=headers, body="got it")

                dialog.on_message(lambda req, res: res.send(202))
                dialog.on_update(lambda req, res: res.send(200, body=session()))
                await player.sleep(1.39)
                for waiting in (
                    dialog.info(
                        headers={"Content-Type": "application/dtmf-relay"},
                        body="Signal=5\r\nDuration=160\r\n",
                    ),
                ):
                    seen.append((await waiting).status)
                response = await dialog.message(
                    headers={"Content-Type": "text/plain"}, body="hello there"
                )
                seen.append((response.status, response.get("Accept")))
                seen.append((await dialog.options()).get("Allow"))
                update = await dialog.update(body=session(2))
                seen.append((update.status, len(update.body)))

            player.start()
            expected = [
                "Signal=1\r\nDuration=100\r\n",
                200,
                (415, "text/html"),
                "INVITE, ACK, BYE, CANCEL, INFO",
                (200, 168),
            ]
            return lambda: self.assertEqual(seen, expected)

        self.play(19, application)

    def test_20_registrations(self) -> None:
        """A registration is challenged; the right password is accepted, a wrong one refused."""
        nonce = "84f1c1ae6cbe5ua9c8e88dfa3ecm3459"
        challenge = f'Digest realm="drachtwist.test", nonce="{nonce}", algorithm=MD5, qop="auth"'

        def application(player: Player) -> None:
            @player.srf.register
            def register(req: Request, res: Response) -> None:
                if not req.has("Authorization"):
                    res.send(401, headers={"WWW-Authenticate": challenge})
                    return
                given = digest.Credentials.parse(req.get("Authorization") or "")
                if not digest.verify(given, method="REGISTER", password="wonderland"):
                    res.send(403)
                    return
                expires = req.get("Expires") or ""
                res.send(
                    200,
                    headers={
                        "Contact": f"{req.get('Contact')};expires={expires}",
                        "Expires": expires,
                        "Date": "Thu, 01 Jan 2026 00:00:00 GMT",
                    },
                )

            player.start()

        self.play(20, application)

    def test_21_options(self) -> None:
        """An OPTIONS is answered, and one is sent, outside of dialogs."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.options
            def describe(req: Request, res: Response) -> None:
                self.assertEqual(req.stack_dialog_id, "")
                res.send(
                    200,
                    headers={
                        "Accept": "application/sdp",
                        "Allow": "INVITE, ACK, BYE, CANCEL, OPTIONS",
                        "Supported": "100rel",
                    },
                )

            @player.srf.on_connect
            async def connected(link: object) -> None:
                await player.sleep(0.72)
                response = await player.srf.request(
                    "sip:bob@127.0.0.1:32071",
                    method="OPTIONS",
                    headers={"Subject": "are you there", "From": "<sip:monitor@127.0.0.1>"},
                )
                seen.append(response.get("Allow"))

            player.start()
            return lambda: self.assertEqual(seen, ["INVITE, ACK, BYE, CANCEL"])

        self.play(21, application)

    def test_28_outbound(self) -> None:
        """A server connects for one call; the connection closes behind it, with no routes."""

        def application(player: Player) -> Callable[[], None]:
            texts: list[str] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                dialog = await player.srf.create_uas(req, res, local_sdp=session())

                @dialog.on_info
                def info(req: Request, res: Response) -> None:
                    texts.append(req.text)
                    res.send(200)

            player.start()

            def check() -> None:
                self.assertEqual(texts, ["hello\r\n"])
                [link] = player.links.values()
                self.assertTrue(link.transport.disconnecting)
                self.assertEqual(link.routes, [])

            return check

        self.play(28, application)

    def test_32_killed(self) -> None:
        """Calls on a connection that is lost learn it; their peers get a BYE over the next."""

        def application(player: Player) -> Callable[[], None]:
            ends: list[Any] = []
            lost: list[Any] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                if "ring@" in req.uri:
                    res.send(180)
                    req.when_cancelled().addErrback(lambda failure: lost.append(failure.value))
                    return
                dialog = await player.srf.create_uas(req, res, local_sdp=session())
                ends.append((await dialog.when_ended()).reason)

            player.start()
            player.extra = ["BYE"]

            def check() -> None:
                self.assertEqual(ends, [DialogEnd.LINK_LOST])
                self.assertEqual([type(error) for error in lost], [ConnectionLost])

            return check

        self.play(32, application)

    def test_33_no_ack(self) -> None:
        """The server ends a call whose ACK never comes; its BYE is not answered."""

        def application(player: Player) -> Callable[[], None]:
            ends: list[Any] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                dialog = await player.srf.create_uas(req, res, local_sdp=session())
                acked = dialog.when_acked()
                ended = await dialog.when_ended()
                ends.append((ended.reason, ended.text, self.failureResultOf(acked).type))

            player.start()
            return lambda: self.assertEqual(ends, [(DialogEnd.SERVER, "ACK timeout", SipError)])

        self.play(33, application)

    def test_35_not_only_ascii(self) -> None:
        """Texts of any script go both ways; lengths count bytes."""
        note = "さくら 🌸 café \u2013 naïve ☎️"
        text = {"Content-Type": "text/plain;charset=UTF-8"}
        taro = '"日本太郎" <sip:taro@localhost>'

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []
            sdp: dict[str, str] = {}
            for line in player.lines:
                frame = line.frame.decode()
                if line.sender == "app" and "m=audio" in frame:
                    sdp["INVITE" if "INVITE sip:bob" in frame else "200"] = message_of(
                        frame.partition("|")[2]
                    ).text

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                seen.extend([req.calling_name, req.get("Subject")])
                dialog = await player.srf.create_uas(
                    req, res, local_sdp=sdp["200"], headers={"X-Note": note}
                )

                @dialog.on_message
                def message(req: Request, res: Response) -> None:
                    seen.append(req.text)
                    res.send(200, headers=text, body="受け取りました 👍")

                await player.sleep(0.5)
                response = await dialog.info(
                    headers={**text, "X-Note": note}, body="ダイヤルトーン 🎵\r\n"
                )
                seen.extend([response.get("X-Note"), response.text])

            @player.srf.on_connect
            async def connected(link: object) -> None:
                await player.sleep(1.44)
                dialog = await player.srf.create_uac(
                    "sip:bob@127.0.0.1:32071",
                    local_sdp=sdp["INVITE"],
                    headers={"From": taro, "Subject": note, "Contact": "sip:app@localhost"},
                )
                await player.sleep(0.2)
                await dialog.destroy()
                await player.sleep(0.35)
                response = await player.srf.request(
                    "sip:bob@127.0.0.1:32071",
                    method="MESSAGE",
                    headers={"From": taro, **text},
                    body="こんにちは 👋 \u2013 ¡hola!",
                )
                seen.append(response.text)

            player.start()
            expected = [
                "花子 😀",
                "ありがとう 🎉 déjà vu",
                "もしもし 🍣 æøå\r\n",
                "了解 ✅",
                "はい 🙆\r\n",
                "元気です 😄\r\n",
            ]
            return lambda: self.assertEqual(seen, expected)

        self.play(35, application)

    def test_39_multipart(self) -> None:
        """Bodies of several parts are read, and sent."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []
            [recorded] = [
                message_of(line.frame.decode().partition("|")[2])
                for line in player.lines
                if line.sender == "app" and b"INVITE sip:bob" in line.frame
            ]

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                seen.extend(str(part.content_type).partition(";")[0] for part in req.parts)
                await player.srf.create_uas(req, res, local_sdp=session())

            @player.srf.on_connect
            async def connected(link: object) -> None:
                await player.sleep(1.025)
                dialog = await player.srf.create_uac(
                    "sip:bob@127.0.0.1:32071",
                    local_sdp=recorded.body,
                    headers={
                        "Content-Type": recorded.get("Content-Type"),
                        "Require": "siprec",
                        "From": "sip:app@localhost",
                        "Contact": "sip:app@localhost",
                    },
                )
                await player.sleep(0.2)
                await dialog.destroy()

            player.start()
            expected = ["application/sdp", "application/rs-metadata+xml"]
            return lambda: self.assertEqual(seen, expected)

        self.play(39, application)

    def test_40_early_requests(self) -> None:
        """Requests right behind the echo of the 200, or the ACK, find their handlers."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[str] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                res.send(180)
                dialog: Dialog = await player.srf.create_uas(req, res, local_sdp=session())
                dialog.on_destroy(lambda bye: seen.append(bye.method))

                @dialog.on_info
                def info(req: Request, res: Response) -> None:
                    seen.append(req.text.strip())
                    res.send(200)

            player.start()
            return lambda: self.assertEqual(
                seen, ["one", "two", "BYE", "before the ACK", "BYE", "BYE"]
            )

        self.play(40, application)


class Sink:
    """Keeps the answers to a command."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.lost: ConnectionLost | None = None

    def answered(self, answer: Answer) -> None:
        """Keep one."""
        self.answers.append(answer)

    def link_lost(self, reason: ConnectionLost) -> None:
        """Keep the reason."""
        self.lost = reason


class HandMadeTests(SynchronousTestCase):
    """Recordings of a hand-made client, which sent what applications cannot."""

    def commands(self, number: int, conn: int) -> tuple[Player, list[tuple[str, list[str], Sink]]]:
        """Play a connection, sending by hand what was sent then, once we are authenticated.

        :returns: each command, the answers recorded, and those that arrived.
        """
        player = Player(self, number, "together")
        player.start()
        link = player.opened.pop()
        player.links[conn] = link
        link.collect()
        answer = f"r|response|{link.pending.pop().partition('|')[0]}|OK|udp/127.0.0.1:32060|v0.9.10"
        link.protocol.dataReceived(encode_frame(answer.encode()))
        found: list[tuple[str, list[str], Sink]] = []
        by_id: dict[str, list[str]] = {}
        for line in player.lines:
            frame = line.frame.decode("utf-8", "replace")
            message_id, _, text = frame.partition("|")
            if line.connection != conn or line.event == "open" or "|authenticate|" in frame[:60]:
                continue
            if line.event == "close":
                player.close(line)
            elif line.sender == "app":
                sink = Sink()
                player.ids[message_id] = link.protocol.command(line.frame.partition(b"|")[2], sink)
                by_id[message_id] = []
                found.append((text, by_id[message_id], sink))
            else:
                tokens = frame.partition("\r\n")[0].split("|")
                if tokens[1] == "response" and tokens[2] in by_id:
                    by_id[tokens[2]].append("|".join(tokens[3:]))
                player.feed([line])
        return player, found

    def test_37_refusals(self) -> None:
        """Each refusal reaches whoever sent the command; the connection ends only behind a NO."""
        refused = 0
        for conn in sorted({line.connection for line in transcript(37)}):
            player, found = self.commands(37, conn)
            for text, answers, sink in found:
                ours = ["|".join(answer.tokens[3:]) for answer in sink.answers]
                self.assertEqual(ours, answers, text)
                refused += any(answer.startswith("N") for answer in answers)
            player.srf.stop()
        self.assertGreater(refused, 15)
        self.flushLoggedErrors()

    def test_38_sizes(self) -> None:
        """Twelve frames of 5,000 bytes are sent one by one, each behind the answer to the last."""
        player = Player(self, 38, "together")
        player.start()
        [link] = player.opened
        link.collect()
        [sent] = link.pending
        hosts = "tcp/127.0.0.1:32060|v0.9.10|tcp/127.0.0.1:32060"
        link.pending.clear()
        player.links[1] = link
        link.protocol.dataReceived(
            encode_frame(f"r|response|{sent.partition('|')[0]}|OK|{hosts}".encode())
        )
        sinks = [Sink() for _ in range(12)]
        for sink in sinks:
            link.protocol.command(b"ping|" + b"p" * 4950, sink)
        for count in range(12):
            link.collect()
            [frame] = link.pending
            self.assertEqual(sum(len(sink.answers) for sink in sinks), count)
            link.pending.clear()
            link.protocol.dataReceived(
                encode_frame(f"r|response|{frame.partition('|')[0]}|OK|pong".encode())
            )
        self.assertEqual([len(sink.answers) for sink in sinks], [1] * 12)

    def test_38_connections(self) -> None:
        """What the server could read was answered, and each answer arrives; long ones too."""
        answered = 0
        for conn in sorted({line.connection for line in transcript(38)}):
            lines = [line for line in transcript(38) if line.connection == conn]
            if any(line.event == "bytes" or len(line.frame) > 12_228 for line in lines):
                continue  # ours does not send such things
            player, found = self.commands(38, conn)
            for text, answers, sink in found:
                ours = ["|".join(answer.tokens[3:]) for answer in sink.answers]
                self.assertEqual(ours, answers, text[:80])
                answered += len(answers)
            player.srf.stop()
        self.assertGreater(answered, 40)

    def test_38_too_long(self) -> None:
        """What would silence the server is refused before it is sent."""
        player = Player(self, 38, "single")
        player.start()
        [link] = player.opened
        link.protocol.command(b"ping|" + b"p" * (12_228 - 37 - 5), Sink())
        with self.assertRaises(FrameTooLarge):
            link.protocol.command(b"ping|" + b"p" * (12_229 - 37 - 5), Sink())

    def test_41_crashers(self) -> None:
        """What breaks the server is refused at once, and the call can be answered otherwise."""
        for conn, start in ((12, b"banana"), (13, b"99 Low"), (14, b"700 High"), (15, b"486 ")):
            lines = [line for line in transcript(41) if line.connection == conn]
            self.assertTrue(any(b"SIP/2.0 " + start in line.frame for line in lines))
            player = Player(self, 41, "single")
            kept: list[Response] = []
            player.srf.invite(lambda req, res, kept=kept: kept.append(res))
            player.start()
            link = player.opened.pop()
            link.collect()
            authenticate = link.pending.pop()
            player.links[conn] = link
            for line in lines:
                if line.sender == "server" and b"v0.9.10" in line.frame:
                    recorded = line.frame.decode().split("|")[2]
                    player.ids[recorded] = authenticate.partition("|")[0]
                    player.feed([line])
                elif b"|sip|network|" in line.frame:
                    player.feed([line])
            self.assertEqual([frame.partition("|")[2] for frame in link.pending], ["route|invite"])
            link.pending.clear()
            [res] = kept
            status, _, reason = start.decode().partition(" ")
            if start != b"486 ":
                with self.assertRaises((LocalProtocolError, TypeError)):
                    res.send(int(status) if status.isdigit() else status, reason)  # type: ignore[arg-type]
                link.collect()
                self.assertEqual(link.pending, [])
            res.send(486, "")
            link.collect()
            self.assertIn("SIP/2.0 486 \r\n", link.pending[0])
