"""A mock of CMU-MOSEI as MMSA keeps it: label.csv and Raw/VIDEO/CLIP.mp4, each clip with its sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.cmu_mosei import CLASSES
from dus_gym.data.sets.mock.material import TELLING, plan, sentence, write_clip, write_lines, write_vocabulary

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"
SENTIMENTS = (-1.3333334, 0.0, 0.6666667)
MODES = {"train": "train", "validation": "valid", "test": "test"}


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write clips, the list and a vocabulary; return the settings of the folder."""
    names, lines = CLASSES["three"], [HEADER]
    for clip in plan(clips, len(names), tuple(MODES)):
        video = f"-{clip.split[:2]}{clip.turn // 4:03d}_mock"
        number = clip.turn % 4 + 4 * clip.label
        write_clip(root / f"Raw/{video}/{number}.mp4", clip.position, rng)
        text = " ".join(sentence(TELLING[clip.label], rng))
        cells = (video, number, f'"{text}, so"', SENTIMENTS[clip.label], "", "", "", names[clip.label].capitalize())
        lines.append(",".join(map(str, (*cells, MODES[clip.split]))))
    write_lines(root / "label.csv", lines)
    return {
        "encoders": [write_vocabulary(root), "cnn:channels=4,8,8,8", "cnn:pool=mean"],
        "options": {"length": 16},
    }
