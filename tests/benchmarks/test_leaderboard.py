"""The leaderboard: its rows can be had again by their commands, and a row that can't is refused."""

import json
from dataclasses import replace

import pytest
from command import dus

from dus_gym.benchmarks.leaderboard import BOARD, call_of, entries_of, read, replay, write
from dus_gym.errors import ConfigError, DusError
from dus_gym.experiments.compare import plan_comparison

COMPARE = ("compare", "DUS-Fake-v0", "--agents", "score:rule=softmax", "--seeds", "3,5", "--epochs", "3", "--quiet")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "comparison"
    dus(*COMPARE, "--out", folder, cwd=folder.parent, check=0)
    return folder


@pytest.fixture
def row(comparison):
    (found,) = [row for row in entries_of(comparison, "0123456789ab") if row.agent == "score:rule=softmax"]
    return found


@pytest.mark.parametrize(
    "asked",
    [
        {"env": "DUS-Digits-v0", "lr_scale": (0.5, 1.0), "loss_norm": "fixed", "seeds": [7]},
        {"env": "DUS-Digits3-v0", "method": "mla", "method_options": {"projection": "none"}, "threads": 2, "seeds": 2},
        {"env": "DUS-Twitter2015-v0", "task_options": {"encoder": "clip"}, "trainer": "fake", "epochs": 4, "seeds": 3},
    ],
)
def test_an_entry_s_call_asks_for_every_setting(asked):
    (plan,) = plan_comparison(agents=["score:rule=softmax"], **asked)
    call = json.loads(call_of(plan.first, "score:rule=softmax", plan.seeds))
    (again,) = plan_comparison(**call)
    assert again.specs == plan.specs


def test_a_row_that_was_added_replays_to_the_same_figures(row, tmp_path, capsys):
    write([row], tmp_path / "board.csv")
    (again,) = read(tmp_path / "board.csv")
    assert again == row
    assert row.seeds == "3 5"
    assert row.trainer == "fake"
    assert replay(again, 0.0) == 0.0
    assert "every seed is the same" in capsys.readouterr().out


def test_a_tampered_row_is_refused(row):
    better = f"{float(row.accuracy) + 0.5:.2f}"
    with pytest.raises(DusError, match=r"off by 0\.50 points; 0\.1 are allowed"):
        replay(replace(row, accuracy=better), 0.1)
    with pytest.raises(DusError, match="not its seeds"):
        replay(replace(row, each=" ".join(reversed(row.each.split()))), 0.0)


def test_several_comparisons_and_foreign_files_are_refused(comparison, tmp_path):
    dus("compare", "DUS-Fake-v0", "--agents", "score", "--method", "baseline,mla", "--seeds", "1", "--epochs", "2",
        "--quiet", "--out", tmp_path / "several", cwd=tmp_path, check=0)  # fmt: skip
    with pytest.raises(ConfigError, match="several comparisons"):
        entries_of(tmp_path / "several", "")
    one = tmp_path / "several" / "DUS-Fake-v0" / "mla"
    assert {row.method for row in entries_of(one, "")} == {"mla"}
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has columns"):
        read(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("[]", "is no JSON object"),
        ("{", "is no JSON object"),
        ('{"trust": true, "out": "/"}', "must not set out, trust"),
    ],
)
def test_a_call_that_a_file_must_not_make_is_refused(row, call, message, tmp_path):
    write([replace(row, call=call)], tmp_path / "board.csv")
    with pytest.raises(ConfigError, match=f"row 1: .*{message}"):
        read(tmp_path / "board.csv")


def test_the_committed_board_is_as_the_program_writes_it(tmp_path):
    rows = read()
    assert rows
    write(rows, tmp_path / "board.csv")
    assert (tmp_path / "board.csv").read_bytes() == BOARD.read_bytes()
    for row in rows:
        assert len(row.each.split()) == len(row.seeds.split())
        assert not row.commit.endswith("+"), "made from files that no commit has"
