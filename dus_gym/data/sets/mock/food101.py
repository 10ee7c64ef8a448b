"""A mock of UPMC Food-101: texts/*_titles.csv without a header, and images/{train,test}/CLASS/*.jpg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.food101 import CLASSES
from dus_gym.data.sets.mock.material import picture, plan, sentence, text_image_settings, write_jpg, write_lines

SIDE = 48


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write pictures, lists and a vocabulary; return the settings of the folder."""
    telling = [name.split("_") for name in CLASSES]
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for clip in plan(clips, len(CLASSES), tuple(lines)):
        name, dish = f"{CLASSES[clip.label]}_{clip.turn}.jpg", CLASSES[clip.label]
        write_jpg(root / f"images/{clip.split}/{dish}/{name}", picture(clip.position, SIDE, SIDE, rng))
        title = " ".join(sentence(telling[clip.label], rng))
        # Titles hold commas, and are then quoted.
        lines[clip.split].append(f'{name},"{title}, {title.split()[0]}",{dish}')
    for split, found in lines.items():
        write_lines(root / f"texts/{split}_titles.csv", found)
    return text_image_settings(root, telling)
