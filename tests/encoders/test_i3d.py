"""I3D: TensorFlow's padding by hand, the published file's names, stems for flow and depth, both poolings."""

import pytest
import torch

from dus_gym.encoders import build_encoder
from dus_gym.encoders.i3d import MaxPool, Unit, same_padding
from dus_gym.errors import ConfigError


@pytest.fixture(scope="module")
def rgb():
    torch.manual_seed(0)
    encoder = build_encoder("i3d", (3, 8, 32, 32))
    with torch.no_grad():
        # As after training: statistics that are not 0 and 1.
        for name, value in encoder.state_dict().items():
            if name.endswith(("running_mean", "bn.bias")):
                value.normal_(0.0, 0.1)
            elif name.endswith(("running_var", "bn.weight")):
                value.uniform_(0.5, 1.5)
    return encoder.eval()


def published(encoder):
    """The state dict as the published files hold it: no prefix, no counters, a classifier at the end."""
    state = {
        name.removeprefix("network."): value.clone()
        for name, value in encoder.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    return state | {"logits.conv3d.weight": torch.randn(400, 1024, 1, 1, 1), "logits.conv3d.bias": torch.randn(400)}


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "before-1.6"])
def rgb_file(rgb, request, tmp_path_factory):
    file = tmp_path_factory.mktemp("i3d") / "rgb_imagenet.pt"
    torch.save(published(rgb), file, _use_new_zipfile_serialization=request.param)
    return file


# -- padding -----------------------------------------------------------------------------------------


def test_same_padding_by_hand():
    # 224 with kernel 7 and stride 2: 112 windows reach over 111·2 + 7 = 229 places, 5 more: 2 before, 3 after.
    assert same_padding((64, 224, 224), (7, 7, 7), (2, 2, 2)) == [2, 3, 2, 3, 2, 3]
    assert same_padding((80, 5, 4), (1, 3, 3), (1, 2, 2)) == [0, 1, 1, 1, 0, 0]
    assert same_padding((79, 14, 7), (2, 2, 2), (2, 2, 2)) == [0, 1, 0, 0, 0, 1]
    assert same_padding((1, 9, 9), (3, 3, 3), (1, 1, 1)) == [1, 1, 1, 1, 1, 1]


def test_a_strided_convolution_pads_as_tensorflow_does():
    unit = Unit(1, 1, (1, 1, 3), (1, 1, 2)).eval()
    torch.nn.init.ones_(unit.conv3d.weight)
    line = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 1, 4)
    # Windows 1+2+3 and 3+4+0 (PyTorch's own padding gives 0+1+2 and 2+3+4); BatchNorm divides by sqrt(1 + 1e-3).
    expected = torch.tensor([6.0, 7.0]) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(unit(line).flatten(), expected)
    line = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 1, 1, 1, 5)
    expected = torch.tensor([3.0, 9.0, 9.0]) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(unit(line).flatten(), expected)
    assert torch.equal(unit(-line), torch.zeros(1, 1, 1, 1, 3))


def test_padding_never_wins_a_maximum():
    line = -torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 1, 4)
    assert MaxPool((1, 1, 3), (1, 1, 2))(line).flatten().tolist() == [-1.0, -3.0]
    assert MaxPool((1, 1, 3), (1, 1, 1))(line).flatten().tolist() == [-1.0, -1.0, -2.0, -3.0]


