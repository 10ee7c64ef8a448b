"""Runs and comparisons on disk: folders, their index and its export."""
