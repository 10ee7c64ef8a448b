"""The five digit tasks against their specification to the letter, and (slow) the figures known of them."""

from functools import lru_cache

import gymnasium as gym
import numpy as np
import pytest
import torch

import dus_gym  # noqa: F401 - registers the ids
from dus_gym.agents import make_agent
from dus_gym.agents.loop import run_episode
from dus_gym.data.registry import get_task, task_names
from dus_gym.data.sets.embedded import digits
from dus_gym.encoders.mlp import MLP
from dus_gym.errors import ConfigError
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe

WRITERS, RANDOM = (400, 100, 797), (1020, 180, 597)
SPEC = {
    "Digits": (("pixels", 1.0), ("columns", 0.0)),
    "Digits3": (("pixels", 1.5), ("rows", 0.0), ("columns", 0.0)),
    "DigitsControl": (("left", 0.0), ("right", 1.0)),
    "DigitsRowsCols": (("rows", 0.0), ("columns", 0.0)),
    "DigitsHalves": (("left", 0.0), ("right", 0.0)),
}
SIZES = {name: WRITERS if name in ("Digits", "Digits3") else RANDOM for name in SPEC}
EPOCHS = {"Digits": 100, "Digits3": 100, "DigitsControl": 30, "DigitsRowsCols": 33, "DigitsHalves": 33}
WIDTHS = {"pixels": 64, "rows": 8, "columns": 8, "left": 32, "right": 32}
every_task = pytest.mark.parametrize("task", SPEC)


def clean(view):
    """A view of all 1797 images, from scikit-learn's own array."""
    from sklearn.datasets import load_digits

    images = load_digits().images / 16.0
    found = {
        "pixels": images,
        "rows": images.sum(2),
        "columns": images.sum(1),
        "left": images[:, :, :4],
        "right": images[:, :, 4:],
    }[view]
    return found.reshape(1797, -1)


@lru_cache
def data_of(task, seed=0):
    return get_task(task).data(RunSeeds(seed), None)


def splits(task, seed=0):
    data = data_of(task, seed)
    return data.train, data.validation, data.test


@every_task
def test_the_settings_are_those_of_the_specification(task):
    found = get_task(task)
    assert found.modalities == tuple(view for view, _ in SPEC[task])
    assert found.num_classes == 10
    assert found.epochs == EPOCHS[task]
    assert found.batch == 64
    recipe = Recipe.of(found)
    assert recipe.modalities == found.modalities
    assert (recipe.num_classes, recipe.epochs, recipe.batch) == (10, EPOCHS[task], 64)
    assert recipe.encoders == ("mlp",) * len(found.modalities)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.03, 0.9, 1e-4)
    assert (optimizer.schedule, optimizer.milestone) == ("step", 0.7)
    assert found.train_size == SIZES[task][0]


@every_task
def test_the_learning_rate_falls_after_seven_tenths_of_the_epochs(task):
    from dus_gym.optim import Schedule

    epochs = EPOCHS[task]
    schedule = Schedule(Recipe.of(get_task(task)).optimizer, epochs)
    factors = []
    for epoch in range(epochs):
        schedule.start_epoch(epoch)
        factors.append(schedule.factor)
        schedule.end_epoch(1.0)
    full = {100: 70, 30: 21, 33: 24}[epochs]
    assert factors == pytest.approx([1.0] * full + [0.1] * (epochs - full))


@every_task
def test_the_splits_have_their_sizes_and_shapes(task):
    data = data_of(task)
    parts = splits(task)
    assert tuple(len(part.labels) for part in parts) == SIZES[task]
    widths = [(WIDTHS[view],) for view, _ in SPEC[task]]
    assert [tuple(shape) for shape in data.input_shapes] == widths
    for part, n in zip(parts, SIZES[task], strict=True):
        assert [tuple(x.shape) for x in part.inputs] == [(n, *width) for width in widths]
        assert all(x.dtype == torch.float32 for x in part.inputs)
        assert part.labels.dtype == torch.int64
        assert set(part.labels.tolist()) == set(range(10))
    assert data.data_kind == "real"


def images_of(task, j):
    """For every sample of the three splits, the images of its class that modality j, a view without noise, shows.

    For the random splits only: all 1797 images are in one of the three, so the mean and the deviation of the
    whole view undo the standardising.
    """
    reference, labels = clean(SPEC[task][j][0]), digits()[1]
    everything = np.concatenate([part.inputs[j].double().numpy() for part in splits(task)])
    scale = reference.std() / everything.std()
    back = scale * (everything - everything.mean()) + reference.mean()
    classes = np.concatenate([part.labels.numpy() for part in splits(task)])
    by_class = {y: np.flatnonzero(labels == y) for y in range(10)}
    return [
        {int(i) for i in by_class[y] if np.abs(row - reference[i]).max() < 0.02}
        for row, y in zip(back, classes, strict=True)
    ]


