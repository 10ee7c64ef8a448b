"""The plug-in: DUS in a loop of one's own."""

import numpy as np
import pytest
import torch

from dus_gym import DUS, make_agent
from dus_gym.agents import AGENTS
from dus_gym.errors import CheckpointError, ConfigError


def steps(dus, count, start=0):
    """Sizes of ``count`` epochs whose scores are made up, the same for the same epoch."""
    found = []
    for epoch in range(start, start + count):
        found.append(dus.next_sizes())
        rng = np.random.default_rng(epoch)
        dus.observe({"a": rng.random(8), "b": 0.5 * rng.random(8)})
        dus.observe_validation({"a": 0.4 * rng.random(8), "b": 0.5 * rng.random(8)})
    return found


def test_the_plugin_is_algorithm_1():
    dus = DUS(["audio", "video"], batch_size=64, epochs=10, agent="score")
    assert dus.next_sizes() == {"audio": 64, "video": 64}
    dus.observe({"audio": torch.tensor([0.8, 0.4], requires_grad=True), "video": np.array([0.3])})
    assert dus.scores == pytest.approx({"audio": 0.6, "video": 0.3})
    # Inverse scores: 1/.6 to 1/.3 of 128.
    assert dus.next_sizes() == {"audio": 43, "video": 85}
    dus.observe({"audio": [0.9], "video": [0.6]})
    assert dus.scores == pytest.approx({"audio": 0.75, "video": 0.45})


def test_the_plugins_agent_learns_from_eq5():
    dus = DUS(["a", "b"], epochs=300, agent="reinforce", options={"lr": 1e-2, "policy": "pathwise"}, min_fraction=0.25)
    for _ in range(300):
        sizes = dus.next_sizes()
        dus.observe({"a": [0.9], "b": [0.5]})
    assert dus.agent.updates == 299
    assert sizes == {"a": 16, "b": 112}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"a": [0.5]}, "needs"),
        ({"a": [0.5], "c": [0.5]}, "needs"),
        ({"a": [0.5], "b": [1.5]}, "'b'"),
        ({"a": [np.nan], "b": [1]}, "'a'"),
    ],
)
def test_the_plugin_refuses_what_is_no_probability(given, named):
    with pytest.raises(ConfigError, match=named):
        DUS(["a", "b"]).observe(given)


def test_the_plugin_serves_controllers_that_read_the_last_epoch():
    dus = DUS(["a", "b"], batch_size=50, agent="pi")
    for scores in ({"a": [0.9], "b": [0.1]}, {"a": [0.7], "b": [0.5]}):
        dus.next_sizes()
        dus.observe(scores)
    # Errors -0.4 and then -0.1: the integral has both, and the first act came after the first epoch.
    controller = make_agent("pi", 2)
    controller.act([0.9, 0.1], {"train_score/a": 0.9, "train_score/b": 0.1})
    expected = controller.act([0.8, 0.3], {"train_score/a": 0.7, "train_score/b": 0.5})
    assert dus.next_sizes() == {"a": round(100 * float(expected[0])), "b": round(100 * float(expected[1]))}


@pytest.mark.parametrize("agent", ["ppo", "lookahead", "best-fixed", "lr-matched"])
def test_the_plugin_refuses_agents_that_make_runs_of_their_own(agent):
    with pytest.raises(ConfigError, match=rf"agent='{agent}' is a driver.*dus train"):
        DUS(["a", "b"], agent=agent)


