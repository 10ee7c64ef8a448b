"""A mock of Twitter2015 as TomBERT published it: three .tsv files and twitter2015_images/."""

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
from dus_gym.data.sets.twitter2015 import CLASSES, TARGET

SIDE = 48
HEADER = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String"
TEST_HEADER = "index\t#1 ImageID\t#2 String\t#2 String"
"""Four names over five columns, as published."""
FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write pictures, lists and a vocabulary; return the settings of the folder."""
    lines = {split: [TEST_HEADER if split == "test" else HEADER] for split in FILES}
    for number, clip in enumerate(plan(clips, len(CLASSES), tuple(FILES))):
        image = f"{1_000_000 + number}.jpg"
        write_jpg(root / "twitter2015_images" / image, picture(clip.position, SIDE, SIDE, rng))
        text = f"{' '.join(sentence(TELLING[clip.label], rng))} {TARGET}"
        lines[clip.split].append(f"{clip.number}\t{clip.label}\t{image}\t{text}\tour team")
    for split, file in FILES.items():
        write_lines(root / file, lines[split])
    return text_image_settings(root)
