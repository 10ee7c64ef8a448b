"""Many runs: finished ones are never made again, a failure costs nothing but itself."""

import re

import pytest

from dus_gym.errors import ConfigError, RunFolderError
from dus_gym.experiments import run_many
from dus_gym.experiments.executors.executor import Here
from dus_gym.experiments.run_many import PlannedRun, RunsFailedError, Task, perform, run_all, told
from dus_gym.experiments.spec import make_spec


def a_run(folder, seed=0, agent="uniform", **settings):
    return PlannedRun(make_spec("DUS-Fake-v0", agent, seed=seed, epochs=3, **settings), folder)


def test_results_come_in_the_order_of_the_runs_and_calls_in_the_order_of_ends(tmp_path):
    runs = [a_run(tmp_path / str(seed), seed) for seed in (2, 0, 1)]
    ended = []
    assert [result.seed for result in run_all(runs, Here(), lambda *of: ended.append(of))] == [2, 0, 1]
    assert [run for run, _, _ in ended] == runs
    assert [(result.seed, kept) for _, result, kept in ended] == [(2, False), (0, False), (1, False)]
    assert told(*ended[0][:2]) == f"{runs[0]}: {100 * ended[0][1].accuracy:.1f} %"
    assert told(runs[0], None) == f"{runs[0]}: failed"


def test_a_finished_run_is_never_made_again(tmp_path, monkeypatch):
    runs = [a_run(tmp_path / str(seed), seed) for seed in range(2)]
    first = run_all(runs, Here())

    def refuse(*arguments, **settings):
        raise AssertionError("made again")

    monkeypatch.setattr(run_many, "execute", refuse)
    ended = []
    again = run_all(runs, Here(), lambda run, _, kept: ended.append((run, kept)))
    assert [result.to_json() for result in again] == [result.to_json() for result in first]
    assert [result.folder for result in again] == [run.folder for run in runs]
    assert ended == [(run, True) for run in runs]


def test_two_runs_in_one_folder_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="in one folder"):
        run_all([a_run(tmp_path / "a"), a_run(tmp_path / "a", seed=1)], Here())
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_settings_is_refused_before_anything_is_made(tmp_path):
    run_all([a_run(tmp_path / "b")], Here())
    with pytest.raises(RunFolderError, match="other settings"):
        run_all([a_run(tmp_path / "a"), a_run(tmp_path / "b", seed=1)], Here())
    assert not (tmp_path / "a").exists()


def test_a_run_that_fails_stops_no_other_and_its_error_is_kept(tmp_path):
    bad = a_run(tmp_path / "bad", agent="lr-matched", agent_options={"match": "lr-matched"})
    with pytest.raises(ConfigError, match="match='lr-matched' is not allowed"):
        run_all([bad, a_run(tmp_path / "good")], Here())
    assert (tmp_path / "good/summary.json").is_file()
    also = a_run(tmp_path / "also", seed=1, agent="lr-matched", agent_options={"match": "lr-matched"})
    with pytest.raises(RunsFailedError, match=re.escape("2 of 3 runs failed; the others are kept")):
        run_all([bad, also, a_run(tmp_path / "good")], Here())


def test_a_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", 0.0)
    whole, stopped = a_run(tmp_path / "whole"), a_run(tmp_path / "stopped")
    (expected,) = run_all([whole], Here())
    real, seen = run_many.execute, []

    def stop_at_the_second_step(spec, folder, **settings):
        def stop(core, record):
            seen.append(record["epoch"])
            if record["epoch"] == 2 and len(seen) == 2:
                raise KeyboardInterrupt

        return real(spec, folder, on_step=stop)

    monkeypatch.setattr(run_many, "execute", stop_at_the_second_step)
    (tmp_path / "stopped").mkdir()
    with pytest.raises(KeyboardInterrupt):
        perform(Task((stopped,)), again=False)
    (resumed,) = perform(Task((stopped,)), again=True)
    assert seen == [1, 2, 2, 3], "the step that was not saved is made again, the others are not"
    assert (tmp_path / "stopped/steps.jsonl").read_text() == (tmp_path / "whole/steps.jsonl").read_text()
    assert resumed.fused == expected.fused


def test_a_worker_that_does_not_share_the_folder_says_so(tmp_path):
    with pytest.raises(ConfigError, match="all machines share"):
        perform(Task((a_run(tmp_path / "nowhere"),)), again=False)


def test_a_run_that_is_taken_up_again_waits_for_its_dead_workers_lock(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    asked = []

    def writer(path):
        asked.append(path)
        return "process 1 on elsewhere" if len(asked) < 3 else None

    monkeypatch.setattr(run_many, "writer", writer)
    (result,) = perform(Task((a_run(tmp_path / "run"),)), again=True)
    assert result.epochs == 3
    assert len(asked) == 3
