"""What is installed is what is here, and importing it is cheap."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def setuptools_table():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_is_listed(setuptools_table):
    # A forgotten sub-package would be missing from the wheel and nowhere else.
    found = {
        ".".join([name, *init.parent.relative_to(ROOT / home).parts])
        for name, home in setuptools_table["package-dir"].items()
        for init in (ROOT / home).rglob("__init__.py")
    }
    assert found == set(setuptools_table["packages"])


def test_importing_the_package_imports_no_framework():
    code = (
        "import sys, dus_gym; heavy = {'torch', 'transformers', 'stable_baselines3', 'sklearn', 'matplotlib', 'scipy'}"
        "; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_core_imports_neither_environments_nor_agents():
    # DESIGN: imports run one way. __init__ (registers ids) and cli (the top) are the two exceptions.
    core = [p for p in (ROOT / "dus_gym").rglob("*.py") if "cli" not in p.parts and p != ROOT / "dus_gym/__init__.py"]
    assert len(core) > 20
    upward = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in core
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("from dus_gym.envs", "from dus_gym.agents", "import dus_gym.envs"))
    ]
    assert upward == []


def test_the_environment_imports_no_agent():
    upward = [p.name for p in (ROOT / "envs").rglob("*.py") if "dus_gym.agents" in p.read_text(encoding="utf-8")]
    assert upward == []


def test_every_public_name_can_be_had():
    import dus_gym

    for name in dus_gym.__all__:
        assert getattr(dus_gym, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = dus_gym.nothing_like_this
