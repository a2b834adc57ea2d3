"""Sockets, TLS, the DNS and the time of the reactor, below applications and server alike."""
