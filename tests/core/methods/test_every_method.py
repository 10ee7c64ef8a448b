"""What all methods promise alike: each is one of its own, continues to the bit, trains, and leaves no sample out."""

import copy
from itertools import combinations

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dus_gym.errors import ConfigError
from dus_gym.methods import METHODS, make_method, method_class, unpaired_methods
from dus_gym.state import load_state, save_state

IDS = {2: "DUS-Digits-v0", 3: "DUS-Digits3-v0"}
EARLY = {
    "di_mml": {"transfer_start": 0.2, "fusion": 0.4},
    "mslr": {"window": 1},
    "opm": {"start_epoch": 1},
    "pmr": {"momentum": 0.5, "prototype_fraction": 0.5},
    "reconboost": {"pretraining": 0.2},
    "smv": {"masking": "inputs", "warm_up": 0.2},
}
"""Options with which a run of few epochs reaches everything that a method does."""
MODALITIES = [2, pytest.param(3, marks=pytest.mark.slow)]


def environment(m, method, **settings):
    return gym.make(f"dus_gym:{IDS[m]}", method=method, **settings).unwrapped


def actions(method, m, count):
    """Any shares where the method allows them, equal ones where not."""
    if not method_class(method).supports_unpaired:
        return [np.full(m, 1.0 / m)] * count
    return list(np.random.default_rng(3).dirichlet([4.0] * m, size=count))


def play(env, shares):
    """Everything an environment says until its end."""
    told = []
    for action in shares:
        observation, reward, ended, _, info = env.step(action)
        told.append((observation.tolist(), reward, info))
        if ended:
            break
    return told, env.evaluate()


# -- each is one of its own --------------------------------------------------------------------------


def outcome(method):
    env = environment(2, method, epochs=20)
    env.reset(seed=0)
    told, found = play(env, actions("joint", 2, 20))
    return [info["loss"] for _, _, info in told], env.run.validate(), found


def test_no_method_is_another_by_another_name():
    outcomes = {method: outcome(method) for method in METHODS}
    for one, other in combinations(outcomes, 2):
        for mine, theirs in zip(outcomes[one], outcomes[other], strict=True):
            assert mine != theirs, (one, other)


# -- snapshot, fork and resume -----------------------------------------------------------------------


def steps_of_phases(env, shares):
    """The steps of a run by the phase that they train, in order; the run is played to its end."""
    found = []
    for i, action in enumerate(shares):
        env.step(action)
        if i == 0 or env.run.phase is not found[-1][0]:
            found.append((env.run.phase, []))
        found[-1][1].append(i)
    return [steps for _, steps in found]


