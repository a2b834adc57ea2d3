"""``python -m drachtwist``."""

import sys

from drachtwist.cli import main

if __name__ == "__main__":
    sys.exit(main())
