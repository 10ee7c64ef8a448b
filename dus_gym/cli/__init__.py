"""The command line: ``dus COMMAND``, one module per command."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from dus_gym.data.surveys import surveys_kept
from dus_gym.errors import ConfigError, DusError, unknown_name
from dus_gym.experiments.executors.executor import IMPORTED

COMMANDS = {
    "envs": "list the registered environments",
    "methods": "list the multimodal methods and their options",
    "agents": "list the agents and their options",
    "rewards": "list the rewards",
    "train": "train one run under an agent",
    "compare": "compare agents over seeds",
    "ceiling": "search for the most that any allocation could gain, and set agents beside it",
    "reproduce": "re-run the paper's tables and figures beside the printed numbers",
    "meta-train": "train one policy over many runs and tasks",
    "push": "publish a policy on the Hugging Face hub",
    "data": "list, scan, build, fetch and mock data sets",
    "watch": "show a run while it goes on",
    "probe": "show what each modality of a finished run knows, contributes and costs",
    "report": "write a run or a comparison as one HTML page",
    "runs": "list, show, compare, export and delete runs",
    "validate": "run a run again and say whether every bit is the same",
}
"""Command to what it does."""
LISTINGS = ("envs", "methods", "agents", "rewards")
"""Each is a function of the module ``listings``; every other command is ``main`` of a module of its own name. They are
imported when they are called."""

RESUMABLE = {"train", "compare", "ceiling"}
"""Commands with ``--resume``."""

LONGEST = 2000
"""Characters of a message."""

ALLOCATIONS = 10_000
"""New containers between two looks for garbage, in a process that runs one command."""

TASKS = {
    "train one run, with uniform beside it": "dus train DUS-Digits-v0",
    "compare agents over seeds": "dus compare DUS-Digits-v0 --agents steady,score --seeds 5",
    "use data of your own": "dus compare --data my.npz --agents steady --seeds 5",
    "write a run or a comparison as a page": "dus report FOLDER",
    "go on with what was stopped": "dus compare DUS-Digits-v0 --out FOLDER --resume",
}
"""Common tasks and their commands."""
USAGE = (
    "usage: dus COMMAND [options]\n\n"
    + "".join(f"  {does:<40}{line}\n" for does, line in TASKS.items())
    + "\nall commands:\n\n"
    + "".join(f"  {name:<12}{text}\n" for name, text in COMMANDS.items())
    + "\n--import MODULE behind any command first imports a module of yours, which may call dus_gym.register_task.\n"
)


def import_modules(words: Sequence[str]) -> list[str]:
    """Import the modules that ``--import`` names, from the current folder too, and return the other words.

    Raises:
        ConfigError: for one that is not there.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--import", dest="modules", action="append", default=[])
    try:
        found, left = parser.parse_known_args(words)
    except argparse.ArgumentError:
        found, left = argparse.Namespace(modules=[""]), []
    IMPORTED.clear()
    for name in found.modules:
        if not name:
            raise ConfigError("--import needs the name of a module, as in import NAME.")
        if name.endswith(".py"):
            raise ConfigError(
                f"import={name!r} is not allowed; give the name of a module, not its file: --import {Path(name).stem}, "
                "from its folder."
            )
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"import={name!r} failed: no module {error.name!r} here or installed.") from error
        IMPORTED.append(name)
    return left


def _shortened(message: str) -> str:
    """A message without the middle of a value that fills screens."""
    return message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} … {message[-LONGEST // 4 :]}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed while running, 2 asked for something that can't be."""
    try:
        try:
            code = _run(list(sys.argv[1:] if argv is None else argv))
        except SystemExit as ended:
            code = ended.code or 0  # type: ignore[assignment]
        # What is left in the buffer may find the pipe closed, too.
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has stopped (`dus envs | head`): nothing is wrong.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = 0
    if code is not None:
        sys.exit(code)


@contextmanager
def _log_kept() -> Iterator[None]:
    """Leave the package's log as it was: a command shows what is logged, and the program that called it need not."""
    log = logging.getLogger("dus_gym")
    level, handlers = log.level, log.handlers
    try:
        yield
    finally:
        log.setLevel(level)
        log.handlers = handlers


def _run(words: list[str]) -> int | None:
    """Run one command and return its exit code, None once it is done; a command may exit by itself."""
    asked = words
    # Loading PyTorch and matplotlib leaves no garbage; looking for it every 700 containers is a tenth of a short run.
    gc.set_threshold(ALLOCATIONS, *gc.get_threshold()[1:])
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter, and names of files that are no text, end no command.
        if isinstance(stream, TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")
    if not words or words[0] in ("-h", "--help"):
        print(USAGE + "\ndus COMMAND --help shows a command's options.")
        return 0 if words else 2
    if words[0] == "--version":
        from dus_gym import __version__

        print(f"dus-gym {__version__}")
        return 0
    try:
        name, *words = import_modules(words) or [""]
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        module, function = ("listings", name) if name in LISTINGS else (name.replace("-", "_"), "main")
        with surveys_kept(), _log_kept():
            getattr(import_module(f"dus_gym.cli.{module}"), function)(words)
    except (ConfigError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        # Asked for something that can't be: a name, a value, a folder, files that are not there.
        print(f"dus: {_shortened(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except (DusError, OSError) as error:
        print(f"dus: {_shortened(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # A second Ctrl-C ends the process at once, without a word.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        hint = "; a run with --out can go on with --resume" if RESUMABLE & set(asked) else ""
        print(f"dus: interrupted{hint}.", file=sys.stderr)
        return 130
    return None
