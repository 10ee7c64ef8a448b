"""The command line: ``dus envs``, ``dus train``, ``dus compare``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from dus_gym.errors import ConfigError, DusError, unknown_name


def _envs(words: list[str]) -> None:
    from dus_gym.cli.envs import main as run

    run(words)


def _train(words: list[str]) -> None:
    from dus_gym.cli.train import main as run

    run(words)


def _compare(words: list[str]) -> None:
    from dus_gym.cli.compare import main as run

    run(words)


def _meta_train(words: list[str]) -> None:
    from dus_gym.cli.meta_train import main as run

    run(words)


COMMANDS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "envs": (_envs, "list the registered environments"),
    "train": (_train, "train one run under an agent"),
    "compare": (_compare, "compare agents over seeds"),
    "meta-train": (_meta_train, "train one policy over many runs and tasks"),
}

USAGE = "usage: dus COMMAND [options]\n\n" + "".join(f"  {name:<12}{text}\n" for name, (_, text) in COMMANDS.items())


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 failed while running, 2 asked for something that can't be."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE + "\ndus COMMAND --help shows a command's options.")
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        from dus_gym import __version__

        print(f"dus-gym {__version__}")
        sys.exit(0)
    try:
        if words[0] not in COMMANDS:
            raise unknown_name("command", words[0], COMMANDS)
        COMMANDS[words[0]][0](words[1:])
    except (ConfigError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        # Asked for something that can't be: a name, a value, a folder, files that are not there.
        print(f"dus: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has stopped (`dus envs | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (DusError, OSError) as error:
        print(f"dus: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("dus: interrupted; a run with --out can go on with --resume.", file=sys.stderr)
        sys.exit(130)
