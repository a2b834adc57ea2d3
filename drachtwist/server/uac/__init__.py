"""The UAC core (RFC 3261 chapters 8.1, 12 and 13.2): requests of this side, and their answers."""
