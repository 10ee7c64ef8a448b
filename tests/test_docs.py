"""The code in the documentation runs."""

import contextlib
import importlib
import io
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
from hub_server import local_hub

import dus_gym
from dus_gym import cli
from dus_gym.cli import COMMANDS, arguments, main

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


def test_the_readme_s_loop_takes_samples_from_what_is_memorised():
    (code,) = [block.values[0] for block in blocks("python") if "dus.loaders(" in block.values[0]]
    names = {"__name__": "documentation"}
    exec(compile(code, "README.md", "exec"), names)
    assert names["dus"].history[0]["sizes"] == {"audio": 32, "video": 32}
    assert names["sizes"]["audio"] < 32 < names["sizes"]["video"]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 140


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


def prose(page):
    """The text of a page without its blocks of code, in which brackets are no links."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_every_relative_link_leads_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", prose(page))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_benchmark_named_in_the_documentation_exists():
    named = {m for page in PAGES for m in re.findall(r"dus_gym\.benchmarks\.(\w+)", page.read_text(encoding="utf-8"))}
    assert named
    there = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} | {"paper"}
    assert named <= there


# -- code inside prose -----------------------------------------------------------------------------

TOGETHER = [*PAGES, *sorted((ROOT / "docs" / "api").glob("*.md"))]
PLACEHOLDERS = {"METHOD": "mla", "ENV": "DUS-Digits-v0", "TASK": "DUS-Digits-v0", "DUS-TASK-v0": "DUS-Digits-v0"}
PLACEHOLDERS |= {"WORD": "score", "AGENT": "score", "weaker": "score", "NAME": "avdigits"}
PLACEHOLDERS |= {"ITEM": "table1", "POLICY": "gain", "RUN|COMPARISON": "runs/a"}
"""Words of a command in prose that stand for any of their kind, and one that they may stand for."""


def spans():
    """Every piece of inline code with its page; fences are tested above."""
    found = {}
    for page in TOGETHER:
        for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page)):
            found.setdefault(" ".join(code.split()), page.name)
    return found


SPANS = spans()


def resolve(name):
    """Returns what a dotted name stands for: the longest module, then attributes."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError as error:
            # A module that is there and needs another one that is not, is not "no such module".
            if not ".".join(parts).startswith(error.name):
                raise
            continue
        for attribute in parts[n:]:
            found = getattr(found, attribute)
        return found
    raise AttributeError(name)


@pytest.mark.parametrize(
    "name", sorted({name for code in SPANS for name in re.findall(r"\bdus_gym(?:\.[A-Za-z_]\w*)+", code)})
)
def test_a_dotted_name_in_prose_exists(name):
    assert resolve(name) is not None


OBJECTS = {"env.unwrapped": "dus_gym.envs.dus_env.DUSEnv", "dus": "dus_gym.DUS", "comparison": "dus_gym.Comparison"}


@pytest.mark.parametrize("word", OBJECTS)
def test_a_method_in_prose_exists(word):
    called = {name for code in SPANS for name in re.findall(rf"(?<![\w.]){re.escape(word)}\.(\w+)\(", code)}
    kind = resolve(OBJECTS[word])
    assert [name for name in called if not hasattr(kind, name)] == []
    assert called or word == "comparison"


class Understood(Exception):
    """Raised in place of running a command whose line was understood."""


def lines_in_prose():
    return sorted(code for code in SPANS if code.startswith("dus ") and not re.search(r"\.\.\.|[\[(]", code))


@pytest.mark.parametrize("line", lines_in_prose())
def test_a_command_in_prose_is_understood(line, monkeypatch):
    # What another program makes of it is not ours.
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line.partition(" | ")[0])[1:]]
    if "--import" in words:  # of a module that the page's reader has
        del words[words.index("--import") : words.index("--import") + 2]
    if words[0] == "--help":
        return
    assert words[0] in COMMANDS
    if len(words) == 1 or words in (["data", "scan"], ["data", "mock"], ["data", "fetch"]):
        return  # the command is named, not called
    parse = arguments.parse

    def understand(*args, **kwargs):
        parse(*args, **kwargs)
        raise Understood

    # All are imported before any is patched: a module that is imported later would keep the patch.
    names = [module.name for module in pkgutil.iter_modules(cli.__path__) if module.name != "__main__"]
    modules = [importlib.import_module(f"dus_gym.cli.{name}") for name in names]
    for module in modules:
        if hasattr(module, "parse"):
            monkeypatch.setattr(module, "parse", understand)
    with pytest.raises((Understood, SystemExit)) as end, contextlib.redirect_stdout(io.StringIO()):
        main(words)
    assert end.type is Understood or end.value.code in (0, None)


def test_every_public_name_has_a_place_on_an_api_page():
    shown = {
        resolve(name)
        for page in (ROOT / "docs" / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert [name for name in dus_gym.__all__ if name[0] != "_" and getattr(dus_gym, name) not in shown] == []
