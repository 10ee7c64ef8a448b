"""The one training loop, through small runs on the digits: bits, order, figures against a bare PyTorch loop."""

import copy
import dataclasses
import math
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dus_gym.config import RunConfig
from dus_gym.errors import ConfigError
from dus_gym.methods.base import Method
from dus_gym.methods.baseline import Baseline
from dus_gym.methods.mla import rls_update
from dus_gym.precision import find_precision
from dus_gym.state import load_state, save_state

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Watched(Baseline):
    """The baseline, keeping its batches."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def terms(self, ctx):
        self.batches.append(ctx.batch)
        yield from super().terms(ctx)


class Dropped(Baseline):
    """The baseline with dropout, which can only draw from PyTorch's global generator."""

    def terms(self, ctx):
        for j in range(ctx.num_modalities):
            yield ctx.modality_loss(j, ctx.model.unimodal(j, F.dropout(ctx.features(j), 0.2)))


def without_validation(data):
    return type(data)(data.train, None, data.test, data.input_shapes)


def finish(run, sizes=(64, 64), every=None):
    """Trains to the end, an epoch or ``every`` iterations at a time."""
    while run.progress.iterations < run.epochs * run.iterations_per_epoch:
        run.train(list(sizes), every or run.iterations_per_epoch)
    return run


# -- bits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["baseline", "mla"])
@pytest.mark.parametrize("pairing", ["prefix", "independent"])
def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(digits_run, weights_of, same_bits, method, pairing):
    runs = [digits_run(method=method, pairing=pairing, seed=seed) for seed in (4, 4, 5)]
    assert same_bits(weights_of(runs[0]), weights_of(runs[1]))
    first = [finish(run, (40, 88)) for run in runs]
    same, also, other = (weights_of(run) for run in first)
    assert same_bits(same, also)
    assert runs[0].evaluate() == runs[1].evaluate()
    assert not any(torch.equal(same[name], other[name]) for name in same)


def rows_of(batches):
    return [[x.tolist() for x in batch.inputs] for batch in batches]


def test_equal_sizes_see_the_same_samples_in_the_same_order(digits_run):
    one, other = digits_run(method=Watched()), digits_run(method=Watched(), lr_scale=(0.5, 2.0), loss_norm="fixed")
    finish(one, (32, 96))
    finish(other, (32, 96), every=4)
    assert len(one.method.batches) == 18
    assert rows_of(one.method.batches) == rows_of(other.method.batches)


def test_other_sizes_read_the_same_stream(digits_run):
    # Both draw 96 per iteration: the wider modality sees the same, the narrower a prefix of it.
    one, other = digits_run(method=Watched()), digits_run(method=Watched())
    finish(one, (32, 96))
    finish(other, (96, 16))
    for a, b in zip(one.method.batches, other.method.batches, strict=True):
        assert torch.equal(a.inputs[0], b.inputs[0][:32])
        assert torch.equal(a.inputs[1][:16], b.inputs[1])
        assert torch.equal(a.labels[1], b.labels[0])
        assert (a.paired, b.paired) == (32, 16)


def test_a_permutation_is_used_up_before_the_next_across_epochs(digits_run):
    run = finish(digits_run(method=Watched(), epochs=4), (64, 30))
    drawn = torch.cat([batch.inputs[0] for batch in run.method.batches])
    for start in (0, 400, 800):
        assert len(drawn[start : start + 400].unique(dim=0)) == 400
    assert not torch.equal(drawn[:400], drawn[400:800])


def test_independent_pairing_gives_each_modality_its_own_stream(digits_run):
    prefix, independent = digits_run(method=Watched()), digits_run(method=Watched(), pairing="independent")
    finish(prefix)
    finish(independent)
    assert all(torch.equal(batch.labels[0], batch.labels[1]) for batch in prefix.method.batches)
    assert not any(torch.equal(batch.labels[0], batch.labels[1]) for batch in independent.method.batches)
    assert {batch.paired for batch in independent.method.batches} == {0}
    labels = independent._train_split.labels
    for j in range(2):
        first = torch.cat([batch.labels[j] for batch in independent.method.batches])[:400]
        assert torch.equal(first.sort().values, labels.sort().values)


