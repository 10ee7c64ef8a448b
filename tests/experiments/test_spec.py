"""RunSpec: what was set is recorded and wins, a command is read back to the same run, and nonsense is one error."""

import json
import shlex

import numpy as np
import pytest

import dus_gym.cli.train
from dus_gym.cli import main
from dus_gym.data.mock import make_mock
from dus_gym.errors import ConfigError, DusError, RunFolderError, UnfitAgentError
from dus_gym.experiments.compare import compare_command
from dus_gym.experiments.run import train
from dus_gym.experiments.spec import RunSpec, make_spec, parse_seeds, said_seeds


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    """A file of data of one's own in the current folder."""
    monkeypatch.chdir(tmp_path)
    labels = np.arange(24) % 2
    rows = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    np.savez("my data.npz", voice=rows, face=rows, labels=labels)


@pytest.fixture
def folder(tmp_path):
    """A data folder that says two frames and no validation split of itself."""
    root = make_mock("cremad", tmp_path / "mock", 24)
    file = root / "dus-data.json"
    found = json.loads(file.read_text())
    found["options"] = found.get("options", {}) | {"frames_per_clip": 2, "validation": "none"}
    file.write_text(json.dumps(found))
    return root


# -- whose setting counts --------------------------------------------------------------------------


def test_what_the_folder_says_goes_before_defaults_and_what_was_set_before_both(folder):
    def options(**said):
        return make_spec("DUS-CREMAD-v0", data_root=folder, task_options=said).task().options

    assert (options().frames_per_clip, options().validation) == (2, "none")
    # Each equals the data set's default: that it was set has to be known, not guessed from the value.
    found = options(frames_per_clip=1, validation="auto")
    assert (found.frames_per_clip, found.validation) == (1, "auto")
    assert found == options(**{"validation": "auto", "frames_per_clip": 1})


def test_a_set_validation_split_lets_an_agent_work_that_needs_one(folder):
    for agent in ("holdout", "lr-matched:match=holdout", "best-fixed"):
        with pytest.raises(UnfitAgentError, match="needs a validation split"):
            make_spec("DUS-CREMAD-v0", agent, data_root=folder).check()
    make_spec("DUS-CREMAD-v0", "holdout", data_root=folder, task_options={"validation": "auto"}).check()


def test_the_agent_s_interval_holds_unless_one_was_set():
    spec = make_spec("DUS-Digits-v0", "reinforce:every=7")
    agent = spec.make_agent(2)
    assert spec.settings_under(agent)["interval"] == 7
    assert make_spec("DUS-Digits-v0", interval=3).settings_under(agent)["interval"] == 3
    with pytest.raises(ConfigError, match="action_mode='fractions' does not fit agent"):
        make_spec("DUS-Digits-v0", action_mode="fractions").settings_under(agent)


def test_the_summary_says_what_was_set_and_nothing_else():
    result = train("DUS-Fake-v0", "uniform", epochs=2, min_samples=2)
    assert result.settings == {"epochs": 2, "min_samples": 2, "action_mode": "shares"}


# -- to JSON and to words, and back ----------------------------------------------------------------


SPECS = [
    {"env": "DUS-Digits-v0"},
    {"env": "dus_gym:DUS-Fake-v0", "agent": "uniform", "seed": 3},
    {"env": "DUS-Digits3-v0", "agent": "score:rule=softmax:temperature=0.2", "epochs": 4, "amp": False},
    {"env": "DUS-Digits-v0", "agent": "reinforce", "agent_options": {"preset": "tuned"}, "interval": 5},
    {"env": "DUS-Digits-v0", "agent": "transfer:learn=True", "amp": True, "lr_scale": (0.5, 1.5)},
    {"env": "DUS-Fake-v0", "agent": "gain", "epochs": 3},
    {"env": "DUS-Digits-v0", "agent": "ppo", "agent_options": {"runs": 2}, "threads": 2},
    {"env": "DUS-CREMAD-v0", "task_options": {"frames_per_clip": 1, "validation": "auto"}, "trainer": "fake"},
    {"env": "DUS-DigitsHalves-v0", "method": "mla:projection=none", "trainer": "real", "loss_norm": "mean"},
    *({"env": "DUS-Digits-v0", "method": name, "agent": "uniform"} for name in ("joint", "agm", "ogm", "reconboost")),
    {"env": "DUS-Own-v0", "data_root": "my data.npz", "task_options": {"standardise": False}},
    {"env": "DUS-Digits-v0", "agent": "transfer", "agent_options": {"learn": False}},
    {"env": "DUS-Digits-v0", "method": "di_mml", "method_options": {"fusion": 0.5}, "data_root": "some where"},
    {"env": "DUS-AVDigits-v0", "task_options": {"validation": "speaker"}, "data_root": "d", "select": "last"},
]  # fmt: skip


