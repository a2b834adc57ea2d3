"""The version of this package; the packaging reads it from here."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
