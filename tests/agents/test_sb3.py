"""stable-baselines3's agents: they learn what a known best split is, keep out of the way, and survive a kill."""

import csv
import json
import logging
import random
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger, configure
from stable_baselines3.common.vec_env import DummyVecEnv

import dus_gym
from dus_gym.agents import make_agent
from dus_gym.agents.adapters import as_agent
from dus_gym.agents.dirichlet_policy import SHARE_FLOOR, DirichletDistribution, DirichletPolicy
from dus_gym.agents.loop import run_episode, run_episodes
from dus_gym.agents.policy_files import agent_from_policy, load_agent, save_policy
from dus_gym.agents.sb3 import ALGORITHMS, SB3Runs, load_sb3, make_sb3, minibatch
from dus_gym.agents.tensorboard import InfoCallback
from dus_gym.envs.trivial import BestSplit
from dus_gym.envs.wrappers import DiscreteShares, SoftmaxAction
from dus_gym.errors import CheckpointError, ConfigError
from dus_gym.experiments import run as experiment
from dus_gym.experiments.drivers import resolve_agent
from dus_gym.experiments.drivers.sb3_training import training_seed
from dus_gym.experiments.run import execute
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import NOT_REPRODUCIBLE, RunFolder
from dus_gym.records import numeric

FAKE = "dus_gym:DUS-Fake-v0"
QUICK = ["ppo", "a2c", "dqn"]
OFF_POLICY = ["sac", "td3", "ddpg"]
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OFF_POLICY)]


class Seeds(gym.Wrapper):
    """Notes the seeds an environment is reset with."""

    def __init__(self, env, seen):
        super().__init__(env)
        self.seen = seen

    def reset(self, *, seed=None, options=None):
        self.seen.append(seed)
        return super().reset(seed=seed, options=options)


def trivial(**settings):
    return BestSplit()


def trained(name, runs=2, seed=0, make_env=trivial, m=2, **options):
    agent = resolve_agent(name, m, seed, {"runs": runs, **options})
    assert agent.prepare(make_env, seed) == {}
    return agent


def splits(agent, m=2):
    rng = np.random.default_rng(0)
    return [agent.act(rng.random(m), {}).tolist() for _ in range(5)]


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_learning_and_acting_do_not_depend_on_the_callers_modes(around):
    outside = trained("ppo")
    with around():
        inside = trained("ppo")
        weights, acted = inside.state_dict()["policy"], splits(inside)
    assert all(torch.equal(w, weights[name]) for name, w in outside.state_dict()["policy"].items())
    np.testing.assert_array_equal(splits(outside), acted)


def figures(agent, make_env, seed=0):
    """Rewards of the decisions of one run; the first action, which is uniform, is not one of them."""
    return run_episode(make_env(), agent, seed=seed, learn=False, deterministic=True).rewards[1:]


# -- they learn ---------------------------------------------------------------------------------------

SOLVED = 0.9
"""A mean reward an agent must reach; the uniform split has 0.7."""


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "runs", "options"),
    [
        ("ppo", 30, {}),  # 600 steps
        ("a2c", 60, {}),  # 1200 steps
        ("dqn", 20, {"learning_rate": 1e-3}),  # 400 steps
        pytest.param("sac", 30, {"learning_rate": 1e-3}, marks=pytest.mark.slow),  # 600 steps
        pytest.param("td3", 30, {}, marks=pytest.mark.slow),  # 600 steps
        pytest.param("ddpg", 20, {}, marks=pytest.mark.slow),  # 400 steps
    ],
)
def test_each_agent_finds_the_best_split_in_the_stated_number_of_steps(name, runs, options, seed):
    agent = trained(name, runs, seed, **options)
    assert np.mean(figures(agent, trivial, seed)) > SOLVED


@pytest.mark.parametrize("seed", [0, 1])
def test_reinforce_finds_the_best_split_in_1000_steps(seed):
    agent = make_agent("reinforce", 2, seed, {"preset": "tuned"})
    episodes = run_episodes(BestSplit(), agent, range(50))
    # While it still explores.
    assert np.mean([episode.rewards for episode in episodes[-5:]]) > SOLVED


@pytest.mark.slow
def test_twenty_runs_of_ppo_beat_uniform_in_eq_5_by_20_on_every_seed():
    make_env = partial(gym.make, FAKE)
    gains = []
    for seed in range(5):
        learned = trained("ppo", 20, seed, make_env)
        uniform = make_agent("uniform", 2)
        gains.append(sum(figures(learned, make_env, seed)) - sum(figures(uniform, make_env, seed)))
    assert min(gains) > 20


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_actions(name):
    one, other = trained(name, seed=4), trained(name, seed=4)
    assert splits(one) == splits(other)
    assert splits(one) != splits(trained(name, runs=3, seed=5)) or name == "dqn"


