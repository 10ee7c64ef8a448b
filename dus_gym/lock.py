"""One process at a time: a lock file that a dead process can't hold for ever."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dus_gym.json_text import read_json

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0


def said(record: dict[str, Any]) -> str:
    """A holder in words."""
    host, pid = str(record.get("host", "")).partition("/")[0], record.get("pid")
    return f"process {pid} on {host}" if host and pid else "a process that has just begun"


class LockLostError(RuntimeError):
    """Somebody took the lock over, because this process seemed dead."""


def _host() -> str:
    """The machine and, where there are containers, the space that process ids count in."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


class LockHeldError(RuntimeError):
    """A living process holds the lock; the message names it."""


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine has this number."""
    try:
        os.kill(max(pid, 1), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return True


class FileLock:
    """Waits until the lock is free or its holder is dead, then holds it.

    The file is made with ``O_EXCL`` and holds host and process id; a thread touches it every few seconds. A holder
    on this machine whose process is gone is dead at once; any other is when the file was not touched for
    ``stale`` seconds by the waiter's own clock, so that clocks of two machines need not agree.

    Args:
        path: the lock file; its folder is made.
        beat: seconds between touches.
        stale: seconds without a touch after which the holder counts as dead.
    """

    def __init__(self, path: Path, beat: float = BEAT_SECONDS, stale: float = STALE_SECONDS) -> None:
        self.path = path
        self.beat = beat
        self.stale = stale
        self._token = secrets.token_hex(8)
        self._descriptor: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        seen: tuple[str, int] | None = None
        since = time.monotonic()
        while not self._create():
            holder = self._holder()
            if holder is None:
                continue  # released in between
            record, touched = holder
            token = str(record.get("token"))
            if (token, touched) != seen:
                seen, since = (token, touched), time.monotonic()
            if self._dead(record) or time.monotonic() - since > self.stale:
                self._remove(token)
                continue
            time.sleep(min(0.1, self.beat))
        self._start()
        return self

    def take(self) -> Self:
        """Holds the lock at once or not at all.

        Raises:
            LockHeldError: if a living process holds it. Another machine's counts as living until its file is
                ``stale`` seconds older than one made beside it now, by the clock of the file system.
        """
        while not self._create():
            holder = self._holder()
            if holder is None:
                continue  # released in between
            record, touched = holder
            if not (self._dead(record) or self._now() - touched > self.stale * 1e9):
                raise LockHeldError(said(record))
            self._remove(str(record.get("token")))
        self._start()
        return self

    def release(self) -> None:
        """Lets go; does nothing where the lock is not held."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self.held:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def holder(self) -> str | None:
        """The living process that holds the lock, in words; None if there is none. Changes nothing."""
        found = self._holder()
        if found is None or self._dead(found[0]) or time.time_ns() - found[1] > self.stale * 1e9:
            return None
        return said(found[0])

    @property
    def held(self) -> bool:
        """Return whether the file is still ours."""
        holder = self._holder()
        return holder is not None and holder[0].get("token") == self._token

    def check(self) -> None:
        """Raises LockLostError if somebody took the lock over."""
        if not self.held:
            raise LockLostError(f"{self.path} was taken over by another process.")

    def _start(self) -> None:
        self._sweep()
        self._stop.clear()
        self._thread = threading.Thread(target=self._touch, name=f"lock {self.path.name}", daemon=True)
        self._thread.start()

    def _now(self) -> int:
        """The file system's time, ns."""
        beside = self.path.with_name(f".{self.path.name}.now-{self._token}")
        beside.touch()
        now = beside.stat().st_mtime_ns
        beside.unlink()
        return now

    def _create(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, json.dumps({"host": _host(), "pid": os.getpid(), "token": self._token}).encode())
        except BaseException:
            os.close(descriptor)
            self.path.unlink(missing_ok=True)
            raise
        self._descriptor = descriptor
        return True

    def _holder(self) -> tuple[dict[str, Any], int] | None:
        """Return what the file says and when it was touched, ns; nothing of a file that is being written or damaged."""
        try:
            text, touched = self.path.read_bytes(), self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        try:
            record = read_json(text)
        except ValueError:
            record = None
        return (record if isinstance(record, dict) else {}), touched

    @staticmethod
    def _dead(record: dict[str, Any]) -> bool:
        if record.get("host") != _host() or not isinstance(record.get("pid"), int):
            return False
        return not is_alive(record["pid"])

    def _remove(self, token: str) -> None:
        """Takes a dead holder's file away; a file that turns out to be a living holder's is put back."""
        aside = self.path.with_name(f".{self.path.name}.stale-{self._token}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        try:
            found = str(read_json(aside.read_bytes()).get("token"))
        except (ValueError, AttributeError):
            found = str(None)
        if found != token:
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
        aside.unlink()

    def _sweep(self) -> None:
        """Delete what processes that were killed while they took this lock over left beside it, after a while: one that
        takes it over at this moment needs its own.
        """
        now = self._now()
        for kind in ("stale", "now"):
            for beside in self.path.parent.glob(f".{glob.escape(self.path.name)}.{kind}-*"):
                with contextlib.suppress(FileNotFoundError):
                    # When it got this name; the lock it was may be far older.
                    if now - beside.stat().st_ctime_ns > self.stale * 1e9:
                        beside.unlink()

    def _touch(self) -> None:
        while not self._stop.wait(self.beat):
            if self._descriptor is not None:
                # By descriptor: a file of the same name may be another holder's by now.
                os.utime(self._descriptor)
