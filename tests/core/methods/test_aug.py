"""AUG against numbers worked by hand from its authors' program, and what it promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup, logits_of

from dus_gym.errors import ConfigError
from dus_gym.methods.aug import AUGOptions, boosting_losses


@pytest.mark.parametrize(
    ("weight", "expected"),
    # -ln .8 = .2231436; the newest's ln 2 = .6931472 counts 1 - β .8: all, .6 and .2 of it.
    [(0.0, 0.9162907), (0.5, 0.6390319), (1.0, 0.3617730)],
)
def test_the_boosting_loss_by_hand(weight, expected):
    found = boosting_losses(logits_of([0.8, 0.2]), logits_of([0.5, 0.5]), torch.tensor([0]), weight)
    assert found.item() == pytest.approx(expected)


def setup_with(added, sizes=(4, 4), **options):
    """Return a method whose modalities have been given classifiers."""
    setup = Setup("aug", sizes=sizes, **options)
    setup.method.on_fit_start(setup.ctx)
    for j, count in enumerate(added):
        for _ in range(count):
            setup.method._add(setup.ctx, 0, j)
    return setup


def released_loss(setup, j, added, weight):
    """Return the loss as the authors' program has it, with targets that are one-hot."""
    h, model = setup.model.encode(j, setup.inputs[j]), setup.model
    parts = [model.boosted_head(layer(h).relu()) for layer in model.boosted_layers[j][: added + 1]]
    y = F.one_hot(setup.labels[: len(h)], 6).float()
    loss = F.cross_entropy(sum(parts), y)
    if added:
        earlier = sum(parts[:-1])
        known = y * earlier.detach().softmax(dim=1)
        loss = loss + F.cross_entropy(earlier, y) + F.cross_entropy(parts[-1], y)
        loss = loss - weight * F.cross_entropy(parts[-1], known)
    return loss


@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
@pytest.mark.parametrize(
    ("sizes", "added"), [((4, 4), (0, 0)), ((3, 5), (1, 0)), ((4, 3), (3, 2)), ((5, 3, 4), (0, 2, 1))]
)
def test_losses_are_those_of_the_released_program(sizes, added, loss_norm):
    setup = setup_with(added, sizes, loss_norm=loss_norm, residual_weight=0.3)
    found = list(setup.method.terms(setup.ctx))
    assert len(found) == len(sizes)
    for j, (loss, size) in enumerate(zip(found, sizes, strict=True)):
        expected = released_loss(setup, j, added[j], 0.3) * (1.0 if loss_norm == "mean" else size / 4)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        mine, theirs = (torch.autograd.grad(of, setup.model.encoders[j].parameters()) for of in (loss, expected))
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_modalities_step_in_turn_and_predict_by_the_mean():
    assert len(setup_with((1, 0)).losses()) == 2
    unimodal = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
    assert Setup("aug").method.predict(unimodal, {}).tolist() == [[1.0, 0.5]]


@pytest.mark.parametrize("added", [(0, 0), (2, 1)])
def test_the_model_predicts_with_the_classifiers_that_train(added):
    setup = setup_with(added)
    for j, found in enumerate(
        setup.method.unimodal_logits(setup.model, [x.detach() for x in setup.ctx.train_features()])
    ):
        h = setup.model.encode(j, setup.inputs[j])
        expected = sum(setup.model.boosted_part(j, k, h) for k in range(added[j] + 1))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("scores", "grown"),
    # Below .99 of the other; below .4 of the sum of the two others.
    [
        *(((0.5, 0.4), (0, 1)), ((0.4, 0.5), (1, 0)), ((0.5, 0.497), (0, 0)), ((0.5, 0.494), (0, 1))),
        *(((0.5, 0.5, 0.35), (0, 0, 1)), ((0.5, 0.5, 0.41), (0, 0, 0)), ((0.9, 0.3, 0.2), (0, 1, 1))),
        ((0.5, math.nan), (0, 0)),
    ],
)
def test_who_lags_gets_a_classifier(scores, grown):
    setup = setup_with((), (4,) * len(scores))
    setup.method._scores = [torch.tensor(score) for score in scores]
    setup.ctx.epoch = 20
    setup.method.on_epoch_start(setup.ctx)
    assert setup.method._added == [list(grown)]
    assert [setup.ctx.logged[f"classifiers/{name}"] for name in ("one", "two", "three")[: len(scores)]] == [
        1.0 + of for of in grown
    ]
    # Its hidden layer is drawn with the variance 2 / (8 + 256), its bias is 0.
    for j, of in enumerate(grown):
        layer = setup.model.boosted_layers[j][1]
        assert layer.bias.abs().sum() == 0.0
        assert (layer.weight.abs().sum() > 0.0) == bool(of)
        if of:
            assert layer.weight.std().item() == pytest.approx((2 / 264) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("epoch", "looks"), [(0, False), (1, True), (2, False), (9, False), (10, True), (11, False), (90, True)]
)
def test_it_looks_after_one_epoch_and_every_tenth_of_the_run(epoch, looks):
    setup = setup_with(())
    setup.method._scores = [torch.tensor(0.9), torch.tensor(0.1)]
    setup.ctx.epoch = epoch
    setup.method.on_epoch_start(setup.ctx)
    assert setup.method._added == [[0, int(looks)]]


def test_a_modality_gets_ten_at_most():
    setup = setup_with((10, 0))
    setup.method._scores = [torch.tensor(0.1), torch.tensor(0.9)]
    setup.ctx.epoch = 20
    setup.method.on_epoch_start(setup.ctx)
    assert setup.method._added == [[10, 0]]


def test_added_classifiers_train_and_the_others_rest(toy_run, weights_of):
    run = toy_run(method="aug", method_options={"lag": 1.0}, epochs=4)
    run.train([8, 8], run.iterations_per_epoch)
    before = weights_of(run)
    run.train([8, 8], run.iterations_per_epoch)
    after, (added,) = weights_of(run), run.method._added
    # One modality of two is below the other.
    assert sorted(added) == [0, 1]
    for j, count in enumerate(added):
        for k in range(11):
            name = f"boosted_layers.{j}.{k}.weight"
            assert torch.equal(before[name], after[name]) == (k > count)
    trained = after[f"boosted_layers.{added.index(1)}.1.bias"]
    assert trained.abs().sum() > 0.0


def test_the_model_that_is_chosen_has_the_classifiers_of_its_epoch(toy_run):
    run = toy_run(method="aug", method_options={"lag": 1.0, "period": 0.25}, epochs=4, select="validation")
    active, values = [], []
    for _ in range(4):
        run.train([8, 8], run.iterations_per_epoch)
        active.append(run.model.boosted_active.clone())
        values.append(run.validation.fused["method"])
    assert [int(of.sum()) for of in active] == [0, 1, 2, 3]
    best = values.index(max(values))
    assert torch.equal(run.evaluated_weights()["model"]["boosted_active"], active[best])


@pytest.mark.parametrize(("m", "limit"), [(2, 0.99), (3, 0.4), (5, 0.2)])
def test_the_limit_by_the_number_of_modalities(m, limit):
    assert AUGOptions().lag_of(m) == pytest.approx(limit)
    assert AUGOptions(lag=0.7).lag_of(m) == 0.7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"residual_weight": 1.5}, r"residual_weight=1.5 .*\[0, 1\]"),
        ({"period": 0.0}, r"period=0.0 .*\(0, 1\]"),
        ({"lag": 1.2}, r"lag=1.2 .*\(0, 1\]"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Setup("aug", **options)
