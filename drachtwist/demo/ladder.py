"""Where :mod:`drachtwist.tracing.ladder` was before."""

from __future__ import annotations

from drachtwist.tracing.ladder import ASCII, UNICODE, Ladder, Rung, Strokes

__all__ = ["ASCII", "UNICODE", "Ladder", "Rung", "Strokes"]
