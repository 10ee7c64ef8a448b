"""The page that maps the paper to the code names what exists, and all of the paper."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "paper-map.md"
MEND = "mend docs/paper-map.md: each place is `path from the repository's root::name`, Class.method for a method"
TEXT = PAGE.read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w/.]+\.py)::([\w.]+)`", TEXT)))
LINES = range(1, 18)
ITEMS = [*(f"table{i}" for i in "1234"), *(f"tableA{i}" for i in "1234"), "fig1", "fig3", "fig4", "fig5"]


def names_of(path):
    """Every top-level name of a module, and every Class.name."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{member.name}" for member in members if isinstance(member, ast.FunctionDef)}
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if hasattr(node, "target") else []
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def rows(heading):
    """First cell to whole row, of the table under a heading."""
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return {line.split("|")[1].strip(" `"): line for line in table}


@pytest.mark.parametrize(("path", "name"), PLACES, ids="::".join)
def test_every_place_exists(path, name):
    assert (ROOT / path).is_file(), f"{path} is gone; {MEND}"
    assert name in names_of(ROOT / path), f"{path} has no {name}; {MEND}"


@pytest.mark.parametrize(
    ("heading", "wanted"),
    [
        ("Equations", [f"Eq. {i}" for i in range(1, 7)]),
        ("Algorithm 1", [str(i) for i in LINES]),
        ("Variants and ablations", ["DUS-H", "MLA-HB", "DUS w/o RL", "DUS w/o CS"]),
        ("Tables and figures", ITEMS),
    ],
)
def test_nothing_of_the_paper_is_left_out(heading, wanted):
    found = rows(heading)
    for first in wanted:
        assert first in found, f"no row for {first} under {heading}; {MEND}"
        assert "::" in found[first], f"{first} under {heading} names no place; {MEND}"


def tagged(path):
    """The lines of Algorithm 1 that a file's comments name."""
    found = set()
    for numbers in re.findall(r"# Algorithm 1, lines? ([\d\-and ]+)", (ROOT / path).read_text(encoding="utf-8")):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", numbers):
            found |= set(range(int(first), int(last or first) + 1))
    return found


def test_the_lines_of_algorithm_1_are_named_where_the_page_says():
    for number, row in rows("Algorithm 1").items():
        first = re.findall(r"`([\w/.]+\.py)::", row)[0]
        assert int(number) in tagged(first), (
            f"no comment `# Algorithm 1, line {number}` in {first}: put it where the line is, or {MEND}"
        )
