"""The server as a proxy (RFC 3261 section 16), stateful and stateless."""
