"""Databases of applications under test: asked in this thread, at once."""

from __future__ import annotations

import sqlite3
import threading

from twisted.enterprise.adbapi import ConnectionPool
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, Srf
from drachtwist.testing import SipTests


class DatabaseTests(SipTests, SynchronousTestCase):
    def application(self) -> tuple[Srf, ConnectionPool]:
        """Make an application that answers with the status that a database has."""
        srf = Srf()
        self.sip.serve(srf)
        pool = ConnectionPool("sqlite3", self.mktemp(), cp_reactor=srf.reactor)

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            [[status]] = await pool.runQuery(
                "select status from answers where name = ?", [req.called_number]
            )
            res.send(status)

        return srf, pool

    def test_asked_at_once(self) -> None:
        """What a handler asks is there without any time, and without any thread."""
        threads = threading.active_count()
        _, pool = self.application()
        self.sip.run(pool.runOperation("create table answers (name text, status int)"))

        def write(transaction: sqlite3.Cursor) -> int:
            transaction.execute("insert into answers values ('bob', 486)")
            return threading.get_ident()

        self.assertEqual(self.sip.run(pool.runInteraction(write)), threading.get_ident())
        self.assertEqual(self.sip.phone("ann").invite("bob").status, 486)
        self.assertEqual((self.sip.seconds, threading.active_count()), (0, threads))
        pool.close()
        self.assertFalse(pool.running)
        self.sip.assert_idle()

    def test_failures(self) -> None:
        """What the database refuses fails, in the application as in the test."""
        _, pool = self.application()
        with self.assertRaises(sqlite3.OperationalError):
            self.sip.run(pool.runQuery("select nonsense"))
        self.flushLoggedErrors()  # the pool logs what it rolls back
        self.assertEqual(self.sip.phone("ann").invite("bob").status, 500)
        self.assertEqual(len(self.sip.flush_errors(sqlite3.OperationalError)), 1)
        self.flushLoggedErrors()
