"""Weights by hub name: from a server that answers as the hub does, from the cache, offline, and with no answer."""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
import torch

from dus_gym.encoders import build_encoder, pretrained
from dus_gym.errors import DatasetNotFoundError

WORDS = [("bert", (9,)), ("clip-text", (9,)), ("clip-image", (3, 32, 32))]


@pytest.mark.parametrize(("name", "shape"), WORDS)
def test_offline_a_hub_name_that_is_not_cached_says_how_to_get_it(monkeypatch, name, shape):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(pretrained, "_unreachable", lambda url: pytest.fail("asked the network"))
    with pytest.raises(DatasetNotFoundError) as caught:
        build_encoder(f"{name}:weights=dus-gym-tests/no-such-model", shape)
    message = str(caught.value)
    for part in (f"{name}:", "not in the local cache", "HF_HUB_OFFLINE=1 forbids", "hf download dus-gym-tests/no-such",
                 "weights=FOLDER", "weights=none"):  # fmt: skip
        assert part in message


def test_a_hub_that_does_not_answer_is_a_short_error(monkeypatch):
    """A server that takes the connection and says nothing: the transformers loader would wait and retry."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(pretrained, "SECONDS_TO_ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(DatasetNotFoundError, match=r"127.0.0.1:\d+ can't be reached \(.*timed out"):
            build_encoder("bert:weights=dus-gym-tests/no-such-model", (9,))
        assert time.monotonic() - start < 5
    with pytest.raises(DatasetNotFoundError, match=r"can't be reached .*refused"):
        build_encoder("bert:weights=dus-gym-tests/no-such-model", (9,))


def test_any_answer_counts_as_reachable(server):
    _, address, _ = server
    assert pretrained._unreachable(f"{address}/there-is-no-such-file") == ""


LOAD = """
import sys, torch
from dus_gym.encoders import build_encoder
for name in sys.argv[1:]:
    try:
        encoder = build_encoder("bert:out=0:weights=" + name, (9,)).eval()
        print(encoder(torch.arange(1, 19).reshape(2, 9)).sum().item())
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_models_are_downloaded_once_by_name(tiny_bert, tmp_path, server):
    """In a process of its own: huggingface_hub reads its settings once, when it is imported."""
    folder, address, asked = server
    for name in ("whole", "cut"):
        shutil.copytree(tiny_bert, folder / "someone" / name / "resolve" / "main")
    (folder / "someone" / "cut" / "resolve" / "main" / "model.safetensors").write_bytes(b"<html>try later</html>")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    own |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": address, "OMP_NUM_THREADS": "1"}
    names = ["someone/whole", "someone/whole", "someone/absent", "someone/cut"]
    done = subprocess.run([sys.executable, "-c", LOAD, *names], capture_output=True, text=True, env=own)
    assert (done.returncode, done.stderr) == (0, "")
    first, again, absent, cut = done.stdout.splitlines()
    direct = build_encoder(f"bert:weights={tiny_bert}:out=0", (9,)).eval()
    expected = direct(torch.arange(1, 19).reshape(2, 9)).sum().item()
    assert float(first) == pytest.approx(expected, rel=1e-5)
    # The second time nothing was asked: one look whether the hub is there for each name that was not cached.
    assert again == first
    assert asked.count("HEAD /") == 3
    assert absent.startswith("PretrainedNotFoundError")
    assert "the hub did not give it" in absent
    assert "hf download someone/absent" in absent
    assert cut.startswith("ConfigError")
    assert "'someone/cut' can't be loaded" in cut
