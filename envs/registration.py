"""The table of registered ids. Plain strings: importing it loads no framework but Gymnasium itself."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from dus_gym.data.registry import task_names

FAKE_ID = "DUS-Fake-v0"


def ids() -> dict[str, str]:
    """Registered id to the name of its task."""
    return {FAKE_ID: "Digits"} | {f"DUS-{name}-v0": name for name in task_names()}


def register_ids() -> None:
    """Registers every id once; a second call changes nothing."""
    for env_id, task in ids().items():
        if env_id in registry:
            continue
        fake = env_id == FAKE_ID
        register(
            id=env_id,
            entry_point="dus_gym.envs.dus_env:DUSEnv",
            vector_entry_point="dus_gym.envs.vector_env:DUSVectorEnv",
            kwargs={"task": task} | ({"trainer": "fake"} if fake else {}),
        )
