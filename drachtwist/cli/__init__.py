"""The command ``drachtwist``: a project, a process, a telephone, and a look at all of them.

====================================  ============================================================
:mod:`~drachtwist.cli.entry`          which command it is
:mod:`~drachtwist.cli.parsing`        what its words mean
:mod:`~drachtwist.cli.outcomes`       what scripts are told, and what is said when it goes wrong
:mod:`~drachtwist.cli.line`           the application and the server that telephone commands use
====================================  ============================================================

Each command is a module of its own.
"""

from drachtwist.cli.entry import main

__all__ = ["main"]