# -- many runs at once -----------------------------------------------------------------------------


def made_env(num_envs=1, **settings):
    """As an experiment makes it for a driver."""
    return gym.make(FAKE, **settings) if num_envs == 1 else runs_at_once(num_envs, **settings)


def runs_at_once(n=3, **settings):
    return gym.make_vec(FAKE, num_envs=n, autoreset_mode="SameStep", **settings)


def test_runs_at_once_are_what_sb3_makes_of_the_same_runs_one_by_one():
    together, apart = SB3Runs(runs_at_once(epochs=6)), DummyVecEnv([partial(gym.make, FAKE, epochs=6)] * 3)
    for envs in (together, apart):
        envs.seed(5)
    np.testing.assert_allclose(together.reset(), apart.reset(), atol=6e-8)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(14):
        actions = rng.dirichlet([1.0, 1.0], size=3)
        *found, infos = together.step(actions)
        *expected, expected_infos = apart.step(actions)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=6e-8)
        for mine, theirs in zip(infos, expected_infos, strict=True):
            assert mine["iterations"] == theirs["iterations"]
            assert mine.get("TimeLimit.truncated", False) == theirs["TimeLimit.truncated"]
            assert ("terminal_observation" in mine) == ("terminal_observation" in theirs)
            if "terminal_observation" in mine:
                ends += 1
                np.testing.assert_allclose(mine["terminal_observation"], theirs["terminal_observation"], atol=6e-8)
    assert ends == 6


def test_runs_at_once_without_same_step_autoreset_are_refused():
    with pytest.raises(ConfigError, match=r"autoreset_mode='NextStep'.*autoreset_mode=\"SameStep\""):
        make_sb3("ppo", gym.make_vec(FAKE, num_envs=2), 100)


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_an_agent_learns_from_runs_at_once(name):
    make_env = partial(made_env, epochs=10)
    one, other = (trained(name, 8, 3, make_env, together=4) for _ in range(2))
    assert one.training_runs == 8.0
    assert splits(one) == splits(other)
    assert splits(one) != splits(trained(name, 8, 3, make_env))
    assert splits(one) != splits(make_agent("uniform", 2))


def test_an_experiment_counts_the_runs_at_once():
    told = []
    spec = RunSpec("DUS-Fake-v0", "ppo", {"runs": 8, "together": 4}, settings={"epochs": 5})
    result = execute(spec, on_prior=lambda done, planned: told.append((done, planned)))
    assert told == [(0, 8), (4, 8), (8, 8)]
    assert result.training_runs == 8.0


def test_ppo_finds_the_reward_of_eq_5_in_runs_at_once():
    make_env = made_env
    learned, uniform = trained("ppo", 64, 0, make_env, together=4), make_agent("uniform", 2)
    assert sum(figures(learned, make_env)) - sum(figures(uniform, make_env)) > 20


def test_a_budget_that_the_runs_at_once_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="together=3 is not allowed with runs=20; runs must be a multiple of it"):
        resolve_agent("ppo", 2, 0, {"together": 3})


# -- what they are as agents --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("m", [2, 3])
def test_what_it_leaves_is_a_model_of_sb3_and_an_agent_that_acts_the_same(name, m, tmp_path):
    more = {"scale": 1.5} if name in OFF_POLICY else {"resolution": 2 * m} if name == "dqn" else {}
    agent = trained(name, make_env=lambda: BestSplit(np.ones(m)), m=m, **more)
    assert save_policy(agent, tmp_path) == tmp_path / "policy.zip"
    model = ALGORITHMS[name].load(tmp_path / "policy.zip")
    with pytest.raises(CheckpointError, match=r"--trust on the command line, trust=True in Python"):
        agent_from_policy(tmp_path / "policy.zip", m)
    with pytest.raises(ConfigError, match=rf"for {m} modalities, and here are {m + 1}"):
        agent_from_policy(tmp_path / "policy.zip", m + 1, trust=True)
    found = splits(agent, m)
    assert splits(agent_from_policy(tmp_path / "policy.zip", m, trust=True), m) == found
    assert splits(as_agent(model, m), m) == found
    for shares in found:
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
        assert min(shares) >= 0.0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_agent_that_has_not_learned_is_uniform_and_leaves_nothing(name, tmp_path):
    agent = resolve_agent(name, 3)
    np.testing.assert_allclose(agent.act([0.9, 0.2, 0.4], {}), np.full(3, 1 / 3), rtol=1e-6)
    assert save_policy(agent, tmp_path) is None
    with pytest.raises(ConfigError, match="has no policy to save"):
        agent.save(tmp_path / "policy")


