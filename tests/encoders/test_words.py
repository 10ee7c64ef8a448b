"""Encoders by their words, what is refused, and the small networks of images and clips."""

import subprocess
import sys

import pytest
import torch

from dus_gym.encoders import ENCODERS, build_encoder, encoder_options
from dus_gym.errors import ConfigError, UnknownArgumentError
from dus_gym.options import option_table


def test_options_follow_the_name():
    name, options = encoder_options("bert:weights=none:hidden=32:heads=2:output=cls")
    assert (name, options.weights, options.hidden, options.output, options.out) == ("bert", "none", 32, "cls", 1024)
    assert encoder_options("cnn:channels=4,6,8")[1].channels == (4, 6, 8)
    assert encoder_options("i3d:weights=C:\\weights\\rgb.pt:pool=first8")[1].weights == "C:\\weights\\rgb.pt"
    assert encoder_options("bert:weights=openai/clip-vit-base-patch32")[1].weights == "openai/clip-vit-base-patch32"


def test_every_option_is_documented():
    for name, entry in ENCODERS.items():
        for row in option_table(entry.options):
            assert row["doc"], (name, row)


@pytest.mark.parametrize(
    ("word", "shape", "message"),
    [
        ("resnet81", (3, 32, 32), r"unknown encoder 'resnet81'.*Did you mean 'resnet18'"),
        ("mlp:hiden=8", (4,), r"'mlp:hiden=8'.*option 'hiden'.*Did you mean 'hidden'"),
        ("mlp:hidden", (4,), r"'mlp:hidden'.*'hidden' must be option=value"),
        ("mlp:", (4,), r"must be option=value"),
        ("mlp:hidden=wide", (4,), r"'mlp:hidden=wide': hidden='wide'.*whole number"),
        ("mlp:hidden=0", (4,), r"'mlp:hidden=0': hidden=0.*at least 1"),
        ("cnn:channels=8", (1, 8, 8), r"channels=8.*sequence"),
        ("cnn:channels=8,0", (1, 8, 8), r"channels=0.*at least 1"),
        ("cnn:channels=()", (1, 8, 8), r"channels=\(\)"),
        ("cnn:pool=max", (1, 8, 8), r"'cnn:pool=max': pool='max'.*none, mean"),
        ("cnn", (8,), r"'cnn'.*\(8,\).*height, width.*'mlp'"),
        ("resnet18", (3,), r"'resnet18'.*\(3,\)"),
        ("resnet18:weights=3", (3, 8, 8), r"weights=3.*must be text"),
        ("resnet18:weights=imagenet-v2", (3, 8, 8), r"imagenet-v2.*not published.*weights=imagenet"),
        ("resnet50:out=-1", (3, 8, 8), r"out=-1.*at least 0"),
        ("bert:output=mean", (9,), r"output='mean'.*pooler, cls"),
        ("bert:weights=none:hidden=10:heads=4", (9,), r"hidden=10.*multiple of heads=4"),
        ("bert:weights=none:layers=0", (9,), r"layers=0.*at least 1"),
        ("bert:hidden=32", (9,), r"hidden can't be set beside weights='bert-base-uncased'.*weights=none"),
        ("bert:weights=none:hidden=8:heads=2:layers=1", (3, 8, 8), r"\(3, 8, 8\).*token ids.*1 to 512"),
        ("bert:weights=none:hidden=8:heads=2:layers=1", (513,), r"\(513,\).*1 to 512"),
        ("clip-text:weights=none:hidden=8:heads=2:layers=1", (78,), r"\(78,\).*1 to 77"),
        ("clip-image:weights=none:hidden=8:heads=2:layers=1", (3, 32, 40), r"\(3, 32, 40\).*size, size"),
        ("clip-image:weights=none:hidden=8:heads=2:layers=1", (3, 16, 16), r"at least patch=32"),
        ("i3d", (3, 8, 8), r"\(3, 8, 8\).*time, height, width"),
        ("i3d:pool=last", (3, 8, 8, 8), r"pool='last'.*all, first8"),
        ("i3d:width=0.0", (3, 8, 8, 8), r"width=0.0.*above 0"),
    ],
)
def test_a_word_that_cannot_be_names_encoder_and_option(word, shape, message):
    with pytest.raises(ConfigError, match=message):
        build_encoder(word, shape)


def test_an_unknown_option_is_also_a_type_error():
    with pytest.raises(UnknownArgumentError):
        build_encoder("mlp:depth=3", (4,))


def test_importing_the_encoders_imports_no_heavy_package():
    code = (
        "import sys, dus_gym.encoders as e; e.encoder_options('bert'); e.build_encoder('mlp', (4,));"
        "sys.exit(str([m for m in ('torchvision', 'transformers', 'huggingface_hub') if m in sys.modules] or ''))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == ""


# -- small images, and clips as folded frames --------------------------------------------------------


def test_the_cnn_is_the_one_of_the_digits():
    encoder = build_encoder("cnn", (1, 16, 16))
    shapes = [tuple(p.shape) for p in encoder.parameters() if p.ndim > 1]
    # Two convolutions halve 16 twice: 16 channels of 4×4.
    assert shapes == [(8, 1, 3, 3), (16, 8, 3, 3), (64, 16 * 4 * 4)]
    x = torch.randn(3, 1, 16, 16)
    by_hand = x
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            by_hand = torch.nn.functional.conv2d(by_hand, layer.weight, layer.bias, stride=2, padding=1).relu()
        if isinstance(layer, torch.nn.Linear):
            by_hand = (by_hand.flatten(1) @ layer.weight.T + layer.bias).relu()
    torch.testing.assert_close(encoder(x), by_hand)
    # Odd sides round up: 7 -> 4 -> 2.
    assert [p.shape[1] for p in build_encoder("cnn", (1, 7, 8)).parameters() if p.ndim == 2] == [16 * 2 * 2]


def test_frames_fold_into_the_batch_and_their_last_maps_are_averaged():
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", (3, 4, 40, 48)).eval()
    clips = torch.randn(2, 3, 4, 40, 48)
    assert encoder(clips).std() > 0.1
    maps = []
    encoder.network.layer4.register_forward_hook(lambda module, given, out: maps.append(out))
    features = encoder(clips)
    (found,) = maps
    assert found.shape == (2 * 4, 512, 2, 2)
    torch.testing.assert_close(features, found.reshape(2, 4, 512, 2, 2).mean(dim=(1, 3, 4)))
    # Frames of a clip stay together, and their order does not count.
    alone = torch.stack([encoder(clips[1, :, t][None])[0] for t in range(4)])
    torch.testing.assert_close(features[1], alone.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(clips.flip(2)), features, rtol=1e-4, atol=1e-5)
