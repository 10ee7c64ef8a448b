"""The plug-in's complete example runs, and goes on from its checkpoint to the same bits."""

import importlib.util
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).resolve().parents[2] / "examples" / "plugin_resnet.py"
SMALL = ["--epochs=2", "--samples=24", "--size=32", "--batch-size=8", "--save-every=2", "--agent=score"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("plugin_resnet", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_trains_and_goes_on_from_its_checkpoint_to_the_same_bits(example, tmp_path, capsys):
    whole = example.main([*SMALL, "--checkpoint", str(tmp_path / "whole.pt"), "--plot", str(tmp_path / "dus.png")])
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition("sizes")[0] for line in printed[:2]] == [
        f"DUS(['audio', 'image'], agent='score', epoch={epoch} of 2, " for epoch in (1, 2)
    ]
    assert printed[2].startswith("test accuracy: audio ")
    assert whole.keys() == {"audio", "image", "fused"}
    assert (tmp_path / "dus.png").stat().st_size > 10_000
    # Stopped in the middle of the second epoch, and started again.
    stopped = [*SMALL, "--checkpoint", str(tmp_path / "stopped.pt")]
    assert example.main([*stopped, "--stop-after", "4"]) == {}
    assert example.main(stopped) == whole
    state, other = (torch.load(tmp_path / name) for name in ("whole.pt", "stopped.pt"))
    assert state["dus"]["history"] == other["dus"]["history"]
    assert state["dus"]["history"][1]["sizes"] != {"audio": 8, "image": 8}
    assert state["dus"]["history"][1]["iterations"] == 6
    for name, weight in state["model"].items():
        assert torch.equal(weight, other["model"][name])


def test_its_data_are_of_their_classes(example):
    data, labels = example.made_up(24, 48, seed=3)
    clear = {"audio": example.Sounds(labels, 48, 0.0, 3), "image": example.Pictures(labels, 48, 0.0, 3)}
    # The loudest row of a spectrogram rises with the class; a bar has the slope of its class.
    loudest = [int(clear["audio"][i][0].mean(1).argmax()) for i in range(6)]
    assert loudest == sorted(set(loudest))
    for i in range(6):
        lit = (clear["image"][i].sum(0) > 0).nonzero().float()
        direction = torch.linalg.svd(lit - lit.mean(0), full_matrices=False)[2][0]
        angle = torch.tensor(torch.pi * i / 6)
        assert abs(float(direction @ torch.stack([angle.sin(), angle.cos()]))) > 0.98
    assert data["audio"][0].shape == (1, 48, 48)
    assert data["image"][0].shape == (3, 48, 48)
