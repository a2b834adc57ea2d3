"""What the plugin ``drachtio`` of twistd names; see :mod:`drachtwist.hosting.app_tap`."""

from drachtwist.hosting.app_tap import Options, makeService

__all__ = ["Options", "makeService"]