def test_a_damaged_zip_is_named(tmp_path):
    path = tmp_path / "policy.zip"
    make_sb3("ppo", BestSplit(), 20).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"policy_class"', b'"policy_klass"'))
    with pytest.raises(CheckpointError, match=r"policy.zip is damaged"):
        agent_from_policy(path, 2, trust=True)


def test_the_training_runs_are_counted_and_announced_and_nothing_is_printed(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="dus_gym"):
        agent = trained("ppo", runs=3)
    assert "ppo: 3 training runs of 20 steps" in caplog.text
    assert agent.training_runs == 3.0
    assert capsys.readouterr() == ("", "")


def test_training_runs_have_other_seeds_than_the_run_that_counts():
    seen = []
    trained("a2c", seed=7, make_env=lambda: Seeds(BestSplit(), seen))
    given = {seed for seed in seen if seed is not None}
    assert given == {training_seed(7)}
    assert len({training_seed(seed) for seed in range(1000)}) == 1000
    assert min(training_seed(seed) for seed in range(1000)) >= 2**31


@pytest.mark.parametrize("name", ALL)
def test_the_global_generators_are_as_they_were(name):
    def seed():
        random.seed(1)
        np.random.seed(2)  # noqa: NPY002
        torch.manual_seed(3)

    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    seed()
    expected = draw()
    seed()
    agent = trained(name)
    agent.load_state_dict(agent.state_dict())
    agent.act([0.3, 0.4], {})
    assert draw() == expected


def test_a_policy_that_diverged_acts_uniformly_and_warns(caplog):
    class Diverging(BestSplit):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float("nan"), *rest

    with caplog.at_level(logging.WARNING, logger="dus_gym"):
        agent = trained("dqn", make_env=lambda: Diverging())
    assert "diverged" in caplog.text
    assert agent.act([0.9, 0.1], {}).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("ppo", {"runs": 0}, "runs=0.*at least 1"),
        ("a2c", {"gamma": 1.5}, "gamma=1.5"),
        ("sac", {"learning_rate": 0.0}, "learning_rate=0.0"),
        ("td3", {"scale": -1.0}, "scale=-1.0"),
        ("dqn", {"resolution": 1}, "resolution=1"),
        ("ppo", {"concentration": 0.0}, "concentration=0.0"),
        ("ddpg", {"resolution": 4}, "resolution.*Allowed: gamma, learning_rate, runs, scale"),
    ],
)
def test_options_that_can_not_be_are_refused_before_anything_runs(name, options, named):
    with pytest.raises(ConfigError, match=named):
        resolve_agent(name, 2, options=options)


def spec_of(name):
    return RunSpec("DUS-Fake-v0", name, agent_options={"runs": 2}, trainer="fake", settings={"epochs": 8}, seed=3)


