"""DUS as a callback of Hugging Face's Trainer: ``pip install "dus-gym[trainer]"``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from dus_gym.agents.callbacks import Watching
from dus_gym.errors import CheckpointError, ConfigError

FILE = "dus.pt"


class DUSTrainerCallback(Watching, TrainerCallback):
    """Asks DUS before every epoch, and shows it what the model returns, by a hook on its forward pass.

        class Balanced(Trainer):
            def get_train_dataloader(self):  # a callback can't choose the batches
                return loaders

        trainer = Balanced(model, arguments, eval_dataset=validation, callbacks=[DUSTrainerCallback(dus, loaders)])
        trainer.train()

    The model's output has ``"true_class_probability"``, by modality (:func:`dus_gym.true_class_probability`), in
    training and evaluation. Each checkpoint gets a file ``dus.pt``; to resume, call :meth:`load` first and set
    ``ignore_data_skip=True``: the loaders know themselves where they were. A checkpoint at the end of an epoch has its
    evaluation under ``save_strategy="epoch"``; by steps, the Trainer saves first. For one process: with several, each
    would decide by itself.

    Args:
        dus: decides; its ``epochs`` are the trainer's, and it has no ``interval``.
        loaders: what :meth:`DUS.loaders` returned.

    Raises:
        ConfigError: for a DUS with an ``interval``.
    """

    _goes_on = False
    """True if the epoch that begins is one that was loaded in the middle."""

    def load(self, checkpoint: str | Path) -> None:
        """Put back the state in a checkpoint folder of the Trainer.

        Raises:
            CheckpointError: if it has none, or one of something else.
        """
        file = Path(checkpoint) / FILE
        if not file.is_file():
            raise CheckpointError(f"{file} does not exist; give a checkpoint that was written with this callback.")
        self.load_state_dict(torch.load(file, weights_only=True))
        self._goes_on = self.loaders.left > 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Watch the model's forward pass."""
        if self.dus.epoch and not args.ignore_data_skip:
            raise ConfigError(
                "ignore_data_skip=False is not allowed here: the loaders skip what was used; set it to True."
            )
        self._hook = given["model"].register_forward_hook(self._forward)

    def _forward(self, model: torch.nn.Module, _: Any, outputs: Any) -> None:
        if model.training:
            self.see_training(outputs)
        else:
            self.see_validation(outputs)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leave the model as it was."""
        self._hook.remove()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Ask for the epoch's sizes, unless it was loaded in the middle."""
        if not self._goes_on:
            self.loaders.next_epoch()
        self._goes_on = False

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Show DUS the whole validation."""
        self.end_validation()

    def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Write the state beside the Trainer's own."""
        torch.save(self.state_dict(), Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE)
