"""``dus_gym.train`` is ``dus train``, to the bit; it takes any agent, goes on where it stopped, and builds once."""

import json

import numpy as np
import pytest
from command import dus

import dus_gym
from dus_gym import trainer
from dus_gym.data.media_source import MediaSource
from dus_gym.data.mock import make_mock
from dus_gym.data.registry import data_set
from dus_gym.data.task import Task
from dus_gym.errors import AgentError, ConfigError, DatasetNotFoundError, RunFolderError
from dus_gym.experiments import run as run_module
from dus_gym.experiments.results import Result
from dus_gym.experiments.run import train
from dus_gym.experiments.storage.run_folder import NOT_REPRODUCIBLE


def reproducible(result):
    return {key: value for key, value in result.to_json().items() if key not in NOT_REPRODUCIBLE}


def starve_the_first(observation, info):
    shares = np.ones(len(observation))
    shares[0] = 0.2
    return shares / shares.sum()


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["DUS-Digits-v0"], {}),
        (["DUS-Digits-v0", "--agent", "score", "--agent.rule", "softmax", "--min-fraction", ".1", "--seed", "2"],
         {"agent": "score:rule=softmax", "min_fraction": 0.1, "seed": 2}),
        (["DUS-Digits3-v0", "--agent", "heuristic", "--method", "mla", "--method.projection=none", "--interval", "2"],
         {"agent": "heuristic", "method": "mla:projection=none", "interval": 2}),
        (["DUS-Fake-v0", "--policy", "gain", "--reward", "gap"], {"agent": "gain", "reward": "gap"}),
        (["DUS-CREMAD-v0", "--trainer", "fake", "--agent", "best-fixed", "--task.frames-per-clip", "2"],
         {"agent": "best-fixed", "trainer": "fake", "task_options": {"frames_per_clip": 2}}),
    ],
)  # fmt: skip
def test_the_function_does_what_the_command_does_to_the_bit(words, call, tmp_path):
    done = dus("train", *words, "--epochs", 3, "--out", "a", "--json", "--quiet", cwd=tmp_path, check=0)
    result = train(words[0], **call, epochs=3, out=tmp_path / "b")
    assert reproducible(Result.from_json(json.loads(done.stdout))) == reproducible(result)
    assert (tmp_path / "a/steps.jsonl").read_bytes() == (tmp_path / "b/steps.jsonl").read_bytes()
    config, other = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert config == other
    assert dus_gym.train is train


def test_without_a_folder_nothing_is_written_and_every_step_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    result = train("DUS-Fake-v0", "uniform", epochs=3, on_step=lambda core, record: seen.append(record["epoch"]))
    assert seen == [1, 2, 3]
    assert (result.folder, list(tmp_path.iterdir())) == (None, [])
    kept = train("DUS-Fake-v0", "uniform", epochs=3, out=tmp_path / "run")
    assert kept.folder == tmp_path / "run"
    assert reproducible(kept) == reproducible(result)


def test_a_folder_is_resumed_replaced_or_refused(tmp_path):
    first = train("DUS-Fake-v0", "uniform", epochs=3, out=tmp_path / "run")
    again = train("DUS-Fake-v0", "uniform", epochs=3, out=tmp_path / "run", resume=True)
    assert again.to_json() == first.to_json(), "a finished run is not run again: even its seconds are the same"
    with pytest.raises(RunFolderError, match="holds another run"):
        train("DUS-Fake-v0", "uniform", epochs=3, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"run\.epochs: 3 there, 4 asked"):
        train("DUS-Fake-v0", "uniform", epochs=4, out=tmp_path / "run", resume=True)
    assert train("DUS-Fake-v0", "uniform", epochs=4, out=tmp_path / "run", force=True).epochs == 4


