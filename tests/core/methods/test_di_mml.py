"""DI-MML: the notes' numbers (section 11), its two stages, and what it promises."""

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.errors import ConfigError
from dus_gym.methods.di_mml import certainty_weighted, dimension_accuracies, transfer_loss


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


ALL = torch.ones(2, dtype=torch.bool)
SIZES = [(3, 5), (5, 3), (4, 4), (3, 5, 4)]


# -- the notes' numbers ------------------------------------------------------------------------------


def test_the_transfer_loss_by_hand():
    student, teacher = tensor([[1, 0], [0, 1]]).requires_grad_(), tensor([[2, 0], [0, 2]]).requires_grad_()
    loss = transfer_loss(student, teacher, ALL, 1.0)
    assert loss.item() == pytest.approx(0.1269280, abs=1e-7)
    loss.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    # T divides the dot products.
    assert transfer_loss(student, 50.0 * teacher, ALL, 50.0).item() == pytest.approx(0.1269280, abs=1e-7)


def test_effective_dimensions_by_hand():
    features = tensor([[0, 5], [0.2, 5.1], [1, 5], [1.2, 4.9]])
    accuracies = dimension_accuracies(features, torch.tensor([0, 0, 1, 1]), 2)
    assert accuracies.tolist() == [1.0, 0.75]
    assert (accuracies > accuracies.mean()).tolist() == [True, False]


@pytest.mark.parametrize(("temperature", "weights"), [(1.0, [0.4018, 0.2693, 0.3289]), (3.0, [0.3558, 0.3114, 0.3328])])
def test_certainty_weights_by_hand(temperature, weights):
    sure = [[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]
    logits = tensor(sure).log().unsqueeze(1)
    expected = sum(w * z for w, z in zip(weights, logits, strict=True))
    torch.testing.assert_close(certainty_weighted(logits, temperature), expected, atol=1e-4, rtol=0.0)


def test_certainty_weights_of_a_sample_do_not_depend_on_the_others():
    logits = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0))
    whole = certainty_weighted(logits, 2.0)
    for i in range(9):
        torch.testing.assert_close(certainty_weighted(logits[:, i : i + 1], 2.0)[0], whole[i])


# -- effective dimensions and their transfer ---------------------------------------------------------


def test_a_class_without_a_sample_is_never_the_nearest():
    features, labels = tensor([[0.0], [1.0], [4.0], [5.0]]), torch.tensor([0, 0, 2, 2])
    # The mean of all features, 2.5, would win the second and third.
    assert dimension_accuracies(features, labels, 3).tolist() == [1.0]


def test_accuracies_of_dimensions_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (60,), generator=generator)
    features = torch.randn(60, 7, generator=generator) + labels[:, None] * torch.linspace(0, 1, 7)
    means = torch.stack([features[labels == k].mean(0) for k in range(5)])
    expected = [
        sum(int((features[i, d] - means[:, d]).abs().argmin() == labels[i]) for i in range(60)) / 60 for d in range(7)
    ]
    assert dimension_accuracies(features, labels, 5).tolist() == pytest.approx(expected)
    assert expected[-1] > expected[0]


def test_the_transfer_against_a_loop_over_samples():
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(6, 5, generator=generator, dtype=torch.double) for _ in range(2))
    chosen = torch.tensor([True, False, True, True, False])
    expected = 0.0
    for i in range(6):
        dots = [(student[i, chosen] @ teacher[b, chosen] / 3.0).exp() for b in range(6)]
        expected -= (dots[i] / sum(dots)).log().item() / 6
    assert transfer_loss(student, teacher, chosen, 3.0).item() == pytest.approx(expected)


def test_nothing_complementary_is_a_constant():
    student, teacher = torch.randn(4, 2, requires_grad=True), torch.randn(4, 2)
    loss = transfer_loss(student, teacher, ~ALL, 1.0)
    assert loss.item() == pytest.approx(torch.tensor(4.0).log().item())
    loss.backward()
    assert not student.grad.any()


# -- the first stage ---------------------------------------------------------------------------------


def start(sizes, effective=None, **options):
    setup = Setup("di_mml", sizes=sizes, **options)
    setup.ctx.phase = setup.method.phases(100, NAMES[: len(sizes)])[0]
    setup.method.load_state_dict({"fusing": False} | ({} if effective is None else {"effective": effective}))
    return setup


def some_dimensions(m):
    return torch.rand(m, 8, generator=torch.Generator().manual_seed(2)) < 0.5


