"""What holds for every encoder: widths, batches of any size, gradients, seeds, copies, mixed precision, training."""

import copy

import pytest
import torch
from safetensors.torch import load, save

from dus_gym.config import RunConfig
from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.encoders import build_encoder, width
from dus_gym.methods import make_method
from dus_gym.model import MultimodalModel, initialised
from dus_gym.optim import OptimizerConfig
from dus_gym.seeding import RunSeeds
from dus_gym.state import load_state, save_state
from dus_gym.trainer import Recipe, Trainer


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def seeded(word, shape, seed):
    return initialised(lambda: MultimodalModel([build_encoder(word, shape)], 3, {"unimodal"}), seed).encoders[0]


def test_features_have_the_stated_width_for_batches_of_any_size(tiny):
    encoder = build_encoder(tiny.word, tiny.shape)
    for n in (2, 5, 3):
        features = encoder(tiny.batch(n))
        assert features.shape == (n, width(encoder))
        assert features.dtype == torch.float32
        assert features.isfinite().all()


def test_it_starts_in_training_mode(tiny):
    assert all(module.training for module in build_encoder(tiny.word, tiny.shape).modules())


def test_a_sample_is_judged_alone_in_evaluation_mode(tiny):
    encoder = build_encoder(tiny.word, tiny.shape)
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # One batch sets the statistics, or deep features would be next to nothing.
    batch = tiny.batch(4)
    with torch.no_grad():
        encoder(batch)
        encoder.eval()
        features = encoder(batch)
        assert features.std(dim=0).max() > 1e-3
        torch.testing.assert_close(features[1:3], encoder(batch[1:3]), rtol=1e-3, atol=1e-4)


def test_gradients_reach_every_parameter(tiny):
    torch.manual_seed(0)
    encoder = build_encoder(tiny.word, tiny.shape)
    encoder(tiny.batch(4)).square().sum().backward()
    without = {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert without == set()


def test_weights_come_from_the_default_generator_alone(tiny):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = seeded(tiny.word, tiny.shape, 3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, seeded(tiny.word, tiny.shape, 3).state_dict())
    assert not same(first, seeded(tiny.word, tiny.shape, 4).state_dict())


def test_a_copy_and_a_saved_state_go_on_to_the_bit(tiny):
    encoder = seeded(tiny.word, tiny.shape, 3)
    encoder(tiny.batch(3))  # Running statistics move.
    copied = copy.deepcopy(encoder)
    restored = seeded(tiny.word, tiny.shape, 4)
    restored.load_state_dict(load(save(encoder.state_dict())))

    def step(network):
        torch.manual_seed(7)  # Dropout.
        network(tiny.batch(4, seed=1)).square().sum().backward()
        return {name: p.grad for name, p in network.named_parameters()} | network.state_dict()

    expected = step(encoder)
    assert same(step(copied), expected)
    assert same(step(restored), expected)


def test_mixed_precision_trains(tiny):
    encoder = seeded(tiny.word, tiny.shape, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder(tiny.batch(2))
        loss = torch.nn.functional.cross_entropy(features[:, :3], torch.tensor([0, 1]))
    loss.backward()
    assert features.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


BERT = "bert:weights=none:hidden=16:layers=1:heads=2:vocab=50:out=8"
CLIP = "clip-image:weights=none:hidden=16:layers=1:heads=2:patch=8:out=8"


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        ((BERT, "resnet18", "i3d:width=0.05"), "float32"),
        ((BERT, CLIP, "cnn"), "bfloat16"),
        ((BERT, "resnet18", "i3d:width=0.05"), "bfloat16"),
    ],
)
def test_a_run_on_text_images_and_clips_is_bit_equal_after_a_restore(tmp_path, words, precision):
    shapes = ((6,), (3, 2, 24, 24) if words[1] == "resnet18" else (3, 24, 24), (1, 4, 24, 24))

    def split(n):
        inputs = [torch.randint(0, 50, (n, 6)), torch.randn(n, *shapes[1]), torch.randn(n, *shapes[2])]
        return TensorSplit(tuple(inputs), torch.arange(n) % 3)

    torch.manual_seed(0)
    data = TaskData(split(12), None, split(6), shapes)
    recipe = Recipe(("text", "image", "depth"), 3, words, OptimizerConfig(lr=0.01, schedule="none"), epochs=2, batch=4)

    def start():
        return Trainer(recipe, data, make_method("baseline"), RunConfig.of({"precision": precision}), RunSeeds(0))

    run, other = start(), start()
    run.train([2, 5, 5], 3)
    save_state(tmp_path / "run", "checkpoint", run.snapshot())
    run.train([4, 6, 2], 3)
    other.restore(load_state(tmp_path / "run", "checkpoint"))
    torch.manual_seed(5)  # BERT's dropout draws from the run's own generator all the same.
    other.train([4, 6, 2], 3)
    assert same(run.model.state_dict(), other.model.state_dict())
    assert run.evaluate() == other.evaluate()
    # Layouts of memory are not written, and come back with the run.
    for of in (run, other):
        strides = {p.is_contiguous(memory_format=torch.channels_last) for p in of.model.parameters() if p.ndim == 4}
        assert (precision == "bfloat16") == (strides == {True})
        moments = of.optimizer.torch.state
        assert all(moments[p]["momentum_buffer"].stride() == p.stride() for p in of.model.parameters())
