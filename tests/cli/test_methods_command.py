"""``dus methods`` and what a method's word reaches: options, help, and which agents it can train under."""

import dataclasses
import json
from pathlib import Path

import pytest
from command import dus

from dus_gym.methods import METHODS, make_method, method_class, unpaired_methods
from dus_gym.options import option_table


def listed(tmp_path):
    done = dus("methods", "--quiet", "--json", cwd=tmp_path, check=0)
    assert done.stdout.count("\n") == 1
    return {row["method"]: row for row in json.loads(done.stdout)["methods"]}


def test_methods_lists_what_each_is(tmp_path):
    rows = listed(tmp_path)
    assert list(rows) == list(METHODS)
    assert len(rows) == 15
    for name, row in rows.items():
        assert row["year"] >= 2019
        assert row["changes"]
        assert row["modalities"][0] == "2" or name == "unimodal"
    assert {name for name, row in rows.items() if row["under_dus"]} == {
        *("baseline", "mla", "pmr", "agm", "di_mml", "ogr_gb", "mses", "unimodal")
    }
    text = dus("methods", cwd=tmp_path, check=0).stdout
    for name in METHODS:
        assert name in text


def test_the_documentation_has_the_same_table(tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs/methods.md"
    found = [line for line in page.read_text(encoding="utf-8").splitlines() if line.endswith(("| yes |", "| no |"))]
    columns = ("paper", "changes", "modalities")
    assert found == [
        " | ".join([f"| `{name}`", *(row[c] for c in columns), "yes |" if row["under_dus"] else "no |"])
        for name, row in listed(tmp_path).items()
    ]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_option_has_its_docstring_and_is_a_word_of_the_command_line(tmp_path, name):
    kind = method_class(name).options_type
    table = option_table(kind)
    assert [row["name"] for row in table] == [field.name for field in dataclasses.fields(kind)]
    text = " ".join(dus("train", "DUS-Digits-v0", "--method", name, "--help", cwd=tmp_path, check=0).stdout.split())
    for row in table:
        assert row["doc"], row["name"]
        assert f"--method.{row['name'].replace('_', '-')}" in text
        # The default of the listing is the default of the method.
        assert getattr(make_method(name).options, row["name"]) == row["default"]


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(unpaired_methods())))
@pytest.mark.parametrize("agent", ["reinforce", "heuristic", "lr-matched", "best-fixed"])
def test_a_method_that_needs_pairs_refuses_agents_before_anything_starts(tmp_path, name, agent):
    done = dus("train", "DUS-Digits-v0", "--method", name, "--agent", agent, "--out", "run", cwd=tmp_path, check=2)
    for works in unpaired_methods():
        assert works in done.stderr
    assert f"method={name!r}" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("agent", ["uniform", "fixed", "fixed:shares=1/1", "lr-matched:match=uniform"])
def test_agents_that_split_evenly_train_it(tmp_path, agent):
    words = ("compare", "DUS-Digits-v0", "--method", "joint", "--agents", agent, "--seeds", "1", "--epochs", "2")
    done = dus(*words, "--quiet", "--json", cwd=tmp_path, check=0)
    assert agent in json.loads(done.stdout)["agents"]


def test_an_uneven_fixed_split_is_refused_under_it(tmp_path):
    words = ("compare", "DUS-Digits-v0", "--method", "joint", "--agents", "fixed:shares=1/2", "--seeds", "1")
    assert "'fixed' gives modalities unequal batches" in dus(*words, cwd=tmp_path, check=2).stderr
