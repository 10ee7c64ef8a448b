"""Predictions and figures of a split, against the same by hand."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dus_gym.evaluation
from dus_gym.data.dataset import TensorSplit
from dus_gym.evaluation import EVALUATION_BATCH, Evaluator, entropy_weighted
from dus_gym.methods import make_method
from dus_gym.metrics import score_all
from dus_gym.model import MultimodalModel, initialised

N, C = 40, 3


class Noisy(nn.Module):
    """An encoder that behaves differently in training: dropout and BatchNorm."""

    def __init__(self, inputs, out_features):
        super().__init__()
        self.out_features = out_features
        self.net = nn.Sequential(nn.Linear(inputs, out_features), nn.BatchNorm1d(out_features), nn.Dropout(0.5))

    def forward(self, x):
        return self.net(x)


class Logits(nn.Module):
    """An encoder whose features are what it is given."""

    def __init__(self, width):
        super().__init__()
        self.out_features = width

    def forward(self, x):
        return x


def split_of(n=N, seed=0, widths=(5, 4)):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (n,), generator=generator)
    inputs = [torch.randn(n, w, generator=generator) + labels.unsqueeze(1) for w in widths]
    return TensorSplit(tuple(inputs), labels)


def evaluator_of(method="baseline", predict_with="method", trains_fused=True, seed=0):
    method = make_method(method)
    model = initialised(lambda: MultimodalModel([Noisy(5, 8), Noisy(4, 6)], C, method.heads), seed)
    return Evaluator(model, method, predict_with, trains_fused, nullcontext)


def handed(*logits, labels):
    """Evaluator and split whose unimodal logits are exactly ``logits``."""
    m = len(logits)
    method = make_method("baseline")
    model = MultimodalModel([Logits(C) for _ in range(m)], C, method.heads)
    with torch.no_grad():
        for head in model.unimodal_heads:
            head.weight.copy_(torch.eye(C))
            head.bias.zero_()
        model.fused_head.weight.copy_(torch.cat([torch.eye(C)] * m, dim=1))  # the concat head sums too
        model.fused_head.bias.zero_()
    split = TensorSplit(tuple(torch.tensor(z) for z in logits), torch.tensor(labels))
    return Evaluator(model, method, "method", True, nullcontext), split


# -- entropy weighting -----------------------------------------------------------------------------


def test_entropy_weighting_by_hand():
    # Entropies .66557 and 1.07716, weights .60147 and .39853 (research/methods.md, section 12).
    unimodal = torch.tensor([[[2.0, 0.0, 0.0]], [[0.5, 0.0, 0.2]]])
    torch.testing.assert_close(entropy_weighted(unimodal), torch.tensor([[1.4022, 0.0, 0.0797]]), atol=5e-5, rtol=0)


def test_equally_sure_modalities_count_the_same():
    unimodal = torch.tensor([[[3.0, 0.0]], [[0.0, 3.0]]])
    torch.testing.assert_close(entropy_weighted(unimodal), torch.tensor([[1.5, 1.5]]))


def test_the_surer_modality_counts_more_by_its_entropy_in_nats():
    # A sure one has entropy 0, a uniform one ln 4: weights 4/5 and 1/5.
    unimodal = torch.tensor([[[500.0, 0.0, 0.0, 0.0]], [[8.0, 8.0, 8.0, 8.0]]])
    torch.testing.assert_close(entropy_weighted(unimodal), torch.tensor([[401.6, 1.6, 1.6, 1.6]]))


def test_a_samples_weights_depend_on_no_other_sample():
    unimodal = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    whole = entropy_weighted(unimodal)
    assert whole.shape == (7, 5)
    for i in range(7):
        torch.testing.assert_close(entropy_weighted(unimodal[:, i : i + 1])[0], whole[i])


# -- predictions -----------------------------------------------------------------------------------


def test_predictions_are_the_models_in_evaluation_mode():
    evaluator, split = evaluator_of(), split_of()
    found = evaluator.predict(split)
    model = evaluator.model.eval()
    with torch.no_grad():
        features = [model.encoders[j](split.inputs[j]) for j in range(2)]
        unimodal = torch.stack([model.unimodal_heads[j](features[j]) for j in range(2)])
        concat = model.fused_head(torch.cat(features, dim=1))
    torch.testing.assert_close(found.unimodal, unimodal)
    assert set(found.fused) == {"method", "concat", "sum", "entropy"}
    torch.testing.assert_close(found.fused["concat"], concat)
    torch.testing.assert_close(found.fused["sum"], unimodal[0] + unimodal[1])
    torch.testing.assert_close(found.fused["entropy"], entropy_weighted(unimodal))
    assert torch.equal(found.fused["method"], found.fused["concat"]), "the baseline's own predictor"
    assert torch.equal(found.labels, split.labels)


@pytest.mark.parametrize("predictor", ["concat", "sum", "entropy"])
def test_another_predictor_can_stand_in_for_the_methods_own(predictor):
    found = evaluator_of(predict_with=predictor).predict(split_of())
    assert torch.equal(found.fused["method"], found.fused[predictor])


def test_a_method_without_a_fused_head_reports_none_and_predicts_without_it():
    found = evaluator_of("mla").predict(split_of())
    assert found.fused["concat"] is None
    torch.testing.assert_close(found.fused["sum"], found.unimodal.sum(0))
    assert found.fused["method"] is not None


def test_a_fused_head_that_does_not_train_is_not_reported():
    evaluator, split = evaluator_of(trains_fused=False), split_of()
    found = evaluator.predict(split)
    assert found.fused["concat"] is None
    assert torch.equal(found.fused["method"], found.fused["sum"]), "the sum takes its place"
    (figures,) = evaluator.figures(split)
    assert figures.fused["concat"] is None
    assert figures.fused["method"] == figures.fused["sum"] is not None
    assert evaluator.evaluate(split, ("a", "b"))[0].fused["concat"] is None


def test_rows_can_be_chosen_in_any_order():
    evaluator, split = evaluator_of(), split_of()
    rows = torch.tensor([7, 3, 3, 39])
    whole, some = evaluator.predict(split), evaluator.predict(split, rows)
    torch.testing.assert_close(some.unimodal, whole.unimodal[:, rows])
    torch.testing.assert_close(some.fused["concat"], whole.fused["concat"][rows])
    assert torch.equal(some.labels, split.labels[rows])


# -- chunks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["baseline", "mla"])
@pytest.mark.parametrize("n", [1, 255, 256, 257, 600])
def test_chunks_change_no_result_and_drop_no_sample(monkeypatch, method, n):
    assert EVALUATION_BATCH == 256
    evaluator, split = evaluator_of(method), split_of(n)
    chunked = evaluator.predict(split)
    monkeypatch.setattr(dus_gym.evaluation, "EVALUATION_BATCH", 10_000)
    whole = evaluator.predict(split)
    assert chunked.unimodal.shape == (2, n, C)
    torch.testing.assert_close(chunked.unimodal, whole.unimodal)
    for name, logits in whole.fused.items():
        if logits is None:
            assert chunked.fused[name] is None
        else:
            torch.testing.assert_close(chunked.fused[name], logits)
    assert torch.equal(chunked.labels, split.labels)


def test_every_sample_is_fetched_once_in_chunks():
    split = split_of(600)
    fetched = []

    class Watched:
        labels = split.labels

        def fetch(self, modality, indices):
            fetched.append((modality, indices.tolist()))
            return split.fetch(modality, indices)

    evaluator_of().predict(Watched())
    for j in range(2):
        mine = [rows for modality, rows in fetched if modality == j]
        assert [len(rows) for rows in mine] == [256, 256, 88]
        assert sorted(row for rows in mine for row in rows) == list(range(600))


# -- the model is left as it was -------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("what", ["predict", "figures", "evaluate"])
def test_the_models_mode_and_buffers_are_left_alone(training, what):
    evaluator, split = evaluator_of(), split_of()
    evaluator.model.train(training)
    before = {name: value.clone() for name, value in evaluator.model.state_dict().items()}
    getattr(evaluator, what)(split, *([("a", "b")] if what == "evaluate" else []))
    assert all(module.training == training for module in evaluator.model.modules())
    for name, value in evaluator.model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} moved: BatchNorm saw the split"
    assert all(p.grad is None for p in evaluator.model.parameters())


def test_the_models_mode_is_put_back_when_a_sample_cannot_be_read():
    evaluator, split = evaluator_of(), split_of()
    evaluator.model.train()

    class Broken:
        labels = split.labels

        def fetch(self, modality, indices):
            raise OSError("no such picture")

    with pytest.raises(OSError, match="no such picture"):
        evaluator.predict(Broken())
    assert all(module.training for module in evaluator.model.modules())


def test_predicting_draws_no_random_number():
    evaluator, split = evaluator_of(), split_of()
    evaluator.model.train()
    before = torch.get_rng_state()
    first, second = evaluator.predict(split), evaluator.predict(split)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.unimodal, second.unimodal)


# -- figures ---------------------------------------------------------------------------------------


def test_figures_by_hand():
    third = float(torch.tensor(2.0).log())  # logits (log 2, 0, 0): probabilities 1/2, 1/4, 1/4
    evaluator, split = handed(
        [[third, 0.0, 0.0], [third, 0.0, 0.0]],
        [[0.0, 0.0, 9.0], [0.0, 9.0, 0.0]],
        labels=[0, 1],
    )
    (figures,) = evaluator.figures(split)
    sure = float(torch.tensor([0.0, 9.0, 0.0]).softmax(0)[1])
    wrong = float(torch.tensor([0.0, 0.0, 9.0]).softmax(0)[0])
    assert figures.scores == pytest.approx([(0.5 + 0.25) / 2, (wrong + sure) / 2])
    assert figures.losses[0] == pytest.approx((0.693147 + 1.386294) / 2, abs=1e-6)
    assert figures.accuracies == [0.5, 0.5]
    # Summed logits (.69, 0, 9) and (.69, 9, 0): the first sample is wrong, the second right.
    assert figures.fused == {"method": 0.5, "concat": 0.5, "sum": 0.5, "entropy": 0.5}


def test_each_figure_has_its_own_place():
    # Right of 4: modality 0 all, modality 1 none; so every predictor and modality differs from the next.
    right = [[4.0, 0.0, 0.0]] * 4
    wrong = [[0.0, 6.0, 0.0], [0.0, 3.0, 0.0], [0.0, 5.0, 0.0], [0.0, 3.9, 0.0]]
    evaluator, split = handed(right, wrong, labels=[0, 0, 0, 0])
    with torch.no_grad():
        evaluator.model.fused_head.weight[:, C:] = 0.0  # concat listens to modality 0 alone
    (figures,) = evaluator.figures(split)
    assert figures.accuracies == [1.0, 0.0]
    assert figures.fused["concat"] == figures.fused["method"] == 1.0
    assert figures.fused["sum"] == 0.5
    assert figures.scores[0] > 0.9 > 0.1 > figures.scores[1]
    assert figures.losses[0] < 0.1 < 3.0 < figures.losses[1]


@pytest.mark.parametrize("rows", [None, torch.tensor([0, 5, 6, 30])])
def test_figures_are_those_of_the_predictions(rows):
    evaluator, split = evaluator_of(), split_of()
    found, (figures,) = evaluator.predict(split, rows), evaluator.figures(split, rows)
    for j in range(2):
        logits = found.unimodal[j]
        probabilities = logits.softmax(1)[torch.arange(len(found.labels)), found.labels]
        assert figures.scores[j] == pytest.approx(probabilities.mean().item(), abs=1e-6)
        assert figures.losses[j] == pytest.approx(F.cross_entropy(logits, found.labels).item(), abs=1e-5)
        assert figures.accuracies[j] == pytest.approx((logits.argmax(1) == found.labels).float().mean().item())
    for name, logits in found.fused.items():
        assert figures.fused[name] == pytest.approx((logits.argmax(1) == found.labels).float().mean().item())


def test_figures_of_a_diverged_model_are_finite():
    evaluator, split = evaluator_of(), split_of()
    with torch.no_grad():
        next(evaluator.model.encoders[0].parameters()).fill_(float("nan"))
    (figures,) = evaluator.figures(split)
    values = figures.scores + figures.losses + figures.accuracies + list(figures.fused.values())
    assert torch.tensor(values + list(figures.fused_losses.values())).isfinite().all()
    assert figures.scores[0] == 0.0
    # No loss is worse, so that nobody who compares losses takes it for the best.
    worst = torch.finfo(torch.float32).max
    assert figures.losses[0] == figures.fused_losses["concat"] == worst
    assert figures.losses[1] < worst


def test_an_evaluation_has_every_modality_and_predictor():
    evaluator, split = evaluator_of(), split_of()
    found, (evaluation,) = evaluator.predict(split), evaluator.evaluate(split, ("audio", "video"))
    assert evaluation.modalities == {
        "audio": score_all(found.unimodal[0], split.labels),
        "video": score_all(found.unimodal[1], split.labels),
    }
    assert evaluation.modalities["audio"] != evaluation.modalities["video"]
    assert evaluation.fused == {name: score_all(logits, split.labels) for name, logits in found.fused.items()}


def test_three_modalities():
    method = make_method("baseline")
    model = initialised(lambda: MultimodalModel([Noisy(5, 8), Noisy(4, 6), Noisy(3, 7)], C, method.heads), 0)
    evaluator = Evaluator(model, method, "method", True, nullcontext)
    split = split_of(300, widths=(5, 4, 3))
    (figures,) = evaluator.figures(split)
    assert len(figures.scores) == len(figures.losses) == len(figures.accuracies) == 3
    found = evaluator.predict(split)
    torch.testing.assert_close(found.fused["sum"], found.unimodal.sum(0))
    assert len(set(figures.scores)) == 3


def test_half_precision_is_for_the_forward_alone():
    evaluator, split = evaluator_of(), split_of()
    plain = evaluator.predict(split)
    evaluator.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    found = evaluator.predict(replace(split, inputs=split.inputs))
    for logits in (found.unimodal, *found.fused.values()):
        assert logits.dtype == torch.float32
    torch.testing.assert_close(found.unimodal, plain.unimodal, atol=0.1, rtol=0.1)
    assert not torch.equal(found.unimodal, plain.unimodal)
