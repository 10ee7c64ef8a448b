"""Memory that the paper's encoders take for a step, with ``checkpointing`` and without; the time that cut texts save.

    python -m dus_gym.benchmarks.encoder_cost                       # memory; two minutes, 2 GB
    python -m dus_gym.benchmarks.encoder_cost --data-root ROOT      # texts of Twitter2015 and Sarcasm under ROOT

Memory: each network at its full size and the paper's batch on PyTorch's meta device, where tensors have a shape and no
numbers, so nothing large is allocated and no kernel runs. "Kept" is what autograd holds after the forward pass, "peak"
the most that is alive during a forward and backward pass, gradients included; both without the weights, in float32.
What a kernel needs for itself while it runs is in neither. Attention is written out on this device, matrix of all pairs
of tokens included; fused kernels hold less. The last column is time: a step with checkpointing over one without, of a
small network of the kind on the CPU, in turns in one process.

Texts: a forward and backward pass of a small BERT on batches as they are cut, over the same batches at the stored
length, in turns in one process. Samples are drawn as training draws them.
"""

from __future__ import annotations

import argparse
import statistics
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dus_gym.costs import MIB
from dus_gym.data.media.tokens import TokenBatch, TokenDecoder, load_vocabulary, text_row
from dus_gym.data.sets import sarcasm, twitter2015
from dus_gym.encoders import build_encoder

META, CPU = torch.device("meta"), torch.device("cpu")
ENCODERS = [
    ("ResNet-18, spectrogram 257×1003", "resnet18", (1, 257, 1003), 64, (1, 64, 64)),
    ("ResNet-18, three frames of 224×224", "resnet18", (3, 3, 224, 224), 64, (3, 1, 64, 64)),
    ("ResNet-50, 224×224", "resnet50", (3, 224, 224), 64, (3, 64, 64)),
    ("BERT-base, 64 tokens", "bert:weights=none", (64,), 64, (32,)),
    ("BERT-base, 128 tokens", "bert:weights=none", (128,), 64, (64,)),
    ("CLIP text, 77 tokens", "clip-text:weights=none", (77,), 64, (32,)),
    ("CLIP picture, 224×224", "clip-image:weights=none", (3, 224, 224), 64, (3, 160, 160)),
    ("I3D, 64 frames of 224×224", "i3d", (3, 64, 224, 224), 6, (3, 8, 48, 48)),
]
"""Label, encoder, shape of a sample, the paper's B, and the shape at which time is taken."""
SMALL = {
    "resnet18": "",
    "resnet50": "",
    "bert": ":hidden=128:layers=4:heads=4",
    "clip-text": ":hidden=128:layers=4:heads=4",
    "clip-image": ":hidden=128:layers=4:heads=4",
    "i3d": ":width=0.25",
}
"""Options of the network at which time is taken."""
SMALL_BERT = "bert:weights=none:hidden=64:layers=2:heads=2"


def samples(shape: tuple[int, ...], n: int, device: torch.device) -> Tensor:
    """Return a batch: token ids that are no padding, or standard normal numbers."""
    ids = len(shape) == 1
    return torch.randint(1, 1000, (n, *shape), device=device) if ids else torch.randn(n, *shape, device=device)


def kept(encoder: nn.Module, batch: Tensor) -> int:
    """Return the bytes that autograd holds after the forward pass, weights, buffers and the batch apart."""
    apart = {t.untyped_storage()._cdata for t in (batch, *encoder.parameters(), *encoder.buffers())}
    held: dict[int, Any] = {}

    def hold(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in apart:
            held[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        encoder(batch)
    return sum(storage.nbytes() for storage in held.values())


class Alive(TorchDispatchMode):
    """Adds up the bytes of tensors that come to be inside, and takes off those that end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operation returns."""
        found = func(*args, **kwargs or {})
        before = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                # A view, and what is changed in place, is no new memory.
                if storage._cdata not in before | self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._end, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return found

    def _end(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def peak(encoder: nn.Module, batch: Tensor) -> int:
    """Return the most bytes alive at once in a forward and backward pass, weights and the batch apart."""
    alive = Alive()
    with alive:
        encoder(batch).sum().backward()
    return alive.peak


def step(encoder: nn.Module, batch: Tensor) -> float:
    """Return the process seconds of a forward and backward pass."""
    encoder.zero_grad()
    started = time.process_time()
    encoder(batch).sum().backward()
    return time.process_time() - started


def ratio(ours: tuple[nn.Module, Tensor], theirs: tuple[nn.Module, Tensor], rounds: int) -> float:
    """Return the median over rounds of one step's seconds over the other's, in turns; the first round warms up."""
    return statistics.median([step(*ours) / step(*theirs) for _ in range(rounds + 1)][1:])


def memory(rounds: int) -> None:
    """Print the table of memory."""
    print("| encoder | B | kept, MiB | with checkpointing | peak, MiB | with checkpointing | time |")
    print("|---|---|---|---|---|---|---|")
    for label, word, shape, n, small in ENCODERS:
        figures = []
        for on in (False, True):
            with META:
                encoder = build_encoder(word, shape, checkpointing=on)
            batch = samples(shape, n, META)
            figures.append((kept(encoder, batch) / MIB, peak(encoder, batch) / MIB))
        (whole, most), (inputs, least) = figures
        name, _, options = word.partition(":")
        small_word = f"{name}{f':{options}' if options else ''}{SMALL[name]}"
        plain, checkpointing = (build_encoder(small_word, small, checkpointing=on) for on in (False, True))
        batch = samples(small, 4, CPU)
        time_ratio = ratio((checkpointing, batch), (plain, batch), rounds)
        print(f"| {label} | {n} | {whole:,.0f} | {inputs:,.0f} | {most:,.0f} | {least:,.0f} | {time_ratio:.2f} |")


def texts(root: Path, tokenizer: str, rounds: int) -> None:
    """Print the table of texts."""
    vocabulary = load_vocabulary(tokenizer)
    print("| texts | B | stored length | mean text | mean batch | lengths | time |\n|---|---|---|---|---|---|---|")
    for label, folder, read in (
        ("Twitter2015", "twitter2015", twitter2015.read_lists),
        ("Sarcasm", "sarcasm", sarcasm.read_lists),
    ):
        records = [record for record in read(root / folder) if record.split == "train"]
        for length in (64, 128):
            decoder = TokenDecoder(vocabulary, length=length)
            ids = np.stack([decoder(text_row(record.sample, record.text)) for record in records])
            encoder = build_encoder(SMALL_BERT, (length,))
            for n in (64, 20):
                draw = np.random.default_rng(0)
                lengths, ratios = [], []
                for _ in range(rounds):
                    stored = ids[draw.choice(len(ids), n, replace=False)]
                    cut = TokenBatch()(stored, np.zeros(n, np.uint64), True, CPU)
                    lengths.append(cut.shape[1])
                    ratios.append(ratio((encoder, cut), (encoder, torch.from_numpy(stored).long()), 1))
                print(
                    f"| {label} | {n} | {length} | {(ids != 0).sum(axis=1).mean():.0f} | "
                    f"{statistics.fmean(lengths):.0f} | {len({*lengths})} | {statistics.fmean(ratios):.2f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="turns of each side")
    parser.add_argument("--data-root", type=Path, help="folder with twitter2015/ and sarcasm/, the published lists")
    parser.add_argument("--tokenizer", default="bert-base-uncased", help="a vocabulary, or its name on the hub")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.data_root is None:
        memory(arguments.rounds)
    else:
        texts(arguments.data_root, arguments.tokenizer, arguments.rounds)


if __name__ == "__main__":
    main()
