"""The script for a card says all that it is to say, on an emulated one."""

import pytest
from emulated_graphs import EmulatedGraphs

from dus_gym import trainer
from dus_gym.benchmarks import captured
from dus_gym.benchmarks.captured import Case, main
from dus_gym.errors import ConfigError
from dus_gym.graphs import Rule

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
    monkeypatch.setattr(Rule, "pays", lambda *_: True)
    monkeypatch.setattr(Rule, "slower", lambda *_: False)
    rows, lines = tables("--clips", "0")
    sides = ["by hand, changing sizes", "by hand, captured", "dus-gym, graphs=off", "dus-gym, graphs=auto"]
    assert [row[:2] for row in rows[2:]] == [[case.label, side] for case in TINY for side in sides]
    for row in rows[2:]:
        assert float(row[2]) > 0.0
        assert float(row[3]) > 0.0
    for last in (rows[5], rows[9]):
        assert last[3] == "1.000"
        assert last[5].startswith("2 captured in ")
        assert last[5].endswith("14 of 20 replayed")
    assert lines[-1].endswith("s in all")


def test_what_there_is_no_time_for_is_named(tables):
    rows, lines = tables("--seconds", "0")
    assert len(rows) == 2
    assert "No time was left for: two networks; text; the store." in lines


@pytest.mark.slow
def test_epochs_of_the_store_beside_those_of_tensors():
    rows = list(captured.store_epochs(captured.torch.device("cpu"), "float32", 20, 4, 1))
    assert [row.split("|")[1].strip() for row in rows] == ["tensors on the device", "the store"]


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="device='cuda:77' is not available"):
        main(["--device", "cuda:77"])
