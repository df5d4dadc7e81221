"""The estimators: a base, and one file a kind."""
