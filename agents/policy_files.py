"""Policy files: what learners leave, and the way back to an agent.

Our own agents write safetensors with a JSON header, and reading one never runs code. A model of stable-baselines3 is
its own ZIP file, which holds pickles: it is read with ``trust=True`` only, and never from the hub.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.agents import agent_class, make_agent
from dus_gym.agents.base import Agent
from dus_gym.allocation import LEVERS
from dus_gym.errors import CheckpointError, ConfigError, first_line, unknown_name
from dus_gym.hub import HubFile, fetch, is_address
from dus_gym.options import build_options
from dus_gym.state import check_form, load_state, restoring

NAME = "policy"
"""The stem of a policy in a run folder."""
ON_HUB = f"{NAME}.safetensors"
"""The file of a repository on the hub that names none."""
MOST_BYTES = 64 * 2**20
"""Of a policy from the hub: ours have kilobytes."""
ANY_NUMBER = "transfer"
"""The agent whose policies serve any number of modalities."""
_PARTS: dict[str, type[Any]] = {"agent": str, "num_modalities": int, "options": dict, "state": dict}


def save_policy(agent: Agent, folder: str | Path) -> Path | None:
    """Write what an agent has learned to ``folder``; None if it learns nothing.

    Returns:
        The file: ``policy.safetensors``, or ``policy.zip`` in stable-baselines3's own format.
    """
    if not agent.learns:
        return None
    path = Path(folder) / f"{NAME}{agent.file_suffix}"
    agent.save(path)
    return path


def shipped_policies() -> dict[str, Path]:
    """Return the policies that come with the package, by name."""
    folder = Path(str(files("dus_gym.agents").joinpath("policies")))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def policy_path(policy: str | Path) -> Path:
    """Return the file of a policy.

    Args:
        policy: a path, the name of a shipped policy (which goes first; ``./NAME`` is a file), or an address on the
            hub (:mod:`dus_gym.hub`), whose file is fetched; ``hf://OWNER/NAME`` is its ``policy.safetensors``.

    Raises:
        ConfigError: if it is none of these; the message has the nearest name.
        CheckpointError: for a file of the hub that holds pickles.
        FetchError: if the hub can't be reached and there is no earlier copy of the file.
    """
    if is_address(policy):
        return fetch_policy(HubFile.of(str(policy), ON_HUB))
    shipped = shipped_policies()
    if str(policy) in shipped:
        return shipped[str(policy)]
    path = Path(policy)
    if path.is_file():
        return path
    raise unknown_name("policy (neither a file nor one that comes with the package)", str(policy), shipped)


def fetch_policy(file: HubFile, *, again: bool = False) -> Path:
    """Return a copy of a policy on the hub; ``again`` asks the hub although this process has fetched it already.

    Raises:
        CheckpointError: if it is no safetensors file. What anybody can publish is no file to trust: ``trust`` does not
            allow it.
        DusError: see :func:`dus_gym.hub.fetch`.
    """
    if not file.filename.endswith(".safetensors"):
        raise CheckpointError(
            f"{file} is refused: only .safetensors files are read from the hub. Others may hold pickles, whose loading "
            "can run code; fetch it yourself if you trust its origin."
        )
    path = fetch(file, MOST_BYTES, again=again).path
    if zipfile.is_zipfile(path):
        raise CheckpointError(f"{file} is refused: it is a ZIP file, which may hold pickles, under another name.")
    return path


def is_sb3_file(path: Path) -> bool:
    """Tell whether a file is a ZIP of stable-baselines3; nothing in it is read.

    Raises:
        CheckpointError: for a ZIP file that is damaged.
    """
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"data", "policy.pth"} <= set(archive.namelist())
    except Exception as error:  # damaged archives make zipfile raise all kinds of errors
        raise CheckpointError(f"{path} is a damaged ZIP file ({first_line(error)}); it can't be loaded.") from error


def read_policy(policy: str | Path) -> dict[str, Any]:
    """Read what :meth:`Agent.save` wrote, its options checked.

    Args:
        policy: see :func:`policy_path`.

    Returns:
        ``agent``, a name; ``num_modalities``; ``options``, of that agent's ``options_type``; ``lever``, None if nobody
        said; and ``state``.

    Raises:
        ConfigError: if it is neither.
        CheckpointError: if the file is damaged, of a newer format, of an agent that is not registered, no policy, a
            pickle, or a model of stable-baselines3.
    """
    path = policy_path(policy)
    if is_sb3_file(path):
        raise CheckpointError(
            f"{path} is a model of stable-baselines3 and holds pickles; it is read where its origin is trusted: "
            "--trust on the command line, dus_gym.agents.policy_files.agent_from_policy(..., trust=True) in Python."
        )
    content = load_state(path, "policy")
    if missing := _PARTS.keys() - content.keys():
        raise CheckpointError(f"{path} is damaged or from another version ({', '.join(sorted(missing))} missing).")
    for part, kind in _PARTS.items():
        # True is an int by inheritance and no number of modalities.
        if type(content[part]) is not kind:
            raise CheckpointError(
                f"{path} is damaged or from another version ({part} is {content[part]!r:.60}, not {kind.__name__})."
            )
    lever = content.setdefault("lever", None)
    if lever not in (None, *LEVERS):
        raise CheckpointError(f"{path} is damaged or from another version (lever is {lever!r:.60}).")
    name = content["agent"]
    try:
        options = build_options(agent_class(name).options_type, content["options"], f"option of agent {name!r}:")
    except ConfigError as error:
        raise CheckpointError(
            f"{path} is damaged, from another version, or of an agent of your own, whose module --import names: {error}"
        ) from error
    return content | {"options": options}


def load_agent(path: str | Path) -> Agent:
    """Return the agent that :meth:`Agent.save` wrote, its random generator included, to go on where it stood.

    Raises:
        ConfigError: if there is no such file.
        CheckpointError: see :func:`read_policy`.
    """
    return _restored(read_policy(path), policy_path(path))


def _restored(content: Mapping[str, Any], path: Path) -> Agent:
    """Make the agent of a policy file's content."""
    with restoring(str(path)):
        agent = agent_class(content["agent"])(content["num_modalities"], options=content["options"])
        check_form(agent.state_dict(), content["state"], f"{path}: state")
        agent.load_state_dict(content["state"])
    agent.policy_lever = content["lever"]
    return agent


