"""Records: the samples of a published list, without their media; and the reading of its lines."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from dus_gym.errors import AnnotationError, DatasetNotFoundError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One sample of a data set, without its media."""

    sample: str
    """Unique within the data set; the key of caches."""
    split: str
    """``train``, ``validation`` or ``test``."""
    label: int
    """From 0."""
    media: str
    """The stem of its media files' names."""
    text: str = ""
    target: str = ""
    """The target of the sentiment (Twitter2015)."""
    windows: tuple[tuple[str, int, int], ...] = ()
    """Sensor, first frame and the frame after the last (NVGesture)."""
    group: str = ""
    """The actor or subject, for splits that share nobody."""


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines that are not empty, without line ends or a byte-order mark.

    Raises:
        DatasetNotFoundError: if the file is not there.
        AnnotationError: if it is not UTF-8.
    """
    # Not splitlines(): tweets hold characters such as U+2028 that it would break lines at.
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if stripped := line.rstrip("\r"):
            yield number, stripped


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a csv that are not empty, each with the number of the line it begins at.

    Raises:
        DatasetNotFoundError: if the file is not there.
        AnnotationError: if it is not UTF-8, or for a quotation mark that is never closed, which would make one field
            of all that follows.
    """
    reader = csv.reader(io.StringIO(f"{_text_of(path)}\n{_END}"))
    begins = 1
    try:
        for row in reader:
            if row == [_END]:
                return
            if row and row[-1].endswith(_END):
                raise csv.Error("one that opens here is not")
            if row:
                yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {begins}: expected every quotation mark closed ({error}).") from error


_END = "\x1fend of the file"
"""Appended to a csv: the last row, unless a quotation mark is open."""


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"{path} is not there.") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not UTF-8 text ({error}).") from error


def class_table(file: str) -> tuple[str, ...]:
    """Return the class names of a data set in the order of their ids, from a file in ``dus_gym/data/sets/``."""
    return tuple((files("dus_gym.data") / "sets" / file).read_text(encoding="utf-8").splitlines())


def bad_line(path: Path, number: int, line: str, expected: str) -> AnnotationError:
    """Return the error for a line that can't be read."""
    return AnnotationError(f"{path}, line {number}: expected {expected}, found {line[:120]!r}.")


def unique(records: Sequence[Record], path: Path) -> list[Record]:
    """Return the records, if no sample is listed twice.

    Raises:
        AnnotationError: naming the first that is.
    """
    repeated = [sample for sample, count in Counter(r.sample for r in records).items() if count > 1]
    if repeated:
        raise AnnotationError(f"{path} lists {repeated[0]!r} more than once ({len(repeated)} such samples).")
    return list(records)


def first_of(root: Path, names: Iterable[str]) -> Path | None:
    """Return the first of several spellings that is there, a glob allowed; None if none is."""
    for name in names:
        found = sorted(root.glob(name))
        if found:
            return found[0]
    return None


def one_of(what: str, root: Path, names: Sequence[str]) -> Path:
    """Return the file that :func:`first_of` finds.

    Raises:
        DatasetNotFoundError: if it finds none, naming them all; ``what`` says what is missing.
    """
    path = first_of(root, names)
    if path is None:
        raise DatasetNotFoundError(f"no {what} under {root}; looked for {', '.join(names)}.")
    return path
