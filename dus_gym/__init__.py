"""dus-gym: a multimodal training run as a Gymnasium environment.

Importing it registers the ids, so that ``gymnasium.make("DUS-Digits-v0")`` works; the public names below
are looked up when they are used, because importing PyTorch takes seconds.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import Any as _Any

# In a checkout agents/, envs/ and benchmarks/ sit beside this folder; in a wheel they sit inside it.
_here = _Path(__file__).resolve().parent
if not (_here / "envs" / "__init__.py").is_file() and (_here.parent / "envs" / "__init__.py").is_file():
    __path__.append(str(_here.parent))

# First, so that processes forked from here on know that they are.
_import_module("dus_gym.ambient")
_import_module("dus_gym.envs.registration").register_ids()

__version__ = "0.1.0"

_PUBLIC = {
    "train": "dus_gym.experiments.run",
    "compare": "dus_gym.experiments.compare",
    "ceiling": "dus_gym.experiments.ceiling",
    "probe": "dus_gym.experiments.probe",
    "Result": "dus_gym.experiments.results",
    "Comparison": "dus_gym.experiments.comparison",
    "ProbeResult": "dus_gym.experiments.probe",
    "RunSpec": "dus_gym.experiments.spec",
    "Agent": "dus_gym.agents.base",
    "DUS": "dus_gym.agents.plugin",
    "DUSEnv": "dus_gym.envs.dus_env",
    "Trainer": "dus_gym.trainer",
    "Reinforce": "dus_gym.agents.reinforce",
    "make_agent": "dus_gym.agents",
    "recommended_agent": "dus_gym.agents",
    "load_agent": "dus_gym.agents.policy_files",
    "push_to_hub": "dus_gym.experiments.policy_hub",
    "load_from_hub": "dus_gym.experiments.policy_hub",
    "as_agent": "dus_gym.agents.adapters",
    "make_sb3": "dus_gym.agents.sb3",
    "make_method": "dus_gym.methods",
    "register_agent": "dus_gym.agents",
    "register_reward": "dus_gym.rewards",
    "register_task": "dus_gym.envs.register_task",
    "run_episode": "dus_gym.agents.loop",
    "run_episodes": "dus_gym.agents.loop",
    "true_class_probability": "dus_gym.discrepancy",
    "DusError": "dus_gym.errors",
    "AgentError": "dus_gym.errors",
    "ConfigError": "dus_gym.errors",
    "CheckpointError": "dus_gym.errors",
    "DatasetNotFoundError": "dus_gym.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> _Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dus_gym' has no attribute {name!r}")
    return getattr(_import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
