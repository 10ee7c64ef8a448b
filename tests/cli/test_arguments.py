"""The reader of the command line: what is said is what runs, and what was said is recorded."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command import dus

from dus_gym.cli import COMMANDS, TASKS, main
from dus_gym.cli.arguments import parse, read, read_settings
from dus_gym.cli.run_options import AGENT, METHOD, TASK
from dus_gym.config import RunConfig
from dus_gym.data.registry import get_task
from dus_gym.envs.registration import ids
from dus_gym.errors import ConfigError
from dus_gym.experiments.drivers import agent_names, agent_type
from dus_gym.methods import METHODS, method_class


@dataclass(frozen=True)
class Options:
    """Options of a command like ``dus train``."""

    env: str = field(default="", metadata={"positional": True, "choices": ids})
    """A registered id."""
    data: Path | None = None
    """Own data."""
    agent: str = field(default="reinforce", metadata={"choices": agent_names})
    """Who decides."""
    method: str = field(default="baseline", metadata={"choices": METHODS})
    """What is minimised."""
    agents: str | None = None
    """Several."""
    seed: int = 0
    """Of everything, 100 % of it."""
    config: Path | None = None
    """A file of settings."""
    standardise: bool = True
    """Give every feature mean 0."""
    force: bool = False
    """Replace what is there."""


def said(*words, beneath=None):
    groups = {"agent": AGENT, "method": METHOD, "task": TASK}
    return parse([str(word) for word in words], "try", "Try it.", Options, RunConfig, groups=groups, beneath=beneath)


def from_file(given):
    return read_settings(given["config"]) if "config" in given else {}


# -- one fact, one reader --------------------------------------------------------------------------


def test_the_last_of_equal_options_wins_and_the_options_are_its():
    parsed = said("DUS-Fake-v0", "--agent", "heuristic", "--seed=1", "--agent=score", "--agent.rule", "softmax",
                  "--agent.rule=one-minus", "--seed", 2)  # fmt: skip
    assert parsed.build(Options) == Options(env="DUS-Fake-v0", agent="score", seed=2)
    assert parsed.group("agent") == {"rule": "one-minus"}
    with pytest.raises(ConfigError, match=r"unknown option '--agent\.beta': agent 'score' has --agent\.rule"):
        said("DUS-Fake-v0", "--agent", "heuristic", "--agent", "score", "--agent.beta", ".3")
    assert said("--standardise", "--no-standardise").given(Options) == {"standardise": False}
    assert said("--no-standardise", "--standardise").given(Options) == {"standardise": True}
    assert said("--force", "--no-force").given(Options) == {"force": False}


def test_what_was_given_is_recorded_also_where_it_equals_the_default():
    parsed = said("--min-samples", 2, "--method", "baseline", "--method.fused-weight", 1.0)
    assert parsed.given(RunConfig) == {"min_samples": 2}
    assert parsed.given(Options) == {"method": "baseline"}
    assert parsed.group("method") == {"fused_weight": 1.0}
    assert parsed.group("task") == {}
    assert parsed.build(RunConfig) == RunConfig()


@pytest.mark.parametrize("place", [0, 2, 4, 6])
def test_words_may_stand_anywhere(place):
    words = ["--agent.beta", ".3", "--agent", "heuristic", "--task.max-bad", ".1"]
    words.insert(place, "DUS-CREMAD-v0")
    parsed = said(*words)
    assert parsed.given(Options) == {"env": "DUS-CREMAD-v0", "agent": "heuristic"}
    assert (parsed.group("agent"), parsed.group("task")) == ({"beta": 0.3}, {"max_bad": 0.1})


def test_values_have_the_types_of_their_fields(tmp_path):
    found = said("--lr-scale", ".5", "1.5", "--force", "--data", tmp_path, "--task.no-standardise", "--epochs=3")
    assert found.given(RunConfig) == {"lr_scale": (0.5, 1.5), "epochs": 3}
    assert found.given(Options) == {"data": tmp_path, "force": True}
    assert found.group("task") == {"standardise": False}


def test_sub_commands_read_their_words(tmp_path):
    @dataclass(frozen=True)
    class Paths:
        paths: tuple[Path, ...] = field(default=(), metadata={"positional": True})
        """Folders."""
        source: Path | None = field(default=None, metadata={"name": "from"})
        """Another word than the field's."""

    assert read(Paths, ["a", "--from", "b", "c", "--", "-d"], "rm", "") == Paths(
        tuple(map(Path, ("a", "c", "-d"))), Path("b")
    )


