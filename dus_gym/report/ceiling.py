"""The report of a ceiling: its picture, its table, and the comparison that the figures come from."""

from __future__ import annotations

from pathlib import Path

from dus_gym.errors import RunFolderError
from dus_gym.experiments.ceiling import COMPARED, Ceiling
from dus_gym.experiments.serialize import from_json
from dus_gym.experiments.storage.comparison_folder import read_comparison
from dus_gym.experiments.storage.run_folder import CEILING, CEILING_PICTURE, COMPARISON, read_object
from dus_gym.report.page import Page, Section, picture_html


def read_ceiling(folder: Path) -> Ceiling:
    """Return what ``dus ceiling`` found and wrote.

    Raises:
        RunFolderError: for a search that is not finished, and for a damaged file.
    """
    file = folder / CEILING
    if not file.is_file():
        raise RunFolderError(
            f"{folder} holds a ceiling whose search is not finished; go on with dus ceiling --out {folder} --resume."
        )
    found = from_json(Ceiling, read_object(file), str(file))
    splits = [found.constant, *found.schedule]
    if not found.constant or any(len(split) != len(found.constant) or min(split) < 0.0 for split in splits):
        raise RunFolderError(f"{file} is damaged (splits {splits}); dus ceiling --resume makes it again.")
    if missing := [word for word in [found.highest, *found.labels] if word not in found.agents]:
        raise RunFolderError(f"{file} is damaged (agents has no {missing[0]!r}); dus ceiling --resume makes it again.")
    return found


def ceiling_page(folder: Path) -> Page:
    """Return the page of a ceiling's folder.

    Raises:
        RunFolderError: see :func:`read_ceiling`.
    """
    found = read_ceiling(folder)
    first, last = found.searched
    compared = folder / COMPARED
    parts = read_comparison(compared).parts if (compared / COMPARISON).is_file() else ()
    searched = ", ".join(f"{label} ({word})" for word, label in found.labels.items())
    return Page(
        title=f"{found.env}: ceiling",
        kicker=f"dus-gym ceiling · {found.env} · {found.method}",
        verdict=found.verdict,
        opening=[
            picture_html(
                folder / CEILING_PICTURE,
                "Who got which share",
                "Mean share of each modality over the run, a panel for each split that was found and for each agent; "
                "the dotted line is the equal split.",
                f"Shares over the run, stacked: {searched}, and each agent.",
                wide=True,
            )
        ],
        remarks=[
            f"The search made {found.runs} training runs on the seeds {first} to {last}, and the figures are of "
            f"{len(found.seeds)} others.",
        ],
        facts=[
            ("environment", found.env),
            ("method", found.method),
            ("seeds", f"{len(found.seeds)}"),
            *((label, word) for word, label in found.labels.items()),
            *((key, str(value)) for key, value in found.settings.items()),
        ],
        sections=[
            Section("result", "Result", [found.table().html()]),
            Section("comparison", "The comparison behind it", [part.table().html() for part in parts]),
        ],
    )
