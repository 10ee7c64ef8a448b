"""The recommended agent: its formula by hand, its caution, and that it goes on where it stopped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dus_gym.agents import make_agent, recommended_agent
from dus_gym.errors import ConfigError


def info(train, validated, loss=None, epoch=1, epochs=10, iterations=None, validated_in=None, **more):
    # No two validations of a run are the same.
    validated = [score + 1e-9 * (validated_in or epoch) for score in validated]
    found = {"epoch": epoch, "epochs": epochs, "iterations": iterations or 100 * epoch} | more
    for kind, values in (("train_score", train), ("val_score", validated), ("val_loss", loss)):
        found |= {} if values is None else {f"{kind}/m{j}": value for j, value in enumerate(values)}
    return found


def steady(m=2, **options):
    """An agent whose floors and caution stay out of the way."""
    return make_agent("steady", m, **{"floor": 0.0, "speed": 0.0, "promise": 0.0, "caution": 0.0, "cap": m, **options})


def test_it_is_recommended():
    assert recommended_agent() == "steady"
    assert make_agent("steady", 2).needs_validation


def test_the_formula_by_hand():
    agent = steady(memory=0.25)
    # Nothing is known of the time before the first step, so that nothing is lost in it: surprise alone.
    first = agent.act([0, 0], info([0.4, 0.2], [0.3, 0.2], [-np.log(0.3) + 0.2, -np.log(0.2)], epoch=1))
    z = 1.5 * 0.2 * (1 - 0.4 * 0.1)
    before = np.array([-z / 2, z / 2])
    assert first == pytest.approx(np.exp(before) / np.exp(before).sum())
    # The validation score of the middle of the step is .4: a fifth of .5 is lost. Of the second modality nothing is.
    second = agent.act([0, 0], info([0.5, 0.25], [0.5, 0.3], [-np.log(0.5), -np.log(0.3)], epoch=2))
    z = 150 * (0.2 / 0.4) * 0.2 * (1 - 0.4 * 0.2)
    logits = 0.25 * before + 0.75 * np.array([-z / 2, z / 2])
    assert second == pytest.approx(np.exp(logits) / np.exp(logits).sum(), rel=1e-5)


def test_scores_that_rise_within_the_step_are_no_gain_of_validation():
    """A modality that learns fast: its mean over the epoch is far below its validation score at the end."""
    agent, holdout = steady(surprise=0.0), make_agent("holdout", 2)
    for epoch, (train, validated) in enumerate((([0.1, 0.1], [0.2, 0.11]), ([0.5, 0.13], [0.8, 0.15])), start=1):
        seen = info(train, validated, epoch=epoch)
        steadily, swinging = agent.act([0, 0], seen), holdout.act([0, 0], seen)
    assert steadily == pytest.approx([0.5, 0.5])
    assert swinging[0] > 0.94


def test_nothing_lost_is_nothing_done_and_little_lost_is_little_done():
    little, much = (
        [agent.act([0, 0], info([0.5, 0.5], [0.5 * (1 - lost), 0.5], epoch=e))[0] for e in (1, 2, 3)][-1]
        for lost in (0.01, 0.2)
        for agent in [steady(surprise=0.0)]
    )
    assert little == pytest.approx(0.5, abs=0.03)
    assert much < 0.01


def test_a_run_that_ends_before_the_others_have_learned_stays_near_uniform():
    """At a tenth of the run the second modality's accuracy is on the way from .10 to .50, at the half of it to .60."""
    agent = steady(promise=1.0, surprise=0.0, memory=0.0)

    def shares(epoch, accuracy):
        # All that is lost is the first modality's, and by far: without a floor it would have nothing.
        seen = {"val_accuracy/m0": 0.9, "val_accuracy/m1": accuracy}
        return agent.act([0, 0], info([0.4, 0.14], [0.0 if epoch else 0.4, 0.14], epoch=epoch, **seen))

    assert shares(0, 0.10) == pytest.approx([0.5, 0.5])
    for epoch, accuracy, hope in ((1, 0.14, 0.14 + 0.9 * 0.04 / 0.1), (5, 0.35, 0.35 + 0.5 * 0.25 / 0.5)):
        floor = 1 - hope**2
        assert shares(epoch, accuracy) == pytest.approx([floor / 2, 1 - floor / 2], abs=1e-6)
    # Where they learn fast enough nothing is held back.
    assert shares(6, 0.8)[0] < 1e-6


def test_a_loop_that_says_no_validation_accuracies_is_not_held_back():
    agent = steady(promise=1.0, surprise=0.0, memory=0.0)
    for epoch in (0, 1):
        held = agent.act([0, 0], info([0.4, 0.1], [0.4 * (epoch == 0), 0.1], epoch=epoch))
    assert held[0] < 1e-6


def test_training_that_falls_back_makes_it_cautious_and_that_is_forgotten_slowly():
    agent, bold = steady(caution=30.0, memory=0.0, surprise=0.0), steady(memory=0.0, surprise=0.0)
    ordinary = [([0.5, 0.5], [0.4, 0.5])] * 3
    for epoch, (train, validated) in enumerate(ordinary, start=1):
        seen = info(train, validated, epoch=epoch, epochs=1000)
        assert agent.act([0, 0], seen) == pytest.approx(bold.act([0, 0], seen))
    broken = info([0.3, 0.2], [0.3, 0.2], epoch=4, epochs=1000)
    agent.act([0, 0], broken)
    assert agent.unsteady == pytest.approx(float(bold.shares @ [0.2, 0.3]) - 0.03)
    after = [agent.act([0, 0], info([0.5, 0.5], [0.4, 0.5], epoch=e, epochs=1000))[0] for e in range(5, 100)]
    assert after[1] > 0.4
    assert after[1:] == sorted(after[1:], reverse=True)
    assert after[-1] < 0.2


