"""Real runs that train as one computation: each is the single environment's run, and what they refuse."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from torch import nn

import dus_gym
from dus_gym.encoders.mlp import MLP
from dus_gym.envs.vector_env import DUSVectorEnv
from dus_gym.errors import ConfigError, DusError, TooManyRunsError

DIGITS = "dus_gym:DUS-Digits-v0"


def together(num_envs=4, env_id=DIGITS, **settings):
    return gym.make_vec(env_id, num_envs=num_envs, **({"epochs": 4} | settings))


def apart(num_envs=4, env_id=DIGITS, **settings):
    return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="sync", **({"epochs": 4} | settings))


def check_alike(mine, theirs):
    """Counters and sizes are equal, other figures within what rounding in another order adds up to in a few epochs."""
    assert mine.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert (mine[key].dtype, mine[key].shape) == (expected.dtype, expected.shape), key
        if key.startswith(("train_accuracy", "val_accuracy", "val_fused", "train_fused")):
            # A sample on the border may fall on its other side.
            np.testing.assert_allclose(mine[key], expected, atol=0.02, err_msg=key)
        elif expected.dtype.kind == "f":
            np.testing.assert_allclose(mine[key], expected, rtol=2e-3, atol=2e-5, err_msg=key)
        else:
            np.testing.assert_array_equal(mine[key], expected, err_msg=key)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"interval": 4, "cumulative": "ema", "loss_norm": "fixed"},
        {"method": "mla", "reward": "learning-progress", "eval_every": 2},
        {"method": "ogm_ge", "reward": "validation-gain", "action_mode": "fractions"},
        {"env_id": "dus_gym:DUS-Digits3-v0", "method": "pmr", "select": "validation", "min_fraction": 0.25},
        {"method": "mses", "reward": "gap-change", "reward_state": "after", "cumulative": "none"},
    ],
    ids=str,
)
def test_whole_episodes_and_what_follows_them_are_the_single_environments(settings):
    mine, theirs = together(**settings), apart(**settings)
    assert type(mine.unwrapped) is DUSVectorEnv
    assert mine.observation_space == theirs.observation_space
    assert mine.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    rng, m = np.random.default_rng(0), mine.single_action_space.shape[0]
    (observed, infos), (expected, expected_infos) = mine.reset(seed=5), theirs.reset(seed=5)
    ends = 0
    for step in range(mine.unwrapped.horizon + 2):
        np.testing.assert_allclose(observed, expected, atol=1e-4)
        check_alike(infos, expected_infos)
        actions = np.ones((4, m)) if settings.get("method") == "ogm_ge" else rng.random((4, m)) + 0.05
        observed, rewards, terminated, truncated, infos = mine.step(actions)
        expected, expected_rewards, expected_terminated, expected_truncated, expected_infos = theirs.step(actions)
        assert observed.dtype == expected.dtype == np.float32
        np.testing.assert_allclose(rewards, expected_rewards, rtol=2e-3, atol=0.02)
        np.testing.assert_array_equal(terminated, expected_terminated)
        np.testing.assert_array_equal(truncated, expected_truncated)
        if terminated.all():
            ends += 1
            assert step == mine.unwrapped.horizon - 1
            for found, env in zip(mine.unwrapped.evaluate(), theirs.envs, strict=True):
                evaluation = env.unwrapped.evaluate()
                for name, scores in evaluation.fused.items():
                    assert (found.fused[name] is None) == (scores is None)
                    if scores is not None:
                        assert found.fused[name].accuracy == pytest.approx(scores.accuracy, abs=0.015)
    assert ends == 1


def test_the_first_twenty_losses_are_those_of_one_run():
    """The tolerance that is promised between one run and several."""
    mine, theirs = together(8, interval=1), apart(8, interval=1)
    mine.reset(seed=0)
    theirs.reset(seed=0)
    for step in range(20):
        actions = np.random.default_rng(step).random((8, 2)) + 0.05
        infos, expected = mine.step(actions)[-1], theirs.step(actions)[-1]
        np.testing.assert_allclose(infos["loss"], expected["loss"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["DUS-Digits-v0", "DUS-DigitsControl-v0"])
def test_over_64_seeds_the_mean_accuracy_is_that_of_the_runs_alone(env_id):
    """The other tolerance: 0.3 points of every predictor."""
    envs = gym.make_vec(f"dus_gym:{env_id}", num_envs=64)
    envs.reset(seed=0)
    ended = np.zeros(64, bool)
    while not ended.all():
        *_, ended, _, _ = envs.step(np.full((64, 2), 0.5))
    env = gym.make(f"dus_gym:{env_id}")
    alone = []
    for seed in range(64):
        env.reset(seed=seed)
        over = False
        while not over:
            *_, over, _, _ = env.step(np.full(2, 0.5))
        alone.append(env.unwrapped.evaluate())
    for predictor in ("method", "concat", "sum", "entropy"):
        mine, theirs = (np.mean([e.fused[predictor].accuracy for e in of]) for of in (envs.unwrapped.evaluate(), alone))
        print(f"{env_id} {predictor}: {100 * mine:.2f} together, {100 * theirs:.2f} alone")
        assert mine == pytest.approx(theirs, abs=0.003)


def test_the_same_seeds_and_number_give_the_same_bits():
    answers = []
    for _ in range(2):
        envs = together(3)
        envs.reset(seed=[4, 0, 9])
        for step in range(4):
            actions = np.random.default_rng(step).random((3, 2))
            observations, rewards, *_, infos = envs.step(actions)
        answers.append((observations, rewards, infos["loss"], [e.fused["sum"].map for e in envs.unwrapped.evaluate()]))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_copy_is_the_single_environment_to_the_bit():
    envs, env = together(1), gym.make(DIGITS, epochs=4)
    observed, _ = envs.reset(seed=3)
    expected, _ = env.reset(seed=3)
    while True:
        np.testing.assert_array_equal(observed[0], expected)
        observed, rewards, terminated, _, infos = envs.step([[0.3, 0.7]])
        expected, reward, ended, _, info = env.step([0.3, 0.7])
        assert infos["loss"][0] == info["loss"]
        assert rewards[0] == pytest.approx(reward, abs=1e-12)
        if ended:
            break
    assert terminated[0]
    assert envs.unwrapped.evaluate() == [env.unwrapped.evaluate()]


def spoil(envs, copy):
    """Make one copy's next loss infinite."""
    model = envs.unwrapped._groups[0].group.runs.model
    with torch.no_grad():
        model.fused_head.bias[copy] = torch.inf


