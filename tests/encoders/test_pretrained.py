"""Weights from files, caches and servers: the right ones load, wrong ones are named, code never runs, nothing hangs."""

import hashlib
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet34, resnet50

from dus_gym.encoders import build_encoder, pretrained
from dus_gym.errors import ConfigError, DatasetNotFoundError


def saved(tmp_path, state, name="weights.pth"):
    torch.save(state, tmp_path / name)
    return tmp_path / name


def trained(network):
    """The network with running statistics that are not the initial ones."""
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0.0, 0.1)
    return network


# -- torchvision state dicts -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "make", "wide"), [("resnet18", resnet18, 512), ("resnet50", resnet50, 2048)])
def test_a_torchvision_file_loads_without_its_classifier(tmp_path, name, make, wide):
    whole = trained(make(weights=None, num_classes=7)).eval()
    file = saved(tmp_path, whole.state_dict())
    out = ":out=0" if name == "resnet50" else ""
    encoder = build_encoder(f"{name}:weights={file}{out}", (3, 48, 48)).eval()
    assert encoder.out_features == wide
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(whole.fc(encoder(x)), whole(x))


def test_safetensors_files_load_too(tmp_path):
    whole = trained(resnet18(weights=None))
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    encoder = build_encoder(f"resnet18:weights={tmp_path / 'w.safetensors'}", (3, 48, 48))
    assert torch.equal(encoder.network.layer4[1].bn2.running_mean, whole.layer4[1].bn2.running_mean)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_stem_of_other_channels_is_the_mean_over_rgb(tmp_path, channels):
    whole = trained(resnet18(weights=None))
    file = saved(tmp_path, whole.state_dict())
    encoder = build_encoder(f"resnet18:weights={file}", (channels, 40, 40))
    stem = encoder.network.conv1.weight
    assert stem.shape == (64, channels, 7, 7)
    for c in range(channels):
        torch.testing.assert_close(stem[:, c], whole.conv1.weight.sum(dim=1) / 3)
    assert torch.equal(encoder.network.layer1[0].conv1.weight, whole.layer1[0].conv1.weight)


def test_a_larger_relative_is_not_taken_in_part(tmp_path):
    # ResNet-34 has every entry of ResNet-18 in the same shape, and more.
    file = saved(tmp_path, resnet34(weights=None).state_dict())
    with pytest.raises(ConfigError, match=r"resnet18:weights=.*another network: \d+ entries are not of this.*layer1.2"):
        build_encoder(f"resnet18:weights={file}", (3, 40, 40))


def test_missing_and_misshapen_entries_are_named(tmp_path):
    state = resnet18(weights=None).state_dict()
    del state["layer2.0.conv1.weight"]
    state["layer3.0.bn1.bias"] = torch.zeros(3)
    with pytest.raises(ConfigError) as caught:
        build_encoder(f"resnet18:weights={saved(tmp_path, state)}", (3, 40, 40))
    assert "1 entries are missing (layer2.0.conv1.weight)" in str(caught.value)
    assert "layer3.0.bn1.bias is (3,) instead of (256,)" in str(caught.value)


def test_a_checkpoint_around_the_weights_is_named(tmp_path):
    file = saved(tmp_path, {"epoch": 3, "state_dict": resnet18(weights=None).state_dict()})
    with pytest.raises(ConfigError, match=r"entries epoch, state_dict instead of tensors by name"):
        build_encoder(f"resnet18:weights={file}", (3, 40, 40))
    with pytest.raises(ConfigError, match=r"holds a Tensor instead"):
        build_encoder(f"resnet18:weights={saved(tmp_path, torch.zeros(3))}", (3, 40, 40))


