"""``dus probe``: tables, JSON, the file, and what can't be on one line."""

import json
import shutil

import pytest
from command import dus

import dus_gym


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    dus("train", "DUS-Digits3-v0", "--agent", "uniform", "--method", "mla", "--epochs", 3, "--quiet", "--out", "run",
        cwd=root, check=0)  # fmt: skip
    dus("compare", "DUS-Digits-v0", "--agents", "score", "--seeds", 2, "--epochs", 2, "--quiet", "--out", "both",
        cwd=root, check=0)  # fmt: skip
    return root


def test_tables_json_and_file_have_the_same_figures(made, tmp_path):
    done = dus("probe", made / "run", "--json", "--out", "probe.json", cwd=tmp_path, check=0)
    *lines, last = done.stdout.splitlines()
    found = json.loads(last)
    assert found == json.loads((tmp_path / "probe.json").read_text())
    assert list(found["modalities"]) == ["pixels", "rows", "columns"]
    overview = lines[: lines.index("")]
    assert overview[0].startswith("DUS-Digits3-v0, mla under uniform, seed 0 (data real; C chosen on validation)")
    assert overview[1].split("\t") == ["test accuracy, %", "in the run", "linear probe", "C", "Shapley, points"]
    for line, (name, row) in zip(overview[2:5], found["modalities"].items(), strict=True):
        figures = [f"{100 * row['head']['accuracy']:.1f}", f"{100 * row['linear']['accuracy']:.1f}"]
        assert line.split("\t") == [name, *figures, f"{row['linear']['strength']:g}", f"{100 * row['shapley']:+.1f}"]
    assert len(found["contributions"]["subsets"]) == 8
    assert sum(line.startswith("Test samples by true class and class of") for line in lines) == 4
    assert lines[-1] == "written to probe.json"
    assert not (made / "run/probe.json").exists()
    said = (
        f"(measured now: the mean of {found['cost']['steps_timed']} at 64 samples per modality in phase 'train', on cpu"
    )
    assert sum(said in line for line in lines) == 1


def test_quiet_prints_the_json_line_alone_and_alone_adds_a_column(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    done = dus("probe", "run", "--alone", "--json", "--quiet", cwd=tmp_path, check=0)
    found = json.loads(done.stdout)
    assert all(0.0 < row["alone"] < 1.0 for row in found["modalities"].values())
    assert found == json.loads((tmp_path / "run/probe.json").read_text())
    assert dus_gym.probe(made / "run", out=tmp_path / "mine.json").to_json()["modalities"]["rows"]["alone"] is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.json", "run"]


def test_the_result_is_kept_beside_the_run_and_the_report_is_named(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "a run")
    done = dus("probe", "a run", cwd=tmp_path, check=0)
    assert done.stdout.splitlines()[-2:] == ["written to a run/probe.json", "next: dus report 'a run'"]
    again = dus("train", "DUS-Digits3-v0", "--agent", "uniform", "--method", "mla", "--epochs", 3, "--quiet", "--out",
                "a run", "--force", cwd=tmp_path, check=0)  # fmt: skip
    assert (again.returncode, (tmp_path / "a run/probe.json").exists()) == (0, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["both"], "both holds a comparison; give one of its runs"),
        (["both/score/seed1"], "has no model.safetensors, and without weights nothing can be probed"),
        (["nowhere"], "nowhere holds no run"),
        ([], "RUN"),
        (["run", "--out", "run/summary.json"], "summary.json is there already"),
        (["run", "--device", "cuda:99"], "device='cuda:99' is not available here"),
        (["run", "--along"], "Did you mean --alone?"),
    ],
)
def test_what_can_not_be_is_one_line_and_exit_code_2(made, words, message):
    done = dus("probe", *words, cwd=made, check=2)
    assert done.stderr.startswith("dus: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert done.stdout == ""
