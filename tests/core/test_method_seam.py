"""Everything a method may do, by methods that exist here alone: the loop must never need to know them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dus_gym.context import Phase
from dus_gym.errors import ConfigError
from dus_gym.methods.base import Method
from dus_gym.methods.baseline import Baseline
from dus_gym.state import load_state, save_state

PLAIN = {"momentum": 0.0, "weight_decay": 0.0}


class Watched(Baseline):
    """The baseline, writing down what it is shown."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.batches = []
        self.keeps = []

    def on_fit_start(self, ctx):
        self.calls.append("fit")

    def on_epoch_start(self, ctx):
        self.calls.append(("start", ctx.epoch, ctx.iteration, ctx.iteration_in_epoch))

    def on_epoch_end(self, ctx, validation):
        self.calls.append(("end", ctx.epoch, ctx.iteration, validation is not None))

    def terms(self, ctx):
        self.batches.append([(64 * x[:, 0]).int().tolist() for x in ctx.batch.inputs])
        self.keeps.append(None if ctx.batch.keep is None else ctx.batch.keep.clone())
        yield from super().terms(ctx)

    @property
    def sizes(self):
        return [tuple(map(len, batch)) for batch in self.batches]


def moved(before, after, part):
    """Whether parameters whose name starts with ``part`` differ in any bit; all of them must agree."""
    names = [name for name in before if name.startswith(part)]
    assert names
    found = {not torch.equal(before[name], after[name]) for name in names}
    assert len(found) == 1
    return found.pop()


# -- phases ------------------------------------------------------------------------------------------


class Staged(Watched):
    stages = (Phase("encoders", 0.5, trainable=("encoder",), sampling=False), Phase("all", 0.5))

    def phases(self, epochs, modalities):
        return self.stages


def test_a_phase_trains_what_it_names_and_may_set_the_agent_aside(toy_run, weights_of):
    run = toy_run(method=Staged())
    start = weights_of(run)
    interval = run.train([3, 13], 10)
    first = weights_of(run)
    assert moved(start, first, "encoders")
    assert not moved(start, first, "unimodal_heads")
    assert not moved(start, first, "fused_head")
    assert interval.sizes == [8, 8]
    assert run.method.sizes == [(8, 8)] * 10
    assert run.progress.samples == [80, 80]
    interval = run.train([3, 13], 10)
    assert interval.sizes == [3, 13]
    assert run.method.sizes[10:] == [(3, 13)] * 10
    assert run.progress.samples == [110, 210]
    for part in ("encoders", "unimodal_heads", "fused_head"):
        assert moved(first, weights_of(run), part)


def test_one_call_may_cross_phases(toy_run, weights_of, same_bits):
    one, other = toy_run(method=Staged()), toy_run(method=Staged())
    one.train([3, 13], 20)
    for k in (7, 6, 7):
        other.train([3, 13], k)
    assert one.method.sizes == [(8, 8)] * 10 + [(3, 13)] * 10
    assert same_bits(weights_of(one), weights_of(other))


def test_what_a_phase_freezes_stays_to_the_bit_despite_momentum_and_decay(toy_run, weights_of):
    class Frozen(Watched):
        def phases(self, epochs, modalities):
            return Phase("all", 0.5), Phase("rest", 0.25, trainable=("encoder/b", "head/b")), Phase("again", 0.25)

    for name in ("sgd", "adam"):
        run = toy_run(method=Frozen(), optimizer={"name": name, "weight_decay": 0.1})
        run.train([8, 8], 10)
        before = weights_of(run)
        run.train([8, 8], 5)
        after = weights_of(run)
        for part in ("encoders.0", "unimodal_heads.0", "fused_head"):
            assert not moved(before, after, part), (name, part)
        assert moved(before, after, "encoders.1")
        assert moved(before, after, "unimodal_heads.1")
        run.train([8, 8], 5)
        for part in ("encoders.0", "unimodal_heads.0", "fused_head"):
            assert moved(after, weights_of(run), part), (name, part)


