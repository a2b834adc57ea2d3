"""SIP over UDP, TCP, TLS and WebSockets."""
