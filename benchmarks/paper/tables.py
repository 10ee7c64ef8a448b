"""The paper's tables and figures as data: which rows on which data sets, and what each row's name means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper.datasets import PaperDataset
from dus_gym.benchmarks.paper.figures import draw_figure1, draw_figure3, draw_figure4, draw_figure5
from dus_gym.experiments.results import Result


@dataclass(frozen=True)
class PaperRow:
    """One row of a table, or one series of a figure: a method under an agent."""

    label: str
    """The paper's name."""
    method: str
    agent: str = "uniform"
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run that differ from the data set's."""
    unimodal: bool = False
    """True if the row has a line for each modality, trained alone, and none for a fused prediction."""

    @property
    def folder(self) -> str:
        """The name of the runs' folder; rows with the same runs share it, whatever table they stand in."""
        options = (*sorted(self.agent_options.items()), *sorted(self.run.items()))
        return "-".join([self.method, self.agent, *(f"{key}={value}" for key, value in options)])


ROWS: dict[str, PaperRow] = {
    row.label: row
    for row in (
        PaperRow("Unimodal", "unimodal", unimodal=True),
        PaperRow("Baseline", "baseline"),
        PaperRow("OGR-GB", "ogr_gb"),
        PaperRow("OGM", "ogm"),
        PaperRow("DOMFN", "domfn"),
        PaperRow("MSES", "mses"),
        PaperRow("PMR", "pmr"),
        PaperRow("AGM", "agm"),
        PaperRow("MSLR", "mslr"),
        PaperRow("ReconBoost", "reconboost"),
        PaperRow("SMV", "smv"),
        PaperRow("DI-MML", "di_mml"),
        PaperRow("MLA", "mla"),
        PaperRow("DUS/Baseline", "baseline", "reinforce"),
        PaperRow("DUS-H/MLA", "mla", "heuristic"),
        PaperRow("DUS/MLA", "mla", "reinforce"),
        PaperRow("DUS/PMR", "pmr", "reinforce"),
        PaperRow("DUS/AGM", "agm", "reinforce"),
        PaperRow("DUS/DI-MML", "di_mml", "reinforce"),
        PaperRow("MLA-HB", "mla", "half"),
        # DUS and its ablations are on MLA, as in the paper.
        PaperRow("DUS", "mla", "reinforce"),
        PaperRow("DUS w/o RL", "mla", "score"),
        PaperRow("DUS w/o CS", "mla", "reinforce", run={"cumulative": "none"}),
    )
}
"""By the paper's name."""


def _rows(*labels: str) -> tuple[PaperRow, ...]:
    return tuple(ROWS[label] for label in labels)


ABLATION = (replace(ROWS["MLA"], label="Baseline"), *_rows("DUS w/o RL", "DUS"))
"""The rows of Tables 4, A3 and A4, which ablate DUS/MLA: those called Baseline have MLA's figures of Table 1."""
TOTALS = (16, 32, 64, 128)
"""Samples per iteration over all modalities (N_B) of Figure 3."""
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Learning rates of the policy in Figure 3; the paper's lowest is unreadable, 1e-5 is ours."""


@dataclass(frozen=True)
class RowRuns:
    """One row on one data set, with those of its runs that are finished."""

    dataset: PaperDataset
    row: PaperRow
    modalities: tuple[str, ...]
    """The environment's names, in order; empty where nothing stands in for the data set."""
    results: Sequence[Result] = ()
    """Of the runs, one per seed."""
    steps: Sequence[Sequence[dict[str, Any]]] = ()
    """The lines of every run's ``steps.jsonl``, in the order of the results; of figures alone."""
    note: str = ""
    """Why there are no runs or fewer than seeds, or what is wrong with them."""


Draw = Callable[[Path, str, Sequence[RowRuns]], list[str]]
"""Draws a figure of one data set, to a PNG file, under a title; returns what it shows, in sentences. Every row has
runs."""


