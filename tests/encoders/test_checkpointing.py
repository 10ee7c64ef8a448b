"""Encoders that compute their blocks again for the gradient: the same bits from less memory, and clear refusals."""

import copy

import numpy as np
import pytest
import torch
from command import dus

import dus_gym
from dus_gym.config import RunConfig
from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.encoders import ENCODERS, build_encoder, can_checkpoint
from dus_gym.errors import ConfigError
from dus_gym.methods import make_method
from dus_gym.optim import OptimizerConfig
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, Trainer, TrainingRuns


@pytest.fixture
def pair(deep):
    """A tiny encoder twice from the same weights, without and with checkpointing, and a batch of it."""

    def build(checkpointing):
        torch.manual_seed(0)
        return build_encoder(deep.word, deep.shape, checkpointing=checkpointing)

    return build(False), build(True), deep.batch(4)


def bytes_kept(encoder, batch):
    """Features in training mode with the same random numbers, and the bytes kept for their gradient, weights apart."""
    own = {t.untyped_storage().data_ptr() for t in (*encoder.parameters(), *encoder.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            # The storage itself is held, too: a freed one's address would be counted once for two.
            kept[storage.data_ptr()] = storage
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = encoder(batch)
    return features, sum(storage.nbytes() for storage in kept.values())


def state_of(encoder):
    return {name: p.grad for name, p in encoder.named_parameters()} | dict(encoder.state_dict())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_those_with_blocks_are_the_deep_ones():
    assert sorted(filter(can_checkpoint, ENCODERS)) == [
        "bert", "clip-image", "clip-text", "i3d", "resnet18", "resnet50",
    ]  # fmt: skip


def test_features_gradients_statistics_and_random_numbers_are_the_same_bits(pair):
    plain, checkpointing, batch = pair
    copied = copy.deepcopy(checkpointing)
    begun = {name: value.clone() for name, value in plain.named_buffers()}
    found = []
    for encoder in (plain, checkpointing, copied):
        features, _ = bytes_kept(encoder, batch)
        features.square().sum().backward()
        found.append(state_of(encoder) | {"features": features.detach(), "drawn next": torch.rand(3)})
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    # BatchNorm has counted one batch, and its statistics have moved.
    for name, value in checkpointing.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 1
        elif "running" in name:
            assert not torch.equal(value, begun[name])


def test_far_less_is_kept_for_the_gradient(pair):
    plain, checkpointing, batch = pair
    _, whole = bytes_kept(plain, batch)
    _, inputs_alone = bytes_kept(checkpointing, batch)
    assert inputs_alone < 0.4 * whole


def test_a_second_gradient_of_the_same_features_leaves_statistics_alone(pair):
    # As methods do that weigh gradients of several losses.
    plain, checkpointing, batch = pair
    found = []
    for encoder in (plain, checkpointing):
        features, _ = bytes_kept(encoder, batch)
        features.sum().backward(retain_graph=True)
        features.square().sum().backward()
        found.append(state_of(encoder))
    assert same(*found)


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_twice_in_training_alone(pair, training):
    _, encoder, batch = pair
    encoder.train(training)
    calls = []
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)
    # The last layer inside a block; what comes after the blocks lies less deep.
    inner = [m for name, m in encoder.network.named_modules() if name.count(".") >= 2 and isinstance(m, layers)][-1]
    inner.register_forward_pre_hook(lambda *_: calls.append(1))
    encoder(batch).sum().backward()
    assert len(calls) == (2 if training else 1)
    with torch.no_grad():
        encoder(batch)
    assert len(calls) == (3 if training else 2)


def test_mixed_precision_gives_the_same_bits(pair):
    plain, checkpointing, batch = pair
    found = []
    for encoder in (plain, checkpointing):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features, _ = bytes_kept(encoder, batch)
            loss = torch.nn.functional.cross_entropy(features[:, :3], torch.arange(4) % 3)
        loss.backward()
        found.append(state_of(encoder))
    assert same(*found)


# -- runs --------------------------------------------------------------------------------------------

BERT = "bert:weights=none:hidden=16:layers=2:heads=2:vocab=50:out=8"
CLIP = "clip-image:weights=none:hidden=16:layers=2:heads=2:patch=8:out=8"
WORDS = (BERT, "i3d:width=0.05")
SHAPES = ((6,), (1, 4, 17, 17))


def trainer(checkpointing, method="baseline", words=WORDS, shapes=SHAPES, **settings):
    rng = torch.Generator().manual_seed(0)

    def split(n):
        inputs = [
            torch.randint(0, 50, (n, 6), generator=rng) if len(shape) == 1 else torch.randn(n, *shape, generator=rng)
            for shape in shapes
        ]
        return TensorSplit(tuple(inputs), torch.arange(n) % 3)

    data = TaskData(split(12), split(6), split(6), shapes)
    recipe = Recipe(("one", "two"), 3, words, OptimizerConfig(lr=0.01, schedule="none"), epochs=3, batch=4)
    config = RunConfig.of({"checkpointing": checkpointing, **settings})
    return Trainer(recipe, data, make_method(method), config, RunSeeds(0))


# By losses alone; by several gradients of one encoder; by gradients that are changed.
@pytest.mark.parametrize("method", ["baseline", "mmpareto", "ogm_ge"])
def test_a_run_has_the_same_bits_and_a_snapshot_of_one_goes_on_in_the_other(method):
    plain, checkpointing, mixed = (trainer(on, method) for on in (False, True, False))
    for run in (plain, checkpointing):
        run.train([4, 4], 2)
    mixed.restore(checkpointing.snapshot())
    for run in (plain, checkpointing, mixed):
        run.train([4, 4], 3)
    expected = plain.model.state_dict()
    assert same(checkpointing.model.state_dict(), expected)
    assert same(mixed.model.state_dict(), expected)
    assert plain.evaluate() == checkpointing.evaluate() == mixed.evaluate()


def test_a_fork_computes_the_blocks_of_its_own_network():
    run = trainer(True)
    run.train([4, 4], 2)
    twin = run.fork()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    twin.train([4, 4], 2)
    assert same(run.model.state_dict(), before)
    run.train([4, 4], 2)
    assert same(run.model.state_dict(), twin.model.state_dict())


def test_encoders_without_blocks_may_stand_beside_those_with_them():
    words, shapes = (CLIP, "cnn"), ((3, 24, 24), (1, 8, 8))
    plain, checkpointing = (trainer(on, words=words, shapes=shapes) for on in (False, True))
    for run in (plain, checkpointing):
        run.train([4, 4], 2)
    assert same(plain.model.state_dict(), checkpointing.model.state_dict())


def test_it_is_refused_where_it_would_save_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"checkpointing=True saves nothing.*mlp, cnn .*resnet18.*i3d.*leave it out"):
        trainer(True, words=("mlp", "cnn"), shapes=((5,), (1, 8, 8)))
    done = dus("train", "DUS-Digits-v0", "--checkpointing", "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "checkpointing=True saves nothing" in done.stderr
    assert done.stderr.count("\n") == 1


def test_several_runs_as_one_computation_are_refused():
    split = TensorSplit((torch.randn(12, 3, 24, 24), torch.randn(12, 5)), torch.arange(12) % 3)
    data = TaskData(split, None, split, [(3, 24, 24), (5,)])
    recipe = Recipe(("one", "two"), 3, (CLIP, "mlp"), OptimizerConfig(lr=0.01), epochs=3, batch=4)
    with pytest.raises(ConfigError, match=r"checkpointing=True.*2 of them.*parallel_runs=1.*or leave it out"):
        TrainingRuns(
            recipe, [data] * 2, make_method("baseline"), RunConfig(checkpointing=True), [RunSeeds(0), RunSeeds(1)]
        )


def test_a_run_that_was_begun_without_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", 0.0)
    labels = np.arange(24) % 3
    pictures = np.random.default_rng(0).normal(size=(24, 3, 24, 24)).astype(np.float32)
    np.savez(tmp_path / "own.npz", picture=pictures, sums=pictures.mean((2, 3)), labels=labels)
    settings = {
        "data_root": tmp_path / "own.npz",
        "task_options": {"encoder": f"picture={CLIP},sums=mlp"},
        "epochs": 2,
        "total_batch": 8,
        "interval": 1,
    }

    class StoppedError(Exception):
        pass

    def stop(_, record):
        if record["step"] == 6:
            raise StoppedError

    straight = dus_gym.train("DUS-Own-v0", "uniform", **settings)
    with pytest.raises(StoppedError):
        dus_gym.train("DUS-Own-v0", "uniform", out=tmp_path / "run", on_step=stop, **settings)
    found = dus_gym.train("DUS-Own-v0", "uniform", out=tmp_path / "run", resume=True, checkpointing=True, **settings)
    assert found.fused == straight.fused
    assert found.modalities == straight.modalities