@pytest.mark.parametrize(
    "agent", ["reinforce:preset=tuned", "lookahead", starve_the_first], ids=["learner", "driver", "function"]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, monkeypatch, agent):
    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    how = {"epochs": 4, "trainer": "fake"}
    whole = train("DUS-Digits-v0", agent, **how, out=tmp_path / "whole")

    def stop(core, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("DUS-Digits-v0", agent, **how, out=tmp_path / "run", on_step=stop)
    assert not (tmp_path / "run/summary.json").exists()
    resumed = train("DUS-Digits-v0", agent, **how, out=tmp_path / "run", resume=True)
    assert reproducible(resumed) == reproducible(whole)
    assert (tmp_path / "run/steps.jsonl").read_text() == (tmp_path / "whole/steps.jsonl").read_text()


# -- agents that are no names ----------------------------------------------------------------------


def test_a_function_is_an_agent_and_its_code_is_part_of_the_run(tmp_path):
    result = train("DUS-Digits-v0", starve_the_first, epochs=3, out=tmp_path / "run")
    assert result.agent == "starve_the_first"
    pixels, columns = result.modalities.values()
    # The first step is uniform whoever decides.
    assert pixels.samples < 0.6 * columns.samples

    def other(observation, info):
        return np.ones(len(observation)) / len(observation)

    other.__name__ = "starve_the_first"
    with pytest.raises(RunFolderError, match="agent_digest"):
        train("DUS-Digits-v0", other, epochs=3, out=tmp_path / "run", resume=True)


def test_an_agent_object_is_an_agent():
    made = dus_gym.make_agent("score", 2, rule="softmax")
    named = train("DUS-Digits-v0", "score:rule=softmax", epochs=2)
    given = train("DUS-Digits-v0", made, epochs=2)
    assert (given.fused, given.modalities) == (named.fused, named.modalities)
    with pytest.raises(ConfigError, match="is made already"):
        train("DUS-Digits-v0", made, agent_options={"rule": "softmax"}, epochs=2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [([np.nan, 1.0], "finite"), ([1.0], r"shape \(1,\)"), ([-1.0, 2.0], "negative"), ("left", "left")],
)
def test_a_function_that_answers_nonsense_is_named_with_its_step_and_finishes_nothing(answer, message, tmp_path):
    def broken(observation, info):
        return [0.5, 0.5] if info["epoch"] < 2 else answer

    with pytest.raises(AgentError, match=f"agent 'broken', action 2.*{message}"):
        train("DUS-Digits-v0", broken, epochs=4, out=tmp_path / "run")
    assert not (tmp_path / "run/summary.json").exists()
    steps = (tmp_path / "run/steps.jsonl").read_bytes()
    assert [json.loads(line)["epoch"] for line in steps.splitlines()] == [1, 2]


def test_a_run_that_diverges_has_a_result():
    result = train("DUS-Digits-v0", "uniform", epochs=3, interval=1, lr_scale=(1e30, 1e30))
    assert result.diverged
    assert 0 < result.iterations < 18
    assert all(0.0 <= row.score <= 1.0 for row in result.modalities.values())


# -- what it costs ---------------------------------------------------------------------------------


def test_a_result_says_what_the_run_cost_and_all_else_is_the_same_to_the_bit():
    one, other = (train("DUS-Fake-v0", "best-fixed", epochs=5) for _ in range(2))
    assert one.seconds > one.agent_seconds > 0
    assert 50 < one.peak_memory_mib < 100_000
    assert (one.seconds, one.agent_seconds) != (other.seconds, other.agent_seconds)
    assert reproducible(one) == reproducible(other)


def test_an_agent_that_spends_runs_spends_most_of_the_time():
    uniform, best = (train("DUS-Digits-v0", agent, epochs=6) for agent in ("uniform", "best-fixed"))
    assert uniform.agent_seconds < 0.1 * uniform.seconds
    assert best.agent_seconds > 0.4 * best.seconds


@pytest.fixture
def built(monkeypatch):
    """How often data were built, models made, and lists and media folders gone through."""
    counts = dict.fromkeys(("data", "model", "records", "streams"), 0)

    def counting(kind, name, what):
        real = getattr(kind, name)

        def counted(*given, **more):
            counts[what] += 1
            return real(*given, **more)

        monkeypatch.setattr(kind, name, counted)

    counting(Task, "data", "data")
    counting(trainer, "initialised", "model")
    source = type(data_set("cremad").source)
    assert issubclass(source, MediaSource)
    counting(source, "records", "records")
    counting(source, "streams", "streams")
    return counts


@pytest.mark.parametrize("agent", ["uniform", "holdout", "reinforce"])
def test_data_and_model_are_built_once(built, agent):
    train("DUS-Digits-v0", agent, epochs=2)
    assert (built["data"], built["model"]) == (1, 1)


def test_a_refused_run_builds_nothing(built):
    with pytest.raises(DatasetNotFoundError):
        train("DUS-CREMAD-v0", epochs=2)
    with pytest.raises(ConfigError):
        train("DUS-Digits-v0", method="joint", agent="score")
    assert set(built.values()) == {0}


def test_a_comparison_builds_as_often_as_it_runs(built):
    dus_gym.compare("DUS-Digits-v0", ["score", "half"], seeds=2, epochs=2)
    # Three agents, and uniform at half's samples: four runs of two seeds, which train together, and for each pair one
    # model more that tells whether both fit into memory.
    assert (built["data"], built["model"]) == (8, 8 + 4)


def test_a_media_folder_is_gone_through_once_a_command(built, tmp_path):
    make_mock("cremad", tmp_path / "mock", 24)
    short = ("--data-root", "mock", "--epochs", 1, "--total-batch", 18, "--quiet")
    dus("train", "DUS-CREMAD-v0", "--agent", "uniform", *short, "--out", "run", cwd=tmp_path, check=0)
    assert (built["records"], built["streams"]) == (1, 1)
    built.update(dict.fromkeys(built, 0))
    words = ("DUS-CREMAD-v0", "--agents", "score", "--seeds", 2)
    dus("compare", *words, *short, "--out", "c", cwd=tmp_path, check=0)
    assert built == {"data": 4, "model": 4 + 2, "records": 1, "streams": 1}
