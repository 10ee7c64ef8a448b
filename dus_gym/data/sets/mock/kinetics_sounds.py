"""A mock of Kinetics-Sounds in the layout of BSS: annotations/*.csv, {train,test}_img/ and {train,test}_wav/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.kinetics_sounds import CLASSES
from dus_gym.data.sets.mock.material import Clip, picture, plan, tone, write_jpg, write_lines, write_wav

RATE, SECONDS = 8_000, 2.0
HEIGHT, WIDTH, FRAMES = 48, 64, 4


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write media and lists; return the settings of the folder."""
    chosen = plan(clips, len(CLASSES), ("train", "test"))
    for clip in chosen:
        stem = clip_stem(clip)
        write_wav(root / f"{clip.split}_wav/{stem}.wav", tone(clip.position, SECONDS, RATE, rng), RATE)
        for second in range(FRAMES):
            path = root / f"{clip.split}_img/Image-01-FPS/{stem}/frame_{second + 1:05d}.jpg"
            write_jpg(path, picture(clip.position, HEIGHT, WIDTH, rng))
    for split in ("train", "test"):
        rows = [f"{CLASSES[clip.label]},{clip_stem(clip)}" for clip in chosen if clip.split == split]
        write_lines(root / f"annotations/{split}.csv", ["label,youtube_id", *rows])
    return {"encoders": ["cnn:channels=4,8,8,8", "cnn:pool=mean"]}


def clip_stem(clip: Clip) -> str:
    """Return a made-up YouTube id of eleven characters, and the second the clip starts at."""
    return f"{clip.split[:2]}-_{clip.number:07d}_{clip.label:06d}"