def by_hand(setup, effective):
    """One loss a modality, then the transfer, from the formulas."""
    model = setup.model
    h = [model.encode(j, x) for j, x in enumerate(setup.inputs)]
    p, losses = min(map(len, h)), []
    for j, x in enumerate(h):
        y, divisor = setup.labels[: len(x)], 4 if setup.ctx.loss_norm == "fixed" else len(x)
        own, shared = (F.cross_entropy(z, y, reduction="sum") for z in (model.unimodal_heads[j](x), model.shared(j, x)))
        losses.append((own + shared) / divisor)
    if effective is not None:
        transfer = 0.0
        for j in range(len(h)):
            for k in range(len(h)):
                if j != k:
                    dims = effective[j] & ~effective[k]
                    logits = h[k][:p, dims] @ h[j][:p, dims].detach().T / 50.0
                    transfer = transfer + F.cross_entropy(logits, torch.arange(p))
        losses.append(transfer)
    return losses


@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
@pytest.mark.parametrize("with_transfer", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_loss_by_hand(sizes, with_transfer, loss_norm):
    effective = some_dimensions(len(sizes)) if with_transfer else None
    setup = start(sizes, effective, loss_norm=loss_norm)
    expected = sum(by_hand(setup, effective))
    owners = [f"{part}/{name}" for part in ("encoder", "head") for name in NAMES[: len(sizes)]] + ["shared"]
    found = setup.gradients(*owners)
    setup.model.zero_grad()
    expected.backward()
    groups = setup.model.parameter_groups(setup.ctx.modalities)
    for owner, gradient in zip(owners, found, strict=True):
        torch.testing.assert_close(gradient, torch.cat([p.grad.flatten() for p in groups[owner]]))
    assert setup.model.fused_head.weight.grad is None
    setup.begin()
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]


def test_weights_of_zero_leave_the_own_losses():
    setup = start((3, 5), some_dimensions(2), shared_weight=0.0, transfer_weight=0.0)
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    own = [F.cross_entropy(setup.model.unimodal(j, x), setup.labels[: len(x)]).item() for j, x in enumerate(h)]
    assert setup.losses() == [pytest.approx(sum(own), rel=1e-6)]


def test_without_transfer_a_modality_does_not_reach_the_others_encoder():
    setup = start((3, 5))
    before = setup.gradients("encoder/one", "encoder/two")
    setup.inputs[1] = setup.inputs[1] + 1.0
    after = setup.gradients("encoder/one", "encoder/two")
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False]


def test_the_transfer_is_of_the_paired_rows():
    setup = start((3, 5), some_dimensions(2))
    before = setup.gradients("encoder/one", "encoder/two")
    setup.inputs[1] = setup.inputs[1].clone()
    setup.inputs[1][3:] += 1.0
    after = setup.gradients("encoder/one", "encoder/two")
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False]


def test_alternating_steps_after_each_part():
    setup, twin = (start((3, 5, 4), some_dimensions(3), update="alternating") for _ in range(2))
    losses = setup.losses()
    assert len(losses) == 4
    for i in range(4):
        loss = by_hand(twin, some_dimensions(3))[i]
        assert losses[i] == pytest.approx(loss.item(), rel=1e-5)
        twin.optimizer.torch.zero_grad()
        loss.backward()
        twin.optimizer.step()


def test_scores_are_of_the_own_heads_over_the_own_samples():
    setup = start((3, 5))
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    z = [setup.model.unimodal(j, x) for j, x in enumerate(h)]
    expected = [x.softmax(1).gather(1, setup.labels[: len(x), None]).mean().item() for x in z]
    setup.losses()
    assert setup.recorder.finish()[0].rows == [pytest.approx(expected, rel=1e-5)]


# -- the two stages ----------------------------------------------------------------------------------


