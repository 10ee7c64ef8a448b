"""The agents of stable-baselines3 on the embedded and the audio tasks; writes docs/sb3-results.md.

    dus data fetch avdigits --root DATA/avdigits
    python -m dus_gym.benchmarks.sb3 DATA                   # about two hours on one core

A finished comparison in ``--out`` is not run again, and a killed one goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from dus_gym.benchmarks.kept import kept_comparison
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.task_comparison import TaskComparison

AGENTS = ("ppo", "a2c", "dqn", "sac", "td3", "ddpg")
EMBEDDED = ("Digits", "Digits3", "DigitsControl", "DigitsRowsCols", "DigitsHalves")
AUDIO = {"AVDigits": ("--validation", "speaker"), "AVDigitsOfficial": ()}
"""Audio tasks and how each is validated, as in docs/small-data.md."""
TASKS = (*EMBEDDED, *AUDIO)
PREDICTORS = ("concat", "sum")

INTRODUCTION = """# The agents of stable-baselines3

Written by `python -m dus_gym.benchmarks.sb3`; do not edit by hand. Twenty training runs, then one run with the
deterministic policy, whose test accuracy counts: points against `uniform` on the same seeds, 0 to 9, with the p-value
of a paired t-test, not corrected: with {figures} figures read p below {bound}. `gap` is the distance of the scores
under `uniform` and under the agent. Eq. 5 is the reward, `loss_norm="fixed"`, and no modality falls below a quarter of
the equal share. The controls on the same tasks, without that floor, stand in [results.md](results.md) and, of the audio
tasks, in [small-data.md](small-data.md).
"""


def command(task: str, agent: str) -> list[str]:
    """The words of one comparison, but where the data is."""
    words = f"compare DUS-{task}-v0 --agents {agent} --agent-runs 20 --seeds 10 --loss-norm fixed --min-fraction .25"
    return [*words.split(), *AUDIO.get(task, ())]


def cell(part: TaskComparison, agent: str) -> str:
    """Points against uniform by two predictors, and both gaps."""
    row = part.agents[agent]
    tests = {p: test for p in PREDICTORS if (test := row.vs_uniform[p]) is not None}
    lines = [f"{p} {test.points:+.1f} ({test.p:.4f})" for p, test in tests.items()]
    return "<br>".join([*lines, f"gap {part.uniform.gap.mean:.3f} to {row.gap.mean:.3f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with avdigits")
    parser.add_argument("--out", type=Path, default=Path("runs/sb3"))
    parser.add_argument("--page", type=Path, default=Path("docs/sb3-results.md"))
    parser.add_argument("--agents", default=",".join(AGENTS), help="whose rows the page has, separated by commas")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    lines = ["| agent | " + " | ".join(TASKS) + " |", "|---" * (len(TASKS) + 1) + "|"]
    agents = arguments.agents.split(",")
    for agent in agents:
        cells = []
        for task in TASKS:
            root = ["--data-root", str(arguments.data / "avdigits")] if task in AUDIO else []
            words = [*command(task, agent), *root, "--workers", str(arguments.workers)]
            comparison = Comparison.from_json(kept_comparison(words, arguments.out / f"{task}-{agent}"))
            cells.append(cell(comparison.parts[0], agent))
            print(agent, task, flush=True)
        lines.append(f"| `{agent}` | " + " | ".join(cells) + " |")
    example = shlex.join(["dus", *command("TASK", "AGENT")])
    audio = "; ".join(f"{task} with `{shlex.join(words)}`" for task, words in AUDIO.items() if words)
    figures = len(agents) * len(TASKS) * len(PREDICTORS)
    opening = INTRODUCTION.format(figures=figures, bound=f"{0.05 / figures:.1g}")
    text = f"{opening}\n`{example}`; {audio}\n\n" + "\n".join(lines) + "\n"
    arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