@pytest.mark.parametrize("name", QUICK)
def test_a_killed_run_goes_on_to_the_same_end_without_training_again(name, tmp_path, monkeypatch):
    whole = execute(spec_of(name), RunFolder.create(tmp_path / "whole", {}))
    monkeypatch.setattr(experiment, "CHECKPOINT_SECONDS", 0.0)
    folder = RunFolder.create(tmp_path / "killed", {})

    def kill(core, record):
        if record["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(spec_of(name), folder, on_step=kill)
    folder.close()

    def trains_again(*args, **kwargs):
        raise AssertionError("learned a second time")

    monkeypatch.setattr("dus_gym.experiments.drivers.sb3_training.SB3Driver.prepare", trains_again)
    again = execute(spec_of(name), RunFolder.resume(tmp_path / "killed", {}))
    timeless = [
        json.dumps({k: v for k, v in of.to_json().items() if k not in NOT_REPRODUCIBLE}) for of in (whole, again)
    ]
    assert timeless[0] == timeless[1]
    assert whole.training_runs == 2.0
    steps = [(tmp_path / name / "steps.jsonl").read_text() for name in ("whole", "killed")]
    assert steps[0] == steps[1]


# -- one call -----------------------------------------------------------------------------------------


def test_the_budget_follows_the_horizon():
    ppo = make_sb3("ppo", BestSplit(horizon=100), 100)
    assert (ppo.n_steps, ppo.batch_size) == (100, 50)
    assert isinstance(ppo.policy, DirichletPolicy)
    assert make_sb3("a2c", BestSplit(), 20).n_steps == 20
    dqn = make_sb3("dqn", DiscreteShares(BestSplit()), 20)
    assert (dqn.learning_starts, dqn.train_freq.frequency, dqn.target_update_interval) == (20, 1, 20)
    assert make_sb3("td3", SoftmaxAction(BestSplit()), 20).action_noise is not None
    assert make_sb3("ppo", BestSplit(), 20, batch_size=10, gamma=0.5).batch_size == 10


def test_several_environments_share_a_minibatch():
    envs = make_vec_env(FAKE, n_envs=2, env_kwargs={"epochs": 30})
    model = make_sb3("ppo", envs, 30)
    assert (model.n_steps, model.batch_size) == (30, 60)
    model.learn(60)
    assert model.num_timesteps == 60
    sac = make_sb3("sac", make_vec_env(FAKE, n_envs=2, wrapper_class=SoftmaxAction), 30)
    assert sac.learning_starts == 60


@pytest.mark.parametrize(
    ("rollout", "size"), [(100, 50), (20, 20), (128, 64), (97, 97), (134, 134), (2, 2), (30, 30), (194, 194)]
)
def test_minibatches_divide_the_rollout(rollout, size):
    assert minibatch(rollout) == size


def test_a_run_of_one_step_can_be_learned_from():
    make_sb3("ppo", BestSplit(horizon=1), 1).learn(4)


def test_on_policy_algorithms_take_wrapped_environments_too():
    for wrapper in (SoftmaxAction, DiscreteShares):
        make_sb3("ppo", wrapper(BestSplit()), 20).learn(20)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: make_sb3("sac", BestSplit(), 20), "algorithm='sac'.*SoftmaxAction"),
        (lambda: make_sb3("td3", gym.make(FAKE), 20), "algorithm='td3'.*SoftmaxAction"),
        (lambda: make_sb3("ddpg", DiscreteShares(BestSplit()), 20), "algorithm='ddpg'.*SoftmaxAction"),
        (lambda: make_sb3("dqn", BestSplit(), 20), "algorithm='dqn'.*DiscreteShares"),
        (lambda: make_sb3("dqn", SoftmaxAction(BestSplit()), 20), "algorithm='dqn'.*DiscreteShares"),
        (lambda: make_sb3("ppo", gym.make(FAKE, action_mode="fractions"), 20), "action_mode='fractions'"),
        (lambda: make_sb3("ppo2", BestSplit(), 20), "algorithm='ppo2'.*ppo"),
        (lambda: make_sb3("ppo", BestSplit(), 0), "horizon=0"),
        (lambda: PPO(DirichletPolicy, SoftmaxAction(BestSplit()), n_steps=20, batch_size=20), "DirichletPolicy"),
    ],
)
def test_a_mismatch_names_the_wrapper(make, named):
    with pytest.raises(ConfigError, match=named):
        make()


# -- the policy on the simplex ------------------------------------------------------------------------


@pytest.mark.parametrize("logit", [-50.0, -1.0, 0.0, 3.0])
def test_concentrations_are_at_least_1_and_densities_finite_at_the_walls(logit):
    torch.manual_seed(0)
    distribution = DirichletDistribution(3, 10.0).proba_distribution(torch.full((500, 3), logit))
    alpha = distribution.distribution.concentration
    assert (alpha >= 1.0).all()
    if logit == 0.0:
        torch.testing.assert_close(alpha, torch.full_like(alpha, 11.0))
    drawn = distribution.sample()
    torch.testing.assert_close(drawn.sum(-1), torch.ones(500))
    assert (drawn >= 0.9 * SHARE_FLOOR).all()
    walls = torch.eye(3)[torch.arange(500) % 3]
    for actions in (drawn, walls):
        assert distribution.log_prob(actions).isfinite().all()
        assert distribution.log_prob(actions).shape == (500,)
    assert distribution.entropy().shape == (500,)
    torch.testing.assert_close(distribution.mode(), torch.full((500, 3), 1 / 3))


def test_the_density_is_that_of_the_dirichlet():
    from scipy.stats import dirichlet

    logits = torch.tensor([[0.2, -0.4, 0.9]])
    distribution = DirichletDistribution(3, 4.0)
    actions, log_prob = distribution.log_prob_from_params(logits)
    alpha = 1.0 + 4.0 * np.log1p(np.exp(logits.numpy()[0].astype(float))) / np.log(2.0)
    point = actions.numpy()[0].astype(float)
    assert log_prob.item() == pytest.approx(dirichlet(alpha).logpdf(point / point.sum()), rel=1e-4)
    assert distribution.entropy().item() == pytest.approx(dirichlet(alpha).entropy(), rel=1e-4)
    np.testing.assert_allclose(distribution.mode().numpy()[0], alpha / alpha.sum(), rtol=1e-5)
    np.testing.assert_allclose(
        distribution.actions_from_params(logits, True).numpy()[0], alpha / alpha.sum(), rtol=1e-5
    )


