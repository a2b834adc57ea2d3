"""Where the requests of a dialog go, and which of our addresses its peer sees."""

from __future__ import annotations

from drachtwist.net.sip.flows import Flow
from drachtwist.server.dialogs import Dialog
from drachtwist.server.roles import Core
from drachtwist.sip.locating import Hop

__all__ = ["elsewhere", "local_of", "local_toward", "way_of"]


def way_of(core: Core, dialog: Dialog) -> tuple[Hop | None, Flow | None]:
    """Say where the packets of a dialog go now: over a flow, or else to an address or a name."""
    flow = dialog.flow
    if flow is not None and core.carriers.is_open(flow):
        return None, flow
    if flow is not None and flow.reliable:
        # The peer may have registered again since, over another connection.
        moved = core.registered.find(dialog.target)
        if moved is not None and core.carriers.is_open(moved):
            dialog.flow = moved
            return None, moved
    return dialog.hop, None


def elsewhere(dialog: Dialog, flow: Flow) -> Hop | None:
    """Say what leads to the same peer as the flow of a dialog, but leaves the transport open.

    Nothing if a NAT is in between: only this flow leads through it, and connections to the address
    that it shows do not.
    """
    hop = dialog.hop
    if hop is None or (hop.host, hop.port) != (flow.remote_host, flow.remote_port):
        return None
    return hop


def local_of(core: Core, hop: Hop | None, flow: Flow | None) -> tuple[str, str]:
    """Return the transport and our address for a Via."""
    if flow is not None:
        return flow.protocol, flow.local
    if hop is None:
        return core.default_protocol(), "127.0.0.1"
    return hop.protocol, local_toward(core, hop)


def local_toward(core: Core, hop: Hop) -> str:
    """Return our address as a peer sees it, or as most do if its address is not known."""
    carriers = core.carriers
    host = hop.host if hop.numeric else ""
    listener = carriers.listener_for(hop.protocol, host)
    if listener is None:
        offered = [one for one in carriers.listeners if one.protocol == hop.protocol]
        listener = (offered or carriers.listeners)[0]
    return listener.address_toward(host)
