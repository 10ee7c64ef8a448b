"""What the command line finds in a folder: runs of its own, damage, and other people's files."""

import json
import shutil

import pytest

from dus_gym.cli import main

TRAIN = ["train", "DUS-Digits-v0", "--epochs", "2", "--quiet"]
COMPARE = ["compare", "DUS-Digits-v0", "--trainer", "fake", "--epochs", "2", "--seeds", "1", "--quiet"]


def run(words, out, *more):
    main([*words, "--out", str(out), *more])


def refused(words, out, *more):
    """The exit status of a command that must not work."""
    with pytest.raises(SystemExit) as stopped:
        run(words, out, *more)
    return stopped.value.code


@pytest.mark.parametrize("words", [TRAIN, COMPARE])
def test_force_never_deletes_what_is_not_ours(words, tmp_path, capsys):
    for name in ("config.json", "summary.json", "model.safetensors"):
        (tmp_path / name).write_text('{"mine": 1}')
    (tmp_path / "a" / "seed0").mkdir(parents=True)
    (tmp_path / "a" / "seed0" / "config.json").write_text('{"mine": 2}')
    assert refused(words, tmp_path, "--force") == 2
    assert "holds no" in capsys.readouterr().err
    assert (tmp_path / "summary.json").read_text() == '{"mine": 1}'
    assert (tmp_path / "a" / "seed0" / "config.json").read_text() == '{"mine": 2}'


def test_a_forced_comparison_leaves_nothing_of_the_old_one(tmp_path):
    run([*COMPARE, "--agents", "score,heuristic"], tmp_path)
    run([*COMPARE, "--agents", "heuristic"], tmp_path, "--force")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["comparison.json", "config.json", "heuristic", "uniform"]


def test_a_comparison_under_way_has_no_result_of_before(tmp_path, monkeypatch):
    run([*COMPARE, "--agents", "score"], tmp_path)

    def killed(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("dus_gym.experiments.run_many.execute", killed)
    with pytest.raises(SystemExit):
        run([*COMPARE, "--agents", "heuristic"], tmp_path, "--force")
    assert not (tmp_path / "comparison.json").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("summary.json", '{"a": '), ("summary.json", "[]"), ("config.json", "[]"), ("config.json", "{")],
)
def test_damage_is_named_and_nothing_is_lost(name, content, tmp_path, capsys):
    run(TRAIN, tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    assert refused(TRAIN, tmp_path / "run", "--resume") == 2
    message = capsys.readouterr().err
    assert name in message
    assert "damaged" in message
    assert (tmp_path / "run" / name).read_text() == content
    run(TRAIN, tmp_path / "run", "--force")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 2


def test_damaged_steps_are_named(tmp_path, capsys):
    run(TRAIN, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "steps.jsonl").write_text("garbage\n{}\n")
    assert refused(TRAIN, tmp_path / "run", "--resume") == 2
    assert "steps.jsonl, line 1, is damaged" in capsys.readouterr().err


def test_a_checkpoint_of_another_seed_is_refused(tmp_path, capsys):
    run(TRAIN, tmp_path / "zero", "--seed", "0")
    run(TRAIN, tmp_path / "five", "--seed", "5")
    (tmp_path / "zero" / "summary.json").unlink()
    shutil.copy(tmp_path / "five" / "checkpoint.safetensors", tmp_path / "zero" / "checkpoint.safetensors")
    assert refused(TRAIN, tmp_path / "zero", "--resume") == 1
    assert "another seed" in capsys.readouterr().err


def test_the_difference_of_two_runs_is_named_and_only_it(tmp_path, capsys):
    run(TRAIN, tmp_path / "run")
    assert refused(["train", "DUS-Digits-v0", "--epochs", "3", "--quiet"], tmp_path / "run", "--resume") == 2
    message = capsys.readouterr().err
    assert "run.epochs: 2 there, 3 asked" in message
    assert len(message) < 300


def test_a_kill_while_clearing_leaves_a_folder_that_force_still_takes(tmp_path):
    run(TRAIN, tmp_path / "run")
    for name in ("summary.json", "config.json"):
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / ".config.json.123").write_text("{")
    run(TRAIN, tmp_path / "run", "--force")
    assert not (tmp_path / "run" / ".config.json.123").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "-1"], "seed=-1"),
        (["--threads", "0"], "threads=0"),
        (["--threads", "100000000"], "threads=100000000"),
        (["--agent", "reinforce", "--agent.lr", "inf"], "lr=inf"),
        (["--agent-runs", "5"], "agent_runs=5"),
        (["--agent", "heuristic", "--agent.alpha", "nan"], "alpha=nan"),
    ],
)
def test_what_can_not_be_leaves_no_folder(more, message, tmp_path, capsys):
    assert refused(TRAIN, tmp_path / "run", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_can_not_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert refused(TRAIN, tmp_path / "file" / "run") == 2
    assert "out=" in capsys.readouterr().err


def test_a_policy_is_not_trained_again(tmp_path, capsys):
    assert refused([*TRAIN, "--policy", "gain"], tmp_path / "run", "--agent-runs", "2") == 2
    assert "policy='gain' is trained already" in capsys.readouterr().err
    assert refused([*TRAIN, "--policy", "gain"], tmp_path / "run", "--agent.hidden", "5") == 2
    assert "policy='gain' fixes hidden" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_agent_that_diverges_while_it_learns_says_so_and_the_run_goes_on(tmp_path, caplog):
    words = ["train", "DUS-Fake-v0", "--epochs", "20", "--agent", "ppo", "--agent.learning-rate", "1e30"]
    run([*words, "--agent-runs", "2", "--quiet"], tmp_path / "run")
    assert "learning diverged" in caplog.text
    assert (tmp_path / "run" / "summary.json").exists()


def test_force_replaces_a_folder_of_its_own_kind_alone(tmp_path, capsys):
    run(COMPARE, tmp_path / "many", "--agents", "score")
    run(TRAIN, tmp_path / "one", "--trainer", "fake")
    before = sorted(tmp_path.rglob("*"))
    assert refused(TRAIN, tmp_path / "many", "--trainer", "fake", "--force") == 2
    assert "holds a comparison" in capsys.readouterr().err
    assert refused(COMPARE, tmp_path / "one", "--agents", "score", "--force") == 2
    assert "holds no comparison" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_comparison_that_can_not_be_resumed_stays_as_it_is(tmp_path, capsys):
    run(COMPARE, tmp_path / "c", "--agents", "score")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert refused(COMPARE, tmp_path / "c", "--agents", "score", "--loss-norm", "fixed", "--resume") == 2
    assert "run.loss_norm: 'mean' there, 'fixed' asked" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    run(COMPARE, tmp_path / "c", "--agents", "score,random", "--resume")
    assert list(json.loads((tmp_path / "c/comparison.json").read_text())["agents"]) == ["uniform", "score", "random"]
