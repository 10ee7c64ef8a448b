"""A matrix on processes and on a real Ray cluster: a killed worker costs nothing, and every bit is the same."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command import dus

from dus_gym.experiments.storage.run_folder import NOT_REPRODUCIBLE

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("DUS-Digits-v0", "--epochs", 40, "--agents", "half,random", "--seeds", 2)
RAY_MISSING = "Ray is not installed: pip install 'dus-gym[ray]'"


def outcome(folder):
    """Steps and summaries of every run, but what a run cost."""
    found = {}
    for file in sorted(folder.rglob("*.json*")):
        name = file.relative_to(folder).as_posix()
        if file.name == "steps.jsonl":
            found[name] = file.read_text()
        elif file.name == "summary.json":
            found[name] = {k: v for k, v in json.loads(file.read_text()).items() if k not in NOT_REPRODUCIBLE}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The same matrix, one run after another in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    dus("compare", *WORDS, "--out", "c", "--quiet", cwd=folder, check=0)
    found = outcome(folder / "c")
    assert len(found) == 2 * 2 * (3 + 1), "uniform, half, random, uniform at half's samples"
    return found


def compare_in_its_own_process(folder, *more):
    """A comparison as a user's shell would start it."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "dus_gym", "compare", *map(str, WORDS), "--out", "c", *more]
    environment = os.environ | {"PYTHONPATH": paths, "DUS_CHECKPOINT_SECONDS": "0"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_the_worker_of(run, steps, process):
    """Kills whoever makes a run, in the middle of it; returns the steps it had made."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        lines = (run / "steps.jsonl").read_bytes().count(b"\n") if (run / "steps.jsonl").exists() else 0
        if lines >= steps and not (run / "summary.json").exists():
            worker = json.loads((run / ".lock").read_text())["pid"]
            assert worker != process.pid
            os.kill(worker, signal.SIGKILL)
            return lines
        time.sleep(0.005)
    raise AssertionError(f"{run} was not caught in the middle")


def a_killed_worker_loses_nothing(folder, undisturbed, *place):
    process = compare_in_its_own_process(folder, *place)
    # A pipe that nobody reads would stop the command.
    said = []
    reader = threading.Thread(target=lambda: said.append(process.stdout.read()))
    reader.start()
    try:
        kill_the_worker_of(folder / "c/half/seed1", 10, process)
        assert process.wait(300) == 0, said
    finally:
        process.kill()
        reader.join()
    said_on_one_line = " ".join(said[0].split())
    assert "under half, seed 0 together with 1: its" in said_on_one_line
    assert "taken up again" in said_on_one_line
    assert outcome(folder / "c") == undisturbed
    result = json.loads((folder / "c/comparison.json").read_text())
    assert list(result["agents"]) == ["uniform", "half", "random"]


@pytest.mark.slow
def test_a_killed_process_loses_nothing_and_changes_no_bit(tmp_path, undisturbed):
    a_killed_worker_loses_nothing(tmp_path, undisturbed, "--workers", "2")


@pytest.mark.slow
def test_a_killed_command_goes_on_where_its_workers_stopped(tmp_path, undisturbed):
    process = compare_in_its_own_process(tmp_path, "--workers", "2", "--quiet")
    steps = tmp_path / "c/uniform/seed0/steps.jsonl"
    deadline = time.monotonic() + 240
    while not (steps.exists() and steps.read_bytes().count(b"\n") >= 10) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    # A worker that lost its command ends with the run it makes.
    while list(tmp_path.rglob(".lock")) and time.monotonic() < deadline:
        locks = [json.loads(path.read_text())["pid"] for path in tmp_path.rglob(".lock") if path.read_text()]
        if not any(Path(f"/proc/{pid}").exists() for pid in locks):
            break
        time.sleep(0.1)
    dus("compare", *WORDS, "--out", "c", "--quiet", "--resume", "--workers", 2, cwd=tmp_path, check=0)
    assert outcome(tmp_path / "c") == undisturbed


@pytest.mark.slow
def test_a_worker_killed_on_a_real_ray_cluster_loses_nothing_and_changes_no_bit(tmp_path, undisturbed):
    pytest.importorskip("ray", reason=RAY_MISSING)
    a_killed_worker_loses_nothing(tmp_path, undisturbed, "--ray", "local")


@pytest.mark.slow
def test_a_cluster_is_joined_by_its_address_and_one_without_room_is_refused(tmp_path):
    ray = pytest.importorskip("ray", reason=RAY_MISSING)
    words = ("compare", "DUS-Fake-v0", "--agents", "score", "--seeds", 2, "--quiet")
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

        def call(*more):
            command = [sys.executable, "-m", "dus_gym", *map(str, words), "--ray", address, *more]
            return subprocess.run(
                command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
            )

        refused = call("--threads", "4", "--out", "none")
        assert refused.returncode == 2
        assert "no machine of the cluster has 4 CPUs" in refused.stderr
        assert not (tmp_path / "none").exists()
        done = call("--out", "c")
        assert done.returncode == 0, done.stderr
        assert len(outcome(tmp_path / "c")) == 2 * 2 * 2
    finally:
        ray.shutdown()


def test_a_ray_address_that_does_not_answer_is_refused_and_the_old_result_stays(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason=RAY_MISSING)
    monkeypatch.setattr("dus_gym.experiments.executors.ray_cluster.ANSWER_SECONDS", 2.0)
    words = ("compare", "DUS-Fake-v0", "--agents", "score", "--seeds", 1, "--out", "c")
    dus(*words, "--quiet", cwd=tmp_path, check=0)
    before = outcome(tmp_path / "c")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = dus(*words, "--force", "--ray", address, cwd=tmp_path, check=2)
    assert f"ray='{address}' does not answer" in done.stderr
    assert (tmp_path / "c/comparison.json").is_file()
    assert outcome(tmp_path / "c") == before
    done = dus(*words, "--force", "--ray", "nonsense://x", cwd=tmp_path, check=2)
    assert "ray='nonsense://x' is not allowed; give local, auto or HOST:PORT" in done.stderr
    assert outcome(tmp_path / "c") == before
    done = dus(*words, "--force", "--ray", "local", "--device", "cuda", cwd=tmp_path, check=2)
    assert outcome(tmp_path / "c") == before
