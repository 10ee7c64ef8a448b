"""The network: heads, their shapes, who owns which parameter, and the encoders."""

import pytest
import torch

from dus_gym.encoders import build_encoder, width
from dus_gym.encoders.mlp import MLP
from dus_gym.errors import ConfigError
from dus_gym.model import HEADS, MultimodalModel, initialised

N, C = 5, 7


def model_of(heads, shapes=((6,), (3,), (4,)), hidden=None, seed=0):
    def build():
        widths = hidden or [64] * len(shapes)
        return MultimodalModel([MLP(s, hidden=h) for s, h in zip(shapes, widths, strict=True)], C, heads)

    return initialised(build, seed)


def features_of(model, n=N):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, d, generator=generator) for d in model.widths]


def test_every_modality_has_its_own_unimodal_head():
    model = model_of({"unimodal"})
    features = features_of(model)
    for j, h in enumerate(features):
        logits = model.unimodal(j, h)
        assert logits.shape == (N, C)
        head = model.unimodal_heads[j]
        torch.testing.assert_close(logits, h @ head.weight.T + head.bias)
    assert not torch.equal(model.unimodal(0, features[0]), model.unimodal(1, features[0]))


def test_encoders_see_their_own_modality_alone():
    model = model_of({"unimodal"}, hidden=[64, 32, 16])
    for j, (d, wide) in enumerate([(6, 64), (3, 32), (4, 16)]):
        assert model.encode(j, torch.randn(N, d)).shape == (N, wide)
    assert model.widths == [64, 32, 16]
    with pytest.raises(RuntimeError):
        model.encode(1, torch.randn(N, 6))


def test_the_fused_head_reads_all_features_in_order():
    model = model_of({"fused"}, hidden=[64, 32, 16])
    features = features_of(model)
    assert model.fused_head.in_features == 64 + 32 + 16
    torch.testing.assert_close(model.fused(features), model.fused_head(torch.cat(features, dim=1)))
    assert model.fused(features).shape == (N, C)


def test_the_fused_head_is_additive_over_modalities():
    model = model_of({"fused"}, hidden=[64, 32, 16])
    features = features_of(model)
    parts = model.additive_parts(features)
    assert [part.shape for part in parts] == [(N, C)] * 3
    torch.testing.assert_close(sum(parts), model.fused(features))
    # Part j is W_j h_j + b/m: it moves with its own features only, and without features it is its share of the bias.
    changed = model.additive_parts([features[0], features[1] + 1.0, features[2]])
    assert torch.equal(changed[0], parts[0])
    assert torch.equal(changed[2], parts[2])
    assert not torch.allclose(changed[1], parts[1])
    for part in model.additive_parts([torch.zeros_like(h) for h in features]):
        torch.testing.assert_close(part, (model.fused_head.bias / 3).expand(N, C))
    middle = model.fused_head.weight[:, 64:96]
    torch.testing.assert_close(parts[1], features[1] @ middle.T + model.fused_head.bias / 3)


def test_the_shared_head_is_one_for_all_modalities():
    model = model_of({"shared"})
    features = features_of(model)
    for j in range(3):
        assert torch.equal(model.shared(j, features[0]), model.shared(0, features[0]))
        assert torch.equal(model.project(j, features[j]), features[j])
    assert model.shared(0, features[0]).shape == (N, C)
    assert sum(p.numel() for p in model.projections.parameters()) == 0


def test_widths_that_differ_are_projected_to_the_first_modalitys():
    model = model_of({"shared"}, shapes=((6,), (3,), (4,), (5,)), hidden=[16, 64, 16, 32])
    features = features_of(model)
    assert model.shared_head.in_features == 16
    assert torch.equal(model.project(0, features[0]), features[0])
    assert torch.equal(model.project(2, features[2]), features[2])
    assert model.project(3, features[3]).shape == (N, 16)
    projected = model.project(1, features[1])
    assert projected.shape == (N, 16)
    torch.testing.assert_close(projected, model.projections[1](features[1]))
    torch.testing.assert_close(model.shared(1, features[1]), model.shared_head(projected))
    torch.testing.assert_close(model.shared_logits(projected), model.shared(1, features[1]))


@pytest.mark.parametrize("heads", [{"unimodal"}, {"fused"}, {"shared"}, {"unimodal", "fused"}, set(HEADS), set()])
def test_only_the_heads_asked_for_are_built(heads):
    model = model_of(heads)
    built = {
        name
        for name, head in (
            ("unimodal", model.unimodal_heads),
            ("fused", model.fused_head),
            ("shared", model.shared_head),
            ("ensemble", model.ensemble_head),
            ("boosted", model.boosted_head),
            ("gates", model.gate_squeeze),
        )
        if head is not None
    }
    assert built == heads


@pytest.mark.parametrize(
    ("use", "named"),
    [
        (lambda model, h: model.unimodal(0, h[0]), "unimodal"),
        (lambda model, h: model.fused(h), "fused"),
        (lambda model, h: model.additive_parts(h), "fused"),
        (lambda model, h: model.shared(0, h[0]), "shared"),
        (lambda model, h: model.ensemble(0, h[0]), "ensemble"),
        (lambda model, h: model.learner(0, h[0]), "ensemble"),
        (lambda model, h: model.shared_logits(h[0]), "shared"),
        (lambda model, h: model.boosted(0, h[0]), "boosted"),
        (lambda model, h: model.boosted_part(0, 1, h[0]), "boosted"),
        (lambda model, h: model.gates(h), "gates"),
    ],
)
def test_a_head_that_was_not_built_is_named(use, named):
    model = model_of(HEADS - {named})
    with pytest.raises(ConfigError, match=f"no {named} head.*{named!r} in heads"):
        use(model, features_of(model))


