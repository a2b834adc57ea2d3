"""``drachtwist demo``: a call on this machine, drawn as a ladder."""
