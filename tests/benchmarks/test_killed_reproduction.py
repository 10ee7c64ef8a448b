"""A reproduction that is killed at any moment loses nothing and changes nothing."""

import os
import random
import subprocess
import sys
import time

import pytest

KILLS = 20
WORDS = ("reproduce", "table1", "--datasets", "cremad", "--trainer", "fake", "--epochs", "60", "--quiet", "--json")


def start(out):
    environment = {**os.environ, "DUS_CHECKPOINT_SECONDS": "0.02"}
    words = [sys.executable, "-m", "dus_gym", *WORDS, "--out", str(out)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(out):
    process = start(out)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout.splitlines()[-1]


@pytest.mark.slow
def test_twenty_kills_at_random_moments_end_in_the_same_table(tmp_path):
    undisturbed = finish(tmp_path / "whole")
    page = (tmp_path / "whole" / "table1.md").read_bytes()
    moments, killed, before = random.Random(0), 0, 0
    for _ in range(KILLS):
        process = start(tmp_path / "killed")
        time.sleep(moments.uniform(0.2, 4.0))
        process.kill()
        process.communicate()
        killed += process.returncode != 0
        done = len(list((tmp_path / "killed").rglob("summary.json")))
        assert done >= before, "a finished run was lost"
        before = done
    assert killed >= 5, "hardly any kill came before the end"
    assert finish(tmp_path / "killed") == undisturbed
    assert (tmp_path / "killed" / "table1.md").read_bytes() == page
