"""Feed damaged inputs to every reader: each must end in an error of our own, or in a right result."""

import contextlib
import logging
import multiprocessing
import os
import resource
import tempfile
import time
import traceback
import warnings
from collections import Counter

from campaign.mutate import generator
from campaign.targets import FORMATS, Scratch

HANG = 8.0
"""Seconds of computing after which an input counts as one that never ends; waiting may take ten times as long, since a
machine may be busy."""
BATCH = 25
"""Inputs of one format in a row."""
MEMORY = 12 << 30
"""Bytes of address space of the process that reads: what is allocated on trust fails at once."""


def fuzz(inputs, seed=0, names=tuple(FORMATS), seconds=None):
    """Feed so many inputs, or until the time is over.

    Returns:
        Counts: ``inputs`` and by format, ``refused``, ``tracebacks``, ``hangs``, ``crashes``, ``wrong results``; and a
        line for each thing that went wrong, the first of its kind.
    """
    figures, wrong = Counter(inputs=0, refused=0, tracebacks=0, hangs=0, crashes=0), {}
    figures["wrong results"] = 0
    started, done = time.monotonic(), Counter()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="dus-fuzz-") as scratch:
        worker, skip = None, None
        while figures["inputs"] < inputs and (seconds is None or time.monotonic() - started < seconds):
            if worker is None:
                ours, theirs = context.Pipe()
                place = tempfile.mkdtemp(dir=scratch)
                worker = context.Process(target=_work, args=(theirs, place, seed, names, dict(done), skip), daemon=True)
                worker.start()
                theirs.close()
                wait = 300.0  # it imports, and makes what is damaged
            current = None
            try:
                while figures["inputs"] < inputs and (seconds is None or time.monotonic() - started < seconds):
                    if not _answers(ours, worker.pid, wait):
                        figures["hangs"] += 1
                        wrong.setdefault(f"{current}: hangs", None)
                        break
                    event, *said = ours.recv()
                    wait = HANG
                    if event == "input":
                        current = said
                    else:
                        name, number, detail = said
                        done[name] = number + 1
                        figures["inputs"] += 1
                        figures[f"inputs: {name}"] += 1
                        if event != "right":
                            figures[event] += 1
                        if event in ("tracebacks", "wrong results"):
                            wrong.setdefault(f"{name}: {detail}", number)
                        current = None
                else:
                    break
            except EOFError:
                figures["crashes"] += 1
                wrong.setdefault(f"{current}: the process died", None)
            worker.kill()
            worker.join()
            worker, skip = None, current
            if current is not None:
                name, number = current
                done[name] = number + 1
                figures["inputs"] += 1
                figures[f"inputs: {name}"] += 1
        if worker is not None:
            worker.kill()
            worker.join()
    return figures, [f"{said} (input {number} of seed {seed})" for said, number in wrong.items()]


def _answers(pipe, pid, wait):
    """Whether the worker says something before it has computed for so long."""
    begun, started = _computed(pid), time.monotonic()
    while not pipe.poll(0.5):
        if _computed(pid) - begun > wait or time.monotonic() - started > 10 * wait:
            return False
    return True


def _computed(pid):
    """Seconds that a process has computed; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _work(pipe, place, seed, names, done, skip):
    """Read inputs until killed; say before and after each which it is."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.chdir(place)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # Libraries of media write their complaints to the process's own stderr.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    scratch, targets = Scratch(place), {}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while True:
        for name in names:
            if name not in targets:
                target = targets[name] = FORMATS[name](scratch)
                wanted = target.read(target.whole) if target.sealed else None
                targets[name] = target, wanted
            target, wanted = targets[name]
            for _ in range(BATCH * target.weight):
                number = done.get(name, 0)
                done[name] = number + 1
                pipe.send(("input", name, number))
                damaged = target.damage(target.whole, generator(seed, name, number))
                pipe.send((*_outcome(target, wanted, damaged, name, number),))


def _outcome(target, wanted, damaged, name, number):
    """Return an event: ``right``, ``refused``, ``wrong results`` or ``tracebacks``, with what it was."""
    from dus_gym.errors import DusError

    try:
        found = target.read(damaged)
    except (DusError, OSError) as error:
        lines = str(error).strip().splitlines()
        said = str(error)
        if len(lines) != 1:
            return "tracebacks", name, number, f"{type(error).__name__} says {said[:200]!r}"
        return "refused", name, number, ""
    except BaseException as error:
        if type(error).__name__ == "ResetNeeded":
            raise
        last = [frame for frame in traceback.extract_tb(error.__traceback__) if "/campaign/" not in frame.filename]
        where = f"{os.path.basename(last[-1].filename)}:{last[-1].lineno}" if last else "here"
        ours = [frame for frame in last if "dus_gym" in frame.filename or "/agents/" in frame.filename
                or "/envs/" in frame.filename]  # fmt: skip
        by = f" by {os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else ""
        with contextlib.suppress(Exception):
            return "tracebacks", name, number, f"{type(error).__name__} at {where}{by}: {str(error)[:160]!r}"
        return "tracebacks", name, number, f"{type(error).__name__} at {where}{by}"
    if target.sealed and found != wanted:
        return "wrong results", name, number, "another result without an error"
    return "right", name, number, ""
