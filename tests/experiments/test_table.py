"""The one table: the same cells as text, Markdown, HTML, for rich and for pandas."""

import sys

import pytest
from made_results import OTHER_NOISE, SEEDS, comparison_of, part_of, result
from rich.console import Console

from dus_gym.errors import ConfigError
from dus_gym.experiments.comparison import conclude
from dus_gym.experiments.results import LEGEND
from dus_gym.experiments.table import Table

AT_EQUAL = {"half": [result(0.7 + OTHER_NOISE[s] - 0.015, samples=9600, total_batch=96) for s in SEEDS]}


@pytest.fixture(scope="module")
def comparison():
    return comparison_of(
        {"pi": 3.0, "half": 1.0, "score:rule=softmax": 0.0}, half={"samples": 9600}, equal_samples=AT_EQUAL
    )


def test_by_default_a_table_has_what_a_reader_needs_first(comparison):
    table = comparison.table()
    assert list(table.head) == [
        "agent", "accuracy, % ± standard deviation", "difference, points [interval]", "outcome", "samples",
        "extra runs",
    ]  # fmt: skip
    assert table.rows[0] == ["uniform", "70.0 ± 0.2", "", "", "12.8k", "0"]
    assert [row[0] for row in table.rows] == ["uniform", "pi", "half", "half, at equal samples", "score:rule=softmax"]
    assert table.rows[1][2:4] == ["+3.0 [+2.4, +3.6]", "gains"]
    assert table.rows[3][1:] == ["", "+2.5 [+2.0, +3.0]", "gains", "9.6k", ""]
    assert table.rows[4][3] == "cannot be told"
    assert "5 seeds" in table.caption
    assert "differences to uniform on the same seeds, with 95 % intervals" in table.caption
    assert "wider because 4 differences are tested (Holm's correction)" in table.caption


@pytest.mark.parametrize(
    ("gains", "seeds", "said"),
    [
        ({"pi": 3.0}, SEEDS, "on the same seeds, with 95 % intervals."),
        ({"pi": 3.0, "score": 0.0}, SEEDS, "wider because 2 differences are tested (Holm's correction)."),
        ({"pi": 3.0, "score": 0.0}, [0], "differences to uniform on the same seeds."),
    ],
)
def test_the_caption_says_what_the_intervals_are_where_there_are_any(gains, seeds, said):
    assert comparison_of(gains, seeds=seeds).table().caption.endswith(said)


def test_the_full_table_tests_one_predictor_and_shows_the_others(comparison):
    table = comparison.table(full=True)
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert rows[1]["corrected p"] == "< .001"
    assert "p" not in table.head, "intervals and p-values of one page are corrected alike"
    assert rows[1]["sum, points to uniform"] == "+3.0"
    assert not any(name.startswith("entropy") for name in table.head), "a predictor that the method lacks"
    assert {"pixels alone, %", "gap", "seconds", "agent's share, %", "peak memory, MiB", "iterations"} <= set(
        table.head
    )
    assert rows[3]["seconds"] == ""


def test_several_comparisons_are_one_table_with_a_row_each():
    parts = [part_of({"pi": 3.0}, every={"env": "DUS-A-v0"}), part_of({"score": 0.0}, every={"env": "DUS-B-v0"})]
    table = conclude(parts).table()
    assert list(table.head) == ["comparison", "uniform", "pi", "score"]
    assert table.rows[0] == ["DUS-A-v0, baseline", "70.0 ± 0.2", "+3.0 gains", "–"]
    assert table.rows[1][3] == "+0.0 cannot be told"


