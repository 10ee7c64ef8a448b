"""A lock file: one living holder, named; a dead one holds nothing."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dus_gym.lock import FileLock, LockHeldError


def held_by(path, **record):
    path.write_text(json.dumps({"token": "other"} | record))


def test_a_second_process_is_told_who_holds_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from dus_gym.lock import FileLock;"
        "lock = FileLock(Path(sys.argv[1])).take(); print('held', flush=True); sys.stdin.read(); lock.release()"
    )
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        assert FileLock(path).holder().startswith(f"process {other.pid} on ")
        with pytest.raises(LockHeldError, match=f"process {other.pid} on "):
            FileLock(path).take()
        other.stdin.close()
        assert other.wait(timeout=20) == 0
    assert not path.exists()
    assert FileLock(path).holder() is None
    FileLock(path).take().release()


def test_what_a_killed_process_held_is_free_at_once(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path; from dus_gym.lock import FileLock;"
        "FileLock(Path(sys.argv[1])).take(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert path.exists()
    assert FileLock(path).holder() is None
    FileLock(path).take().release()


def test_another_machine_s_lock_counts_until_nobody_touches_it(tmp_path):
    path = tmp_path / "lock"
    held_by(path, host="elsewhere/1", pid=os.getpid())
    with pytest.raises(LockHeldError, match=f"process {os.getpid()} on elsewhere"):
        FileLock(path).take()
    os.utime(path, (time.time() - 3600,) * 2)
    assert FileLock(path).holder() is None
    FileLock(path).take().release()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_taking_over_left_is_deleted_after_a_while(tmp_path):
    path = tmp_path / "lock"
    for left in (".lock.stale-a", ".lock.now-b", ".other.stale-a"):
        (tmp_path / left).write_text("")
    FileLock(path).take().release()
    assert len(list(tmp_path.iterdir())) == 3, "somebody may be taking it over at this moment"
    time.sleep(0.05)
    FileLock(path, beat=0.01, stale=0.02).take().release()
    assert [left.name for left in tmp_path.iterdir()] == [".other.stale-a"]


def test_a_lock_that_is_just_being_written_is_held(tmp_path):
    path = tmp_path / "lock"
    path.write_text("")
    with pytest.raises(LockHeldError, match="just begun"):
        FileLock(path).take()


def test_waiting_ends_when_the_holder_lets_go(tmp_path):
    first = FileLock(tmp_path / "lock").take()
    threading.Timer(0.3, first.release).start()
    with FileLock(tmp_path / "lock") as second:
        assert second.held
        assert not first.held


def test_of_many_at_once_exactly_one_gets_it(tmp_path):
    got, lost = [], []

    def reach():
        try:
            got.append(FileLock(tmp_path / "lock").take())
        except LockHeldError:
            lost.append(1)

    threads = [threading.Thread(target=reach) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(lost)) == (1, 15)
    got[0].release()