@dataclass(frozen=True)
class Item:
    """One table or figure of the paper."""

    word: str
    """The word in ``dus reproduce``."""
    title: str
    datasets: tuple[str, ...]
    """As printed; a figure can be had of every other data set too."""
    rows: tuple[PaperRow, ...]
    table: str | None = None
    """The table's number in ``printed.csv``; None for a figure, which prints no numbers."""
    by_modality: bool = False
    """True if every row has a line for each modality beside the fused one."""
    shape: str = ""
    """The content of the paper's figure, in words."""
    draw: Draw | None = None
    """None for a table."""


ITEMS: dict[str, Item] = {
    item.word: item
    for item in (
        Item(
            "table1",
            "Table 1: comparison on two modalities",
            ("Twitter2015", "Sarcasm", "CREMA-D", "Kinetics-Sounds"),
            _rows(
                "Unimodal",
                "Baseline",
                "OGR-GB",
                "OGM",
                "DOMFN",
                "MSES",
                "PMR",
                "AGM",
                "MSLR",
                "ReconBoost",
                "SMV",
                "DI-MML",
                "MLA",
                "DUS/Baseline",
                "DUS-H/MLA",
                "DUS/MLA",
            ),
            table="1",
        ),
        Item(
            "table2",
            "Table 2: comparison on three modalities",
            ("NVGesture",),
            _rows("Unimodal", "OGR-GB", "MSES", "AGM", "MSLR", "ReconBoost", "SMV", "MLA", "DUS/MLA"),
            table="2",
        ),
        Item(
            "table3",
            "Table 3: DUS plugged into other methods",
            ("Kinetics-Sounds",),
            _rows("PMR", "DUS/PMR", "AGM", "DUS/AGM", "DI-MML", "DUS/DI-MML"),
            table="3",
        ),
        Item("table4", "Table 4: ablation", ("Kinetics-Sounds",), ABLATION, table="4", by_modality=True),
        Item(
            "tableA1",
            "Table A1: scatter over runs",
            ("Twitter2015", "Sarcasm", "CREMA-D", "Kinetics-Sounds", "NVGesture"),
            _rows("DUS/MLA"),
            table="A1",
        ),
        Item(
            "tableA2",
            "Table A2: the cumulative score",
            ("Kinetics-Sounds",),
            _rows("DUS w/o CS", "DUS"),
            table="A2",
            by_modality=True,
        ),
        Item("tableA3", "Table A3: ablation", ("CREMA-D",), ABLATION, table="A3", by_modality=True),
        Item("tableA4", "Table A4: ablation", ("Twitter2015", "Sarcasm"), ABLATION, table="A4", by_modality=True),
        Item(
            "fig1",
            "Figure 1: accuracy and scores against average batch size",
            ("Kinetics-Sounds",),
            _rows("Baseline", "MLA", "MLA-HB", "DUS/Baseline", "DUS/MLA"),
            shape="No number is printed. By Table 1, DUS/MLA (74.87) should lie above MLA (70.04) and DUS/Baseline "
            "(70.26) above Baseline (67.13), with fewer samples of the modality that is ahead.",
            draw=draw_figure1,
        ),
        Item(
            "fig3",
            "Figure 3: samples per iteration (N_B) and the policy's learning rate",
            ("Kinetics-Sounds",),
            (
                *(replace(ROWS["DUS/MLA"], label=f"N_B = {total}", run={"total_batch": total}) for total in TOTALS),
                *(replace(ROWS["DUS/MLA"], label=f"lr = {rate:g}", agent_options={"lr": rate}) for rate in RATES),
            ),
            shape="No number is printed. The paper calls the accuracy insensitive to learning rates below 1e-1.",
            draw=draw_figure3,
        ),
        Item(
            "fig4",
            "Figure 4: batch size over training",
            ("Kinetics-Sounds",),
            _rows("DUS/MLA"),
            shape="No number is printed. The sizes begin equal (Algorithm 1, line 1); by the method's aim the size of "
            "the modality that is ahead falls and the other's rises.",
            draw=draw_figure4,
        ),
        Item(
            "fig5",
            "Figure 5: cumulative scores over training",
            ("Kinetics-Sounds",),
            _rows("Baseline", "MLA", "DUS/MLA"),
            shape="No number is printed. By the method's aim the gap under DUS/MLA is smaller than under MLA and "
            "Baseline.",
            draw=draw_figure5,
        ),
    )
}
"""By the word in ``dus reproduce``, in the order of ``all``."""
