"""A run folder: one writer, formats, and a disk that is full in the middle of a write."""

import json
import resource
from concurrent.futures import ThreadPoolExecutor

import pytest
from made_results import result, step

from dus_gym.errors import RunFolderError, RunWriteError
from dus_gym.experiments.storage.run_folder import CHECKPOINT, CONFIG, STEPS, SUMMARY, RunFolder, read_object, unused

CONFIG_ASKED = {"command": "train", "env": "DUS-Fake-v0"}


@pytest.fixture
def run(tmp_path):
    with RunFolder.create(tmp_path / "run", CONFIG_ASKED) as folder:
        yield folder


def test_two_writers_of_one_folder_are_kept_apart(run):
    for attempt in (
        lambda: RunFolder.create(run.path, CONFIG_ASKED, force=True),
        lambda: RunFolder.create(run.path, CONFIG_ASKED),
        lambda: RunFolder.resume(run.path, CONFIG_ASKED),
    ):
        with pytest.raises(RunFolderError, match="is being written by process"):
            attempt()
    run.close()
    with RunFolder.resume(run.path, CONFIG_ASKED):
        pass
    assert sorted(p.name for p in run.path.iterdir()) == [CONFIG]


def test_of_many_that_begin_at_once_one_gets_the_folder(tmp_path):
    def begin(i):
        try:
            return RunFolder.create(tmp_path / "run", CONFIG_ASKED | {"seed": i})
        except RunFolderError:
            return None

    with ThreadPoolExecutor(16) as pool:
        begun = [folder for folder in pool.map(begin, range(16)) if folder is not None]
    assert len(begun) == 1
    assert read_object(tmp_path / "run" / CONFIG)["seed"] == begun[0].config["seed"]
    begun[0].close()


def test_of_many_that_name_no_folder_each_gets_its_own(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: unused(tmp_path / "a" / "run"), range(16)))) == 16


@pytest.mark.parametrize("name", [CONFIG, SUMMARY])
def test_a_newer_format_is_refused_by_name(run, name):
    run.save_result(result(0.7))
    run.close()
    file = run.path / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(RunFolderError, match=r"has format 2; this version reads up to 1\. Install a newer dus-gym"):
        read_object(file)
    with pytest.raises(RunFolderError, match="holds another run"):
        RunFolder.create(run.path, CONFIG_ASKED)


def test_a_full_disk_is_named_and_loses_nothing_that_was_there(run):
    run.add_step(step(1))
    limit = (run.path / STEPS).stat().st_size + 40
    run.save_checkpoint({"steps": 1})
    before = (run.path / CHECKPOINT).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses a file's bytes beyond this, as a full disk does, in the middle of a line.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(RunWriteError, match=r"steps\.jsonl can't be written .* go on with --resume"):
            run.add_step(step(2))
        with pytest.raises(RunWriteError, match="checkpoint"):
            run.save_checkpoint({"steps": 2, "text": "x" * 1000})
        with pytest.raises(RunWriteError, match="summary"):
            run.save_result(result(0.7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run.close()
    assert (run.path / CHECKPOINT).read_bytes() == before
    assert not (run.path / SUMMARY).exists()
    assert (run.path / STEPS).stat().st_size == limit
    with RunFolder.resume(run.path, CONFIG_ASKED) as folder:
        assert list(folder.steps()) == [step(1)]
        folder.keep_steps(1)
        folder.add_step(step(2))
        assert list(folder.steps()) == [step(1), step(2)]
    assert {p.name for p in run.path.iterdir()} == {CONFIG, STEPS, CHECKPOINT}
