"""``dus envs``: the registered environments."""

from __future__ import annotations

import json as json_module
from dataclasses import dataclass

from dus_gym.cli.options import parse
from dus_gym.data.registry import DATA_SETS, OWN_TASK, REGISTERED, get_task
from dus_gym.data.task import Task
from dus_gym.envs.registration import FAKE_ID, ids


@dataclass(frozen=True)
class EnvsOptions:
    """Options of ``dus envs``."""

    json: bool = False
    """Print one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but the --json line."""


def data_of(task: Task) -> str:
    """Return the origin of a task's data in a few words."""
    if task.name == OWN_TASK:
        return "yours: --data FILE"
    if task.name in REGISTERED:
        return "registered"
    name = task.data_source().dataset
    if not name:
        return "embedded"
    return f"dus data {'fetch' if DATA_SETS[name].can_be_fetched else 'scan'} {name}"


def main(words: list[str]) -> None:
    """Lists ids, modalities, classes, epochs and what data they need."""
    options = parse(EnvsOptions, words, "envs", "List the registered environments.")
    rows = []
    for env_id, name in ids().items():
        task = get_task(name)
        fake = env_id == FAKE_ID
        rows.append(
            {
                "env": env_id,
                "modalities": list(task.modalities),
                "classes": task.num_classes,
                "epochs": task.epochs,
                "total_batch": task.batch * len(task.modalities),
                "trainer": "fake" if fake else "real",
                "data": "none" if fake else data_of(task),
                "summary": "fitted learning curves of DUS-Digits-v0" if fake else task.summary,
            }
        )
    if options.json:
        print(json_module.dumps({"envs": rows}))
    if options.json or options.quiet:
        return
    for row in rows:
        modalities = ", ".join(get_task(ids()[str(row["env"])]).modalities)
        print(
            f"{row['env']:<25}{modalities:<24}{row['epochs']} epochs, N_B = {row['total_batch']}, data: {row['data']}"
        )
        print(f"    {row['summary']}")
