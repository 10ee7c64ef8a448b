"""Folders that were killed, damaged or written by others: one line each, and nothing else is lost."""

import json
import re
import shutil
import signal
import subprocess
import sys
from functools import partial

import pytest
from command import dus
from made_results import result, step

from dus_gym.errors import RunFolderError
from dus_gym.experiments.storage.comparison_folder import hold_folder
from dus_gym.experiments.storage.run_export import write_csv
from dus_gym.experiments.storage.run_folder import (
    CONFIG,
    STEPS,
    SUMMARY,
    RunFolder,
    listing,
    lock,
    read_run,
    read_steps,
)
from dus_gym.experiments.storage.run_index import list_runs
from dus_gym.json_text import MOST_NESTED, read_json

ASKED = {
    "command": "train", "env": "DUS-Fake-v0", "agent": "pi", "agent_options": {}, "method": "baseline",
    "method_options": {}, "seed": 0, "trainer": None,
}  # fmt: skip
TRAIN = ("train", "DUS-Fake-v0", "--agent", "pi", "--epochs", "2", "--quiet")
DEAD = 2**22 + 1
"""A process number that no process has."""


def make_run(path):
    with RunFolder.create(path, ASKED, force=True) as folder:
        folder.add_step(step(1))
        folder.save_result(result(0.75))
    return path