@pytest.mark.parametrize("call", SPECS, ids=lambda call: " ".join(map(str, call.values())))
def test_a_config_is_read_back_to_the_same_spec_by_way_of_json(call):
    spec = make_spec(**call)
    config = json.loads(json.dumps(spec.as_config(), allow_nan=False))
    assert RunSpec.of(config) == spec
    assert RunSpec.of(config | {"command": "train", "written_by": "dus-gym"}).as_config() == spec.as_config()


class Read(Exception):
    """Ends a command as soon as it has made its specs."""


def specs_of(command, monkeypatch):
    """The specs that a command line comes to, before anything is checked or run."""
    program, *words = shlex.split(command)
    assert program == "dus"

    make = make_spec

    def stop(*given, **call):
        raise Read(make(*given, **call) if words[0] == "train" else call)

    monkeypatch.setattr(dus_gym.cli.train, "make_spec", stop)
    # Imported when the command is called.
    monkeypatch.setattr("dus_gym.experiments.compare.plan_comparison", stop)
    with pytest.raises(Read) as read:
        main(words)
    return read.value.args[0]


@pytest.mark.parametrize("call", SPECS, ids=lambda call: " ".join(map(str, call.values())))
def test_a_command_is_read_back_to_the_same_spec(call, monkeypatch):
    spec = make_spec(**call)
    assert specs_of(spec.command(), monkeypatch) == spec


@pytest.mark.parametrize("call", SPECS, ids=lambda call: " ".join(map(str, call.values())))
def test_a_comparison_s_command_asks_for_the_same_settings_of_its_agent(call, monkeypatch):
    spec = make_spec(**call)
    asked = specs_of(spec.compare_command(), monkeypatch)
    assert asked.pop("agents") == (None if spec.agent == "uniform" else spec.named_agent.word)
    assert asked.pop("seeds") == "5"
    assert asked.pop("agent_runs") is None
    assert make_spec(agent=spec.named_agent.word, seed=spec.seed, **asked) == spec


def test_under_uniform_and_compared_a_run_keeps_its_settings_but_for_the_agent_s_kind_of_action():
    spec = make_spec("DUS-Fake-v0", "heuristic:beta=0.3", seed=2, action_mode="fractions", interval=2, epochs=4)
    uniform = spec.under_uniform()
    assert uniform == make_spec("DUS-Fake-v0", "uniform", seed=2, interval=2, epochs=4)
    uniform.check()
    assert spec.compare_command() == "dus compare DUS-Fake-v0 --agents heuristic:beta=0.3 --interval 2 --epochs 4"
    assert uniform.compare_command() == "dus compare DUS-Fake-v0 --interval 2 --epochs 4"


@pytest.mark.parametrize(
    ("seeds", "said"), [([0, 1, 2], "3"), (range(10, 30), "10-29"), ([7], "7,"), ([0], "1"), ([4, 2], "4,2")]
)
def test_seeds_are_said_in_few_words_that_are_read_back(seeds, said):
    assert said_seeds(seeds) == said
    assert parse_seeds(said) == list(seeds)


def test_a_comparison_s_command_takes_other_agents_and_seeds():
    spec = make_spec("DUS-Fake-v0", "uniform", epochs=4)
    command = "dus compare DUS-Fake-v0 --agents score,half --seeds 5-6 --epochs 4"
    assert spec.compare_command(["score", "half"], [5, 6]) == command


@pytest.mark.parametrize(("seeds", "read"), [(3, [0, 1, 2]), ([7], [7]), ([4, 2], [4, 2]), ("0-2", [0, 1, 2])])
def test_seeds_survive_a_command(seeds, read, monkeypatch):
    asked = specs_of(compare_command("DUS-Fake-v0", ["score", "half"], seeds=seeds, epochs=2), monkeypatch)
    assert (asked["agents"], parse_seeds(asked["seeds"]), asked["epochs"]) == ("score,half", read, 2)