def test_the_plugin_serves_the_recommended_agent_with_validation_scores():
    dus = DUS(["a", "b"], batch_size=50, agent="holdout")
    dus.next_sizes()
    dus.observe({"a": [0.9], "b": [0.4]})
    with pytest.raises(ConfigError, match=r"call observe_validation\(\) once per epoch"):
        dus.next_sizes()
    dus.observe_validation({"a": [0.6], "b": [0.4]})
    state = dus.state_dict()
    sizes = dus.next_sizes()
    # a loses a third of its score, b nothing: exp(-(1/3)/0.07) against 1, mixed with a tenth of the equal share.
    weight = np.exp(-(1 / 3) / 0.07)
    assert sizes["a"] == round(100 * (0.05 + 0.9 * weight / (1 + weight)))
    again = DUS(["a", "b"], batch_size=50, agent="holdout")
    again.load_state_dict(state)
    assert again.next_sizes() == sizes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"agent": int}, "agent=<class 'int'>"),
        ({"agent": make_agent("score", 3)}, "agent 'score' is for 3 modalities"),
        ({"agent": make_agent("score", 2), "options": {"rule": "inverse"}}, "options=.*made already"),
        ({"agent": "ppp"}, "'ppp'"),
        ({"modalities": "audio"}, "modalities='audio'.*give a list of names"),
        ({"modalities": ["a", "a"]}, "different"),
        ({"modalities": ["a"]}, "two or more"),
        ({"agent": "reinforce", "options": {"preset": "tuned"}}, "interval=None.*every 5 iterations; say interval=5"),
        ({"agent": "reinforce", "options": {"preset": "tuned"}, "interval": 10}, "interval=10.*say interval=5"),
        ({"interval": 0}, "interval=0"),
        ({"batch_size": 64, "size_step": 64}, "size_step=64 .*must be at most 62.*in the plug-in batch_size"),
        ({"batch_size": 64, "size_step": 49, "min_fraction": 0.25}, "size_step=49 .*must be at most 48"),
        ({"size_step": 8, "lever": "rates"}, "size_step=8 .*lever='rates'.*must be 1"),
    ],
)
def test_the_plugin_refuses_what_does_not_fit(settings, message):
    with pytest.raises(ConfigError, match=message):
        DUS(**{"modalities": ["a", "b"]} | settings)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in sorted(AGENTS)),
        ("transfer", {"learn": True, "batch": 1}),
        ("reinforce", {"lr": 0.1}),
        (lambda observation, info, rng: rng.dirichlet(10 * observation), None),
    ],
)
def test_a_loop_saved_with_torch_goes_on_to_the_same_bits(name, options, tmp_path):
    def made():
        return DUS(["a", "b"], epochs=12, agent=name, options=options, seed=3)

    whole = made()
    expected = steps(whole, 12)
    half = made()
    assert steps(half, 6) == expected[:6]
    torch.save(half.state_dict(), tmp_path / "loop.pt")
    again = made()
    again.load_state_dict(torch.load(tmp_path / "loop.pt"))
    assert steps(again, 6, start=6) == expected[6:]
    assert again.scores == whole.scores
    assert again.history == whole.history


def test_a_state_of_something_else_is_refused():
    other = DUS(["a", "b"], agent="uniform", epochs=5)
    steps(other, 3)
    dus = DUS(["a", "b"], agent="reinforce")
    with pytest.raises(CheckpointError, match=r"put into DUS\(\['a', 'b'\], agent='reinforce'\), is damaged, from an"):
        dus.load_state_dict(other.state_dict())
    assert (dus.epoch, dus.history) == (0, [])
    for part, value in (("agent", None), ("history", 3), ("score", {}), ("window", [1]), ("epoch", None)):
        with pytest.raises(CheckpointError, match="of something else"):
            dus.load_state_dict(dus.state_dict() | {part: value})
        assert (dus.epoch, dus.history) == (0, [])


def test_its_history_and_what_it_shows():
    dus = DUS(["a", "b"], batch_size=10, epochs=3, agent="score")
    assert repr(dus) == "DUS(['a', 'b'], agent='score', epoch=0 of 3)"
    dus.next_sizes()
    dus.observe({"a": [0.6], "b": [0.3]})
    dus.observe({"a": [0.7], "b": [0.3002]})
    assert repr(dus).endswith("epoch=1 of 3, sizes={'a': 10, 'b': 10}, scores={'a': 0.65, 'b': 0.3})")
    # Inverse to the scores: .3 to .65 of 20.
    assert dus.next_sizes() == {"a": 6, "b": 14}
    dus.observe({"a": [0.8], "b": [0.5]})
    dus.observe_validation({"a": [0.2, 0.4], "b": [0.4]})
    assert [entry["epoch"] for entry in dus.history] == [1, 2]
    assert [entry["iterations"] for entry in dus.history] == [2, 3]
    assert [entry["sizes"] for entry in dus.history] == [{"a": 10, "b": 10}, {"a": 6, "b": 14}]
    assert dus.history[1]["scores"] == dus.scores == pytest.approx({"a": 2.1 / 3, "b": 1.1002 / 3})
    assert dus.history[1]["train_scores"] == {"a": 0.8, "b": 0.5}
    assert [entry["val_scores"] for entry in dus.history] == [{}, pytest.approx({"a": 0.3, "b": 0.4})]


