"""The fake trainer: its bits, its regimes, and how far it is from the runs it was fitted to."""

import csv
import json
from importlib.resources import files
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dus_gym.agents import make_agent
from dus_gym.agents.loop import run_episode
from dus_gym.benchmarks import fit_fake
from dus_gym.envs.registration import FAKE_ID, ids
from dus_gym.errors import CheckpointError
from dus_gym.records import Interval, Probe
from dus_gym.state import load_state, save_state

FOLDER = Path(str(files("dus_gym.envs").joinpath("traces.csv")))


def make(env_id=FAKE_ID, **settings):
    return gym.make(f"dus_gym:{env_id}", trainer="fake", **settings)


def run_constant(env, share, seed=0):
    """Constant first share; the last observation and the test figures."""
    env.reset(seed=seed)
    ended = False
    while not ended:
        observation, _, ended, _, info = env.step(share)
    return observation, info, env.unwrapped.evaluate()


def final_rows():
    """The traces' last epochs under constant splits: (task, loss_norm, split) to test accuracies."""
    with FOLDER.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["first"] == r["second"]]
    last = {}
    for r in rows:
        last[r["task"], r["loss_norm"], tuple(float(v) for v in r["first"].split("/"))] = r
    return last


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    def trace(seed):
        env = make()
        env.reset(seed=seed)
        env.action_space.seed(1)
        return [env.step(env.action_space.sample()) for _ in range(20)]

    first, again, other = trace(3), trace(3), trace(4)
    for (a, ra, *_, ia), (b, rb, *_, ib) in zip(first, again, strict=True):
        assert a.tobytes() == b.tobytes()
        assert (ra, ia) == (rb, ib)
    assert first[-1][4] != other[-1][4]


def test_a_snapshot_taken_in_the_middle_continues_to_the_same_bits_from_disk(tmp_path):
    for steps, interval in ((7, None), (33, 5), (80, 7)):
        env = make(interval=interval, select="validation")
        env.reset(seed=5)
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(700)]
        for action in actions[:steps]:
            env.step(action)
        save_state(tmp_path / "state", "checkpoint", env.unwrapped.snapshot())

        def finish(env, rest):
            infos = []
            for action in rest:
                *_, ended, _, info = env.step(action)
                infos.append(info)
                if ended:
                    return infos, env.unwrapped.evaluate()
            raise AssertionError("the run did not end")

        expected = finish(env, actions[steps:])
        other = make(interval=interval, select="validation")
        other.unwrapped.restore(load_state(tmp_path / "state", "checkpoint"))
        # The wrappers have not seen a reset.
        assert finish(other.unwrapped, actions[steps:]) == expected


@pytest.mark.parametrize(
    "points", [{"0": 1, "1": 1}, [0], [0, 0, 0], [0, 10**6], [0, -1], [0, 1.5], [0, True], "01"], ids=str
)
@pytest.mark.parametrize("part", ["reached", "best"])
def test_a_damaged_point_of_the_curves_is_refused_and_changes_nothing(part, points):
    env = make(select="validation")
    env.reset(seed=5)
    for _ in range(30):
        env.step([0.5, 0.5])
    good = env.unwrapped.snapshot()
    bad = env.unwrapped.snapshot()
    damaged = bad["run"]["reached"] | {"points": points}
    bad["run"][part] = damaged if part == "reached" else {"value": 0.5, "epoch": 1, "reached": damaged}
    with pytest.raises(CheckpointError, match="is damaged"):
        env.unwrapped.restore(bad)
    env.unwrapped.restore(good)
    assert env.unwrapped.snapshot() == good


def test_intervals_that_do_not_divide_an_epoch_end_where_whole_epochs_do():
    whole, odd = make(), make(interval=5)
    share = np.array([0.3, 0.7], dtype=np.float32)
    _, a, x = run_constant(whole, share)
    _, b, y = run_constant(odd, share)
    assert (a["iterations"], a["samples/pixels"], a["epoch"]) == (b["iterations"], b["samples/pixels"], b["epoch"])
    # The same curve read at the same exposure; only the training scores' noise was drawn more often.
    assert x.fused["concat"].accuracy == pytest.approx(y.fused["concat"].accuracy, abs=1e-9)


@pytest.mark.parametrize("env_id", sorted(ids()))
def test_every_id_stays_inside_its_bounds_and_starts_at_chance(env_id):
    env = make(env_id, epochs=30)
    classes = env.unwrapped.task.num_classes
    observation, info = env.reset(seed=2)
    assert observation == pytest.approx(1.0 / classes, rel=0.1)
    assert len(set(observation.tolist())) == len(observation), "an untrained network's modalities never tie"
    env.action_space.seed(0)
    ended = False
    while not ended:
        observation, reward, ended, _, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert reward <= 0.0
        assert all(0.0 <= v <= 1.0 for k, v in info.items() if "score" in k or "accuracy" in k or "coverage" in k)
    found = env.unwrapped.evaluate()
    for scores in [*found.modalities.values(), *(s for s in found.fused.values() if s is not None)]:
        assert 1.0 / classes <= scores.accuracy <= 1.0
        assert 0.0 <= scores.map <= 1.0
        assert 0.0 <= scores.macro_f1 <= 1.0


