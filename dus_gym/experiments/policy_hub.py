"""Policies on the Hugging Face hub: one repository per policy, with a card that says what it is.

    commit = dus_gym.push_to_hub("policy.safetensors", "OWNER/NAME")
    agent = dus_gym.load_from_hub("OWNER/NAME", num_modalities=2)

Wherever a policy file is taken, ``hf://OWNER/NAME`` is taken too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dus_gym.agents import AGENTS
from dus_gym.agents.base import Agent
from dus_gym.agents.policy_files import (
    ANY_NUMBER,
    ON_HUB,
    agent_from_policy,
    fetch_policy,
    is_sb3_file,
    load_agent,
    policy_path,
    read_policy,
)
from dus_gym.errors import CheckpointError, ConfigError, NotOnHubError
from dus_gym.experiments.spec import OWN_ID, RunSpec
from dus_gym.experiments.storage.run_folder import CONFIG, is_ours, read_object
from dus_gym.hub import HubFile, check_repo, fetch, send
from dus_gym.state import restoring

CARD = "README.md"
LIBRARY = "library_name: dus-gym"
"""The line of a card's head by which one that :func:`push_to_hub` wrote is known."""
MOST_CARD_BYTES = 2**20
NOT_SAID = "its file does not say"
LEVERS = {"samples": "samples: how many samples each modality gets", "rates": "rates: each modality's learning rate"}
PICKLES = (
    "stable-baselines3 saves a model as pickles, whose loading can run code, and the hub gets safetensors only; "
    "publish the command that trains it (dus train --agent ppo …), or a policy of dus meta-train"
)


@dataclass(frozen=True)
class Origin:
    """How a policy came about; None: nobody said."""

    trained_on: str | None = None
    command: str | None = None
    """Trains it again."""
    env: str | None = None
    """A registered id that it was trained on."""


def push_to_hub(
    policy: Agent | str | Path,
    repo_id: str,
    *,
    filename: str = ON_HUB,
    revision: str | None = None,
    private: bool = False,
    card: bool = True,
    trained_on: str | None = None,
    command: str | None = None,
    message: str | None = None,
) -> str:
    """Publish a policy on the Hugging Face hub, with a model card, as one commit.

    Args:
        policy: an agent that has learned, or what :func:`dus_gym.train` takes as ``policy``: a file, or the name of a
            policy that comes with the package.
        repo_id: ``OWNER/NAME``; the repository is made if it is not there.
        filename: the policy's name in the repository, ending in ``.safetensors``.
        revision: the branch, made if it is not there; None: ``main``.
        private: makes a new repository private.
        card: also write the model card, the repository's ``README.md``.
        trained_on: for the card: the tasks it was trained on. A policy of ``dus meta-train``, and one that lies in its
            run's folder, say so themselves.
        command: for the card: what trains the policy again; the same holds.
        message: of the commit.

    Returns:
        The commit, 40 hexadecimal digits. ``hf://OWNER/NAME@COMMIT`` is this policy for ever.

    Raises:
        ConfigError: for what is no policy, a name that can't be, a repository whose ``README.md`` is somebody's own, or
            if ``huggingface_hub`` is not installed.
        CheckpointError: for a file that is damaged, no policy, or a model of stable-baselines3.
        FetchError: if the hub can't be reached, or says no.
    """
    check_repo(repo_id)
    if not filename.endswith(".safetensors"):
        raise ConfigError(f"filename={filename!r} is not allowed; policies on the hub end in .safetensors.")
    place = HubFile(repo_id, filename, revision)
    with TemporaryDirectory() as folder:
        path = _file_of(policy, Path(folder))
        content, data = read_policy(path), path.read_bytes()
        files = {filename: data}
        if card:
            _check_card(dataclasses.replace(place, filename=CARD))
            with restoring(str(path)):
                found = _origin(path, content)
                origin = Origin(trained_on or found.trained_on, command or found.command, found.env)
                files[CARD] = model_card(place, content, origin).encode()
    return send(files, repo_id, message or f"Policy of agent {content['agent']}", revision=revision, private=private)


def load_from_hub(
    repo_id: str,
    filename: str = ON_HUB,
    revision: str | None = None,
    *,
    num_modalities: int | None = None,
    seed: int = 0,
) -> Agent:
    """Return the agent of a policy on the Hugging Face hub.

    Args:
        repo_id: ``OWNER/NAME``.
        filename: its name in the repository.
        revision: a branch, a tag or a commit; None: the newest of ``main``.
        num_modalities: m of the coming run; None: the agent as it was saved, to go on where it stood.
        seed: of the agent's own random numbers, where ``num_modalities`` is given.

    Raises:
        NotOnHubError: if there is no such repository, revision or file, or none for whoever asks.
        ConfigError: if the policy can't serve m modalities, or ``huggingface_hub`` is not installed.
        CheckpointError: if the file is damaged or no policy.
        FetchError: if the hub can't be reached and there is no earlier copy of the file.
    """
    place = HubFile(repo_id, filename, revision)
    fetch_policy(place, again=True)
    return load_agent(str(place)) if num_modalities is None else agent_from_policy(str(place), num_modalities, seed)


