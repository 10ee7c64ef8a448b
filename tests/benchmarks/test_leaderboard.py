"""The leaderboard: its rows can be had again by their commands, and a row that can't is refused."""

import shlex
from dataclasses import replace

import pytest
from command import dus

from dus_gym.benchmarks.leaderboard import BOARD, Row, read, replay, rows_of, write
from dus_gym.cli.compare import CompareOptions
from dus_gym.cli.options import env_among, parse, parse_seeds, with_options, word_after
from dus_gym.cli.train import request_of
from dus_gym.errors import ConfigError, DusError
from dus_gym.experiments.command import compare_command

COMPARE = ("compare", "DUS-Fake-v0", "--agents", "score:rule=softmax", "--seeds", "3,5", "--epochs", "3", "--quiet")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "comparison"
    dus(*COMPARE, "--out", folder, cwd=folder.parent, check=0)
    return folder


@pytest.fixture
def row(comparison):
    (found,) = [row for row in rows_of(comparison, "0123456789ab") if row.agent == "score:rule=softmax"]
    return found


def asked(words):
    arguments = with_options(CompareOptions, word_after(words, "--method", "baseline"), env=env_among(words))
    options = parse(arguments, words, "compare", "")
    seeds = parse_seeds(options.seeds)
    return seeds, request_of(options, "uniform", {}, seeds[0])


@pytest.mark.parametrize(
    "words",
    [
        ["DUS-Digits-v0", "--lr-scale", "0.5", "1.0", "--loss-norm", "fixed", "--seeds", "7,"],
        ["DUS-AVDigits-v0", "--validation", "speaker", "--method", "ogm", "--method.alpha", "0.7", "--threads", "2"],
        ["DUS-Twitter2015-v0", "--encoder", "clip", "--amp", "--trainer", "fake", "--epochs", "4", "--seeds", "0-2"],
    ],
)
def test_a_row_s_command_asks_for_every_setting(words):
    seeds, request = asked(words)
    command = shlex.split(compare_command(request.as_config(), "score", seeds))
    assert command[:2] == ["dus", "compare"]
    assert word_after(command, "--agents", "") == "score"
    assert asked(command[2:]) == (seeds, request)


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


def test_several_comparisons_lost_runs_and_foreign_files_are_refused(comparison, tmp_path):
    dus("compare", "DUS-Fake-v0", "--agents", "score", "--method", "baseline,mla", "--seeds", "1", "--epochs", "2",
        "--quiet", "--out", tmp_path / "several", cwd=tmp_path, check=0)  # fmt: skip
    with pytest.raises(ConfigError, match="several comparisons"):
        rows_of(tmp_path / "several", "")
    one = tmp_path / "several" / "DUS-Fake-v0" / "mla"
    assert {row.method for row in rows_of(one, "")} == {"mla"}
    (one / "score" / "seed0" / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"lacks runs of score with seeds \[0\]"):
        rows_of(one, "")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has columns"):
        read(tmp_path / "other.csv")


def test_the_committed_board_is_as_the_program_writes_it(tmp_path):
    rows: list[Row] = read()
    assert rows
    write(rows, tmp_path / "board.csv")
    assert (tmp_path / "board.csv").read_bytes() == BOARD.read_bytes()
    for row in rows:
        assert len(row.each.split()) == len(row.seeds.split())
        assert not row.commit.endswith("+"), "made from files that no commit has"