def test_unknown_heads_are_refused_with_the_ones_there_are():
    with pytest.raises(ConfigError, match=r"heads=\['gated'\].*fused.*shared.*unimodal"):
        model_of({"unimodal", "gated"})


@pytest.mark.parametrize("heads", [{"unimodal"}, {"fused"}, {"shared"}, {"unimodal", "fused"}, set(HEADS)])
@pytest.mark.parametrize("hidden", [[64, 64, 64], [16, 64, 32]])
def test_the_groups_hold_every_parameter_exactly_once(heads, hidden):
    model = model_of(heads, hidden=hidden)
    groups = model.parameter_groups(("x", "y", "z"))
    grouped = [id(p) for parameters in groups.values() for p in parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}
    assert all(groups.values())
    assert {f"encoder/{name}" for name in "xyz"} <= groups.keys()
    assert ("fused" in groups, "shared" in groups) == ("fused" in heads, "shared" in heads)


def test_each_parameter_belongs_to_the_modality_that_uses_it():
    # Of a modality's boosted classifiers one alone may be used.
    model = model_of(HEADS - {"boosted"}, hidden=[16, 64, 32])
    groups = model.parameter_groups(("x", "y", "z"))
    model.unimodal(1, model.encode(1, torch.randn(N, 3))).sum().backward()
    model.shared(1, model.encode(1, torch.randn(N, 3))).sum().backward()
    touched = {name for name, parameters in groups.items() if any(p.grad is not None for p in parameters)}
    assert touched == {"encoder/y", "head/y", "shared"}
    assert all(p.grad is not None for name in touched for p in groups[name])


def test_boosted_classifiers_belong_to_their_modality_and_the_layer_after_them_to_all():
    model = model_of({"boosted"}, hidden=[16, 64, 32])
    groups = model.parameter_groups(("x", "y", "z"))
    model.boosted_part(1, 2, model.encode(1, torch.randn(N, 3))).sum().backward()
    touched = {name: sum(p.grad is not None for p in parameters) for name, parameters in groups.items()}
    assert touched == {
        "encoder/x": 0,
        "encoder/y": 4,
        "encoder/z": 0,
        "head/x": 0,
        "head/y": 2,
        "head/z": 0,
        "boosted": 2,
    }


def test_gates_belong_to_their_modality_and_the_layer_before_them_to_all():
    model = model_of({"gates"}, hidden=[16, 64, 32])
    groups = model.parameter_groups(("x", "y", "z"))
    model.gates(features_of(model))[2].sum().backward()
    touched = {name for name, parameters in groups.items() if all(p.grad is not None for p in parameters)}
    assert touched - {"encoder/x", "encoder/y", "encoder/z"} == {"gates/z", "gates"}


def test_building_depends_on_the_seed_alone_and_leaves_the_global_generator():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = model_of(set(HEADS), seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    torch.rand(7)
    second = model_of(set(HEADS), seed=3).state_dict()
    other = model_of(set(HEADS), seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    drawn = [name for name in first if first[name].unique().numel() > 1]
    assert {name.partition(".")[0] for name in first.keys() - set(drawn)} == {
        *("ensemble_scale", "boosted_active", "boosted_layers")
    }
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_building_seeds_no_accelerator(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    model_of(set(HEADS), seed=3)
    assert seeded == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_building_leaves_the_global_generator_of_the_gpu():
    torch.cuda.manual_seed_all(1)
    before = torch.cuda.get_rng_state()
    model_of(set(HEADS), seed=3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


# -- encoders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64,), (8,), (8, 8), (1, 4, 2)])
def test_the_mlp_is_d_64_64_with_relu(shape):
    encoder = build_encoder("mlp", shape)
    assert width(encoder) == encoder.out_features == 64
    x = torch.randn(N, *shape)
    features = encoder(x)
    assert features.shape == (N, 64)
    linear = [layer for layer in encoder.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [64, 64]
    by_hand = x.flatten(1)
    for layer in linear:
        by_hand = (by_hand @ layer.weight.T + layer.bias).clamp(min=0.0)
    torch.testing.assert_close(features, by_hand)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_resnet18_takes_any_number_of_channels(channels):
    encoder = build_encoder("resnet18", (channels, 32, 40))
    assert width(encoder) == encoder.out_features == 512
    features = encoder(torch.randn(2, channels, 32, 40))
    assert features.shape == (2, 512)
    # From scratch: ResNet-18 has 11.18 million weights without its last layer, plus the stem's channels.
    weights = sum(p.numel() for p in encoder.parameters())
    assert weights == 11_176_512 + 64 * 49 * (channels - 3)
    assert all(name.find("fc") < 0 for name, _ in encoder.named_parameters())


@pytest.mark.parametrize(("name", "shape"), [("mlp", (8,)), ("resnet18", (1, 33, 33)), ("resnet18", (3, 33, 33))])
def test_the_gradient_reaches_every_parameter_of_an_encoder(name, shape):
    torch.manual_seed(0)
    encoder = build_encoder(name, shape)
    # Squares: a plain sum of batch-normalised features would have no gradient.
    encoder(torch.randn(4, *shape)).square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_an_unknown_encoder_names_the_nearest():
    with pytest.raises(ConfigError, match=r"resnet81.*Did you mean 'resnet18'"):
        build_encoder("resnet81", (3, 32, 32))
