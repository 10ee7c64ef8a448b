"""Cost of the data: the store against the way the published loaders go, on made files in CREMA-D's formats.

    python -m dus_gym.benchmarks.store                    # everything, about two minutes on one core
    python -m dus_gym.benchmarks.store --part data        # data alone: data, build, step or memory

One process, one thread. Times are of the processor (``time.process_time``), the least of ``--repeat`` passes, so that a
busy machine changes them little. The published way is written out below as OGM-GE, ReconBoost and AMSS have it, with
scipy's resampler and PyTorch's STFT in place of librosa's, which take as long.
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from scipy.signal import resample_poly
from torch import Tensor, nn
from torchvision import transforms

from dus_gym.data.media.audio import looped
from dus_gym.data.media.spectrogram import STFT
from dus_gym.data.registry import get_task
from dus_gym.data.sets.cremad import EMOTIONS
from dus_gym.data.store.split import StoreSplit
from dus_gym.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from dus_gym.encoders import build_encoder, width
from dus_gym.seeding import RunSeeds

PARTS = ("data", "build", "step", "memory")
RATE, FRAMES = 16_000, 3
HEIGHT, WIDTH = 360, 480


def make_files(root: Path, clips: int) -> None:
    """Clips of 1.3 to 5 s with three frames each, of CREMA-D's sizes: about 81 kB of sound and 3 pictures of 60 kB."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(clips):
        emotion = EMOTIONS[number % 6]
        name = f"{1001 + number % 91}_{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[number // 91]}FA_{emotion}_XX"
        sound = 0.1 * rng.standard_normal(int(RATE * np.clip(rng.normal(2.54, 0.5), 1.3, 5.0)))
        path = root / f"AudioWAV/{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, RATE, subtype="PCM_16")
        for frame in range(FRAMES):
            waves = [np.sin(rows / rng.uniform(9, 60) + columns / rng.uniform(9, 60)) for _ in range(3)]
            pixels = 127 + 80 * np.stack(waves, -1) + rng.normal(0, 5, (HEIGHT, WIDTH, 3))
            path = root / f"Image-01-FPS/{name}/{30 * frame:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=88)
        lists["test" if number < 12 else "train"].append(f"{name},{emotion}\n")
    for split, lines in lists.items():
        (root / f"{split}.csv").write_text("".join(lines))


def store_split(root: Path, **options: str) -> StoreSplit:
    """All training clips, from the store."""
    data = get_task("CREMAD").configured({"validation": "none", **options}, root).data(RunSeeds(0), root)
    assert isinstance(data.train, StoreSplit)
    return data.train