@pytest.mark.parametrize(
    ("said", "floor"),
    [
        ({}, 0.6),
        ({"size_weighted": False}, 0.6),
        ({"size_weighted": True}, 0.2),
        ({"rate/m0": 1.0, "rate/m1": 1.0}, 0.1),
    ],
)
def test_the_floor_follows_the_speed_and_what_a_small_batch_weighs(said, floor):
    """The second step's scores rise by .4 in ten iterations; five times .04 is .2, and three times that .6."""
    agent = steady(floor=0.1, speed=5.0, surprise=0.0, lost=1500.0)
    agent.act([0, 0], info([0.1, 0.1], [0.1, 0.1], epoch=1, iterations=10, **said))
    agent.act([0, 0], info([0.5, 0.1], [0.4, 0.1], epoch=2, iterations=20, **said))
    shares = agent.act([0, 0], info([0.5, 0.5], [0.1, 0.5], epoch=3, iterations=30, **said))
    assert shares[0] == pytest.approx(floor / 2, abs=1e-4)


def test_the_cap_cuts_and_gives_to_those_with_room():
    agent = steady(m=4, cap=2.0, surprise=0.0)
    for epoch in (1, 2, 3):
        shares = agent.act([0] * 4, info([0.5] * 4, [0.5, 0.1, 0.2, 0.2], epoch=epoch))
    assert shares[0] == pytest.approx(0.5)
    assert shares.sum() == pytest.approx(1.0)


def test_between_two_validations_it_holds_its_shares_and_collects_training_scores():
    """Asked twice per epoch, it decides when the epoch has been validated, on the mean of both halves."""
    often, seldom = steady(surprise=0.0), steady(surprise=0.0)
    seen = [([0.4, 0.2], [0.3, 0.2]), ([0.5, 0.3], [0.35, 0.3]), ([0.6, 0.4], [0.4, 0.4])]
    for epoch, (train, validated) in enumerate(seen, start=1):
        shares = seldom.act([0, 0], info(train, validated, epoch=epoch))
        if epoch > 1:
            held = often.shares.copy()
            low = info([score - 0.05 for score in train], seen[epoch - 2][1], epoch=epoch, validated_in=epoch - 1)
            assert often.act([0, 0], low) == pytest.approx(held)
            train = [score + 0.05 for score in train]
        assert often.act([0, 0], info(train, validated, epoch=epoch)) == pytest.approx(shares)
    assert often.decisions == seldom.decisions == 3
    assert shares[0] < 0.2


@pytest.mark.parametrize("loss", [np.inf, np.nan])
def test_a_loss_that_is_not_finite_says_nothing(loss):
    agent, other = steady(), steady()
    for epoch in (1, 2):
        seen = info([0.5, 0.3], [0.4 / epoch, 0.3], [loss, -np.log(0.3)], epoch=epoch)
        even = info([0.5, 0.3], [0.4 / epoch, 0.3], [-np.log(0.4 / epoch), -np.log(0.3)], epoch=epoch)
        assert agent.act([0, 0], seen) == pytest.approx(other.act([0, 0], even))


@given(st.integers(2, 5), st.data())
def test_shares_are_finite_within_floor_and_cap_and_do_not_depend_on_the_order(m, data):
    score = st.floats(0.0, 1.0)
    row = st.lists(score, min_size=m, max_size=m)
    order = data.draw(st.permutations(range(m)))
    one, other = make_agent("steady", m), make_agent("steady", m)
    for epoch in range(1, data.draw(st.integers(1, 5)) + 1):
        train, validated, loss = (np.array(data.draw(row)) for _ in range(3))
        shares = one.act([0] * m, info(train, validated, 9 * loss, epoch=epoch))
        turned = other.act([0] * m, info(train[order], validated[order], 9 * loss[order], epoch=epoch))
        assert np.isfinite(shares).all()
        assert shares.sum() == pytest.approx(1.0, abs=1e-5)
        assert shares.max() <= 2.5 / m + 1e-5
        assert shares.min() >= 0.1 / m - 1e-6
        assert turned == pytest.approx(shares[order], abs=1e-5)


def test_it_goes_on_from_its_state_and_begins_anew_without_a_past():
    rng = np.random.default_rng(0)
    seen = [info(*rng.uniform(0.1, 1.0, (3, 2)), epoch=e, epochs=20) for e in range(1, 9)]
    whole = make_agent("steady", 2)
    actions = [whole.act([0, 0], one) for one in seen]
    first, second = make_agent("steady", 2), make_agent("steady", 2)
    for one in seen[:4]:
        first.act([0, 0], one)
    second.load_state_dict(first.state_dict())
    assert [second.act([0, 0], one).tolist() for one in seen[4:]] == [action.tolist() for action in actions[4:]]
    second.begin()
    assert [second.act([0, 0], one).tolist() for one in seen] == [action.tolist() for action in actions]


@pytest.mark.parametrize(
    ("options", "message"), [({"cap": 1.0}, "cap=1.0"), ({"memory": 2.0}, "memory=2.0"), ({"lost": -1.0}, "lost=-1.0")]
)
def test_options_that_can_not_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_agent("steady", 2, **options)
