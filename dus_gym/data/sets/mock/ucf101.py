"""A mock of UCF-101: ucfTrainTestlist/, UCF-101/CLASS/*.avi, and flow of all frames as tvl1_flow/{u,v}/CLIP/*.jpg."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.mock.material import Clip, pixels, plan, spot, write_jpg, write_lines, write_video
from dus_gym.data.sets.ucf101 import CLASSES, RATE

HEIGHT, WIDTH, FRAMES = 24, 32, RATE
GROUPS = {"train": range(8, 26), "test": range(1, 8)}
"""As in the first official split."""
LIMIT = 20.0
"""Pixels a frame that the brightest byte of flow stands for."""


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write videos, flow and lists; return the settings of the folder."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for clip in plan(clips, len(CLASSES), tuple(lines)):
        name, action = clip_name(clip), CLASSES[clip.label]
        there, flow = spot(clip.position, FRAMES, HEIGHT, WIDTH, rng)
        noise = 0.05 * rng.standard_normal((FRAMES, HEIGHT, WIDTH, 1))
        colour = np.array(colorsys.hsv_to_rgb(clip.position, 0.8, 1.0))
        write_video(root / f"UCF-101/{action}/{name}.avi", pixels(there[..., None] * colour + noise), RATE)
        for axis, letter in enumerate("uv"):
            for number, moved in enumerate(flow[..., axis], start=1):
                file = root / f"tvl1_flow/{letter}/{name}/frame{number:06d}.jpg"
                write_jpg(file, pixels((moved + LIMIT) / (2 * LIMIT)))
        lines[clip.split].append(f"{action}/{name}.avi" + (f" {clip.label + 1}" if clip.split == "train" else ""))
    for split, found in lines.items():
        write_lines(root / f"ucfTrainTestlist/{split}list01.txt", found, "\r\n")
    numbered = [f"{number} {name}" for number, name in enumerate(CLASSES, start=1)]
    write_lines(root / "ucfTrainTestlist/classInd.txt", numbered, "\r\n")
    return {"encoders": ["cnn:pool=mean"] * 2, "options": {"fps": 5, "held": 1}}


def clip_name(clip: Clip) -> str:
    """Return ``v_Class_gXX_cYY``, unique within its class."""
    groups = GROUPS[clip.split]
    return f"v_{CLASSES[clip.label]}_g{groups[clip.turn % len(groups)]:02d}_c{1 + clip.turn // len(groups):02d}"
