"""The folder of ``dus ceiling`` under the commands that take runs and comparisons."""

import base64
import json
import shutil

import pytest
from command import dus

from dus_gym.experiments.ceiling import ceiling
from dus_gym.experiments.search import SearchOptions
from dus_gym.experiments.storage.run_folder import CEILING, CEILING_PICTURE, SEARCH

SEARCHED = SearchOptions(segments=2, constant_generations=1, generations=1, candidates=4, seeds_per_generation=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("ceiling")
    found = ceiling("DUS-Digits-v0", ["score"], out=root / "top", seeds=2, epochs=1, search=SEARCHED)
    return root, found.verdict


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made[0] / "top", tmp_path / "top")
    return tmp_path


def test_its_page_has_the_verdict_the_picture_and_the_table(made, root):
    verdict = made[1]
    done = dus("report", "top", "--json", cwd=root, check=0)
    assert done.stdout.splitlines()[0] == verdict
    assert json.loads(done.stdout.splitlines()[-1]) == {"out": "top/report.html", "verdict": verdict}
    page = (root / "top/report.html").read_text()
    assert base64.b64encode((root / "top" / CEILING_PICTURE).read_bytes()).decode() in page[: page.index("<nav")]
    for said in (verdict.split(". ")[0], '<th scope="row">best constant</th>', '<th scope="row">score</th>',
                 '<th scope="row">uniform</th>'):  # fmt: skip
        assert said in page


@pytest.mark.parametrize("words", [("validate", "top"), ("runs", "show", "top"), ("runs", "diff", "top", "top")])
def test_what_takes_one_run_says_on_one_line_where_its_runs_are(root, words):
    done = dus(*words, cwd=root, check=2)
    assert done.stdout == ""
    assert done.stderr == (
        "dus: top holds a ceiling; give one of its runs (`dus runs list top` names them), or see the whole: "
        "dus report top\n"
    )


def test_the_runs_of_its_comparison_are_listed_and_can_be_validated(root):
    lines = dus("runs", "list", "top", cwd=root, check=0).stdout.splitlines()[1:]
    assert {line.split("\t")[0].split("/")[0] for line in lines} == {"compare"}
    assert sum("compare/uniform/seed" in line for line in lines) == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda top: (top / CEILING).unlink(), "whose search is not finished; go on with dus ceiling --out top"),
        (lambda top: (top / CEILING).write_text("{"), "ceiling.json is damaged"),
        (lambda top: (top / CEILING).write_text("{}"), "ceiling.json is damaged (env is missing)"),
        (lambda top: cut(top / CEILING), "ceiling.json is damaged (agents has no 'fixed:shares="),
        (lambda top: ragged(top / CEILING), "ceiling.json is damaged (splits [(0.2, 0.3, 0.5), "),
    ],
)
def test_an_unfinished_or_damaged_one_is_named(root, damage, message):
    damage(root / "top")
    done = dus("report", "top", cwd=root, check=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def cut(file):
    """Leave out the agents that the search found."""
    found = json.loads(file.read_text())
    found["highest"] = "score"
    found["agents"] = {"score": found["agents"]["score"]}
    file.write_text(json.dumps(found))


def ragged(file):
    """Give the best constant split a modality more than the schedule has."""
    found = json.loads(file.read_text())
    file.write_text(json.dumps(found | {"constant": [0.2, 0.3, 0.5]}))


def test_rm_deletes_it_with_its_runs_and_leaves_what_is_not_ours(root):
    (root / "top/notes.txt").write_text("mine")
    assert (root / "top" / SEARCH).is_file()
    dus("runs", "rm", "top", "--yes", cwd=root, check=0)
    assert [path.name for path in (root / "top").rglob("*")] == ["notes.txt"]
