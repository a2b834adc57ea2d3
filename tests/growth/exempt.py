"""Public functions of the modules that no reader has to run, and why."""

from __future__ import annotations

__all__ = ["EXEMPT"]

_WRITES = """
middleware.webhook.proxy middleware.webhook.redirect middleware.webhook.route
sip.websocket.SipWebSocket.encode
server.compose.new_branch server.compose.new_call_id server.compose.via_of
sip.digest.Challenge.digest sip.digest.Nonces.make
sip.encoding.checked_method sip.encoding.checked_reason sip.encoding.checked_status
sip.encoding.checked_uri sip.encoding.encode_request sip.encoding.encode_response
sip.encoding.encoded_body sip.encoding.joined sip.encoding.request_line
sip.encoding.status_line sip.headers.no_headers sip.message.Message.set_parts
sip.multipart.Part.make sip.multipart.encode
sip.sdp.description.Sdp.remove_media sip.sdp.sections.Section.set_bandwidth
sip.sdp.streams.Media.reject
wire.commands.Delivery.make
wire.session.ApplicationSession.command wire.session.ApplicationSession.ping
wire.session.ApplicationSession.remove_route wire.session.ApplicationSession.send_message
wire.session.ServerSession.refuse
"""
"""They write what the application or the server gives."""

_COMPARES = """
middleware.bindings.MemoryLocationStore.find middleware.bindings.MemoryLocationStore.purge
middleware.registrar.Registrar.find
server.spammers.Spammers.rejects
sip.replies.rank
sip.sdp.values.Origin.is_same_session
wire.session.ApplicationSession.can_ping
wire.session.ApplicationSession.connection_lost wire.session.ApplicationSession.tick
"""
"""They look things up, compare values or keep time, and read nothing."""

_OWN = """
net.names.Names.full_names net.names.Names.look_up net.names.Names.servers net.names.Names.stop
net.names.name_server
server.configfile.ConfigFile.read server.configfile.oldest_tls
sip.message.Message.from_bytes
"""
"""They read settings and files of this machine, or are what readers of their own stand for."""

_CALLED = """
net.names.Names.connectionLost net.names.Names.connectionMade net.names.Names.messageReceived
"""
"""Twisted calls them, with nothing to read."""

EXEMPT = frozenset((_WRITES + _COMPARES + _OWN + _CALLED).split())
