"""``dus reproduce``: the paper's tables and figures, re-run beside the printed numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dus_gym.benchmarks.paper import PAPER_SEEDS
from dus_gym.benchmarks.paper.datasets import DATASETS, datasets_named
from dus_gym.benchmarks.paper.tables import ITEMS, Item
from dus_gym.cli.arguments import parse
from dus_gym.cli.console import open_console
from dus_gym.cli.progress import progress_over
from dus_gym.cli.tables import print_line, show_log
from dus_gym.errors import ConfigError, unknown_name
from dus_gym.experiments.executors.executor import ScaleOptions
from dus_gym.experiments.spec import parse_seeds

if TYPE_CHECKING:
    from dus_gym.benchmarks.paper.reproduction import ItemPart, Reproduction

ALL = "all"


@dataclass(frozen=True)
class ReproduceOptions:
    """Options of ``dus reproduce``."""

    item: str = field(metadata={"positional": True, "choices": (*ITEMS, ALL)})
    """A table or figure, or all of them."""
    datasets: str | None = None
    """Data sets, separated by commas, as printed or as in `dus data`; the item's own if not given."""
    methods: str | None = None
    """Rows, separated by commas, by the paper's names (MLA,DUS/MLA); all if not given."""
    seeds: str = str(PAPER_SEEDS)
    """A number of seeds (3 is the paper's protocol), or the seeds themselves: 3,5,8 or 0-9."""
    encoder: str | None = None
    """Another set of encoders: clip, for the data sets of text and image."""
    data_root: Path | None = None
    """A folder with one folder a data set, named as in `dus data`; or the folder of the one data set asked for."""
    smoke: bool = False
    """Rehearse the whole matrix on made-up media with tiny networks; no data is needed."""
    standin: bool = False
    """Small real data sets in place of the paper's: cremad-ratings for CREMA-D, avdigits for Kinetics-Sounds, mfeat for
    NVGesture, sarcasm-tags for Sarcasm; Twitter2015 has none."""
    epochs: int | None = None
    """Epochs of every run; the data set's own if not given."""
    trainer: str | None = None
    """fake: fitted curves instead of training, to look at a table's form."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    out: Path | None = None
    """Output folder; runs/reproduce-MODE if not given, MODE followed by the encoder, trainer and epochs that were.
    The same command goes on where a killed one stopped; a finished run is never run again."""
    threads: int = 1
    """CPU threads of each run."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


def main(words: list[str]) -> None:
    """Run what is missing, and write and print the tables and figures."""
    parsed = parse(words, "reproduce", "Re-run the paper's tables and figures.", ReproduceOptions, ScaleOptions)
    options = parsed.build(ReproduceOptions)

    # Imported here: it trains, and help does not.
    from dus_gym.benchmarks.paper.reproduction import reproduce

    reproduction = _reproduction(options)
    parts = _parts(options)
    console = open_console(quiet=options.quiet)
    show_log(console)
    label = f"dus reproduce {options.item}"
    written = reproduce(
        reproduction, parts, parsed.build(ScaleOptions), lambda _, count: progress_over(console, label, count)
    )
    for _, text in written:
        print_line(console, text)
    print_line(console, f"written to {reproduction.out}")
    if options.json:
        print(json.dumps({"items": [result for result, _ in written]}, allow_nan=False))


def _items(word: str) -> list[Item]:
    if word != ALL and word not in ITEMS:
        raise unknown_name("table or figure", word, (*ITEMS, ALL))
    return list(ITEMS.values()) if word == ALL else [ITEMS[word]]


def _reproduction(options: ReproduceOptions) -> Reproduction:
    from dus_gym.benchmarks.paper.reproduction import Reproduction

    if options.smoke and options.standin:
        raise ConfigError("--smoke and --standin can't go together; leave one out.")
    mode = "smoke" if options.smoke else "standin" if options.standin else "real"
    if mode == "smoke" and options.data_root is not None:
        raise ConfigError(f"data_root={options.data_root} is not allowed with --smoke, which makes its own media.")
    return Reproduction(
        mode=mode,
        out=options.out or Path("runs") / _folder(options, mode),
        seeds=tuple(parse_seeds(options.seeds)),
        data_root=options.data_root,
        encoder=options.encoder,
        trainer=options.trainer,
        epochs=options.epochs,
        device=options.device,
        threads=options.threads,
    )


def _folder(options: ReproduceOptions, mode: str) -> str:
    """Names the output: runs of other encoders, trainers or epochs are other runs and lie elsewhere."""
    epochs = None if options.epochs is None else f"{options.epochs}-epochs"
    trainer = None if options.trainer == "real" else options.trainer
    return "-".join(filter(None, ("reproduce", mode, options.encoder, trainer, epochs)))


def _parts(options: ReproduceOptions) -> list[ItemPart]:
    """The items with the data sets and rows that were asked for; of ``all``, those that have any of both.

    Raises:
        ConfigError: for a data set or row that no item has, and if no item has both.
    """
    from dus_gym.benchmarks.paper.reproduction import ItemPart

    items = _items(options.item)
    datasets = datasets_named(options.datasets, tuple(dict.fromkeys(name for item in items for name in _offered(item))))
    labels = _labels(items, options.methods, options.item)
    parts = [
        ItemPart(
            item,
            item.datasets if options.datasets is None else tuple(name for name in datasets if name in _offered(item)),
            tuple(row for row in item.rows if row.label in labels),
        )
        for item in items
    ]
    parts = [part for part in parts if part.datasets and part.rows]
    if not parts:
        raise ConfigError(
            f"no table or figure has datasets={options.datasets!r} and methods={options.methods!r} together."
        )
    return parts


def _offered(item: Item) -> tuple[str, ...]:
    """The data sets that an item can be had of: a table's own, and every one for a figure."""
    return item.datasets if item.table is not None else tuple(DATASETS)


def _labels(items: Sequence[Item], words: str | None, of: str) -> set[str]:
    """The rows that comma-separated words name; all for None.

    Raises:
        ConfigError: for a word that names none, and for words that name nothing.
    """
    known = {row.label.lower(): row.label for item in items for row in item.rows}
    if words is None:
        return set(known.values())
    asked = [word.strip() for word in words.split(",") if word.strip()]
    for word in asked:
        if word.lower() not in known:
            raise unknown_name(f"row of {of}", word, known.values())
    if not asked:
        raise ConfigError(
            f"methods={words!r} is not allowed; it names no row. Choose from {', '.join(known.values())}."
        )
    return {known[word.lower()] for word in asked}
