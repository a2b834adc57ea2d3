"""The drachtio protocol: frames, commands, events and sessions, without I/O or Twisted."""
