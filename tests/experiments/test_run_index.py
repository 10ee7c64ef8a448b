"""The index of runs: always what the folders say."""

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from made_results import result, step

from dus_gym.errors import RunFolderError
from dus_gym.experiments.storage.run_folder import STEPS, RunFolder
from dus_gym.experiments.storage.run_index import INDEX, RunRow, last_step, list_runs
from dus_gym.records import FUSED_PREDICTORS, Scores


def make_run(path, *, seed=0, accuracy=0.75, finished=True):
    config = {
        "command": "train", "env": "DUS-Fake-v0", "agent": "score", "agent_options": {"rule": "softmax"},
        "method": "baseline", "method_options": {}, "seed": seed, "trainer": None, "run": {},
    }  # fmt: skip
    with RunFolder.create(path, config, force=True) as folder:
        folder.add_step(step(1))
        if finished:
            folder.save_result(
                result(accuracy, fused=dict.fromkeys(FUSED_PREDICTORS) | {"method": Scores(accuracy, 0.5, 0.25)})
            )


@pytest.fixture
def root(tmp_path):
    for seed in range(3):
        make_run(tmp_path / f"deep/er/seed{seed}", seed=seed)
    make_run(tmp_path / "open", finished=False)
    return tmp_path


def by_name(root, **options):
    return {row["run"]: row for row in list_runs(root, **options)}


def test_every_run_is_a_row_with_the_same_columns(root):
    rows = by_name(root)
    assert list(rows) == ["deep/er/seed0", "deep/er/seed1", "deep/er/seed2", "open"]
    columns = [field.name for field in dataclasses.fields(RunRow)]
    assert all(list(row) == columns for row in rows.values())
    assert rows["deep/er/seed1"]["agent"] == "score:rule=softmax"
    assert (rows["deep/er/seed1"]["seed"], rows["deep/er/seed1"]["accuracy_method"]) == (1, 0.75)
    assert rows["deep/er/seed1"]["accuracy_concat"] is None
    assert (rows["open"]["status"], rows["open"]["epoch"], rows["open"]["gap"]) == ("stopped", 1, 0.2)


def test_a_run_that_a_process_writes_is_running(root):
    make_run(root / "now", finished=False)
    config = json.loads((root / "now/config.json").read_text())
    with RunFolder.resume(root / "now", {key: value for key, value in config.items() if key != "written_by"}):
        assert by_name(root)["now"]["status"] == "running"
    assert by_name(root)["now"]["status"] == "stopped"


def test_the_folders_win_over_the_index(root):
    first = by_name(root)
    make_run(root / "deep/er/seed0", accuracy=0.5)
    shutil.rmtree(root / "deep/er/seed1")
    make_run(root / "open", seed=7)
    make_run(root / "new")
    rows = by_name(root)
    assert list(rows) == ["deep/er/seed0", "deep/er/seed2", "new", "open"]
    assert rows["deep/er/seed0"]["accuracy_method"] == 0.5
    assert rows["deep/er/seed2"] == first["deep/er/seed2"]
    assert rows["open"]["status"] == "finished"


def test_a_finished_run_is_not_read_again(root, monkeypatch):
    before = list_runs(root)
    monkeypatch.setattr(
        "dus_gym.experiments.storage.run_index.read_row", lambda path, root: {"run": path.name, "status": "read"}
    )
    assert [row["status"] for row in list_runs(root)] == ["finished", "finished", "finished", "read"]
    assert list_runs(root)[:3] == before[:3]
    assert all(row["status"] == "read" for row in list_runs(root, rebuild=True))


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_a_truncated_index_is_made_anew_with_a_notice(root, cut, caplog):
    before = list_runs(root)
    text = (root / INDEX).read_text()
    (root / INDEX).write_text(text[:cut])
    assert list_runs(root) == before
    assert "is damaged" in caplog.text
    assert (root / INDEX).read_text() == text


def test_an_index_of_a_newer_version_is_left_alone(root, caplog):
    before = list_runs(root)
    newer = '{"written_by": "dus-gym", "format": 9, "shards": []}\n'
    (root / INDEX).write_text(newer)
    assert list_runs(root) == before
    assert "(format 9) and is left alone" in caplog.text
    assert (root / INDEX).read_text() == newer
    list_runs(root, rebuild=True)
    assert (root / INDEX).read_text() != newer


def test_an_index_that_can_not_be_written_costs_nothing_but_time(root, caplog):
    (root / INDEX).mkdir()
    assert len(list_runs(root)) == 4
    assert "can't be written" in caplog.text


def test_many_may_list_at_once(root):
    expected = list_runs(root)
    (root / INDEX).unlink()
    with ThreadPoolExecutor(8) as pool:
        assert all(rows == expected for rows in pool.map(lambda _: list_runs(root), range(16)))


def test_a_damaged_run_is_shown_with_its_problem_and_hides_no_other(root):
    (root / "deep/er/seed0/summary.json").write_text('{"a": ')
    (root / "deep/er/seed1/config.json").write_text("{")
    config = root / "deep/er/seed2/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"format": 5}))
    rows = by_name(root)
    assert [row["status"] for row in rows.values()] == ["damaged", "damaged", "damaged", "stopped"]
    assert "summary.json is damaged" in rows["deep/er/seed0"]["problem"]
    assert "config.json is damaged" in rows["deep/er/seed1"]["problem"]
    assert "has format 5" in rows["deep/er/seed2"]["problem"]


def test_other_people_s_folders_are_no_runs(root):
    (root / "theirs").mkdir()
    (root / "theirs/config.json").write_text('{"mine": 1}')
    assert "theirs" not in by_name(root)


def test_the_last_step_is_the_last_whole_line(tmp_path):
    make_run(tmp_path / "run", finished=False)
    with (tmp_path / "run" / STEPS).open("a") as steps:
        steps.write(json.dumps(step(2, epoch=2)) + '\n{"epoch": 3, "te')
    assert last_step(tmp_path / "run")["epoch"] == 2


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="nowhere"):
        list_runs(tmp_path / "nowhere")
