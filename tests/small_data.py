"""Tiny data sets in the published forms, for tests; and the folder of real ones, where there is one."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import soundfile

from dus_gym.data.registry import get_task
from dus_gym.data.sets.avdigits import SPEAKERS, TAKES
from dus_gym.data.sets.cremad_ratings import LEVELS, VOTES
from dus_gym.data.sets.mfeat import WIDTHS
from dus_gym.seeding import RunSeeds

FOLDER = os.environ.get("DUS_TEST_DATA")
real = pytest.mark.skipif(FOLDER is None, reason="DUS_TEST_DATA is not set to the folder of real files")


def real_folder(name=""):
    return Path(FOLDER) / name


def build(task, root, seed=0, **options):
    """One run's splits, and the task as its options change it."""
    configured = get_task(task).configured(options, root)
    return configured.data(RunSeeds(seed), root), configured


def wav(samples, rate=8000):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write_recordings(folder, change=None):
    """All 3000 names over ten short sounds, as an archive of the repository would hold them.

    Args:
        folder: where the zip goes.
        change: from a file's name and bytes to other bytes, or None to leave it out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(800) / 8000.0
    sounds = [wav(0.3 * np.sin(2 * np.pi * (200 + 150 * digit) * times)) for digit in range(10)]
    with zipfile.ZipFile(folder / "fsdd.zip", "w") as archive:
        for digit, data in enumerate(sounds):
            for speaker in SPEAKERS:
                for take in range(TAKES):
                    name = f"{digit}_{speaker}_{take}.wav"
                    found = data if change is None else change(name, data)
                    if found is not None:
                        archive.writestr(f"free-spoken-digit-dataset-master/recordings/{name}", found)
    return folder


EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")


def write_ratings(folder, clips=60, change=None):
    """Ratings of made-up clips and a split of them; ``change`` goes over the table's lines."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"{1001 + i % 90}_DFA_{EMOTIONS[i % 6]}_XX" for i in range(clips)]
    names = list(dict.fromkeys(names))
    lines = [",".join(f'"{name}"' for name in ("", *VOTES, "fileName", "numResponses", *LEVELS))]
    for condition in (1, 2, 3):
        for i, name in enumerate(names):
            votes = rng.integers(0, 5, 6)
            levels = np.where(votes > 0, rng.uniform(20, 80, 6), -1.0)
            cells = [f'"{condition}{i:05d}"', *votes, f'"{name}"', votes.sum(), *levels]
            lines.append(",".join(str(cell) for cell in cells))
    if change is not None:
        lines = change(lines)
    (folder / "tabulatedVotes.csv").write_text("\n".join(lines) + "\n")
    cut = len(names) * 4 // 5
    for split, part in (("train", names[:cut]), ("test", names[cut:])):
        (folder / f"{split}.csv").write_bytes("".join(f"{n},{n.split('_')[2]}\r\n" for n in part).encode())
    return folder


def write_views(folder, rows=200, order=tuple(WIDTHS), first_label=0):
    """Six numeric views of ``rows`` samples in ten classes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    views = np.empty((1, len(order)), object)
    for i, name in enumerate(order):
        views[0, i] = rng.normal(size=(rows, WIDTHS[name]))
    labels = first_label + np.repeat(np.arange(10), rows // 10)[:, None]
    scipy.io.savemat(folder / "handwritten.mat", {"X": views, "Y": labels})
    return folder


def write_tweets(folder, train=30):
    """Lists and picture words in the published form."""
    for name, count, human in (("train", train, False), ("valid2", 8, True), ("test2", 9, True)):
        lines = []
        for i in range(count):
            fields = [f"{name}{i}", f"word{i % 7} common {name} text", i % 2]
            lines.append(repr([*fields, 1 - i % 2] if human else fields))
        (folder / "text").mkdir(parents=True, exist_ok=True)
        (folder / f"text/{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "extract").mkdir(exist_ok=True)
    rows = [
        repr([f"{n}{i}", *(f"tag{(i + k) % 9}" for k in range(5))])
        for n, c in (("train", train), ("valid2", 8), ("test2", 9))
        for i in range(c)
    ]
    (folder / "extract/extract_all").write_text("\n".join(rows) + "\n")
    return folder
