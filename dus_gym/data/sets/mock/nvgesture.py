"""A mock of NVGesture: the two .lst files, and Video_data/ with colour, depth and optical flow of 80 frames."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.mock.material import Clip, pixels, plan, spot, write_lines, write_npy, write_video
from dus_gym.data.sets.nvgesture import NUM_CLASSES

HEIGHT, WIDTH, FRAMES = 16, 24, 80
SUBJECTS = {"train": (1, 2, 3, 4), "test": (5, 8)}
"""Nobody is in both splits, as published; each has clips of all classes, so one of the four can validate."""


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write videos, flow and lists; return the settings of the folder."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for clip in plan(clips, NUM_CLASSES, ("train", "test")):
        folder = clip_folder(clip)
        there, flow = spot(clip.position, FRAMES, HEIGHT, WIDTH, rng)
        noise = 0.05 * rng.standard_normal((FRAMES, HEIGHT, WIDTH, 1))
        colour = np.array(colorsys.hsv_to_rgb(clip.position, 0.8, 1.0))
        write_video(root / folder / "sk_color.avi", pixels(there[..., None] * colour + noise))
        depth = (1.0 - clip.position) * there[..., None] + noise
        write_video(root / folder / "sk_depth.avi", pixels(np.repeat(depth, 3, axis=3)))
        # Height, width, across and down, time; rows of the list are numbered from 0.
        row = len(lines[clip.split])
        array = flow.transpose(1, 2, 3, 0)[..., :-1].astype(np.float16)
        write_npy(root / f"Video_data/flow_data/{clip.split}/{row}.npy", array)
        window = f"depth:sk_depth:0:{FRAMES} color:sk_color:0:{FRAMES} duo_left:duo_left:0:93"
        lines[clip.split].append(f"path:./{folder} {window} label:{clip.label + 1} ")
    for split, found in lines.items():
        write_lines(root / f"nvgesture_{split}_correct.lst", found)
    return {
        "encoders": ["i3d:width=0.0625"] * 3,
        "options": {"size": 24, "crop": 20, "frames": 16, "held": 1},
    }


def clip_folder(clip: Clip) -> str:
    """Return ``Video_data/class_XX/subjectS_rR``, unique within its class."""
    subjects = SUBJECTS[clip.split]
    return f"Video_data/class_{clip.label + 1:02d}/subject{subjects[clip.turn % len(subjects)]}_r{clip.turn}"
