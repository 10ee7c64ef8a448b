"""The probe of a finished run: its numbers against oracles and by hand, and what it refuses."""

import dataclasses
import itertools
import json
import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score
from sklearn.preprocessing import StandardScaler
from torch import nn

import dus_gym
from dus_gym.data.dataset import TensorSplit
from dus_gym.data.registry import get_task
from dus_gym.data.splits import stratified
from dus_gym.errors import CheckpointError, ConfigError, RunFolderError
from dus_gym.experiments import probe as module
from dus_gym.experiments.linear_probe import HELD_OUT, STRENGTHS, fit_logistic, linear_probe
from dus_gym.experiments.probe_result import Predicted, ProbeResult, kept_probe, shapley_values
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import MODEL, PROBE, read_run
from dus_gym.methods import METHODS
from dus_gym.state import load_state, save_state

DIGITS, DIGITS3 = "DUS-Digits-v0", "DUS-Digits3-v0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of Digits, and its probe."""
    path = tmp_path_factory.mktemp("probe") / "run"
    result = dus_gym.train(DIGITS, "holdout", seed=3, epochs=15, out=path)
    return path, result, dus_gym.probe(path)


def restored(path):
    """The trainer of a run with the weights that were evaluated."""
    spec = RunSpec.of(read_run(path)[0])
    env = spec.make_env(spec.make_agent(len(spec.task().modalities)))
    env.reset(seed=spec.seed)
    trainer = env.unwrapped.run
    trainer.load_weights(load_state(path / MODEL, "model"))
    return trainer


# -- the linear probe ------------------------------------------------------------------------------


