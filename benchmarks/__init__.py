"""Runnable files behind every number in the documentation."""