@pytest.mark.parametrize(
    ("lever", "unit"), [("samples", "samples per iteration"), ("rates", "factors on learning rates")]
)
def test_its_picture_shows_scores_validation_and_what_was_drawn(lever, unit, tmp_path):
    dus = DUS(["a", "b"], batch_size=10, epochs=3, agent="score", lever=lever)
    with pytest.raises(ConfigError, match=r"plot\(\) was called before observe\(\)"):
        dus.plot()
    ask = dus.next_sizes if lever == "samples" else dus.next_rates
    ask()
    dus.observe({"a": [0.6], "b": [0.2]})
    dus.observe_validation({"a": [0.5], "b": [0.1]})
    ask()
    dus.observe({"a": [0.8], "b": [0.4]})
    ask()
    figure = dus.plot(tmp_path / "dus.png")
    assert (tmp_path / "dus.png").read_bytes().startswith(b"\x89PNG")
    scores, batches = figure.axes
    shown = [line.get_ydata().tolist() for line in scores.lines]
    assert shown[:2] == [pytest.approx([0.6, 0.7]), pytest.approx([0.6, 0.8])]
    assert shown[2] == pytest.approx([0.5, np.nan], nan_ok=True)
    assert shown[3] == pytest.approx([0.2, 0.3])
    # Inverse to the scores, .6 to .2; the third epoch has not begun to train.
    first, second = (of.get_paths()[0].vertices for of in batches.collections)
    one, two = ([10, 5], [20, 20]) if lever == "samples" else ([1, 0.5], [2, 2])
    for epoch, (height, whole) in enumerate(zip(one, two, strict=True), start=1):
        assert first[first[:, 0] == epoch, 1].max() >= height - 1e-6
        assert second[second[:, 0] == epoch, 1].max() == pytest.approx(whole)
    assert first[:, 1].tolist().count(pytest.approx(one[1])) >= 2
    assert unit in batches.get_ylabel()
    assert "dashed: validation" in scores.get_ylabel()
    assert all(float(tick).is_integer() for tick in batches.get_xticks())
    assert len({line.get_color() for line in scores.lines}) == 2
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["a", "b"]


def test_calls_out_of_order_say_what_to_do():
    dus = DUS(["a", "b"], epochs=2, agent="score")
    with pytest.raises(ConfigError, match=r"observe\(\) was called before next_sizes\(\)"):
        dus.observe({"a": [0.5], "b": [0.5]})
    dus.next_sizes()
    with pytest.raises(ConfigError, match=r"twice without observe\(\) in between; call observe\(\)"):
        dus.next_sizes()
    dus.observe({"a": [0.5], "b": [0.5]})
    dus.next_sizes()
    dus.observe({"a": [0.5], "b": [0.5]})
    with pytest.raises(ConfigError, match=r"epochs=2 are over; make DUS\(..., epochs=N\)"):
        dus.next_sizes()


def test_an_agent_that_decides_every_few_iterations_is_asked_as_often():
    dus = DUS(["a", "b"], agent="reinforce", options={"preset": "tuned"}, interval=5)
    assert dus.interval == dus.agent.interval == 5
    assert DUS(["a", "b"], agent="holdout", interval=7).interval == 7


def test_it_takes_a_policy_file_a_shipped_policy_and_a_function(tmp_path):
    make_agent("reinforce", 2, lr=0.5).save(tmp_path / "policy.safetensors")
    assert DUS(["a", "b"], agent=tmp_path / "policy.safetensors").agent.lr == 0.5
    assert len(steps(DUS(["a", "b"], agent="gain"), 3)) == 3
    dus = DUS(["a", "b"], batch_size=50, agent=lambda observation, info: [0.2, 0.8])
    assert steps(dus, 2)[1] == {"a": 20, "b": 80}


def test_the_other_lever_says_what_to_multiply_learning_rates_by():
    dus = DUS(["audio", "video"], agent="score", lever="rates", min_fraction=0.25, epochs=3)
    assert dus.next_rates() == {"audio": 1.0, "video": 1.0}
    dus.observe({"audio": [0.6], "video": [0.2]})
    # Inverse to the scores, a quarter and three quarters, times two modalities.
    assert dus.next_rates() == pytest.approx({"audio": 0.5, "video": 1.5})
    assert dus.history[-1]["sizes"] == {"audio": 64, "video": 64}
    dus.observe({"audio": [1.0], "video": [0.0]})
    assert min(dus.next_rates().values()) >= 0.25
    with pytest.raises(ConfigError, match=r"next_sizes\(\) is not for lever='rates'.*call next_rates"):
        dus.next_sizes()
    with pytest.raises(ConfigError, match=r"next_rates\(\) is not for lever='samples'.*call next_sizes"):
        DUS(["audio", "video"]).next_rates()
    with pytest.raises(ConfigError, match="action_mode='fractions' is not allowed under lever='rates'"):
        DUS(["audio", "video"], agent="heuristic", lever="rates")
    resumed = DUS(["audio", "video"], agent="score", lever="rates", min_fraction=0.25, epochs=3)
    resumed.load_state_dict(dus.state_dict())
    assert resumed.history == dus.history
    with pytest.raises(CheckpointError, match="lever='rates', not 'samples'"):
        DUS(["audio", "video"], agent="score", epochs=3).load_state_dict(dus.state_dict())
    with pytest.raises(ConfigError, match=r"before next_rates\(\)"):
        DUS(["audio", "video"], lever="rates").observe({"audio": [0.1], "video": [0.1]})


def test_a_rule_that_has_learned_nothing_serves_under_either_lever():
    rule = make_agent("score", 2)
    for lever in ("rates", "samples"):
        assert DUS(["a", "b"], agent=rule, lever=lever).agent is rule
