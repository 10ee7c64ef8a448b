"""`dus meta-train`, and what `dus train` and `dus compare` do with its policies."""

import contextlib
import io
import json

import numpy as np
import pytest

from dus_gym.agents import make_agent
from dus_gym.cli import main
from dus_gym.state import load_state

FAKE = ("--trainer", "fake", "--epochs", 6, "--reward", "validation-gain", "--min-fraction", 0.25)
SHORT = (*FAKE, "--runs", 8, "--seeds", "100-102", "--eval-seeds", "120-121", "--agent.batch", 4)


def dus(*words, cwd, check=0):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as exit:
            code = exit.code or 0
    assert code == check, err.getvalue() + out.getvalue()
    return out.getvalue() if check == 0 else err.getvalue()


def meta_train(envs, *words, cwd, **options):
    return dus("meta-train", envs, *SHORT, *words, cwd=cwd, **options)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    meta_train("DUS-Digits-v0,DUS-Digits3-v0", "--out", "policy", cwd=folder)
    return folder / "policy"


def test_the_file_says_how_it_was_made_and_what_it_reached(policy):
    content = load_state(policy, "policy")
    assert content["agent"] == "transfer"
    made = content["state"]["made"]
    assert made["command"].startswith("dus meta-train DUS-Digits-v0,DUS-Digits3-v0 --trainer fake")
    assert made["envs"] == ["DUS-Digits-v0", "DUS-Digits3-v0"]
    assert (made["seeds"], made["eval_seeds"]) == ([100, 101, 102], [120, 121])
    assert (made["trainer"], made["reward"], made["algorithm"]) == ("fake", "validation-gain", "ppo")
    # Three seeds of two tasks to learn beside, two held-out ones to be scored beside.
    assert (made["runs"], made["uniform_runs"]) == (8, 3 * 2 + 2 * 2)
    assert made["settings"] == {"epochs": 6, "reward": "validation-gain", "min_fraction": 0.25}
    for row in made["score"].values():
        assert {"return", "uniform", "difference", "p", "val_accuracy"} == set(row)
        assert row["difference"] == pytest.approx(row["return"] - row["uniform"])
    assert content["state"]["updates"] == 2 * 10
    assert content["state"]["runs"] == content["state"]["decisions"] == []


def test_the_table_and_the_json_line(tmp_path):
    printed = meta_train("DUS-Digits-v0", "--out", "p", "--json", cwd=tmp_path).splitlines()
    assert any("mean return above uniform: first 1 runs" in line for line in printed)
    assert any(line.strip().startswith("DUS-Digits-v0") for line in printed)
    assert json.loads(printed[-1])["out"] == "p"
    quiet = meta_train("DUS-Digits-v0", "--out", "p", "--force", "--json", "--quiet", cwd=tmp_path)
    assert quiet.count("\n") == 1
    assert json.loads(quiet)["score"] == json.loads(printed[-1])["score"]


