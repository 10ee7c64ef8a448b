"""``dus compare`` as a matrix: tasks × methods × agents × seeds, the controls, equal samples, costs."""

import json
import re
import subprocess
import sys

import pytest
from command import dus

from dus_gym.experiments.executors.executor import IMPORTED
from dus_gym.experiments.storage.run_folder import NOT_REPRODUCIBLE

FAKE = ("--trainer", "fake", "--epochs", 4)
COSTS = ("seconds", "agent_seconds", "agent_share", "peak_memory_mib", "peak_device_memory_mib")


def compare(*words, cwd):
    done = dus("compare", *words, "--json", cwd=cwd, check=0)
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def refused(*words, cwd):
    done = dus("compare", *words, cwd=cwd, check=2)
    assert "Traceback" not in done.stderr
    return done.stderr


def results(folder):
    """Everything reproducible in a folder of runs, by path."""
    found = {}
    for file in sorted(folder.rglob("*.json*")):
        text = file.read_text()
        if file.name == "summary.json":
            text = {key: value for key, value in json.loads(text).items() if key not in NOT_REPRODUCIBLE}
        elif file.name == "comparison.json":
            text = json.loads(text, object_hook=lambda d: {k: v for k, v in d.items() if k not in COSTS})
        found[file.relative_to(folder).as_posix()] = text
    return found


def test_without_agents_every_control_runs(tmp_path):
    result, printed = compare("DUS-Digits-v0", *FAKE, "--seeds", 2, "--out", "c", cwd=tmp_path)
    assert list(result["agents"]) == [
        "uniform", "heuristic", "score", "reinforce", "steady", "reversed", "random", "best-fixed", "lr-matched",
    ]  # fmt: skip
    assert result["missing_controls"] == []
    assert "Controls that did not run" not in printed
    assert f"Verdict: {result['verdict']}" in printed.replace("\n", " ")
    assert result["correction"]["tests"] == 9, "eight agents, and heuristic at equal samples"


def test_with_agents_the_verdict_names_the_controls_that_did_not_run(tmp_path):
    result, _ = compare("DUS-Digits-v0", *FAKE, "--agents", "score,random", "--seeds", 2, cwd=tmp_path)
    assert result["verdict"].endswith("Controls that did not run: reversed, best-fixed, lr-matched.")


def test_tasks_and_methods_make_a_matrix_of_comparisons_each_of_the_shape_of_one(tmp_path):
    words = (*FAKE, "--agents", "score", "--seeds", "3,1")
    whole, _ = compare(
        "DUS-Digits-v0,DUS-Digits3-v0", "--method", "baseline,mla:projection=none", *words, "--out", "c", cwd=tmp_path
    )
    assert list(whole) == ["comparisons", "verdict"]
    assert [(c["env"], c["method"], c["method_options"]) for c in whole["comparisons"]] == [
        (env, method, options)
        for env in ("DUS-Digits-v0", "DUS-Digits3-v0")
        for method, options in (("baseline", {}), ("mla", {"projection": "none"}))
    ]
    one, _ = compare("DUS-Digits-v0", *words, "--out", "one", cwd=tmp_path)
    for part in whole["comparisons"]:
        assert part.keys() == one.keys()
        assert part["agents"]["score"].keys() == one["agents"]["score"].keys()
        assert part["correction"]["tests"] == 4
    assert results(tmp_path / "c/DUS-Digits-v0/baseline/score") == results(tmp_path / "one/score")
    assert json.loads((tmp_path / "c/comparison.json").read_text()) == whole
    part = json.loads((tmp_path / "c/DUS-Digits3-v0/mla-projection=none/comparison.json").read_text())
    assert part == whole["comparisons"][3]


def test_a_finished_matrix_is_not_run_again_and_a_forced_one_leaves_nothing_of_the_old(tmp_path, monkeypatch):
    words = (*FAKE, "--agents", "score", "--seeds", 1, "--out", "c")
    first, _ = compare("DUS-Digits-v0,DUS-Digits3-v0", *words, cwd=tmp_path)
    with monkeypatch.context() as patched:
        patched.delattr("dus_gym.experiments.run_many.execute")
        assert compare("DUS-Digits-v0,DUS-Digits3-v0", *words, "--resume", cwd=tmp_path)[0] == first
    compare("DUS-DigitsHalves-v0", *words, "--force", cwd=tmp_path)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["comparison.json", "config.json", "score", "uniform"]