@pytest.mark.parametrize(
    "words",
    [
        TRAIN,
        ("compare", "DUS-Fake-v0", "--agents", "pi", "--seeds", "2", "--epochs", "2", "--quiet"),
        ("reproduce", "table1", "--datasets", "cremad", "--methods", "MLA", "--trainer", "fake", "--epochs", "2",
         "--quiet"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_kill_before_the_config_was_renamed_leaves_an_empty_folder(tmp_path, words):
    out = tmp_path / "out"
    out.mkdir()
    leftover = out / f".{CONFIG}.{DEAD}"
    leftover.write_text("{")
    dus(*words, "--out", out, cwd=tmp_path, check=0)
    assert not leftover.exists()
    assert (out / CONFIG).is_file()


def test_leftovers_are_swept_by_whoever_holds_the_folder_and_by_nobody_else(tmp_path):
    run = make_run(tmp_path / "run")
    for name in (f".{SUMMARY}.{DEAD}", ".checkpoint.safetensors.7", ".mine", ".config.jsonx.3"):
        (run / name).write_text("")
    assert listing(run) == [".config.jsonx.3", ".mine", CONFIG, STEPS, SUMMARY]
    assert len(list(run.iterdir())) == 7
    lock(run).release()
    assert sorted(path.name for path in run.iterdir()) == [".config.jsonx.3", ".mine", CONFIG, STEPS, SUMMARY]


def test_a_comparison_that_was_killed_before_its_config_starts(tmp_path):
    (tmp_path / f".{CONFIG}.{DEAD}").write_text("")
    with hold_folder(tmp_path, {"command": "compare"}):
        assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [CONFIG]


def nested(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("text", [nested(100_000), nested(MOST_NESTED + 1), "NaN", "[1e999]", b"\xff", "{", "9" * 5000])
def test_a_text_that_is_no_json_of_ours_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"nested|number|utf-8|Expecting|Exceeds"):
        read_json(text)


def test_brackets_in_a_text_are_no_levels():
    assert read_json(nested(MOST_NESTED)) is not None
    assert read_json(json.dumps(["[" * 500, '\\"[' * 500])) == ["[" * 500, '\\"[' * 500]


DAMAGE = {
    "deep": lambda found: nested(5000),
    "agent": lambda found: found | {"agent": 3},
    "method_options": lambda found: found | {"method_options": [1]},
    "seed": lambda found: found | {"seed": True},
    "no env": lambda found: {key: value for key, value in found.items() if key != "env"},
    "epochs": lambda found: found | {"epochs": "20"},
    "huge": lambda found: found | {"seed": 10**400},
    "select": lambda found: found | {"select": "best"},
    "no predictor": lambda found: found | {"fused": {}},
    "fused": lambda found: found | {"fused": {"method": 3}},
    "modalities": lambda found: found | {"modalities": {}},
    "gap": lambda found: found | {"gap": None},
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [(CONFIG, key) for key in ("deep", "agent", "method_options", "seed", "no env", "huge")]
    + [(SUMMARY, key) for key in ("deep", "epochs", "select", "no predictor", "fused", "modalities", "gap", "huge")],
)
def test_one_damaged_run_is_one_line_and_hides_no_other(tmp_path, name, damage):
    bad, good = make_run(tmp_path / "bad"), make_run(tmp_path / "good")
    found = DAMAGE[damage](json.loads((bad / name).read_text()))
    (bad / name).write_text(found if isinstance(found, str) else json.dumps(found))
    done = dus("runs", "list", tmp_path, cwd=tmp_path, check=0)
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["bad", "damaged"], ["good", "finished"]]
    assert re.fullmatch(rf"bad: [^\n]*{name}[^\n]*\n", done.stderr)
    for words in (("report", bad), ("watch", bad, "--once"), ("runs", "show", bad), ("runs", "diff", good, bad)):
        done = dus(*words, cwd=tmp_path)
        assert done.returncode == 2, words
        assert f"{name} is damaged" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"observation": [0.5]}, {"observation": "ab"}, {"epoch": 3}, {"epoch": None}, {"step": 0}, {"iterations": -1},
        {"size/pixels": "2"}, {"train_score/pixels": None}, {"val_accuracy/pixels": []}, {"loss": 10**400},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_that_is_no_step_is_named(tmp_path, changed):
    run = make_run(tmp_path / "run")
    lines = [json.dumps(step(1)), json.dumps(step(2) | changed)]
    (run / STEPS).write_text("\n".join(lines) + "\n")
    with pytest.raises(RunFolderError, match=r"steps\.jsonl, line 2, is damaged"):
        list(read_steps(run))
    for words in (("report", run), ("watch", run, "--once")):
        assert dus(*words, cwd=tmp_path).stderr.count("\n") == 1


def test_all_steps_have_the_modalities_of_the_first(tmp_path):
    run = make_run(tmp_path / "run")
    other = {key.replace("pixels", "other"): value for key, value in step(2).items()}
    (run / STEPS).write_text(json.dumps(step(1)) + "\n" + json.dumps(other) + "\n")
    with pytest.raises(RunFolderError, match="line 2, is damaged"):
        list(read_steps(run))


@pytest.mark.parametrize("at", range(0, 400, 37))
def test_a_flipped_bit_in_the_index_changes_no_row(tmp_path, at):
    make_run(tmp_path / "run")
    rows = list_runs(tmp_path)
    index = tmp_path / ".dus-index.jsonl"
    damaged = bytearray(index.read_bytes())
    damaged[at] ^= 1
    index.write_bytes(damaged)
    assert list_runs(tmp_path) == rows


def test_nothing_from_outside_is_markup(tmp_path):
    folder = tmp_path / "exp[red]" / "q[/x]"
    done = dus("train", "DUS-Fake-v0", "--agent", "pi", "--epochs", "2", "--out", folder, cwd=tmp_path, check=0)
    assert "q[/x]" in done.stdout
    done = dus("runs", "list", tmp_path, cwd=tmp_path, check=0)
    assert "exp[red]/q[/x]" in done.stdout
    for words in (("runs", "show", folder), ("watch", folder, "--once"), ("runs", "diff", folder, folder)):
        dus(*words, cwd=tmp_path, check=0)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_no_cell_of_an_export_is_a_formula(tmp_path, cell):
    write_csv(tmp_path / "rows.csv", [{"text": cell, "number": -1.5, cell: "a"}])
    head, row = (tmp_path / "rows.csv").read_bytes().decode().split("\n", 1)
    assert "'" + cell in head
    assert row.replace('"', "").startswith("'" + cell)
    assert ",-1.5," in row


@pytest.mark.parametrize("words", [("report", "run"), ("train", "--help"), ("runs", "list", ".")], ids=" ".join)
def test_a_terminal_that_lacks_letters_ends_no_command(tmp_path, words):
    make_run(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "é")
    environment = {"PYTHONIOENCODING": "ascii", "LANG": "C", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-m", "dus_gym", *words], cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


def test_two_quick_interrupts_leave_no_traceback(tmp_path):
    words = [
        sys.executable,
        "-m",
        "dus_gym",
        "train",
        "DUS-Fake-v0",
        "--epochs",
        "100000",
        "--out",
        str(tmp_path / "r"),
    ]
    # A shell without job control, as under `nohup … &`, has its children ignore the signal; a terminal has not.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=heed)
    while not (tmp_path / "r" / STEPS).exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in said


def test_a_hint_to_resume_stands_where_there_is_something_to_resume(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run"):
        read_run(tmp_path)
    run = make_run(tmp_path / "run")
    done = dus("runs", "show", run, "--csv", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "try again" in done.stderr
    assert "--resume" not in done.stderr
