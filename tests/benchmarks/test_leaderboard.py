"""The leaderboard: its rows can be had again by their commands, and a row that can't is refused."""

import json
from dataclasses import replace

import pytest
from command import dus
from hub_server import local_hub

from dus_gym.benchmarks import leaderboard
from dus_gym.benchmarks.leaderboard import BOARD, as_csv, call_of, entries_of, pull, push, read, replay, write
from dus_gym.errors import ConfigError, DusError, FetchError, NotOnHubError
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


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(tmp_path, monkeypatch) as found:
        yield found


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


# -- a board on the hub ------------------------------------------------------------------------------


def test_rows_come_back_from_the_hub_and_new_ones_join_them(row, hub):
    other = replace(row, agent="uniform", accuracy="1.00")
    first = push([row, other], "lab/board")
    assert pull("lab/board") == sorted([row, other], key=lambda one: -float(one.accuracy))
    better, third = replace(other, accuracy="99.00"), replace(row, agent="steady", accuracy="50.00")
    push([better, third], "lab/board")
    assert {one.agent: one.accuracy for one in pull("lab/board")} == {
        row.agent: row.accuracy, "uniform": "99.00", "steady": "50.00",
    }  # fmt: skip
    assert len(pull(f"lab/board@{first}")) == 2
    assert list(hub.repos) == [("dataset", "lab/board")]
    with pytest.raises(NotOnHubError, match="no such repository"):
        pull("lab/other")


def test_rows_of_somebody_else_s_are_not_overwritten(row, hub, monkeypatch):
    push([row], "lab/board")
    send = leaderboard.send

    def meanwhile(*words, **named):
        hub.commit("dataset", "lab/board", {BOARD.name: as_csv([replace(row, agent="theirs")])})
        return send(*words, **named)

    monkeypatch.setattr(leaderboard, "send", meanwhile)
    with pytest.raises(FetchError, match=r"was changed by somebody else in between \(HTTP 412\); do it again"):
        push([replace(row, agent="mine")], "lab/board")
    assert [one.agent for one in pull("lab/board")] == ["theirs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + b"a,b\n", "row 2 is no row of 13 plain texts"),
        (lambda text: text.rstrip() + b",more\n", "row 1 is no row of 13 plain texts"),
        (lambda text: text.replace(b"real,last", b"real,\x1b[2J"), "row 1 is no row of 13 plain texts"),
        (lambda text: text + b"\xff\n", "is no CSV file"),
        (lambda text: b"a,b\n1,2\n", "has columns"),
    ],
)
def test_a_board_that_is_none_is_refused(row, hub, change, message):
    hub.commit("dataset", "lab/board", {BOARD.name: change(as_csv([replace(row, data_kind="real", select="last")]))})
    for reading in (lambda: pull("lab/board"), lambda: push([row], "lab/board")):
        with pytest.raises(ConfigError, match=message):
            reading()


def test_the_program_pushes_a_comparison_and_replays_a_row_of_the_hub(comparison, hub, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["leaderboard", *words])
        leaderboard.main()
        return capsys.readouterr().out

    before = BOARD.read_bytes()
    assert run("push", "lab/board", str(comparison)).startswith("2 rows in commit ")
    assert "score:rule=softmax" in run("show", "--hub", "lab/board")
    assert "every seed is the same" in run("replay", "--hub", "lab/board", "--row", "2")
    with pytest.raises(SystemExit, match=r"leaderboard: .*no such repository"):
        run("show", "--hub", "lab/none")
    with pytest.raises(SystemExit, match=r"leaderboard: .*is no address on the hub"):
        run("push", "board")
    assert BOARD.read_bytes() == before