def test_a_run_that_diverges_ends_starts_anew_and_leaves_the_others_alone():
    mine, undisturbed = together(3), together(3)
    mine.reset(seed=0)
    undisturbed.reset(seed=0)
    actions = np.full((3, 2), 0.5)
    for envs in (mine, undisturbed):
        envs.step(actions)
    spoil(mine, 1)
    for step in range(2, 5):
        observed, rewards, terminated, _, infos = mine.step(actions)
        expected, expected_rewards, expected_terminated, _, expected_infos = undisturbed.step(actions)
        for copy in (0, 2):
            np.testing.assert_array_equal(observed[copy], expected[copy])
            assert rewards[copy] == expected_rewards[copy]
            assert terminated[copy] == expected_terminated[copy] == (step == 4)
            assert {k: v[copy] for k, v in infos.items()} == {k: v[copy] for k, v in expected_infos.items()}
        if step == 2:
            assert terminated.tolist() == [False, True, False]
            assert infos["diverged"].tolist() == [False, True, False]
            assert np.isfinite(observed).all()
            assert np.isfinite(infos["loss"]).all()
            ended = mine.unwrapped.evaluate()
            assert [evaluation is None for evaluation in ended] == [True, False, True]
        elif step == 3:
            assert rewards[1] == 0.0
            assert infos["iterations"].tolist() == [18, 0, 18], "a new run begins where the old one ended"
        else:
            assert infos["iterations"].tolist() == [24, 6, 24]
    # Now the others' runs are over and the new one goes on.
    observed, rewards, terminated, _, infos = mine.step(actions)
    assert infos["iterations"].tolist() == [0, 12, 0]
    assert rewards[0] == rewards[2] == 0.0
    for _ in range(2):
        *_, terminated, _, infos = mine.step(actions)
    assert terminated.tolist() == [False, True, False]
    assert infos["iterations"].tolist() == [12, 24, 12]


