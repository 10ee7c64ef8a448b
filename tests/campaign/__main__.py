"""Attack the package: kill its commands, and feed every reader damaged inputs.

    python -m tests.campaign kills --count 60
    python -m tests.campaign fuzz --inputs 20000 --seconds 300

Exit code 0: nothing went wrong. Everything is made up in temporary folders.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaign.fuzz import FORMATS, fuzz
from campaign.kills import OPERATIONS, kills


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    killing = commands.add_parser("kills", help="kill commands at random moments and go on")
    killing.add_argument("--count", type=int, default=60, help="kills")
    killing.add_argument("--only", nargs="+", choices=list(OPERATIONS), default=list(OPERATIONS))
    feeding = commands.add_parser("fuzz", help="feed damaged inputs to every reader")
    feeding.add_argument("--inputs", type=int, default=20_000)
    feeding.add_argument("--only", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    for one in (killing, feeding):
        one.add_argument("--seconds", type=float, default=None, help="stop after so long")
        one.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.command == "kills":
        figures, wrong = kills(asked.count, asked.seed, tuple(asked.only), asked.seconds)
    else:
        figures, wrong = fuzz(asked.inputs, asked.seed, tuple(asked.only), asked.seconds)
    for name, number in figures.items():
        print(f"{name}: {number}")
    for line in wrong[:200]:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
