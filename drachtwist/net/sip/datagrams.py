"""SIP over one UDP socket: datagrams come in with a flow for each peer, and go out to any."""

from __future__ import annotations

from collections.abc import Callable

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow, Listener, Reports
from drachtwist.net.sip.listening import check_address
from drachtwist.net.sip.via import note_source
from drachtwist.net.udp import DatagramHandler, DatagramSocket
from drachtwist.sip.parsing import parse_datagram, read_leniently
from drachtwist.sip.stream import Malformed

__all__ = ["Datagrams"]

_REMEMBERED_PEERS = 4096


class Datagrams:
    """One UDP socket.

    :param reports: whom what comes in is handed to.
    :param listener: what it serves.
    :param opening: opens the socket, which hands what comes in to what it is given.
    """

    usable = True

    def __init__(
        self,
        reports: Reports,
        listener: Listener,
        opening: Callable[[DatagramHandler], DatagramSocket],
    ) -> None:
        self._reports = reports
        self.listener = listener
        self._flows: dict[tuple[str, int], Flow] = {}
        self._socket = opening(self)

    def flow(self, host: str, port: int) -> Flow:
        """Return the flow to a peer.

        :raises LocalProtocolError: for a name; flows lead to addresses.
        """
        flow = self._flows.get((host, port))
        if flow is None:
            check_address(host)  # sendto would wait for the resolver
            if len(self._flows) >= _REMEMBERED_PEERS:
                self._flows.clear()
            listener = self.listener
            flow = self._flows[host, port] = Flow(
                "udp",
                host,
                port,
                listener.channel,
                listener.host_toward(host),
                listener.port,
                listener,
            )
        return flow

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send a datagram; what certainly cannot arrive is told later, not from within."""
        reports = self._reports
        if reports.tap is not None:
            reports.tap.sip_passed(flow, data, True)
        error = self._socket.send(data, flow.remote_host, flow.remote_port)
        if error is not None:
            reports.reactor.callLater(0, reports.send_failed, flow, error, data)
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def datagram_received(self, data: bytes, host: str, port: int) -> None:
        """Take in a datagram; what is nothing but blanks keeps a NAT open."""
        size = len(data)
        data = data.lstrip(b"\r\n")
        if not data.strip(b"\0 \t"):
            return  # a keep-alive
        flow = self.flow(host, port)
        tap = self._reports.tap
        if tap is not None:
            tap.sip_passed(flow, data, False)
        if data[:4].upper() != b"SIP/":
            data = note_source(data, host, port)
        try:
            message = parse_datagram(data)
        except MessageError as error:
            bad = Malformed(data, error, read_leniently(data))
            self._reports.malformed(bad, flow, size)
        else:
            self._reports.received(message, flow, size)

    def datagram_refused(self, data: bytes, host: str, port: int, error: Exception) -> None:
        """Note that the system had a datagram sent back."""
        self._reports.send_failed(self.flow(host, port), error, data)