def read_by(words, monkeypatch):
    """What a command would do: the first call that its words come to, before anything is done."""

    class Called(Exception):
        pass

    def stop(*given, **call):
        raise Called(given, call)

    # Names that a module takes when it is loaded must not be taken from under the patch.
    import dus_gym.cli.compare
    import dus_gym.cli.data
    import dus_gym.cli.reproduce
    import dus_gym.cli.train  # noqa: F401

    for where in (
        "cli.train.make_spec", "experiments.compare.plan_comparison", "cli.reproduce._reproduction",
        "data.scan.scan", "data.scan.media_task", "data.mock.make_mock", "data.fetch.fetch",
    ):  # fmt: skip
        monkeypatch.setattr(f"dus_gym.{where}", stop)
    with pytest.raises(Called) as called:
        main(list(map(str, words)))
    return called.value.args


TWICE = [
    ["train", "DUS-Fake-v0", "--seed", "{}"],
    ["train", "DUS-Fake-v0", "--agent", "score", "--agent.temperature", "{}"],
    ["train", "DUS-Digits-v0", "--epochs", "{}"],
    ["compare", "DUS-Fake-v0", "--seeds", "{}"],
    ["compare", "DUS-Digits-v0", "--total-batch", "{}"],
    ["reproduce", "table1", "--epochs", "{}"],
    ["reproduce", "table1", "--seeds", "{}"],
    ["data", "scan", "cremad", "--root", "{}"],
    ["data", "scan", "cremad", "--root", "r", "--task.frames-per-clip", "{}"],
    ["data", "build", "cremad", "--root", "{}"],
    ["data", "mock", "cremad", "--root", "m", "--clips", "{}"],
    ["data", "fetch", "mfeat", "--root", "{}"],
]


