"""A method, a model and one batch without a run around them, for tests against numbers worked by hand."""

import numpy as np
import torch

from dus_gym.batch import Batch
from dus_gym.context import Context
from dus_gym.data.dataset import TensorSplit
from dus_gym.encoders.mlp import MLP
from dus_gym.methods import make_method
from dus_gym.model import MultimodalModel, initialised
from dus_gym.optim import GroupedOptimizer, OptimizerConfig
from dus_gym.recorder import Recorder

NAMES = ("one", "two", "three")


def logits_of(*rows):
    """Return logits whose probabilities are the rows, up to what a softmax takes away."""
    return torch.tensor(rows, dtype=torch.double).log() + 3.0


class Setup:
    """A method, a model and one batch, without a run around them."""

    def __init__(
        self,
        method="baseline",
        sizes=(3, 5),
        paired=True,
        c=6,
        loss_norm="mean",
        update="joint",
        base=4,
        width=(8, 8, 8),
        **options,
    ):
        m = len(sizes)
        self.method = make_method(method, options)
        self.model = initialised(
            lambda: MultimodalModel(
                [MLP((4 + j,), hidden=width[j]) for j in range(m)], c, self.method.heads, self.method.fused_hidden
            ),
            0,
        )
        self.optimizer = GroupedOptimizer(
            self.model.parameter_groups(NAMES[:m]), OptimizerConfig(lr=0.1, momentum=0.0, weight_decay=0.0)
        )
        generator = torch.Generator().manual_seed(1)
        self.labels = torch.randint(0, c, (max(sizes),), generator=generator)
        self.inputs = [torch.randn(n, 4 + j, generator=generator) for j, n in enumerate(sizes)]
        self.recorder = Recorder(m)
        self.ctx = Context(
            modalities=NAMES[:m],
            model=self.model,
            optimizer=self.optimizer,
            train_split=TensorSplit(tuple(self.inputs), self.labels),
            validation_split=TensorSplit(tuple(self.inputs), self.labels),
            base_batch=base,
            loss_norm=loss_norm,
            update=update,
            epochs=100,
            iterations_per_epoch=10,
            rngs=[np.random.default_rng(0)],
            figures=lambda split, model: None,
            train_features=lambda: [self.model.encode(j, x).detach() for j, x in enumerate(self.inputs)],
            validation_features=lambda: [self.model.encode(j, x).detach() for j, x in enumerate(self.inputs)],
            clone_and_fit=lambda loss, epochs: self.model,
            restart_plateau=lambda runs: None,
            normal_like=lambda tensors: [torch.randn_like(tensor) for tensor in tensors],
            logs=self.method.figures_of(NAMES[:m]),
        )
        self.paired = min(sizes) if paired else 0
        self.begin()

    def begin(self):
        labels = tuple(self.labels[: len(x)] for x in self.inputs)
        self.ctx.begin(Batch(tuple(self.inputs), labels, self.paired), self.recorder)

    def zero_heads(self):
        with torch.no_grad():
            for head in [*(self.model.unimodal_heads or []), self.model.fused_head, self.model.shared_head]:
                if head is not None:
                    head.weight.zero_()
                    head.bias.zero_()
        return self

    def losses(self):
        """The losses of one iteration, each stepped as the loop does."""
        found = []
        for loss in self.method.substeps(self.ctx):
            self.optimizer.torch.zero_grad()
            loss.backward()
            self.method.after_backward(self.ctx)
            self.optimizer.step()
            self.ctx.forget_features()
            found.append(loss.item())
        self.recorder.end_iteration(torch.tensor(sum(found)))
        return found

    def gradients(self, *owners):
        """Gradients of one joint backward, by owner."""
        self.begin()
        self.model.zero_grad()
        for loss in self.method.substeps(self.ctx):
            loss.backward()
        groups = self.model.parameter_groups(self.ctx.modalities)
        return [torch.cat([p.grad.flatten() for p in groups[owner]]) for owner in owners]
