"""Places of the media of a data set: the same clips are found under the folder names of every known repository."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dus_gym.data.record import Record
from dus_gym.errors import DatasetNotFoundError

VIDEO_ENDINGS = (
    *(".mp4", ".avi", ".mkv", ".webm", ".flv", ".mov", ".m4v"),
    *(".mpg", ".mpeg", ".ts", ".wmv", ".3gp", ".ogv"),
)
"""Of video files, those to be preferred first."""
FOLDER = "/"
"""The ending of clips that are folders of frames."""
SPLIT_NAMES = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
CLOSED = (".pkl", ".pickle", ".pt", ".pth")
"""Python pickles: they can run code when they are read."""


@dataclass(frozen=True)
class Place:
    """Folders that may hold all clips of one kind."""

    folder: str
    """Below the data root; ``{split}`` stands for train, val and test."""
    ending: str | tuple[str, ...]
    """Of the files, several where they mean the same (the first is preferred), or :data:`FOLDER`."""
    spelling: Callable[[str], str] = str
    """Clip to its name in this place, where a repository spells it otherwise. A name may begin with folders."""

    @property
    def endings(self) -> tuple[str, ...]:
        """All of them."""
        return (self.ending,) if isinstance(self.ending, str) else self.ending

    def folders(self, split: str | None = None) -> Iterator[str]:
        """Yield names of the folders, of one split or of all."""
        if "{split}" not in self.folder:
            yield self.folder
            return
        for names in SPLIT_NAMES.values() if split is None else (SPLIT_NAMES[split],):
            for name in names:
                yield self.folder.format(split=name)

    def __str__(self) -> str:
        return f"{self.folder}/*{'|'.join(self.endings)}"


def locate(
    what: str, root: Path, records: Sequence[Record], places: Sequence[Place], closed: Sequence[str] = ()
) -> list[Path]:
    """Return the media of every record: in the place that has most of them, the first of equals.

    All come from one place, so that no data set is half of one preparation and half of another.

    Args:
        what: kind of media, for messages.
        root: the data root.
        records: what is looked for; a clip is called as ``record.media``, which may begin with folders.
        places: where to look, those to be preferred first.
        closed: folders where repositories leave pickles of what they made from the media.

    Returns:
        One path per record. A clip that is not there has the path where it was expected.

    Raises:
        DatasetNotFoundError: if no place has any of them; says what was looked for.
    """
    wanted = {record.media for record in records}
    best: dict[str, Path] = {}
    chosen: Place | None = None
    for place in places:
        names = {media: place.spelling(media) for media in wanted}
        listed = _listed(root, place, names.values())
        found = {media: listed[name] for media, name in names.items() if name in listed}
        if len(found) > len(best):
            best, chosen = found, place
    if chosen is None:
        looked = ", ".join(str(place) for place in places)
        raise DatasetNotFoundError(
            f"no {what} of any listed clip under {root}; looked for {looked}.{_closed(root, places, closed)}"
        )
    # What is missing ends as what is there does.
    there = [ending for ending in chosen.endings if any(p.name.lower().endswith(ending) for p in best.values())]
    ending = (there or chosen.endings)[0]
    return [best.get(record.media) or _expected(root, chosen, ending, record) for record in records]


def _listed(root: Path, place: Place, names: Iterable[str]) -> dict[str, Path]:
    """Return everything of a place's kind in the folders where these names would be, by name."""
    parents = sorted({name.rpartition("/")[0] for name in names})
    found: dict[str, tuple[int, Path]] = {}
    for folder, parent in product(place.folders(), parents):
        try:
            with os.scandir(root / folder / parent) as entries:
                for entry in entries:
                    for rank, ending in enumerate(place.endings):
                        if ending == FOLDER:
                            stem = entry.name if entry.is_dir() else None
                        else:
                            stem = entry.name[: -len(ending)] if entry.name.lower().endswith(ending) else None
                        if stem is None:
                            continue
                        name = f"{parent}/{stem}" if parent else stem
                        if name not in found or rank < found[name][0]:
                            found[name] = rank, Path(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return {name: path for name, (_, path) in found.items()}


def _expected(root: Path, place: Place, ending: str, record: Record) -> Path:
    names = [*place.folders(record.split), *place.folders()]
    folder = next((name for name in names if (root / name).is_dir()), names[0])
    name = place.spelling(record.media)
    return root / folder / (name if ending == FOLDER else name + ending)


def _closed(root: Path, places: Sequence[Place], closed: Sequence[str]) -> str:
    """Return what is said where there are pickles in their stead."""
    for place in (*places, *(Place(folder, "") for folder in closed)):
        for folder in place.folders():
            if (root / folder).is_dir():
                with os.scandir(root / folder) as entries:
                    name = next((entry.name for entry in entries if entry.name.lower().endswith(CLOSED)), None)
                if name is not None:
                    return (
                        f" {folder}/{name} and files like it are pickles, which can run code when they are read, and "
                        "are never opened here; the sound files and frames that they were made from are needed."
                    )
    return ""
