"""The UAS core (RFC 3261 chapters 8.2, 12 and 13.3): requests of the network, and their answers.

:mod:`~drachtwist.server.uas.core` is where every request comes in.
"""
