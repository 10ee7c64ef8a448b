"""``dus validate``: the same bits, or the first that differs."""

import json
import shutil

import pytest
from command import dus


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("validate")
    words = [
        "train",
        "DUS-Digits-v0",
        "--agent",
        "reinforce",
        "--agent.preset",
        "tuned",
        "--epochs",
        "3",
        "--lr-scale",
        "1",
        "0.5",
    ]
    dus(*words, "--quiet", "--out", "run", cwd=root, check=0)
    words = ["compare", "DUS-Digits-v0", "--trainer", "fake", "--epochs", "2", "--seeds", "2", "--agents", "score"]
    dus(*words, "--quiet", "--out", "both", cwd=root, check=0)
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def edit(file, change):
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


def test_a_run_comes_to_the_same_bits_again_and_stays_as_it_was(root):
    before = {p.name: p.read_bytes() for p in (root / "run").iterdir()}
    done = dus("validate", "run", "--json", cwd=root, check=0)
    assert "run: identical" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "identical": True,
        "runs": [{"run": "run", "identical": True, "difference": None}],
    }
    assert {p.name: p.read_bytes() for p in (root / "run").iterdir()} == before


def test_every_run_of_a_comparison_is_validated(root):
    done = dus("validate", "both", "--json", "--quiet", cwd=root, check=0)
    assert len(json.loads(done.stdout)["runs"]) == 4


def test_the_first_step_that_differs_is_named(root):
    lines = (root / "run/steps.jsonl").read_text().splitlines(keepends=True)
    record = json.loads(lines[1])
    lines[1] = json.dumps(record | {"loss": record["loss"] * (1 + 2**-52)}) + "\n"
    (root / "run/steps.jsonl").write_text("".join(lines))
    assert "steps.jsonl, line 2: loss:" in dus("validate", "run", cwd=root, check=1).stdout.replace("\n", " ")
    (root / "run/steps.jsonl").write_text("".join(lines[:1]))
    text = dus("validate", "run", cwd=root, check=1).stdout
    assert "steps.jsonl, line 2: the run now has more steps" in text


def test_a_figure_that_differs_is_named_and_the_time_it_took_is_not(root):
    edit(root / "run/summary.json", lambda summary: summary.update(seconds=99.0, version="0.0.1"))
    dus("validate", "run", cwd=root, check=0)
    edit(root / "run/summary.json", lambda summary: summary["fused"]["sum"].update(accuracy=0.5))
    text = dus("validate", "run", cwd=root, check=1).stdout
    assert "summary.json, fused.sum.accuracy: 0.5 then" in text
    assert "written by version 0.0.1" in text


def test_other_weights_are_named(root):
    data = bytearray((root / "run/model.safetensors").read_bytes())
    data[-1] ^= 1
    (root / "run/model.safetensors").write_bytes(data)
    assert "model.safetensors: other weights" in dus("validate", "run", cwd=root, check=1).stdout


def test_what_can_not_be_validated_is_refused(root):
    assert "holds no run" in dus("validate", ".", cwd=root, check=2).stderr
    (root / "run/summary.json").unlink()
    assert "not finished" in dus("validate", "run", cwd=root, check=2).stderr
    edit(root / "both/score/seed0/config.json", lambda config: config["settings"].update(epoch=2))
    assert "epoch" in dus("validate", "both/score/seed0", cwd=root, check=2).stderr
