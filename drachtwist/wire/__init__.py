"""The drachtio protocol: frames, commands, events and sessions. Standard library only."""