def test_under_same_step_autoreset_a_diverged_run_starts_anew_at_once():
    envs = together(3, autoreset_mode="SameStep")
    envs.reset(seed=0)
    actions = np.full((3, 2), 0.5)
    envs.step(actions)
    spoil(envs, 1)
    observed, _, terminated, _, infos = envs.step(actions)
    assert terminated.tolist() == infos["_final_obs"].tolist() == [False, True, False]
    assert infos["final_info"]["iterations"][1] == 12
    assert infos["final_info"]["diverged"][1]
    assert infos["iterations"].tolist() == [12, 0, 12]
    assert not np.array_equal(observed[1], infos["final_obs"][1])
    envs.step(actions)
    *_, terminated, _, infos = envs.step(actions)
    assert terminated.tolist() == [True, False, True]
    assert infos["iterations"].tolist() == [0, 12, 0]
    with pytest.raises(ConfigError, match="autoreset_mode='SameStep' is not allowed for evaluate"):
        envs.unwrapped.evaluate()


def test_what_a_copy_that_begins_anew_is_told_is_not_read():
    envs = together(2, epochs=3)
    envs.reset(seed=0)
    envs.step(np.full((2, 2), 0.5))
    spoil(envs, 0)
    envs.step(np.full((2, 2), 0.5))
    *_, infos = envs.step([[np.nan, -1.0], [0.5, 0.5]])
    assert infos["iterations"].tolist() == [0, 18]


@pytest.mark.parametrize("bad", [np.full((2, 3), 0.5), np.full(2, 0.5), 0.5, [[0.5, 0.5]], [[0.5, 0.5], [0.5]]])
def test_actions_of_another_shape_are_refused_also_while_a_copy_begins_anew(bad):
    envs = together(2, epochs=3)
    envs.reset(seed=0)
    with pytest.raises(DusError, match="before the end of any run"):
        envs.unwrapped.evaluate()
    spoil(envs, 0)
    envs.step(np.full((2, 2), 0.5))
    with pytest.raises(ConfigError, match=r"must be \(2, 2\)|must be 2 rows of 2 numbers"):
        envs.step(bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1])
def test_a_bad_action_is_refused_with_the_index_of_its_copy(bad):
    envs = together(3)
    envs.reset(seed=0)
    actions = np.full((3, 2), 0.5)
    actions[2, 0] = bad
    with pytest.raises(ConfigError, match=r"of copy 2 is not allowed; every entry must be finite and not negative"):
        envs.step(actions)
    with pytest.raises(ConfigError, match=r"shape \(2,\); it must be \(3, 2\)"):
        envs.step(np.ones(2))
    *_, infos = envs.step(np.full((3, 2), 0.5))
    assert infos["iterations"].tolist() == [6, 6, 6], "a refused step trains nothing"


def test_unequal_sizes_under_a_method_of_complete_samples_name_their_copy():
    envs = together(3, method="joint")
    envs.reset(seed=0)
    with pytest.raises(ConfigError, match=r"action of copy 1 gives unequal sizes \[26, 102\]"):
        envs.step([[0.5, 0.5], [0.2, 0.8], [0.5, 0.5]])


