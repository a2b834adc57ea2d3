"""The drachtwist side of the application benchmark: one plain application for each workload.

::

    python app.py uas --port 33100              (inbound: connects to the driver)
    python app.py churn --port 33100 --listen   (outbound: the driver connects to it)
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from drachtwist import ConnectionLost, Request, Response, Srf, TlsOptions

SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1700000000 1700000001 IN IP4 127.0.0.1",
        "s=bench",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "m=audio 40000 RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=sendrecv",
        "",
    ]
)

srf = Srf()


def ignore(bye: Request | None) -> None:
    pass


async def answer(req: Request, res: Response) -> None:
    dialog = await srf.create_uas(req, res, local_sdp=SDP, headers={"X-Bench": "uas"})
    dialog.on_destroy(ignore)


async def answer_once(req: Request, res: Response) -> None:
    dialog = await srf.create_uas(req, res, local_sdp=SDP, headers={"X-Bench": "uas"})
    dialog.on_destroy(lambda bye: srf.end_session(dialog))


def describe(req: Request, res: Response) -> None:
    res.send(
        200,
        headers={"Accept": "application/sdp", "Allow": "INVITE, ACK, CANCEL, OPTIONS, BYE"},
    )


def register(req: Request, res: Response) -> None:
    if not req.has("Authorization"):
        res.send(403)
        return
    contact = req.contacts[0]
    res.send(200, headers={"Contact": req.get("Contact"), "Expires": contact.params["expires"]})


TARGET = "sip:service@127.0.0.1:33070"


async def bridge(req: Request, res: Response) -> None:
    uas, uac = await srf.create_b2bua(req, res, TARGET, local_sdp_b=req.body)
    uas.on_destroy(lambda bye: uac.destroy())
    uac.on_destroy(lambda bye: uas.destroy())


async def forward(req: Request, res: Response) -> None:
    result = await srf.proxy_request(req, TARGET, record_route=True)
    assert result.connected


async def call() -> None:
    while True:
        dialog = await srf.create_uac(
            TARGET, local_sdp=SDP, calling_number="+15551230000", headers={"X-Bench": "uac"}
        )
        await dialog.destroy()


def call_all(window: int) -> None:
    def start(link: object) -> None:
        for _ in range(window):
            Deferred.fromCoroutine(call()).addErrback(lambda failure: failure.trap(ConnectionLost))

    srf.on_connect(start)


WORKLOADS = {
    "b2bua": lambda: srf.invite(bridge),
    "proxy": lambda: srf.invite(forward),
    "uac": lambda: None,
    "uas": lambda: srf.invite(answer),
    "soak": lambda: srf.invite(answer),
    "churn": lambda: srf.invite(answer_once),
    "options": lambda: srf.options(describe),
    "register": lambda: srf.register(register),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=sorted(WORKLOADS))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=33100)
    parser.add_argument("--secret", default="cymru")
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--listen", action="store_true")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--key")
    parser.add_argument("--cert")
    args = parser.parse_args()

    observer = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)]
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)

    WORKLOADS[args.workload]()
    if args.workload == "uac":
        call_all(args.window)
    if args.listen:
        tls = TlsOptions(key=args.key, certificate=args.cert) if args.tls else None
        srf.listen(host=args.host, port=args.port, secret=args.secret, tls=tls)
    else:
        tls = TlsOptions(verify=False) if args.tls else None
        srf.connect(host=args.host, port=args.port, secret=args.secret, tls=tls)
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect())
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
