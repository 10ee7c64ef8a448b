"""Promises of the reproduction: its settings are the tasks', its numbers the paper's, its runs are never lost."""

import json
import math
from pathlib import Path

import pytest
from command import dus

from dus_gym.benchmarks.paper import ITEMS
from dus_gym.benchmarks.paper.cells import Cell, lines_of
from dus_gym.benchmarks.paper.item import Item
from dus_gym.benchmarks.paper.plan import Plan, source_of
from dus_gym.benchmarks.paper.printed import printed
from dus_gym.benchmarks.paper.settings import FILES, chosen, settings
from dus_gym.cli.experiment import execute
from dus_gym.data.registry import get_task
from dus_gym.errors import ConfigError, DusError
from dus_gym.methods import METHODS


def item_of(word: str) -> Item:
    from importlib import import_module

    found: Item = import_module(f"dus_gym.benchmarks.paper.{word.lower()}").ITEM
    assert found.word == word
    return found


@pytest.mark.parametrize("name", sorted(settings()))
def test_a_committed_setting_says_what_the_registered_task_does(name):
    setting = settings()[name]
    task = get_task(setting.env.removeprefix("DUS-").removesuffix("-v0"))
    assert setting.recipe == {
        "encoders": list(task.encoders),
        "optimizer": task.optimizer,
        "lr": task.lr,
        "schedule": task.schedule,
        "batch": task.batch,
        "epochs": task.epochs,
    }
    assert setting.metric == task.metric
    assert tuple(setting.modalities.values()) == task.modalities
    assert len(settings()) == len(FILES)


@pytest.mark.parametrize("name", [name for name in sorted(settings()) if settings()[name].standin is not None])
def test_a_stand_in_has_a_modality_for_each_of_the_paper_s(name):
    setting = settings()[name]
    assert setting.standin is not None
    task = get_task(setting.standin.env.removeprefix("DUS-").removesuffix("-v0")).configured(setting.standin.task)
    assert list(setting.standin.modalities) == list(setting.modalities)
    assert set(setting.standin.modalities.values()) == set(task.modalities)


@pytest.mark.parametrize("word", ITEMS)
def test_an_item_asks_for_what_there_is(word):
    item = item_of(word)
    assert item.datasets
    assert set(item.datasets) <= set(settings())
    assert {row.method for row in item.rows} <= set(METHODS)
    folders = [row.folder for row in item.rows]
    assert len(set(folders)) == len(folders), "two rows of one item would be the same run"


@pytest.mark.parametrize("word", [word for word in ITEMS if word.startswith("table")])
def test_every_printed_number_has_a_cell_and_every_cell_a_printed_number(word):
    item = item_of(word)
    cells = {
        (item.table, name, row.label, line, metric)
        for name in item.datasets
        for row in item.rows
        for line in lines_of(item, row, name)
        for metric in ("accuracy", settings()[name].metric)
    }
    assert cells == {key for key in printed() if key[0] == item.table}


def test_known_printed_numbers():
    numbers = printed()
    assert len(numbers) == 264
    assert numbers["1", "Kinetics-Sounds", "DUS/MLA", "multimodal", "map"].percent == 80.06
    assert numbers["A1", "Sarcasm", "DUS/MLA", "multimodal", "accuracy"].std == 0.93
    assert numbers["4", "Kinetics-Sounds", "Baseline", "multimodal", "accuracy"].percent == 70.04, "which is MLA's"


def test_a_cell_sets_ours_beside_the_printed_number():
    cell = Cell("CREMA-D", "MLA", "multimodal", "accuracy", (78.0, 80.0), 79.43, None, "")
    assert cell.mean == 79.0
    assert cell.std == pytest.approx(math.sqrt(2.0))
    assert cell.difference == pytest.approx(-0.43)
    assert cell.text() == "79.0 ± 1.4 / 79.43 (-0.4)"
    assert Cell("CREMA-D", "MLA", "multimodal", "accuracy", (), 79.43, None, "no data").text() == "– / 79.43"


def test_data_sets_are_named_as_printed_or_as_on_the_command_line():
    among = ("CREMA-D", "Kinetics-Sounds")
    assert chosen("kinetics-sounds,crema-d,cremad", among) == ("Kinetics-Sounds", "CREMA-D")
    assert chosen(None, among) == among
    with pytest.raises(ConfigError, match="sarcasm"):
        chosen("sarcasm", among)
    with pytest.raises(ConfigError, match="names no data set"):
        chosen(",", among)


FAKE = ("--trainer", "fake", "--epochs", "4", "--seeds", "2", "--quiet", "--json")


def table(*words, out):
    done = dus("reproduce", *words, *FAKE, "--out", out, cwd=out.parent, check=0)
    return json.loads(done.stdout.splitlines()[-1])["items"][0]


