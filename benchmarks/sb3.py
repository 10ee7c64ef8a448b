"""The agents of stable-baselines3 on the embedded and the audio tasks; writes docs/sb3-results.md.

    dus data fetch avdigits --root DATA/avdigits
    python -m dus_gym.benchmarks.sb3 DATA                   # about two hours on one core

A finished comparison in ``--out`` is not run again, and a killed one goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dus_gym.benchmarks.pages import EMBEDDED, Kept, arguments, difference, markdown_table, write_page
from dus_gym.experiments.compare import compare_command
from dus_gym.experiments.task_comparison import TaskComparison

AGENTS = ("ppo", "a2c", "dqn", "sac", "td3", "ddpg")
AUDIO: dict[str, dict[str, Any]] = {"AVDigits": {"validation": "speaker"}, "AVDigitsOfficial": {}}
"""Audio tasks and how each is validated, as in docs/small-data.md."""
TASKS = (*EMBEDDED, *AUDIO)
PREDICTORS = ("concat", "sum")
CALL: dict[str, Any] = {"agent_runs": 20, "seeds": 10, "loss_norm": "fixed", "min_fraction": 0.25}

INTRODUCTION = """# The agents of stable-baselines3

Written by `python -m dus_gym.benchmarks.sb3`; do not edit by hand. Twenty training runs, then one run with the
deterministic policy, whose test accuracy counts: points against `uniform` on the same seeds, 0 to 9, with the p-value
of a paired t-test, not corrected: with {figures} figures read p below {bound}. `gap` is the distance of the scores
under `uniform` and under the agent. Eq. 5 is the reward, `loss_norm="fixed"`, and no modality falls below a quarter of
the equal share. The controls on the same tasks, without that floor, stand in [results.md](results.md) and, of the audio
tasks, in [small-data.md](small-data.md).

`{command}`; AVDigits with `--task.validation speaker`
"""


def cell(part: TaskComparison, agent: str) -> str:
    """Return points against uniform by two predictors, and both gaps."""
    row = part.agents[agent]
    tests = {p: test for p in PREDICTORS if (test := row.vs_uniform[p]) is not None}
    lines = [f"{p} {difference(test)}" for p, test in tests.items()]
    return "<br>".join([*lines, f"gap {part.uniform.gap.mean:.3f} to {row.gap.mean:.3f}"])


def main() -> None:
    parser = arguments(__doc__, "sb3", "sb3-results")
    parser.add_argument("data", type=Path, help="the folder with avdigits")
    parser.add_argument("--agents", default=",".join(AGENTS), help="whose rows the page has, separated by commas")
    options = parser.parse_args()
    kept, agents = Kept(options, options.data.expanduser()), options.agents.split(",")
    rows = []
    for agent in agents:
        cells = []
        for task in TASKS:
            data: dict[str, Any] = {"data": "avdigits", "task_options": AUDIO[task]} if task in AUDIO else {}
            cells.append(cell(kept(f"{task}-{agent}", f"DUS-{task}-v0", [agent], **CALL, **data), agent))
        rows.append([f"`{agent}`", *cells])
    figures = len(agents) * len(TASKS) * len(PREDICTORS)
    command = compare_command("TASK", ["AGENT"], **CALL)
    opening = INTRODUCTION.format(figures=figures, bound=f"{0.05 / figures:.1g}", command=command)
    write_page(options.page, opening, markdown_table(["agent", *TASKS], rows))


if __name__ == "__main__":
    main()
