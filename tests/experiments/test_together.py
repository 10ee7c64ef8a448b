"""Runs that train as one computation: the same as one by one, resumed after a kill, one failing, one diverging."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from dus_gym.agents.base import Agent
from dus_gym.errors import AgentError, ConfigError, DusError, RunWriteError, TooManyRunsError
from dus_gym.experiments import run_many, together
from dus_gym.experiments.executors.executor import Here, ScaleOptions
from dus_gym.experiments.run import execute
from dus_gym.experiments.run_many import PlannedRun, RunsFailedError, Task, perform, run_all
from dus_gym.experiments.spec import make_spec
from dus_gym.experiments.storage.run_folder import TOGETHER, RunFolder, read_result
from dus_gym.state import load_state, save_state


def planned(folder, seeds=range(4), agent="holdout", **settings):
    spec = make_spec("DUS-Digits-v0", agent, **({"epochs": 4, "loss_norm": "fixed"} | settings))
    return [PlannedRun(dataclasses.replace(spec, seed=seed), folder / f"seed{seed}") for seed in seeds]


def check_alike(one, other):
    """Equal but for rounding in another order, over a few epochs."""
    assert one.samples == pytest.approx(other.samples, rel=0.01)
    assert one.accuracy == pytest.approx(other.accuracy, abs=0.01)
    assert one.gap == pytest.approx(other.gap, abs=2e-3)
    assert one.modalities.keys() == other.modalities.keys()


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        ("uniform", {}),
        ("holdout", {"select": "validation"}),
        ("reinforce", {"method": "mla"}),
        ("heuristic", {"eval_every": 3}),
        ("pi", {"interval": 3}),
        ("gain", {}),
        ("best-fixed", {}),
        ("lr-matched", {}),
        ("lr-matched:match=best-fixed", {"method": "unimodal"}),
        ("lookahead", {}),
    ],
)
def test_together_is_like_one_by_one(tmp_path, agent, settings):
    runs = planned(tmp_path, agent=agent, **settings)
    alone = [execute(run.spec) for run in runs]
    found = run_all(runs, Here(), parallel_runs="4")
    for one, other, run in zip(found, alone, runs, strict=True):
        assert one.together == (0, 1, 2, 3)
        assert other.together == ()
        assert one.settings == other.settings
        check_alike(one, other)
        assert one.folder == run.folder
        steps = [json.loads(line) for line in (run.folder / "steps.jsonl").read_text().splitlines()]
        assert len(steps) == (4 if "interval" not in settings else 8)
        assert not (run.folder / TOGETHER).exists()


def test_the_same_runs_together_have_the_same_bits(tmp_path):
    for name in ("one", "other"):
        run_all(planned(tmp_path / name), Here(), parallel_runs="auto")
    for seed in range(4):
        one, other = ((tmp_path / name / f"seed{seed}/steps.jsonl").read_bytes() for name in ("one", "other"))
        assert one == other


@pytest.mark.parametrize("method", ["baseline", "mses", "ogm_ge", "smv", "pmr", "di_mml", "reconboost"])
def test_runs_that_were_killed_go_on_to_the_same_bits(tmp_path, monkeypatch, method):
    monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", 0.0)
    agent = "uniform" if method in ("ogm_ge", "smv", "reconboost") else "reinforce"
    settings = {"agent": agent, "method": method, "epochs": 8, "select": "validation"}
    whole = run_all(planned(tmp_path / "whole", **settings), Here(), parallel_runs="4")
    real, seen = together._Together.step, []

    def stop_at_the_sixth(going):
        if len(seen) == 5:
            seen.append("killed")
            # Written after the last checkpoint, and made again.
            going.folders[1].add_step(dict(going.records[1][-1], step=6))
            raise KeyboardInterrupt
        seen.append("step")
        real(going)

    monkeypatch.setattr(together._Together, "step", stop_at_the_sixth)
    stopped = planned(tmp_path / "stopped", **settings)
    with pytest.raises(KeyboardInterrupt):
        run_all(stopped, Here(), parallel_runs="4")
    assert (stopped[0].folder / TOGETHER).is_file()
    resumed = run_all(stopped, Here(), parallel_runs="4")
    assert seen == ["step"] * 5 + ["killed"] + ["step"] * 3
    for one, other in zip(whole, resumed, strict=True):
        assert one.fused == other.fused
        assert one.modalities == other.modalities
        assert (one.folder / "steps.jsonl").read_bytes() == (other.folder / "steps.jsonl").read_bytes()


def test_a_finished_run_among_others_is_not_trained_again_and_a_missing_one_is(tmp_path, monkeypatch):
    runs = planned(tmp_path)
    first = run_all(runs, Here(), parallel_runs="2")
    monkeypatch.setattr(run_many, "execute_together", lambda *_: pytest.fail("all are finished"))
    assert run_all(runs, Here(), parallel_runs="2") == first
    monkeypatch.undo()
    kept = lines(runs)
    (runs[1].folder / "summary.json").unlink()
    again = run_all(runs, Here(), parallel_runs="2")
    check_alike(again[1], first[1])
    assert (again[0], *again[2:]) == (first[0], *first[2:])
    assert again[1].together == ()
    assert [a == b for a, b in zip(lines(runs), kept, strict=True)][0::2] == [True, True]


class Late(Agent):
    """An agent that fails in the third step of the run of seed 2."""

    name = "late"
    step = 0
    mine = False

    def begin(self):
        self.step = 0
        self.mine = int(self.rng.bit_generator.state["state"]["state"]) == int(
            np.random.default_rng(np.random.SeedSequence([2, 2])).bit_generator.state["state"]["state"]
        )

    def act(self, observation, info, *, deterministic=False):
        self.step += 1
        if self.mine and self.step == 3:
            raise AgentError("agent='late' has no answer in its third step.")
        return self.uniform_action()


def test_an_agent_that_fails_takes_nothing_from_the_others(tmp_path):
    runs = planned(tmp_path, agent=Late(2))
    with pytest.raises(AgentError, match="no answer in its third step"):
        run_all(runs, Here(), parallel_runs="4")
    kept = [(run.folder / "summary.json").is_file() for run in runs]
    assert kept == [True, True, False, True]
    check_alike(read_result(runs[3].folder), execute(planned(tmp_path, seeds=[3], agent="uniform")[0].spec))


def test_a_run_that_diverges_ends_and_the_others_go_on(tmp_path, monkeypatch):
    import torch

    real = together._Together.step

    def spoil(going):
        if len(going.records[0]) == 2:
            with torch.no_grad():
                going.episodes.group.runs.model.fused_head.bias[1] = torch.inf
        real(going)

    undisturbed = run_all(planned(tmp_path / "undisturbed", agent="uniform"), Here(), parallel_runs="4")
    monkeypatch.setattr(together._Together, "step", spoil)
    runs = planned(tmp_path / "spoilt", agent="uniform")
    found = run_all(runs, Here(), parallel_runs="4")
    assert [result.diverged for result in found] == [False, True, False, False]
    assert [found[r].fused for r in (0, 2, 3)] == [undisturbed[r].fused for r in (0, 2, 3)]
    assert found[1].iterations == 18
    assert found[0].iterations == 24
    lines = [len((run.folder / "steps.jsonl").read_text().splitlines()) for run in runs]
    assert lines == [4, 3, 4, 4]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"trainer": "fake"}, "curves take no time"),
        ({"agent": "a2c", "agent_options": {"runs": 1}}, "its prior runs go one by one"),
    ],
)
def test_what_goes_one_by_one_by_itself(tmp_path, monkeypatch, settings, why):
    monkeypatch.setattr(run_many, "execute_together", lambda *_: pytest.fail(why))
    found = run_all(planned(tmp_path, seeds=range(2), **{"epochs": 2} | settings), Here(), parallel_runs="auto")
    assert [result.together for result in found] == [(), ()]


def test_parallel_runs_is_a_number_or_auto():
    for bad in ("0", "-1", "many", "1.5"):
        with pytest.raises(ConfigError, match=f"parallel_runs='{bad}' is not allowed; give auto, or a whole number"):
            ScaleOptions(parallel_runs=bad)


def test_several_failures_are_one_error(tmp_path):
    class Never(Late):
        def act(self, observation, info, *, deterministic=False):
            raise AgentError("agent='never' never answers.")

    with pytest.raises(RunsFailedError, match="4 of 4 runs failed"):
        run_all(planned(tmp_path, agent=Never(2)), Here(), parallel_runs="4")


@pytest.mark.parametrize(("asked", "groups"), [("auto", [(0, 1), (2, 3)]), ("4", None)])
def test_memory_decides_how_many_train_together_unless_somebody_says_so(tmp_path, monkeypatch, asked, groups):
    from dus_gym.envs import vector_env

    monkeypatch.setattr(vector_env, "available_memory", lambda device: 4 * 2**20)
    if groups is None:
        with pytest.raises(TooManyRunsError, match="2 would fit"):
            run_all(planned(tmp_path, epochs=1), Here(), parallel_runs=asked)
        return
    found = run_all(planned(tmp_path, epochs=1), Here(), parallel_runs=asked)
    assert [result.together for result in found] == [group for group in groups for _ in group]


def kill_at(monkeypatch, step):
    """Stop after so many steps of whatever trains next."""
    real, seen = together._Together.step, []

    def stop(going):
        if len(seen) == step:
            monkeypatch.undo()
            monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", 0.0)
            raise KeyboardInterrupt
        seen.append(1)
        real(going)

    monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(together._Together, "step", stop)


def lines(runs):
    return [(run.folder / "steps.jsonl").read_bytes() for run in runs]


@pytest.mark.parametrize("killed_at", [1, 3])
def test_another_number_at_the_resume_ends_what_was_begun_and_leaves_what_is_finished(tmp_path, monkeypatch, killed_at):
    whole = planned(tmp_path / "whole")
    run_all(whole, Here(), parallel_runs="2")
    runs = planned(tmp_path / "runs")
    first = run_all(runs[:2], Here(), parallel_runs="2")
    kill_at(monkeypatch, killed_at)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="2")
    kill_at(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="4")
    found = run_all(runs, Here(), parallel_runs="1")
    assert [result.together for result in found] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert found[:2] == first
    assert lines(runs) == lines(whole)
    assert not list(tmp_path.rglob(TOGETHER))


def test_a_kill_after_memory_split_a_group_loses_nothing(tmp_path, monkeypatch):
    from dus_gym.envs import vector_env

    room = lambda device: 4 * 2**20  # noqa: E731
    monkeypatch.setattr(vector_env, "available_memory", room)
    whole = planned(tmp_path / "whole")
    run_all(whole, Here(), parallel_runs="auto")
    runs = planned(tmp_path / "runs")
    kill_at(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="auto")
    monkeypatch.setattr(vector_env, "available_memory", room)
    found = run_all(runs, Here(), parallel_runs="auto")
    assert [result.together for result in found] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert lines(runs) == lines(whole)


def test_best_fixed_needs_no_more_memory_than_the_runs_that_count(tmp_path, monkeypatch):
    from dus_gym.envs import vector_env

    monkeypatch.setattr(vector_env, "available_memory", lambda device: 4 * 2**20)
    found = run_all(planned(tmp_path, agent="best-fixed", epochs=2), Here(), parallel_runs="auto")
    assert [result.together for result in found] == [(0, 1), (0, 1), (2, 3), (2, 3)]


@pytest.mark.parametrize("settings", [{"trainer": "fake"}, {"agent": "a2c", "agent_options": {"runs": 1}}])
def test_a_number_does_not_make_runs_train_together_that_can_not(tmp_path, settings):
    runs = planned(tmp_path, seeds=range(2), **{"epochs": 2} | settings)
    found = run_all(runs, Here(), parallel_runs="2")
    alone = [execute(run.spec) for run in runs]
    assert [result.together for result in found] == [(), ()]
    assert [result.fused for result in found] == [result.fused for result in alone]
    assert [result.training_runs for result in found] == [result.training_runs for result in alone]


class Greedy(Late):
    """An agent that asks for more than there is, under one seed."""

    action_mode = "fractions"

    def act(self, observation, info, *, deterministic=False):
        return np.array([2.0, 1.0]) if self.mine else self.uniform_action()


def test_an_action_that_is_refused_ends_its_own_run_and_a_resume_trains_that_alone(tmp_path):
    runs, kept = planned(tmp_path, agent=Greedy(2)), []
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"fractions lie in \[0, 1\]"):
            run_all(runs, Here(), parallel_runs="4")
        results = [read_result(run.folder) for run in runs]
        assert [result is None for result in results] == [False, False, True, False]
        assert results[0].together == (0, 1, 2, 3)
        kept.append([of for of, result in zip(lines(runs), results, strict=True) if result is not None])
    assert kept[0] == kept[1]


def test_mixed_precision_is_that_of_one_run(tmp_path):
    runs = planned(tmp_path, agent="uniform", amp=True, epochs=1, interval=1)
    run_all(runs, Here(), parallel_runs="4")
    for run, together_lines in zip(runs, lines(runs), strict=True):
        alone = []
        execute(run.spec, on_step=lambda core, record, alone=alone: alone.append(record["loss"]))
        found = [json.loads(line)["loss"] for line in together_lines.splitlines()]
        # bfloat16 has three digits, and rounds another order of sums another way; the loss itself is float32.
        assert found == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("prepared",), []),
        (("steps",), [2.5, 2, 2, 2]),
        (("steps",), [2]),
        (("seconds",), "long"),
        (("episodes", "active"), [7]),
        (("episodes", "active"), [0, 0, 1]),
        (("episodes", "active"), [-1]),
        (("episodes", "agent_seconds"), [0.0]),
        (("episodes", "agents"), [{}]),
        (("episodes", "group", "score"), [[1.0]]),
        (("episodes", "group", "runs", "ended"), [False]),
        (("episodes", "group", "runs", "iterations"), None),
        (("kind",), None),
        (("seeds",), ["a"]),
    ],
)
def test_a_checkpoint_of_another_form_is_refused_and_says_which(tmp_path, monkeypatch, path, value):
    runs = planned(tmp_path)
    kill_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="4")
    file = runs[0].folder / TOGETHER
    state = load_state(file, "checkpoint")
    part = state
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    save_state(file, "checkpoint", state)
    with pytest.raises(DusError, match=r"damaged|can't be loaded"):
        run_all(runs, Here(), parallel_runs="4")


@pytest.mark.parametrize("saved", [0, 1, 3])
def test_a_kill_between_the_last_step_and_the_last_summary_loses_nothing(tmp_path, monkeypatch, saved):
    monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", 0.0)
    whole = run_all(planned(tmp_path / "whole"), Here(), parallel_runs="4")
    real, seen = RunFolder.save_result, []

    def stop(folder, result):
        if len(seen) == saved:
            raise KeyboardInterrupt
        seen.append(1)
        real(folder, result)

    monkeypatch.setattr(RunFolder, "save_result", stop)
    runs = planned(tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="4")
    monkeypatch.setattr(RunFolder, "save_result", real)
    kept = [(run.folder / "summary.json").read_bytes() for run in runs[:saved]]
    found = run_all(runs, Here(), parallel_runs="1")
    assert [result.fused for result in found] == [result.fused for result in whole]
    assert lines(runs) == [(run.folder / "steps.jsonl").read_bytes() for run in planned(tmp_path / "whole")]
    assert [(run.folder / "summary.json").read_bytes() for run in runs[:saved]] == kept
    assert not list(tmp_path.rglob(TOGETHER))


class Mute(Late):
    """An agent that never answers under one seed."""

    def act(self, observation, info, *, deterministic=False):
        if self.mine:
            raise AgentError("agent='mute' has no answer.")
        return self.uniform_action()


def test_a_kill_after_one_agent_failed_loses_nothing(tmp_path, monkeypatch):
    runs = planned(tmp_path, agent=Mute(2))
    kill_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="4")
    with pytest.raises(DusError, match="no answer"):
        run_all(runs, Here(), parallel_runs="4")
    assert [(run.folder / "summary.json").is_file() for run in runs] == [True, True, False, True]


def test_a_member_that_was_deleted_is_made_again_with_the_others(tmp_path, monkeypatch):
    whole = planned(tmp_path / "whole")
    run_all(whole, Here(), parallel_runs="4")
    runs = planned(tmp_path / "runs")
    kill_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="4")
    shutil.rmtree(runs[2].folder)
    run_all(runs, Here(), parallel_runs="4")
    assert lines(runs) == lines(whole)


def test_words_that_ask_for_the_same_go_on_with_the_same_checkpoint(tmp_path, monkeypatch):
    """A default that is said, and another place of the files, are the same run."""
    runs = planned(tmp_path)
    kill_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Here(), parallel_runs="4")
    real, steps = together._Together.step, []
    monkeypatch.setattr(together._Together, "step", lambda going: (steps.append(1), real(going)))
    run_all(planned(tmp_path, lever="samples", data_root="elsewhere"), Here(), parallel_runs="4")
    assert len(steps) == 1


def test_a_worker_that_was_lost_is_taken_up_where_it_was(tmp_path, monkeypatch):
    from dus_gym.envs import vector_env

    room = [lambda device: 4 * 2**20]
    monkeypatch.setattr(vector_env, "available_memory", lambda device: room[0](device))
    whole = planned(tmp_path / "whole")
    run_all(whole, Here(), parallel_runs="auto")
    runs = planned(tmp_path / "runs")
    for run in runs:
        run.folder.mkdir(parents=True)
    task = Task(tuple(runs), may_split=True)
    kill_at(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        perform(task, again=False)
    room[0] = lambda device: None
    monkeypatch.setattr(vector_env, "available_memory", lambda device: room[0](device))
    found = perform(task, again=True)
    assert [result.together for result in found] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert lines(runs) == lines(whole)
    assert not list(tmp_path.rglob(TOGETHER))
    monkeypatch.setattr(run_many, "execute_together", lambda *_: pytest.fail("all are finished"))
    assert [result.fused for result in perform(task, again=True)] == [result.fused for result in found]


class Shy(Late):
    """An agent that can't begin under one seed."""

    def begin(self):
        super().begin()
        if self.mine:
            raise AgentError("agent='shy' does not begin.")


