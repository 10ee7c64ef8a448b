"""The script for a card says all that it is to say, on an emulated one."""

import pytest
from emulated_graphs import EmulatedGraphs

from dus_gym import trainer
from dus_gym.benchmarks import captured
from dus_gym.benchmarks.captured import Case, main
from dus_gym.errors import ConfigError
from dus_gym.graphs import Rule
from dus_gym.records import GraphsUsed

BERT = "bert:weights=none:hidden=16:layers=1:heads=2:vocab=64:out=8"
TINY = [
    Case("two networks", ("mlp", "cnn"), ((6,), (3, 12, 12)), 4, ((4, 4), (2, 6)), iterations=5),
    Case("text", (BERT, "mlp"), ((8,), (6,)), 4, ((4, 4), (6, 2)), iterations=5),
]


@pytest.fixture
def tables(monkeypatch, capsys):
    """The rows that a call of the script prints, by cell."""

    def play(*arguments):
        main(["--device", "cpu", "--precision", "float32", *arguments], TINY)
        lines = capsys.readouterr().out.splitlines()
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")], lines

    return play


def test_every_side_is_measured(tables, monkeypatch):
    monkeypatch.setattr("dus_gym.encoders.bert.check_ids", lambda *_: None)
    for module in (captured, trainer):
        monkeypatch.setattr(module, "graphs_of", lambda _: EmulatedGraphs())
    # What the rule finds hangs on the clock.
    monkeypatch.setattr(Rule, "pays", lambda *_: False)
    rows, lines = tables("--clips", "0")
    sides = [captured.BY_HAND, captured.HAND_CAPTURED, captured.EVERY, captured.AUTO, captured.OFF]
    assert [row[:2] for row in rows[2:]] == [[case.label, side] for case in TINY for side in sides]
    for row in rows[2:]:
        assert all(float(cell) > 0.0 for cell in row[2:5])
    for every, auto, off in (rows[4:7], rows[9:12]):
        assert every[3] == auto[4] == "1.000"
        assert every[7].startswith("2 of 2 sizes ran captured, 0 captures while it counted; 2 in all in ")
        assert auto[7].startswith("0 of 2 sizes ran captured, 0 captures while it counted; 0 in all in ")
        assert off[7] == ""
    assert lines[-1].endswith("s in all")


class Capturing:
    """What trains, and captures so many steps in one round after another."""

    def __init__(self, captures):
        self.used, self.captures, self.calls = GraphsUsed(), captures, 0

    def train(self, sizes, iterations):
        self.used.iterations += iterations
        if self.calls % 2 == 0:
            self.used.captured += self.captures[min(self.calls // 2, len(self.captures) - 1)]
            self.used.replays += 1
        self.calls += 1


@pytest.mark.parametrize(
    ("captures", "rounds", "counted"),
    [([0], 2, 0), ([2, 0], 3, 0), ([2, 1, 1, 0], 5, 0), ([1], captured.ROUNDS + 1, 1), ([1, 0, 3], 3, 3)],
)
def test_rounds_are_repeated_until_one_captures_nothing(captures, rounds, counted):
    fed = Capturing(captures)
    side = captured.measure(TINY[0], fed.train, captured.torch.device("cpu"), fed.used)
    assert fed.calls == 2 * rounds
    assert side.note.startswith(f"1 of 2 sizes ran captured, {counted} captures while it counted; ")


def test_no_side_is_begun_late():
    def late(what):
        named.append(what)
        return not what.endswith(captured.OFF)

    named = []
    sides = captured.sides_of(TINY[0], captured.torch.device("cpu"), "float32", benchmark=False, late=late)
    assert named == [f"two networks: {name}" for name in (captured.BY_HAND, captured.AUTO, captured.OFF)]
    assert list(sides) == [captured.OFF]
    (row,) = captured.rows_of(TINY[0], sides)
    assert [cell.strip() for cell in row.split("|")][4:6] == ["not run", "not run"]


def test_what_there_is_no_time_for_is_named(tables):
    rows, lines = tables("--seconds", "0")
    assert len(rows) == 2
    assert "No time was left for: two networks; text; the store." in lines


def test_the_time_that_clips_take_counts_before_they_are_made(capsys):
    main(["--device", "cpu", "--seconds", "60", "--clips", "10000"], [])
    assert "No time was left for: the store." in capsys.readouterr().out


@pytest.mark.slow
def test_iterations_of_the_store_beside_those_of_tensors(monkeypatch):
    monkeypatch.setattr(captured, "ITERATIONS", 3)
    rows = list(captured.store_stretches(captured.torch.device("cpu"), "float32", 20, 4, 1))
    assert [row.split("|")[1].strip() for row in rows] == ["tensors on the device", "the store"]


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="device='cuda:77' is not available"):
        main(["--device", "cuda:77"])
