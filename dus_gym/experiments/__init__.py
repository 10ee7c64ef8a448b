"""Experiments: from a request to a verdict, without a console."""