def test_an_agent_that_draws_fewer_samples_meets_uniform_at_as_many(tmp_path):
    words = ("DUS-Digits-v0", "--epochs", 6, "--agents", "half,score", "--seeds", 2, "--out", "c")
    result, printed = compare(*words, cwd=tmp_path)
    uniform, half, score = (result["agents"][name] for name in ("uniform", "half", "score"))
    equal = half["equal_samples"]
    assert half["samples"] < 0.9 * uniform["samples"]
    assert equal["samples"] == pytest.approx(half["samples"], rel=0.01)
    assert equal["iterations"] == half["iterations"] == uniform["iterations"]
    assert score["equal_samples"] is uniform["equal_samples"] is None
    runs = [
        json.loads((tmp_path / f"c/half/uniform-at-equal-samples/seed{seed}/summary.json").read_text())
        for seed in range(2)
    ]
    assert [run["agent"] for run in runs] == ["uniform", "uniform"]
    points = [100 * (a - run["fused"]["sum"]["accuracy"]) for a, run in zip(half["by_seed"]["sum"], runs, strict=True)]
    assert equal["vs_uniform"]["sum"]["points"] == pytest.approx(sum(points) / 2)
    assert "half, at equal samples" in printed


def test_costs_stand_beside_accuracy_in_the_table_and_the_result(tmp_path):
    words = ("DUS-Digits-v0", "--epochs", 3, "--agents", "best-fixed", "--seeds", 2, "--full")
    result, printed = compare(*words, cwd=tmp_path)
    uniform, best = (result["agents"][name] for name in ("uniform", "best-fixed"))
    assert set(uniform["costs"]) == set(COSTS)
    assert uniform["costs"]["agent_share"] < 0.2 < best["costs"]["agent_share"] < 1
    assert best["costs"]["seconds"] > best["costs"]["agent_seconds"] > 0
    assert best["training_runs"] == 5
    for column in ("seconds", "MiB", "corrected p", "extra runs"):
        assert column in printed


def test_a_method_that_needs_whole_samples_leaves_agents_out_and_says_why(tmp_path):
    words = ("DUS-Digits-v0", *FAKE, "--agents", "score", "--seeds", 1)
    assert "gives modalities unequal batches" in refused(*words, "--method", "joint", cwd=tmp_path)
    assert "gives modalities unequal batches" in refused(words[0], *FAKE, "--method", "joint", cwd=tmp_path)
    assert not list(tmp_path.iterdir())
    whole, printed = compare(*words, "--method", "baseline,joint", cwd=tmp_path)
    baseline, joint = whole["comparisons"]
    assert list(baseline["agents"]) == ["uniform", "score"]
    assert list(joint["agents"]) == ["uniform"]
    assert "unequal batches" in joint["left_out"]["score"]
    assert "score was not run: agent='score' gives modalities unequal batches" in printed


