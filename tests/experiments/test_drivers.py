"""Drivers: what they make of their runs, what they cost, what they refuse; words, files and objects to agents."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dus_gym.agents
from dus_gym.agents import AGENTS, DRIVER_NAMES, make_agent
from dus_gym.agents.loop import run_episode
from dus_gym.agents.reinforce import Reinforce
from dus_gym.errors import ConfigError
from dus_gym.experiments.drivers import DRIVERS, Driver, agent_names, agent_type, resolve_agent, split_word
from dus_gym.experiments.drivers.lookahead import best_of, line
from dus_gym.experiments.run import execute
from dus_gym.experiments.spec import make_spec

SCORES = np.array([0.9, 0.6], dtype=np.float32)


def resolve(name, options=None):
    return resolve_agent(name, 2, options=options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lookahead", {"splits": 4}, r"splits=4.*odd"),
        ("best-fixed", {"splits": 1}, r"splits=1.*odd"),
        ("lr-matched", {"match": "lr-matched"}, r"match='lr-matched'"),
        ("lr-matched", {"match": "scor"}, r"'scor'.*'score'"),
    ],
)
def test_options_that_can_not_be_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        resolve(name, options)


def test_the_line_goes_through_uniform():
    np.testing.assert_allclose([s[0] for s in line(5, 2, 0)], [0.2, 0.35, 0.5, 0.65, 0.8], rtol=1e-6)
    for split in line(5, 3, 1):
        assert split.sum() == pytest.approx(1.0)
        assert split[0] == split[2]
    np.testing.assert_allclose(line(5, 3, 1)[2], 1 / 3)


def test_of_equal_splits_the_one_nearest_to_uniform_wins():
    splits = line(5, 2, 0)
    assert best_of([0.5, 0.5, 0.5, 0.5, 0.5], splits) == 2
    assert best_of([0.6, 0.5, 0.5, 0.6, 0.5], splits) == 3
    assert best_of([0.6, 0.5, 0.5, 0.5, 0.7], splits) == 4


def fake(**settings):
    return gym.make("dus_gym:DUS-Digits-v0", trainer="fake", loss_norm="fixed", **settings)


def test_lookahead_takes_what_its_forks_show_and_says_what_it_cost():
    env = fake(epochs=6)
    agent = resolve_agent("lookahead", 2)
    observation, info = env.reset(seed=0)
    agent.attach(env)
    action = agent.act(observation, info)
    accuracies = []
    for split in line(5, 2, int(np.argmax(observation))):
        fork = env.unwrapped.fork()
        *_, after = fork.step(split)
        accuracies.append(after["val_fused/method"])
    expected = line(5, 2, int(np.argmax(observation)))[best_of(accuracies, line(5, 2, 0))]
    assert np.array_equal(action, expected)
    agent = resolve_agent("lookahead", 2)
    agent.attach(env)
    run_episode(env, agent, seed=0)
    # The first step is uniform for every agent; the five after it are looked ahead of.
    assert agent.training_runs == pytest.approx(5 * 5 / 6)


def test_lookahead_leaves_the_run_it_looks_at_alone():
    plain, looked = fake(epochs=4), fake(epochs=4)
    plain.reset(seed=3)
    observation, info = looked.reset(seed=3)
    agent = resolve_agent("lookahead", 2)
    agent.attach(looked)
    for _ in range(4):
        action = agent.act(observation, info)
        observation, *_, info = looked.step(action)
        assert info == plain.step(action)[4]


def test_lookahead_says_what_it_needs():
    agent = resolve_agent("lookahead", 2)
    with pytest.raises(ConfigError, match=r"has no environment; call attach"):
        agent.act(SCORES, {})
    with pytest.raises(ConfigError, match=r"forks a DUS environment and got CartPoleEnv"):
        agent.attach(gym.make("CartPole-v1"))


def test_best_fixed_chooses_on_validation():
    agent = resolve_agent("best-fixed", 2)
    assert agent.prepare(fake, 7) == {}
    assert agent.training_runs == 5.0
    found = []
    for split in line(5, 2, 0):
        options = {"shares": "/".join(map(str, split.tolist()))}
        found.append(run_episode(fake(), make_agent("fixed", 2, options=options), seed=7).info["val_fused/method"])
    # On the fake Digits the first modality is dominant.
    assert np.array_equal(agent.act(SCORES, {}), line(5, 2, 0)[best_of(found, line(5, 2, 0))])
    other = resolve_agent("best-fixed", 2)
    other.load_state_dict(agent.state_dict())
    assert np.array_equal(other.act(SCORES, {}), agent.act(SCORES, {}))
    assert other.training_runs == 5.0


def test_lr_matched_turns_a_mean_split_into_learning_rates():
    agent = resolve_agent("lr-matched", 2, seed=3, options={"match": "direct"})
    settings = agent.prepare(fake, 3)
    samples = run_episode(fake(), make_agent("direct", 2, seed=3), seed=3).info
    mine = np.array([samples["samples/pixels"], samples["samples/columns"]])
    assert settings == {"lever": "rates"}
    np.testing.assert_allclose(agent.act(SCORES, {}), mine / mine.sum(), rtol=1e-6)
    np.testing.assert_array_equal(agent.uniform_action(), agent.act(SCORES, {}))
    assert agent.training_runs == 1.0


def test_lr_matched_passes_options_to_the_agent_that_is_matched():
    agent = resolve_agent("lr-matched", 2, seed=3, options={"match": "score/rule=softmax/temperature=0.3"})
    options = {"rule": "softmax", "temperature": 0.3}
    samples = run_episode(fake(), make_agent("score", 2, seed=3, options=options), seed=3).info
    mine = np.array([samples["samples/pixels"], samples["samples/columns"]])
    agent.prepare(fake, 3)
    np.testing.assert_allclose(agent.shares, mine / mine.sum(), rtol=1e-6)
    with pytest.raises(ConfigError, match=r"'score'.*'rul'.*'rule'"):
        resolve_agent("lr-matched", 2, options={"match": "score/rul=softmax"})


@pytest.mark.parametrize(
    ("name", "options", "equal"),
    [
        ("uniform", {}, True),
        ("fixed", {}, True),
        ("fixed", {"shares": "2/2"}, True),
        ("fixed", {"shares": "1/2"}, False),
        ("lr-matched", {"match": "uniform"}, True),
        ("lr-matched", {}, False),
        ("score", {}, False),
        ("lookahead", {}, False),
    ],
)
def test_an_agent_knows_whether_its_batches_are_equal(name, options, equal):
    assert resolve_agent(name, 2, options=options).equal_batches is equal


def test_lr_matched_of_an_agent_that_speaks_fractions():
    agent = resolve_agent("lr-matched", 2, options={"match": "half"})
    agent.prepare(fake, 0)
    assert agent.shares[0] < 0.5 < agent.shares[1]
    assert agent.shares.sum() == pytest.approx(1.0)


def test_lr_matched_multiplies_learning_rates_from_the_first_step_on():
    spec = make_spec("DUS-Digits-v0", "lr-matched:match=random", epochs=5)
    records = []
    result = execute(spec, on_step=lambda core, record: records.append(record))
    assert len({record["rate/pixels"] for record in records}) == 1
    assert records[0]["rate/pixels"] + records[0]["rate/columns"] == pytest.approx(2.0)
    assert records[0]["rate/pixels"] != pytest.approx(1.0, abs=0.01)
    assert [record["size/pixels"] for record in records] == [64] * 5
    assert result.settings["lever"] == "rates"


@pytest.mark.parametrize("name", ["lookahead", "best-fixed", "lr-matched"])
def test_a_second_run_does_not_pay_for_the_first(name):
    agent = resolve_agent(name, 2)
    spent = []
    for _ in range(2):
        agent.prepare(lambda **settings: fake(epochs=3, **settings), 0)
        env = fake(epochs=3)
        agent.attach(env)
        run_episode(env, agent, seed=0)
        spent.append(agent.training_runs)
    assert spent[0] == spent[1] > 0


@pytest.mark.parametrize("match", ["holdout", "lookahead"])
def test_lr_matched_matches_drivers_and_says_what_all_of_it_cost(match):
    agent = resolve("lr-matched", {"match": match})
    agent.prepare(lambda **settings: fake(epochs=4, **settings), 0)
    assert agent.shares.sum() == pytest.approx(1.0)
    assert agent.training_runs == pytest.approx(1.0 + (5 * 3 / 4 if match == "lookahead" else 0.0))


def test_lr_matched_matches_a_policy_file_with_slashes_in_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "x" / "policy.safetensors"
    learner = make_agent("reinforce", 2, options={"lr": 0.05, "policy": "pathwise"})
    run_episode(fake(), learner, seed=9)
    learner.save(path)
    found = resolve("lr-matched", {"match": "runs/x/policy.safetensors"})
    found.prepare(fake, 3)
    samples = run_episode(fake(), resolve_agent(path, 2, 3), seed=3).info
    mine = np.array([samples["samples/pixels"], samples["samples/columns"]])
    np.testing.assert_allclose(found.shares, mine / mine.sum(), rtol=1e-6)
    assert found.shares[0] < 0.45
    with pytest.raises(ConfigError, match=r"agent='runs/y/policy.safetensors' is not there"):
        resolve("lr-matched", {"match": "runs/y/policy.safetensors"})


# -- tables, words, files --------------------------------------------------------------------------


def test_both_tables_can_be_listed_without_a_framework():
    code = (
        "import sys; from dus_gym.experiments.drivers import agent_names, agent_type\n"
        "for name in agent_names(): assert agent_type(name).summary and agent_type(name).options_type\n"
        "print(sorted({'torch', 'stable_baselines3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_is_an_agents_or_a_drivers():
    assert not set(AGENTS) & set(DRIVERS)
    for name in agent_names():
        assert agent_type(name).name == name
        assert issubclass(agent_type(name), Driver) == (name in DRIVERS)
    for name in DRIVERS:
        with pytest.raises(ConfigError, match=rf"agent='{name}' is a driver.*dus train.*make_sb3"):
            make_agent(name, 2)


def test_words_files_and_objects_become_agents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_agent("reinforce", 2, seed=5, options={"hidden": 8}).save("score")
    assert resolve_agent("score", 2).name == "score"
    assert resolve_agent("./score", 2).options.hidden == 8
    assert resolve_agent("score:rule=softmax:temperature=0.2", 2).options.temperature == 0.2
    assert resolve_agent("score", 2, options={"rule": "softmax"}).options.rule == "softmax"
    assert resolve_agent("gain", 4).name == "transfer"
    assert isinstance(resolve_agent("ppo:runs=3", 2), Driver)
    assert resolve_agent(lambda observation, info: [1, 1], 2).act(SCORES, {}).tolist() == [1.0, 1.0]
    agent = Reinforce(2)
    twin = resolve_agent(agent, 2)
    assert type(twin) is type(agent)
    assert twin is not agent, "what one run teaches it must not reach the next"


@pytest.mark.parametrize(
    ("who", "options", "message"),
    [
        ("scor", {}, r"'scor'.*Did you mean 'score'"),
        ("gian", {}, r"'gian'.*Did you mean 'gain'"),
        ("score:rule", {}, r"option=value"),
        ("score:rul=softmax", {}, r"'rul'.*'rule'"),
        ("runs/policy.zip", {}, r"'runs/policy.zip' is not there"),
        (Reinforce(3), {}, r"'reinforce' is for 3 modalities, and here are 2"),
        (Reinforce(2), {"lr": 1.0}, r"options=\{'lr': 1.0\} go with an agent's name"),
        (7, {}, r"agent=7 is not allowed; give an agent"),
    ],
)
def test_who_can_not_be_resolved_is_named(who, options, message):
    with pytest.raises(ConfigError, match=message):
        resolve_agent(who, 2, options=options)


def test_a_word_is_split_at_its_options_and_never_inside_a_path(tmp_path):
    file = tmp_path / "a=b" / "p"
    file.parent.mkdir()
    file.write_text("")
    assert split_word(f"{file}/learn=True", "/") == (str(file), {"learn": True})
    assert split_word("score/rule=softmax", "/") == ("score", {"rule": "softmax"})
    assert split_word("nowhere/policy", "/") == ("nowhere/policy", {})


def test_an_agent_imports_no_environment():
    folder = Path(dus_gym.agents.__file__).parent
    lines = [line for path in folder.glob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 1000
    assert [line for line in lines if line.lstrip().startswith(("from dus_gym.envs", "import dus_gym.envs"))] == []


def test_the_agents_know_the_drivers_words_without_importing_them():
    assert tuple(DRIVERS) == DRIVER_NAMES
    assert not set(DRIVERS) & set(AGENTS)
