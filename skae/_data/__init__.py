"""Rows in: arrays, checks, frames, batches."""
