"""The common part of the callbacks for Lightning and for Hugging Face's Trainer."""

from __future__ import annotations

from typing import Any

import torch

from dus_gym.agents.loaders import ModalityLoaders
from dus_gym.agents.plugin import DUS
from dus_gym.errors import ConfigError

KEY = "true_class_probability"
"""The key of a step's output, beside its loss, that holds by modality the probability of each sample's own class."""


class Watching:
    """An observer that shows DUS the outputs of a loop which somebody else runs.

    Args:
        dus: decides once per epoch; its ``epochs`` are the loop's.
        loaders: what :meth:`DUS.loaders` returned, and the loop's training data.

    Raises:
        ConfigError: for a DUS that decides more often than once per epoch, which callbacks are not asked to.
    """

    def __init__(self, dus: DUS, loaders: ModalityLoaders) -> None:
        if dus.interval is not None:
            raise ConfigError(f"interval={dus.interval} is not allowed: callbacks decide once per epoch; leave it out.")
        self.dus, self.loaders = dus, loaders
        self._validated: list[dict[str, torch.Tensor]] = []

    def see_training(self, outputs: Any) -> None:
        """Show DUS one iteration's output."""
        self.dus.observe(_probabilities(outputs))

    def see_validation(self, outputs: Any) -> None:
        """Keep one validation batch's output."""
        self._validated.append(_probabilities(outputs))

    def end_validation(self) -> None:
        """Show DUS all validation batches since the last call, if there are any."""
        kept, self._validated = self._validated, []
        if kept:
            self.dus.observe_validation({name: torch.cat([of[name] for of in kept]) for name in kept[0]})

    def state_dict(self) -> dict[str, Any]:
        """Return the state of DUS and its loaders."""
        return {"dus": self.dus.state_dict(), "loaders": self.loaders.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        self.dus.load_state_dict(state_dict["dus"])
        self.loaders.load_state_dict(state_dict["loaders"])


def _probabilities(outputs: Any) -> dict[str, torch.Tensor]:
    """Return what an output says of each modality, without its graph.

    Raises:
        ConfigError: if it says nothing.
    """
    if not isinstance(outputs, dict) or KEY not in outputs:
        raise ConfigError(f"a step's output has no {KEY!r}; return a dict with it, by modality, beside the loss.")
    return {name: p.detach() for name, p in outputs[KEY].items()}
