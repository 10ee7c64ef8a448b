"""``dus runs``: list, show, diff, rm and export."""

import csv
import json
import shutil

import pytest
from command import dus
from rich.console import Console

from dus_gym.experiments.storage.run_folder import RunFolder

FAKE = ["--trainer", "fake", "--epochs", "3", "--quiet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    dus("train", "DUS-Digits-v0", "--agent", "score", *FAKE, "--out", "runs/a", cwd=root, check=0)
    dus("train", "DUS-Digits3-v0", "--agent", "uniform", *FAKE, "--seed", 1, "--out", "runs/b", cwd=root, check=0)
    words = ["compare", "DUS-Digits-v0", "--agents", "reversed", "--seeds", "2", *FAKE, "--out", "runs/c"]
    dus(*words, cwd=root, check=0)
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    return tmp_path


def last(done):
    return json.loads(done.stdout.splitlines()[-1])


def names(*words, cwd):
    return [row["run"] for row in last(dus("runs", "list", *words, "--json", "--quiet", cwd=cwd, check=0))["runs"]]


def test_list_shows_every_run_and_filters(root):
    of_c = [f"c/{agent}/seed{seed}" for agent in ("reversed", "uniform") for seed in (0, 1)]
    assert names(cwd=root) == ["a", "b", *of_c]
    assert names("runs/c", cwd=root) == [name.removeprefix("c/") for name in of_c]
    assert names("--agent", "score", cwd=root) == ["a"]
    assert names("--env", "DUS-Digits3-v0", cwd=root) == ["b"]
    assert names("--method", "mla", cwd=root) == []
    assert names("--status", "finished", "--agent", "uniform", cwd=root) == ["b", "c/uniform/seed0", "c/uniform/seed1"]
    text = dus("runs", "list", cwd=root, check=0).stdout
    assert len([line for line in text.splitlines() if "finished" in line]) == 6
    assert text.count("fake") == 6
    none = dus("runs", "list", "--status", "running", cwd=root, check=0)
    assert (none.stdout, none.stderr) == ("", "no run below runs is one of these\n")


def test_through_a_pipe_a_run_is_one_line_with_tabs_and_whole_names(root):
    deep = root / "runs" / ("a folder of a name that no terminal is wide enough for " * 3) / "inner"
    shutil.copytree(root / "runs/c", deep)
    (root / "runs/a/config.json").write_text("{")
    head, *lines = dus("runs", "list", cwd=root, check=0).stdout.splitlines()
    assert head.split("\t") == ["run", "status", "env", "agent", "method", "seed", "acc., %"]
    cells = [line.split("\t") for line in lines]
    assert [row[0] for row in cells] == names(cwd=root)
    assert f"{deep.relative_to(root / 'runs')}/uniform/seed1" in [row[0] for row in cells]
    assert {len(row) for row in cells} == {7}
    summary = json.loads((root / "runs/b/summary.json").read_text())
    accuracy = f"{100 * summary['fused']['method']['accuracy']:.1f}"
    [b] = [row for row in cells if row[0] == "b"]
    assert b == ["b", "finished", "DUS-Digits3-v0 fake", "uniform", "baseline", "1", accuracy]
    # What is wrong with a damaged one is no record.
    [a] = [row for row in cells if row[0] == "a"]
    assert a[1:] == ["damaged", "?", "?", "?", "?", "–"]
    assert "runs/a/config.json is damaged" in dus("runs", "list", cwd=root, check=0).stderr


def test_the_list_fits_a_terminal(root, monkeypatch):
    # The names break after slashes and colons; every word of them is there.
    monkeypatch.setattr("dus_gym.cli.runs.open_console", lambda stderr=False: Console(
        force_terminal=True, width=80, color_system=None, stderr=stderr))  # fmt: skip
    long = root / "runs/a-folder-of-a-name/and-another-folder/and-one-more"
    shutil.copytree(root / "runs/c", long)
    lines = dus("runs", "list", cwd=root, check=0).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "and-another-folder/" in "".join(lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "nowhere"], "nowhere"),
        (["list", "--status", "done"], "status='done'"),
        (["show", "runs"], "holds no run"),
        (["show", "runs/c"], "holds a comparison"),
        (["rm", "runs", "--yes"], "holds no run and no comparison"),
        (["rm"], "at least one folder"),
        (["lst"], "Did you mean 'list'"),
        ([], "needs a command"),
    ],
)
def test_what_can_not_be_is_refused(root, words, message):
    done = dus("runs", *words, cwd=root, check=2)
    assert message in done.stderr
    assert (root / "runs/a/summary.json").exists()


