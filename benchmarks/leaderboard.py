"""The leaderboard: scores with everything needed to get them again.

    python -m dus_gym.benchmarks.leaderboard add runs/comparison          # rows of a finished comparison
    python -m dus_gym.benchmarks.leaderboard replay --row 1               # runs a row's call and compares
    python -m dus_gym.benchmarks.leaderboard show
    python -m dus_gym.benchmarks.leaderboard push OWNER/NAME              # these rows among those on the hub
    python -m dus_gym.benchmarks.leaderboard replay --hub OWNER/NAME --row 1

``benchmarks/leaderboard.csv`` is written by this program alone. On the Hugging Face hub a board is the same file in a
dataset repository. A row is one agent on one task with one method: the mean test accuracy over its seeds by the
method's own predictor, every seed's own, the commit, and the arguments of the :func:`dus_gym.compare` call that gets it
again.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any

from dus_gym.errors import ConfigError, DusError, NotOnHubError, first_line
from dus_gym.experiments.compare import compare
from dus_gym.experiments.comparison import TaskComparison
from dus_gym.experiments.spec import OWN_ID, RunSpec
from dus_gym.experiments.storage.comparison_folder import read_comparison
from dus_gym.experiments.storage.run_folder import CONFIG, read_object
from dus_gym.hub import SCHEME, HubFile, fetch, send
from dus_gym.json_text import read_json
from dus_gym.state import write_atomically
from dus_gym.statistics import mean_std

BOARD = Path(__file__).with_name("leaderboard.csv")
MOST_BYTES = 2**24
"""Of a board from the hub: about 30 000 rows."""
HEADLINE = "method"
NOT_IN_A_CALL = ("out", "resume", "force", "scale", "progress", "data_root", "trust")
"""Arguments of :func:`dus_gym.compare` that say nothing of a result; a file must not choose them."""


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard; every field is text, as in the file."""

    env: str
    method: str
    agent: str
    accuracy: str
    """Mean over seeds, per cent."""
    std: str
    seeds: str
    """Separated by spaces."""
    each: str
    """Accuracy of every seed, per cent, separated by spaces."""
    trainer: str
    data_kind: str
    select: str
    version: str
    commit: str
    call: str
    """Arguments of :func:`dus_gym.compare`, as a JSON object."""

    @property
    def key(self) -> tuple[str, str]:
        """Tell whether an entry replaces an older one: the same call and agent."""
        return self.call, self.agent


def read(path: Path = BOARD) -> list[Entry]:
    """Return the entries in the file; none if it is not there.

    Raises:
        ConfigError: for a file with other columns, or an entry that lacks one, holds what is no line of text, or whose
            accuracy is no number or whose call is no object.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no CSV file ({first_line(error)}).") from error
    expected = [field.name for field in fields(Entry)]
    if reader.fieldnames != expected:
        raise ConfigError(f"{path} has columns {reader.fieldnames}; a leaderboard has {expected}.")
    for number, row in enumerate(rows, start=1):
        # What others wrote goes to a terminal, which obeys more than letters.
        if row.keys() != set(expected) or not all(
            isinstance(text, str) and text.isprintable() for text in row.values()
        ):
            raise ConfigError(f"{path}, row {number} is no row of {len(expected)} plain texts.")
    entries = [Entry(**row) for row in rows]
    for number, entry in enumerate(entries, start=1):
        try:
            float(entry.accuracy)
        except (TypeError, ValueError):
            raise ConfigError(f"{path}, row {number}: accuracy={entry.accuracy!r} is no number.") from None
        arguments_of(entry, f"{path}, row {number}")
    return entries


def arguments_of(entry: Entry, where: str) -> dict[str, Any]:
    """Return an entry's arguments of :func:`dus_gym.compare`.

    Raises:
        ConfigError: if its call is no JSON object, or chooses what a file must not choose.
    """
    try:
        found = read_json(entry.call)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: call={entry.call!r} is no JSON object.")
    if chosen := [name for name in NOT_IN_A_CALL if name in found]:
        raise ConfigError(f"{where}: a call must not set {', '.join(chosen)}.")
    return found


def merged(board: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Return the rows of a board with new ones, which replace those of the same call and agent."""
    keys = {row.key for row in new}
    return [row for row in board if row.key not in keys] + list(new)


def write(entries: Sequence[Entry], path: Path = BOARD) -> None:
    """Replace the file whole."""
    write_atomically(path, as_csv(entries))


def as_csv(entries: Sequence[Entry]) -> bytes:
    """Return a board as its file holds it: best first within a task."""
    ordered = sorted(entries, key=lambda entry: (entry.env, -float(entry.accuracy), entry.method, entry.agent))
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Entry)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(entry) for entry in ordered)
    return text.getvalue().encode()


def on_hub(repo: str) -> HubFile:
    """Return the board of a dataset repository, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``."""
    return HubFile.of(f"{SCHEME}datasets/{repo}", BOARD.name)


def pull(repo: str) -> list[Entry]:
    """Return the rows of a board on the hub.

    Raises:
        DusError: if it is not there, can't be fetched, or is no board.
    """
    return read(fetch(on_hub(repo), MOST_BYTES, again=True).path)


def push(entries: Sequence[Entry], repo: str) -> str:
    """Put rows among those of a board on the hub, which is made if it is not there.

    Returns:
        The commit.

    Raises:
        DusError: if the board there is none, or the hub can't be reached, says no, or was changed in between.
    """
    file = on_hub(repo)
    try:
        there = fetch(file, MOST_BYTES, again=True)
    except NotOnHubError:
        board, parent = [], None
    else:
        board, parent = read(there.path), there.commit
    return send(
        {file.filename: as_csv(merged(board, entries))},
        file.repo_id,
        f"{len(entries)} rows",
        kind=file.kind,
        revision=file.revision,
        parent=parent,
    )


