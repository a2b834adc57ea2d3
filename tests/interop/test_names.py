"""The installed drachtio-srf has no name that the migration table does not have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.names import missing_names, package_names
from tests.interop.peers import need_node


class NameTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Find the package."""
        script = "process.stdout.write(require.resolve('drachtio-srf'))"
        found = subprocess.run(
            [need_node(), "-e", script], capture_output=True, env=os.environ, timeout=30, check=True
        )
        self.package = Path(found.stdout.decode()).parent.parent

    def test_nothing_missing(self) -> None:
        """Every public method, option, event and property stands in the table."""
        self.assertGreater(len(package_names(self.package)), 150)
        self.assertEqual(missing_names(self.package), [])
