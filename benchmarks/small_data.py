"""The small real data sets: what a uniform split reaches, and what agents change; writes docs/small-data.md.

    dus data fetch avdigits --root DATA/avdigits      # and cremad-ratings, mfeat, sarcasm-tags
    python -m dus_gym.benchmarks.small_data DATA      # about twenty minutes on one core

``DATA`` holds a folder for each data set. Finished comparisons are kept in ``--out`` and not run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dus_gym.benchmarks.pages import (
    AGENTS,
    Kept,
    arguments,
    comparison_section,
    markdown_table,
    spread,
    write_page,
)
from dus_gym.experiments.spec import setting_words
from dus_gym.experiments.task_comparison import TaskComparison

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
Call = dict[str, Any]
EXTRA: tuple[tuple[str, str, Call], ...] = (
    ("DUS-AVDigits-v0", "mla", {}),
    ("DUS-AVDigits-v0", "mla:projection=none", {}),
    ("DUS-AVDigits-v0", "baseline", {"task_options": {"standardise": "scalar"}}),
    ("DUS-AVDigits-v0", "mla:projection=none", {"task_options": {"standardise": "scalar"}}),
    ("DUS-MFeat-v0", "unimodal", {"epochs": 120}),
)
"""What explains the differences to the known figures."""
AGENT_TASKS: tuple[tuple[str, Call], ...] = (
    ("DUS-AVDigits-v0", {"task_options": {"validation": "speaker"}}),
    ("DUS-AVDigitsOfficial-v0", {}),
)

INTRODUCTION = f"""## Uniform

Test accuracy of the last epoch in per cent, mean ± standard deviation over seeds 0 to {SEEDS - 1},
uniform split, `loss_norm="mean"`, real trainer, real data. `concat` and `sum` are two ways of fusing; a modality's
figure is that of its own logits: trained alone under `unimodal`, inside the joint model under `joint`.
"""


def row(env: str, said: str, part: TaskComparison) -> list[str]:
    """Return a line of the first table."""
    fused = [part.uniform.by_seed[name] for name in ("concat", "sum")]
    single = [f"{name} {spread(of.by_seed)}" for name, of in part.uniform.modalities.items()]
    return [env, f"`{said}`", *("–" if values is None else spread(values) for values in fused), ", ".join(single)]


def main() -> None:
    parser = arguments(__doc__, "small-data")
    parser.add_argument("data", type=Path, help="the folder with avdigits, cremad-ratings, mfeat and sarcasm-tags")
    parser.add_argument("--findings", type=Path, default=Path("docs/small-data-findings.md"), help="opens the page")
    parser.add_argument("--only", default="", help="a part of an id: runs these alone, writes no page")
    options = parser.parse_args()
    kept = Kept(options, options.data.expanduser())
    sections = []
    for env, call in AGENT_TASKS:
        if options.only in env:
            words = setting_words(**call)
            part = kept(
                "-".join([env, "every-agent", *(word.lstrip("-") for word in words)]),
                env,
                AGENTS,
                seeds=AGENT_SEEDS,
                loss_norm="fixed",
                data=TASKS[env],
                **call,
            )
            sections.append(comparison_section(" ".join(["Agents:", env, *words]), kept.commands[-1], part))
    kept.commands.clear()
    rows = []
    asked: list[tuple[str, str, Call]] = [(env, method, {}) for env in TASKS for method in METHODS]
    for env, method, call in (*asked, *EXTRA):
        if options.only in env:
            words = [method, *setting_words(**call)]
            name = "-".join([env, *(word.lstrip("-").replace(":", "-") for word in words)])
            part = kept(name, env, ["uniform"], method=method, seeds=SEEDS, data=TASKS[env], **call)
            rows.append(row(env, " ".join(words), part))
    if not options.only:
        table = markdown_table(["id", "method and settings", "concat", "sum", "modalities"], rows)
        commands = "\n".join(["```text", *kept.commands, "```"])
        opening = options.findings.read_text(encoding="utf-8")
        write_page(options.page, opening, INTRODUCTION, table, commands, *sections)


if __name__ == "__main__":
    main()
