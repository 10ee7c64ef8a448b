"""``dus watch``: what another process trains, until it ends or is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import dus

from dus_gym.cli.watch import View, clock, sparkline
from dus_gym.experiments.storage.run_folder import STEPS

ROOT = Path(__file__).resolve().parents[2]
DUS = (sys.executable, "-c", "from dus_gym.cli import main; main()")
FAKE = ["--trainer", "fake", "--epochs", "5", "--quiet"]


def test_once_prints_a_frame_and_the_result_of_a_finished_run(tmp_path):
    dus("train", "DUS-Digits-v0", "--agent", "score", *FAKE, "--out", "run", cwd=tmp_path, check=0)
    text = dus("watch", "run", "--once", cwd=tmp_path, check=0).stdout
    assert "epoch 5 of 5 finished" in text
    assert "pixels" in text
    assert "fused, sum" in text
    assert dus("watch", "run", cwd=tmp_path, check=0).stdout.count("fused, sum") == 1


def test_a_run_that_nobody_writes_is_said_to_have_stopped(tmp_path):
    dus("train", "DUS-Digits-v0", *FAKE, "--out", "run", cwd=tmp_path, check=0)
    (tmp_path / "run/summary.json").unlink()
    assert "stopped" in dus("watch", "run", "--once", cwd=tmp_path, check=0).stdout
    assert "go on with --resume" in dus("watch", "run", cwd=tmp_path, check=1).stdout
    (tmp_path / "run/steps.jsonl").unlink()
    assert "no step yet" in dus("watch", "run", "--once", cwd=tmp_path, check=0).stdout


@pytest.mark.parametrize(("words", "message"), [(["nowhere"], "holds no run"), (["run", "--every", "0"], "every=0")])
def test_what_can_not_be_watched_is_refused(tmp_path, words, message):
    assert message in dus("watch", *words, cwd=tmp_path, check=2).stderr


def test_lines_are_read_once_and_never_before_they_are_whole(tmp_path):
    dus("train", "DUS-Digits-v0", *FAKE, "--out", "run", cwd=tmp_path, check=0)
    file = tmp_path / "run" / STEPS
    lines = file.read_bytes().splitlines(keepends=True)
    config = json.loads((tmp_path / "run/config.json").read_text())
    view = View(tmp_path / "run", config)
    for kept, seen in ((lines[0] + lines[1][:40], 1), (lines[0] + lines[1], 2), (b"".join(lines), 5), (lines[0], 1)):
        file.write_bytes(kept)
        view.look()
        assert view.steps == [json.loads(line) for line in lines[:seen]]


def test_a_sparkline_shows_every_part_of_a_curve():
    assert sparkline([0, 4, 8], 10, 8) == "▁▅█"
    assert sparkline([*[0] * 50, *[8] * 50], 4, 8) == "▁▁██"
    assert (clock(5), clock(65), clock(3725)) == ("0:05", "1:05", "1:02:05")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["finished", "killed"])
def test_a_run_in_another_process_is_followed_to_its_end(tmp_path, end):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    epochs = "300" if end == "finished" else "100000"
    words = ["train", "DUS-Digits-v0", "--epochs", epochs, "--out", "run", "--quiet"]
    with subprocess.Popen([*DUS, *words], cwd=tmp_path, env=environment) as training:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / STEPS).exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "running" in dus("watch", "run", "--once", cwd=tmp_path, check=0).stdout
        if end == "killed":
            training.send_signal(signal.SIGKILL)
            training.wait()
            assert "stopped" in dus("watch", "run", cwd=tmp_path, check=1).stdout
        else:
            text = dus("watch", "run", "--every", "0.1", cwd=tmp_path, check=0).stdout
            assert "fused, sum" in text
            assert training.wait(timeout=60) == 0
