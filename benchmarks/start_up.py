"""Process time of short commands, as seconds and as a ratio to importing PyTorch.

    python -m dus_gym.benchmarks.start_up          # a minute on an idle core

Each command is a process of its own; its user and system time count, not the clock, and the median of the rounds is
taken, so that a busy machine shifts the ratios little.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TORCH = ("-c", "import torch")
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "python -c 'import torch'": TORCH,
    "dus --help": ("-m", "dus_gym", "--help"),
    "dus envs": ("-m", "dus_gym", "envs"),
    "dus agents": ("-m", "dus_gym", "agents"),
    "dus train --help": ("-m", "dus_gym", "train", "--help"),
    "dus train DUS-Fake-v0 --epochs 2": ("-m", "dus_gym", "train", "DUS-Fake-v0", "--epochs", "2"),
}


def process_seconds(words: tuple[str, ...], folder: Path) -> float:
    """Return the user and system time of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="dus-start-") as folder:
        # One round more, not counted: it writes the compiled modules.
        seconds = [{name: process_seconds(words, Path(folder)) for name, words in COMMANDS.items()}
                   for _ in range(rounds + 1)][1:]  # fmt: skip
    medians = {name: statistics.median(of[name] for of in seconds) for name in COMMANDS}
    torch = medians["python -c 'import torch'"]
    for name, median in medians.items():
        print(f"{name:<34}{median:6.2f} s  {median / torch:5.2f} of importing PyTorch")


if __name__ == "__main__":
    main()
