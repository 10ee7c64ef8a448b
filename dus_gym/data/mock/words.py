"""Made-up sentences that follow from a class, and a vocabulary that holds all their words."""

from __future__ import annotations

import numpy as np

TELLING = (
    ("sad", "awful", "lost", "grey"),
    ("today", "report", "meeting", "street"),
    ("happy", "great", "won", "sunny"),
)
"""Words that only one class uses."""
PLAIN = ("we", "are", "at", "the", "game", "with", "our", "team", "and", "see", "this", "city", "now", "so", "it", "is")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKS = ("$", "<", ">", "#", "@", "'", ".", ",", "!", "?", "t", "##t", "user", "num", "emoji")


def sentence(label: int, rng: np.random.Generator) -> list[str]:
    """Seven words, two of which tell the class."""
    words = [*rng.choice(TELLING[label], 2), *rng.choice(PLAIN, 5)]
    return [str(word) for word in rng.permutation(words)]


def vocabulary() -> list[str]:
    """The lines of a WordPiece vocabulary for these sentences."""
    return [*SPECIAL, *MARKS, *PLAIN, *(word for words in TELLING for word in words)]
