"""The code in the documentation runs."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from dus_gym.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    found = []
    for page in PAGES:
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


@pytest.mark.parametrize("command", commands())
def test_commands_run(command, tmp_path):
    words = shlex.split(command)[1:]
    assert words[0] in COMMANDS
    # The same command on one short seed: whether it runs is the promise here, not its figures.
    meta = ["--epochs", "2", "--runs", "2", "--seeds", "100,", "--eval-seeds", "120,"]
    shorter = {"train": ["--epochs", "2"], "compare": ["--epochs", "2", "--seeds", "1"], "meta-train": meta}
    short = shorter.get(words[0], [])
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()) as printed:
        if words[0] in ("runs", "report", "watch", "validate"):
            # These act on what other commands of the page have written.
            for seed in ("0", "1"):
                main(["train", "DUS-Digits-v0", "--seed", seed, "--epochs", "2", "--quiet"])
            main(["compare", "DUS-Digits-v0", "--agents", "score", "--epochs", "2", "--seeds", "2", "--quiet"])
        main([*words, *short])
    assert printed.getvalue()
    assert words[0] == "envs" or list(tmp_path.rglob("summary.json")) or list(tmp_path.rglob("*.safetensors"))


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
    assert {name for name in named if not (ROOT / f"benchmarks/{name}.py").is_file()} == set()