@pytest.mark.parametrize("agent", ["ppo", "reinforce"])
def test_the_same_command_writes_the_same_bits_and_another_seed_others(tmp_path, agent):
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        words = ("--agent", agent, "--seed", seed, "--out", "policy", *(["--quiet", "--json"] if name == "b" else []))
        meta_train("DUS-Fake-v0,DUS-Digits3-v0", *words, cwd=tmp_path / name)
        files.append((tmp_path / name / "policy").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.parametrize(("trainer", "tolerance"), [("fake", 1e-9), ("real", 2e-3)])
def test_runs_together_teach_what_runs_one_by_one_teach(trainer, tolerance, tmp_path):
    words = ("--trainer", trainer, "--runs", 6, "--agent.batch", 6, "--seeds", "100-101", "--eval-seeds", "120-121")
    weights = []
    for number in ("auto", "1"):
        meta_train("DUS-Digits-v0,DUS-Digits3-v0", *words, "--parallel-runs", number, "--out", number, cwd=tmp_path)
        weights.append(load_state(tmp_path / number, "policy")["state"]["weights"])
    for name, mine in weights[0].items():
        np.testing.assert_allclose(mine, weights[1][name], atol=tolerance)
        # Ten updates of .003 moved them all.
        assert np.abs(mine).max() > 0.01


def test_the_last_runs_are_better_than_the_first(tmp_path):
    words = ("--runs", 240, "--epochs", 20, "--reward", "gap", "--loss-norm", "fixed", "--agent.lr", 0.01, "--seeds", 9)
    line = meta_train("DUS-Digits-v0", *words, "--out", "p", "--quiet", "--json", cwd=tmp_path)
    found = json.loads(line)
    assert found["last_runs"] > found["first_runs"] + 0.2
    assert found["score"]["DUS-Digits-v0"]["difference"] > 0.25
    assert found["seeds"] == list(range(100, 109))


@pytest.mark.parametrize("env", ["DUS-Digits-v0", "DUS-Digits3-v0", "DUS-CREMAD-v0"])
def test_a_policy_serves_another_task(policy, env, tmp_path):
    words = ("train", env, "--policy", policy, "--trainer", "fake", "--epochs", 8, "--out", "run", "--json", "--quiet")
    summary = json.loads(dus(*words, cwd=tmp_path))
    assert summary["agent"] == "transfer"
    assert json.loads((tmp_path / "run/config.json").read_text())["policy"] == str(policy)
    sizes = [json.loads(line) for line in (tmp_path / "run/steps.jsonl").open()]
    first = next(key for key in sizes[0] if key.startswith("size/"))
    assert len({step[first] for step in sizes}) > 1
    # A finished run is reported again, not run again.
    assert json.loads(dus(*words, "--resume", cwd=tmp_path)) == summary


def test_compare_takes_a_policy_of_the_package_by_name(tmp_path):
    words = ("DUS-Digits3-v0", "--agents", "transfer:policy=gain,transfer:policy=gap", *FAKE, "--seeds", 2)
    found = json.loads(dus("compare", *words, "--json", "--quiet", cwd=tmp_path))
    assert list(found["agents"]) == ["uniform", "transfer:policy=gain", "transfer:policy=gap"]


def test_a_policy_of_another_agent_goes_on_where_it_was_saved(tmp_path):
    make_agent("reinforce", 2, options={"lr": 0.01}).save(tmp_path / "p")
    words = ("train", "DUS-Fake-v0", "--policy", "p", "--epochs", 4, "--quiet", "--json")
    assert json.loads(dus(*words, cwd=tmp_path))["agent"] == "reinforce"
    assert "for 2 modalities, and this task has 3" in dus(
        "train", "DUS-Digits3-v0", "--policy", "p", cwd=tmp_path, check=2
    )
    assert "holds agent 'reinforce'" in dus(*words, "--agent", "uniform", cwd=tmp_path, check=2)
    assert "leave out hidden" in dus(*words, "--agent.hidden", 5, cwd=tmp_path, check=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "0-9"), "seeds below 100 are kept for reports"),
        (("--eval-seeds", "99,120"), "seeds below 100"),
        (("--eval-seeds", "102-105"), "also learned on"),
        (("--agent", "dqn"), "reinforce, ppo"),
        (("--agent", "ppo", "--agent.algorithm", "reinforce"), "write one of them"),
        (("--agent.policy", "gian"), "Did you mean 'gain'"),
        (("--runs", "0"), "runs=0"),
        (("--parallel-runs", "0"), "parallel_runs='0' is not allowed; give auto"),
        (("--reward", "gian"), "reward='gian'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(words, said, tmp_path):
    assert said in meta_train("DUS-Fake-v0", "--out", "p", *words, cwd=tmp_path, check=2)
    assert not (tmp_path / "p").exists()


def test_ids_and_files_that_cannot_be_are_refused(tmp_path):
    assert "Did you mean 'DUS-Digits-v0'" in meta_train("DUS-Digit-v0", "--out", "p", cwd=tmp_path, check=2)
    assert "each once" in meta_train("DUS-Fake-v0,DUS-Fake-v0", "--out", "p", cwd=tmp_path, check=2)
    (tmp_path / "p").write_text("mine")
    assert "already there" in meta_train("DUS-Fake-v0", "--out", "p", cwd=tmp_path, check=2)
    assert "already there" in meta_train("DUS-Fake-v0", "--out", ".", "--force", cwd=tmp_path, check=2)
    assert (tmp_path / "p").read_text() == "mine"
    assert "pickle" not in dus("train", "DUS-Fake-v0", "--policy", "p", cwd=tmp_path, check=1)
    assert "Did you mean 'gap'" in dus("train", "DUS-Fake-v0", "--policy", "gab", cwd=tmp_path, check=2)