def moved(before, after):
    names = {"encoders", "unimodal_heads", "shared_head", "fused_head"}
    of = {name: next(part for part in names if name.startswith(part)) for name in before}
    return {of[name] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("m", [2, 3])
def test_encoders_and_heads_first_and_then_the_concat_head_on_ordinary_batches(toy_run, weights_of, m):
    run = toy_run(m, method="di_mml", method_options={"fusion": 0.25}, epochs=4)
    sizes = [5, 11, 8][:m]
    before = weights_of(run)
    assert run.train(sizes, 15).sizes == sizes
    first = weights_of(run)
    assert moved(before, first) == {"encoders", "unimodal_heads", "shared_head"}
    assert run.train(sizes, 5).sizes == [8] * m
    assert moved(first, weights_of(run)) == {"fused_head"}


@pytest.mark.parametrize(("epochs", "first", "last"), [(170, 150, 20), (100, 88, 12), (2, 1, 1)])
def test_the_stages_share_the_epochs(toy_run, epochs, first, last):
    run = toy_run(method="di_mml", epochs=epochs, iterations=1)
    names = []
    for _ in range(epochs):
        run.train([8, 8], 1)
        names.append(run.phase.name)
    assert names == ["encoders"] * first + ["fusion"] * last


def test_the_second_stage_has_a_schedule_of_its_own_from_the_full_rate_on(toy_run):
    settings = {"method_options": {"fusion": 0.25, "transfer_start": 0.0}, "epochs": 40}
    found = {}
    for schedule in ("step", "plateau"):
        optimizer = {"lr": 0.2, "schedule": schedule, "patience": 1}
        run = toy_run(method="di_mml", optimizer=optimizer, **settings)
        found[schedule] = []
        for _ in range(40):
            run.train([8, 8], 1)
            found[schedule].append(run.optimizer.torch.param_groups[0]["lr"])
            run.train([8, 8], 4)
    # 70 % of the run's 40 epochs, then 70 % of the second stage's ten.
    assert found["step"] == pytest.approx([0.2] * 28 + [0.02] * 2 + [0.2] * 7 + [0.02] * 3)
    assert found["plateau"][29] < 0.2 == found["plateau"][30]


def test_effective_dimensions_are_found_once_at_their_epoch(toy_run):
    run = toy_run(method="di_mml", method_options={"transfer_start": 0.5, "fusion": 0.25}, epochs=4)
    run.train([8, 8], 10)
    assert run.method.state_dict() == {"fusing": False}
    split = run._train_split
    with torch.no_grad():
        h = [run.model.encode(j, x) for j, x in enumerate(split.inputs)]
    accuracies = [dimension_accuracies(x, split.labels, 3) for x in h]
    expected = torch.stack([a > a.mean() for a in accuracies])
    run.train([8, 8], 1)
    assert torch.equal(run.method.state_dict()["effective"], expected)
    only = [int((expected[j] & ~expected[1 - j]).sum()) for j in range(2)]
    assert run.logged == {"complementary/a": only[0], "complementary/b": only[1]}
    run.train([8, 8], 9)
    assert torch.equal(run.method.state_dict()["effective"], expected)


def test_the_transfer_changes_training_from_its_epoch_on(toy_run, weights_of, same_bits):
    options = {"transfer_start": 0.5, "fusion": 0.25, "temperature": 1.0}
    run = toy_run(method="di_mml", method_options=options)
    without = toy_run(method="di_mml", method_options=options | {"transfer_weight": 0.0})
    for count, same in ((10, True), (5, False)):
        for each in (run, without):
            each.train([8, 8], count)
        assert same_bits(weights_of(run), weights_of(without)) == same
    assert "effective" not in without.method.state_dict()


def test_the_prediction_counts_the_concat_head_once_it_trains(toy_run):
    run = toy_run(method="di_mml", method_options={"fusion": 0.25, "certainty_temperature": 0.5}, epochs=4)
    for trained, heads in ((15, 2), (5, 3)):
        run.train([8, 8], trained)
        found = run._evaluator.predict(run._test_split)
        logits = torch.stack([*found.unimodal, found.fused["concat"]][:heads])
        torch.testing.assert_close(found.fused["method"], certainty_weighted(logits, 0.5))


def test_features_of_another_width_are_projected():
    setup = start((4, 4), some_dimensions(2), width=(8, 6), temperature=1.0, shared_weight=0.0)
    owners = ("encoder/one", "encoder/two", "head/two")
    found = setup.gradients(*owners)
    # The projection trains with the head of its modality.
    assert len(found[2]) == (6 * 6 + 6) + (6 * 8 + 8)
    assert found[2][-(6 * 8 + 8) :].abs().sum() > 0


# -- what it keeps and refuses -----------------------------------------------------------------------


def test_it_needs_pairs_and_an_epoch_a_stage(toy_run):
    with pytest.raises(ConfigError, match=r"pairing='independent'.*'di_mml'"):
        toy_run(method="di_mml", pairing="independent")
    with pytest.raises(ConfigError, match=r"epochs=1 .*2 phases"):
        toy_run(method="di_mml", epochs=1)
