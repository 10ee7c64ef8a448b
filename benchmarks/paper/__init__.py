"""Every table and figure of the paper (arXiv 2503.03792): one runnable file each, all run by ``dus reproduce``."""

ITEMS = (
    "table1",
    "table2",
    "table3",
    "table4",
    "tableA1",
    "tableA2",
    "tableA3",
    "tableA4",
    "fig1",
    "fig3",
    "fig4",
    "fig5",
)
"""Each is a module of this package, its name in small letters, with an object ``ITEM``."""
PAPER_SEEDS = 3
"""Seeds behind every printed number."""
