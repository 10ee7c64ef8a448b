"""Rows to CSV and Parquet files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dus_gym.errors import ConfigError
from dus_gym.experiments.storage.run_folder import writing
from dus_gym.state import write_atomically

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to a spreadsheet, which may send data away or run a program."""
Rows = Sequence[Mapping[str, Any]]


def columns_of(rows: Rows) -> list[str]:
    """Every key of every row, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _plain(value: Any) -> Any:
    """A cell: lists and objects as JSON text; text that a spreadsheet would compute begins with an apostrophe."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return json.dumps(value) if isinstance(value, list | dict) else value


def write_csv(path: Path, rows: Rows) -> None:
    """Writes UTF-8 with a head line; None is an empty cell, a list is JSON text."""
    text = io.StringIO(newline="")
    columns = columns_of(rows)
    lines = csv.DictWriter(text, columns, lineterminator="\n")
    lines.writerow({name: _plain(name) for name in columns})
    lines.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    with writing(path, "try again"):
        write_atomically(path, text.getvalue().encode(errors="backslashreplace"))


def check_parquet() -> None:
    """Raises ConfigError, with the line that installs it, where pyarrow is missing."""
    if find_spec("pyarrow") is None:
        raise ConfigError('Parquet needs a package that is not installed: pip install "dus-gym[parquet]"')


def write_parquet(path: Path, rows: Rows) -> None:
    """Writes one column a key, typed by its values; lists of numbers stay lists.

    Raises:
        ConfigError: without pyarrow.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    # Reals and whole numbers in one column (a first step's 0 among fractions) are all reals.
    columns = {key: _typed([row.get(key) for row in rows]) for key in columns_of(rows)}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    with writing(path, "try again"):
        write_atomically(path, buffer.getvalue())


def _typed(values: list[Any]) -> list[Any]:
    if any(isinstance(value, float) for value in values):
        return [float(value) if isinstance(value, int) else value for value in values]
    return values
