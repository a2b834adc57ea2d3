"""The signals of a process, for programs of one's own; see :mod:`drachtwist.hosting.process`."""

from drachtwist.hosting.process import give_up, read_secret, reload_on_sighup, stop_on_sigterm

__all__ = ["give_up", "read_secret", "reload_on_sighup", "stop_on_sigterm"]