def blobs(n, d=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = rng.normal(size=(n, d)) * [1.0, 3.0, 0.1, 1.0, 0.0] + 0.8 * labels[:, None]
    features[:, 4] = 7.0
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_logistic_regression_is_scikit_learns(strength):
    features, labels = blobs(90)
    found = fit_logistic((features, labels), 3, strength)
    scaled = StandardScaler().fit_transform(features.double().numpy())
    oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(scaled, labels.numpy())
    assert found.converged
    np.testing.assert_allclose(found.weight, oracle.coef_, atol=1e-3)
    np.testing.assert_allclose(found.bias - found.bias.mean(), oracle.intercept_ - oracle.intercept_.mean(), atol=1e-3)
    warm = fit_logistic((features, labels), 3, strength, fit_logistic((features, labels), 3, 0.3))
    np.testing.assert_allclose(warm.weight, found.weight, atol=1e-3)


def test_weights_are_where_the_penalty_and_the_loss_balance():
    """Of ½‖W‖² + C Σ CE the gradient is W - C Σ (onehot - p) xᵀ, and Σ (onehot - p) for the bias."""
    features, labels = blobs(60)
    found = fit_logistic((features, labels), 3, 0.5)
    x = (features.double() - found.mean) / found.scale
    missing = nn.functional.one_hot(labels, 3) - (x @ found.weight.T + found.bias).softmax(1)
    assert torch.allclose(found.weight, 0.5 * missing.T @ x, atol=0.5 * 60 * 1e-4)
    assert torch.allclose(missing.sum(0), torch.zeros(3, dtype=torch.float64), atol=60 * 1e-4)
    assert found.weight[:, 4].abs().max() == 0.0, "a feature that never changes says nothing"


def test_strength_is_chosen_on_validation_and_the_test_split_chooses_nothing():
    train, validation, test = blobs(60, seed=1), blobs(45, seed=2), blobs(45, seed=3)
    rng = np.random.default_rng(0)
    found = linear_probe(train, validation, test, 3, rng)
    accuracies = [fit_logistic(train, 3, strength).accuracy(validation) for strength in STRENGTHS]
    assert found.chosen_at == max(accuracies)
    assert found.strength == STRENGTHS[accuracies.index(max(accuracies))], "of equals the smallest"
    assert found.accuracy == fit_logistic(train, 3, found.strength).accuracy(test)
    wrong = linear_probe(train, validation, (test[0], (test[1] + 1) % 3), 3, rng)
    assert (wrong.strength, wrong.chosen_at) == (found.strength, found.chosen_at)
    assert wrong.accuracy < found.accuracy


def test_without_a_validation_split_a_fifth_of_every_class_chooses_and_all_is_trained_on():
    train, test = blobs(60, seed=1), blobs(45, seed=3)
    found = linear_probe(train, None, test, 3, np.random.default_rng(5))
    rows = stratified(train[1].tolist(), HELD_OUT, np.random.default_rng(5))
    assert np.bincount(train[1][rows]).tolist() == [4, 4, 4]
    rest = np.setdiff1d(np.arange(60), rows)
    kept, held = ((train[0][of], train[1][of]) for of in (rest, rows))
    accuracies = [fit_logistic(kept, 3, strength).accuracy(held) for strength in STRENGTHS]
    assert found.chosen_at == max(accuracies)
    assert found.accuracy == fit_logistic(train, 3, found.strength).accuracy(test)


def test_probe_of_digits_agrees_with_scikit_learn_within_a_point(made):
    path, _, found = made
    trainer = restored(path)
    features = {name: trainer.evaluator.features(of) for name, of in trainer.splits.items()}
    labels = {name: of.labels.numpy() for name, of in trainer.splits.items()}
    for j, name in enumerate(trainer.modalities):
        scaler = StandardScaler().fit(features["train"][j].numpy())
        x = {split: scaler.transform(of[j].numpy()) for split, of in features.items()}
        fits = [LogisticRegression(C=c, max_iter=5000).fit(x["train"], labels["train"]) for c in STRENGTHS]
        best = max(fits, key=lambda fit: fit.score(x["validation"], labels["validation"]))
        assert found.modalities[name].linear.converged
        assert found.modalities[name].linear.strength == best.C
        assert abs(found.modalities[name].linear.accuracy - best.score(x["test"], labels["test"])) < 0.01


# -- contributions ---------------------------------------------------------------------------------


def test_shapley_values_by_hand():
    # Of two: ½ (5 - 1) + ½ (9 - 3) and ½ (3 - 1) + ½ (9 - 5).
    assert shapley_values([1, 5, 3, 9], 2) == [5, 3]
    # Of three, the glove game: the first has a left glove, the others a right one each; a pair is worth 6.
    assert shapley_values([0, 0, 0, 6, 0, 6, 0, 6], 3) == [4, 1, 1]
    # Only the sum of all three counts, and 1 can't be shared by three in floating point.
    assert shapley_values([0, 0, 0, 0, 0, 0, 0, 1], 3) == [Fraction(1, 3)] * 3
    assert shapley_values([2, 7], 1) == [5]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4).flatmap(lambda m: st.lists(st.integers(0, 797), min_size=2**m, max_size=2**m)))
def test_shapley_values_are_the_mean_gain_over_all_orders_and_sum_exactly(values):
    m = len(values).bit_length() - 1
    orders = [*itertools.permutations(range(m))]
    gains = [Fraction() for _ in range(m)]
    for order in orders:
        members = 0
        for j in order:
            gains[j] += Fraction(values[members | 1 << j] - values[members], len(orders))
            members |= 1 << j
    assert shapley_values(values, m) == gains
    assert sum(gains) == values[-1] - values[0]


def test_an_absent_modality_is_an_input_of_zeros(made):
    path, _, found = made
    trainer = restored(path)
    test = trainer.splits["test"]
    for subset in found.contributions.subsets:
        inputs = tuple(
            x if name in subset.present else torch.zeros_like(x)
            for name, x in zip(trainer.modalities, test.inputs, strict=True)
        )
        predicted = trainer.evaluator.predict(TensorSplit(inputs, test.labels)).fused["method"].argmax(1)
        assert subset.right == int((predicted == test.labels).sum())
    assert [subset.present for subset in found.contributions.subsets] == [
        (), ("pixels",), ("columns",), ("pixels", "columns"),
    ]  # fmt: skip


# -- every method ----------------------------------------------------------------------------------


