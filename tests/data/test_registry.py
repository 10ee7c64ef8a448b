"""The registry: one line for each file of ``dus_gym/data/sets/``, and no framework to list what they define."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import pytest

from dus_gym.data import registry, sets
from dus_gym.errors import ConfigError

HEAVY = {"torch", "torchvision", "transformers", "tokenizers", "av", "sklearn", "scipy", "soundfile", "PIL", "cv2"}


@pytest.mark.parametrize("name", registry.SETS)
def test_a_file_defines_the_tasks_that_the_registry_says(name):
    tasks = import_module(f"dus_gym.data.sets.{name.replace('-', '_')}").TASKS
    assert tuple(task.name for task in tasks) == registry.SETS[name]
    assert {task.data_source().dataset for task in tasks} == {"" if name == "embedded" else name}


def test_every_file_of_a_data_set_is_in_the_registry():
    files = {path.stem for path in Path(sets.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in registry.SETS}


def test_every_task_has_one_encoder_a_modality_and_a_source_with_options():
    for name in registry.task_names():
        task = registry.get_task(name)
        assert task.name == name
        assert len(task.encoders) == len(task.modalities) >= 2
        assert task.configured().options == task.options_type()


@pytest.mark.parametrize("name", registry.task_names())
def test_every_task_takes_a_learning_rate(name):
    task = registry.get_task(name)
    assert task.configured().lr == task.lr
    assert task.configured({"lr": 0.125}).lr == 0.125
    for wrong in (0.0, -1.0, float("nan"), "fast"):
        with pytest.raises(ConfigError, match=rf"lr={wrong!r} is not allowed; it must be"):
            task.configured({"lr": wrong})


def test_the_learning_rate_is_the_one_that_the_network_begins_with():
    env = gym.make("DUS-Digits-v0", task_options={"lr": 0.5}).unwrapped
    env.reset(seed=0)
    assert {group["lr"] for group in env.run.optimizer.torch.param_groups} == {0.5}


def test_an_unknown_data_set_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"cremd.*Did you mean 'cremad'"):
        registry.data_set("cremd")


def test_listing_tasks_and_data_sets_imports_no_framework():
    code = (
        "import sys; from dus_gym.data import registry\n"
        "tasks = [registry.get_task(name) for name in registry.task_names()]\n"
        "told = [(known.env, known.published, known.how(), known.volume(), known.has_mock, known.task.options_type())\n"
        "        for known in registry.DATA_SETS.values()]\n"
        f"assert len(tasks) > len(told) > 8\nprint(sorted({HEAVY!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_registering_the_ids_imports_no_data_set():
    code = "import sys, dus_gym; print([name for name in sys.modules if name.startswith('dus_gym.data.sets')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