@pytest.mark.parametrize("words", TWICE, ids=" ".join)
def test_of_two_equal_options_every_command_takes_the_last(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    *head, name, value = words
    first, last = value.format(13), value.format(14)
    once = read_by([*head, name, last], monkeypatch)
    assert read_by([*head, name, first, name, last], monkeypatch) == once
    assert read_by([*head, name, last, name, first], monkeypatch) != once


def test_the_last_agent_is_trained_with_its_options(tmp_path):
    words = ("--agent", "score", "--agent", "heuristic", "--agent.beta", ".3", "--epochs", 2, "--quiet", "--json")
    summary = json.loads(dus("train", "DUS-Fake-v0", *words, cwd=tmp_path, check=0).stdout)
    assert (summary["agent"], summary["agent_options"]) == ("heuristic", {"beta": 0.3})


# -- a settings file -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_the_line_wins_over_a_settings_file_whatever_the_order(tmp_path, first):
    (tmp_path / "run.yaml").write_text(
        "env: DUS-Fake-v0\nagent: score\nagent_options: {rule: softmax, temperature: 0.2}\nconfig: null\n"
        "run: {epochs: 7, lr_scale: [1, 2], min_samples: 2}\ndata: null\n"
    )
    words = [["--config", tmp_path / "run.yaml"], ["--epochs", 3, "--agent.rule", "inverse"]]
    parsed = said(*words[first], *words[not first], beneath=from_file)
    assert parsed.given(RunConfig) == {"epochs": 3, "lr_scale": (1.0, 2.0), "min_samples": 2}
    assert parsed.group("agent") == {"rule": "inverse", "temperature": 0.2}
    assert parsed.build(Options).env == "DUS-Fake-v0"
    # Another agent than the file's has not the file's options.
    other = said("--config", tmp_path / "run.yaml", "--agent", "heuristic", beneath=from_file)
    assert other.group("agent") == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.yaml", "epoch: 3\nsed: 1\nagent: reinforce\nagent_options: {preset: tuned}\nrun: {loss_norms: mean}",
         r"'epoch' \(did you mean 'epochs'\?\), 'sed' \(did you mean 'seed'\?\), 'loss_norms' "),
        ("run.json", '{"epochs": "many"}', "epochs='many' is not allowed; it must be a whole number"),
        ("run.json", '{"agent": 3}', "agent=3 is not allowed; it must be text"),
        ("run.json", "{", "is no JSON"),
        ("run.yaml", "a: [", "is no YAML"),
        ("run.yaml", "- a", "must hold names and values"),
    ],
)  # fmt: skip
def test_a_settings_file_that_can_not_be_names_all_that_is_wrong(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        said("--config", tmp_path / name, beneath=from_file)
    with pytest.raises(ConfigError, match="can't be read"):
        said("--config", tmp_path / "nowhere.yaml", beneath=from_file)


# -- every options dataclass -----------------------------------------------------------------------


KINDS = [
    *(("agent", name) for name in agent_names()),
    *(("method", name) for name in METHODS),
    *(("task", name) for name in ids()),
]


@pytest.mark.parametrize(("group", "name"), KINDS)
def test_every_option_of_every_agent_method_and_task_can_be_said(group, name, capsys):
    if group == "task":
        kind, flag = get_task(ids()[name]).options_type, []
    else:
        kind = agent_type(name).options_type if group == "agent" else method_class(name).options_type
        flag = [f"--{group}"]
    default, words, given = kind(), [*flag, name], {}
    for option in dataclasses.fields(kind):
        value = given[option.name] = getattr(default, option.name)
        word = f"--{group}.{option.name.replace('_', '-')}"
        if value is None:
            del given[option.name]
        elif value is False:
            del given[option.name]
            with contextlib.suppress(ConfigError):  # it may not go with a default, such as that of another sound
                given[option.name] = getattr(kind(**{option.name: True}), option.name)
                words.append(word)
        else:
            words += [word, *([] if value is True else value if isinstance(value, tuple) else [value])]
    assert said(*words).group(group) == given
    with pytest.raises(SystemExit) as end:
        said(*words, "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{group}.{option.name.replace('_', '-')}" in text for option in dataclasses.fields(kind))


# -- what can't be said ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "x"], "epochs='x' is not allowed; it must be a whole number."),
        (["--agent", "score", "--agent.temperature", "hot"], "agent.temperature='hot' is not allowed; it must be"),
        (["--lr-scale", "1", "nan"], "it must be a finite number"),
        (["--epochs"], "--epochs needs a value; write --epochs VALUE, or --epochs=VALUE"),
        (["--seed", "--force"], "--seed needs a value"),
        (["--force=yes"], "--force takes no value"),
        (["--data", ""], "data='' is not allowed; give a path."),
        (["--epoch", "3"], "unknown option '--epoch'. Did you mean --epochs?"),
        (["--ag", "score"], "unknown option '--ag'."),
        (["DUS-Digits-v0", "--batch-size", "32"], "'--batch-size'. Did you mean --total-batch, the samples per"),
        (["DUS-Digits-v0", "--lr", ".1"], "'--lr'. Did you mean --task.lr, the network's learning rate?"),
        (["--lr", ".1"], "Did you mean --task.lr"),
        (["DUS-Digits-v0", "--agent", "reinforce", "--lr", ".1"], "Did you mean --agent.lr or --task.lr?"),
        (["DUS-Digits-v0,DUS-Digits3-v0", "--task.modalities", "x"], "every task has --task.lr."),
        (["DUS-CREMAD-v0", "--on-error", "skip"], "unknown option '--on-error'. Did you mean --task.on-error?"),
        (["--method", "mla", "--agent", "score", "--rule", "softmax"], "Did you mean --agent.rule?"),
        (["--agent", "uniform", "--agent.beta", "1"], "'--agent.beta': agent 'uniform' has no options."),
        (["--agent", "score", "--agent.ruel", "1"], "Did you mean --agent.rule?"),
        (["--agent.epochs", "1"], "Did you mean --epochs?"),
        (["DUS-Fake-v0", "--agents", "a", "b", "c"], "'b' is one word too many: --agents takes one; separate several "
                                                     "by commas: --agents a,b,c."),
        (["--agents", "a", "b", "DUS-Fake-v0"], "--agents a,b."),
        (["DUS-Fake-v0", "twice"], "'twice' is one word too many"),
        (["--agent", "scor"], "Did you mean 'score'?"),
        (["--method", "basline"], "Did you mean 'baseline'?"),
        (["DUS-Fak-v0"], "unknown environment 'DUS-Fak-v0'. Did you mean 'DUS-Fake-v0'?"),
        (["--task.max-bad", ".1", "DUS-CREMD-v0"], "Did you mean 'DUS-CREMAD-v0'?"),
        (["--reward", "pape"], "Did you mean 'paper'?"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_one_line_that_says_what_can(words, message):
    with pytest.raises(ConfigError) as error:
        said(*words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("words", [["envs", "--josn"], ["data", "scan", "--root", "."], ["runs", "show"], ["watch"]])
def test_every_command_says_it_on_one_line_and_exits_with_2(tmp_path, words):
    done = dus(*words, cwd=tmp_path, check=2)
    assert done.stderr.startswith("dus: ")
    assert done.stderr.count("\n") == 1


# -- help ------------------------------------------------------------------------------------------


def test_help_shows_sections_choices_and_defaults(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        said("--help-all", "--agent", "score")
    text = capsys.readouterr().out
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "usage: dus try [ENV] [options]" in text
    assert "Of everything, 100 % of it. (default: 0)" in text
    assert "--standardise, --no-standardise" in text
    assert "Give every feature mean 0. (default: on)" in text
    assert "options of agent 'score':" in text
    assert "(one of mean, fixed; default: mean)" in " ".join(text.split())
    assert "--method.NAME: options of what --method names" in text
    assert "--method.fused-weight" not in text


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_is_one_screen_of_common_options_and_help_all_has_the_rest(command, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    short, whole = (dus(command, word, cwd=tmp_path, check=0).stdout for word in ("--help", "--help-all"))
    lines = short.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    few, every = (set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help-all"} for text in (short, whole))
    assert {"--method", "--out", "--epochs", "--resume", "--config", "--data"} <= few
    assert few < every >= {"--min-samples", "--pairing", "--threads", "--force"}
    text = " ".join(short.split())
    assert all(name in text for name in METHODS)
    assert command == "compare" or all(name in text for name in agent_names())
    for jargon in ("N_B", "a_j", "Eq.", "pathwise", "logits"):
        assert jargon not in short
    assert "an .npz with an array per modality and `labels`" in text
    assert "0: no floor (the paper); 0.25 is recommended. (default: 0.0)" in text
    flag = {"train": "--agent", "compare": "--agents"}[command]
    own = 'dus_gym.register_agent("mine", f) in mine.py, f(scores, info) giving shares, and --import mine; then "mine" '
    own += f"is a name of {flag}."
    everything = " ".join(whole.split())
    assert own in text
    assert own in everything
    for key in ("`labels` (or `y`)", "`split`", "train_NAME and test_NAME"):
        assert key in everything
    assert re.findall(r"[^.;]*N_B[^.;]*", everything) == [
        " --total-batch N Samples per iteration over all modalities (N_B of the paper)"
    ]
    more = re.search(r"--help-all shows (\d+) options more", text)
    assert int(more[1]) >= 15
    named = dus("train", "--agent", "score", "--help", cwd=tmp_path, check=0).stdout
    assert "--agent.temperature" in named, "an agent that is named shows its own options"


def test_the_first_help_begins_with_five_tasks_whose_commands_are_read(tmp_path, monkeypatch):
    lines = dus("--help", cwd=tmp_path, check=0).stdout.splitlines()
    assert max(map(len, lines)) <= 110
    assert [line.split("dus ", 1)[1].split()[0] for line in lines[2:7]] == [line.split()[1] for line in TASKS.values()]
    assert lines[8] == "all commands:"
    assert all(any(line.startswith(f"  {name} ") for line in lines[9:]) for name in COMMANDS)
    for line in TASKS.values():
        program, command, *words = line.split()
        assert program == "dus"
        with pytest.raises(SystemExit) as end:
            main([command, *words, "--help"])
        assert end.value.code == 0


ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "scipy", "matplotlib", "stable_baselines3", "sklearn", "transformers")
SUBCOMMANDS = {"data": ("list", "scan", "build", "fetch", "mock"), "runs": ("list", "show", "diff", "rm")}

TRAIN = ["train", "DUS-Fake-v0", "--epochs", "2"]
LISTED = [["envs"], ["rewards"], ["agents"], ["agents", "ppo"], ["data", "list"], ["runs", "list", "tests"]]


def helps():
    for name in COMMANDS:
        yield from [[name, sub] for sub in SUBCOMMANDS[name]] if name in SUBCOMMANDS else [[name]]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """By command line, which large libraries it imports: each in a child of one process that has imported none."""
    train = [*TRAIN, "--quiet", "--out", str(tmp_path_factory.mktemp("train"))]
    lines = [["--help"], *LISTED, *([*line, "--help"] for line in helps()), train]
    code = f"""
import json, os, sys
import dus_gym.cli
for words in {lines!r}:
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            dus_gym.cli.main(words)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        os.write(write, json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]).encode())
        os._exit(0)
    os.close(write)
    print(json.dumps([words, *json.loads(os.read(read, 4096))]), flush=True)
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {" ".join(words): (code, names) for words, code, names in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("line", ["--help", *map(" ".join, LISTED), *(" ".join([*line, "--help"]) for line in helps())])
def test_help_and_listings_import_no_large_library(imported, line):
    assert imported[line] == (0, [])


def test_a_run_imports_no_large_library_that_it_does_not_need(imported):
    # PyTorch for the method, matplotlib for the picture of the run.
    line = next(line for line in imported if line.startswith(" ".join([*TRAIN, "--quiet"])))
    assert imported[line] == (0, ["torch", "matplotlib"])


# -- listings --------------------------------------------------------------------------------------


def test_agents_and_rewards_are_listed(tmp_path):
    rows = json.loads(dus("agents", "--json", cwd=tmp_path, check=0).stdout)["agents"]
    assert [row["agent"] for row in rows] == agent_names()
    assert all(row["summary"] for row in rows)
    one = json.loads(dus("agents", "score", "--json", cwd=tmp_path, check=0).stdout)["agents"]
    assert [option["name"] for option in one[0]["options"]] == ["rule", "temperature"]
    assert "--agent.rule (default inverse)" in dus("agents", "score", cwd=tmp_path, check=0).stdout
    assert "--method.projection" in dus("methods", "mla", cwd=tmp_path, check=0).stdout
    assert "Did you mean 'score'?" in dus("agents", "scor", cwd=tmp_path, check=2).stderr
    rewards = json.loads(dus("rewards", "--json", cwd=tmp_path, check=0).stdout)["rewards"]
    assert {"paper", "gap-change"} <= {row["reward"] for row in rewards}
    assert all(row["summary"] for row in rewards)


def test_names_from_outside_are_never_markup(tmp_path):
    folder = tmp_path / "[red]runs[/]"
    dus("train", "DUS-Fake-v0", "--epochs", 2, "--out", folder / "[bold]a", "--quiet", cwd=tmp_path, check=0)
    assert "[bold]a" in dus("runs", "list", folder, cwd=tmp_path, check=0).stdout
    assert str(folder) in dus("data", "scan", "cremad", "--root", folder, cwd=tmp_path).stdout
    assert "[bold]a: identical" in dus("validate", folder / "[bold]a", cwd=tmp_path, check=0).stdout


@pytest.mark.parametrize(
    ("command", "own"),
    [("ceiling", {"agents", "seeds", "yes", "generations"}), ("meta-train", {"out", "agent", "runs", "eval-seeds"})],
)
def test_short_help_has_the_options_of_the_command_itself(command, own, tmp_path):
    short = dus(command, "--help", cwd=tmp_path, check=0).stdout
    assert {f"--{name}" for name in own} <= set(re.findall(r"--[a-z][a-z-]+", short))
    assert "--lever" in short
    assert max(map(len, short.splitlines())) <= 80
