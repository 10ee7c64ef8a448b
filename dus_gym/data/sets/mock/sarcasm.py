"""A mock of the sarcasm data of Cai, Cai and Wan (2019): text/*.txt and dataset_image/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.mock.material import (
    TELLING,
    picture,
    plan,
    sentence,
    text_image_settings,
    write_jpg,
    write_lines,
)

SIDE = 48
FILES = {"train": "text/train.txt", "validation": "text/valid2.txt", "test": "text/test2.txt"}


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write pictures, lists and a vocabulary; return the settings of the folder."""
    lines: dict[str, list[str]] = {split: [] for split in FILES}
    for number, clip in enumerate(plan(clips, 2, tuple(FILES))):
        tweet = str(800_000_000_000_000_000 + number)
        write_jpg(root / f"dataset_image/{tweet}.jpg", picture(clip.position, SIDE, SIDE, rng))
        row: list[str | int] = [tweet, " ".join(sentence(TELLING[clip.label], rng))]
        # Training rows have the hashtag's label; the others have it and, last, a human's.
        row += [clip.label] if clip.split == "train" else [clip.label, clip.label]
        lines[clip.split].append(repr(row))
    for split, file in FILES.items():
        write_lines(root / file, lines[split], "\r\n")
    return text_image_settings(root)
