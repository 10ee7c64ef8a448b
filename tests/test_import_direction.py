"""Imports run one way: core, then environments and agents, then experiments, then reports, benchmarks, commands."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"dus_gym": "dus_gym", "agents": "dus_gym.agents", "envs": "dus_gym.envs", "benchmarks": "dus_gym.benchmarks"}
MAY_IMPORT = {
    "core": {"core"},
    "envs": {"core", "envs"},
    "agents": {"core", "agents"},
    "experiments": {"core", "envs", "agents", "experiments"},
    "report": {"core", "experiments", "report"},
    "benchmarks": {"core", "envs", "agents", "experiments", "report", "benchmarks"},
    "cli": {"core", "envs", "agents", "experiments", "report", "benchmarks", "cli"},
}


def modules():
    """Every module of the tree by its name, with its file."""
    found = {}
    for folder, package in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = file
    return found


MODULES = modules()
# The package itself registers the ids and offers public names by strings; starting it as a program is a command.
EXCEPT = ("dus_gym", "dus_gym.__main__")


def layer(module):
    second = module.split(".")[1] if "." in module else "core"
    return second if second in MAY_IMPORT else "core"


def imported(tree, here):
    """Modules of ours that a tree imports, with the line; in functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "dus_gym")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{here}:{node.lineno}: a relative import; write it whole"
            if (node.module or "").split(".")[0] != "dus_gym":
                continue
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in MODULES else node.module), node.lineno


@pytest.mark.parametrize("lower", MAY_IMPORT)
def test_nothing_imports_what_lies_above_it(lower):
    wrong = []
    for name, file in MODULES.items():
        if layer(name) != lower or name in EXCEPT:
            continue
        for other, line in imported(ast.parse(file.read_text(encoding="utf-8")), file):
            if other != "dus_gym" and layer(other) not in MAY_IMPORT[lower]:
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {other}")
    assert not wrong, f"{lower} may import {', '.join(sorted(MAY_IMPORT[lower]))}:\n" + "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others():
    edges = {}
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        # What is only there for type checkers, or imported when a function is called, makes no circle.
        body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        edges[name] = {other for other, _ in imported(ast.Module(body, []), file) if other not in (name, "dus_gym")}
    done, under_way = set(), []

    def visit(name):
        if name in under_way:
            raise AssertionError("a circle: " + " -> ".join([*under_way[under_way.index(name) :], name]))
        if name in done or name not in edges:
            return
        under_way.append(name)
        for other in sorted(edges[name]):
            visit(other)
        under_way.pop()
        done.add(name)

    for name in edges:
        visit(name)


def test_the_tree_is_whole():
    assert {layer(name) for name in MODULES} == MAY_IMPORT.keys()
    assert len(MODULES) > 100
