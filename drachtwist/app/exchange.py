"""Where requests from the network and their responses used to be.

They are in :mod:`drachtwist.app.request`, :mod:`drachtwist.app.response` and
:mod:`drachtwist.app.received` now.
"""

from __future__ import annotations

from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response

__all__ = ["ReceivedResponse", "Request", "Response"]
