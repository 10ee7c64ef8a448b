"""``dus probe``: what each modality of a finished run knows, contributes and costs."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dus_gym.cli.arguments import read
from dus_gym.cli.console import open_console
from dus_gym.experiments.storage.run_folder import PROBE


@dataclass(frozen=True)
class ProbeOptions:
    """Options of ``dus probe``."""

    run: Path = field(metadata={"positional": True})
    """The folder of a finished run that dus train wrote."""
    alone: bool = False
    """Also train each modality's network by itself, with the run's settings."""
    data_root: Path | None = None
    """The data root, if the files have moved since the run."""
    device: str | None = None
    """cpu, cuda or cuda:N; where the run was trained if not given."""
    out: Path | None = None
    """Write the result to this JSON file; to probe.json in the run's folder if not given."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


def main(words: list[str]) -> None:
    """Diagnose a run and print its tables."""
    options = read(ProbeOptions, words, "probe", "Show what each modality of a run knows, contributes and costs.")
    from dus_gym.cli.progress import live_run
    from dus_gym.cli.tables import print_line, print_prose, print_table
    from dus_gym.experiments.probe import probe

    console = open_console(quiet=options.quiet)
    with live_run(console, "each modality alone") as view:
        found = probe(
            options.run,
            alone=options.alone,
            data_root=options.data_root,
            device=options.device,
            out=options.out,
            on_step=view.step,
        )
    for number, table in enumerate(found.tables()):
        if number:
            print_line(console, "")
        print_table(console, table)
    for warning in found.warnings:
        print_prose(console, f"Warning: {warning}", style="yellow")
    print_line(console, f"written to {options.out or options.run / PROBE}")
    if options.out is None:
        print_line(console, f"next: dus report {shlex.quote(str(options.run))}")
    if options.json:
        print(json.dumps(found.to_json(), allow_nan=False))
