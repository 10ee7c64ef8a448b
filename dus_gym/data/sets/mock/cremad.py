"""A mock of CREMA-D: AudioWAV/, Image-01-FPS/, train.csv and test.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.sets.cremad import EMOTIONS
from dus_gym.data.sets.mock.material import Clip, picture, plan, tone, write_jpg, write_lines, write_wav

SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
RATE, SECONDS = 16_000, 1.0
HEIGHT, WIDTH, FRAMES = 48, 64, 2


def write(root: Path, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write media and lists; return the settings of the folder."""
    chosen = plan(clips, len(EMOTIONS), ("train", "test"))
    for clip in chosen:
        name = clip_name(clip)
        write_wav(root / f"AudioWAV/{name}.wav", tone(clip.position, SECONDS, RATE, rng), RATE)
        for second in range(FRAMES):
            # The published frames are named after their number in the video, one per second.
            write_jpg(root / f"Image-01-FPS/{name}/{30 * second:05d}.jpg", picture(clip.position, HEIGHT, WIDTH, rng))
    for split in ("train", "test"):
        lines = [f"{clip_name(clip)},{EMOTIONS[clip.label]}" for clip in chosen if clip.split == split]
        write_lines(root / f"{split}.csv", lines, "\r\n")
    return {"encoders": ["cnn:channels=4,8,8,8", "cnn:pool=mean"]}


def clip_name(clip: Clip) -> str:
    """Return ``ActorID_Sentence_Emotion_Level``, unique: 91 actors, and the sentence changes after all had a turn."""
    number = 2 * clip.number + (clip.split == "test")
    sentence, level = SENTENCES[number // 91 % 12], ("XX", "LO", "MD", "HI")[number // (91 * 12) % 4]
    return f"{1001 + number % 91}_{sentence}_{EMOTIONS[clip.label]}_{level}"