def test_the_global_generators_are_neither_used_nor_changed(digits_run, weights_of, same_bits):
    def run(between):
        trainer = digits_run(method=Dropped())
        trainer.probe()
        while trainer.progress.iterations < 18:
            trainer.train([40, 88], 4)
            between()
        trainer.evaluate()
        return weights_of(trainer)

    def disturb():
        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002 - the global generator is what this test disturbs
        random.seed(7)

    disturb()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    quiet = run(lambda: None)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert same_bits(quiet, run(disturb))
    torch.rand(3)
    assert same_bits(quiet, run(lambda: torch.rand(5)))


# -- snapshots ---------------------------------------------------------------------------------------

CONTINUED = {
    "baseline": {},
    "dropout": {"method": Dropped},
    "mla": {"method": "mla"},
    "independent": {"pairing": "independent"},
    "adam and plateau": {"optimizer": {"name": "adam", "lr": 0.01, "schedule": "plateau", "patience": 1}},
    "select validation": {"select": "validation", "optimizer": {"lr": 0.3}},
    "select best_test": {"select": "best_test", "eval_every": 2, "optimizer": {"lr": 0.3}},
    "alternating": {"update": "alternating", "loss_norm": "fixed", "lr_scale": (0.5, 2.0)},
}


@pytest.mark.parametrize("done", [0, 6, 10, 20])
@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("which", CONTINUED)
def test_a_snapshot_continues_to_the_bit(digits_run, weights_of, same_bits, tmp_path, which, disk, done):
    def start():
        settings = {"epochs": 5} | CONTINUED[which]
        method = settings.pop("method", "baseline")
        return digits_run(method=method if isinstance(method, str) else method(), **settings)

    run = start()
    if done:
        run.train([40, 88], done)
    state = run.snapshot()
    if disk:
        save_state(tmp_path / "run", "checkpoint", state)
        state = load_state(tmp_path / "run", "checkpoint")
    expected = [run.train(sizes, 5) for sizes in ([20, 100], [64, 64])]
    other = start()
    other.restore(state)
    assert other.progress.iterations == done
    assert [other.train(sizes, 5) for sizes in ([20, 100], [64, 64])] == expected
    assert same_bits(weights_of(run), weights_of(other))
    assert same_bits(run.snapshot(), other.snapshot())
    assert run.validation == other.validation
    assert run.progress == other.progress
    assert run.evaluate() == other.evaluate()


def test_a_checkpoint_is_read_whatever_the_length_of_its_header(tmp_path):
    # The file begins with that length: one in 32 makes the first byte that of a pickle.
    for length in range(0, 1024, 8):
        state = {"text": "x" * length, "tensor": torch.arange(3)}
        save_state(tmp_path / "run", "checkpoint", state)
        found = load_state(tmp_path / "run", "checkpoint")
        assert found["text"] == state["text"]
        assert torch.equal(found["tensor"], state["tensor"])


def test_a_run_can_go_back_to_its_own_snapshot(digits_run, weights_of, same_bits):
    run = digits_run(method=Dropped(), epochs=5)
    run.train([40, 88], 8)
    state = run.snapshot()
    first = run.train([40, 88], 22)
    weights, found = weights_of(run), run.evaluate()
    run.restore(state)
    assert run.train([40, 88], 22) == first
    assert same_bits(weights_of(run), weights)
    assert run.evaluate() == found


@pytest.mark.parametrize("select", ["last", "validation", "best_test"])
def test_a_snapshot_that_was_put_back_does_not_move_with_the_run(digits_run, same_bits, select):
    run = digits_run(method=Dropped(), select=select, **WILD)
    run.train([40, 88], 6)
    state = run.snapshot()
    kept = copy.deepcopy(state)
    for _ in range(2):
        run.restore(state)
        run.train([40, 88], 42)
        assert same_bits(state, kept)


def test_a_checkpoint_of_a_gpu_restores_where_there_is_none(digits_run, weights_of, same_bits):
    run, other = digits_run(method=Dropped()), digits_run(method=Dropped())
    run.train([40, 88], 8)
    state = run.snapshot()
    # What a run on a GPU adds to its snapshot.
    state["torch_rngs"][0] |= {"cuda:7": torch.zeros(16, dtype=torch.uint8)}
    other.restore(state)
    run.train([40, 88], 10)
    other.train([40, 88], 10)
    assert same_bits(weights_of(run), weights_of(other))


