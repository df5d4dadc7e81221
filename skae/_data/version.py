"""The version of skae: a leaf, for what records or compares it."""

__version__ = "0.1.0"