def test_the_policy_starts_at_the_uniform_split():
    action, _ = make_sb3("ppo", BestSplit(np.ones(3)), 20).predict(np.array([0.9, 0.1, 0.5]), deterministic=True)
    np.testing.assert_allclose(action, np.full(3, 1 / 3), atol=0.02)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_sb3_saves_and_loads_the_policy(algorithm, tmp_path):
    name = algorithm.__name__.lower()
    model = make_sb3(name, BestSplit(), 20, policy_kwargs={"concentration": 4.0})
    model.learn(40)
    model.save(tmp_path / "model")
    again = load_sb3(tmp_path / "model", name, trust=True)
    assert again.policy.concentration == 4.0
    states = np.random.default_rng(0).random((5, 2), dtype=np.float32)
    np.testing.assert_array_equal(
        model.predict(states, deterministic=True)[0], again.predict(states, deterministic=True)[0]
    )
    again.set_env(BestSplit())
    again.learn(20)
    model.policy.save(tmp_path / "policy")
    policy = DirichletPolicy.load(tmp_path / "policy")
    assert policy.concentration == 4.0


def test_a_zip_is_refused_without_trust_and_not_run(tmp_path):
    model = make_sb3("sac", SoftmaxAction(BestSplit()), 20)
    model.save(tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match=r"can run code.*trust=True"):
        load_sb3(tmp_path / "model.zip", "sac")
    assert isinstance(load_sb3(tmp_path / "model.zip", "sac", trust=True), SAC)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_sb3(tmp_path / "nothing", "sac", trust=True)
    with pytest.raises(ConfigError, match="algorithm='sacc'"):
        load_sb3(tmp_path / "model.zip", "sacc", trust=True)
    with pytest.raises(dus_gym.CheckpointError, match="pickle"):
        load_agent(tmp_path / "model.zip")


# -- the log ------------------------------------------------------------------------------------------


class Lines(KVWriter):
    """Keeps what a logger writes."""

    def __init__(self):
        self.lines = []

    def write(self, key_values, key_excluded, step=0):
        self.lines.append((step, dict(key_values)))

    def close(self):
        pass


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_every_step_and_every_end_is_in_the_log(name):
    env = BestSplit(horizon=20)
    model = make_sb3(name, DiscreteShares(env) if name == "dqn" else env, 20)
    lines = Lines()
    model.set_logger(Logger(None, [lines]))
    model.learn(40, callback=InfoCallback())
    points = {step: values for step, values in lines.lines if "info/distance" in values}
    assert sorted(points) == list(range(1, 41))
    ends = {step: values for step, values in points.items() if "end/return" in values}
    assert sorted(ends) == [20, 40]
    for end in (20, 40):
        rewards = [1.0 - points[step]["info/distance"] for step in range(end - 19, end + 1)]
        assert ends[end]["end/return"] == pytest.approx(sum(rewards), abs=1e-4)
        assert ends[end]["end/length"] == 20
        assert ends[end]["end/epoch"] == ends[end]["info/epoch"] == 20


def test_the_figures_of_a_run_reach_a_csv(tmp_path):
    envs = make_vec_env(FAKE, n_envs=2, env_kwargs={"epochs": 6}, seed=0)
    model = make_sb3("a2c", envs, 6)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(24, callback=InfoCallback(every=3))
    model.logger.close()
    with (tmp_path / "progress.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["info/epoch"]]
    # Two environments in step: a line after 3 steps of each, the mean over both.
    assert [float(row["info/epoch"]) for row in rows] == [2.0, 5.0, 2.0, 5.0]
    assert [bool(row["end/val_fused/concat"]) for row in rows] == [False, True, False, True]
    assert float(rows[0]["info/size/pixels"]) + float(rows[0]["info/size/columns"]) == pytest.approx(128)


def test_only_numbers_are_logged():
    info = {"a": 1, "b": True, "c": np.float32(2), "d": "x", "e": None, "f": float("nan"), "g": [1], "h": np.zeros(2)}
    assert numeric(info | {"TimeLimit.truncated": False, "episode": {"r": 1}}) == {"a": 1.0, "b": 1.0, "c": 2.0}
    with pytest.raises(ConfigError, match="every=0"):
        InfoCallback(every=0)