# -- intervals and epochs ----------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4, 5, 7, 18, 100])
def test_intervals_need_not_divide_epochs(digits_run, weights_of, same_bits, every):
    straight, cut = finish(digits_run(method=Dropped()), (40, 88)), digits_run(method=Dropped())
    rows, iterations, seen = [], 0, []
    while cut.progress.iterations < 18:
        interval = cut.train([40, 88], every)
        iterations = min(18, iterations + every)
        assert cut.progress.iterations == iterations
        assert cut.progress.epoch == iterations // 6 == len(cut.progress.gaps)
        assert cut.progress.samples == [40 * iterations, 88 * iterations]
        assert interval.sizes == [40, 88]
        # Validation belongs to the ends of epochs, not to those of intervals.
        if not seen or cut.validation is not seen[-1]:
            seen.append(cut.validation)
        assert (cut.validation is None) == (iterations < 6)
        rows += interval.iteration_scores
    assert len(rows) == 18
    assert all(repeats == 1 for _, repeats in rows)
    assert same_bits(weights_of(straight), weights_of(cut))
    assert straight.progress.gaps == pytest.approx(cut.progress.gaps, abs=1e-6)
    assert straight.validation == cut.validation
    assert len([figures for figures in seen if figures is not None]) == min(3, math.ceil(18 / every))


def test_the_figures_of_an_epoch_are_those_of_its_samples(digits_run):
    run = digits_run()
    rows = [run.train([40, 88], 2).iteration_scores for _ in range(3)]
    means = np.mean([scores for block in rows for scores, _ in block], axis=0)
    assert run.progress.scores == pytest.approx(means.tolist(), rel=1e-5)
    assert run.progress.gaps == pytest.approx([abs(means[0] - means[1])], rel=1e-4)


def test_an_interval_across_epochs_has_its_own_figures(digits_run):
    run = digits_run()
    interval = run.train([40, 88], 9)
    means = np.mean([scores for scores, _ in interval.iteration_scores], axis=0)
    assert interval.scores == pytest.approx(means.tolist(), rel=1e-5)
    first = np.mean([scores for scores, _ in interval.iteration_scores[:6]], axis=0)
    assert run.progress.scores == pytest.approx(first.tolist(), rel=1e-5)


def test_validation_comes_every_so_many_epochs_and_at_the_end(digits_run):
    run, each = digits_run(epochs=5, eval_every=2), digits_run(epochs=5)
    found, expected = [], []
    for _ in range(5):
        run.train([64, 64], 6)
        each.train([64, 64], 6)
        found.append(run.validation)
        expected.append(each.validation)
    assert found == [None, expected[1], expected[1], expected[3], expected[4]]
    assert len({str(figures) for figures in expected}) == 5


def test_training_after_the_end_is_refused(digits_run):
    run = finish(digits_run())
    with pytest.raises(ConfigError, match="has ended"):
        run.train([64, 64], 1)
    longer = digits_run()
    interval = longer.train([64, 64], 1000)
    assert len(interval.iteration_scores) == 18
    with pytest.raises(ConfigError, match="has ended"):
        longer.train([64, 64], 1)


def test_batch_and_iterations_follow_the_settings(digits_run):
    run = digits_run()
    assert (run.base_batch, run.iterations_per_epoch, run.epochs) == (64, 6, 3)
    run = digits_run(total_batch=41, epochs=7)
    assert (run.base_batch, run.iterations_per_epoch, run.epochs) == (20, 20, 7)
    run = digits_run(total_batch=40, iterations=3)
    assert (run.base_batch, run.iterations_per_epoch) == (20, 3)
    assert digits_run(total_batch=2000).iterations_per_epoch == 1
    assert digits_run(epochs=None).epochs == 100


def test_coverage_counts_samples_drawn_at_least_once(digits_run):
    run = digits_run()
    run.train([40, 100], 2)
    assert run.progress.coverage == pytest.approx([80 / 400, 200 / 400])
    run.train([40, 100], 2)
    # The prefix of every hundred of one permutation.
    assert run.progress.coverage == pytest.approx([160 / 400, 1.0])
    run.train([400, 2], 1)
    assert run.progress.coverage == [1.0, 1.0]


def test_the_probe_changes_nothing(digits_run, same_bits):
    run, other = digits_run(method=Dropped()), digits_run(method=Dropped())
    first = run.probe()
    assert run.probe() == first
    assert first.train.scores != first.validation.scores
    assert same_bits(run.snapshot(), other.snapshot())
    assert run.train([40, 88], 6) == other.train([40, 88], 6)
    assert digits_run(data=without_validation).probe().validation is None