def agent_from_policy(
    policy: str | Path,
    num_modalities: int,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Agent:
    """Return the agent of a policy file, ready for a run.

    Args:
        policy: see :func:`policy_path`; of any agent with :meth:`Agent.save`, or a model that stable-baselines3 saved.
        num_modalities: m of the run.
        seed: of the agent's own random numbers in this run.
        options: of ``transfer`` only; another agent's stand in its file.
        trust: allows files of stable-baselines3, which hold pickles.

    Raises:
        ConfigError: if the policy can't serve m modalities or take the options.
        CheckpointError: see :func:`read_policy`; or if the file is one of stable-baselines3 and not trusted.
    """
    path = policy_path(policy)
    if is_sb3_file(path):
        from dus_gym.agents.adapters import LEVER, as_agent
        from dus_gym.agents.sb3 import load_sb3_policy

        if options:
            raise ConfigError(f"policy={str(policy)!r} takes no options; leave out {', '.join(sorted(options))}.")
        loaded = load_sb3_policy(path, trust)
        agent = as_agent(loaded, num_modalities, str(policy), seed=seed)
        agent.policy_lever = getattr(loaded, LEVER, None)
        return agent
    content = read_policy(policy)
    name, theirs = content["agent"], content["num_modalities"]
    if name == ANY_NUMBER:
        if fixed := {"policy", "hidden", "decisions"} & set(options or {}):
            raise ConfigError(
                f"policy={str(policy)!r} fixes {', '.join(sorted(fixed))}; leave it out beside the policy."
            )
        return make_agent(name, num_modalities, seed, {**(options or {}), "policy": str(policy)})
    if options:
        raise ConfigError(
            f"policy={str(policy)!r} brings the options of agent {name!r} with it; "
            f"leave out {', '.join(sorted(options))}."
        )
    if theirs != num_modalities:
        raise ConfigError(
            f"policy={str(policy)!r} is of agent {name!r} for {theirs} modalities, and this task has {num_modalities}; "
            "only policies of `dus meta-train` (agent 'transfer') serve any number."
        )
    agent = _restored(content, path)
    agent.rng = np.random.default_rng(np.random.SeedSequence([int(seed), num_modalities]))
    return agent
