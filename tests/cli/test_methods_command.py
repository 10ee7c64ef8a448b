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
    assert len(rows) == 25
    for name, row in rows.items():
        assert row["year"] >= 2019
        assert row["changes"]
        assert row["modalities"][0] == "2" or name == "unimodal"
    assert {name for name, row in rows.items() if row["under_dus"]} == {
        *("baseline", "mla", "pmr", "agm", "di_mml", "ogr_gb", "mses", "unimodal", "mmpareto", "umt", "bss", "aug")
    }
    assert {name for name, row in rows.items() if row["needs_validation"]} == {"ogr_gb", "mses", "mslr", "relearning"}
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


def bare(text):
    return "".join(text.replace("│", "").split())


OTHER = {
    "unimodal": {},
    "joint": {},
    "baseline": {"fused_weight": 0.1, "unimodal_weight": 0.9},
    "ogr_gb": {"mode": "offline", "super_epoch": 0.5, "epsilon": 1e-6},
    "ogm": {
        **{"alpha": 0.1, "ratio": "pairwise", "start_epoch": 1, "end_epoch": 2, "scale_via": "grad"},
        "conv_only": True,
    },
    "domfn": {"gamma": 0.7, "tau": 0.5, "eta": 0.0, "pretraining": 0.5, "fusion_hidden": 0},
    "mses": {"patience": 0.5, "smoothing": "released"},
    "pmr": {
        **{"alpha": 1.0, "coefficient": "released", "start_epoch": 1, "end_epoch": 2, "momentum": 0.5},
        **{"prototype_fraction": 0.1, "entropy_weight": 0.1, "entropy_epochs": 3},
    },
    "agm": {
        **{"alpha": 2.5, "cap": 3.0, "start_epoch": 1, "end_epoch": 2, "clip": 0.0, "scale_via": "lr"},
        "fusion_hidden": 8,
    },
    "mslr": {"strategy": "smooth", "rates": [0.9, 1.1], "smoothing": 0.0, "mean": "linear", "window": 2},
    "reconboost": {
        **{"stage": 0.5, "rectification": 0.4, "pretraining": 0.2, "label_weight": 4.0, "residual_weight": 0.5},
        **{"residual": "full", "consolidation_weight": 0.0, "consolidation": "released"},
    },
    "smv": {
        **{"level": "modality", "warm_up": 0.0, "masking": "inputs", "alpha": 2.0, "growth": "tanh", "part": 0.5},
    },
    "di_mml": {
        **{"fusion": 0.5, "shared_weight": 0.5, "transfer_weight": 0.0, "transfer_start": 0.2, "temperature": 10.0},
        "certainty_temperature": 3.0,
    },
    "mla": {"projection": "none", "order": "update_then_project", "normalize": True},
    "mmcosine": {"scale": 5.0},
    "mmpareto": {"gamma": 1.0, "magnitude": "encoder"},
    "opm": {
        **{"drop": 0.4, "strength": 1.0, "execution": 0.9, "ratio": "others", "start_epoch": 1, "end_epoch": 2},
    },
    "cml": {"weight": 1.0, "pairs": "cpm"},
    "lfm": {"divergence": "js", "label_weight": 0.5},
    "umt": {"weight": 1.0, "teacher": 0.5},
    "bss": {
        **{"fused_weight": 0.1, "unimodal_weight": 0.9, "scheduler": "heuristic", "start": 0.2, "growth": 0.5},
    },
    "aug": {"residual_weight": 0.2, "period": 0.2, "lag": 0.5},
    "greedy": {"epsilon": 0.1, "window": 3, "start_epoch": 2},
    "relearning": {"strength": 2.0, "period": 0.5, "times": 1, "restarts": 2},
}
"""Every option of every method with a value that is not its default."""
OTHER["ogm_ge"] = OTHER["ogm"]


@pytest.mark.parametrize("name", METHODS)
def test_the_command_line_reaches_every_option(tmp_path, name):
    assert list(OTHER[name]) == [row["name"] for row in option_table(method_class(name).options_type)]
    words = []
    for option, value in OTHER[name].items():
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += ["--method." + option.replace("_", "-"), *values]
    run = ("--agent", "uniform", "--trainer", "fake", "--epochs", "12", "--out", "run", "--quiet")
    dus("train", "DUS-Digits-v0", "--method", name, *words, *run, cwd=tmp_path, check=0)
    assert json.loads((tmp_path / "run/config.json").read_text())["method_options"] == OTHER[name]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_option_has_its_docstring_and_is_a_word_of_the_command_line(tmp_path, name):
    kind = method_class(name).options_type
    table = option_table(kind)
    assert [row["name"] for row in table] == [field.name for field in dataclasses.fields(kind)]
    # The help is set in a box, whose lines end where they must.
    text = bare(dus("train", "DUS-Digits-v0", "--method", name, "--help", cwd=tmp_path, check=0).stdout)
    for row in table:
        assert row["doc"], row["name"]
        assert f"--method.{row['name'].replace('_', '-')}" in text
        assert bare(row["doc"]) in text
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