def test_batchnorm_is_the_published_one():
    norms = [m for m in build_encoder("i3d:width=0.1", (3, 8, 32, 32)).modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert len(norms) == 3 + 9 * 6


# -- shapes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "steps"), [(64, 8), (80, 10), (79, 10), (8, 1), (1, 1)])
def test_frames_become_steps_and_pixels_places(frames, steps):
    encoder = build_encoder("i3d:width=0.02", (1, frames, 224, 224))
    with torch.no_grad():
        maps = encoder.maps(torch.randn(1, 1, frames, 224, 224))
    assert maps.shape == (1, encoder.out_features, steps, 7, 7)


def test_the_full_network_has_1024_features_and_the_weights_of_its_table(rgb):
    assert rgb.out_features == 1024
    with torch.no_grad():
        assert rgb.maps(torch.randn(2, 3, 16, 64, 40)).shape == (2, 1024, 2, 2, 2)
    # Worked out anew, (in, kernel volume, out): each convolution's weights, and two numbers a channel of BatchNorm.
    units, previous = [(3, 343, 64), (64, 1, 64), (64, 27, 192)], 192
    table = """
        64 96 128 16 32 32; 128 128 192 32 96 64; 192 96 208 16 48 64; 160 112 224 24 64 64; 128 128 256 24 64 64;
        112 144 288 32 64 64; 256 160 320 32 128 128; 256 160 320 32 128 128; 384 192 384 48 128 128"""
    for row in table.split(";"):
        a, b, c, d, e, f = map(int, row.split())
        units += [(previous, 1, a), (previous, 1, b), (b, 27, c), (previous, 1, d), (d, 27, e), (previous, 1, f)]
        previous = a + c + e + f
    assert previous == 1024
    weights = sum(i * k * o + 2 * o for i, k, o in units)
    assert sum(p.numel() for p in rgb.parameters()) == weights == 12_287_264


def test_the_mean_is_over_all_steps_or_the_first_eight():
    torch.manual_seed(0)
    # In training mode: with the initial running statistics, maps of so deep a network would be next to nothing.
    everything = build_encoder("i3d:width=0.05", (2, 80, 32, 32))
    first = build_encoder("i3d:width=0.05:pool=first8", (2, 80, 32, 32))
    first.load_state_dict(everything.state_dict())
    clips = torch.randn(3, 2, 80, 32, 32)
    with torch.no_grad():
        maps = everything.maps(clips)
        assert maps.shape[2] == 10
        assert maps.std() > 0.1
        torch.testing.assert_close(everything(clips), maps.mean(dim=(2, 3, 4)))
        torch.testing.assert_close(first(clips), torch.nn.functional.avg_pool3d(maps, (8, 1, 1)).flatten(1))
        assert not torch.allclose(first(clips), everything(clips), atol=0.01)
        torch.testing.assert_close(first(clips[:, :, :64]), everything(clips[:, :, :64]))


# -- weights -----------------------------------------------------------------------------------------


def test_the_published_names_load(rgb, rgb_file):
    names = published(rgb).keys()
    for name in (
        "Conv3d_1a_7x7.conv3d.weight", "Conv3d_1a_7x7.bn.running_mean", "Conv3d_2b_1x1.bn.weight",
        "Conv3d_2c_3x3.conv3d.weight", "Mixed_3b.b0.conv3d.weight", "Mixed_3c.b1a.bn.bias",
        "Mixed_4d.b1b.conv3d.weight", "Mixed_4f.b2a.bn.running_var", "Mixed_5b.b2b.conv3d.weight",
        "Mixed_5c.b3b.conv3d.weight",
    ):  # fmt: skip
        assert name in names
    loaded = build_encoder(f"i3d:weights={rgb_file}", (3, 16, 48, 48)).eval()
    clips = torch.randn(2, 3, 16, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded(clips), rgb(clips))


def test_the_stem_of_depth_is_the_mean_over_rgb(rgb, rgb_file):
    depth = build_encoder(f"i3d:weights={rgb_file}", (1, 8, 32, 32))
    stem = depth.state_dict()["network.Conv3d_1a_7x7.conv3d.weight"]
    own = rgb.state_dict()["network.Conv3d_1a_7x7.conv3d.weight"]
    assert stem.shape == (64, 1, 7, 7, 7)
    r, g, b = own[5, :, 2, 3, 4].tolist()
    assert float(stem[5, 0, 2, 3, 4]) == pytest.approx((r + g + b) / 3, abs=1e-7)
    torch.testing.assert_close(stem[:, 0], own.sum(dim=1) / 3)
    # A grey clip through RGB weights is three times what depth weights give, before BatchNorm.
    grey = torch.randn(1, 1, 8, 32, 32)
    wide = rgb.network.Conv3d_1a_7x7.conv3d(grey.expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(wide, 3 * depth.network.Conv3d_1a_7x7.conv3d(grey), rtol=1e-4, atol=1e-5)
    others = {name: value for name, value in depth.state_dict().items() if not name.endswith("7x7.conv3d.weight")}
    assert all(torch.equal(value, rgb.state_dict()[name]) for name, value in others.items())


def test_flow_weights_have_two_channels_and_are_for_flow_alone(tmp_path):
    torch.manual_seed(1)
    flow = build_encoder("i3d", (2, 8, 32, 32))
    file = tmp_path / "flow_imagenet.pt"
    torch.save(published(flow), file)
    loaded = build_encoder(f"i3d:weights={file}", (2, 8, 32, 32))
    assert all(torch.equal(value, flow.state_dict()[name]) for name, value in loaded.state_dict().items())
    with pytest.raises(ConfigError, match=r"Conv3d_1a_7x7.conv3d.weight is \(64, 2, 7, 7, 7\) instead of \(64, 3, 7"):
        build_encoder(f"i3d:weights={file}", (3, 8, 32, 32))


def test_a_file_that_does_not_fit_is_named_entry_by_entry(rgb, tmp_path):
    state = published(rgb)
    del state["Mixed_4c.b0.conv3d.weight"]
    state["Mixed_9z.b0.conv3d.weight"] = torch.zeros(1)
    state["Mixed_3b.b0.bn.bias"] = torch.zeros(65)
    file = tmp_path / "wrong.pt"
    torch.save(state, file)
    with pytest.raises(ConfigError) as caught:
        build_encoder(f"i3d:weights={file}", (3, 8, 32, 32))
    message = str(caught.value)
    assert str(file) in message
    assert "1 entries are missing (Mixed_4c.b0.conv3d.weight)" in message
    assert "1 entries are not of this network (Mixed_9z.b0.conv3d.weight)" in message
    assert "Mixed_3b.b0.bn.bias is (65,) instead of (64,)" in message