def test_before_the_first_reset_there_is_nothing():
    envs = together(2)
    with pytest.raises(ResetNeeded):
        envs.step(np.full((2, 2), 0.5))
    with pytest.raises(ResetNeeded):
        _ = envs.unwrapped.horizon
    for bad in (0, 2.5, "3", True):
        with pytest.raises(ConfigError, match="num_envs="):
            together(bad)
    for bad in (1.5, "ab", [0]):
        with pytest.raises(ConfigError, match="seed="):
            envs.reset(seed=bad)
    envs.reset(seed=np.array([3, 4]))
    pickle.loads(pickle.dumps(envs.unwrapped)).step(np.full((2, 2), 0.5))


def registered(name, encoder=None, sizes=(60, 60)):
    """An id of small made data; a list of sizes gives the training split of the first, the second, … run."""
    rng = np.random.default_rng(0)

    def split(n):
        return {
            "one": torch.tensor(rng.standard_normal((n, 6)), dtype=torch.float32),
            "two": torch.tensor(rng.standard_normal((n, 4)), dtype=torch.float32),
            "labels": torch.tensor(rng.integers(0, 3, n)),
        }

    encoders = {} if encoder is None else {"one": encoder}
    return dus_gym.register_task(
        name,
        train=split(sizes[0]),
        validation=split(20),
        test=split(20),
        modalities=("one", "two"),
        num_classes=3,
        encoders=encoders,
        batch=8,
        epochs=2,
    )


class WithNorm(nn.Sequential):
    """Linear and BatchNorm."""

    out_features = 5

    def __init__(self):
        super().__init__(nn.Linear(6, 5), nn.BatchNorm1d(5))


class WithDropout(nn.Sequential):
    """Linear and dropout."""

    out_features = 5

    def __init__(self, p=0.5):
        super().__init__(nn.Linear(6, 5), nn.Dropout(p))


class Attention(nn.Module):
    """A network of somebody's own: a transformer layer without dropout over six tokens of one number."""

    out_features = 8

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0, batch_first=True)

    def forward(self, inputs):
        return self.layer(self.embed(inputs.unsqueeze(-1))).mean(dim=1)


class Halved(MLP):
    """An MLP with a forward of its own."""

    def __init__(self):
        super().__init__((6,), hidden=5)

    def forward(self, inputs):
        return super().forward(inputs) * 0.0


class Tied(nn.Module):
    """Two layers with one weight."""

    out_features = 6

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight

    def forward(self, inputs):
        return self.two(self.one(inputs))


class Noisy(nn.Linear):
    """Draws in its forward pass."""

    out_features = 5

    def __init__(self):
        super().__init__(6, 5)

    def forward(self, inputs):
        return super().forward(inputs) + torch.randn(len(inputs), 5)


class Branching(nn.Linear):
    """Looks at a value."""

    out_features = 5

    def __init__(self):
        super().__init__(6, 5)

    def forward(self, inputs):
        return super().forward(inputs) if inputs.mean() > 0 else super().forward(-inputs)


def test_a_forward_of_somebodys_own_is_not_passed_over():
    env_id = f"dus_gym:{registered('MappedHalved', Halved)}"
    mine, theirs = together(2, env_id), apart(2, env_id)
    mine.reset(seed=0)
    theirs.reset(seed=0)
    infos, expected = mine.step(np.full((2, 2), 0.5))[-1], theirs.step(np.full((2, 2), 0.5))[-1]
    np.testing.assert_allclose(infos["loss"], expected["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        (Tied, "one parameter in two places"),
        (Noisy, "can't be mapped over runs"),
        (Branching, "can't be mapped"),
        (WithNorm, "BatchNorm1d: statistics of a batch are of one run's own samples"),
        (WithDropout, "drops out at random"),
    ],
)
def test_a_network_that_cannot_be_mapped_is_refused_with_what_to_use(encoder, why):
    env_id = f"dus_gym:{registered(f'Refused{encoder.__name__}', encoder)}"
    with pytest.raises(ConfigError, match=rf'{why}.*vectorization_mode="sync"'):
        gym.make_vec(env_id, num_envs=2).reset(seed=0)
    gym.make_vec(env_id, num_envs=1).reset(seed=0)
    gym.make_vec(env_id, num_envs=2, vectorization_mode="sync").reset(seed=0)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    ("name", "encoder"),
    [("Attention", Attention), ("Dropout0", lambda: WithDropout(0.0)), ("Perceptron", "mlp:hidden=7")],
)
def test_networks_of_somebodys_own_are_mapped(name, encoder):
    env_id = f"dus_gym:{registered(f'Mapped{name}', encoder)}"
    mine, theirs = together(3, env_id, epochs=2), apart(3, env_id, epochs=2)
    mine.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(2):
        infos, expected = mine.step(np.full((3, 2), 0.5))[-1], theirs.step(np.full((3, 2), 0.5))[-1]
        np.testing.assert_allclose(infos["loss"], expected["loss"], rtol=1e-4)


