"""What the plugin ``drachtio-server`` of twistd names; see :mod:`drachtwist.hosting.server_tap`."""

from drachtwist.hosting.server_tap import Options, makeService

__all__ = ["Options", "makeService"]
