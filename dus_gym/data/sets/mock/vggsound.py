"""A mock of VGGSound: vggsound.csv and video/ID_SECONDS.mp4, as the authors name their clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.mock.material import Clip, plan, write_clip, write_lines
from dus_gym.data.sets.vggsound import CLASSES, SECONDS


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write clips and the list; return the settings of the folder."""
    lines = []
    for clip in plan(clips, len(CLASSES), ("train", "test")):
        video, start, label = clip_id(clip), 10 * clip.turn, CLASSES[clip.label]
        write_clip(root / f"video/{video}_{start:0{SECONDS}d}.mp4", clip.position, rng)
        quoted = f'"{label}"' if "," in label else label
        lines.append(f"{video},{start},{quoted},{clip.split}")
    write_lines(root / "vggsound.csv", lines)
    return {"encoders": ["cnn:channels=4,8,8,8", "cnn:pool=mean"]}


def clip_id(clip: Clip) -> str:
    """Return a made-up YouTube id of eleven characters."""
    return f"-{clip.split[:2]}_{clip.number:07d}"