@pytest.mark.parametrize("task", ["DigitsControl", "DigitsRowsCols", "DigitsHalves"])
def test_random_splits_share_no_image_and_leave_none_out(task):
    noiseless = [j for j, (_, noise) in enumerate(SPEC[task]) if not noise]
    # Every modality of a sample is its own view of one and the same image.
    candidates = [set.intersection(*found) for found in zip(*(images_of(task, j) for j in noiseless), strict=True)]
    assert all(candidates)
    assert set.union(*candidates) == set(range(1797))
    # An image with no twin in these views is in exactly one place.
    lonely = [next(iter(found)) for found in candidates if len(found) == 1]
    assert len(lonely) == len(set(lonely)) > 1700
    # Drawn over all images, not cut in order.
    for start, size in zip(np.cumsum((0, *RANDOM[:2])), RANDOM, strict=True):
        assert 0.2 < np.mean([min(found) < 600 for found in candidates[start : start + size]]) < 0.5


@pytest.mark.parametrize("task", ["Digits", "Digits3"])
def test_writers_are_split_at_image_1000(task):
    parts = splits(task)
    j = next(j for j, (view, _) in enumerate(SPEC[task]) if view == "columns")
    reference, labels = clean("columns"), digits()[1]
    # The test split is the last 797 images in order; every view without noise is an exact line of theirs.
    for k, (view, noise) in enumerate(SPEC[task]):
        if not noise:
            x, original = parts[2].inputs[k].double().numpy(), clean(view)[1000:]
            slope, offset = np.polyfit(x.ravel(), original.ravel(), 1)
            np.testing.assert_allclose(offset + slope * x, original, atol=1e-5)
    test = parts[2].inputs[j].double().numpy()
    assert torch.equal(parts[2].labels, torch.from_numpy(labels[1000:]))
    b, a = np.polyfit(test.ravel(), reference[1000:].ravel(), 1)
    np.testing.assert_allclose(a + b * test, reference[1000:], atol=1e-5)
    used = []
    for part in parts[:2]:
        back = a + b * part.inputs[j].double().numpy()
        distance = np.abs(back[:, None, :] - reference[None, :1000]).max(axis=2)
        nearest = distance.argmin(axis=1)
        assert distance.min(axis=1).max() < 1e-5
        assert np.array_equal(labels[nearest], part.labels.numpy())
        used += nearest.tolist()
    assert len(used) == len(set(used)) == 500
    # Drawn from all of the first thousand, not its beginning.
    assert max(used) > 950


@every_task
def test_standardising_takes_one_mean_and_one_deviation_over_the_training_values(task):
    train, _, test = splits(task)
    for j, (_, noise) in enumerate(SPEC[task]):
        x = train.inputs[j].double()
        assert x.mean().item() == pytest.approx(0.0, abs=1e-5)
        assert x.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
        # One a feature would make all of these 0 and 1.
        assert x.mean(0).abs().max() > 0.2
        assert x.std(0).max() / x.std(0).min() > 1.1
        # The other splits only borrow the training numbers.
        assert test.inputs[j].double().mean().abs() > 1e-4
        if not noise:
            values = x.numpy()
            grid = np.unique(np.round(values, 5))
            steps = np.diff(grid)
            # A clean view takes multiples of 1/16 and no other value: one deviation, no noise.
            np.testing.assert_allclose(steps / steps.min(), np.round(steps / steps.min()), atol=0.05)


@pytest.mark.parametrize(("task", "view"), [("Digits", "pixels"), ("Digits3", "pixels"), ("DigitsControl", "right")])
def test_noise_is_a_factor_of_the_deviation_of_the_whole_view(task, view):
    factors = dict(SPEC[task])
    j = list(factors).index(view)
    reference = clean(view)
    sigma = factors[view] * reference.std()
    if task == "DigitsControl":
        # The clean half finds the images, as far as it has no twin.
        noisy = np.concatenate([part.inputs[j].double().numpy() for part in splits(task)])
        pairs = [
            (row, next(iter(found)))
            for row, found in zip(noisy, images_of(task, 1 - j), strict=True)
            if len(found) == 1
        ]
        x, clean_rows = np.stack([row for row, _ in pairs]), reference[[i for _, i in pairs]]
    else:
        x, clean_rows = splits(task)[2].inputs[j].double().numpy(), reference[1000:]
    # x = (clean + noise - mean) / deviation: the slope on the clean values is 1 / deviation.
    slope, offset = np.polyfit(clean_rows.ravel(), x.ravel(), 1)
    residual = x - slope * clean_rows - offset
    assert residual.std() / slope == pytest.approx(sigma, rel=0.03)
    # Added before standardising: the deviation is that of the noisy view, not of the clean one.
    assert 1.0 / slope == pytest.approx(np.hypot(reference.std(), sigma), rel=0.05)
    # Gaussian, as strong on every feature, and on all splits alike.
    assert np.mean(np.abs(residual) < residual.std()) == pytest.approx(0.683, abs=0.02)
    assert residual.std(axis=0).max() / residual.std(axis=0).min() < 1.25


