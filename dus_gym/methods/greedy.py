"""Balanced multi-modal learning (Greedy, Wu et al., ICML 2022): no exchange for who learns faster through exchange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dus_gym.context import Context
from dus_gym.discrepancy import unrounded
from dus_gym.errors import check_at_least
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.model import MultimodalModel


@dataclass(frozen=True)
class GreedyOptions(MethodOptions):
    """Options of the re-balancing."""

    epsilon: float = 0.01
    """Limit ε of the difference of speeds above which steps re-balance; the authors' for ModelNet40."""
    window: int = 5
    """Re-balancing steps in a row; the authors' for ModelNet40."""
    start_epoch: int = 1
    """First epoch (from 0) with re-balancing; the authors' second."""

    def __post_init__(self) -> None:
        check_at_least("epsilon", self.epsilon, 0)
        check_at_least("window", self.window, 1)
        check_at_least("start_epoch", self.start_epoch, 0)


def relative_gradient(parameters: Sequence[nn.Parameter], runs: int | None) -> Tensor:
    """Return ``‖∇θ‖² / ‖θ‖²`` of parameters that have gradients, ``()`` or, of R runs, ``(R,)``.

    Args:
        parameters: θ, which lead with R where there are runs.
        runs: R, or None.
    """

    def squared(tensors: Sequence[Tensor]) -> Tensor:
        first = 0 if runs is None else 1
        return torch.stack([t.detach().square().flatten(first).sum(dim=-1) for t in tensors]).sum(dim=0)

    moved = [(p, p.grad) for p in parameters if p.grad is not None]
    return squared([gradient for _, gradient in moved]) / squared([p for p, _ in moved])


class Greedy(Method):
    """Balanced multi-modal learning (Wu, Jastrzębski, Cho and Geras, ICML 2022).

    Modalities exchange what they know through gates: h_j is multiplied by factors that come from all features, see
    :meth:`dus_gym.model.MultimodalModel.gates`, before modality j's own linear head; ``L = Σ_j CE(z_j, y)``, and the
    prediction is the mean of z_j. A modality's conditional learning speed is ``log10(B_j / M_j)``, where B_j sums
    ``‖∇θ‖² / ‖θ‖²`` over the regular steps for the gates of j and what all gates share, and M_j for encoder and head of
    j. Where the largest speed is more than ``epsilon`` above the smallest, ``window`` re-balancing steps follow, where
    the fastest modality's gates are their own running means, the same for every sample: nothing reaches it from others.

    The authors' networks exchange after three of their layers, the last of them where the encoder ends. Encoders here
    are closed, so that this one alone exists. They have two modalities; of more, the fastest is held back (ours).

    Every sample must be in all modalities, for gates come from all; the sum of the losses is one step.
    """

    name: ClassVar[str] = "greedy"
    paper: ClassVar[str] = (
        "Wu, Jastrzębski, Cho and Geras, Characterizing and Overcoming the Greedy Nature of Learning in Multi-modal "
        "Deep Neural Networks, ICML 2022"
    )
    year: ClassVar[int] = 2022
    changes: ClassVar[str] = "gates features by all modalities, and cuts off the one that learns fastest through them"
    fuses: ClassVar[bool] = False
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "gates"})
    own_predictor: ClassVar[str] = "sum"
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("speed/*", "rebalancing")
    options_type: ClassVar[type[MethodOptions]] = GreedyOptions
    options: GreedyOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._steps = 0
        # By modality, (d_j,) or (R, d_j); sums of B and M, (2, m) or (2, m, R); steps left and who is held back, (R,).
        # What starts as one zero gets its shape in the first step.
        self._means: list[Tensor] = []
        self._sums, self._left, self._held = torch.zeros(()), torch.tensor(0), torch.tensor(0)

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the sum of the modalities' losses."""
        features = [ctx.features(j) for j in range(ctx.num_modalities)]
        gates, device = ctx.model.gates(features), features[0].device
        # A state that was put back is on the host.
        self._sums, self._left, self._held = (of.to(device) for of in (self._sums, self._left, self._held))
        found = [ctx.mean(unrounded(gate.detach()), j, dim=-2) for j, gate in enumerate(gates)]
        # The mean of this step belongs to its own running mean, as released.
        old = [of.to(device) for of in self._means] or found
        self._means = [mean + (now - mean) / (self._steps + 1) for mean, now in zip(old, found, strict=True)]
        losses = []
        for j, (h, gate) in enumerate(zip(features, gates, strict=True)):
            cut = (self._left > 0) & (self._held == j)
            exchanged = torch.where(cut[..., None, None], self._means[j].unsqueeze(-2).to(gate.dtype), gate)
            losses.append(ctx.modality_loss(j, ctx.model.unimodal(j, h * exchanged)))
        yield sum(losses[1:], start=losses[0])

    def after_backward(self, ctx: Context) -> None:
        """Take in the speeds, and say who is held back in the steps to come."""

        def moved(*owners: str) -> Tensor:
            return relative_gradient([p for owner in owners for p in ctx.optimizer.parameters(owner)], ctx.runs)

        of_gates = torch.stack([moved(f"gates/{name}", "gates") for name in ctx.modalities])
        of_branches = torch.stack([moved(f"encoder/{name}", f"head/{name}") for name in ctx.modalities])
        now, options = torch.stack([of_gates, of_branches]), self.options
        rebalancing = self._left > 0
        self._sums = torch.where(rebalancing, self._sums, self._sums + now)
        speeds = self._sums.clamp_min(torch.finfo(now.dtype).tiny).log10()
        speed = speeds[0] - speeds[1]
        apart = (speed.amax(dim=0) - speed.amin(dim=0) > options.epsilon) & (ctx.epoch >= options.start_epoch)
        self._held = torch.where(rebalancing, self._held, speed.argmax(dim=0))
        self._left = torch.where(rebalancing, self._left - 1, torch.where(apart, options.window, 0))
        self._steps += 1
        ctx.log({"rebalancing": rebalancing.to(now.dtype)})
        ctx.log({f"speed/{name}": of for name, of in zip(ctx.modalities, speed, strict=True)})

    def unimodal_logits(self, model: MultimodalModel, features: Sequence[Tensor]) -> list[Tensor]:
        """Return each modality's logits from its gated features, m tensors ``(n, c)``; nobody is held back."""
        gates = model.gates(features)
        return [model.unimodal(j, h * gate) for j, (h, gate) in enumerate(zip(features, gates, strict=True))]

    def predict(self, unimodal: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of the modalities' logits."""
        return unimodal.mean(dim=0)

    def state_dict(self) -> dict[str, Any]:
        """Return running means, sums and who is held back for how long."""
        return {
            "steps": self._steps,
            "means": [of.clone() for of in self._means],
            "sums": self._sums.clone(),
            "left": self._left.clone(),
            "held": self._held.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self._steps = int(state["steps"])
        self._means = [torch.as_tensor(of).clone() for of in state["means"]]
        self._sums, self._left, self._held = (torch.as_tensor(state[key]).clone() for key in ("sums", "left", "held"))
