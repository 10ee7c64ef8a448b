"""A mock of VGGSound: vggsound.csv and video/ID_SECONDS.mp4, as the authors name their clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.mock.material import SOUND_RATE, Clip, picture, plan, tone, write_lines, write_video
from dus_gym.data.sets.vggsound import CLASSES, SECONDS

HEIGHT, WIDTH, FRAMES, RATE = 48, 64, 4, 2


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write clips and the list; return the settings of the folder."""
    lines = []
    for clip in plan(clips, len(CLASSES), ("train", "test")):
        video, start, label = clip_id(clip), 10 * clip.turn, CLASSES[clip.label]
        frames = np.stack([picture(clip.position, HEIGHT, WIDTH, rng) for _ in range(FRAMES)])
        wave = tone(clip.position, FRAMES / RATE, SOUND_RATE, rng)
        write_video(root / f"video/{video}_{start:0{SECONDS}d}.mp4", frames, RATE, wave)
        lines.append(f"{video},{start},{f'{chr(34)}{label}{chr(34)}' if ',' in label else label},{clip.split}")
    write_lines(root / "vggsound.csv", lines)
    return {"encoders": ["cnn:channels=4,8,8,8", "cnn:pool=mean"]}


def clip_id(clip: Clip) -> str:
    """Return a made-up YouTube id of eleven characters."""
    return f"-{clip.split[:2]}_{clip.number:07d}"