def test_the_negative_control_is_warned_of_and_the_positive_one_is_not(tmp_path):
    words = ("--agents", "uniform", "--seeds", 3, "--out")
    hurts, printed = compare("DUS-DigitsControl-v0", *words, "a", cwd=tmp_path)
    assert any(warning.startswith("Balancing is likely to hurt here: left is ahead") for warning in hurts["warnings"])
    assert "Balancing is likely to hurt here" in printed
    helps, _ = compare("DUS-Digits-v0", *words, "b", "--epochs", 60, cwd=tmp_path)
    assert not any("hurt" in warning for warning in helps["warnings"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("DUS-Digits-v0,DUS-Digits-v0",), "name at least one, each once"),
        (("DUS-Digits-v0,DUS-Digit3-v0",), "DUS-Digits3-v0"),
        (("DUS-Digits-v0", "--method", "baseline,baseline"), "name at least one, each once"),
        (("DUS-Digits-v0", "--method", "mla:projektion=none"), "projektion"),
        (("DUS-Digits-v0", "--agents", "fixed:shares=1/2,fixed:shares=1-2"), "shares="),
        (("DUS-Digits-v0", "--workers", "0"), "workers=0"),
        (("DUS-Digits-v0", "--gpus", "0.5"), "gpus=0.5"),
    ],
)
def test_what_can_not_be_compared_is_refused_and_nothing_is_written(words, message, tmp_path):
    assert message in refused(*words, *FAKE, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_ray_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'dus-gym[ray]'" in refused("DUS-Digits-v0", *FAKE, "--ray", "local", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_workers_import_what_the_command_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "module_of_mine.py").write_text("import os\nopen(f'{os.getpid()}.imported', 'w').close()\n")
    words = ("DUS-Fake-v0", "--agents", "uniform", "--seeds", 1, "--workers", 2, "--import", "module_of_mine")
    try:
        dus("compare", *words, "--quiet", cwd=tmp_path, check=0)
    finally:
        IMPORTED.remove("module_of_mine")
    assert len([*tmp_path.glob("*.imported")]) == 2


# -- what is printed ---------------------------------------------------------------------------------

SHOWN = ("DUS-Fake-v0,DUS-Digits-v0", *FAKE, "--agents", "half,reinforce:policy=literal,lr-matched", "--seeds", 6)


def shown(monkeypatch, cwd, width=None, words=SHOWN):
    """What a command prints: to a terminal of a width, else through a pipe."""
    if width is not None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
    done = dus("compare", *words, "--out", "c", "--resume" if (cwd / "c").exists() else "--force", cwd=cwd, check=0)
    return done.stdout


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_verdict_and_table_within_its_width_and_cuts_no_word(tmp_path, monkeypatch, width):
    plain = shown(monkeypatch, tmp_path)
    raw = shown(monkeypatch, tmp_path, width)
    assert "\x1b[1m" in raw, "the verdict is bold"
    # The bar of the runs ends where the cursor comes back
    # and its lines are taken away.
    text = re.sub(r"\x1b\[[0-9;]*[mAK]|\r", "", raw.rpartition("\x1b[?25h")[2])
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert sorted(text.replace(":", ": ").split()) == sorted(plain.replace(":", ": ").split())
    assert text.index("DUS-Fake-v0, baseline. Verdict:") < text.index("DUS-Fake-v0, baseline, 6 seeds")
    assert text.count("\n\nDUS-Digits-v0, baseline. Verdict:") == text.count("\n\nVerdict on all:") == 1


def test_through_a_pipe_a_record_is_a_line_of_six_cells_between_tabs(tmp_path, monkeypatch):
    text = shown(monkeypatch, tmp_path)
    assert "\x1b" not in text
    records = [line.split("\t") for line in text.splitlines() if "\t" in line]
    assert {len(record) for record in records} == {6}
    head, *rows = records[: len(records) // 2]
    assert [row[0] for row in rows] == [
        "uniform", "half", "half, at equal samples", "reinforce:policy=literal", "lr-matched",
    ]  # fmt: skip
    found = json.loads((tmp_path / "c/comparison.json").read_text())
    outcomes = [found["comparisons"][0]["agents"][name]["outcome"] or "" for name in ("uniform", "half")]
    assert [row[head.index("outcome")] for row in rows[:2]] == outcomes
    lines = text.splitlines()
    assert lines[0] == f"DUS-Fake-v0, baseline. Verdict: {found['comparisons'][0]['verdict']}"
    assert f"Verdict on all: {found['verdict']}" in lines
    cut = subprocess.run(["cut", "-sf", "1,4"], input=text, capture_output=True, text=True, check=True).stdout
    assert f"half\t{outcomes[1]}" in cut.splitlines()


@pytest.mark.parametrize("full", [False, True])
def test_no_p_is_printed_as_zero_and_columns_beyond_six_need_full(tmp_path, monkeypatch, full):
    text = shown(monkeypatch, tmp_path, words=(*SHOWN, *(["--full"] if full else [])))
    assert ("corrected p" in text) == ("seconds" in text) == full
    assert ".000" not in text
    assert ("< .001" in text) == full
