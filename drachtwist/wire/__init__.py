"""The drachtio protocol without I/O: frames, commands, what servers tell, sessions of both ends."""