def check_against_summary(found, result):
    """What the summary has comes out again, the contributions sum exactly, and the tables are of one piece."""
    assert found.warnings == ()
    assert found.fused.accuracy == result.accuracy
    assert {name: row.head.accuracy for name, row in found.modalities.items()} == {
        name: row.accuracy for name, row in result.modalities.items()
    }
    contributions = found.contributions
    none, whole = contributions.subsets[0], contributions.subsets[-1]
    assert whole.present == tuple(found.modalities)
    assert Fraction(whole.right, contributions.samples) == Fraction(
        sum(row[k] for k, row in enumerate(found.fused.confusion)), contributions.samples
    )
    exact = contributions.exact()
    assert sum(exact.values()) == Fraction(whole.right - none.right, contributions.samples)
    assert {name: float(value) for name, value in exact.items()} == {
        name: row.shapley for name, row in found.modalities.items()
    }
    per_class = [sum(row) for row in found.fused.confusion]
    assert sum(per_class) == contributions.samples
    assert all([sum(row) for row in of.head.confusion] == per_class for of in found.modalities.values())
    assert found.cost.step_milliseconds > 0.0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_probed(method, tmp_path):
    env = DIGITS3 if method in ("mla", "di_mml", "reconboost") else DIGITS
    result = dus_gym.train(env, "uniform", method=method, epochs=4, out=tmp_path / "run")
    check_against_summary(dus_gym.probe(tmp_path / "run"), result)


@pytest.mark.parametrize(
    "chosen",
    [
        {"agent": "uniform", "select": "validation", "epochs": 12, "lr_scale": (30.0, 30.0)},
        {"agent": "uniform", "method": "di_mml", "select": "validation", "epochs": 4},
        {"agent": "uniform", "predict_with": "sum-all", "epochs": 2},
        {"agent": "uniform", "pairing": "independent", "epochs": 2},
        {"agent": "uniform", "lever": "rates", "epochs": 2},
        {"agent": "reinforce", "total_batch": 96, "epochs": 2},
        {"agent": "lr-matched", "epochs": 2},
        {"agent": lambda observation, info: [0.3, 0.7], "epochs": 2},
    ],
    ids=lambda chosen: "-".join(map(str, chosen)),
)
def test_a_run_is_rebuilt_with_its_settings_whoever_steered_it(chosen, tmp_path):
    agent = chosen["agent"]
    rest = {name: value for name, value in chosen.items() if name != "agent"}
    result = dus_gym.train(DIGITS, agent, seed=1, out=tmp_path / "run", **rest)
    check_against_summary(dus_gym.probe(tmp_path / "run"), result)


def test_weights_are_those_of_the_epoch_that_was_selected(tmp_path):
    """Rates this large make accuracy jump, so that the last epoch is not the best on validation."""
    chosen = {"seed": 1, "epochs": 12, "lr_scale": (30.0, 30.0)}
    dus_gym.train(DIGITS, "uniform", **chosen, out=tmp_path / "last")
    dus_gym.train(DIGITS, "uniform", **chosen, select="validation", out=tmp_path / "best")
    last, best = (load_state(tmp_path / name / MODEL, "model")["model"] for name in ("last", "best"))
    assert any(not torch.equal(last[name], best[name]) for name in last)


def test_a_diverged_run_is_refused(tmp_path):
    result = dus_gym.train(DIGITS, "uniform", epochs=2, lr_scale=(1e30, 1e30), out=tmp_path / "run")
    assert result.diverged
    with pytest.raises(
        RunFolderError, match=r"encoder pixels gives features that are not finite .*--lr-scale"
    ) as error:
        dus_gym.probe(tmp_path / "run")
    assert "\n" not in str(error.value)


# -- classes ---------------------------------------------------------------------------------------


