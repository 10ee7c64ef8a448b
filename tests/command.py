"""The command line, called as a user would."""

import contextlib
import io
from typing import NamedTuple

from dus_gym.cli import main


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def dus(*words, cwd, check=None):
    """Runs the command in this process: importing PyTorch anew for every test would take most of the suite."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as exit:
            code = exit.code or 0
    if check is not None:
        assert code == check, err.getvalue() + out.getvalue()
    return Done(code, out.getvalue(), err.getvalue())
