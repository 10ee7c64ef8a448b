"""Kill commands at random moments, go on, and compare the end with that of an undisturbed run, to the bit."""

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

POINTS = ("replace", "rename", "unlink", "mkdir", "fsync", "rmdir")
"""Calls of the file system before which a process may kill itself: the gaps between them are where harm is done."""
TIMELESS = ("seconds", "agent_seconds", "peak_memory_mib", "peak_device_memory_mib", "costs", "agent_share")


@dataclass(frozen=True)
class Operation:
    """A command that may be killed, and what it leaves."""

    words: tuple[str, ...]
    """``OUT`` stands for the folder or file that it writes."""
    resume: str | None = None
    """The word by which it goes on; None: the same command goes on."""
    leaves: str = "**/*"
    """Files whose bytes must be the same at the end; JSON without what a run costs."""
    setup: tuple[str, ...] = ()
    """A command that is called once before, undisturbed."""


FAKE = ("DUS-Fake-v0", "--quiet")
OPERATIONS = {
    "train, fake": Operation(("train", *FAKE, "--agent", "reinforce", "--epochs", "40", "--out", "OUT"), "--resume"),
    "train, digits": Operation(
        ("train", "DUS-Digits-v0", "--agent", "pi", "--epochs", "2", "--quiet", "--out", "OUT"), "--resume"
    ),
    "compare": Operation(
        ("compare", *FAKE, "--agents", "pi,fixed:shares=1/3", "--seeds", "3", "--epochs", "8", "--out", "OUT"),
        "--resume",
    ),
    "data mock": Operation(("data", "mock", "sarcasm", "--clips", "12", "--quiet", "--root", "OUT")),
    "data build": Operation(
        ("data", "build", "sarcasm", "--quiet", "--root", "OUT"),
        leaves=".dus-cache/**/*",
        setup=("data", "mock", "sarcasm", "--clips", "12", "--quiet", "--root", "OUT"),
    ),
    "reproduce": Operation(
        ("reproduce", "table1", "--datasets", "cremad", "--methods", "MLA,DUS/MLA", "--trainer", "fake", "--epochs",
         "10", "--quiet", "--out", "OUT"), leaves="*.*",
    ),
    "meta-train": Operation(
        ("meta-train", "DUS-Fake-v0", "--runs", "12", "--epochs", "5", "--trainer", "fake", "--seeds", "100,101",
         "--eval-seeds", "120,", "--quiet", "--force", "--out", "OUT/policy.safetensors")
    ),
}  # fmt: skip


def call(words):
    """Run a command in a child process; return its exit code and what it wrote to stderr."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(write, 2)
        _run(words)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def call_and_kill(words, rng, longest):
    """Run a command in a child that is killed after a while, or before the n-th change of the file system.

    Returns:
        Whether it was killed before its end.
    """
    point = rng.randrange(1, 60) if rng.random() < 0.6 else None
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if point is not None:
            _die_at(point)
        _run(words)
    deadline = time.monotonic() + (longest if point is not None else rng.uniform(0.0, longest))
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _die_at(point):
    """Let this process kill itself before its n-th change of the file system."""
    left = point

    def guarded(function):
        def before(*words, **options):
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **options)

        return before

    for name in POINTS:
        setattr(os, name, guarded(getattr(os, name)))


def _run(words):
    """Be the command, and end."""
    code = 1
    try:
        from dus_gym.cli import main

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with contextlib.redirect_stdout(io.StringIO()):
            main(list(words))
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def result_of(operation, out):
    """What an operation leaves, by file; JSON without what runs cost."""
    found = {}
    for path in sorted(out.glob(operation.leaves)):
        # The checkpoint holds the seconds that were spent; it is not what a finished run is read from.
        if path.is_dir() or path.name in ("checkpoint.safetensors", "report.html") or path.suffix == ".png":
            continue
        # What a killed process left of a lock or of a file outside run folders is no result.
        # What a taking-over left beside a lock, the next one to take it deletes after a minute.
        if re.search(r"lock\.(stale|now)-", path.name) or (
            # A build that was killed when it had finished: nobody takes the lock of a store that is there.
            path.name[0] == "." and (path.suffix == ".lock" or path.suffix[1:].isdecimal())
        ):
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(_timeless(json.loads(content)))
        found[path.relative_to(out).as_posix()] = content
    return found


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(child) for key, child in value.items() if key not in TIMELESS}
    return [_timeless(child) for child in value] if isinstance(value, list) else value


def named(words, out):
    return [word.replace("OUT", str(out)) for word in words]


def finish(operation, out):
    """Go on until the end; return what is wrong, or None."""
    words, said = named(operation.words, out), ""
    attempts = [[*words, operation.resume], words] if operation.resume else [words]
    for attempt in attempts:
        code, said = call(attempt)
        if code == 0:
            return None
    return said.strip()


def prepare(operation, out):
    """Make the folder that an operation begins with. It is always the same one: paths are a part of some results."""
    shutil.rmtree(out, ignore_errors=True)
    if "OUT/" in operation.words[-1]:
        out.mkdir()
    if operation.setup:
        ready = out.with_name("ready")
        if not ready.exists() and call(named(operation.setup, ready))[0]:
            raise RuntimeError(f"{operation.setup} failed")
        # With its times: they tell whether a file has changed.
        shutil.copytree(ready, out)


def kills(count, seed=0, names=tuple(OPERATIONS), seconds=None):
    """Kill until there were ``count`` kills or the time is over; print and return the figures.

    Returns:
        Counts: ``kills``, ``ends`` (times a killed command was gone on with), ``not continued``, ``wrong results``;
        and a line each of what went wrong.
    """
    os.environ["DUS_CHECKPOINT_SECONDS"] = "0.01"
    from dus_gym.cli import main  # noqa: F401 - once, here: children are forked with everything loaded
    from dus_gym.experiments.run import execute  # noqa: F401

    figures, wrong = Counter(), []
    rng, started = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dus-kills-") as scratch:
        whole, longest = {}, {}
        out = Path(scratch) / "out"
        for name in names:
            operation = OPERATIONS[name]
            prepare(operation, out)
            begun = time.monotonic()
            code, said = call(named(operation.words, out))
            if code:
                raise RuntimeError(f"{name} failed: {said}")
            whole[name], longest[name] = result_of(operation, out), time.monotonic() - begun
        trial = 0
        while figures["kills"] < count and (seconds is None or time.monotonic() - started < seconds):
            name = names[trial % len(names)]
            operation = OPERATIONS[name]
            trial += 1
            prepare(operation, out)
            for _ in range(rng.choice((1, 3, 6))):
                words = named(operation.words, out)
                # As a user would: go on where there is something, else start.
                again = operation.resume and (out / "config.json").exists()
                killed = call_and_kill([*words, operation.resume] if again else words, rng, 1.2 * longest[name])
                figures["kills"] += killed
                figures[f"kills: {name}"] += killed
            figures["ends"] += 1
            problem = finish(operation, out)
            if problem is not None:
                figures["not continued"] += 1
                wrong.append(f"{name}, trial {trial - 1} of seed {seed}: {problem.splitlines()[-1][:300]}")
                if len(wrong) < 4:
                    print(wrong[-1], flush=True)
            elif (found := result_of(operation, out)) != whole[name]:
                figures["wrong results"] += 1
                differing = [key for key in found.keys() | whole[name].keys() if found.get(key) != whole[name].get(key)]
                wrong.append(f"{name}, trial {trial - 1} of seed {seed}: {', '.join(sorted(differing)[:5])} differ")
                if len(wrong) < 4:
                    print(wrong[-1], flush=True)
    return figures, wrong