def test_the_list_exports_to_csv(root):
    dus("runs", "list", "--csv", "out.csv", "--quiet", cwd=root, check=0)
    rows = list(csv.DictReader((root / "out.csv").open(encoding="utf-8")))
    assert [row["run"] for row in rows] == names(cwd=root)
    summary = json.loads((root / "runs/a/summary.json").read_text())
    assert float(rows[0]["accuracy_sum"]) == summary["fused"]["sum"]["accuracy"]
    assert rows[0]["problem"] == ""


def test_list_and_steps_export_to_parquet(root):
    pytest.importorskip("pyarrow", reason='needs pip install "dus-gym[parquet]"')
    import pyarrow.parquet as parquet

    dus("runs", "list", "--parquet", "list.parquet", "--quiet", cwd=root, check=0)
    rows = last(dus("runs", "list", "--json", "--quiet", cwd=root, check=0))["runs"]
    assert parquet.read_table(root / "list.parquet").to_pylist() == rows
    dus("runs", "show", "runs/a", "--parquet", "steps.parquet", "--quiet", cwd=root, check=0)
    steps = [json.loads(line) for line in (root / "runs/a/steps.jsonl").open()]
    table = parquet.read_table(root / "steps.parquet").to_pylist()
    assert [row["observation"] for row in table] == [step["observation"] for step in steps]
    assert [row["size/pixels"] for row in table] == [step["size/pixels"] for step in steps]


def test_parquet_without_its_package_says_how_to_get_it(root, monkeypatch):
    monkeypatch.setattr("dus_gym.experiments.storage.run_export.find_spec", lambda name: None)
    done = dus("runs", "list", "--parquet", "list.parquet", cwd=root, check=2)
    assert 'pip install "dus-gym[parquet]"' in done.stderr
    assert not (root / "list.parquet").exists()


def test_steps_export_to_csv(root):
    dus("runs", "show", "runs/a", "--csv", "steps.csv", "--quiet", cwd=root, check=0)
    rows = list(csv.DictReader((root / "steps.csv").open(encoding="utf-8")))
    steps = [json.loads(line) for line in (root / "runs/a/steps.jsonl").open()]
    assert [json.loads(row["observation"]) for row in rows] == [step["observation"] for step in steps]


def test_show_prints_result_and_settings(root):
    done = dus("runs", "show", "runs/a", "--json", cwd=root, check=0)
    assert "fused, sum" in done.stdout
    assert "run.min_samples" in done.stdout
    assert last(done)["summary"] == json.loads((root / "runs/a/summary.json").read_text())
    (root / "runs/a/summary.json").unlink()
    assert "not finished: at epoch 3 of 3" in dus("runs", "show", "runs/a", cwd=root, check=0).stdout


def test_diff_names_what_differs_and_only_it(root):
    done = dus("runs", "diff", "runs/c/uniform/seed0", "runs/c/uniform/seed1", "--json", cwd=root, check=0)
    found = last(done)
    assert found["settings"] == {"seed": [0, 1]}
    assert "fused.sum.accuracy" in found["figures"]
    assert not {"seed", "env", "samples"} & found["figures"].keys()
    figures = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()[:-1]}
    assert figures["seed"] == ["0", "1"]
    assert figures["fused.sum.accuracy"] == [f"{value:.6g}" for value in found["figures"]["fused.sum.accuracy"]]
    same = dus("runs", "diff", "runs/a", "runs/a", cwd=root, check=0)
    assert "nothing differs" in same.stdout


def test_rm_deletes_only_when_told_and_only_what_is_ours(root):
    (root / "runs/c/notes.txt").write_text("mine")
    refused = dus("runs", "rm", "runs/c", "runs/a", cwd=root, check=2)
    assert "runs/c: 4 runs" in refused.stderr
    assert "--yes" in refused.stderr
    assert (root / "runs/c/comparison.json").exists()
    done = dus("runs", "rm", "runs/c", "runs/a", "--yes", cwd=root, check=0)
    assert "runs/c/notes.txt" in done.stdout
    assert [p.name for p in (root / "runs/c").iterdir()] == ["notes.txt"]
    assert names(cwd=root) == ["b"]


def test_rm_leaves_a_run_that_is_being_written(root):
    config = json.loads((root / "runs/a/config.json").read_text())
    with RunFolder.resume(root / "runs/a", config):
        assert "is being written by process" in dus("runs", "rm", "runs/a", "--yes", cwd=root, check=2).stderr
    assert (root / "runs/a/summary.json").exists()
