"""``register_task``: PyTorch data sets and tensors as a registered id."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from command import dus
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import dus_gym
from dus_gym.data.registry import REGISTERED, get_task
from dus_gym.encoders import ENCODERS
from dus_gym.seeding import RunSeeds

MODULE = """
import torch
import dus_gym

def tensors(n):
    labels = torch.arange(n) % 2
    return {"left": torch.randn(n, 3) + labels[:, None], "right": torch.randn(n, 3), "labels": labels}

torch.manual_seed(0)
dus_gym.register_task("FromModule", train=tensors(40), test=tensors(20), modalities=["left", "right"],
                      num_classes=2, batch=8)
"""


@pytest.fixture(autouse=True)
def _forget():
    """Leaves the tables as they were."""
    tasks, encoders, ids = dict(REGISTERED), dict(ENCODERS), dict(gym.registry)
    yield
    for table, before in ((REGISTERED, tasks), (ENCODERS, encoders), (gym.registry, ids)):
        table.clear()
        table.update(before)


def tensors(n=40, classes=2, seed=0):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    return {
        "left": torch.randn(n, 3, generator=rng) + labels[:, None],
        "right": torch.randn(n, 1, 6, 6, generator=rng) + labels[:, None, None, None],
        "labels": labels,
    }


class Items(Dataset):
    """The tensors as items of one of the three forms; counts what is read."""

    def __init__(self, form, **how):
        self.form, self.data, self.read = form, tensors(**how), 0

    def __len__(self):
        return len(self.data["labels"])

    def __getitem__(self, i):
        self.read += 1
        left, right, label = (self.data[name][i] for name in ("left", "right", "labels"))
        if self.form == "dict":
            return {"left": left.numpy(), "right": right, "label": int(label)}
        return (left, right, label) if self.form == "tuple" else ({"right": right, "left": left}, label)


def register(train=None, test=None, name="Mine", **options):
    options = {"modalities": ["left", "right"], "num_classes": 2, "batch": 8} | options
    return dus_gym.register_task(
        name, train=tensors() if train is None else train, test=tensors(20, seed=1) if test is None else test, **options
    )


def data_of(name="Mine", seed=0, **options):
    return get_task(name).configured(options).data(RunSeeds(seed), None)


def run(env_id, **settings):
    env = gym.make(f"dus_gym:{env_id}", epochs=2, **settings)
    env.reset(seed=3)
    ended = False
    while not ended:
        _, _, ended, _, info = env.step([0.3, 0.7])
    return info, env.unwrapped.evaluate()


@pytest.mark.parametrize("form", ["dict", "tuple", "pair"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_every_form_of_item_trains_as_the_tensors_do(form, in_memory):
    expected = run(register())
    found = run(register(Items(form), Items(form, n=20, seed=1), in_memory=in_memory))
    assert found == expected


def test_a_tensor_dataset_will_do():
    data = tensors()
    register(TensorDataset(data["left"], data["right"], data["labels"]))
    assert torch.equal(data_of(validation="none").train.inputs[1], data["right"])


def test_items_are_read_once_in_memory_and_when_needed_otherwise():
    items = Items("dict")
    register(items, in_memory=True)
    data_of()
    before = items.read
    data_of(seed=1)
    assert items.read == before + 1, "the first item, for its shape"
    lazy = Items("dict")
    lazy.targets = lazy.data["labels"]
    register(lazy, in_memory=False)
    data = data_of()
    assert lazy.read <= 2
    data.train.fetch(1, torch.tensor([0, 3]))
    assert lazy.read <= 4


def test_the_validation_split_is_the_registered_one_or_a_tenth_of_every_class():
    register()
    data = data_of()
    assert torch.bincount(data.validation.labels).tolist() == [2, 2]
    assert len(data.train.labels) == 36
    assert not torch.equal(data.validation.inputs[0], data_of(seed=1).validation.inputs[0])
    assert data_of(validation="none").validation is None
    register(validation=tensors(10, seed=2))
    assert torch.equal(data_of().validation.inputs[0], tensors(10, seed=2)["left"])
    assert len(data_of().train.labels) == 40


def test_encoders_are_words_functions_or_chosen_by_shape():
    register()
    assert get_task("Mine").encoders == ("mlp", "cnn")

    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5))

    register(encoders={"left": "mlp:hidden=4", "right": network})
    assert get_task("Mine").encoders == ("mlp:hidden=4", "Mine.right")
    env = gym.make("dus_gym:DUS-Mine-v0")
    env.reset(seed=0)
    model = env.unwrapped.run.model
    assert model.widths == [4, 5]
    assert model.encoders[1].training
    assert int(model.encoders[1][2].num_batches_tracked) == 0, "finding its width left it as it was"


def test_every_run_starts_from_the_weights_of_its_seed():
    env_id = register(encoders={"left": lambda: nn.Linear(3, 5)})
    assert run(env_id) == run(env_id)


def test_registering_again_replaces_and_the_package_s_own_names_are_refused():
    register()
    register(num_classes=3)
    assert get_task("Mine").num_classes == 3
    with pytest.raises(dus_gym.ConfigError, match="'Digits' is a task of the package"):
        register(name="Digits")


def test_the_fake_trainer_and_the_list_of_ids_know_it(tmp_path):
    env_id = register(summary="a task of mine")
    assert run(env_id, trainer="fake")[0]["epoch"] == 2
    assert "a task of mine" in dus("envs", cwd=tmp_path, check=0).stdout


def test_the_command_line_imports_a_module_of_the_user_s(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tasks_of_a_test.py").write_text(MODULE, encoding="utf-8")
    words = ("DUS-FromModule-v0", "--epochs", 2, "--agent", "score", "--quiet", "--json")
    done = dus("train", "--import", "tasks_of_a_test", *words, cwd=tmp_path, check=0)
    assert json.loads(done.stdout)["data_kind"] == "own"
    assert "no module 'not_there'" in dus("train", "--import=not_there", *words, cwd=tmp_path, check=2).stderr
    assert "needs the name" in dus("train", "--import", cwd=tmp_path, check=2).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "My-Task"}, "letters and digits"),
        ({"modalities": ["left"]}, "one modality 'left'"),
        ({"modalities": ["left", "left"]}, "repeats"),
        ({"modalities": ["left", "middle"]}, "train lacks middle.*left, right, labels"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"batch": 0}, "batch=0"),
        ({"lr": -1.0}, "lr=-1"),
        ({"optimizer": "sdg"}, "optimizer='sdg'"),
        ({"encoders": {"lefd": "mlp"}}, "lefd"),
        ({"encoders": {"left": "mpl"}}, "'mpl'"),
        ({"encoders": {"left": nn.Linear(3, 4)}}, "'left'.*makes a new module"),
        ({"encoders": {"left": "bert"}}, "'left' is of type torch.float32.*token ids"),
        ({"train": [1, 2, 3]}, "item 0 of train is a int.*left, right and label"),
        ({"train": 7}, "train=int"),
        ({"train": Items("dict", n=0)}, "train is empty"),
        ({"train": [{"left": torch.zeros(3), "label": 1}]}, "item 0 of train has no 'right'"),
        ({"train": [{"left": torch.zeros(3), "right": torch.zeros(3)}]}, "called 'label'"),
        ({"train": [(torch.zeros(3), torch.zeros(1, 6, 6), "cat")]}, "item 0 of train is 'cat'"),
        ({"train": [(torch.zeros(3), torch.zeros(1, 6, 6), 1.7)]}, "item 0 of train is 1.7"),
        ({"train": [(torch.zeros(3), torch.zeros(1, 6, 6), torch.nan)]}, "item 0 of train is nan"),
        ({"train": tensors() | {"left": tensors()["left"].to_sparse()}}, r"'left' of train is sparse.*to_dense"),
        (dict.fromkeys(("train", "test"), tensors() | {"left": torch.zeros(40, 9, 8, 3)}), r"\(9, 8, 3\).*HWC.*as CHW"),
        (
            dict.fromkeys(("train", "test"), tensors() | {"left": torch.zeros(40, 5, 3, 9, 8)}),
            "look like TCHW.*as CTHW",
        ),
        ({"test": tensors(20) | {"left": torch.zeros(20, 4)}}, r"'left'.*\(3,\).*\(4,\).* in test"),
        ({"train": tensors() | {"left": torch.zeros(39, 3)}}, "'left' of train.*40 labels"),
        ({"train": tensors() | {"labels": torch.zeros(40)}}, "labels of train.*whole numbers"),
        (dict.fromkeys(("train", "test"), tensors() | {"left": tensors()["left"].long()}), "'left'.*int64.*floats"),
    ],
)
def test_every_mistake_is_named_when_it_is_registered(options, message):
    with pytest.raises(dus_gym.ConfigError, match=message):
        register(**options)
    assert "Mine" not in REGISTERED


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (tensors(classes=3), "label 2 of train.*num_classes=2"),
        (tensors() | {"left": torch.full((40, 3), torch.nan)}, "'left' of train holds NaN"),
        ([(torch.zeros(3 + i), torch.zeros(1, 6, 6), 0) for i in range(2)], r"'left' of train.*\(3,\), \(4,\)"),
    ],
)
def test_what_only_reading_shows_is_named_at_reset(train, message):
    env = gym.make(f"dus_gym:{register(train)}")
    with pytest.raises(dus_gym.ConfigError, match=message):
        env.reset(seed=0)


class Fractions(TensorDataset):
    targets = (0, 1, 0.5, 1)


def test_targets_that_are_no_classes_are_named_at_reset():
    data = Fractions(torch.zeros(4, 3), torch.zeros(4, 1, 6, 6), torch.zeros(4, dtype=torch.long))
    env = gym.make(f"dus_gym:{register(data, in_memory=False)}")
    with pytest.raises(dus_gym.ConfigError, match=r"item 2 of train is 0\.5"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    "change",
    [
        torch.Tensor.double,
        torch.Tensor.half,
        torch.Tensor.bfloat16,
        lambda x: x.requires_grad_(),
        lambda x: x * torch.ones(1, requires_grad=True),
        lambda x: x.expand(40, 3)[::1],
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_floats_of_any_width_and_history_train(change, whole):
    data = tensors()
    data["left"] = change(data["left"])
    info, _ = run(register(data if whole else TensorDataset(data["left"], data["right"], data["labels"])))
    assert np.isfinite(info["loss"])
    assert data_of().train.inputs[0].dtype == torch.float32


def test_tensors_made_in_inference_mode_train():
    with torch.inference_mode():
        data = tensors()
    assert run(register(data)) == run(register())


def test_a_network_that_is_named_takes_any_shape():
    data = tensors() | {"left": torch.zeros(40, 9, 8, 3)}
    register(data, data, encoders={"left": "mlp"})
    assert data_of().input_shapes[0] == (9, 8, 3)


def test_a_network_of_another_form_is_named_at_reset():
    for make, message in ((lambda: nn.Flatten(0), r"'Mine.left' returned \(3,\)"), (lambda: 3, "returned a int")):
        env = gym.make(f"dus_gym:{register(encoders={'left': make})}")
        with pytest.raises(dus_gym.ConfigError, match=message):
            env.reset(seed=0)