def test_finished_runs_are_not_run_again_and_items_share_them(tmp_path):
    first = table("tableA2", out=tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")}
    assert len(times) == 4
    again = table("tableA2", out=tmp_path)
    figure = table("fig4", out=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")} == times
    assert again == first
    assert figure["figures"]["Kinetics-Sounds"]["ours"]
    assert (tmp_path / "fig4-kinetics-sounds.png").stat().st_size > 10_000
    page = (tmp_path / "tableA2.md").read_text(encoding="utf-8")
    assert "FAKE TRAINER" in page
    assert "74.87" in page
    assert "2 seeds (the paper's protocol has 3)" in page


def test_cells_without_data_say_how_to_get_it(tmp_path):
    done = dus(
        "reproduce",
        "tableA2",
        "--methods",
        "DUS",
        "--out",
        tmp_path / "out",
        "--data-root",
        tmp_path,
        cwd=tmp_path,
        check=0,
    )
    assert "– / 74.87" in done.stdout
    assert "DUS-KineticsSounds-v0 needs its data set" in done.stdout
    assert "trainer=" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table9"], "table9"),
        (["table1", "--methods", "MLE"], "MLA"),
        (["table1", "--methods", ","], "it names no row"),
        (["all", "--methods", "PMR", "--datasets", "nvgesture"], "no table or figure has"),
        (["table1", "--datasets", "nvgesture"], "nvgesture"),
        (["table1", "--smoke", "--standin"], "--smoke and --standin"),
        (["table1", "--smoke", "--data-root", "x"], "data_root=x"),
        (["table1", "--seeds", "1,1"], "a seed may be named once"),
    ],
)
def test_what_can_t_be_is_refused(tmp_path, words, said):
    done = dus("reproduce", *words, "--out", tmp_path / "out", cwd=tmp_path, check=2)
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_mode_is_refused(tmp_path):
    table("tableA2", "--methods", "DUS", out=tmp_path)
    done = dus("reproduce", "tableA2", "--standin", "--out", tmp_path, cwd=tmp_path, check=2)
    assert "mode 'real'" in done.stderr


def test_encoders_that_a_data_set_lacks_are_refused_by_its_name(tmp_path):
    done = dus("reproduce", "table1", "--encoder", "clip", *FAKE, "--out", tmp_path, cwd=tmp_path, check=2)
    assert "CREMA-D: encoder='clip'" in done.stderr
    assert "--datasets" in done.stderr


def test_other_encoders_trainers_and_epochs_lie_in_other_folders(tmp_path):
    dus("reproduce", "tableA4", "--encoder", "clip", "--methods", "dus", *FAKE, cwd=tmp_path, check=0)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["reproduce-real-clip-fake-4-epochs"]


def test_all_takes_what_each_item_has(tmp_path):
    words = ("--datasets", "cremad,nvgesture", "--methods", "mla, DUS/MLA", *FAKE)
    done = dus("reproduce", "all", *words, "--out", tmp_path, cwd=tmp_path, check=0)
    found = {
        item["item"]: {cell["dataset"] for cell in item["cells"]}
        for item in json.loads(done.stdout.splitlines()[-1])["items"]
    }
    both = {"CREMA-D", "NVGesture"}
    assert found == {
        "table1": {"CREMA-D"},
        "table2": {"NVGesture"},
        "tableA1": both,
        "fig1": both,
        "fig4": both,
        "fig5": both,
    }


def test_a_run_that_fails_leaves_the_others_cells_and_is_named(tmp_path, monkeypatch):
    def fails(request, folder):
        if request.seed == 1:
            raise DusError("the disk is gone")
        return execute(request, folder)

    monkeypatch.setattr("dus_gym.cli.matrix.execute", fails)
    words = ("reproduce", "tableA2", "--methods", "DUS", *FAKE, "--out", tmp_path)
    assert "the disk is gone" in dus(*words, cwd=tmp_path, check=1).stderr
    assert "1 of 2 runs finished" in (tmp_path / "tableA2.md").read_text(encoding="utf-8")
    (values,) = {len(cell["values"]) for cell in json.loads((tmp_path / "tableA2.json").read_text())["cells"]}
    assert values == 1
    monkeypatch.undo()
    dus(*words, cwd=tmp_path, check=0)
    assert "finished" not in (tmp_path / "tableA2.md").read_text(encoding="utf-8")


def test_a_run_that_diverged_is_named(tmp_path):
    table("tableA2", "--methods", "DUS", out=tmp_path)
    (file,) = tmp_path.rglob("seed1/summary.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"diverged": True}), encoding="utf-8")
    (note,) = {cell["note"] for cell in table("tableA2", "--methods", "DUS", out=tmp_path)["cells"]}
    assert note == "1 of 2 runs diverged and stopped early"


def test_a_data_root_may_be_the_data_set_s_own_folder(tmp_path, monkeypatch):
    own = tmp_path / "cremad"
    own.mkdir()
    monkeypatch.chdir(own)
    for root in (own, Path("."), tmp_path):
        plan = Plan("real", tmp_path / "out", (0,), data_root=root)
        source = source_of(plan, settings()["CREMA-D"])
        assert source.root is not None
        assert source.root.resolve() == own


def test_a_reproduction_s_folder_is_no_run_and_its_runs_are_found(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    table("tableA2", "--methods", "DUS", out=out)
    listed = json.loads(dus("runs", "list", out, "--json", "--quiet", cwd=tmp_path, check=0).stdout)["runs"]
    assert [row["status"] for row in listed] == ["finished"] * 2
    for command in (("report",), ("runs", "show"), ("watch",)):
        assert "holds a reproduction" in dus(*command, out, cwd=tmp_path, check=2).stderr
    assert dus("validate", out, cwd=tmp_path, check=0).stdout.count("identical") == 2
    assert "deleted 2 runs" in dus("runs", "rm", out, "--yes", cwd=tmp_path, check=0).stdout


@pytest.mark.slow
def test_a_rehearsal_needs_no_data_and_says_what_it_is(tmp_path):
    words = ("reproduce", "table4", "--smoke", "--methods", "DUS", "--json", "--quiet", "--out", tmp_path / "out")
    for seeds in ("1", "2"):
        done = dus(*words, "--seeds", seeds, cwd=tmp_path, check=0)
        item = json.loads(done.stdout.splitlines()[-1])["items"][0]
        assert item["data_kind"] == "mock"
        assert {len(cell["values"]) for cell in item["cells"]} == {int(seeds)}
        page = (tmp_path / "out" / "table4.md").read_text(encoding="utf-8")
        assert "SMOKE TEST: made-up media" in page
        assert "made-up media in its place" in page
    assert all(cell["std"] is not None for cell in item["cells"])
