"""Where SIP over sockets used to be; it is in :mod:`drachtwist.net.sip` now."""

from drachtwist.net.sip.flows import WEBSOCKETS, Flow, Limits, Listener, SipHandler, Target
from drachtwist.net.sip.transports import SipTransports

__all__ = ["WEBSOCKETS", "Flow", "Limits", "Listener", "SipHandler", "SipTransports", "Target"]
