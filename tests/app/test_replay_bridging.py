"""Recordings of a real server, played to applications that bridge, forward and count calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drachtwist import CallRecord, CallSummary, Request, Response, SipError, couple
from tests.app.player import Player, ReplayTestCase, session

BOB = "sip:bob@127.0.0.1:32071"
TARGETS = [f"sip:bob@127.0.0.1:{port}" for port in (32071, 32072, 32073)]
NODE = {"Contact": '"Alice" <sip:alice@localhost>'}
"""What Node gives when the application does not."""


def without_refused(player: Player) -> None:
    """Expect no response that the server refused because the caller had gone."""
    for line in player.lines:
        if b"|NOK|Response not sent due to unknown transaction" in line.frame:
            player.needless.add(line.frame.decode("utf-8").split("|")[2])


class BridgingTests(ReplayTestCase):
    """One test for each recording."""

    def test_15_full_calls(self) -> None:
        """Two calls are bridged, with the headers that are named; who hangs up ends both sides."""

        def application(player: Player) -> Callable[[], None]:
            ended: list[str] = []

            @player.srf.invite
            async def bridge(req: Request, res: Response) -> None:
                uas, uac = await player.srf.create_b2bua(
                    req,
                    res,
                    BOB,
                    headers={**NODE, "X-Added": "by-the-app"},
                    proxy_request_headers=["subject", "X-Trace"],
                    proxy_response_headers=["X-Bob"],
                )
                couple(uas, uac)
                uas.on_destroy(lambda bye: ended.append("a"))
                uac.on_destroy(lambda bye: ended.append("b"))

            player.start()
            return lambda: self.assertEqual(ended, ["a", "b"])

        self.play(15, application)

    def test_16_refused(self) -> None:
        """A refusal is passed on with a header of it; a quiet one leaves room for another try."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.invite
            async def bridge(req: Request, res: Response) -> None:
                create = player.srf.create_b2bua
                quiet = bool(seen)
                try:
                    pair = await create(
                        req,
                        res,
                        BOB,
                        headers=NODE,
                        pass_failure=not quiet,
                        proxy_response_headers=[] if quiet else ["Retry-After"],
                    )
                except SipError as error:
                    seen.append(error.status)
                    if not quiet:
                        return
                    pair = await create(req, res, TARGETS[1], headers=NODE)
                couple(*pair)
                seen.append(pair.uas.res.status)

            player.start()
            return lambda: self.assertEqual(seen, [486, 503, 200])

        self.play(16, application)

    def test_17_cancelled(self) -> None:
        """A caller who gives up cancels the called party, with his reason; no 487 is needed."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []
            without_refused(player)

            @player.srf.invite
            async def bridge(req: Request, res: Response) -> None:
                try:
                    await player.srf.create_b2bua(req, res, BOB, headers=NODE)
                except SipError as error:
                    seen.append((error.status, req.canceled))

            player.start()
            return lambda: self.assertEqual(seen, [(487, True)])

        self.play(17, application)

    def test_24_proxied(self) -> None:
        """A call is forwarded with and without staying in the way, and without waiting for it."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.invite
            async def forward(req: Request, res: Response) -> None:
                number = len(seen)
                seen.append(None)
                result = await player.srf.proxy_request(
                    req,
                    BOB,
                    record_route=number != 1,
                    full_response=number < 2,
                    headers={"X-Via-Proxy": "yes"} if number == 2 else None,
                )
                seen[number] = (result.connected, result.final_status)

            player.start()
            expected = [(True, 200), (True, 200), (False, None)]
            return lambda: self.assertEqual(seen, expected)

        self.play(24, application)

    def test_25_serial(self) -> None:
        """Three targets, one after the other, with their times."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.invite
            async def forward(req: Request, res: Response) -> None:
                result = await player.srf.proxy_request(
                    req, TARGETS, provisional_timeout=1.5, final_timeout="3s"
                )
                answers = [
                    (target.port, [one.status for one in target.responses])
                    for target in result.responses
                ]
                seen.append((result.connected, result.final_status, answers))

            player.start()
            expected = [
                (True, 200, [(32071, [404]), (32073, [200])]),
                (False, 480, [(32071, [404]), (32073, [480])]),
            ]
            return lambda: self.assertEqual(seen, expected)

        self.play(25, application)

    def test_26_forking(self) -> None:
        """Two targets at once; what they answer is reported as it comes."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[Any] = []

            @player.srf.invite
            async def forward(req: Request, res: Response) -> None:
                result = await player.srf.proxy_request(req, TARGETS[:2], forking="simultaneous")
                ports = [target.port for target in result.responses]
                seen.append((result.connected, result.final_status, ports))

            player.start()
            expected = [(True, 200, [32072]), (False, 486, [32072, 32071])]
            return lambda: self.assertEqual(seen, expected)

        self.play(26, application)

    def test_27_others_not_routed(self) -> None:
        """Only what has a handler comes."""

        def application(player: Player) -> Callable[[], None]:
            seen: list[str] = []

            @player.srf.register
            def accept(req: Request, res: Response) -> None:
                seen.append(req.method)
                res.send(200)

            player.start()
            return lambda: self.assertEqual(seen, ["REGISTER"])

        self.play(27, application)

    def test_36_records(self) -> None:
        """Every call leaves its records, and one summary."""

        def application(player: Player) -> Callable[[], None]:
            records: list[CallRecord] = []
            summaries: list[CallSummary] = []
            srf = player.srf
            for event in ("attempt", "start", "stop"):
                srf.on_cdr(event)(records.append)
            srf.on_call_summary(summaries.append)

            @srf.invite
            async def called(req: Request, res: Response) -> None:
                if req.called_number == "busy":
                    res.send(486)
                elif req.called_number == "ring":
                    res.send(180)
                elif req.called_number == "proxy":
                    await srf.proxy_request(req, BOB, record_route=True)
                else:
                    dialog = await srf.create_uas(req, res, local_sdp=session())
                    if req.called_number == "hangup":
                        await player.sleep(0.3)
                        await dialog.destroy()

            @srf.on_connect
            async def call(link: object) -> None:
                headers = {"From": "sip:app@localhost", "Contact": "sip:app@localhost"}
                await player.sleep(3.185)
                dialog = await srf.create_uac(BOB, headers=headers, local_sdp=session())
                await player.sleep(0.3)
                await dialog.destroy()
                await player.sleep(0.655)
                try:
                    await srf.create_uac(BOB, headers=headers, local_sdp=session())
                except SipError:
                    pass

            player.start()

            def check() -> None:
                events = [record.event for record in records]
                counts = [events.count(event) for event in ("attempt", "start", "stop")]
                self.assertEqual(counts, [8, 5, 8])
                expected = [
                    ("normal-release", True, "uas"),
                    ("normal-release", True, "uas"),
                    ("call-rejected", False, ""),
                    ("call-canceled", False, ""),
                    ("normal-release", True, "uac"),
                    ("call-rejected", False, ""),
                    ("normal-release", True, "proxy-uac"),
                ]
                found = [
                    (one.reason, one.answered, one.starts[0].role if one.starts else "")
                    for one in summaries
                ]
                self.assertEqual(found, expected)
                self.assertAlmostEqual(summaries[0].duration or 0, 0.407638)

            return check

        self.play(36, application)