def call_of(spec: RunSpec, agent: str, seeds: Sequence[int]) -> str:
    """Return the call that runs one agent of a comparison again, from the spec of one of the comparison's runs."""
    given = {
        "method_options": dict(spec.method_options),
        "task_options": dict(spec.task_options),
        "trainer": spec.trainer,
        "threads": None if spec.threads == 1 else spec.threads,
    }
    call = {"env": spec.env, "agents": [agent], "seeds": list(seeds), "method": spec.method}
    return json.dumps(call | {name: value for name, value in given.items() if value} | dict(spec.settings))


def commit_of(folder: Path) -> str:
    """The commit that is checked out, with ``+`` where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def entries_of(comparison: Path, commit: str) -> list[Entry]:
    """Return a finished comparison as entries, one per agent.

    Raises:
        FileNotFoundError: if the comparison is not finished.
        ConfigError: for a folder of several comparisons, or data of one's own.
    """
    found = read_comparison(comparison)
    if len(found.parts) > 1:
        raise ConfigError(f"{comparison} holds several comparisons; give the folders below it that have one each.")
    (part,) = found.parts
    if part.env == OWN_ID:
        raise ConfigError(f"{comparison} is on data of your own, which nobody else can replay; use a registered id.")
    return _entries(part, RunSpec.of(read_object(comparison / CONFIG)["first"]), commit)


def _entries(part: TaskComparison, spec: RunSpec, commit: str) -> list[Entry]:
    """One part of a comparison as entries."""
    entries = []
    for agent, figures in part.agents.items():
        accuracies = figures.by_seed[HEADLINE]
        if accuracies is None:
            raise ConfigError(f"method={part.method!r} has no prediction of its own to rank {agent} by.")
        each = [100.0 * value for value in accuracies]
        spread = mean_std(each)
        entries.append(
            Entry(
                env=part.env,
                method=part.method,
                agent=agent,
                accuracy=f"{spread.mean:.2f}",
                std="" if spread.std is None else f"{spread.std:.2f}",
                seeds=" ".join(map(str, part.seeds)),
                each=" ".join(f"{value:.2f}" for value in each),
                trainer=part.trainer,
                data_kind=part.data_kind,
                select=part.select,
                version=part.version,
                commit=commit,
                call=call_of(spec, agent, part.seeds),
            )
        )
    return entries


def replay(entry: Entry, tolerance: float, data_root: str | None = None) -> float:
    """Run an entry's call; return how far its mean lies from the entry's, in points.

    Raises:
        DusError: if it lies further off than ``tolerance``, or for a tolerance of 0 if any seed does.
    """
    call = arguments_of(entry, "the entry")
    (part,) = compare(**call, data_root=data_root).parts
    accuracies = part.agents[entry.agent].by_seed[HEADLINE]
    assert accuracies is not None
    again = f"{100.0 * sum(accuracies) / len(accuracies):.2f}"
    each = " ".join(f"{100.0 * value:.2f}" for value in accuracies)
    off = abs(float(again) - float(entry.accuracy))
    print(f"{entry.env}, {entry.method} under {entry.agent}: {entry.accuracy} on the board, {again} now")
    print("every seed is the same" if each == entry.each else f"seeds then {entry.each}\nseeds now  {each}")
    if off > tolerance:
        raise DusError(f"the row is off by {off:.2f} points; {tolerance:g} are allowed: compare(**{entry.call})")
    if tolerance == 0.0 and each != entry.each:
        raise DusError(f"the row's mean is right, but not its seeds: compare(**{entry.call})")
    return off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="add the rows of finished comparisons")
    adding.add_argument("comparisons", type=Path, nargs="+")
    replaying = commands.add_parser("replay", help="run one row's call and compare")
    replaying.add_argument("--row", type=int, default=1, help="line of the board, from 1")
    replaying.add_argument(
        "--tolerance", type=float, default=0.0, help="points; another processor may round other last bits"
    )
    replaying.add_argument("--data-root")
    showing = commands.add_parser("show", help="print the board")
    for command in (replaying, showing):
        command.add_argument("--hub", metavar="OWNER/NAME", help="a board on the hub in place of the one here")
    pushing = commands.add_parser("push", help="put rows among those of a board on the Hugging Face hub")
    pushing.add_argument("repo", metavar="OWNER/NAME")
    pushing.add_argument("comparisons", type=Path, nargs="*", help="their rows; the board here if none is given")
    arguments = parser.parse_args()
    try:
        board = pull(arguments.hub) if getattr(arguments, "hub", None) else read()
        made = getattr(arguments, "comparisons", [])
        new = [row for path in made for row in entries_of(path, commit_of(BOARD.parent))]
        if arguments.command == "add":
            write(merged(board, new))
        elif arguments.command == "push":
            sent = new or board
            print(f"{len(sent)} rows in commit {push(sent, arguments.repo)} of {on_hub(arguments.repo)}")
        elif arguments.command == "replay":
            if not 1 <= arguments.row <= len(board):
                raise ConfigError(f"row={arguments.row} is not allowed; the board has rows 1 to {len(board)}.")
            replay(board[arguments.row - 1], arguments.tolerance, arguments.data_root)
        else:
            for number, row in enumerate(board, start=1):
                print(f"{number:3} {row.accuracy:>6} ± {row.std:<5} {row.env:<24} {row.method} under {row.agent}")
    except (DusError, FileNotFoundError) as error:
        sys.exit(f"leaderboard: {error}")


if __name__ == "__main__":
    main()
