"""The framework: applications on drachtio servers."""
