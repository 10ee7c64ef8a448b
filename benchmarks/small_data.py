"""The small real data sets: what a uniform split reaches, and what agents change; writes docs/small-data.md.

    dus data fetch avdigits --root DATA/avdigits      # and cremad-ratings, mfeat, sarcasm-tags
    python -m dus_gym.benchmarks.small_data DATA      # about twenty minutes on one core

``DATA`` holds a folder for each data set. Finished runs are kept in ``--out`` and not run again.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from dus_gym.benchmarks.kept import kept_comparison
from dus_gym.benchmarks.tables import AGENTS, section
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.storage.run_folder import COMPARISON, read_object
from dus_gym.statistics import mean_std

SEEDS, AGENT_SEEDS = 5, 10
METHODS = ("baseline", "joint", "unimodal")
TASKS = {
    "DUS-AVDigits-v0": "avdigits",
    "DUS-AVDigitsOfficial-v0": "avdigits",
    "DUS-CREMADRatings-v0": "cremad-ratings",
    "DUS-MFeat-v0": "mfeat",
    "DUS-SarcasmTags-v0": "sarcasm-tags",
}
"""Id to the folder of its data."""
EXTRA = (
    ("DUS-AVDigits-v0", "mla", ()),
    ("DUS-AVDigits-v0", "mla", ("--method.projection", "none")),
    ("DUS-AVDigits-v0", "baseline", ("--task.standardise", "scalar")),
    ("DUS-AVDigits-v0", "mla", ("--task.standardise", "scalar", "--method.projection", "none")),
    ("DUS-MFeat-v0", "unimodal", ("--epochs", "120")),
)
"""What explains the differences to the known figures."""
AGENT_TASKS = (("DUS-AVDigits-v0", ("--validation", "speaker")), ("DUS-AVDigitsOfficial-v0", ()))


class Runner:
    """Runs comparisons that are not there yet.

    Args:
        data: the folder with a folder for each data set.
        out: where comparisons are kept.
    """

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data, out

    def __call__(self, env: str, words: list[str]) -> tuple[str, Path]:
        """The command as a reader would write it, and the folder of the comparison."""
        # All agents together are too long for a file's name.
        parts = ("every-agent" if word == AGENTS else word.lstrip("-").replace(",", "_") for word in words)
        folder = self.out / "-".join([env, *parts])
        asked = ["compare", env, *words]
        kept_comparison([*asked, "--data-root", str(self.data / TASKS[env])], folder)
        print(env, *words, flush=True)
        return shlex.join(["dus", *asked, "--data-root", f"DATA/{TASKS[env]}"]), folder


def accuracies(folder: Path) -> Iterator[tuple[str, list[float]]]:
    """Each predictor and each modality with its test accuracy, one a seed, under the uniform split."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("uniform/seed*/summary.json"))]
    for name in ("concat", "sum"):
        if all(run["fused"][name] is not None for run in runs):
            yield name, [run["fused"][name]["accuracy"] for run in runs]
    for name in runs[0]["modalities"]:
        yield name, [run["modalities"][name]["accuracy"] for run in runs]


def row(env: str, words: list[str], run: Runner) -> tuple[str, str]:
    """A line of the first table, and its command."""
    command, folder = run(env, words)
    fused, single = [], []
    for name, values in accuracies(folder):
        of = mean_std(values)
        cell = f"{100 * of.mean:.1f} ± {100 * (of.std or 0.0):.1f}"
        if name in ("concat", "sum"):
            fused.append((name, cell))
        else:
            single.append(f"{name} {cell}")
    by_name = dict(fused)
    settings = " ".join(word for word in words if word not in ("--agents", "uniform", "--seeds", str(SEEDS)))
    said = settings.replace("--method ", "", 1)
    cells = [env, f"`{said}`", by_name.get("concat", "–"), by_name.get("sum", "–"), ", ".join(single)]
    return "| " + " | ".join(cells) + " |", command


INTRODUCTION = f"""Test accuracy of the last epoch in per cent, mean ± standard deviation over seeds 0 to {SEEDS - 1},
uniform split, `loss_norm="mean"`, real trainer, real data. `concat` and `sum` are two ways of fusing; a modality's
figure is that of its own logits: trained alone under `unimodal`, inside the joint model under `joint`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with avdigits, cremad-ratings, mfeat and sarcasm-tags")
    parser.add_argument("--out", type=Path, default=Path("runs/small-data"))
    parser.add_argument("--page", type=Path, default=Path("docs/small-data.md"))
    parser.add_argument("--findings", type=Path, default=Path("docs/small-data-findings.md"), help="opens the page")
    parser.add_argument("--only", default="", help="a part of an id: runs these alone, writes no page")
    arguments = parser.parse_args()
    run = Runner(arguments.data.expanduser(), arguments.out)
    sections = []
    for env, options in AGENT_TASKS:
        if arguments.only in env:
            words = ["--agents", AGENTS, "--seeds", str(AGENT_SEEDS), "--loss-norm", "fixed", *options]
            command, folder = run(env, words)
            comparison = Comparison.from_json(read_object(folder / COMPARISON), str(folder / COMPARISON), folder)
            title = " ".join(["## Agents:", env, *options])
            sections.append("\n".join([title, "", f"`{command}`", "", section(comparison)]))
    asked: list[tuple[str, str, tuple[str, ...]]] = [(env, method, ()) for env in TASKS for method in METHODS]
    asked += EXTRA
    lines = ["| id | method and settings | concat | sum | modalities |", "|---|---|---|---|---|"]
    commands = []
    for env, method, extra in asked:
        if arguments.only in env:
            words = ["--agents", "uniform", "--method", method, "--seeds", str(SEEDS), *extra]
            line, command = row(env, words, run)
            lines.append(line)
            commands.append(command)
    if arguments.only:
        return
    opening = arguments.findings.read_text(encoding="utf-8")
    uniform = ["## Uniform", "", INTRODUCTION, *lines, "", "```text", *commands, "```", ""]
    arguments.page.write_text("\n".join([opening, *uniform, *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
