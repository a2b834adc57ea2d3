"""Test applications without a network: real application, real protocol, real server, in memory.

::

    from drachtwist.testing import Network

    with Network() as net:
        net.serve(srf)
        call = net.phone("alice").invite("sales")
        assert call.up
        call.hang_up()
        net.assert_idle()

In pytest the fixture ``sip`` is such a network; for trial and unittest there are
:class:`SipTestCase` and :class:`SipTests`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drachtwist.testing.call import Call
    from drachtwist.testing.cases import SipTestCase, SipTests
    from drachtwist.testing.clock import NeverSettles
    from drachtwist.testing.errors import HiddenWait, NothingHappens, PhoneError, StillThere
    from drachtwist.testing.exchange import Exchange
    from drachtwist.testing.links import Link
    from drachtwist.testing.network import Network
    from drachtwist.testing.phone import Phone
    from drachtwist.testing.player import Mismatch, Player
    from drachtwist.testing.serving import Server
    from drachtwist.testing.web import WebResponse

__all__ = [
    "Call",
    "Exchange",
    "HiddenWait",
    "Link",
    "Mismatch",
    "Network",
    "NeverSettles",
    "NothingHappens",
    "Phone",
    "PhoneError",
    "Player",
    "Server",
    "SipTestCase",
    "SipTests",
    "StillThere",
    "WebResponse",
]

_HOMES = {
    "Call": "call",
    "Exchange": "exchange",
    "Link": "links",
    "Mismatch": "player",
    "Network": "network",
    "NeverSettles": "clock",
    "Phone": "phone",
    "Player": "player",
    "Server": "serving",
    "SipTestCase": "cases",
    "SipTests": "cases",
    "WebResponse": "web",
}


def __getattr__(name: str) -> Any:
    # Not before: the plugin of pytest lies here, and is loaded where nobody tests telephony.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
