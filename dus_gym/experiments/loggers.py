"""``--log``: every step of a run to TensorBoard or to Weights & Biases, beside the run folder's own files."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dus_gym.errors import ConfigError, check_choice
from dus_gym.experiments.results import Result, name_task
from dus_gym.experiments.serialize import to_json
from dus_gym.experiments.storage.run_folder import TENSORBOARD, WANDB, RunFolder
from dus_gym.records import numeric


class Logger:
    """Writes nowhere; what follows writes somewhere.

    Args:
        path: the run folder.
        config: the run's settings.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *failure: object) -> None:
        """Closes what is open, whatever happened."""

    def step(self, record: Mapping[str, Any]) -> None:
        """One line of ``steps.jsonl``; its ``iterations`` are the abscissa."""

    def end(self, result: Result) -> None:
        """The figures of the finished run."""


class TensorBoardLogger(Logger):
    """Files in ``RUN/tensorboard``: ``tensorboard --logdir RUN``."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        super().__init__(path, config)
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(path / TENSORBOARD))

    def __exit__(self, *failure: object) -> None:
        self._writer.close()

    def step(self, record: Mapping[str, Any]) -> None:
        """Every number of the record under its own name."""
        for key, value in numeric(record).items():
            self._writer.add_scalar(key, value, record["iterations"])

    def end(self, result: Result) -> None:
        """:func:`test_figures` at the last iteration."""
        for key, value in test_figures(result).items():
            self._writer.add_scalar(key, value, result.iterations)


class WandbLogger(Logger):
    """A run of Weights & Biases in ``RUN/wandb``.

    Nothing leaves the machine unless the environment variable WANDB_MODE is ``online``; ``wandb sync`` uploads later.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        super().__init__(path, config)
        task = name_task(config["env"], config.get("data_name"))
        wandb: Any = importlib.import_module("wandb")
        (path / WANDB).mkdir(exist_ok=True)
        self._run = wandb.init(
            project="dus-gym",
            dir=str(path),
            name=f"{task} {config['agent']} {config['method']} seed{config['seed']}",
            config=dict(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off", silent=True),
        )

    def __exit__(self, *failure: object) -> None:
        self._run.finish(exit_code=0 if failure[0] is None else 1)

    def step(self, record: Mapping[str, Any]) -> None:
        """Every number of the record under its own name."""
        self._run.log(numeric(record), step=record["iterations"])

    def end(self, result: Result) -> None:
        """:func:`test_figures` among the run's summary figures."""
        self._run.summary.update(test_figures(result))


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoardLogger, "wandb": WandbLogger}
"""Each by the name of the package that it needs, which is also the extra that installs it."""


def test_figures(result: Result) -> dict[str, float]:
    """Return the figures of a result's test split, by ``test/PREDICTOR/METRIC``.

    They are called ``best_test/...`` where the test split has chosen the epoch.
    """
    split = "best_test" if result.select == "best_test" else "test"
    rows: dict[str, Any] = {f"fused_{name}": row for name, row in result.fused.items() if row is not None}
    return {
        f"{split}/{name}/{key}": value
        for name, row in (rows | dict(result.modalities)).items()
        for key, value in numeric(to_json(row)).items()
    }


def check_logger(name: str | None) -> None:
    """Refuses a logger that there is none of, or whose package is not installed.

    Raises:
        ConfigError: with the line that installs it.
    """
    if name is None:
        return
    check_choice("log", name, LOGGERS)
    if find_spec(name) is None:
        raise ConfigError(f'log={name!r} needs a package that is not installed: pip install "dus-gym[{name}]"')


def open_logger(name: str | None, folder: RunFolder) -> Logger:
    """The logger of that name for a run; one that writes nowhere for None."""
    return (Logger if name is None else LOGGERS[name])(folder.path, folder.config)
