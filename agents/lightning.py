"""DUS as a callback of Lightning: ``pip install "dus-gym[lightning]"``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from dus_gym.agents.callbacks import Watching


class DUSCallback(Watching, Callback):  # type: ignore[misc, unused-ignore]
    """Asks DUS before every epoch, and shows it what each step returns.

        dus = DUS(["audio", "video"], epochs=20)
        loaders = dus.loaders({"audio": spectrograms, "video": clips}, labels)
        trainer = Trainer(max_epochs=20, callbacks=[DUSCallback(dus, loaders)])
        trainer.fit(module, loaders, validation_loader)

    ``training_step`` and ``validation_step`` return a dict with ``"true_class_probability"``, by modality
    (:func:`dus_gym.true_class_probability`). State is part of Lightning's checkpoints, in the middle of an epoch too.
    For one process: with several, each would decide by itself.

    Args:
        dus: decides; its ``epochs`` are the trainer's, and it has no ``interval``.
        loaders: what :meth:`DUS.loaders` returned, and the trainer's training data.

    Raises:
        ConfigError: for a DUS with an ``interval``.
    """

    def on_train_epoch_start(self, *_: Any) -> None:
        """Ask for the epoch's sizes; Lightning does not call this in an epoch that it resumes in the middle."""
        self.loaders.next_epoch()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Show DUS one iteration."""
        self.see_training(outputs)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Keep one validation batch; the check before training is no validation."""
        if not trainer.sanity_checking:
            self.see_validation(outputs)

    def on_validation_epoch_end(self, *_: Any) -> None:
        """Show DUS the whole validation."""
        self.end_validation()
