"""Promises of the reproduction: the tasks are the paper's, its numbers are there, its runs are never lost."""

import json
import math
from contextlib import nullcontext
from pathlib import Path

import pytest
from command import dus

from dus_gym.benchmarks.paper.cells import PaperCell, lines_of, printed
from dus_gym.benchmarks.paper.datasets import DATASETS, datasets_named
from dus_gym.benchmarks.paper.reproduction import ItemPart, Reproduction, reproduce
from dus_gym.benchmarks.paper.tables import ITEMS, ROWS
from dus_gym.data.registry import data_set
from dus_gym.errors import ConfigError, DusError
from dus_gym.experiments.run import execute
from dus_gym.methods import METHODS

RESNETS = (("resnet18", "resnet18"), "sgd", 1e-2, 64, "map")
# The schedule and the ImageNet weights of these are ours; the paper does not say.
TEXT_IMAGE = (("bert", "resnet50:weights=imagenet"), "adam", 1e-5, 64, "macro_f1")


def test_the_data_sets_are_the_papers_five_and_no_other():
    assert {dataset.word for dataset in DATASETS.values()} == {
        *("twitter2015", "sarcasm", "cremad", "kinetics-sounds", "nvgesture"),
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Twitter2015", TEXT_IMAGE),
        ("Sarcasm", TEXT_IMAGE),
        ("CREMA-D", RESNETS),
        ("Kinetics-Sounds", RESNETS),
        ("NVGesture", (("i3d", "i3d", "i3d"), "sgd", 1e-2, 6, "macro_f1")),
    ],
)
def test_a_task_says_what_the_paper_says(name, said):
    task = DATASETS[name].known.task
    assert (task.encoders, task.optimizer, task.lr, task.batch, task.metric) == said
    assert task.schedule == "plateau"
    assert task.epochs == 100, "the paper does not say; ours"


@pytest.mark.parametrize(
    ("name", "env", "standin", "modalities"),
    [
        ("Twitter2015", "DUS-Twitter2015-v0", None, {"text": ("text", None), "image": ("image", None)}),
        (
            "Sarcasm",
            "DUS-Sarcasm-v0",
            "DUS-SarcasmTags-v0",
            {"text": ("text", "text"), "image": ("image", "words")},
        ),
        (
            "CREMA-D",
            "DUS-CREMAD-v0",
            "DUS-CREMADRatings-v0",
            {"audio": ("audio", "voice"), "video": ("video", "face")},
        ),
        (
            "Kinetics-Sounds",
            "DUS-KineticsSounds-v0",
            "DUS-AVDigits-v0",
            {"audio": ("audio", "audio"), "video": ("video", "image")},
        ),
        (
            "NVGesture",
            "DUS-NVGesture-v0",
            "DUS-MFeat-v0",
            {"rgb": ("rgb", "fou"), "depth": ("depth", "zer"), "optical_flow": ("flow", "mor")},
        ),
    ],
)
def test_a_printed_modality_is_one_of_the_task_and_one_of_the_stand_in(name, env, standin, modalities):
    dataset = DATASETS[name]
    assert dataset.known.env == env
    assert dataset.modalities == tuple(modalities)
    assert dataset.known.task.modalities == tuple(own for own, _ in modalities.values())
    if standin is None:
        assert dataset.standin is None
        return
    assert dataset.standin is not None
    small = data_set(dataset.standin.word)
    assert small.env == standin
    task = small.task.configured(dataset.standin.task_options)
    assert task.modalities == tuple(other for _, other in modalities.values())


@pytest.mark.parametrize("word", ITEMS)
def test_an_item_asks_for_what_there_is(word):
    item = ITEMS[word]
    assert item.word == word
    assert item.datasets
    assert set(item.datasets) <= set(DATASETS)
    assert (item.draw is None) == word.startswith("table") == (item.table is not None)
    assert {row.method for row in item.rows} <= set(METHODS)
    folders = [row.folder for row in item.rows]
    assert len(set(folders)) == len(folders), "two rows of one item would be the same run"


@pytest.mark.parametrize("word", [word for word in ITEMS if word.startswith("table")])
def test_every_printed_number_has_a_cell_and_every_cell_a_printed_number(word):
    item = ITEMS[word]
    cells = {
        (item.table, name, row.label, line, metric)
        for name in item.datasets
        for row in item.rows
        for line in lines_of(item, row, DATASETS[name])
        for metric in DATASETS[name].metrics
    }
    assert cells == {key for key in printed() if key[0] == item.table}


def test_known_printed_numbers():
    numbers = printed()
    assert len(numbers) == 264
    assert numbers["1", "Kinetics-Sounds", "DUS/MLA", "multimodal", "map"].percent == 80.06
    assert numbers["A1", "Sarcasm", "DUS/MLA", "multimodal", "accuracy"].std == 0.93
    assert numbers["4", "Kinetics-Sounds", "Baseline", "multimodal", "accuracy"].percent == 70.04, "which is MLA's"


def test_a_cell_sets_ours_beside_the_printed_number():
    cell = PaperCell("CREMA-D", "MLA", "multimodal", "accuracy", (78.0, 80.0), 79.43, None, "")
    assert cell.mean == 79.0
    assert cell.std == pytest.approx(math.sqrt(2.0))
    assert cell.difference == pytest.approx(-0.43)
    assert cell.text() == "79.0 ± 1.4 / 79.43 (-0.4)"
    assert PaperCell("CREMA-D", "MLA", "multimodal", "accuracy", (), 79.43, None, "no data").text() == "– / 79.43"


def test_data_sets_are_named_as_printed_or_as_on_the_command_line():
    among = ("CREMA-D", "Kinetics-Sounds")
    assert datasets_named("kinetics-sounds,crema-d,cremad", among) == ("Kinetics-Sounds", "CREMA-D")
    assert datasets_named(None, among) == among
    with pytest.raises(ConfigError, match="sarcasm"):
        datasets_named("sarcasm", among)
    with pytest.raises(ConfigError, match="names no data set"):
        datasets_named(",", among)


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


def test_a_function_reproduces_without_a_console(tmp_path, capsys):
    bars, done = [], []

    def progress(label, count):
        bars.append(count)
        return nullcontext(lambda figure, kept=False: done.append(figure))

    part = ItemPart(ITEMS["tableA2"], ("Kinetics-Sounds",), (ROWS["DUS"],))
    reproduction = Reproduction("real", tmp_path / "out", (0, 1), trainer="fake", epochs=2)
    ((numbers, page),) = reproduce(reproduction, [part], progress=progress)
    assert bars == [2]
    assert len(done) == 2
    assert {cell["row"] for cell in numbers["cells"]} == {"DUS"}
    assert (tmp_path / "out" / "tableA2.md").read_text(encoding="utf-8") == page
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ConfigError, match="mode='fake'"):
        Reproduction("fake", tmp_path, (0,))


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

    monkeypatch.setattr("dus_gym.experiments.run_many.execute", fails)
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
        data = Reproduction("real", tmp_path / "out", (0,), data_root=root).data_of(DATASETS["CREMA-D"])
        assert data.root is not None
        assert data.root.resolve() == own


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
