"""``dus train --log``: the same figures elsewhere, and nothing changed by it."""

import json

import pytest
from command import dus

from dus_gym.experiments.storage.run_folder import NOT_REPRODUCIBLE

WORDS = ["train", "DUS-Digits-v0", "--trainer", "fake", "--epochs", "3", "--quiet", "--json"]


def summary_of(done):
    return {key: value for key, value in json.loads(done.stdout).items() if key not in NOT_REPRODUCIBLE}


def test_tensorboard_gets_every_step_and_the_test_figures(tmp_path):
    pytest.importorskip("tensorboard", reason='needs pip install "dus-gym[tensorboard]"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plain = dus(*WORDS, "--out", "plain", cwd=tmp_path, check=0)
    logged = dus(*WORDS, "--out", "run", "--log", "tensorboard", cwd=tmp_path, check=0)
    assert summary_of(logged) == summary_of(plain)
    found = EventAccumulator(str(tmp_path / "run/tensorboard"))
    found.Reload()
    steps = [json.loads(line) for line in (tmp_path / "run/steps.jsonl").open()]
    scores = [(event.step, event.value) for event in found.Scalars("train_score/pixels")]
    assert scores == [(step["iterations"], pytest.approx(step["train_score/pixels"])) for step in steps]
    accuracy = summary_of(plain)["fused"]["sum"]["accuracy"]
    assert found.Scalars("test/fused_sum/accuracy")[0].value == pytest.approx(accuracy)
    dus(*WORDS, "--out", "run", "--force", cwd=tmp_path, check=0)
    assert not (tmp_path / "run/tensorboard").exists()


@pytest.mark.slow
def test_wandb_writes_offline_into_the_run_folder(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason='needs pip install "dus-gym[wandb]"')
    monkeypatch.delenv("WANDB_MODE", raising=False)
    plain = dus(*WORDS, "--out", "plain", cwd=tmp_path, check=0)
    logged = dus(*WORDS, "--out", "run", "--log", "wandb", cwd=tmp_path, check=0)
    assert summary_of(logged) == summary_of(plain)
    assert list((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_logger_without_its_package_says_how_to_get_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr("dus_gym.experiments.loggers.find_spec", lambda name: None)
    assert f'pip install "dus-gym[{name}]"' in dus(*WORDS, "--log", name, "--out", "run", cwd=tmp_path, check=2).stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused_with_the_known_ones(tmp_path):
    done = dus(*WORDS, "--log", "tensorbord", "--out", "run", cwd=tmp_path, check=2)
    assert "log='tensorbord' is not allowed; choose one of tensorboard, wandb" in done.stderr