def test_it_answers_in_the_shapes_and_types_of_the_real_trainer():
    def answers(trainer):
        env = gym.make("dus_gym:DUS-Digits-v0", trainer=trainer, epochs=2)
        env.reset(seed=0)
        run = env.unwrapped.run
        probe, interval = run.probe(), run.train([40, 88], run.iterations_per_epoch)
        run.train([40, 88], run.iterations_per_epoch)
        return probe, interval, run

    (probe, interval, run), (real_probe, real_interval, real_run) = answers("fake"), answers("real")
    assert isinstance(probe, Probe)
    assert isinstance(interval, Interval)
    for mine, theirs in ((probe.train, real_probe.train), (run.validation, real_run.validation)):
        for name in ("scores", "accuracies", "losses"):
            a, b = getattr(mine, name), getattr(theirs, name)
            assert [type(v) for v in a] == [type(v) for v in b]
        assert {k: type(v) for k, v in mine.fused.items()} == {k: type(v) for k, v in theirs.fused.items()}
    assert sum(n for _, n in interval.iteration_scores) == sum(n for _, n in real_interval.iteration_scores)
    assert interval.sizes == real_interval.sizes
    assert run.progress.samples == real_run.progress.samples
    assert run.epochs == real_run.epochs
    assert run.iterations_per_epoch == real_run.iterations_per_epoch
    assert set(run.evaluate().fused) == set(real_run.evaluate().fused)


def test_a_method_without_a_concat_head_reports_none():
    env = make(method="mla", epochs=3)
    _, info, found = run_constant(env, np.array([0.5, 0.5], dtype=np.float32))
    assert found.fused["concat"] is None
    assert found.fused["method"] == found.fused["entropy"]
    assert "val_fused/concat" not in info
    assert "train_fused" not in info


def test_selection_by_validation_takes_its_best_epoch():
    # Starving the modality that is worth learning from epoch 60 on makes the last epoch a bad one.
    env = make("DUS-DigitsControl-v0", select="validation", loss_norm="fixed", epochs=100)
    env.reset(seed=11)
    accuracies, ended = [], False
    while not ended:
        share = [0.5, 0.5] if len(accuracies) < 60 else [0.02, 0.98]
        *_, ended, _, info = env.step(np.array(share, dtype=np.float32))
        accuracies.append(info["val_fused/method"])
    best = env.unwrapped.run._best
    assert best["value"] == max(accuracies)
    assert best["epoch"] == 1 + int(np.argmax(accuracies)) < env.unwrapped.run.epochs


def test_selection_on_the_test_split_is_never_below_the_last_epoch():
    share = np.array([0.9, 0.1], dtype=np.float32)
    found = {select: run_constant(make(select=select), share, seed=11)[2] for select in ("last", "best_test")}
    assert found["best_test"].fused["method"].accuracy >= found["last"].fused["method"].accuracy


@pytest.mark.parametrize(
    ("env_id", "wins"), [("DUS-Digits-v0", True), ("DUS-DigitsControl-v0", False)], ids=["Digits", "DigitsControl"]
)
def test_balancing_wins_on_one_regime_and_loses_on_the_other(env_id, wins):
    def accuracy(share, predictor):
        env = make(env_id, loss_norm="fixed")
        return np.mean(
            [
                run_constant(env, np.array([share, 1 - share], dtype=np.float32), s)[2].fused[predictor].accuracy
                for s in range(20)
            ]
        )

    for predictor in ("concat", "sum"):
        gain = accuracy(0.1, predictor) - accuracy(0.5, predictor)
        assert (gain > 0.005) if wins else (gain < -0.01)


def test_the_fake_ends_where_the_real_runs_ended():
    rows = final_rows()
    assert len(rows) > 20
    errors = []
    for (task, loss_norm, split), row in rows.items():
        env = make(f"DUS-{task}-v0", loss_norm=loss_norm)
        found = [run_constant(env, np.array(split, dtype=np.float32), s)[2] for s in range(16)]
        for predictor in ("concat", "sum"):
            mean = np.mean([f.fused[predictor].accuracy for f in found])
            errors.append(100 * (mean - float(row[f"test_{predictor}"])))
    # Sixteen runs whose luck has a standard deviation near 1.2 points: a standard error of 0.3 at each split.
    assert np.sqrt(np.mean(np.square(errors))) < 0.8
    assert max(map(abs, errors)) < 2.0


def test_the_committed_curves_are_what_the_fit_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fit_fake", "--out", str(tmp_path / "curves.json")])
    fit_fake.main()
    committed = json.loads(FOLDER.with_name("fake_curves.json").read_text(encoding="utf-8"))
    written = json.loads((tmp_path / "curves.json").read_text(encoding="utf-8"))

    def flat(value, path=""):
        if isinstance(value, dict):
            for key, child in value.items():
                yield from flat(child, f"{path}/{key}")
        elif isinstance(value, list):
            for i, child in enumerate(value):
                yield from flat(child, f"{path}/{i}")
        else:
            yield path, value

    # Another linear-algebra build may round the last digit the other way.
    assert dict(flat(written)) == pytest.approx(dict(flat(committed)), abs=2e-3)
    assert "| Digits | mean |" in capsys.readouterr().out


def test_reinforce_learns_on_it():
    """A thousand steps are enough to raise Eq. 5's reward above uniform's."""
    env = make(epochs=1000)
    agent = make_agent("reinforce", 2, seed=0, options={"preset": "tuned"})
    episode = run_episode(env, agent, seed=0)
    assert np.mean(episode.rewards[-200:]) > 0.5 * np.log(0.5) + 0.05
