"""drachtwist: SIP applications in Python, on Twisted."""