def test_confusion_and_accuracy_of_each_class_are_scikit_learns(made):
    path, _, found = made
    trainer = restored(path)
    predictions = trainer.evaluator.predict(trainer.splits["test"])
    labels = predictions.labels.numpy()
    heads = [row.head for row in found.modalities.values()]
    for logits, head in zip([predictions.fused["method"], *predictions.unimodal], [found.fused, *heads], strict=True):
        predicted = logits.argmax(1).numpy()
        assert np.array_equal(head.confusion, confusion_matrix(labels, predicted))
        np.testing.assert_allclose(head.per_class, recall_score(labels, predicted, average=None))
        assert head.accuracy == accuracy_score(labels, predicted)


def test_confusion_by_hand():
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [9, 0, 0], [math.nan] * 3, [0, 9, 0]])
    found = Predicted.of(logits, torch.tensor([0, 0, 0, 1, 1]))
    assert found.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 0))
    assert found.per_class == (2 / 3, 1 / 2, None), "no sample of the last class, and NaN predicts the first"
    assert found.accuracy == 3 / 5


# -- cost ------------------------------------------------------------------------------------------


def test_parameters_and_operations_by_hand(made):
    """Two layers of 64 on 64 pixels and on 8 column sums; a head of 10 classes for each, and one for both."""
    _, _, found = made
    cost = found.cost
    assert cost.parameters == {
        "encoder/pixels": (64 * 64 + 64) * 2,
        "encoder/columns": (8 * 64 + 64) + (64 * 64 + 64),
        "head/pixels": 650,
        "head/columns": 650,
        "fused": 128 * 10 + 10,
    }
    assert cost.trainable == sum(cost.parameters.values())
    assert cost.flops == {
        "encoder/pixels": 2 * 64 * 64 * 2,
        "encoder/columns": 2 * 8 * 64 + 2 * 64 * 64,
        "heads": 2 * (64 * 10 * 2) + 2 * 128 * 10,
    }
    assert (cost.batch, cost.phase, cost.device, cost.threads, cost.steps_timed) == (64, "train", "cpu", 1, 20)


