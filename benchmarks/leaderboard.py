"""The leaderboard: scores with everything needed to get them again.

    python -m dus_gym.benchmarks.leaderboard add runs/comparison          # rows of a finished `dus compare`
    python -m dus_gym.benchmarks.leaderboard replay --row 1               # runs a row's command and compares
    python -m dus_gym.benchmarks.leaderboard show

``benchmarks/leaderboard.csv`` is written by this program alone. A row is one agent on one task with one method: the
mean test accuracy over its seeds by the method's own predictor, every seed's own, and the exact command and commit.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path

from dus_gym.cli import main as dus
from dus_gym.cli.options import OWN_ID
from dus_gym.errors import ConfigError, DusError
from dus_gym.experiments.command import compare_command
from dus_gym.experiments.storage.run_folder import COMPARISON, CONFIG, folder_of, read_object
from dus_gym.state import write_atomically
from dus_gym.statistics import mean_std

BOARD = Path(__file__).with_name("leaderboard.csv")


@dataclass(frozen=True)
class Row:
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
    command: str

    @property
    def key(self) -> tuple[str, str]:
        """A row of the same command and agent replaces an older one."""
        return self.command, self.agent


def read(path: Path = BOARD) -> list[Row]:
    """The rows in the file; none if it is not there.

    Raises:
        ConfigError: for a file with other columns, or a row whose accuracy is no number.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        expected = [field.name for field in fields(Row)]
        if reader.fieldnames != expected:
            raise ConfigError(f"{path} has columns {reader.fieldnames}; a leaderboard has {expected}.")
        rows = [Row(**row) for row in reader]
    for number, row in enumerate(rows, start=1):
        try:
            float(row.accuracy)
        except (TypeError, ValueError):
            raise ConfigError(f"{path}, row {number}: accuracy={row.accuracy!r} is no number.") from None
    return rows


def write(rows: Sequence[Row], path: Path = BOARD) -> None:
    """Replaces the file whole; best first within a task."""
    ordered = sorted(rows, key=lambda row: (row.env, -float(row.accuracy), row.method, row.agent, row.command))
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in ordered)
    write_atomically(path, text.getvalue().encode())


def commit_of(folder: Path) -> str:
    """The commit that is checked out, with ``+`` where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def rows_of(comparison: Path, commit: str) -> list[Row]:
    """A finished comparison as rows, one an agent.

    Raises:
        FileNotFoundError: if the comparison is not finished.
        ConfigError: for a folder of several comparisons, data of one's own, or runs that are gone.
    """
    config, result = read_object(comparison / CONFIG), read_object(comparison / COMPARISON)
    if "comparisons" in result:
        raise ConfigError(f"{comparison} holds several comparisons; give the folders below it that have one each.")
    if result["env"] == OWN_ID:
        raise ConfigError(f"{comparison} is on data of your own, which nobody else can replay; use a registered id.")
    folders = sorted(comparison.glob("*/seed*/summary.json"))
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in folders]
    found = []
    for agent in result["agents"]:
        mine = {
            summary["seed"]: 100.0 * summary["fused"]["method"]["accuracy"]
            for path, summary in zip(folders, summaries, strict=True)
            if path.parent.parent.name == folder_of(agent)
        }
        if lost := [seed for seed in result["seeds"] if seed not in mine]:
            raise ConfigError(f"{comparison} lacks runs of {agent} with seeds {lost}; run dus compare --resume.")
        each = [mine[seed] for seed in result["seeds"]]
        of = mean_std(each)
        found.append(
            Row(
                env=result["env"],
                method=result["method"],
                agent=agent,
                accuracy=f"{of.mean:.2f}",
                std="" if of.std is None else f"{of.std:.2f}",
                seeds=" ".join(map(str, result["seeds"])),
                each=" ".join(f"{value:.2f}" for value in each),
                trainer=result["trainer"],
                data_kind=result["data_kind"],
                select=result["select"],
                version=result["version"],
                commit=commit,
                command=compare_command(config["first"], agent, config["seeds"]),
            )
        )
    return found


def replay(row: Row, tolerance: float, data_root: str | None = None) -> float:
    """Runs a row's command; returns how far its mean lies from the row's, in points.

    Raises:
        DusError: if it lies further off than ``tolerance``, or for a tolerance of 0 if any seed does.
    """
    words = shlex.split(row.command)[1:]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "replay"
        extra = [] if data_root is None else ["--data-root", data_root]
        dus([*words, "--out", str(out), "--quiet", *extra])
        (again,) = [found for found in rows_of(out, row.commit) if found.agent == row.agent]
    off = abs(float(again.accuracy) - float(row.accuracy))
    print(f"{row.env}, {row.method} under {row.agent}: {row.accuracy} on the board, {again.accuracy} now")
    print("every seed is the same" if again.each == row.each else f"seeds then {row.each}\nseeds now  {again.each}")
    if off > tolerance:
        raise DusError(f"the row is off by {off:.2f} points; {tolerance:g} are allowed: {row.command}")
    if tolerance == 0.0 and again.each != row.each:
        raise DusError(f"the row's mean is right, but not its seeds: {row.command}")
    return off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="add the rows of finished comparisons")
    adding.add_argument("comparisons", type=Path, nargs="+")
    replaying = commands.add_parser("replay", help="run one row's command and compare")
    replaying.add_argument("--row", type=int, default=1, help="line of the board, from 1")
    replaying.add_argument(
        "--tolerance", type=float, default=0.0, help="points; another processor may round other last bits"
    )
    replaying.add_argument("--data-root")
    commands.add_parser("show", help="print the board")
    arguments = parser.parse_args()
    try:
        board = read()
        if arguments.command == "add":
            new = [row for path in arguments.comparisons for row in rows_of(path, commit_of(BOARD.parent))]
            keys = {row.key for row in new}
            write([row for row in board if row.key not in keys] + new)
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