@pytest.mark.parametrize("m", MODALITIES)
@pytest.mark.parametrize("method", METHODS)
def test_runs_continue_to_the_bit_from_the_middle_of_every_phase(tmp_path, same_bits, method, m):
    settings = {"method_options": EARLY.get(method), "epochs": 5, "iterations": 4, "interval": 2}
    env = environment(m, method, **settings)
    env.reset(seed=5)
    shares = actions(method, m, 10)
    scout = environment(m, method, **settings)
    scout.reset(seed=5)
    # An epoch has two steps: after its first one, a phase is under way and so is its epoch.
    cuts = {steps[len(steps) // 4 * 2] + 1 for steps in steps_of_phases(scout, shares)}
    # In the second epoch, too, when copies, stops and weights of the one before count.
    cuts.add(3)
    forks, at = {}, 0
    for cut in sorted(cuts):
        for action in shares[at:cut]:
            env.step(action)
        at = cut
        save_state(tmp_path / str(cut), "checkpoint", env.snapshot())
        forks[cut] = env.fork()
    expected = play(env, shares[at:])
    for cut, fork in forks.items():
        fresh = environment(m, method, **settings)
        fresh.restore(load_state(tmp_path / str(cut), "checkpoint"))
        for other in (fork, fresh):
            told, found = play(other, shares[cut:])
            assert (told[at - cut :], found) == expected
            assert same_bits(other.snapshot(), env.snapshot())


VARIANTS = [
    ("agm", {"fusion_hidden": 6}),
    ("agm", {"scale_via": "lr", "end_epoch": 1}),
    ("di_mml", {"transfer_start": 0.25, "fusion": 0.25}),
    ("domfn", {"tau": 0.05}),
    ("mmpareto", {"magnitude": "encoder"}),
    ("mslr", {"window": 2}),
    ("mslr", {"strategy": "keep", "rates": [0.9, 1.4, 0.7]}),
    ("ogm", {"scale_via": "lr"}),
    ("ogm_ge", {"ratio": "weakest", "end_epoch": 1}),
    ("ogr_gb", {"super_epoch": 0.5}),
    ("opm", {"start_epoch": 1, "end_epoch": 2}),
    ("pmr", {"momentum": 0.5, "prototype_fraction": 0.3, "entropy_weight": 0.1}),
    ("reconboost", {"pretraining": 0.2}),
    ("smv", {"level": "modality"}),
    ("umt", {"teacher": 0.3}),
    ("relearning", {"period": 0.4, "times": 1}),
    ("aug", {"lag": 1.0, "period": 0.2}),
    ("bss", {"scheduler": "heuristic", "growth": 0.6}),
]
"""Options under which a method keeps something else, or comes by it in another way."""


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_snapshot_and_fork_continue_to_the_bit_whatever_the_options(toy_run, same_bits, method, options):
    def fresh():
        return toy_run(3, method=method, method_options=options, epochs=5, select="validation")

    sizes = [5, 11, 7] if method in unpaired_methods() else [8, 8, 8]
    # Cuts in the first and in later epochs, at their ends and in between.
    run, pieces, others = fresh(), (3, 2, 2, 5, 3, 7, 3), []
    for i, piece in enumerate(pieces):
        restored = fresh()
        restored.restore(copy.deepcopy(run.snapshot()))
        others += [(i, restored), (i, run.fork())]
        run.train(sizes, piece)
    for i, other in others:
        for piece in pieces[i:]:
            other.train(sizes, piece)
        assert same_bits(run.snapshot(), other.snapshot())
        assert run.evaluate() == other.evaluate()


# -- training ----------------------------------------------------------------------------------------


def trains(method, m, seed, epochs):
    env = environment(m, method, epochs=epochs)
    env.reset(seed=seed)
    before = env.run.validate().fused["method"]
    told, found = play(env, actions(method, m, epochs))
    assert not any(info["diverged"] for _, _, info in told)
    assert len(told) == epochs
    assert env.run.validate().fused["method"] > before + 0.1
    # Ten classes.
    assert found.fused["method"].accuracy > 0.3
    assert env.method_options == {}


@pytest.mark.parametrize("m", IDS)
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_without_divergence(method, m):
    trains(method, m, 0, 30)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_without_divergence_on_five_seeds(method):
    # 40 epochs reach every phase, and the ones after the learning rate has fallen.
    for m in IDS:
        for seed in range(5):
            trains(method, m, seed, 40)


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_in_mixed_precision(method):
    env = environment(2, method, method_options=EARLY.get(method), epochs=6, amp=True)
    env.reset(seed=0)
    told, found = play(env, actions(method, 2, 6))
    assert not any(info["diverged"] for _, _, info in told)
    assert all(np.isfinite(info["loss"]) for _, _, info in told)
    assert found.fused["method"].accuracy > 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("m", IDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_trains_it_and_continues_to_the_bit(tmp_path, same_bits, method, m):
    settings = {"method_options": EARLY.get(method), "epochs": 6, "interval": 4, "device": "cuda"}
    env = environment(m, method, **settings)
    env.reset(seed=0)
    shares = actions(method, m, 9)
    for action in shares[:4]:
        env.step(action)
    save_state(tmp_path / "run", "checkpoint", env.snapshot())
    expected = play(env, shares[4:])
    fresh = environment(m, method, **settings)
    fresh.restore(load_state(tmp_path / "run", "checkpoint"))
    assert all(parameter.is_cuda for parameter in fresh.run.model.parameters())
    assert play(fresh, shares[4:]) == expected
    assert same_bits(fresh.snapshot(), env.snapshot())
    assert not any(info["diverged"] for _, _, info in expected[0])


# -- the plateau schedule ----------------------------------------------------------------------------


def starts_of_terms(run):
    """The epochs (from 0) in which a phase or a term of the loss begins, or parameters were put back."""
    by_method = {
        "di_mml": [round(0.12 * run.epochs)],
        "opm": [6],
        "pmr": [0, 31],
        "smv": [round(0.08 * run.epochs)],
        "aug": [1, *range(10, 100, 10)],
        "relearning": [round(0.22 * run.epochs) * k for k in (1, 2, 3)],
        "mses": [int(epoch) for epoch in run.logged.values()],
    }
    phases = run.method.phases(run.epochs, run.modalities)
    ends = [round(sum(phase.fraction for phase in phases[: i + 1]) * run.epochs) for i in range(len(phases))]
    return [0, *ends[:-1], *by_method.get(run.method.name, [])]


@pytest.mark.parametrize("method", METHODS)
def test_the_plateau_schedule_waits_out_every_start_of_a_phase_or_term(digits_run, method):
    patience = 3
    run = digits_run(
        method=method,
        method_options={"pmr": {"end_epoch": 30}, "reconboost": {"stage": 0.4}}.get(method),
        optimizer={"lr": 0.05, "schedule": "plateau", "patience": patience},
        epochs=100,
        iterations=3,
    )
    run.train([run.base_batch] * 2, 300)
    falls = run.progress.rate_falls
    for start in starts_of_terms(run):
        assert not [fall for fall in falls if start < fall <= start + patience], (start, falls)
    # Three iterations an epoch are noisy enough for the loss to rise now and then.
    assert falls


def test_the_plateau_schedule_leaves_di_mml_and_pmr_a_rate_to_learn_with(digits_run):
    for method in ("di_mml", "pmr"):
        run = digits_run(method=method, optimizer={"lr": 0.01, "schedule": "plateau"}, epochs=100)
        run.train([run.base_batch] * 2, 100 * run.iterations_per_epoch)
        # Watching the sum of losses, both fell every ten epochs, 7 and 8 times.
        assert len(run.progress.rate_falls) <= 1
        assert run.evaluate().fused["method"].accuracy > 0.7


def test_falls_of_the_step_schedule_are_told_too(toy_run):
    run = toy_run(optimizer={"schedule": "step", "milestone": 0.5})
    run.train([8, 8], 10)
    assert run.progress.rate_falls == []
    run.train([8, 8], 10)
    assert run.progress.rate_falls == [2]


def test_a_schedule_watches_the_cross_entropy_of_the_fused_logits_or_else_of_the_modalities(toy_run):
    for method, weights in (("baseline", {"fused_weight": 0.5}), ("unimodal", {})):
        run = toy_run(method=method, method_options=weights, optimizer={"schedule": "plateau"}, iterations=1)
        split = run._train_split
        drawn = run.fork()._samplers[0].draw([40, 20], 1)[0][0]
        h = [run.model.encode(j, split.inputs[j][drawn[:n]]) for j, n in enumerate((40, 20))]
        if method == "baseline":
            logits = run.model.fused([h[0][:20], h[1]])
            expected = F.cross_entropy(logits, split.labels[drawn[:20]]).item()
        else:
            own = [F.cross_entropy(run.model.unimodal(j, x), split.labels[drawn[: len(x)]]) for j, x in enumerate(h)]
            expected = sum(own).item() / 2
        run.train([40, 20], 1)
        assert run.snapshot()["schedules"][0]["best"] == pytest.approx(expected, rel=1e-5)


# -- who needs pairs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("m", MODALITIES)
@pytest.mark.parametrize("method", METHODS)
def test_unequal_sizes_are_refused_where_pairs_are_needed_and_trained_where_not(method, m):
    env = environment(m, method, epochs=5, iterations=2)
    env.reset(seed=0)
    uneven = np.array([0.4, 0.6] if m == 2 else [0.2, 0.3, 0.5])
    if method in unpaired_methods():
        assert env.step(uneven)[4][f"size/{env.modalities[-1]}"] >= env.step(uneven)[4][f"size/{env.modalities[0]}"]
        return
    before = copy.deepcopy(env.snapshot()["run"]["progress"])
    with pytest.raises(ConfigError, match="gives unequal sizes") as refused:
        env.step(uneven)
    assert f"method={method!r}" in str(refused.value)
    for works in unpaired_methods():
        assert works in str(refused.value)
    # Nothing was trained, and the run goes on.
    assert env.snapshot()["run"]["progress"] == before
    assert not env.step(np.full(m, 1.0 / m))[4]["diverged"]


def test_a_total_that_can_not_be_shared_equally_is_refused_where_pairs_are_needed_when_the_environment_is_made():
    for m, total, next_total in ((2, 65, 66), (3, 127, 129)):
        for method in METHODS:
            if method in unpaired_methods():
                environment(m, method, total_batch=total)
                continue
            environment(m, method, total_batch=total, action_mode="fractions")
            with pytest.raises(ConfigError, match=f"total_batch={total}.*use total_batch={next_total}, or one of"):
                environment(m, method, total_batch=total)
            env = environment(m, method, total_batch=next_total, epochs=5, iterations=2)
            env.reset(seed=0)
            sizes = {value for key, value in env.step(np.full(m, 1.0 / m))[4].items() if key.startswith("size/")}
            assert sizes == {next_total // m}


# -- waiting for the device --------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for an accelerator: single values, and results whose size is a value."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.count = 0
        # A transfer between a device and itself is nothing to the dispatcher.
        for name in ("tolist", "numpy", "cpu"):
            monkeypatch.setattr(torch.Tensor, name, self._counting(getattr(torch.Tensor, name)))

    def _counting(self, original):
        def called(*arguments, **options):
            self.count += 1
            return original(*arguments, **options)

        return called

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        masks = [entry for row in arguments if isinstance(row, list | tuple) for entry in row]
        masked = name.startswith("index") and any(getattr(entry, "dtype", None) == torch.bool for entry in masks)
        if masked or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"):
            self.count += 1
        return function(*arguments, **options or {})


def test_the_counter_sees_whoever_waits(monkeypatch):
    x = torch.ones(3)
    for wait in (
        lambda: x[0].item(),
        lambda: x.tolist(),
        lambda: x.numpy(),
        lambda: x.cpu(),
        lambda: x.nonzero(),
        lambda: bool(x.sum() > 1),
        lambda: x[x > 0],
        lambda: float(x[0]),
    ):
        with monkeypatch.context() as patch, Waits(patch) as waits:
            wait()
        assert waits.count, wait
    with monkeypatch.context() as patch, Waits(patch) as waits:
        torch.where(x > 0, x, 0.0).sum()
    assert not waits.count


BY_LEARNING_RATE = [(method, {"scale_via": "lr"}) for method in ("ogm", "ogm_ge", "agm")]


@pytest.mark.parametrize(
    ("method", "options"),
    [*((method, EARLY.get(method, {})) for method in METHODS), ("agm", {"fusion_hidden": 8}), *BY_LEARNING_RATE],
)
def test_no_iteration_waits_for_the_device(method, options, monkeypatch):
    env = environment(2, method, method_options=options, epochs=5, iterations=20)
    env.reset(seed=0)
    run, found = env.run, []
    for _ in range(5):
        # Hooks between epochs may wait; more iterations in the midst of one must not make more waits.
        run.train([64, 64], 1)
        for iterations in (2, 12):
            with monkeypatch.context() as patch, Waits(patch) as waits:
                run.train([64, 64], iterations)
            found.append(waits.count)
        run.train([64, 64], 5)
    few, many = set(found[::2]), set(found[1::2])
    more = 10 if (method, options) in BY_LEARNING_RATE else 0
    assert {count + more for count in few} == many, (few, many)


# -- evaluation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_is_of_every_sample_once(method):
    for m in IDS:
        env = environment(m, method, epochs=5, iterations=2)
        env.reset(seed=0)
        play(env, actions(method, m, 5))
        run = env.run
        for split, n in ((run._train_split, 400), (run._validation_split, 100), (run._test_split, 797)):
            found = run._evaluator.predict(split)
            assert found.unimodal.shape == (m, n, 10)
            assert found.labels.equal(split.labels)
            assert all(logits.shape == (n, 10) for logits in found.fused.values() if logits is not None)
        # A metric over 797 samples is a whole number of 797ths.
        hits = run.evaluate().fused["method"].accuracy * 797
        assert hits == pytest.approx(round(hits), abs=1e-6)


# -- what no method takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_task_it_can_not_train_is_refused_when_the_run_is_made(toy_run, method):
    with pytest.raises(ConfigError, match=f"method={method!r} works on at least 2 modalities; this task has 1"):
        toy_run(1, method=method)
    if method_class(method).needs_validation:
        with pytest.raises(ConfigError, match=f"{method!r} needs a validation split.*choose a task with one"):
            toy_run(method=method, validation=False)
    else:
        assert not toy_run(method=method, validation=False, epochs=5).train([8, 8], 25).diverged


def test_too_many_modalities_are_refused_when_the_environment_is_made(monkeypatch):
    monkeypatch.setattr(method_class("joint"), "max_modalities", 2)
    environment(2, "joint")
    for trainer in ("real", "fake"):
        with pytest.raises(ConfigError, match="method='joint' works on 2 to 2 modalities; this task has 3"):
            environment(3, "joint", trainer=trainer)
    with pytest.raises(ConfigError, match="it needs 3 entries"):
        environment(3, "mslr", method_options={"rates": (0.9, 1.1)})


@pytest.mark.parametrize("method", METHODS)
def test_an_option_it_has_not_is_refused_when_the_environment_is_made(method):
    with pytest.raises(ConfigError, match=f"method '{method}'.*'strengt'"):
        environment(2, method, method_options={"strengt": 1.0})
    assert make_method(method).options == method_class(method).options_type()


def test_without_pairs_the_methods_that_work_are_named(toy_run):
    for method in METHODS:
        if method_class(method).supports_independent:
            assert not toy_run(method=method, pairing="independent", epochs=1).train([5, 11], 5).diverged
            continue
        with pytest.raises(ConfigError, match="pairing='prefix', or one of") as refused:
            toy_run(method=method, pairing="independent")
        for works in ("unimodal", "baseline", "ogr_gb", "mses", "mla"):
            assert works in str(refused.value)