def test_operations_of_attention_are_counted():
    """One layer, width 8, two heads of 4, five tokens: projections to 24 and 8, two products a head, two layers."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    with module._counted() as counter:
        layer(torch.randn(1, 5, 8))
    projections, attention, feedforward = 2 * 5 * 8 * (24 + 8), 2 * (2 * 5 * 5 * 4) * 2, 2 * 5 * 8 * 16 * 2
    assert counter.get_total_flops() == projections + attention + feedforward
    assert torch.backends.mha.get_fastpath_enabled()


# -- networks trained alone ------------------------------------------------------------------------


def test_networks_trained_alone_are_those_of_method_unimodal(made, tmp_path):
    path, _, plain = made
    shutil.copytree(path, tmp_path / "run")
    found = dus_gym.probe(tmp_path / "run", alone=True)
    alone = dus_gym.train(DIGITS, "uniform", method="unimodal", seed=3, epochs=15)
    assert {name: row.alone for name, row in found.modalities.items()} == {
        name: row.accuracy for name, row in alone.modalities.items()
    }
    assert {row.alone for row in plain.modalities.values()} == {None}
    assert found.fused == plain.fused
    # What one learns does not depend on the other.
    other = dus_gym.train(DIGITS, "uniform", method="unimodal", seed=3, epochs=15, lr_scale=(1.0, 0.1))
    assert other.modalities["pixels"].accuracy == alone.modalities["pixels"].accuracy
    assert other.modalities["columns"].accuracy != alone.modalities["columns"].accuracy


def test_settings_that_only_a_fused_head_has_do_not_keep_networks_from_training_alone(tmp_path):
    dus_gym.train(DIGITS, "holdout", epochs=2, predict_with="concat", lever="rates", out=tmp_path / "run")
    found = dus_gym.probe(tmp_path / "run", alone=True)
    alone = dus_gym.train(DIGITS, "uniform", method="unimodal", epochs=2)
    assert [row.alone for row in found.modalities.values()] == [row.accuracy for row in alone.modalities.values()]


# -- data without a validation split, and with names of its classes ----------------------------------


def test_a_task_without_a_validation_split_says_who_chose(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    arrays = {"left": rng.normal(size=(80, 3)) + labels[:, None], "right": rng.normal(size=(80, 2)), "labels": labels}
    np.savez(tmp_path / "mine.npz", **arrays, split=np.array(["train"] * 60 + ["test"] * 20))
    result = dus_gym.train(
        "DUS-Own-v0", "uniform", data_root=tmp_path / "mine.npz", task_options={"validation": "none"}, epochs=2,
        out=tmp_path / "run",
    )  # fmt: skip
    found = dus_gym.probe(tmp_path / "run")
    check_against_summary(found, result)
    assert found.chosen_on == "20 % of train: no validation split"
    assert found.classes == ("0", "1")


def test_classes_have_the_data_sets_names_or_else_numbers():
    assert module._class_names(get_task("CREMAD").configured()) == (
        "neutral",
        "happy",
        "sad",
        "fear",
        "disgust",
        "anger",
    )
    assert module._class_names(get_task("Digits").configured()) == tuple("0123456789")


def test_many_classes_show_their_most_frequent_confusions():
    rows = [[0] * 20 for _ in range(20)]
    rows[3][4], rows[3][3], rows[7][1] = 6, 2, 1
    head = Predicted(0.2, (None,) * 20, tuple(map(tuple, rows)))
    table = ProbeResult._confusion(_Names(), "all", head)
    assert table.rows == [["c3", "c4", "6", "75.0"], ["c7", "c1", "1", "100.0"]]


class _Names:
    classes = tuple(f"c{k}" for k in range(20))


# -- what it leaves alone, and what it refuses -------------------------------------------------------


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_nothing_is_written_but_the_result(made, tmp_path):
    path, _, found = made
    before = contents(path)
    again = dus_gym.probe(path, out=tmp_path / "mine.json")
    assert contents(path) == before
    written = json.loads((tmp_path / "mine.json").read_text())
    assert written == json.loads(json.dumps(again.to_json()))
    assert json.loads(before.pop(PROBE)) == json.loads(json.dumps(found.to_json()))
    shutil.copytree(path, tmp_path / "run")
    dus_gym.probe(tmp_path / "run")
    assert {name: data for name, data in contents(tmp_path / "run").items() if name != PROBE} == before

    def lasting(of):
        return {name: value for name, value in of.items() if name != "cost"}

    assert lasting(again.to_json()) == lasting(found.to_json()), "but for the time, it finds the same twice"
    with pytest.raises(RunFolderError, match=r"config\.json is there already; give another file"):
        dus_gym.probe(path, out=path / "config.json")


def test_a_result_gives_the_probe_that_is_kept_beside_it_or_makes_it(made, tmp_path, monkeypatch):
    path, result, found = made
    assert result.probe() == found
    shutil.copytree(path, tmp_path / "moved")
    _, moved = read_run(tmp_path / "moved")
    assert moved.probe() == dataclasses.replace(found, run=str(tmp_path / "moved"))
    (tmp_path / "moved" / PROBE).unlink()
    again = moved.probe()
    assert again.contributions == found.contributions
    assert kept_probe(tmp_path / "moved") == again
    # What was trained for it once is not trained again, and stays when the rest is computed anew.
    first = moved.probe(alone=True)
    assert None not in [row.alone for row in first.modalities.values()]
    monkeypatch.setattr(module, "_train_alone", lambda *_: pytest.fail("trained again"))
    assert moved.probe(alone=True) == moved.probe() == first
    assert {name: row.alone for name, row in dus_gym.probe(moved.folder).modalities.items()} == {
        name: row.alone for name, row in first.modalities.items()
    }
    with pytest.raises(RunFolderError, match="this run is not kept, so it can't be probed; train it with out=FOLDER"):
        dataclasses.replace(result, folder=None).probe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.clear(), "title is missing|run is missing"),
        (lambda found: found["fused"]["confusion"].pop(), "fused does not fit"),
        (lambda found: found["modalities"]["pixels"]["head"]["per_class"].append(0.5), "pixels.head does not fit"),
        (lambda found: found["contributions"]["subsets"].reverse(), "contributions.subsets does not fit"),
        (lambda found: found["cost"]["flops"].pop("heads"), "cost.flops does not fit"),
        (lambda found: found["modalities"].pop("pixels"), "contributions does not fit"),
        (lambda found: found["fused"].update(accuracy="high"), "fused.accuracy is 'high', not a number"),
        (None, "damaged"),
    ],
)
def test_a_kept_probe_that_is_damaged_is_named_with_the_way_out(change, message, made, tmp_path):
    path, result, _ = made
    shutil.copytree(path, tmp_path / "run")
    file = tmp_path / "run" / PROBE
    written = json.loads(file.read_text())
    if change is not None:
        change(written)
    file.write_text("{" if change is None else json.dumps(written))
    for read in (dataclasses.replace(result, folder=file.parent).probe, lambda: dus_gym.probe(file.parent)):
        with pytest.raises(RunFolderError, match=message) as error:
            read()
        assert str(error.value).endswith(f"Delete it, and dus probe {file.parent} makes it again.")
        assert "\n" not in str(error.value)


def test_weights_or_data_that_are_not_the_runs_are_said(made, tmp_path):
    path, _, _ = made
    shutil.copytree(path, tmp_path / "run")
    state = load_state(path / MODEL, "model")
    name = next(name for name in state["model"] if name.startswith("unimodal_heads.0"))
    state["model"][name] = -state["model"][name]
    save_state(tmp_path / "run" / MODEL, "model", state)
    warnings = dus_gym.probe(tmp_path / "run").warnings
    assert any("for pixels, and the weights give" in text for text in warnings)


def other_network(path):
    state = load_state(path / MODEL, "model")
    state["model"]["encoders.0.layers.1.weight"] = torch.zeros(3, 3)
    save_state(path / MODEL, "model", state)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda run: (run / MODEL).unlink(), RunFolderError, r"has no model\.safetensors.* dus train DUS-Digits-v0 "
                                                            r"--agent holdout --epochs 15 --seed 3 --out FOLDER"),
        (lambda run: (run / "summary.json").unlink(), RunFolderError, "is not finished; go on with --resume"),
        (lambda run: (run / "config.json").unlink(), RunFolderError, "holds no run; give a folder"),
        (lambda run: (run / MODEL).write_bytes(b"x" * 99), CheckpointError, "damaged or not a model"),
        (other_network, CheckpointError, "of something else"),
    ],
)  # fmt: skip
def test_what_can_not_be_probed_is_one_line_that_names_the_fix(change, kind, message, made, tmp_path):
    shutil.copytree(made[0], tmp_path / "run")
    change(tmp_path / "run")
    with pytest.raises(kind, match=message) as error:
        dus_gym.probe(tmp_path / "run")
    assert "\n" not in str(error.value)


def test_a_run_of_the_fake_trainer_and_a_device_that_is_not_there_are_refused(made, tmp_path):
    dus_gym.train(DIGITS, "uniform", trainer="fake", epochs=2, out=tmp_path / "fake")
    with pytest.raises(RunFolderError, match="fake trainer, which has no network to probe; train it with --trainer"):
        dus_gym.probe(tmp_path / "fake")
    with pytest.raises(ConfigError, match="device='cuda:99' is not available here"):
        dus_gym.probe(made[0], device="cuda:99")


def test_more_modalities_than_sets_can_be_predicted_from_are_refused(tmp_path):
    labels = np.arange(24) % 2
    arrays = {f"m{j}": np.random.default_rng(j).normal(size=(24, 2)) for j in range(13)}
    np.savez(tmp_path / "many.npz", **arrays, labels=labels, split=np.array(["train"] * 16 + ["test"] * 8))
    dus_gym.train(
        "DUS-Own-v0", "uniform", data_root=tmp_path / "many.npz", task_options={"validation": "none"}, epochs=1,
        total_batch=52, out=tmp_path / "run",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"has 13 modalities, .* up to 12 are allowed"):
        dus_gym.probe(tmp_path / "run")