def _file_of(policy: Any, folder: Path) -> Path:
    """Return the file of a policy; an agent is saved to ``folder``."""
    if isinstance(policy, str | Path):
        path = policy_path(policy)
        if is_sb3_file(path):
            raise CheckpointError(f"policy={str(policy)!r} is not published: {PICKLES}.")
        return path
    if not isinstance(policy, Agent):
        kind = type(policy)
        why = PICKLES if kind.__module__.startswith("stable_baselines3") else "give an agent, or the path of a policy"
        raise ConfigError(f"policy={kind.__name__} is not allowed: {why}.")
    if policy.file_suffix != ".safetensors":
        raise ConfigError(f"policy={policy.name!r} is not published: {PICKLES}.")
    path = folder / ON_HUB
    policy.save(path)
    return path


def _check_card(place: HubFile) -> None:
    """Raise ConfigError if a repository has a README of somebody's own."""
    try:
        there = fetch(place, MOST_CARD_BYTES, again=True).path.read_text(encoding="utf-8", errors="replace")
    except NotOnHubError:
        return
    if LIBRARY not in there.partition("\n---")[0]:
        raise ConfigError(
            f"repo_id={place.repo_id!r} has a {CARD} that is no card of a policy; publish into a repository of the "
            "policy's own, or leave the card out (card=False, --no-card)."
        )


def _origin(path: Path, content: Mapping[str, Any]) -> Origin:
    """Return what the policy's file, or the run's folder that it lies in, says of its origin."""
    made = content["state"].get("made")
    if isinstance(made, dict) and made.get("envs"):
        fake = ", fitted curves in place of training" if made.get("trainer") == "fake" else ""
        seeds = made["seeds"]
        return Origin(
            f"{', '.join(made['envs'])} ({made['runs']} runs{fake}; seeds {min(seeds)} to {max(seeds)}; reward "
            f"{made['reward']})",
            made.get("command"),
            made["envs"][0],
        )
    config = path.parent / CONFIG
    if path.name == ON_HUB and config.is_file() and is_ours(path.parent) and "env" in (run := read_object(config)):
        spec = RunSpec.of(run)
        # Where somebody's data lies is of no use to anybody else.
        spec = spec if spec.data_root is None else dataclasses.replace(spec, data_root="PATH")
        return Origin(spec.title, spec.command(), None if spec.env == OWN_ID else spec.env)
    return Origin()


def model_card(place: HubFile, content: Mapping[str, Any], origin: Origin) -> str:
    """Return the model card of a policy, in Markdown with the hub's YAML head.

    Args:
        place: where it is to lie.
        content: what :func:`dus_gym.agents.policy_files.read_policy` returned.
        origin: how it came about.
    """
    name, lever = content["agent"], content["lever"]
    any_number = name == ANY_NUMBER
    own = "" if isinstance(AGENTS.get(name), str) else " (not of dus-gym: `--import` the module that registers it)"
    at = dataclasses.replace(place, revision=None)
    short = str(at).removesuffix(f"/{ON_HUB}")
    rows = {
        "agent": f"`{name}`{own}",
        "modalities": "any number" if any_number else str(content["num_modalities"]),
        "lever": LEVERS.get(lever, NOT_SAID),
        "trained on": origin.trained_on or NOT_SAID,
        "file": f"`{place.filename}`, safetensors with a checksum; reading it runs no code",
    }
    needs = " --lever rates" if lever == "rates" else ""
    asked = "" if place.filename == ON_HUB else f', "{place.filename}"'
    again = f"```sh\n{origin.command}\n```" if origin.command else f"How it was trained: {NOT_SAID}."
    return "\n".join(
        [
            "---",
            LIBRARY,
            "tags:",
            *(f"- {tag}" for tag in ("dus-gym", "reinforcement-learning", "multimodal")),
            "---",
            "",
            f"# {place.repo_id.partition('/')[2]}",
            "",
            "A policy of dus-gym: it decides what each modality of a multimodal training run gets.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {_cell(value)} |" for key, value in rows.items()),
            "",
            "## Use it",
            "",
            "```sh",
            'pip install "dus-gym[hub]"',
            f"dus train {origin.env or 'ENV'} --policy {short}{needs}",
            "```",
            "",
            "```python",
            "import dus_gym",
            "",
            f'agent = dus_gym.load_from_hub("{place.repo_id}"{asked}, '
            f"num_modalities={2 if any_number else content['num_modalities']})",
            "```",
            "",
            "## Train it again",
            "",
            again,
            *_score(content["state"].get("made")),
            "",
        ]
    )


def _score(made: Any) -> list[str]:
    """Return the section with the scores of `dus meta-train` on held-out seeds; nothing for another policy."""
    if not isinstance(made, dict) or not made.get("score"):
        return []
    seeds = made["eval_seeds"]
    lines = ["", f"## On seeds that it did not learn on ({min(seeds)} to {max(seeds)})", ""]
    lines += ["| task | return | uniform's | validation accuracy, % | uniform's |", "|---|---|---|---|---|"]
    for env, row in made["score"].items():
        accuracy = row.get("val_accuracy")
        figures = ["–", "–"] if accuracy is None else [f"{100 * accuracy[key]:.1f}" for key in ("policy", "uniform")]
        lines.append(f"| {env} | {row['return']:.3f} | {row['uniform']:.3f} | {' | '.join(figures)} |")
    return lines


def _cell(text: str) -> str:
    """Return text for a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
