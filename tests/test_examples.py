"""The scripts and notebooks of examples/ run as they are, each in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = {
    "train.py": r"(?s)under steady.*test accuracy: .*under uniform.*samples drawn: pixels \d+",
    "ppo.py": r"ppo: reward -\d+\.\d, test accuracy.*\nuniform: reward -\d+\.\d",
    "own_agent.py": r"steady \w+.*(?s:.*)\nuniform .*\nweaker .*\nsteady ",
    "own_data.py": r"(?s)wine\.npz: test accuracy .* (0\.[6-9]|1\.).*\nDUS-Wine-v0: test accuracy .* (0\.[6-9]|1\.)",
}
"""Script to what it must print."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_what_it_promises(name, tmp_path):
    done = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(SCRIPTS[name], done.stdout), done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["compare.ipynb", "environment.ipynb"])
def test_every_cell_of_a_notebook_runs(name, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert cells[-1].outputs


def test_no_script_or_notebook_is_left_out():
    # plugin_resnet.py has arguments and a test of its own.
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")} - {"plugin_resnet.py"}
    assert there == SCRIPTS.keys() | {"compare.ipynb", "environment.ipynb"}
