"""What a new user gets wrong, in processes of its own: one line that says what to do, exit code 2, no traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DUS = (sys.executable, "-c", "from dus_gym.cli import main; main()")

WRONG = {
    "no choice of a validation split": (
        "train DUS-Digits-v0 --validation none",
        "validation='none' is not allowed: DUS-Digits-v0 has no choice of it; leave --validation out.",
    ),
    "agents behind one another": (
        "compare DUS-Fake-v0 --agents steady score",
        "'score' is one word too many: --agents takes one; separate several by commas: --agents steady,score.",
    ),
    "another library's learning rate": (
        "train DUS-Digits-v0 --lr 0.1",
        "unknown option '--lr'. Did you mean --task.lr, the network's learning rate?",
    ),
    "another library's batch size": (
        "train DUS-Digits-v0 --batch-size 32",
        "unknown option '--batch-size'. Did you mean --total-batch, the samples per iteration over all modalities?",
    ),
    "the file of an agent for its module": (
        "train DUS-Fake-v0 --import mine.py --agent mine",
        "import='mine.py' is not allowed; give the name of a module, not its file: --import mine, from its folder.",
    ),
    "the file of an agent for its name": (
        "train DUS-Fake-v0 --agent mine.py",
        "agent='mine.py' is not allowed; a module registers its agents by name: --import mine, from its folder, and",
    ),
    "keys of a file": (
        "train --config wrong.yaml",
        "unknown settings in the file: 'epocs' (did you mean 'epochs'?), 'lr' (did you mean 'task.lr'?), "
        "'batch_size' (did you mean 'total_batch'?), 'nothing_like_it', 'agent.rul' (did you mean 'agent.rule'?), "
        "'task.lrr' (did you mean 'task.lr'?).",
    ),
    "keys of a comparison's file": (
        "compare DUS-Digits-v0 --config wrong.json",
        "unknown settings in the file: 'seedz' (did you mean 'seeds'?), 'worker' (did you mean 'workers'?).",
    ),
}
"""What it is to a command and the beginning of the only line that comes of it."""

CLOSED = ("--help", "train --help-all", "runs list", "runs show runs/a")
"""Commands whose reader has gone before they begin."""

FILES = {
    "wrong.yaml": "env: DUS-Digits-v0\nepocs: 3\nlr: 0.1\nbatch_size: 32\nnothing_like_it: 1\nagent: score\n"
    "agent_options: {rul: softmax}\ntask_options: {lrr: 0.1}\n",
    "wrong.json": '{"seedz": 3, "worker": 2}',
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Exit code and stderr of every command; all of them run at once."""
    cwd = tmp_path_factory.mktemp("typed")
    for name, text in FILES.items():
        (cwd / name).write_text(text)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    # Python's own buffer hides a closed pipe until the process ends; without it, the first line meets it.
    environment.pop("PYTHONUNBUFFERED", None)
    train = (*DUS, "train", "DUS-Fake-v0", "--epochs", "2", "--quiet", "--out", "runs/a")
    subprocess.run(train, cwd=cwd, env=environment, check=True)
    started = {}
    for words in [line for line, _ in WRONG.values()]:
        started[words] = subprocess.Popen(
            [*DUS, *words.split()], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    for words in CLOSED:
        for unbuffered in ("", "1"):
            gone, pipe = os.pipe()
            os.close(gone)
            started[words, unbuffered] = subprocess.Popen(
                [*DUS, *words.split()], cwd=cwd, env=environment | {"PYTHONUNBUFFERED": unbuffered},
                stdout=pipe, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            os.close(pipe)
    return {words: (process.communicate(), process.returncode) for words, process in started.items()}


@pytest.mark.parametrize("case", WRONG)
def test_a_typing_error_is_one_line_with_what_to_type(done, case):
    words, line = WRONG[case]
    (out, err), code = done[words]
    assert (code, out) == (2, "")
    assert err.startswith(f"dus: {line}")
    assert re.fullmatch(r"[^\n]+\n", err)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", CLOSED)
def test_a_reader_that_has_gone_is_no_error(done, words, unbuffered):
    (_, err), code = done[words, unbuffered]
    assert (code, err) == (0, "")
