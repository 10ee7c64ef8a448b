"""The numbers that the paper prints, in per cent."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

FUSED = "multimodal"
"""The printed tables' word for the fused prediction."""


@dataclass(frozen=True)
class Printed:
    """One printed number."""

    percent: float
    std: float | None
    """Standard deviation over three runs; Table A1 alone has it."""


Key = tuple[str, str, str, str, str]
"""Table, data set, row, modality (or ``multimodal``) and metric."""


@lru_cache(maxsize=1)
def printed() -> dict[Key, Printed]:
    """Every number of Tables 1 to 4 and A1 to A4.

    Three are restored from a damaged scan or doubtful in the paper itself; they are marked in the file.
    """
    lines = (files(__package__) / "printed.csv").read_text(encoding="utf-8").splitlines()
    return {
        (row["table"], row["dataset"], row["row"], row["modality"], row["metric"]): Printed(
            float(row["percent"]), float(row["std"]) if row["std"] else None
        )
        for row in csv.DictReader(lines)
    }