def test_a_method_written_for_one_run_is_refused(monkeypatch):
    from dus_gym.methods.baseline import Baseline

    monkeypatch.setattr(Baseline, "maps_runs", False)
    with pytest.raises(ConfigError, match=r"method='baseline' is written for one run.*vectorization_mode=\"sync\""):
        together(2).reset(seed=0)
    together(1).reset(seed=0)


def test_runs_of_different_shapes_are_refused(monkeypatch):
    from dus_gym.data.dataset import TaskData, TensorSplit
    from dus_gym.data.task import Task

    whole = Task.data

    def shorter(self, seeds, root):
        data = whole(self, seeds, root)
        n = len(data.train.labels) - seeds.seed % 7
        train = TensorSplit(tuple(x[:n] for x in data.train.inputs), data.train.labels[:n])
        return TaskData(train, data.validation, data.test, data.input_shapes)

    monkeypatch.setattr(Task, "data", shorter)
    with pytest.raises(ConfigError, match=r"run 0 has a split of \d+ samples and run 1 one of \d+"):
        together(2).reset(seed=0)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_words_and_pictures_are_mapped():
    """The bag of words and the convolutions, which the small real tasks use."""
    rng = np.random.default_rng(1)

    def split(n):
        return {
            "words": torch.tensor(rng.integers(0, 30, (n, 5))),
            "picture": torch.tensor(rng.standard_normal((n, 1, 9, 8)), dtype=torch.float32),
            "clip": torch.tensor(rng.standard_normal((n, 3, 4, 8, 8)), dtype=torch.float32),
            "labels": torch.tensor(rng.integers(0, 3, n)),
        }

    env_id = dus_gym.register_task(
        "MappedEncoders",
        train=split(40),
        validation=split(12),
        test=split(12),
        modalities=("words", "picture", "clip"),
        num_classes=3,
        encoders={"words": "bag:vocab=30", "picture": "cnn:channels=4,6", "clip": "cnn:pool=mean"},
        batch=8,
        epochs=2,
    )
    mine, theirs = together(3, f"dus_gym:{env_id}", epochs=2), apart(3, f"dus_gym:{env_id}", epochs=2)
    mine.reset(seed=0)
    theirs.reset(seed=0)
    for step in range(2):
        actions = np.random.default_rng(step).random((3, 3)) + 0.05
        infos, expected = mine.step(actions)[-1], theirs.step(actions)[-1]
        np.testing.assert_allclose(infos["loss"], expected["loss"], rtol=1e-4)
        np.testing.assert_array_equal(infos["size/words"], expected["size/words"])


def test_more_runs_than_memory_has_room_for_are_refused_with_the_figures(monkeypatch):
    from dus_gym.envs import vector_env

    monkeypatch.setattr(vector_env, "available_memory", lambda device: 5 * 2**20)
    with pytest.raises(
        TooManyRunsError, match=r"1000 runs as one computation need about [\d,]+ MiB .* 3 would fit"
    ) as e:
        together(1000).reset(seed=0)
    assert e.value.fits == 3
    together(3).reset(seed=0)
    # Where the system does not tell, nothing is refused.
    monkeypatch.setattr(vector_env, "available_memory", lambda device: None)
    together(4).reset(seed=0)
