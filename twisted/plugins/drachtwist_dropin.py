"""What drachtwist adds to twistd: two plugins, named here and imported only when they are used."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

drachtio = ServiceMaker(
    "drachtio application",
    "drachtwist.tap",
    "Host a SIP application, on its own server or on others.",
    "drachtio",
)

drachtio_server = ServiceMaker(
    "drachtio server",
    "drachtwist.server_tap",
    "The SIP server that drachtio applications connect to.",
    "drachtio-server",
)