def test_text_is_aligned_and_never_cut_or_wrapped(comparison):
    table = comparison.table()
    wide = table.text().splitlines()
    assert len(wide) == 2 + len(table.rows)
    ends = {wide[1].rindex("samples") + 7} | {line.index("9.6k") + 4 for line in wide if "9.6k" in line}
    assert len(ends) == 1


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_on_a_terminal_no_line_is_too_wide_and_no_word_is_cut(comparison, width):
    table = comparison.table()
    lines = table.text(width).splitlines()
    assert max(map(len, lines)) <= width
    # A name may be broken behind a colon.
    whole = " ".join([table.caption, *table.head, *(cell for row in table.rows for cell in row)]).replace(":", ": ")
    assert sorted(" ".join(lines).replace(":", ": ").split()) == sorted(whole.split())
    figures = ("70.0 ± 0.2", "+3.0 [+2.4, +3.6]", "12.8k")
    assert all(any(figure in line for line in lines) for figure in figures), "figures stand on one line"


def test_records_are_a_line_each_with_tabs_between_the_cells(comparison):
    table = comparison.table()
    caption, head, *rows = table.records().split("\n")
    assert caption == table.caption
    assert [line.split("\t") for line in (head, *rows)] == [list(table.head), *map(list, table.rows)]
    assert Table(["a"], [["x\ty\nz"]], "c").records() == "c\na\nx y z", "no cell ends another"


def test_markdown_keeps_bars_inside_their_cells():
    text = Table(["a", "b"], [["x|y", "1"]], "c").markdown()
    assert text == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"
    assert "---:" not in Table(["a", "b"], [["x", "1"]], "c", words=True).markdown()


def test_html_is_escaped_and_outcomes_are_coloured(comparison):
    assert "<td>&lt;i&gt;</td>" in Table(["a", "b"], [["x", "<i>"]], "c").html()
    text = comparison.table().html()
    assert text.count('<td class="better">gains</td>') == 3
    assert "<td>cannot be told</td>" in text


def test_rich_shows_every_cell_whole(comparison):
    console = Console(width=200, file=sys.stderr)
    with console.capture() as captured:
        console.print(comparison.table().rich())
    assert all(cell in captured.get() for row in comparison.table().rows for cell in row)


def test_pandas_has_the_same_cells_or_says_what_to_install(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        comparison.table().pandas()
    monkeypatch.undo()
    frame = pytest.importorskip("pandas") and comparison.table().pandas()
    assert frame.loc["pi", "outcome"] == "gains"


def test_a_row_that_is_too_wide_breaks_its_name_after_colons_and_then_words_and_no_figure():
    rows = [["uniform", "75.5 ± 1.3"], ["lr-matched:match=holdout:x=1", "75.5 ± 1.3"], ["no-colon-in-this-name", "1"]]
    assert Table(["agent", "accuracy"], rows, "Two agents").text(31).splitlines() == [
        "Two agents",
        "agent                    accuracy",
        "uniform                75.5 ± 1.3",
        "lr-matched:            75.5 ± 1.3",
        "  match=holdout:x=1",
        "no-colon-in-this-name           1",
    ]
    rows = [["uniform", "75.5 ± 1.3", ""], ["half, at equal samples", "75.5 ± 1.3", "harm not excluded"]]
    assert Table(["agent", "accuracy", "outcome"], rows, "").text(31).splitlines() == [
        "agent        accuracy   outcome",
        "uniform    75.5 ± 1.3",
        "half, at   75.5 ± 1.3  harm not",
        "  equal                excluded",
        "  samples",
    ]  # fmt: skip
    assert all(row[0] in Table(["agent", "accuracy"], rows, "").text() for row in rows), "None breaks nothing"


def test_a_run_s_table_names_the_unit_of_each_column():
    table = result(0.8125).table()
    assert table.head == ["test split", "accuracy, %", "MAP, %", "macro-F1, %", "score, 0 to 1", "samples drawn"]
    assert table.rows[:2] == [
        ["pixels", "60.0", "60.0", "60.0", "1.000", "64"], ["columns", "60.0", "60.0", "60.0", "0.600", "64"],
    ]  # fmt: skip
    fused = ["81.2", "81.2", "81.2", "", ""]
    assert table.rows[2:] == [["fused, method", *fused], ["fused, concat", *fused], ["fused, sum", *fused]]
    notebook = result(0.8125)._repr_html_()
    assert table.html() in notebook
    assert LEGEND in notebook
