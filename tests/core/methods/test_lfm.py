"""LFM against numbers worked by hand from its authors' program, and what it promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup, logits_of

from dus_gym.errors import ConfigError
from dus_gym.methods.lfm import alignment, released_weight


def test_alignment_by_hand():
    # p = (.7, .2, .1), q = (.3, .4, .3), their mean (.5, .3, .2).
    p, q = logits_of([0.7, 0.2, 0.1]), logits_of([0.3, 0.4, 0.3])
    # .25 ln(.5 / .7) + .15 ln(.3 / .2) + .1 ln(.2 / .1) + .25 ln(.5 / .3) + .15 ln(.3 / .4) + .1 ln(.2 / .3)
    assert alignment([p, q], "released").item() == pytest.approx(0.0900240094)
    # .35 ln(.7 / .5) + .1 ln(.2 / .3) + .05 ln(.1 / .2) + .15 ln(.3 / .5) + .2 ln(.4 / .3) + .15 ln(.3 / .2)
    assert alignment([p, q], "js").item() == pytest.approx(0.0842937501)
    for divergence in ("released", "js"):
        assert alignment([p, p], divergence).item() == pytest.approx(0.0, abs=1e-12)
        assert alignment([q, p], divergence).item() == alignment([p, q], divergence).item()


def test_of_three_modalities_it_is_the_mean_over_pairs():
    rows = [logits_of([0.7, 0.2, 0.1]), logits_of([0.3, 0.4, 0.3]), logits_of([0.7, 0.2, 0.1])]
    # Two of three pairs differ.
    assert alignment(rows, "js").item() == pytest.approx(0.0842937501 * 2 / 3)


def test_the_js_divergence_of_opposites_is_ln_2_and_nothing_overflows():
    far = [torch.tensor([[200.0, -200.0]]).requires_grad_(), torch.tensor([[-200.0, 200.0]]).requires_grad_()]
    assert alignment(far, "js").item() == pytest.approx(math.log(2.0), rel=1e-6)
    for divergence in ("js", "released"):
        alignment(far, divergence).sum().backward()
        assert all(z.grad.isfinite().all() for z in far)


@pytest.mark.parametrize(
    ("epoch", "epochs", "alpha"),
    # The polynomial at 0, 50, 100 and 190, the same stretched to half the epochs, and the last of 200.
    [
        *((0, 200, 0.2046237), (50, 200, 0.4366807), (100, 200, 0.5391552), (190, 200, 0.9952063)),
        *((25, 100, 0.4366807), (95, 100, 0.9952063), (199, 200, 0.9159888)),
    ],
)
def test_weights_of_the_released_curve(epoch, epochs, alpha):
    assert released_weight(epoch, epochs) == pytest.approx(alpha, abs=1e-6)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_the_loss_is_twice_the_weighted_sum(sizes, alpha):
    setup = Setup("lfm", sizes=sizes, label_weight=alpha)
    setup.ctx.epoch = 50
    z = [setup.model.unimodal(j, setup.model.encode(j, x)) for j, x in enumerate(setup.inputs)]
    p = [of.softmax(dim=1) for of in z]
    pairs = []
    for j, one in enumerate(p):
        for other in p[j + 1 :]:
            middle = (one + other) / 2
            # As PyTorch has it, the second argument is the distribution that the logarithm is taken under.
            pairs.append(sum(F.kl_div(of.log(), middle, reduction="batchmean") for of in (one, other)) / 2)
    weight = 0.5391552 if alpha is None else alpha
    label = F.cross_entropy(sum(z) / len(z), setup.labels)
    expected = 2.0 * (weight * label + (1.0 - weight) * sum(pairs) / len(pairs))
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]
    assert setup.ctx.logged["alpha"] == pytest.approx(weight, abs=1e-6)
    assert setup.ctx.logged["alignment"].item() == pytest.approx(sum(pairs).item() / len(pairs), rel=1e-4)


def test_it_predicts_with_the_mean_of_the_logits():
    unimodal = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
    assert Setup("lfm").method.predict(unimodal, {}).tolist() == [[1.0, 0.5]]


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"divergence='kl' .*released, js"):
        Setup("lfm", divergence="kl")
    with pytest.raises(ConfigError, match=r"label_weight=1.2 .*\[0, 1\]"):
        Setup("lfm", label_weight=1.2)
