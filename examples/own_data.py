"""Two ways to data of your own: arrays in one file, and a PyTorch data set with networks of your own.

python examples/own_data.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import Dataset

import dus_gym

wine = load_wine()
scaled = ((wine.data - wine.data.mean(0)) / wine.data.std(0)).astype(np.float32)
order = np.random.default_rng(0).permutation(len(scaled))
chemistry, colour, classes = scaled[order, :7], scaled[order, 7:], wine.target[order]

# Arrays, one per modality, and labels; a test set is drawn from every class by the run's seed.
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "wine.npz"
    np.savez(file, chemistry=chemistry, colour=colour, labels=classes)
    result = dus_gym.train("DUS-Own-v0", agent="steady", data_root=str(file), epochs=20, total_batch=32)
    print(f"{file.name}: test accuracy of concat {result.fused['concat'].accuracy:.3f}")


class Wine(Dataset):
    """Some rows of it, sample by sample."""

    def __init__(self, rows):
        self.rows = range(len(classes))[rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row = self.rows[i]
        return {"chemistry": torch.tensor(chemistry[row]), "colour": torch.tensor(colour[row]), "label": classes[row]}


# A data set and a network: an id like any other in this process.
task = dus_gym.register_task(
    "Wine",
    train=Wine(slice(0, 130)),
    test=Wine(slice(130, None)),
    modalities=["chemistry", "colour"],
    num_classes=3,
    batch=16,
    encoders={"chemistry": lambda: nn.Sequential(nn.Linear(7, 16), nn.Tanh())},
)
result = dus_gym.train(task, agent="steady", epochs=20)
print(f"{task}: test accuracy of concat {result.fused['concat'].accuracy:.3f}")
