"""``python -m drachtwist.cli``."""

import sys

from drachtwist.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