class Code:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("word", ["resnet18", "i3d:width=0.1"])
@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_file_with_code_is_refused_and_does_not_run(tmp_path, word, form):
    ran, file = tmp_path / "ran", tmp_path / "evil.pt"
    if form == "torch":
        torch.save({"conv1.weight": Code(ran)}, file)
    else:
        file.write_bytes(pickle.dumps({"conv1.weight": Code(ran)}))
    shape = (3, 40, 40) if word == "resnet18" else (3, 8, 32, 32)
    with pytest.raises(ConfigError, match=r"evil.pt.*can't be loaded.*run code, is refused"):
        build_encoder(f"{word}:weights={file}", shape)
    assert not ran.exists()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "cut-safetensors"])
def test_a_damaged_file_is_named(tmp_path, damage):
    file = saved(tmp_path, resnet18(weights=None).state_dict())
    if damage == "cut-safetensors":
        file = tmp_path / "w.safetensors"
        save_file(resnet18(weights=None).state_dict(), file)
    content = {"empty": b"", "text": b"<html>404</html>"}.get(damage)
    file.write_bytes(file.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(ConfigError, match=rf"{file.name}.*can't be loaded.*damaged"):
        build_encoder(f"resnet18:weights={file}", (3, 40, 40))


def test_a_file_that_is_not_there_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=rf"'i3d:weights=rgb.pt'.*no file {tmp_path}/rgb.pt.*weights=none"):
        build_encoder("i3d:weights=rgb.pt", (3, 8, 32, 32))
    with pytest.raises(ConfigError, match=r"is a folder; give the file"):
        build_encoder(f"i3d:weights={tmp_path}", (3, 8, 32, 32))


# -- torchvision's published weights -----------------------------------------------------------------


@pytest.fixture
def torch_cache(tmp_path):
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def test_cached_imagenet_weights_need_no_network(torch_cache, monkeypatch):
    monkeypatch.setattr(pretrained, "_unreachable", lambda url: pytest.fail("asked the network"))
    torch_cache.mkdir(parents=True)
    whole = trained(resnet18(weights=None))
    torch.save(whole.state_dict(), torch_cache / "resnet18-f37072fd.pth")
    encoder = build_encoder("resnet18:weights=imagenet", (3, 40, 40))
    assert torch.equal(encoder.network.layer4[1].bn2.running_mean, whole.layer4[1].bn2.running_mean)


@pytest.mark.parametrize(
    ("word", "file"), [("imagenet", "resnet50-0676ba61.pth"), ("imagenet-v2", "resnet50-11ad3fa6.pth")]
)
def test_imagenet_weights_that_are_not_there_say_how_to_get_them(torch_cache, monkeypatch, word, file):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(pretrained, "_unreachable", lambda url: pytest.fail("asked the network"))
    with pytest.raises(DatasetNotFoundError) as caught:
        build_encoder(f"resnet50:weights={word}", (3, 40, 40))
    message = str(caught.value)
    assert f"resnet50:weights={word}" in message
    assert str(torch_cache / file) in message
    assert f"https://download.pytorch.org/models/{file}" in message
    assert "HF_HUB_OFFLINE=1 forbids the network" in message


def published(url):
    return SimpleNamespace(url=url, get_state_dict=lambda **options: torch.hub.load_state_dict_from_url(url, **options))


def test_a_download_is_checked_by_its_hash_and_keeps_standard_output_clean(torch_cache, server, capsys):
    folder, address, _ = server
    torch.save({"w": torch.arange(3.0)}, folder / "tiny")
    digest = hashlib.sha256((folder / "tiny").read_bytes()).hexdigest()[:8]
    (folder / "tiny").rename(folder / f"tiny-{digest}.pth")
    found = pretrained.torchvision_state(published(f"{address}/tiny-{digest}.pth"))
    assert found["w"].tolist() == [0.0, 1.0, 2.0]
    assert capsys.readouterr().out == ""
    assert (torch_cache / f"tiny-{digest}.pth").exists()
    (folder / "tiny-00000000.pth").write_bytes((folder / f"tiny-{digest}.pth").read_bytes())
    with pytest.raises(DatasetNotFoundError, match=r"could not be downloaded.*invalid hash value"):
        pretrained.torchvision_state(published(f"{address}/tiny-00000000.pth"))
    assert not (torch_cache / "tiny-00000000.pth").exists()
    with pytest.raises(DatasetNotFoundError, match=r"could not be downloaded.*404"):
        pretrained.torchvision_state(published(f"{address}/none-00000000.pth"))