def test_what_was_frozen_starts_again_without_its_old_momentum(toy_run, weights_of):
    class Thaws(Watched):
        def phases(self, epochs, modalities):
            return Phase("all", 0.5), Phase("rest", 0.25, trainable=("encoder/b", "head")), Phase("again", 0.25)

        def after_backward(self, ctx):
            self.gradient = ctx.optimizer.parameters("encoder/a")[0].grad

    run = toy_run(method=Thaws(), optimizer={"lr": 0.01, "weight_decay": 0.0})
    run.train([8, 8], 15)
    before = weights_of(run)["encoders.0.layers.0.weight"]
    run.train([8, 8], 1)
    after = weights_of(run)["encoders.0.layers.0.weight"]
    torch.testing.assert_close(after, before - 0.01 * run.method.gradient, rtol=0.0, atol=1e-7)


def test_a_method_knows_the_phase_it_is_in(toy_run):
    class Asks(Staged):
        def on_epoch_start(self, ctx):
            self.calls.append(("start", ctx.epoch, ctx.phase.name))

        def on_epoch_end(self, ctx, validation):
            self.calls.append(("end", ctx.epoch, ctx.phase.name))

        def terms(self, ctx):
            assert ctx.phase is self.stages[ctx.epoch // 2]
            yield from super().terms(ctx)

    run, other = toy_run(method=Asks()), toy_run(method=Asks())
    run.train([8, 8], 13)
    # A phase made by the method itself, so that it may carry what its losses need; also right after a restore.
    other.restore(run.snapshot())
    for each in (run, other):
        each.train([8, 8], 7)
    names = ["encoders", "encoders", "all", "all"]
    expected = [x for e, name in enumerate(names) for x in (("start", e, name), ("end", e + 1, name))]
    assert run.method.calls == ["fit", *expected]
    assert other.method.calls == ["fit", *expected[5:]]


@pytest.mark.parametrize(
    ("fractions", "epochs", "ends"),
    [
        ((0.5, 0.5), 4, [2, 4]),
        ((0.3, 0.7), 10, [3, 10]),
        ((0.9, 0.1), 4, [3, 4]),
        ((0.01, 0.99), 4, [1, 4]),
        ((0.98, 0.01, 0.01), 4, [2, 3, 4]),
        ((0.1, 0.2, 0.7), 10, [1, 3, 10]),
    ],
)
def test_phases_are_fractions_of_the_epochs_and_each_has_one(toy_run, fractions, epochs, ends):
    class Many(Watched):
        def phases(self, epochs, modalities):
            # Whether the agent is heard alternates, so that the sizes tell the phase.
            return tuple(Phase(str(i), f, sampling=i % 2 == 0) for i, f in enumerate(fractions))

    run = toy_run(method=Many(), epochs=epochs, iterations=1)
    run.train([3, 13], epochs)
    expected = [next(i for i, end in enumerate(ends) if epoch < end) for epoch in range(epochs)]
    assert run.method.sizes == [(8, 8) if i % 2 else (3, 13) for i in expected]


@pytest.mark.parametrize("fractions", [(0.5, 0.2), (0.5, 0.4), (0.7, 0.7), (0.5, 0.5, 0.5), (1.5,), (0.4,)])
@pytest.mark.parametrize("epochs", [4, 100])
def test_phases_that_do_not_sum_to_one_are_refused(toy_run, fractions, epochs):
    class Wrong(Watched):
        def phases(self, epochs, modalities):
            return tuple(Phase(str(i), f) for i, f in enumerate(fractions))

    with pytest.raises(ConfigError, match="sum to"):
        toy_run(method=Wrong(), epochs=epochs)


def test_too_few_epochs_for_the_phases_are_refused(toy_run):
    with pytest.raises(ConfigError, match=r"epochs=1 .*2 phases"):
        toy_run(method=Staged(), epochs=1)


# -- hooks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(20,), (5, 5, 5, 5), (3, 4, 6, 7), (1,) * 20, (7, 7, 7)])
def test_hooks_come_at_the_ends_of_epochs_wherever_intervals_end(toy_run, chunks):
    run = toy_run(method=Watched(), eval_every=3)
    for k in chunks:
        run.train([8, 8], k)
    expected = ["fit"]
    for epoch in range(4):
        expected.append(("start", epoch, 5 * epoch, 0))
        # Epoch 3 is due and the last one always is.
        expected.append(("end", epoch + 1, 5 * (epoch + 1), epoch in (2, 3)))
    assert run.method.calls == expected


def test_the_epochs_end_brings_the_validation_figures(toy_run):
    class Reads(Watched):
        def on_epoch_end(self, ctx, validation):
            self.calls.append((validation, ctx.validate()))

    run = toy_run(method=Reads())
    run.train([8, 8], 5)
    given, asked = run.method.calls[-1]
    assert given == asked == [run.validation]
    (given,) = given
    assert len(given.scores) == len(given.losses) == len(given.accuracies) == 2
    run.train([8, 8], 5)
    assert run.method.calls[-1][0] != [given]
    bare = toy_run(method=Reads(), validation=False)
    bare.train([8, 8], 5)
    assert bare.method.calls[-1] == (None, None)
    assert bare.validation is None


def test_validate_is_by_hand_what_the_model_gives_in_evaluation_mode(toy_run):
    class Asks(Watched):
        def on_epoch_start(self, ctx):
            self.calls.append(ctx.validate())

    run, still = toy_run(method=Asks()), toy_run()
    run.train([8, 8], 1)
    (found,) = run.method.calls[-1]
    # The split is the toy's; its figures from the untrained twin, without the evaluator.
    split = still._validation_split
    with torch.no_grad():
        h = [still.model.encode(j, x) for j, x in enumerate(split.inputs)]
        for j in range(2):
            p = still.model.unimodal(j, h[j]).softmax(-1)
            assert found.scores[j] == pytest.approx(p.gather(1, split.labels[:, None]).mean().item(), rel=1e-5)
            assert found.accuracies[j] == pytest.approx((p.argmax(1) == split.labels).float().mean().item())
        right = still.model.fused(h).argmax(1) == split.labels
        assert found.fused["concat"] == found.fused["method"] == pytest.approx(right.float().mean().item())
    assert run.model.training


def test_on_fit_start_may_change_the_model_and_draws_privately(toy_run, weights_of, same_bits):
    class Draws(Watched):
        def on_fit_start(self, ctx):
            super().on_fit_start(ctx)
            with torch.no_grad():
                ctx.model.fused_head.bias.copy_(torch.randn(3))

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights_of(toy_run(method=Draws()))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_bits(first, weights_of(toy_run(method=Draws())))
    assert not torch.equal(first["fused_head.bias"], weights_of(toy_run(method=Draws(), seed=1))["fused_head.bias"])
    assert not torch.equal(first["fused_head.bias"], weights_of(toy_run())["fused_head.bias"])


def test_after_backward_changes_the_gradient_that_is_stepped(toy_run, weights_of):
    class Scales(Watched):
        factors = (0.0, 2.0)

        def after_backward(self, ctx):
            for factor, name in zip(self.factors, ctx.modalities, strict=True):
                for parameter in ctx.optimizer.parameters(f"encoder/{name}"):
                    parameter.grad *= factor

    run, plain = toy_run(method=Scales(), optimizer=PLAIN), toy_run(optimizer=PLAIN)
    start = weights_of(run)
    run.train([8, 8], 1)
    plain.train([8, 8], 1)
    scaled, expected = weights_of(run), weights_of(plain)
    for name, value in start.items():
        factor = {"encoders.0": 0.0, "encoders.1": 2.0}.get(name[:10], 1.0)
        torch.testing.assert_close(scaled[name] - value, factor * (expected[name] - value), atol=1e-7, rtol=1e-4)
    assert not moved(start, scaled, "encoders.0")


def test_an_iteration_may_have_several_steps(toy_run, weights_of):
    class Three(Watched):
        def __init__(self):
            super().__init__()
            self.steps = 0
            self.losses = []
            self.fresh = []

        def substeps(self, ctx):
            self.rows = (64 * ctx.batch.inputs[0][:, 0]).int().tolist()
            last = None
            for _ in range(3):
                h = ctx.features(0)
                assert ctx.features(0) is h
                self.fresh.append(last is None or not torch.equal(h, last))
                last = h.detach().clone()
                loss = ctx.modality_loss(0, ctx.model.unimodal(0, h))
                self.losses.append(loss.item())
                yield loss
            logits = ctx.model.unimodal(1, ctx.features(1))
            loss = ctx.modality_loss(1, logits)
            self.last = logits.softmax(-1).gather(1, ctx.batch.labels[1][:, None]).mean().item()
            self.losses.append(loss.item())
            yield loss

        def after_backward(self, ctx):
            self.steps += 1

    run, twin = toy_run(method=Three(), optimizer=PLAIN), toy_run()
    interval = run.train([8, 6], 1)
    assert run.method.steps == 4
    # A step changes the encoder, so what is cached in a substep is not what the next one sees.
    assert all(run.method.fresh)
    assert run.method.losses[0] > run.method.losses[1] > run.method.losses[2]
    assert interval.loss == pytest.approx(sum(run.method.losses), rel=1e-6)
    # The score is the one of the first forward, before any step, and samples count once.
    assert run.progress.samples == [8, 6]
    data = twin._train_split
    rows = torch.tensor(run.method.rows)
    p = twin.model.unimodal(0, twin.model.encode(0, data.inputs[0][rows])).softmax(-1)
    expected = [p.gather(1, data.labels[rows][:, None]).mean().item(), run.method.last]
    assert interval.iteration_scores == [(pytest.approx(expected, rel=1e-5), 1)]
    assert interval.scores == pytest.approx(expected, rel=1e-5)


def test_an_iteration_without_a_loss_is_refused(toy_run):
    class Nothing(Watched):
        def substeps(self, ctx):
            yield from ()

    with pytest.raises(ConfigError, match="'baseline' yielded no loss"):
        toy_run(method=Nothing()).train([8, 8], 1)


# -- samples -----------------------------------------------------------------------------------------


class Expands(Watched):
    """After the first epoch, samples 0-7 once more without the second modality; later samples 20-27 without the
    first."""

    def expand(self, ctx):
        if ctx.epoch == 1:
            return [(np.arange(8), np.tile([True, False], (8, 1)))]
        if ctx.epoch == 3:
            return [(np.arange(20, 28), np.tile([False, True], (8, 1)))]
        return None


def test_copies_with_masks_appear_in_the_batches(toy_run):
    run = toy_run(method=Expands(), epochs=5)
    run.train([8, 8], 5)
    assert run.method.keeps == [None] * 5
    assert sorted([i for a, _ in run.method.batches for i in a]) == list(range(40))
    # 48 entries now, so one pass takes six iterations.
    run.train([8, 8], 10)
    batches, keeps = run.method.batches[5:11], torch.cat(run.method.keeps[5:11])
    assert keeps.shape == (48, 2)
    assert all(a == b for a, b in batches)
    drawn = [i for a, _ in batches for i in a]
    masked = [i for i, kept in zip(drawn, keeps.tolist(), strict=True) if kept == [True, False]]
    whole = [i for i, kept in zip(drawn, keeps.tolist(), strict=True) if kept == [True, True]]
    assert sorted(masked) == list(range(8))
    assert sorted(whole) == list(range(40))
    # The next copies replace these.
    run.train([8, 8], 10)
    batches, keeps = run.method.batches[15:21], torch.cat(run.method.keeps[15:21])
    drawn = [i for a, _ in batches for i in a]
    masked = [i for i, kept in zip(drawn, keeps.tolist(), strict=True) if kept == [False, True]]
    assert sorted(masked) == list(range(20, 28))
    assert [True, False] not in keeps.tolist()
    # A copy counts as the sample it copies.
    assert run.progress.coverage == [1.0, 1.0]


def test_masks_have_the_rows_of_the_widest_modality(toy_run):
    run = toy_run(method=Expands())
    run.train([3, 13], 10)
    for batch, keep in zip(run.method.batches[5:], run.method.keeps[5:], strict=True):
        assert keep.shape == (13, 2)
        assert batch[0] == batch[1][:3]


def test_expanded_streams_are_in_the_snapshot(toy_run, weights_of, same_bits):
    run = toy_run(method=Expands(), epochs=5)
    run.train([5, 11], 8)
    state = run.snapshot()
    run.train([5, 11], 17)
    other = toy_run(method=Expands(), epochs=5)
    other.restore(state)
    other.train([5, 11], 17)
    assert run.method.batches[8:] == other.method.batches
    assert same_bits(run.method.keeps[8:], other.method.keeps)
    assert same_bits(weights_of(run), weights_of(other))


# -- what a method says ------------------------------------------------------------------------------


def test_logged_figures_are_kept_by_name(toy_run):
    class Logs(Watched):
        logs = ("kappa", "rho", "never")

        def on_epoch_start(self, ctx):
            ctx.log({"kappa": float(ctx.epoch), "rho": 1.0})
            ctx.log({"rho": torch.tensor(2.0)})
            if ctx.epoch == 2:
                ctx.log({"kapa": 0.0})

    run = toy_run(method=Logs())
    assert run.logged == {"kappa": 0.0, "rho": 0.0, "never": 0.0}
    run.train([8, 8], 10)
    assert run.logged == {"kappa": 1.0, "rho": 2.0, "never": 0.0}
    other = toy_run(method=Logs())
    other.restore(run.snapshot())
    assert other.logged == run.logged
    with pytest.raises(ConfigError, match=r"figure 'kapa'.*'kappa'"):
        run.train([8, 8], 1)


def test_a_modality_that_is_never_recorded_is_named(toy_run):
    class Forgets(Watched):
        def terms(self, ctx):
            yield ctx.modality_loss(0, ctx.model.unimodal(0, ctx.features(0)))

    with pytest.raises(ConfigError, match="modality 1 in 0 of 5 iterations"):
        toy_run(method=Forgets()).train([8, 8], 5)


def test_masks_need_pairs(toy_run):
    with pytest.raises(ConfigError, match=r"pairing='independent'.*'everything'"):
        toy_run(method=Everything(), pairing="independent")


def test_recorded_logits_give_the_scores_of_a_method_with_a_fused_loss_alone(toy_run):
    class FusedOnly(Method):
        name, paper, heads = "fused-only", "", frozenset({"fused"})

        def terms(self, ctx):
            h = [ctx.features(j) for j in range(2)]
            for j, part in enumerate(ctx.model.additive_parts(h)):
                ctx.record(j, part)
            self.parts, self.labels = [part.detach() for part in ctx.model.additive_parts(h)], ctx.batch.labels[0]
            yield ctx.fused_loss(ctx.model.fused(h))

    run = toy_run(method=FusedOnly())
    interval = run.train([8, 8], 1)
    fused = sum(run.method.parts)
    labels = run.method.labels
    assert interval.loss == pytest.approx(F.cross_entropy(fused, labels).item(), rel=1e-5)
    assert interval.fused_accuracy == pytest.approx((fused.argmax(1) == labels).float().mean().item())
    for j, part in enumerate(run.method.parts):
        p = part.softmax(-1).gather(1, labels[:, None])
        assert interval.scores[j] == pytest.approx(p.mean().item(), rel=1e-5)
        assert interval.accuracies[j] == pytest.approx((part.argmax(1) == labels).float().mean().item())
    run.train([8, 8], 19)
    found = run.evaluate()
    # Its unimodal logits are the additive parts, whose sum is the fused head itself.
    assert found.fused["sum"] == found.fused["concat"] == found.fused["method"]


def test_recording_carries_no_gradient(toy_run, weights_of, same_bits):
    class Records(Watched):
        def terms(self, ctx):
            for j in range(2):
                ctx.record(j, ctx.model.unimodal(j, ctx.features(j)))
            yield ctx.fused_loss(ctx.model.fused([ctx.features(0), ctx.features(1)]))

    run = toy_run(method=Records())
    start = weights_of(run)
    run.train([8, 8], 1)
    assert not moved(start, weights_of(run), "unimodal_heads")


def test_a_methods_own_prediction_is_what_evaluation_reports(toy_run):
    class Reversed(Watched):
        def predict(self, unimodal, predictions):
            return -predictions["sum"]

        def unimodal_logits(self, model, features):
            return [10.0 * logits for logits in super().unimodal_logits(model, features)]

    run, plain = toy_run(method=Reversed()), toy_run(method=Watched())
    for trainer in (run, plain):
        trainer.train([8, 8], 20)
    mine, theirs = run.evaluate(), plain.evaluate()
    assert mine.fused["concat"] == theirs.fused["concat"]
    assert mine.fused["sum"].accuracy == theirs.fused["sum"].accuracy > 0.5
    assert mine.fused["method"].accuracy < 0.3
    assert run.validation.scores[0] > plain.validation.scores[0]


# -- a copy of the run -------------------------------------------------------------------------------


class Noisy(Watched):
    """Draws from both of a method's generators at every step, and can train copies in the hooks it is told."""

    copies = ()

    def __init__(self, copies=()):
        super().__init__()
        self.copies = copies
        self.fitted = []

    def fit(self, ctx, where):
        if where in self.copies:
            before = {name: value.clone() for name, value in ctx.model.state_dict().items()}

            def loss(clone):
                return clone.modality_loss(0, clone.model.unimodal(0, clone.features(0)))

            self.fitted.append((ctx.clone_and_fit(loss, 2), before, ctx.model))

    def on_fit_start(self, ctx):
        self.fit(ctx, "fit")

    def on_epoch_start(self, ctx):
        self.fit(ctx, "start")

    def on_epoch_end(self, ctx, validation):
        self.fit(ctx, "end")

    def after_backward(self, ctx):
        noise, factor = 0.1 * torch.randn(3), 1.0 + 0.1 * ctx.rngs[0].random()
        for head in ctx.model.unimodal_heads:
            if head.bias.grad is not None:
                head.bias.grad += noise
                head.weight.grad *= factor


@pytest.mark.parametrize("copies", [("fit",), ("start",), ("end",), ("fit", "start", "end")])
@pytest.mark.parametrize("settings", [{}, {"pairing": "independent"}, {"select": "validation", "interval": 3}])
def test_training_a_copy_leaves_the_run_as_it_was(toy_run, weights_of, same_bits, copies, settings):
    settings = {"epochs": 3, "optimizer": {"name": "adam", "schedule": "plateau", "patience": 1}} | settings
    plain, copying = toy_run(method=Noisy(), **settings), toy_run(method=Noisy(copies), **settings)
    torch.manual_seed(3)
    outside = torch.get_rng_state()
    while plain.progress.iterations < 15:
        assert same_bits(weights_of(plain), weights_of(copying))
        one, other = plain.train([5, 11], 4), copying.train([5, 11], 4)
        assert one == other
        assert same_bits(plain.snapshot(), copying.snapshot())
    assert copying.method.fitted
    assert plain.evaluate() == copying.evaluate()
    assert plain.progress == copying.progress
    assert plain.validation == copying.validation
    assert torch.equal(torch.get_rng_state(), outside)


def test_the_copy_is_trained_for_as_long_as_it_was_asked(toy_run):
    class Counts(Watched):
        def on_epoch_start(self, ctx):
            def loss(clone):
                self.calls.append(clone.batch.sizes)
                return clone.fused_loss(clone.model.fused([clone.features(0), clone.features(1)]))

            self.calls.clear()
            ctx.clone_and_fit(loss, 3)

    run = toy_run(method=Counts())
    run.train([3, 13], 1)
    # Whole epochs of ordinary batches, whatever the agent chose.
    assert run.method.calls == [(8, 8)] * 15
    assert run.progress.iterations == 1


def test_the_copy_was_trained_on_the_loss_it_was_given(toy_run, weights_of):
    run = toy_run(method=Noisy(("start",)))
    run.train([8, 8], 1)
    fitted, before, model = run.method.fitted[0]
    assert fitted is not model
    after = fitted.state_dict()
    assert not moved(before, after, "encoders.1")
    assert not moved(before, after, "fused_head")
    assert moved(before, after, "encoders.0")
    assert moved(before, after, "unimodal_heads.0")
    split, untrained = run._train_split, toy_run().model

    def loss(trained):
        with torch.no_grad():
            return F.cross_entropy(trained.unimodal(0, trained.encode(0, split.inputs[0])), split.labels).item()

    assert loss(fitted) < loss(untrained)


# -- the optimiser, by owner -------------------------------------------------------------------------


class Multiplies(Watched):
    """From its second epoch on, modality a's encoder at a tenth; from its third, modality b's not at all."""

    def on_epoch_start(self, ctx):
        if ctx.epoch == 1:
            ctx.optimizer.multipliers["encoder/a"] = 0.1
        if ctx.epoch == 2:
            ctx.optimizer.multipliers["encoder/b"] = 0.0


def rates(run):
    of = {id(p): group["lr"] for group in run.optimizer.torch.param_groups for p in group["params"]}
    return {name: of[id(run.optimizer.parameters(name)[0])] for name in run.optimizer.names}


def test_a_methods_multipliers_count_from_the_epoch_they_are_set_in(toy_run, weights_of):
    run = toy_run(method=Multiplies(), optimizer={"lr": 0.01, "schedule": "step", "milestone": 0.75})
    run.train([8, 8], 5)
    assert rates(run) == pytest.approx(dict.fromkeys(run.optimizer.names, 0.01))
    run.train([8, 8], 5)
    assert rates(run) == pytest.approx(dict.fromkeys(run.optimizer.names, 0.01) | {"encoder/a": 0.001})
    before = weights_of(run)
    run.train([8, 8], 5)
    assert not moved(before, weights_of(run), "encoders.1")
    assert moved(before, weights_of(run), "encoders.0")
    # The schedule's drop multiplies; it does not overwrite.
    run.train([8, 8], 5)
    expected = dict.fromkeys(run.optimizer.names, 0.001) | {"encoder/a": 0.0001, "encoder/b": 0.0}
    assert rates(run) == pytest.approx(expected)


def test_a_multiplier_scales_the_step(toy_run, weights_of):
    class Tenth(Watched):
        def on_epoch_start(self, ctx):
            ctx.optimizer.multipliers["encoder/a"] = 0.1

    run, plain = toy_run(method=Tenth(), optimizer=PLAIN), toy_run(optimizer=PLAIN)
    start = weights_of(run)
    run.train([8, 8], 1)
    plain.train([8, 8], 1)
    found, expected = weights_of(run), weights_of(plain)
    for name, value in start.items():
        factor = 0.1 if name.startswith("encoders.0") else 1.0
        torch.testing.assert_close(found[name] - value, factor * (expected[name] - value), atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize("done", [7, 10, 13])
def test_multipliers_are_in_the_snapshot(toy_run, weights_of, same_bits, done):
    settings = {"optimizer": {"lr": 0.01, "schedule": "step", "milestone": 0.75}}
    run, other = toy_run(method=Multiplies(), **settings), toy_run(method=Multiplies(), **settings)
    run.train([8, 8], done)
    other.restore(run.snapshot())
    assert rates(other) == rates(run)
    run.train([8, 8], 20 - done)
    other.train([8, 8], 20 - done)
    assert same_bits(weights_of(run), weights_of(other))


@pytest.mark.parametrize("done", [10, 12, 15])
def test_what_a_method_freezes_between_epochs_stays_frozen(toy_run, weights_of, same_bits, done):
    class Stops(Watched):
        def on_epoch_end(self, ctx, validation):
            if ctx.epoch == 2:
                ctx.optimizer.set_trainable([n for n in ctx.optimizer.names if n not in ("encoder/a", "head/a")])

    run, other = toy_run(method=Stops()), toy_run(method=Stops())
    run.train([8, 8], 10)
    before = weights_of(run)
    if done > 10:
        run.train([8, 8], done - 10)
    other.restore(run.snapshot())
    for trainer in (run, other):
        trainer.train([8, 8], 20 - done)
    after = weights_of(run)
    assert not moved(before, after, "encoders.0")
    assert not moved(before, after, "unimodal_heads.0")
    assert moved(before, after, "encoders.1")
    assert moved(before, after, "fused_head")
    assert same_bits(after, weights_of(other))


# -- everything at once, and what it keeps -----------------------------------------------------------


class Everything(Method):
    """Every hook, with a state of tensors, arrays, numbers and draws that the continuation depends on."""

    name = "everything"
    paper = "none"
    heads = frozenset({"unimodal", "fused"})
    own_predictor = "sum"
    supports_unpaired = True
    needs_validation = True
    max_modalities = 2
    logs = ("best",)

    def __init__(self):
        super().__init__()
        self.prototypes = torch.zeros(2, 64)
        self.counts = np.zeros(2, dtype=np.int64)
        self.best = None
        self.hooks = set()

    def phases(self, epochs, modalities):
        return Phase("warm-up", 0.25, trainable=("encoder", "head"), sampling=False), Phase("main", 0.75)

    def on_fit_start(self, ctx):
        self.hooks.add("fit")
        self.prototypes += torch.randn(2, 64)

    def on_epoch_start(self, ctx):
        self.hooks.add("start")
        ctx.optimizer.multipliers["head/a"] = 0.5 + 0.5 * float(ctx.rngs[0].random())
        if ctx.epoch == 1:
            fitted = ctx.clone_and_fit(lambda c: c.modality_loss(1, c.model.unimodal(1, c.features(1))), 1)
            with torch.no_grad():
                self.prototypes[1] += fitted.unimodal_heads[1].weight.mean(0)

    def on_epoch_end(self, ctx, validation):
        self.hooks.add("end")
        found = ctx.validate()
        assert validation == found
        self.best = max(found[0].fused["sum"], self.best or 0.0)
        ctx.log({"best": self.best})

    def substeps(self, ctx):
        self.hooks.add("substeps")
        for j in range(2):
            h = ctx.features(j)
            with torch.no_grad():
                self.prototypes[j] = 0.9 * self.prototypes[j] + 0.1 * h.mean(0)
            pull = (h - self.prototypes[j]).square().mean()
            yield ctx.modality_loss(j, ctx.model.unimodal(j, h)) + 0.1 * pull
        paired = ctx.batch.paired
        if ctx.epoch > 0:
            loss = ctx.fused_loss(ctx.model.fused([ctx.features(j)[:paired] for j in range(2)]))
            yield loss if ctx.batch.keep is None else loss * ctx.batch.keep.float().mean()

    def after_backward(self, ctx):
        self.hooks.add("backward")
        for p in ctx.optimizer.parameters("encoder/b"):
            if p.grad is not None:
                p.grad += 0.01 * torch.randn_like(p)
        self.counts += ctx.batch.sizes

    def expand(self, ctx):
        self.hooks.add("expand")
        if ctx.epoch % 2 == 0:
            return None
        drawn = ctx.rngs[0].choice(40, 4, replace=False)
        return [(drawn, np.tile([True, False], (4, 1)))]

    def order(self, ctx):
        self.hooks.add("order")
        # In the place of the copies of the epoch before, and fewer than the epoch needs.
        return [ctx.rngs[0].choice(40, 30, replace=False)] if ctx.epoch == 2 else None

    def predict(self, unimodal, predictions):
        return predictions["sum"] + 0.01 * float(self.prototypes.mean()) * predictions["concat"]

    def state_dict(self):
        return {"prototypes": self.prototypes.clone(), "counts": self.counts.copy(), "best": self.best}

    def load_state_dict(self, state):
        self.prototypes, self.best = state["prototypes"].clone(), state["best"]
        self.counts = np.array(state["counts"])


@pytest.mark.parametrize("done", [0, 3, 5, 8, 10, 14])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_method_with_every_hook_continues_to_the_bit_from_disk(
    toy_run, weights_of, same_bits, tmp_path, done, optimizer
):
    settings = {"optimizer": {"name": optimizer, "schedule": "plateau", "patience": 1}, "select": "validation"}
    run, other = toy_run(method=Everything(), **settings), toy_run(method=Everything(), **settings)
    if done:
        run.train([5, 11], done)
    save_state(tmp_path / "run", "checkpoint", run.snapshot())
    straight = run.train([5, 11], 20 - done)
    assert run.method.hooks == {"fit", "start", "end", "substeps", "backward", "expand", "order"}
    other.restore(load_state(tmp_path / "run", "checkpoint"))
    assert other.train([5, 11], 20 - done) == straight
    assert same_bits(weights_of(run), weights_of(other))
    assert same_bits(run.snapshot(), other.snapshot())
    assert run.evaluate() == other.evaluate()
    # Evaluating the selected model leaves the last one where it was.
    assert same_bits(run.snapshot(), other.snapshot())


def test_a_snapshot_does_not_move_with_the_run(toy_run, same_bits):
    run, other = toy_run(method=Everything()), toy_run(method=Everything())
    run.train([5, 11], 7)
    other.train([5, 11], 7)
    state = run.snapshot()
    run.train([5, 11], 13)
    run.evaluate()
    assert same_bits(state, other.snapshot())
    run.restore(state)
    run.train([5, 11], 13)
    assert same_bits(state, other.snapshot())


def test_a_run_is_the_same_however_it_is_cut(toy_run, weights_of, same_bits):
    one, other = toy_run(method=Everything()), toy_run(method=Everything())
    one.train([5, 11], 20)
    for k in (1, 6, 2, 8, 3):
        other.train([5, 11], k)
    assert same_bits(weights_of(one), weights_of(other))
    assert one.evaluate() == other.evaluate()
    assert one.progress.samples == other.progress.samples
    assert one.progress.gaps == pytest.approx(other.progress.gaps, abs=1e-6)


def test_a_method_is_refused_when_the_run_is_made(toy_run):
    with pytest.raises(ConfigError, match="'everything' needs a validation split"):
        toy_run(method=Everything(), validation=False)
    with pytest.raises(ConfigError, match="'everything' works on 2 to 2 modalities; this task has 3"):
        toy_run(3, method=Everything())
