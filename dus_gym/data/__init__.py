"""Data sets and the registry of tasks."""
