"""Tiny encoders of every kind: words, shapes of one sample, and batches for them."""

import http.server
import threading
from types import SimpleNamespace

import pytest
import torch

from dus_gym.encoders import can_checkpoint

TINY = {
    "mlp": ("mlp:hidden=8", (5,)),
    "cnn": ("cnn", (1, 16, 16)),
    "cnn-clip": ("cnn:channels=4,6:hidden=8:pool=mean", (3, 4, 17, 15)),
    "resnet18": ("resnet18", (1, 33, 40)),
    "resnet50": ("resnet50:out=16", (3, 24, 24)),
    "bert": ("bert:weights=none:hidden=16:layers=2:heads=2:vocab=120:out=8", (9,)),
    "bert-cls": ("bert:weights=none:hidden=16:layers=2:heads=2:vocab=120:out=0:output=cls", (9,)),
    "clip-text": ("clip-text:weights=none:hidden=16:layers=2:heads=2:vocab=120:out=8", (9,)),
    "clip-image": ("clip-image:weights=none:hidden=16:layers=2:heads=2:patch=8:out=8", (3, 24, 24)),
    "bag": ("bag:vocab=120:hidden=8", (9,)),
    "i3d": ("i3d:width=0.1", (2, 9, 33, 40)),
}


def samples(shape, n, seed=0):
    """Token ids padded with 0 for sequences of 9, standard normal numbers for everything else."""
    generator = torch.Generator().manual_seed(seed)
    if shape != (9,):
        return torch.randn(n, *shape, generator=generator)
    ids = torch.randint(1, 120, (n, 9), generator=generator)
    lengths = torch.randint(3, 10, (n, 1), generator=generator)
    return ids * (torch.arange(9) < lengths)


def case(name):
    word, shape = TINY[name]
    return SimpleNamespace(word=word, shape=shape, batch=lambda n, seed=0: samples(shape, n, seed))


@pytest.fixture(params=TINY)
def tiny(request):
    return case(request.param)


@pytest.fixture(params=[name for name, (word, _) in TINY.items() if can_checkpoint(word)])
def deep(request):
    """Those whose blocks can be computed again."""
    return case(request.param)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server of a folder, which answers for its files as the hub does; yields folder, address and a list that
    grows by one text such as ``HEAD /path`` a request."""
    asked = []
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def end_headers(self):
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{abs(hash(self.path)):x}"')
            super().end_headers()

        def log_message(self, *args):
            asked.append(f"{self.command} {self.path}")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A checkpoint as transformers saves one: one layer, 50 tokens."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=16)).save_pretrained(folder)
    return folder
