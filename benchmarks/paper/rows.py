"""The rows of the paper's tables: what each name means in methods, agents and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dus_gym.errors import unknown_name


@dataclass(frozen=True)
class Row:
    """One row, or one series of a figure."""

    label: str
    """The paper's name."""
    method: str
    agent: str = "uniform"
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run that differ from the data set's."""
    unimodal: bool = False
    """Whether a row of the printed table is one modality's network alone."""

    @property
    def folder(self) -> str:
        """Names the run's folder; rows that ask for the same run share it, whatever table they stand in."""
        said = [f"{key}={value}" for key, value in (*sorted(self.agent_options.items()), *sorted(self.run.items()))]
        return "-".join([self.method, self.agent, *said])


_ALL = (
    Row("Unimodal", "unimodal", unimodal=True),
    Row("Baseline", "baseline"),
    Row("OGR-GB", "ogr_gb"),
    Row("OGM", "ogm"),
    Row("DOMFN", "domfn"),
    Row("MSES", "mses"),
    Row("PMR", "pmr"),
    Row("AGM", "agm"),
    Row("MSLR", "mslr"),
    Row("ReconBoost", "reconboost"),
    Row("SMV", "smv"),
    Row("DI-MML", "di_mml"),
    Row("MLA", "mla"),
    Row("DUS/Baseline", "baseline", "reinforce"),
    Row("DUS-H/MLA", "mla", "heuristic"),
    Row("DUS/MLA", "mla", "reinforce"),
    Row("DUS/PMR", "pmr", "reinforce"),
    Row("DUS/AGM", "agm", "reinforce"),
    Row("DUS/DI-MML", "di_mml", "reinforce"),
    Row("MLA-HB", "mla", "half"),
    Row("DUS", "mla", "reinforce"),
    Row("DUS w/o RL", "mla", "score"),
    Row("DUS w/o CS", "mla", "reinforce", run={"cumulative": "none"}),
)
ROWS: dict[str, Row] = {row.label: row for row in _ALL}
"""By the paper's name. ``DUS`` and its ablations are on MLA, as in the paper."""

MLA_AS_BASELINE = replace(ROWS["MLA"], label="Baseline")
"""Tables 4, A3 and A4 print MLA's figures of Table 1 in their rows called Baseline."""


def rows(*labels: str) -> tuple[Row, ...]:
    """Rows by the paper's names.

    Raises:
        ConfigError: for a name that no row has; the message has the nearest one.
    """
    for label in labels:
        if label not in ROWS:
            raise unknown_name("row", label, ROWS)
    return tuple(ROWS[label] for label in labels)
