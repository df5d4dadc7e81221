"""Choosing: the search for a dimension, and the comparison with other reducers."""
