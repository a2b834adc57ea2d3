"""The command ``drachtwist``; see :mod:`drachtwist.hosting.cli`."""

import sys

from drachtwist.hosting.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