# -- the loop against a bare one ---------------------------------------------------------------------


def true_probability(logits, labels):
    return logits.softmax(-1).gather(1, labels[:, None]).squeeze(1)


def bare_loop(model, batches, *, joint=True, fixed=False, epochs=4, lr=0.03, per_epoch=6):
    """The baseline as anyone would write it; returns each iteration's loss, scores, hits and fused hits."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    figures = []
    for i, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = lr * (0.1 if i // per_epoch >= 0.7 * epochs else 1.0)
        y, p = batch.labels, batch.paired

        def term(k, y=y, p=p, batch=batch):
            h = [model.encoders[j](x) for j, x in enumerate(batch.inputs)]
            if k == 2:
                logits = model.fused_head(torch.cat([x[:p] for x in h], dim=1))
                return F.cross_entropy(logits, y[0][:p]), logits
            logits = model.unimodal_heads[k](h[k])
            loss = F.cross_entropy(logits, y[k], reduction="sum")
            return loss / (64 if fixed else len(y[k])), logits

        losses, outputs = [], []
        for step in [(0, 1, 2)] if joint else [(0,), (1,), (2,)]:
            found = [term(k) for k in step]
            losses += [loss.item() for loss, _ in found]
            outputs += [logits.detach() for _, logits in found]
            optimizer.zero_grad()
            sum(loss for loss, _ in found).backward()
            optimizer.step()
        figures.append(
            {
                "loss": sum(losses),
                "scores": [true_probability(outputs[k], y[k]).mean().item() for k in range(2)],
                "hits": [(outputs[k].argmax(1) == y[k]).float().mean().item() for k in range(2)],
                "fused": (outputs[2].argmax(1) == y[0][:p]).float().mean().item(),
            }
        )
    return figures


@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
@pytest.mark.parametrize("update", ["joint", "alternating"])
@pytest.mark.parametrize("sizes", [(64, 64), (40, 88), (120, 8)])
def test_figures_and_weights_are_those_of_a_bare_loop(digits_run, loss_norm, update, sizes):
    settings = {"loss_norm": loss_norm, "update": update, "epochs": 4}
    run, twin = digits_run(method=Watched(), **settings), digits_run(**settings)
    first = run.train(list(sizes), 1)
    rest = [run.train(list(sizes), 5), *(run.train(list(sizes), 6) for _ in range(3))]
    figures = bare_loop(twin.model, run.method.batches, joint=update == "joint", fixed=loss_norm == "fixed", epochs=4)
    assert first.loss == pytest.approx(figures[0]["loss"], rel=1e-5)
    assert first.scores == pytest.approx(figures[0]["scores"], rel=1e-5)
    assert first.iteration_scores == [(pytest.approx(figures[0]["scores"], rel=1e-5), 1)]
    assert first.accuracies == pytest.approx(figures[0]["hits"])
    assert first.fused_accuracy == pytest.approx(figures[0]["fused"])
    assert first.sizes == list(sizes)
    assert not first.diverged
    rows = [scores for interval in [first, *rest] for scores, _ in interval.iteration_scores]
    np.testing.assert_allclose(rows, [f["scores"] for f in figures], rtol=2e-3)
    assert rest[0].loss == pytest.approx(np.mean([f["loss"] for f in figures[1:6]]), rel=1e-3)
    for mine, bare in zip(run.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(mine, bare, rtol=1e-2, atol=1e-4)


def test_mla_is_that_of_a_bare_loop(digits_run):
    run, twin, watcher = digits_run(method="mla"), digits_run(method="mla"), digits_run(method=Watched())
    run.train([40, 88], 12)
    watcher.train([40, 88], 12)
    model, projection = twin.model, torch.eye(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    for i, batch in enumerate(watcher.method.batches):
        for j in range(2):
            h = model.encoders[j](batch.inputs[j])
            optimizer.zero_grad()
            F.cross_entropy(model.shared_head(h), batch.labels[j]).backward()
            model.shared_head.weight.grad = model.shared_head.weight.grad @ projection
            projection = rls_update(projection, h.detach().mean(0), 0.1 ** (1 + (i % 6) / 6))
            optimizer.step()
    for mine, bare in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, bare, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(("loss_norm", "divisors"), [("mean", (40, 88)), ("fixed", (64, 64))])
def test_one_steps_gradient_by_hand(digits_run, weights_of, loss_norm, divisors):
    plain = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    run = digits_run(method=Watched(), loss_norm=loss_norm, optimizer=plain)
    twin = digits_run(optimizer=plain)
    before = weights_of(run)
    run.train([40, 88], 1)
    (batch,) = run.method.batches
    for j in range(2):
        head = twin.model.unimodal_heads[j]
        logits = head(twin.model.encoders[j](batch.inputs[j]))
        loss = -true_probability(logits, batch.labels[j]).log().sum() / divisors[j]
        gradient = torch.autograd.grad(loss, head.weight)[0]
        name = f"unimodal_heads.{j}.weight"
        torch.testing.assert_close(before[name] - run.model.state_dict()[name], gradient, rtol=1e-4, atol=1e-6)


def test_alternating_is_not_joint(digits_run, weights_of, same_bits):
    joint, alternating = digits_run(), digits_run(update="alternating")
    finish(joint)
    finish(alternating)
    assert not same_bits(weights_of(joint), weights_of(alternating))


def test_the_validation_figures_by_hand(digits_run):
    run = finish(digits_run(epochs=8))
    split = run._validation_split
    with torch.no_grad():
        h = [run.model.encoders[j](x) for j, x in enumerate(split.inputs)]
        logits = [run.model.unimodal_heads[j](h[j]) for j in range(2)]
        for j in range(2):
            p = true_probability(logits[j], split.labels)
            assert run.validation.scores[j] == pytest.approx(p.mean().item(), rel=1e-5)
            assert run.validation.losses[j] == pytest.approx(-p.log().mean().item(), rel=1e-5)
            right = (logits[j].argmax(1) == split.labels).float().mean().item()
            assert run.validation.accuracies[j] == pytest.approx(right)
        entropy = [-(z.softmax(1) * z.log_softmax(1)).sum(1) for z in logits]
        weights = torch.stack([-e for e in entropy]).softmax(0)
        fused = {
            "concat": run.model.fused_head(torch.cat(h, dim=1)),
            "sum": logits[0] + logits[1],
            "entropy": weights[0][:, None] * logits[0] + weights[1][:, None] * logits[1],
        }
        fused["method"] = fused["concat"]
    expected = {name: (z.argmax(1) == split.labels).float().mean().item() for name, z in fused.items()}
    assert run.validation.fused == pytest.approx(expected)


@pytest.mark.parametrize("predict_with", ["concat", "sum", "entropy"])
def test_predict_with_names_the_predictor_reported_as_the_methods(digits_run, predict_with):
    run = finish(digits_run(predict_with=predict_with, epochs=6))
    found = run.evaluate()
    assert found.fused["method"] == found.fused[predict_with]
    assert run.validation.fused["method"] == run.validation.fused[predict_with]
    assert len({found.fused[name].map for name in ("concat", "sum", "entropy")}) == 3


def test_a_method_without_a_fused_head_reports_null(digits_run):
    run = finish(digits_run(method="mla"))
    assert not run.trains_fused
    found = run.evaluate()
    assert found.fused["concat"] is None
    assert found.fused["method"] == found.fused["entropy"]
    assert run.validation.fused["concat"] is None


def test_nothing_paired_trains_no_fused_head(digits_run, weights_of):
    run = digits_run(pairing="independent")
    before = weights_of(run)
    interval = run.train([64, 64], 18)
    assert interval.fused_accuracy is None
    assert not run.trains_fused
    assert torch.equal(before["fused_head.weight"], weights_of(run)["fused_head.weight"])
    found = run.evaluate()
    assert found.fused["concat"] is None
    assert found.fused["method"] == found.fused["sum"]


# -- settings ----------------------------------------------------------------------------------------

WILD = {"epochs": 8, "optimizer": {"lr": 0.4}}


def histories(digits_run, weights_of, **settings):
    """Validation and test accuracy and the weights after every epoch."""
    run = digits_run(**WILD, **settings)
    history = []
    for _ in range(8):
        run.train([64, 64], 6)
        history.append((run.validation.fused["method"], run.evaluate(), weights_of(run)))
    return run, history


@pytest.mark.parametrize("select", ["last", "validation", "best_test"])
@pytest.mark.parametrize("method", ["baseline", "mla"])
def test_the_selected_model_is_the_one_that_is_evaluated(digits_run, weights_of, same_bits, select, method):
    _, history = histories(digits_run, weights_of, method=method)
    chosen = {
        "last": [0.0] * 7 + [1.0],
        "validation": [value for value, _, _ in history],
        "best_test": [found.fused["method"].accuracy for _, found, _ in history],
    }[select]
    best = int(np.argmax(chosen))
    run = digits_run(method=method, select=select, **WILD)
    while run.progress.epoch < 8:
        run.train([64, 64], 6)
        upto = run.progress.epoch
        selected = int(np.argmax(chosen[:upto])) if select != "last" else upto - 1
        assert run.evaluate() == history[selected][1]
    assert run.evaluate() == history[best][1]
    # The run itself stays where it ended.
    assert same_bits(weights_of(run), history[-1][2])
    assert run.evaluate() == history[best][1]
    if select != "last" and method == "baseline":
        assert best < 7
        assert run.evaluate() != history[-1][1]


def test_only_evaluated_epochs_can_be_selected(digits_run, weights_of):
    _, history = histories(digits_run, weights_of)
    run = finish(digits_run(select="validation", eval_every=3, **WILD))
    values = {epoch: history[epoch - 1][0] for epoch in (3, 6, 8)}
    assert run.evaluate() == history[max(values, key=values.get) - 1][1]


def test_a_learning_rate_of_zero_freezes_a_modality(digits_run, weights_of):
    run = digits_run(lr_scale=(0.0, 1.0))
    before = weights_of(run)
    finish(run)
    after = weights_of(run)
    for name in before:
        frozen = name.startswith(("encoders.0", "unimodal_heads.0"))
        assert torch.equal(before[name], after[name]) == frozen, name


def test_learning_rates_scale_encoder_and_head_alone(digits_run, weights_of):
    plain = {"momentum": 0.0, "weight_decay": 0.0, "lr": 0.03}
    one, other = digits_run(optimizer=plain), digits_run(optimizer=plain, lr_scale=(0.5, 3.0))
    start = weights_of(one)
    one.train([64, 64], 1)
    other.train([64, 64], 1)
    found, expected = weights_of(other), weights_of(one)
    for name in start:
        factor = {"0": 0.5, "1": 3.0}.get(name.split(".")[1], 1.0)
        torch.testing.assert_close(
            found[name] - start[name], factor * (expected[name] - start[name]), atol=1e-6, rtol=1e-3
        )


def test_mixed_precision_runs_on_the_cpu_and_is_another_run(digits_run, weights_of, same_bits):
    full, mixed = finish(digits_run(epochs=10)), finish(digits_run(epochs=10, amp=True))
    first, second = weights_of(full), weights_of(mixed)
    assert not same_bits(first, second)
    assert all(value.dtype == torch.float32 for value in second.values())
    assert full.evaluate().fused["sum"].accuracy == pytest.approx(mixed.evaluate().fused["sum"].accuracy, abs=0.05)
    assert all(math.isfinite(score) for score in mixed.progress.scores)
    assert same_bits(second, weights_of(finish(digits_run(epochs=10, amp=True))))
    assert finish(digits_run(method="mla", amp=True)).evaluate().fused["concat"] is None


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("benchmark", [False, True])
def test_products_and_convolutions_of_a_run_are_of_its_precision_and_the_callers_come_back(
    digits_run, precision, benchmark
):
    def modes():
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark

    seen = []

    class Looking(Baseline):
        def terms(self, ctx):
            seen.append(modes())
            yield from super().terms(ctx)

    run, before = digits_run(method=Looking(), cudnn_benchmark=benchmark), modes()
    # What a card would have been asked for.
    run.precision = precision
    run.train([64, 64], 1)
    assert seen == [("highest" if precision == "float32" else "high", precision == "tf32", benchmark)]
    assert modes() == before


@pytest.mark.parametrize("around", [nullcontext, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_mixed_precision_rounds_the_weights_of_every_step(digits_run, weights_of, same_bits, around):
    # PyTorch keeps rounded weights as long as one of its regions lasts, and those that an evaluation rounded have no
    # gradient in some versions. One iteration a call can keep none.
    whole, pieces = digits_run(amp=True), digits_run(amp=True)
    with around():
        whole.validate()
        whole.train([64, 64], 6)
    for _ in range(6):
        pieces.train([64, 64], 1)
    assert same_bits(weights_of(whole), weights_of(pieces))


@pytest.mark.parametrize("method", ["baseline", "mla"])
@pytest.mark.parametrize("settings", [{}, {"loss_norm": "fixed", "select": "validation"}, {"pairing": "independent"}])
def test_a_diverged_run_says_so_in_finite_figures(digits_run, method, settings):
    run = digits_run(method=method, optimizer={"lr": 1e12}, **settings)
    interval = run.train([40, 88], 6)
    assert interval.diverged
    figures = [interval.loss, *interval.scores, *interval.accuracies, *run.progress.scores, *run.progress.gaps]
    figures += [score for scores, _ in interval.iteration_scores for score in scores]
    figures += [*run.validation.scores, *run.validation.losses, *run.validation.accuracies]
    figures += [value for value in run.validation.fused.values() if value is not None]
    assert all(math.isfinite(value) for value in figures)
    found = run.evaluate()
    for scores in [*found.modalities.values(), *found.fused.values()]:
        assert scores is None or all(0.0 <= v <= 1.0 for v in (scores.accuracy, scores.map, scores.macro_f1))
    assert not digits_run(method=method, **settings).train([40, 88], 6).diverged


class PairedOnly(Method):
    name, paper, heads = "paired-only", "", frozenset({"fused"})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"select": "validation"}, "select='validation' needs a validation split.*select='last'"),
        ({"reward": "validation-gain"}, "reward='validation-gain' needs a validation split"),
        ({"lr_scale": (1.0,)}, r"lr_scale=\(1\.0,\) is not allowed; it needs 2 entries"),
        ({"lr_scale": (1.0, 1.0, 1.0)}, "lr_scale=.*needs 2 entries"),
        ({"method": "mla", "predict_with": "concat"}, "predict_with='concat'.*'mla'.*'sum'"),
        ({"pairing": "independent", "predict_with": "concat"}, "predict_with='concat'.*'baseline'.*'sum'"),
        ({"method": PairedOnly, "pairing": "independent"}, "pairing='independent'.*'paired-only' needs paired"),
        ({"device": "tpu"}, "device='tpu' is not available"),
        ({"device": "cuda"}, "device='cuda' is not available here; use 'cpu'"),
        ({"device": "cuda:3"}, "device='cuda:3' is not available"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_construction(digits_run, monkeypatch, settings, named):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = dict(settings)
    method = settings.pop("method", "baseline")
    with pytest.raises(ConfigError, match=named):
        digits_run(data=without_validation, method=method if isinstance(method, str) else method(), **settings)


@pytest.mark.parametrize(
    ("capability", "wanted", "found"),
    [
        ((8, 0), "auto", "bfloat16"),
        ((9, 0), "tf32", "tf32"),
        ((9, 0), "float32", "float32"),
        ((7, 5), "auto", "float32"),
        (None, "auto", "float32"),
        (None, "bfloat16", "bfloat16"),
    ],
)
def test_auto_is_bfloat16_where_a_card_has_it(monkeypatch, capability, wanted, found):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert find_precision(wanted, "cpu" if capability is None else "cuda:0") == found


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"device": "cuda", "amp": True},
            r"precision='bfloat16' needs .* 8\.0 or more, and device='cuda' is a T4 of 7\.5",
        ),
        ({"device": "cuda", "precision": "tf32"}, r"precision='tf32' needs .*; use float32"),
        ({"precision": "tf32"}, r"precision='tf32' is a format of NVIDIA's cards; on the CPU use float32 or bfloat16"),
        ({"precision": "float16"}, r"precision='float16'.*auto, float32, tf32, bfloat16"),
        ({"precision": "tf32", "amp": True}, r"amp=True asks for precision='bfloat16', and precision='tf32' is set"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(digits_run, monkeypatch, settings, named):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "T4")
    with pytest.raises(ConfigError, match=named):
        digits_run(**settings)


def test_amp_is_a_word_for_bfloat16_and_the_run_says_what_it_computes_in(digits_run):
    assert RunConfig(amp=True) == dataclasses.replace(RunConfig(precision="bfloat16"), amp=True)
    assert [digits_run(**of).precision for of in ({}, {"amp": True}, {"precision": "bfloat16"})] == [
        "float32", "bfloat16", "bfloat16",
    ]  # fmt: skip


def test_a_task_without_validation_trains(digits_run):
    run = finish(digits_run(data=without_validation, epochs=20))
    assert run.validation is None
    assert not run.has_validation
    assert digits_run().has_validation
    assert run.evaluate().fused["sum"].accuracy > 0.4
    # Selection on the test split needs no validation split.
    bare, usual = (finish(digits_run(data=d, select="best_test", **WILD)) for d in (without_validation, None))
    best, expected = (run.snapshot()["best"]["epochs"] for run in (bare, usual))
    assert best == expected
    assert best[0] < 8


# -- on a GPU ----------------------------------------------------------------------------------------


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("method", ["baseline", "mla"])
def test_a_gpu_trains_to_the_cpus_accuracy(digits_run, method, precision):
    cpu = finish(digits_run(method=method, epochs=60))
    cuda = finish(digits_run(method=method, epochs=60, device="cuda", precision=precision), every=11)
    assert all(parameter.is_cuda for parameter in cuda.model.parameters())
    mine, theirs = cuda.evaluate(), cpu.evaluate()
    for predictor in ("method", "sum", "entropy"):
        assert mine.fused[predictor].accuracy == pytest.approx(theirs.fused[predictor].accuracy, abs=0.08)
        assert mine.fused[predictor].accuracy > 0.6
    assert cuda.progress.samples == cpu.progress.samples
    assert cuda.progress.coverage == cpu.progress.coverage


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("method", ["baseline", "mla", Dropped])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_snapshot_continues_to_the_bit_on_a_gpu(
    digits_run, weights_of, same_bits, tmp_path, method, precision, optimizer
):
    def start():
        made = method if isinstance(method, str) else method()
        return digits_run(
            method=made, device="cuda", precision=precision, epochs=5, select="validation",
            optimizer={"name": optimizer, "lr": 0.01, "schedule": "plateau", "patience": 1},
        )  # fmt: skip

    run, other = start(), start()
    run.train([40, 88], 10)
    save_state(tmp_path / "run", "checkpoint", run.snapshot())
    other.restore(load_state(tmp_path / "run", "checkpoint"))
    assert run.train([20, 100], 20) == other.train([20, 100], 20)
    assert same_bits(weights_of(run), weights_of(other))
    assert same_bits(run.snapshot(), other.snapshot())
    assert run.evaluate() == other.evaluate()


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("there", "here"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda")])
def test_a_checkpoint_restores_on_another_device(digits_run, tmp_path, weights_of, same_bits, there, here, optimizer):
    def start(device, method="mla"):
        made = method if isinstance(method, str) else method()
        settings = {"name": optimizer, "lr": 0.01}
        return digits_run(method=made, device=device, epochs=6, select="validation", optimizer=settings)

    run, other = start(there), start(here)
    run.train([40, 88], 15)
    save_state(tmp_path / "run", "checkpoint", run.snapshot())
    other.restore(load_state(tmp_path / "run", "checkpoint"))
    assert same_bits(weights_of(run), weights_of(other))
    assert all(p.device.type == here[:4].rstrip(":") for p in other.model.parameters())
    one, two = run.train([40, 88], 1), other.train([40, 88], 1)
    assert one.scores == pytest.approx(two.scores, abs=1e-4)
    assert one.loss == pytest.approx(two.loss, rel=1e-3)
    finish(run)
    finish(other)
    found, expected = other.evaluate().fused["sum"].accuracy, run.evaluate().fused["sum"].accuracy
    assert found == pytest.approx(expected, abs=0.08)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("there", ["cuda", "cpu"])
def test_the_global_generators_of_the_gpu_are_neither_used_nor_changed(digits_run, weights_of, same_bits, there):
    source = digits_run(method=Dropped(), device=there)
    source.train([40, 88], 8)
    state = source.snapshot()

    def run(seed):
        torch.cuda.manual_seed_all(seed)
        before = torch.cuda.get_rng_state()
        trainer = digits_run(method=Dropped(), device="cuda")
        trainer.restore(state)
        trainer.probe()
        trainer.train([40, 88], 10)
        assert torch.equal(torch.cuda.get_rng_state(), before)
        return weights_of(trainer)

    assert same_bits(run(1), run(2))
