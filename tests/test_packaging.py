"""What is installed is what is here, and importing it is cheap."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_listed(pyproject):
    setuptools_table = pyproject["tool"]["setuptools"]
    # A forgotten sub-package would be missing from the wheel and nowhere else.
    found = {
        ".".join([name, *init.parent.relative_to(ROOT / home).parts])
        for name, home in setuptools_table["package-dir"].items()
        for init in (ROOT / home).rglob("__init__.py")
    }
    assert found == set(setuptools_table["packages"])


def test_the_versions_named_are_those_that_passed(pyproject):
    passed = re.findall(r"^\| (3\.\d+) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = [line.rpartition(" ")[2] for line in pyproject["project"]["classifiers"] if ":: Python :: 3." in line]
    assert named == passed
    assert pyproject["project"]["requires-python"] == f">={passed[0]}"


def test_importing_the_package_imports_no_framework():
    code = (
        "import sys, dus_gym; heavy = {'torch', 'transformers', 'stable_baselines3', 'sklearn', 'matplotlib', 'scipy'}"
        "; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    import dus_gym

    for name in dus_gym.__all__:
        assert getattr(dus_gym, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = dus_gym.nothing_like_this


def test_the_citation_is_of_this_version():
    import yaml

    import dus_gym

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == dus_gym.__version__
    assert cited["title"].startswith("dus-gym")
    bibtex = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert f"version = {{{dus_gym.__version__}}}" in bibtex


def test_the_examples_on_the_site_are_those_of_the_checkout():
    # The site's builder refuses a file that is not there; one that is not shown nobody would miss.
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    examples = [f"examples/{path.name}" for path in (ROOT / "examples").iterdir() if path.is_file()]
    assert len(examples) > 5
    assert [name for name in examples if name not in pages] == []