# -- folders of transformers -------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["./no-such-folder", "/no/such/folder", "~/no-such-folder", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(monkeypatch, weights):
    monkeypatch.setattr(pretrained, "_unreachable", lambda url: pytest.fail("asked the network"))
    with pytest.raises(DatasetNotFoundError, match=r"there is no folder /.*save_pretrained"):
        build_encoder(f"bert:weights={weights}", (9,))


def test_a_folder_with_something_missing_is_named(tiny_bert, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"empty is incomplete.*config.json and model.safetensors"):
        build_encoder(f"bert:weights={empty}", (9,))
    shutil.copy(tiny_bert / "config.json", empty)
    with pytest.raises(ConfigError, match=r"empty is incomplete.*model.safetensors"):
        build_encoder(f"bert:weights={empty}", (9,))
    with pytest.raises(ConfigError, match=r"is a file; give the folder"):
        build_encoder(f"bert:weights={tiny_bert / 'config.json'}", (9,))


def test_a_damaged_or_misshapen_folder_is_named(tiny_bert, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(tiny_bert, cut)
    (cut / "model.safetensors").write_bytes((tiny_bert / "model.safetensors").read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"cut'? can't be loaded"):
        build_encoder(f"bert:weights={cut}", (9,))
    other = tmp_path / "other"
    shutil.copytree(tiny_bert, other)
    config = (other / "config.json").read_text()
    assert '"vocab_size": 50' in config
    (other / "config.json").write_text(config.replace('"vocab_size": 50', '"vocab_size": 60'))
    with pytest.raises(ConfigError, match=r"other'? can't be loaded.*other sizes than config.json"):
        build_encoder(f"bert:weights={other}", (9,))
    (other / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"other"):
        build_encoder(f"bert:weights={other}", (9,))


def test_a_folder_that_lacks_weights_is_not_filled_with_random_ones(tiny_bert, tmp_path):
    from safetensors.torch import load_file

    part = tmp_path / "part"
    shutil.copytree(tiny_bert, part)
    state = load_file(part / "model.safetensors")
    del state["encoder.layer.0.attention.self.query.weight"]
    save_file(state, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 entries.*encoder.layer.0.attention.self.query.weight"):
        build_encoder(f"bert:weights={part}", (9,))


def test_a_folder_with_code_is_refused_and_does_not_run(tiny_bert, tmp_path):
    evil, ran = tmp_path / "evil", tmp_path / "ran"
    evil.mkdir()
    shutil.copy(tiny_bert / "config.json", evil)
    torch.save({"embeddings.word_embeddings.weight": Code(ran)}, evil / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"evil.*run code"):
        build_encoder(f"bert:weights={evil}", (9,))
    assert not ran.exists()


def test_the_older_file_of_weights_loads_as_well(tiny_bert, tmp_path):
    from safetensors.torch import load_file

    shutil.copy(tiny_bert / "config.json", tmp_path)
    state = load_file(tiny_bert / "model.safetensors")
    # As in bert-base-uncased: the names of TensorFlow's LayerNorm, and the prefix of the whole model.
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in state.items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in old
    torch.save(old, tmp_path / "pytorch_model.bin")
    encoder = build_encoder(f"bert:weights={tmp_path}", (9,))
    assert all(torch.equal(encoder.network.state_dict()[name], value) for name, value in state.items())


def test_loading_is_silent_and_leaves_the_libraries_settings(tiny_bert, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    build_encoder(f"bert:weights={tiny_bert}:output=cls", (9,))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
