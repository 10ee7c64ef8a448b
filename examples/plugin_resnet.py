"""Balance two ResNet-18, one that hears and one that sees, in a training loop of PyTorch's own kind.

    python examples/plugin_resnet.py                                                     # minutes on a CPU
    python examples/plugin_resnet.py --epochs 2 --samples 48 --size 32 --batch-size 8    # seconds

The data are made up: a sound with the pitch of its class as a spectrogram, and a picture with a bar at the angle of its
class. Each network trains on as many samples as DUS says; the head that fuses both trains on the rows that are the same
samples. With ``--checkpoint FILE`` a run that was stopped goes on where it was, to the same bits.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from torchvision.models import resnet18

from dus_gym import DUS, true_class_probability

CLASSES = 6


class Sounds(Dataset[Tensor]):
    """Spectrograms ``(1, size, size)`` of tones in noise."""

    def __init__(self, labels: Tensor, size: int, noise: float, seed: int) -> None:
        self.labels, self.size, self.noise, self.seed = labels, size, noise, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Tensor:
        own = torch.Generator().manual_seed(self.seed + i)
        window = 2 * self.size - 1
        time = torch.arange(window * self.size) / window
        # Cycles in a window: which row of the spectrogram lights up.
        pitch = self.size * (0.15 + 0.7 * self.labels[i] / CLASSES) + torch.rand((), generator=own)
        wave = torch.sin(2 * math.pi * (pitch * time + torch.rand((), generator=own)))
        wave = wave + self.noise * torch.randn(wave.shape, generator=own)
        spectrum = torch.stft(wave, window, window, window=torch.hann_window(window), center=False, return_complex=True)
        return spectrum.abs().add(1e-3).log()[None]


class Pictures(Dataset[Tensor]):
    """Pictures ``(3, size, size)`` of a coloured bar in noise."""

    def __init__(self, labels: Tensor, size: int, noise: float, seed: int) -> None:
        self.labels, self.size, self.noise, self.seed = labels, size, noise, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Tensor:
        own = torch.Generator().manual_seed(self.seed + i)
        angle = math.pi * self.labels[i] / CLASSES
        across = torch.linspace(-1, 1, self.size)
        y, x = torch.meshgrid(across, across, indexing="ij")
        middle = 0.6 * torch.rand(2, generator=own) - 0.3
        bar = ((x - middle[0]) * angle.sin() - (y - middle[1]) * angle.cos()).abs() < 0.2
        colour = torch.rand(3, 1, 1, generator=own)
        return colour * bar + self.noise * torch.randn(3, self.size, self.size, generator=own)


class Model(nn.Module):
    """A ResNet-18 and a head for each modality, and a head on the features of both."""

    def __init__(self) -> None:
        super().__init__()
        ears, eyes = resnet18(), resnet18()
        ears.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        width = eyes.fc.in_features
        ears.fc = eyes.fc = nn.Identity()
        self.encoders = nn.ModuleDict({"audio": ears, "image": eyes})
        self.heads = nn.ModuleDict({name: nn.Linear(width, CLASSES) for name in self.encoders})
        self.fused = nn.Linear(2 * width, CLASSES)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits: ``"audio"`` and ``"image"`` of all their rows, ``"fused"`` of the rows that both have."""
        features = {name: self.encoders[name](x) for name, x in inputs.items()}
        paired = min(len(x) for x in inputs.values())
        both = torch.cat([x[:paired] for x in features.values()], dim=1)
        return {name: self.heads[name](x) for name, x in features.items()} | {"fused": self.fused(both)}


def made_up(samples: int, size: int, seed: int) -> tuple[dict[str, Dataset[Tensor]], Tensor]:
    """Return both datasets of the same samples, and their labels ``(samples,)``."""
    labels = torch.arange(samples) % CLASSES
    return {"audio": Sounds(labels, size, 1.5, seed), "image": Pictures(labels, size, 0.8, seed)}, labels


@torch.no_grad()
def evaluated(model: Model, data: dict[str, Dataset[Tensor]], labels: Tensor) -> dict[str, Tensor]:
    """Return the logits of all samples, ``(n, CLASSES)``, by modality and of the fused head."""
    model.eval()
    parts = []
    for start in range(0, len(labels), 64):
        rows = range(start, min(start + 64, len(labels)))
        parts.append(model({name: torch.stack([of[i] for i in rows]) for name, of in data.items()}))
    model.train()
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, print one line per epoch, and return the test accuracies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--size", type=int, default=48, help="pixels of a side")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--agent", default="steady", help="uniform: equal batches throughout")
    parser.add_argument("--workers", type=int, default=0, help="processes that read, for each modality")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="a file to write; if it is there, the run goes on from it")
    parser.add_argument("--save-every", type=int, default=20, help="iterations between two checkpoints")
    parser.add_argument("--stop-after", type=int, help="stop at this iteration, as if killed")
    parser.add_argument("--plot", type=Path, help="write a picture of the run")
    chosen = parser.parse_args(arguments)

    torch.manual_seed(chosen.seed)
    train, labels = made_up(chosen.samples, chosen.size, seed=0)
    held_out, held_out_labels = made_up(chosen.samples // 4, chosen.size, seed=10**6)
    test, test_labels = made_up(chosen.samples // 4, chosen.size, seed=2 * 10**6)
    model = Model()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    dus = DUS(["audio", "image"], batch_size=chosen.batch_size, epochs=chosen.epochs, agent=chosen.agent)
    loaders = dus.loaders(train, labels, num_workers=chosen.workers, pin_memory=torch.cuda.is_available())
    parts = {"model": model, "optimiser": optimiser, "dus": dus, "loaders": loaders}
    if chosen.checkpoint is not None and chosen.checkpoint.is_file():
        saved = torch.load(chosen.checkpoint)
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    for sizes in loaders.epochs():
        for batch in loaders:
            targets = {name: y for name, (_, y) in batch.items()}
            targets["fused"] = targets["audio"][: min(sizes.values())]
            logits = model({name: x for name, (x, _) in batch.items()})
            optimiser.zero_grad()
            # The paper's Eq. 2: each modality's own loss on its own samples, and the fused one on the paired rows.
            torch.stack([cross_entropy(logits[name], targets[name]) for name in logits]).sum().backward()
            optimiser.step()
            dus.observe({name: true_class_probability(logits[name], targets[name]) for name in batch})
            if chosen.checkpoint is not None and dus.iterations % chosen.save_every == 0:
                torch.save({name: part.state_dict() for name, part in parts.items()}, chosen.checkpoint)
            if dus.iterations == chosen.stop_after:
                return {}
        logits = evaluated(model, held_out, held_out_labels)
        dus.observe_validation({name: true_class_probability(logits[name], held_out_labels) for name in held_out})
        print(dus)

    found = evaluated(model, test, test_labels)
    accuracies = {name: float((of.argmax(1) == test_labels).float().mean()) for name, of in found.items()}
    print("test accuracy:", ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in accuracies.items()))
    if chosen.plot is not None:
        dus.plot(chosen.plot)
    return accuracies


if __name__ == "__main__":
    main()
