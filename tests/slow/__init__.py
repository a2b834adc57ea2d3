"""Tests that take minutes: ``make test-slow``; the quick run leaves them out."""
