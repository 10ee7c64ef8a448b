"""Executors of many runs: this process, processes beside it, a Ray cluster."""
