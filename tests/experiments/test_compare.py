"""``dus_gym.compare``: names, functions, models and files beside one another; the same as ``dus compare``."""

import json
import sys

import gymnasium as gym
import numpy as np
import pytest
from command import dus

import dus_gym
from dus_gym.agents import make_agent
from dus_gym.errors import AgentError, CheckpointError, ConfigError, DusError, RunFolderError
from dus_gym.experiments.compare import compare
from dus_gym.experiments.executors.executor import IMPORTED, ScaleOptions
from dus_gym.experiments.storage.comparison_folder import read_comparison
from dus_gym.experiments.storage.run_folder import COMPARISON

COSTS = {"seconds", "agent_seconds", "agent_share", "peak_memory_mib", "peak_device_memory_mib"}


def figures(comparison):
    """A comparison's JSON without what the runs cost."""
    return json.loads(
        json.dumps(comparison.to_json() if not isinstance(comparison, dict) else comparison),
        object_hook=lambda found: {key: value for key, value in found.items() if key not in COSTS},
    )


def lean(observation, info):
    shares = np.linspace(1.0, 2.0, len(observation))
    return shares / shares.sum()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A PPO of stable-baselines3, trained by its own API on the registered id, and its file."""
    sb3 = pytest.importorskip("stable_baselines3")
    env = gym.make("dus_gym:DUS-Fake-v0", epochs=4)
    found = sb3.PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(16)
    file = tmp_path_factory.mktemp("model") / "ppo.zip"
    found.save(file)
    return found, file


# -- who is compared -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["DUS-Fake-v0", "--agents", "score:rule=softmax,half", "--seeds", "2", "--epochs", "3"],
         {"env": "DUS-Fake-v0", "agents": ["score:rule=softmax", "half"], "seeds": 2, "epochs": 3}),
        (["DUS-Fake-v0,DUS-Digits-v0", "--method", "baseline,joint", "--agents", "gain,score", "--seeds", "4,1",
          "--trainer", "fake", "--epochs", "2"],
         {"env": ["DUS-Fake-v0", "DUS-Digits-v0"], "method": ["baseline", "joint"], "agents": "gain,score",
          "seeds": [4, 1], "trainer": "fake", "epochs": 2}),
    ],
)  # fmt: skip
def test_the_function_and_the_command_come_to_the_same_numbers(words, call, tmp_path):
    done = dus("compare", *words, "--out", "a", "--quiet", "--json", cwd=tmp_path, check=0)
    comparison = compare(**call, out=tmp_path / "b")
    assert figures(json.loads(done.stdout)) == figures(comparison)
    assert figures(read_comparison(tmp_path / "b")) == figures(comparison)
    for file in (tmp_path / "a").rglob("steps.jsonl"):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    assert dus_gym.compare is compare


def test_functions_models_and_files_stand_beside_names(model, tmp_path):
    ppo, file = model
    dus_gym.make_agent("reinforce", 2, lr=0.01).save(tmp_path / "mine.safetensors")
    files = [str(tmp_path / "mine.safetensors"), str(file)]
    agents = [lean, ppo, *files, "score", "gain"]
    comparison = compare("DUS-Fake-v0", agents, seeds=2, epochs=4, trust=True)
    found = comparison.parts[0].agents
    assert list(found) == ["uniform", "lean", "PPO", *files, "score", "gain"]
    # A model and its file are the same policy.
    assert found["PPO"].by_seed == found[str(file)].by_seed
    assert found["lean"].by_seed != found["uniform"].by_seed
    assert "lean" in comparison.table().text()


def test_two_objects_of_one_name_are_told_apart():
    def other(observation, info):
        return np.ones(len(observation)) / len(observation)

    other.__name__ = "lean"
    found = compare("DUS-Fake-v0", [lean, other], seeds=1, epochs=2).parts[0].agents
    assert list(found) == ["uniform", "lean", "lean-2"]
    assert found["lean-2"].by_seed == found["uniform"].by_seed != found["lean"].by_seed


def test_files_of_stable_baselines3_are_read_when_trusted_only(model, tmp_path):
    _, file = model
    with pytest.raises(CheckpointError, match="trust"):
        compare("DUS-Fake-v0", [str(file)], seeds=1, epochs=2, out=tmp_path / "c")
    words = ("DUS-Fake-v0", "--agents", file, "--seeds", 1, "--epochs", 2, "--quiet", "--out", "c")
    assert "--trust" in dus("compare", *words, cwd=tmp_path).stderr
    assert list(tmp_path.iterdir()) == []
    dus("compare", *words, "--trust", cwd=tmp_path, check=0)
    train = ("train", "DUS-Fake-v0", "--policy", file, "--epochs", 2, "--quiet", "--json", "--out", "run")
    assert "--trust" in dus(*train, cwd=tmp_path).stderr
    assert not (tmp_path / "run").exists()
    summary = json.loads(dus(*train, "--trust", cwd=tmp_path, check=0).stdout)
    assert summary["agent"] == "sb3"


def test_a_registered_agent_is_compared_by_its_word(tmp_path):
    (tmp_path / "own_agents_for_a_test.py").write_text(
        "import numpy as np\nimport dus_gym\n\n\n"
        "def make(num_modalities, seed):\n"
        "    return lambda observation, info: np.linspace(1.0, 2.0, num_modalities) / (1.5 * num_modalities)\n\n\n"
        "dus_gym.register_agent('leaning', factory=make, summary='leans')\n"
    )
    from dus_gym.agents import AGENTS

    words = ("--agents", "leaning", "--seeds", 2, "--epochs", 2, "--json", "--quiet")
    try:
        done = dus("compare", "DUS-Fake-v0", *words, "--import", "own_agents_for_a_test", cwd=tmp_path, check=0)
        mine = compare("DUS-Fake-v0", [lean], seeds=2, epochs=2).parts[0].agents["lean"]
    finally:
        AGENTS.pop("leaning", None)
        sys.modules.pop("own_agents_for_a_test", None)
        sys.path[:] = [place for place in sys.path if place != str(tmp_path)]
        IMPORTED.clear()
    assert json.loads(done.stdout)["agents"]["leaning"]["by_seed"]["sum"] == list(mine.by_seed["sum"])


def test_workers_come_to_the_same_numbers_as_one_process():
    one, two = (
        compare("DUS-Fake-v0", ["score", lean], seeds=2, epochs=2, scale=ScaleOptions(workers=workers))
        for workers in (1, 2)
    )
    assert figures(one) == figures(two)


# -- folders ---------------------------------------------------------------------------------------


def test_without_a_folder_the_runs_live_as_long_as_the_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    comparison = compare("DUS-Fake-v0", "score", seeds=1, epochs=2)
    folder = comparison.folder
    assert (folder / "score/seed0/summary.json").is_file()
    comparison.scratch.cleanup()
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_that_was_stopped_goes_on_and_runs_nothing_twice(tmp_path, monkeypatch):
    how = {"agents": ["score", lean], "seeds": 2, "epochs": 3, "out": tmp_path / "c"}
    whole = compare("DUS-Fake-v0", **how | {"out": tmp_path / "whole"})
    from dus_gym.experiments import run_many

    real, made = run_many.execute, []

    def killed(spec, folder, **more):
        made.append((spec.agent, spec.seed))
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(spec, folder, **more)

    monkeypatch.setattr(run_many, "execute", killed)
    with pytest.raises(KeyboardInterrupt):
        compare("DUS-Fake-v0", **how)
    assert not (tmp_path / "c" / COMPARISON).exists()
    with pytest.raises(RunFolderError, match="--resume"):
        compare("DUS-Fake-v0", **how)
    assert figures(compare("DUS-Fake-v0", **how, resume=True)) == figures(whole)
    # The third was stopped before its first step.
    assert len(made) == len(set(made)) + 1 == 7


def test_a_comparison_is_replaced_by_force_alone(tmp_path):
    compare("DUS-Fake-v0", "score", seeds=1, epochs=2, out=tmp_path / "c")
    with pytest.raises(RunFolderError, match="another comparison"):
        compare("DUS-Fake-v0", "half", seeds=1, epochs=2, out=tmp_path / "c")
    compare("DUS-Fake-v0", "half", seeds=1, epochs=2, out=tmp_path / "c", force=True)
    assert not (tmp_path / "c/score").exists()


# -- what can't be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"env": []}, "env="),
        ({"env": "DUS-Fake-v0,DUS-Fake-v0"}, "each once"),
        ({"agents": ["scor"]}, "Did you mean 'score'"),
        ({"agents": ["nowhere.safetensors"]}, "is not there"),
        ({"agents": [3]}, "3"),
        ({"agents": ["score"], "agent_options": {"rule": "softmax"}}, "NAME:option=value"),
        ({"method": "joint", "agents": ["score"]}, "unequal batches"),
        ({"method": "joint"}, "unequal batches"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": [1, 1]}, "once"),
        ({"epoch": 3}, "epochs"),
        ({"env": "DUS-CREMAD-v0", "trainer": None}, "no data_root"),
        ({"device": "cuda:99", "env": "DUS-Digits-v0", "trainer": "real"}, "cuda:99"),
    ],
)
def test_what_is_refused_leaves_no_folder(call, message, tmp_path):
    with pytest.raises(DusError, match=message):
        compare(**{"env": "DUS-Fake-v0", "trainer": "fake", "seeds": 1, "out": tmp_path / "c"} | call)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("answer", "message"), [([np.nan] * 2, "finite"), ([0.5, 0.2, 0.3], r"shape \(3,\)")])
def test_an_agent_that_answers_nonsense_is_named_before_anything_is_run(answer, message, tmp_path):
    def broken(observation, info):
        return answer

    with pytest.raises(AgentError, match=f"agent 'broken', action 1.*{message}"):
        compare("DUS-Fake-v0", [broken, "score"], seeds=1, epochs=3, out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_agent_runs_go_to_agents_that_learn_in_runs_alone():
    found = compare("DUS-Fake-v0", ["ppo", "score"], seeds=1, epochs=3, agent_runs=2).parts[0].agents
    assert (found["ppo"].training_runs, found["score"].training_runs) == (2, 0)
    with pytest.raises(ConfigError, match="runs"):
        compare("DUS-Fake-v0", ["ppo"], seeds=1, epochs=3, agent_runs=0)


def test_an_agent_that_learns_takes_nothing_from_one_run_to_the_next():
    agent = make_agent("reinforce", 2, preset="tuned", lr=0.5)
    both, second = (compare("DUS-Fake-v0", [agent], seeds=seeds, epochs=8, interval=5) for seeds in ([0, 1], [1]))
    assert list(both.parts[0].agents) == ["uniform", "reinforce-2"], "an object is not taken for the agent of its name"
    (*_, last), (only,) = (of.parts[0].agents["reinforce-2"].by_seed["method"] for of in (both, second))
    assert last == only


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda limit: lambda observation, info: np.maximum(observation, limit), id="another call"),
        pytest.param(lambda limit: lambda observation, info: np.minimum(observation, limit / 2), id="another number"),
    ],
)
def test_a_comparison_is_resumed_under_the_same_function_alone(changed, tmp_path):
    def made(limit):
        return lambda observation, info: np.minimum(observation, limit)

    one, same, other = made(0.5), made(0.5), changed(0.5)
    one.__name__ = same.__name__ = other.__name__ = "limited"
    settings = {"seeds": 2, "epochs": 3, "out": tmp_path / "c"}
    before = compare("DUS-Fake-v0", [one], **settings)
    assert compare("DUS-Fake-v0", [same], **settings, resume=True).to_json() == before.to_json()
    with pytest.raises(RunFolderError, match="agent_digest"):
        compare("DUS-Fake-v0", [other], **settings, resume=True)
    with pytest.raises(RunFolderError, match=r"run\.epochs: 3 there, 4 asked"):
        compare("DUS-Fake-v0", [one], **settings | {"epochs": 4}, resume=True)
    assert read_comparison(tmp_path / "c").to_json() == before.to_json(), "what was refused has changed nothing"


def test_one_agent_need_not_stand_in_a_list():
    def mine(observation, info):
        return [0.3, 0.7]

    for agents in (mine, [mine], "score", make_agent("score", 2)):
        (part,) = dus_gym.compare("DUS-Fake-v0", agents=agents, seeds=2, epochs=3).parts
        assert len(part.others) == 1
