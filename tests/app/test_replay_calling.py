"""Recordings of a real server, played to applications that call, subscribe and transfer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred

from drachtwist import (
    Dialog,
    DialogEnd,
    OutgoingRequest,
    Request,
    Response,
    SipError,
)
from drachtwist.app.authentication import Auth
from tests.app.player import Player, ReplayTestCase, session

BOB = "sip:bob@127.0.0.1:32071"
NODE = {"From": "sip:app@localhost", "Contact": "sip:app@localhost"}
"""What Node gives when the application does not."""


def begin(player: Player, after: float, work: Callable[[], Awaitable[None]]) -> None:
    """Connect, and let the application begin a while later."""

    @player.srf.on_connect
    async def connected(link: object) -> None:
        await player.sleep(after)
        await work()

    player.start()


class CallingTests(ReplayTestCase):
    """One test for each recording."""

    def call(self, player: Player, uri: str = BOB, **options: Any) -> Deferred[Dialog]:
        """Call somebody, with the headers that Node gives."""
        options.setdefault("local_sdp", session())
        options["headers"] = {**NODE, **options.get("headers", {})}
        return player.srf.create_uac(uri, **options)

    def test_09_answered(self) -> None:
        """A call is answered, acknowledged, and ended by us."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            async def work() -> None:
                dialog = await self.call(
                    player,
                    headers={"X-Campaign": "spring"},
                    on_provisional=lambda response: seen.append(response.status),
                )
                seen.append((dialog.type, dialog.res.status, len(dialog.remote.sdp)))
                await player.sleep(0.4)
                response = await dialog.destroy()
                assert response is not None
                seen.append(response.status)

            begin(player, 0.6, work)
            return lambda: self.assertEqual(seen, [180, ("uac", 200, 166), 200])

        self.play(9, application)

    def test_10_refused(self) -> None:
        """A refusal is a failure with the response; unlike Node, we send no ACK for it."""

        def application(player: Player) -> Callable[[], None]:
            errors: list[SipError] = []

            async def work() -> None:
                try:
                    await self.call(player)
                except SipError as error:
                    errors.append(error)

            begin(player, 0.6, work)

            def check() -> None:
                [error] = errors
                self.assertEqual((error.status, error.reason), (404, "Not Found"))
                assert error.response is not None
                warning = error.response.get("Warning")
                self.assertEqual(warning, '399 127.0.0.1 "no such user here"')
                self.assertEqual(len(player.skipped), 1)

            return check

        self.play(10, application)

    def test_11_cancelled(self) -> None:
        """A call that rings is cancelled."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []
            requests: list[OutgoingRequest] = []

            async def work() -> None:
                player.clock.callLater(0.6, lambda: requests[0].cancel())
                try:
                    await self.call(player, on_request=requests.append)
                except SipError as error:
                    seen.append(error.status)

            begin(player, 0.605, work)
            return lambda: self.assertEqual((seen, len(player.skipped)), ([487], 1))

        self.play(11, application)

    def test_12_challenged(self) -> None:
        """Challenges are answered where they came from; a wrong password is tried once."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            async def attempt(auth: Auth | None) -> None:
                try:
                    dialog = await self.call(player, auth=auth)
                except SipError as error:
                    seen.append(error.status)
                    return
                await player.sleep(0.3)
                await dialog.destroy()
                seen.append(200)

            async def work() -> None:
                await attempt(("app", "open-sesame"))
                await player.sleep(0.35)
                await attempt(lambda realm, request, response: ("app", "open-sesame"))
                await player.sleep(0.355)
                await attempt(("app", "wrong"))
                await player.sleep(0.35)
                await attempt(None)

            begin(player, 0.6, work)
            return lambda: self.assertEqual(seen, [200, 200, 401, 401])

        self.play(12, application)

    def test_13_no_answer(self) -> None:
        """A peer that cannot be reached, or is silent, is a failure that the server makes up."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            async def work() -> None:
                for target in ("32079", "32079;transport=tcp", "32078"):
                    try:
                        await self.call(player, f"sip:bob@127.0.0.1:{target}")
                    except SipError as error:
                        assert error.response is not None
                        seen.append((error.status, error.response.get("CSeq") is not None))
                    await player.sleep(0.2)

            begin(player, 0.25, work)
            return lambda: self.assertEqual(seen, [(503, True), (503, True), (408, True)])

        self.play(13, application)

    def test_14_redirected(self) -> None:
        """A redirect is a failure, or followed when that is wanted."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            async def work() -> None:
                try:
                    await self.call(player)
                except SipError as error:
                    assert error.response is not None
                    seen.append((error.status, error.response.contacts[0].uri))
                await player.sleep(0.7)
                dialog = await self.call(player, follow_redirects=True)
                await player.sleep(0.3)
                await dialog.destroy()

            begin(player, 0.6, work)
            return lambda: self.assertEqual(seen, [(302, "sip:bob@127.0.0.1:32072")])

        self.play(14, application)

    def test_22_subscriptions(self) -> None:
        """A subscription is accepted, refreshed and ended; and one of ours is ended by the peer."""
        body = (
            '<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" '
            'entity="sip:app@127.0.0.1"/>'
        )

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.subscribe
            async def accept(req: Request, res: Response) -> None:
                expires = {"Expires": req.get("Expires") or ""}
                dialog = await player.srf.create_uas(req, res, headers=expires)
                dialog.on_subscribe(lambda req, res: res.send(200, headers=expires))

                @dialog.on_unsubscribe
                async def over(req: Request) -> None:
                    await dialog.destroy({"Subscription-State": "terminated;reason=timeout"})
                    ended = dialog.ended
                    assert ended is not None
                    seen.append(ended.reason)

                await dialog.notify(
                    headers={
                        "Event": "presence",
                        "Subscription-State": "active;expires=120",
                        "Content-Type": "application/pidf+xml",
                        "Contact": dialog.local.contact,
                    },
                    body=body,
                )

            async def work() -> None:
                dialog = await player.srf.create_uac(
                    BOB,
                    method="SUBSCRIBE",
                    headers={
                        "Event": "presence",
                        "Expires": "60",
                        "To": "<sip:bob@127.0.0.1>",
                        "From": "<sip:watcher@127.0.0.1>",
                        "Contact": "<sip:watcher@localhost>",
                    },
                )

                @dialog.on_notify
                def notified(req: Request, res: Response) -> None:
                    seen.append(req.text)
                    res.send(200)

                ended = await dialog.when_ended()
                seen.append(ended.reason)

            begin(player, 1.645, work)
            expected = [DialogEnd.LOCAL, "open\r\n", "closed\r\n", DialogEnd.REMOTE]
            return lambda: self.assertEqual(seen, expected)

        self.play(22, application)

    def test_23_transfers(self) -> None:
        """Both sides ask for a transfer, and tell how it goes; the call stays up."""
        sipfrag = {"Event": "refer", "Content-Type": "message/sipfrag;version=2.0"}

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.invite
            async def answer(req: Request, res: Response) -> None:
                dialog = await player.srf.create_uas(req, res, local_sdp=session())
                dialog.on_destroy(lambda bye: seen.append("over"))

                @dialog.on_refer
                async def refer(req: Request, res: Response) -> None:
                    seen.append(req.get("Refer-To"))
                    res.send(202)
                    for state, text in (
                        ("active;expires=60", "SIP/2.0 100 Trying\r\n"),
                        ("terminated;reason=noresource", "SIP/2.0 200 OK\r\n"),
                    ):
                        await dialog.notify(
                            headers={**sipfrag, "Subscription-State": state}, body=text
                        )
                        await player.sleep(0.15)

                @dialog.on_notify
                def notified(req: Request, res: Response) -> None:
                    seen.append(req.text.strip())
                    res.send(200)

                await player.sleep(1.485)
                response = await dialog.refer(
                    headers={
                        "Refer-To": "<sip:carol@127.0.0.1:32073>",
                        "Referred-By": "<sip:app@127.0.0.1>",
                    }
                )
                seen.append(response.status)

            player.start()
            expected = [
                "<sip:carol@127.0.0.1:32073>",
                202,
                "SIP/2.0 100 Trying",
                "SIP/2.0 200 OK",
                "over",
            ]
            return lambda: self.assertEqual(seen, expected)

        self.play(23, application)

    def test_34_delayed_offer(self) -> None:
        """A call without an offer gets one in the 200, and answers it in the ACK."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            async def work() -> None:
                dialog = await self.call(player, local_sdp=None)
                seen.append(dialog.remote.sdp[:12])
                dialog.ack(session())
                await player.sleep(0.3)
                await dialog.destroy()

            begin(player, 0.6, work)
            return lambda: self.assertEqual(seen, [b"v=0\r\no=bob 2"])

        self.play(34, application)
