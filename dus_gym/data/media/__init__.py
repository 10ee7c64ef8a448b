"""Readers of media files: one file a kind, each from a path to an array."""
