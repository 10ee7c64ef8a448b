"""A model that was chosen by its test accuracy is labelled so in every output that has a figure of it."""

import csv
import json

import pytest
from command import dus

from dus_gym.experiments.loggers import test_figures as logged_figures
from dus_gym.experiments.storage.run_folder import read_result

LABEL = "BEST TEST EPOCH, optimistic"
SETTINGS = ("DUS-Digits-v0", "--epochs", 2)


@pytest.fixture
def runs(tmp_path):
    """A folder with one run chosen on the test split and one that was not."""
    for select in ("best_test", "last"):
        dus("train", *SETTINGS, "--select", select, "--out", select, "--quiet", cwd=tmp_path, check=0)
    return tmp_path


def words(text):
    return " ".join(text.split())


def test_a_run_says_so_when_it_ends_and_when_it_is_shown(runs):
    text = dus("train", *SETTINGS, "--select", "best_test", "--out", "again", "--json", cwd=runs, check=0).stdout
    assert LABEL in words(text)
    assert json.loads(text.splitlines()[-1])["select"] == "best_test"
    assert LABEL in words(dus("runs", "show", "best_test", cwd=runs, check=0).stdout)
    assert LABEL not in words(dus("runs", "show", "last", cwd=runs, check=0).stdout)


def test_a_comparison_says_so(tmp_path):
    chosen = ("--agents", "uniform", "--seeds", 1, "--select", "best_test", "--json")
    text = dus("compare", *SETTINGS, *chosen, cwd=tmp_path, check=0).stdout
    assert LABEL in words(text)
    assert json.loads(text.splitlines()[-1])["select"] == "best_test"


def test_a_list_of_runs_says_so_in_the_row(runs):
    text = dus("runs", "list", ".", "--csv", "runs.csv", cwd=runs, check=0).stdout
    assert words(text).count(LABEL) == 1
    with (runs / "runs.csv").open(encoding="utf-8", newline="") as lines:
        assert {row["run"]: row["select"] for row in csv.DictReader(lines)} == {
            "best_test": "best_test",
            "last": "last",
        }
    # From the index, too.
    found = json.loads(dus("runs", "list", ".", "--quiet", "--json", cwd=runs, check=0).stdout)
    assert {row["run"]: row["select"] for row in found["runs"]} == {"best_test": "best_test", "last": "last"}


def test_a_logger_gives_the_figures_another_name(runs):
    chosen, last = (set(logged_figures(read_result(runs / name))) for name in ("best_test", "last"))
    assert "test/fused_method/accuracy" in last
    assert chosen == {"best_" + name for name in last}