@every_task
def test_equal_seeds_give_equal_data_and_other_seeds_do_not(task):
    first = data_of(task)
    again = get_task(task).data(RunSeeds(0), None)
    other = data_of(task, 1)
    for name in ("train", "validation", "test"):
        one, same, different = getattr(first, name), getattr(again, name), getattr(other, name)
        assert torch.equal(one.labels, same.labels)
        assert all(torch.equal(a, b) for a, b in zip(one.inputs, same.inputs, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(one.inputs, different.inputs, strict=True))
        fixed = name == "test" and task in ("Digits", "Digits3")
        assert torch.equal(one.labels, different.labels) == fixed


@pytest.mark.parametrize("task", ["Digits", "Digits3"])
def test_another_seed_is_another_noise_on_the_same_test_images(task):
    one, other = (splits(task, seed)[2] for seed in (0, 1))
    reference = clean("pixels")[1000:].ravel()
    residuals = []
    for part in (one, other):
        x = part.inputs[0].double().numpy().ravel()
        slope, offset = np.polyfit(reference, x, 1)
        residuals.append(x - slope * reference - offset)
    assert abs(np.corrcoef(*residuals)[0, 1]) < 0.02


def test_the_data_do_not_touch_the_global_generators():
    np.random.seed(0)  # noqa: NPY002 - the global generator is what this test watches
    torch.manual_seed(0)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    get_task("Digits").data(RunSeeds(2), None)
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_the_images_are_divided_by_sixteen():
    images, labels = digits()
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert labels.shape == (1797,)
    np.testing.assert_array_equal(images.reshape(1797, -1), clean("pixels"))


@every_task
def test_a_split_delivers_modalities_one_by_one(task):
    train = splits(task)[0]
    rows = torch.tensor([5, 0, 5, 17])
    for j in range(len(SPEC[task])):
        assert torch.equal(train.fetch(j, rows), train.inputs[j][rows])


def test_the_encoders_are_built_for_the_views():
    for task in SPEC:
        for encoder, shape in zip(get_task(task).encoders, data_of(task).input_shapes, strict=True):
            assert encoder == "mlp"
            assert MLP(tuple(shape)).out_features == 64


def test_the_embedded_tasks_are_registered_and_unknown_ones_are_refused():
    assert set(SPEC) <= set(task_names())
    with pytest.raises(ConfigError, match=r"Digit3.*Did you mean 'Digits3'"):
        get_task("Digit3")


# -- the figures known of them -----------------------------------------------------------------------

SEEDS = range(10)


@lru_cache
def runs(env_id, agent="uniform", options=(), settings=()):
    """Ten runs' test accuracies by predictor, and the gap as the summary has it: mean of the epochs' gaps."""
    found = []
    for seed in SEEDS:
        env = gym.make(env_id, **dict(settings))
        maker = make_agent(agent, len(env.unwrapped.modalities), seed, dict(options))
        run_episode(env, maker, seed=seed)
        core = env.unwrapped
        gaps = core.run.progress.gaps
        figures = {name: scores.accuracy for name, scores in core.evaluate().fused.items()}
        found.append(figures | {"gap": sum(gaps) / len(gaps), "epochs": len(gaps)})
        env.close()
    return {name: np.array([figures[name] for figures in found]) for name in found[0]}


@pytest.mark.slow
def test_uniform_on_the_digits_gives_the_known_figures():
    found = runs("DUS-Digits-v0")
    assert set(found["epochs"]) == {100}
    assert found["concat"].mean() == pytest.approx(0.745, abs=0.03)
    assert found["sum"].mean() == pytest.approx(0.78, abs=0.03)
    assert found["gap"].mean() == pytest.approx(0.41, abs=0.05)
    assert len(set(found["concat"])) > 5


@pytest.mark.slow
def test_reinforce_as_printed_is_nearly_inert():
    uniform = runs("DUS-Digits-v0")
    literal = runs("DUS-Digits-v0", "reinforce", (("policy", "literal"),))
    difference = literal["concat"] - uniform["concat"]
    assert abs(difference.mean()) < 0.006
    # Nearly, not quite: it does move samples.
    assert np.any(difference != 0.0)


@pytest.mark.slow
def test_the_heuristic_gains_up_to_a_point_and_a_half():
    uniform = runs("DUS-Digits-v0")
    heuristic = runs("DUS-Digits-v0", "heuristic", (), (("action_mode", "fractions"),))
    gain = (heuristic["concat"] - uniform["concat"]).mean()
    assert 0.003 < gain < 0.015


@pytest.mark.slow
@pytest.mark.parametrize("predictor", ["concat", "sum"])
def test_balancing_loses_where_one_modality_is_simply_better(predictor):
    fixed = (("loss_norm", "fixed"),)
    uniform = runs("DUS-DigitsControl-v0", "uniform", (), fixed)
    score = runs("DUS-DigitsControl-v0", "score", (("rule", "softmax"),), fixed)
    assert score["gap"].mean() < uniform["gap"].mean()
    assert (score[predictor] - uniform[predictor]).mean() < 0.0