def test_an_agent_that_can_not_begin_or_be_kept_takes_nothing_from_the_others(tmp_path, monkeypatch):
    runs = planned(tmp_path / "shy", agent=Shy(2))
    with pytest.raises(AgentError, match="does not begin"):
        run_all(runs, Here(), parallel_runs="4")
    assert [(run.folder / "summary.json").is_file() for run in runs] == [True, True, False, True]
    real, tried = together.save_policy, []

    def refuse(agent, folder):
        tried.append(folder.name)
        if folder.name == "seed1" and tried.count("seed1") == 1:
            raise RunWriteError("policy.safetensors can't be written.")
        return real(agent, folder)

    monkeypatch.setattr(together, "save_policy", refuse)
    runs = planned(tmp_path / "kept", agent="reinforce")
    with pytest.raises(RunWriteError):
        run_all(runs, Here(), parallel_runs="4")
    assert [(run.folder / "summary.json").is_file() for run in runs] == [True, False, True, True]
    trained = []
    monkeypatch.setattr(together._Together, "step", lambda going: trained.append(1))
    assert run_all(runs, Here(), parallel_runs="4")[1].together == (0, 1, 2, 3)
    assert not trained, "its steps were kept"


def test_two_kills_while_results_are_kept_and_an_agent_that_never_began(tmp_path, monkeypatch):
    monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", 0.0)
    whole = planned(tmp_path / "whole", agent=Shy(2))
    with pytest.raises(AgentError, match="does not begin"):
        run_all(whole, Here(), parallel_runs="4")
    real, runs = RunFolder.save_result, planned(tmp_path / "runs", agent=Shy(2))
    for _ in range(2):
        kept = []

        def stop(folder, result, kept=kept):
            if kept:
                raise KeyboardInterrupt
            kept.append(1)
            real(folder, result)

        monkeypatch.setattr(RunFolder, "save_result", stop)
        with pytest.raises(KeyboardInterrupt):
            run_all(runs, Here(), parallel_runs="4")
    monkeypatch.setattr(RunFolder, "save_result", real)
    with pytest.raises(DusError, match="does not begin"):
        run_all(runs, Here(), parallel_runs="4")
    for one, other in zip(whole, runs, strict=True):
        expected, found = (read_result(run.folder) for run in (one, other))
        assert (found is None) == (expected is None)
        assert found is None or (found.fused, found.together) == (expected.fused, expected.together)
    assert lines(runs)[:2] == lines(whole)[:2]