class Published:
    """Per sample: read the wav, resample, repeat to 3 s, STFT; open a JPEG, crop, flip, normalise."""

    def __init__(self, root: Path, lists: Sequence[str] = ("train",)) -> None:
        lines = [line for name in lists for line in (root / f"{name}.csv").read_text().split()]
        self.clips = [line.split(",")[0] for line in lines]
        self.root = root
        self.stft = STFT()
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(224),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def sound(self, clip: str) -> Tensor:
        """Log spectrogram ``(1, 257, 188)``."""
        samples, rate = soundfile.read(self.root / f"AudioWAV/{clip}.wav", dtype="float32")
        common = math.gcd(rate, 22_050)
        wave = np.clip(looped(resample_poly(samples, 22_050 // common, rate // common), 66_150), -1, 1)
        return self.stft(torch.from_numpy(wave)[None])

    def picture(self, clip: str) -> Tensor:
        """One frame, ``(3, 224, 224)``."""
        path = sorted((self.root / f"Image-01-FPS/{clip}").iterdir())[1]
        found: Tensor = self.transform(Image.open(path).convert("RGB"))
        return found

    def epoch(self, batch: int) -> None:
        """Every clip once, in batches."""
        for first in range(0, len(self.clips), batch):
            part = self.clips[first : first + batch]
            torch.stack([self.sound(clip) for clip in part])
            torch.stack([self.picture(clip) for clip in part])


def store_epoch(split: StoreSplit, batch: int, read_only: bool = False) -> None:
    """A pass over both modalities, with the transforms or without."""
    order = torch.randperm(len(split.labels))
    for rows in order.split(batch):
        draws = np.zeros(len(rows), np.int64)
        for modality in range(2):
            if read_only:
                split.read(modality, rows.numpy(), draws)
            else:
                split.fetch(modality, rows, draws)


def least(work: Callable[[], Any], repeat: int) -> float:
    """Processor seconds of the fastest pass, after one that does not count."""
    work()
    found = []
    for _ in range(repeat):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def data(root: Path, batch: int, repeat: int) -> None:
    """Milliseconds a sample of both modalities."""
    split, published = store_split(root), Published(root)
    n = len(split.labels)
    theirs = least(lambda: published.epoch(batch), repeat) / n
    ours = least(lambda: store_epoch(split, batch), repeat) / n
    host = least(lambda: store_epoch(split, batch, read_only=True), repeat) / n
    named = {
        "published way": theirs,
        "store, transformed on the CPU": ours,
        "store, the host's part where a device transforms": host,
    }
    for name, seconds in named.items():
        print(f"| {name} | {1e3 * seconds:.2f} ms | {theirs / seconds:.1f}x |")


def build(root: Path, batch: int) -> None:
    """The first epoch, in which all is decoded, against an epoch of the published way."""
    published = Published(root, ("train", "test"))  # the store decodes both, and so does an epoch that ends in a test
    published.epoch(batch)  # files are in the system's cache for both
    begun = time.process_time()
    published.epoch(batch)
    theirs = time.process_time() - begun
    begun = time.process_time()
    split = store_split(root)
    made = time.process_time() - begun
    store_epoch(split, batch)
    ours = time.process_time() - begun
    print(f"| published way, one epoch | {theirs:.1f} s | |")
    print(f"| decoding all {FRAMES} frames and the sound of every clip | {made:.1f} s | {made / theirs:.2f} epochs |")
    begun = time.process_time()
    store_split(root, frames="even", cache=str(root / "even"))
    one = time.process_time() - begun
    print(f"| that and the first epoch | {ours:.1f} s | {ours / theirs:.2f} epochs |")
    print(f"| decoding one frame and the sound (frames=even) | {one:.1f} s | {one / theirs:.2f} epochs |")


def step(root: Path, batch: int, steps: int) -> None:
    """Steps of two ResNet-18 fed by the store, and by tensors in memory; one of each in turn."""
    split = store_split(root)
    shapes = [(1, 257, 188), (3, 224, 224)]
    encoders = [build_encoder("resnet18", shape) for shape in shapes]
    heads = [nn.Linear(width(encoder), 6) for encoder in encoders]
    modules = nn.ModuleList([*encoders, *heads])
    optimizer = torch.optim.SGD(modules.parameters(), lr=1e-3, momentum=0.9)
    rows = torch.arange(batch)
    memory = [split.fetch(modality, rows, np.zeros(batch, np.int64)) for modality in range(2)]
    seconds = {"memory": 0.0, "store": 0.0}
    for number in range(steps + 1):
        for name in seconds:
            begun = time.process_time()
            draws = np.full(batch, number)
            inputs = memory if name == "memory" else [split.fetch(modality, rows, draws) for modality in range(2)]
            optimizer.zero_grad()
            for encoder, head, given in zip(encoders, heads, inputs, strict=True):
                nn.functional.cross_entropy(head(encoder(given)), split.labels[rows]).backward()
            optimizer.step()
            if number:  # the first step of each allocates
                seconds[name] += time.process_time() - begun
    for name, spent in seconds.items():
        print(f"| a step of {batch} + {batch}, from {name} | {spent / steps:.2f} s | {spent / seconds['memory']:.3f} |")


def memory(root: Path, batch: int, clips: int) -> None:
    """Peak resident memory of a process that reads everything twice, with all clips and with a quarter of them."""
    quarter = root.with_name("quarter")
    make_files(quarter, clips // 4)
    for place, count in ((quarter, clips // 4), (root, clips)):
        store_split(place)
        stored = sum(path.stat().st_size for path in (place / ".dus-cache").rglob("shard-*"))
        command = [sys.executable, "-m", __spec__.name, "--read", str(place), "--batch", str(batch)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"| {count} clips, {stored / 2**20:.0f} MiB decoded | {found.strip()} |")


def resident() -> float:
    """Resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def read(root: Path, batch: int) -> None:
    """Reads everything twice; prints how far that raised the resident memory."""
    split = store_split(root)
    order = torch.arange(len(split.labels)).repeat(2)
    found = []
    for rows in order.split(batch):
        for modality in range(2):
            split.fetch(modality, rows, np.zeros(len(rows), np.int64))
        found.append(resident())
    print(f"{found[0]:.0f} MiB after the first batch, at most {max(found) - found[0]:.0f} MiB more later")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="one part only")
    parser.add_argument("--clips", type=int, default=268, help="12 of them are for the test")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.read is not None:
        read(chosen.read, chosen.batch)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "cremad"
        make_files(root, chosen.clips)
        work: dict[str, Callable[[], None]] = {
            "build": lambda: build(root, chosen.batch),
            "data": lambda: data(root, chosen.batch, chosen.repeat),
            "step": lambda: step(root, chosen.batch // 4, chosen.steps),
            "memory": lambda: memory(root, chosen.batch, chosen.clips),
        }
        for name, run in work.items():
            if chosen.part in (None, name):
                print(f"\n{name}\n", flush=True)
                run()


if __name__ == "__main__":
    main()
