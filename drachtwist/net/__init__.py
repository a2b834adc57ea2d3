"""Bytes and time: protocols, endpoints, SIP transports, TLS and names, on Twisted."""
