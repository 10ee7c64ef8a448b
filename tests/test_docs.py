"""The code in the documentation runs."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from hub_server import local_hub

from dus_gym.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
STORIES = [ROOT / "docs" / f"{name}.md" for name in ("own-data", "data", "runs", "report", "probe", "plugin", "hub")]
"""Pages whose blocks build on one another."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    found = []
    for page in PAGES:
        if page in STORIES:
            continue
        text = page.read_text(encoding="utf-8")
        for i, match in enumerate(re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)):
            found.append(pytest.param(match[1], id=f"{page.name}-{i}"))
    return found


def commands():
    lines = [line.strip() for block in blocks("sh") for line in block.values[0].replace("\\\n", " ").splitlines()]
    return sorted({line.partition("#")[0].strip() for line in lines if line.startswith("dus ")})


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code, tmp_path):
    with contextlib.chdir(tmp_path):
        exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})


def shorter(command):
    """The same command on one short seed: whether it runs is the promise here, not its figures."""
    meta = ["--epochs", "2", "--runs", "2", "--seeds", "100,", "--eval-seeds", "120,"]
    search = ["--candidates", "4", "--constant-generations", "1", "--generations", "1", "--seeds-per-generation", "1"]
    found = {"ceiling": ["--epochs", "2", "--seeds", "2", *search]}
    found |= {"train": ["--epochs", "2"], "compare": ["--epochs", "2", "--seeds", "1"], "meta-train": meta}
    return found.get(command, [])


@pytest.mark.parametrize("command", commands())
def test_commands_run(command, tmp_path):
    words = shlex.split(command)[1:]
    assert words[0] in COMMANDS
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()) as printed:
        main([*words, *shorter(words[0])])
    assert printed.getvalue()
    written = [*tmp_path.rglob("summary.json"), *tmp_path.rglob("*.safetensors")]
    assert words[0] in ("envs", "methods", "data") or written


@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.name)
def test_a_page_that_tells_a_story_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "documentation"}
    with local_hub(tmp_path, monkeypatch):
        _tell(page, names)


def _tell(page, names):
    """Run a page's blocks in order."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(python|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    for language, code in found:
        if language == "python":
            if file := re.match(r"# (\w+\.py)\n", code):
                Path(file[1]).write_text(code, encoding="utf-8")
            exec(compile(code, page.name, "exec"), names)
            continue
        for line in code.splitlines():
            program, *words = shlex.split(line)
            assert program == "dus"
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                main([*words, *shorter(words[0])])
            assert printed.getvalue()


def test_every_relative_link_leads_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_benchmark_named_in_the_documentation_exists():
    named = {m for page in PAGES for m in re.findall(r"dus_gym\.benchmarks\.(\w+)", page.read_text(encoding="utf-8"))}
    assert named
    there = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} | {"paper"}
    assert named <= there