# -- what can't be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"env": "DUS-Digit-v0"}, "Did you mean 'DUS-Digits-v0'"),
        ({"agent": "scor"}, "Did you mean 'score'"),
        ({"agent": "nowhere.zip"}, "agent='nowhere.zip' is not there"),
        ({"policy": "gian"}, "Did you mean 'gain'"),
        ({"agent": "score:ruel=softmax"}, "rule"),
        ({"agent": "score:rule"}, "option=value"),
        ({"agent_options": {"presett": "tuned"}}, "preset"),
        ({"method": "basline"}, "Did you mean 'baseline'"),
        ({"method": "mla:projektion=none"}, "projection"),
        ({"method_options": {"alpha": 1}}, "alpha"),
        ({"task_options": {"standardize": True}}, "standardize"),
        ({"epoch": 3}, "epochs"),
        ({"epochs": "many"}, "epochs='many'"),
        ({"seed": -1}, "seed=-1"),
        ({"threads": 0}, "threads=0"),
        ({"threads": True}, "threads=True"),
    ],
)
def test_names_and_values_that_there_are_none_of_are_named(call, message):
    with pytest.raises(ConfigError, match=message):
        make_spec(**{"env": "DUS-Digits-v0"} | call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": None}, "env is None, not text"),
        ({"seed": "0"}, "seed is '0', not a whole number"),
        ({"agent_options": []}, "agent_options is"),
        ({"settings": {"epoch": 2}}, "epoch"),
        ({"env": "DUS-Gone-v0"}, "DUS-Gone-v0"),
    ],
)
def test_a_config_that_is_not_ours_is_one_error(change, message):
    config = make_spec("DUS-Digits-v0").as_config()
    with pytest.raises((RunFolderError, ConfigError), match=message):
        RunSpec.of(config | change)
    with pytest.raises(RunFolderError, match="env is missing"):
        RunSpec.of({"mine": 1})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"env": "DUS-CREMAD-v0"}, "no data_root was given"),
        ({"env": "DUS-Digits-v0", "device": "cuda:99"}, "device='cuda:99' is not available here"),
        ({"env": "DUS-Digits-v0", "agent": "score", "method": "joint"}, "gives modalities unequal batches"),
        ({"env": "DUS-Digits-v0", "total_batch": 3}, "total_batch=3"),
    ],
)
def test_what_metadata_shows_is_refused_by_the_check(call, message):
    spec = make_spec(**call)
    with pytest.raises(DusError, match=message):
        spec.check()


@pytest.mark.parametrize("agent", ["best-fixed", "lookahead", "holdout"])
def test_an_agent_that_needs_validation_is_refused_where_there_is_none(agent, folder):
    with pytest.raises(UnfitAgentError, match="needs a validation split and DUS-CREMAD-v0 has none"):
        make_spec("DUS-CREMAD-v0", agent, data_root=folder).check()
    make_spec("DUS-CREMAD-v0", "score", data_root=folder).check()


def test_what_the_folder_says_is_part_of_a_run(folder, tmp_path):
    settings = {"data_root": folder, "trainer": "fake", "epochs": 2, "out": tmp_path / "run"}
    result = train("DUS-CREMAD-v0", "uniform", **settings)
    assert result.folder_settings["frames_per_clip"] == 2
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["folder_settings"]["validation"] == "none"
    file = folder / "dus-data.json"
    file.write_text(file.read_text().replace('"frames_per_clip": 2', '"frames_per_clip": 1'))
    with pytest.raises(RunFolderError, match=r"folder_settings\.frames_per_clip: 2 there, 1 asked"):
        train("DUS-CREMAD-v0", "uniform", **settings, resume=True)


@pytest.mark.parametrize("written", ['{"options": [1]}', '{"encoders": 5}', '{"options": {"frames_per_clip": "two"}}'])
def test_a_data_folder_that_says_nonsense_of_itself_is_refused(written, folder):
    (folder / "dus-data.json").write_text(written)
    with pytest.raises(ConfigError, match=r"dus-data\.json|frames_per_clip"):
        make_spec("DUS-CREMAD-v0", "uniform", data_root=folder, trainer="fake").check()


def test_a_config_of_a_newer_version_is_refused_wherever_it_is_read(tmp_path):
    config = make_spec("DUS-Fake-v0", "score").as_config() | {"format": 99}
    with pytest.raises(RunFolderError, match="format 99"):
        RunSpec.of(config)
    (tmp_path / "new.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", str(tmp_path / "new.json"), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert not (tmp_path / "out").exists()


def test_an_option_set_twice_is_refused():
    with pytest.raises(ConfigError, match="rule of agent 'score' is set twice"):
        make_spec("DUS-Fake-v0", "score:rule=softmax", agent_options={"rule": "inverse"})


@pytest.mark.parametrize(
    "given", [{"env": 3}, {"method": 3}, {"threads": 2.0}, {"agent_options": 3}, {"task_options": []}, {"agent": None}]
)
def test_values_of_another_type_are_refused_by_name(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        make_spec(**{"env": "DUS-Fake-v0"} | given)
