"""Every table and figure of the paper (arXiv 2503.03792), run by ``dus reproduce``."""

PAPER_SEEDS = 3
"""Seeds behind every printed number."""
