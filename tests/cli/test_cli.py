"""The command line as a user types it."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import dus

from dus_gym.experiments.storage.run_folder import NOT_REPRODUCIBLE

ROOT = Path(__file__).resolve().parents[2]
DUS = (sys.executable, "-c", "from dus_gym.cli import main; main()")


def without_seconds(summary):
    return {key: value for key, value in summary.items() if key not in NOT_REPRODUCIBLE}


def train(*words, cwd):
    done = dus("train", *words, "--quiet", "--json", cwd=cwd, check=0)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_help_lists_the_commands_and_every_option(tmp_path):
    assert "compare" in dus("--help", cwd=tmp_path, check=0).stdout
    text = dus("train", "--help-all", "--agent", "score", "--method", "mla", cwd=tmp_path, check=0).stdout
    for word in ("--loss-norm", "--agent.rule", "--method.projection", "--min-fraction", "--resume", "--data-root"):
        assert word in text
    assert "--agent.policy" not in text


def test_a_program_that_calls_a_command_has_its_log_back(tmp_path, monkeypatch):
    log, own = logging.getLogger("dus_gym"), [logging.NullHandler()]
    monkeypatch.setattr(log, "handlers", own)
    level = log.level
    for words, code in ((("runs", "list", "."), 0), (("train", "DUS-Fake-v0", "--epochs", 1, "--resume"), 2)):
        dus(*words, cwd=tmp_path, check=code)
        assert (log.handlers, log.level) == (own, level)


def test_envs_lists_every_id(tmp_path):
    found = json.loads(dus("envs", "--json", cwd=tmp_path, check=0).stdout.splitlines()[-1])["envs"]
    assert {"DUS-Fake-v0", "DUS-Digits-v0", "DUS-NVGesture-v0"} <= {row["env"] for row in found}
    lines = dus("envs", cwd=tmp_path).stdout.splitlines()
    assert all("DUS-" in line or line.startswith("    ") for line in lines)
    digits = next(line for line in lines if line.startswith("DUS-Digits-v0 "))
    assert digits.endswith("100 epochs, 128 samples per iteration, data: embedded")


def test_the_command_works_in_a_process_of_its_own(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    words = ("train", "DUS-Fake-v0", "--out", "run", "--quiet", "--json")
    done = subprocess.run([*DUS, *words], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    assert json.loads(done.stdout) == json.loads((tmp_path / "run/summary.json").read_text())
    assert done.stderr == ""
    # Whoever reads our output may stop reading.
    piped = subprocess.run(
        f"{sys.executable} -c 'from dus_gym.cli import main; main()' envs | head -1",
        shell=True, capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert piped.stderr == ""


def test_train_writes_the_run_and_prints_its_summary(tmp_path):
    done = dus("train", "DUS-Digits-v0", "--epochs", 4, "--out", "run", "--json", cwd=tmp_path, check=0)
    lines = done.stdout.splitlines()
    head = lines[1].split("\t")
    assert head == ["test split", "accuracy, %", "MAP, %", "macro-F1, %", "score, 0 to 1", "samples drawn"]
    cells = {row[0]: row[1:] for row in (line.split("\t") for line in lines[2:8])}
    assert [*cells][2:] == ["fused, method", "fused, concat", "fused, sum", "fused, entropy"]
    assert {*cells["fused, sum"][3:]} == {""}
    legend = lines[9]
    assert legend.startswith("Fused, method: the method's own prediction")
    for said in ("MAP: mean average precision", "Score: mean probability of the true class", "Gap: largest minus"):
        assert said in legend
    summary = json.loads(lines[-1])
    assert set(summary) >= {
        "env", "agent", "method", "seed", "trainer", "data_kind", "fused", "modalities", "gap", "iterations",
        "samples", "seconds",
    }  # fmt: skip
    pixels = summary["modalities"]["pixels"]
    figures = [f"{100 * pixels[name]:.1f}" for name in ("accuracy", "map", "macro_f1")]
    assert cells["pixels"] == [*figures, f"{pixels['score']:.3f}", str(pixels["samples"])]
    assert set(summary["fused"]) == {"method", "concat", "sum", "entropy"}
    assert set(summary["fused"]["sum"]) == {"accuracy", "map", "macro_f1"}
    assert set(summary["modalities"]["pixels"]) >= {"accuracy", "map", "macro_f1", "samples", "score"}
    assert (summary["trainer"], summary["data_kind"]) == ("real", "real")
    assert (summary["iterations"], summary["samples"]) == (24, 24 * 128)
    assert sum(m["samples"] for m in summary["modalities"].values()) == summary["samples"]
    run = tmp_path / "run"
    assert json.loads((run / "summary.json").read_text()) == summary
    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    assert [step["epoch"] for step in steps] == [1, 2, 3, 4]
    assert (run / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {"config.json", "checkpoint.safetensors", "model.safetensors"} <= {p.name for p in run.iterdir()}


def test_the_same_command_gives_the_same_summary_and_another_seed_another(tmp_path):
    words = ("DUS-Digits-v0", "--epochs", 5, "--agent", "reinforce", "--agent.preset", "tuned")
    one = train(*words, "--out", "a", cwd=tmp_path)
    assert without_seconds(train(*words, "--out", "b", cwd=tmp_path)) == without_seconds(one)
    assert without_seconds(train(*words, "--out", "c", "--seed", 1, cwd=tmp_path)) != without_seconds(one)
    assert [json.loads(x) for x in (tmp_path / "a/steps.jsonl").open()] == [
        json.loads(x) for x in (tmp_path / "b/steps.jsonl").open()
    ]


@pytest.mark.parametrize("method", ["baseline", "mla"])
@pytest.mark.parametrize("agent", ["uniform", "heuristic", "score", "reinforce"])
def test_every_agent_trains_every_method(tmp_path, agent, method):
    words = ("DUS-Digits3-v0", "--agent", agent, "--method", method, "--epochs", 2, "--out", "run")
    summary = train(*words, cwd=tmp_path)
    assert (summary["agent"], summary["method"]) == (agent, method)
    assert (summary["fused"]["concat"] is None) == (method == "mla")


# -- uniform beside the agent ----------------------------------------------------------------------

SHORT = ("DUS-Digits-v0", "--epochs", 3, "--seed", 4)


def ending(done):
    """The sentences behind the table of a run."""
    return done.stdout.partition("\n\n")[2].splitlines()


def test_a_run_ends_with_a_sentence_beside_uniform_the_picture_and_the_next_command(tmp_path):
    words = (*SHORT, "--agent", "score", "--agent.rule", "softmax", "--loss-norm", "fixed")
    done = dus("train", *words, "--out", "run", "--json", cwd=tmp_path, check=0)
    mine = json.loads(done.stdout.splitlines()[-1])
    theirs = train(*SHORT, "--agent", "uniform", "--loss-norm", "fixed", "--out", "uniform", cwd=tmp_path)
    assert mine == json.loads((tmp_path / "run/summary.json").read_text()), "uniform's figures are not the run's"
    a, b = (100 * run["fused"]["method"]["accuracy"] for run in (mine, theirs))
    assert ending(done)[:-1] == [
        f"score:rule=softmax reached {a:.1f} % test accuracy, uniform {b:.1f} % with the same seed and settings "
        f"({a - b:+.1f} points); one seed decides nothing.",
        "written to run, the picture of the run to run/curves.png",
        "next: dus compare DUS-Digits-v0 --agents score:rule=softmax --epochs 3 --loss-norm fixed",
    ]
    assert (tmp_path / "run/curves.png").is_file()
    again = dus("train", *words, "--out", "run", "--resume", cwd=tmp_path, check=0)
    assert ending(again) == ending(done)[:-1], "a finished run says the same"
    dus(*ending(done)[2].split()[2:], "--seeds", 1, "--epochs", 1, "--quiet", cwd=tmp_path, check=0)


def test_uniform_beside_an_agent_leaves_the_run_and_its_folder_as_they_are(tmp_path):
    found = {}
    for name, alone in (("beside", []), ("alone", ["--alone"])):
        dus("train", *SHORT, "--agent", "reinforce", *alone, "--out", name, cwd=tmp_path, check=0)
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()}
        found[name] = without_seconds(json.loads(files.pop("summary.json"))), files["steps.jsonl"], sorted(files)
    assert found["beside"] == found["alone"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "beside"]


@pytest.mark.parametrize(
    ("words", "seconds", "runs", "said", "command"),
    [
        (("--agent", "score"), 60.0, 2, "score reached ", "--agents score --epochs 3"),
        (("--agent", "score", "--alone"), 60.0, 1, "score reached ", "--agents score --epochs 3"),
        (("--agent", "score"), 0.0, 1, "uniform was not trained beside it: that would take about",
         "--agents score --epochs 3"),
        (("--agent", "uniform"), 60.0, 1, "uniform reached ", "DUS-Digits-v0 --epochs 3"),
        (("--agent", "score", "--quiet"), 60.0, 1, "", ""),
        (("--agent", "score", "--method", "unimodal"), 60.0, 2, "score reached ", "--method unimodal --epochs 3"),
    ],
)  # fmt: skip
def test_uniform_is_trained_where_it_is_wanted_and_short(tmp_path, monkeypatch, words, seconds, runs, said, command):
    from dus_gym.experiments import run

    made, execute = [], run.execute
    monkeypatch.setattr(run, "execute", lambda spec, *of, **how: made.append(spec) or execute(spec, *of, **how))
    monkeypatch.setattr("dus_gym.cli.train.BESIDE_SECONDS", seconds)
    done = dus("train", *SHORT, *words, cwd=tmp_path, check=0)
    assert [spec.agent for spec in made[1:]] == ["uniform"] * (runs - 1)
    assert {(spec.seed, spec.method, str(spec.settings)) for spec in made} == {
        (4, made[0].method, "{'epochs': 3}")
    }  # fmt: skip
    text = done.stdout.partition("\n\n")[2]
    assert said in text
    assert command in text
    assert ("the same seed" in text) == (runs == 2)


def test_a_fake_run_says_so_everywhere(tmp_path):
    done = dus("train", "DUS-KineticsSounds-v0", "--trainer", "fake", "--out", "run", "--json", cwd=tmp_path, check=0)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["trainer"], summary["data_kind"]) == ("fake", "mock")
    assert "trainer fake" in done.stdout
    assert not (tmp_path / "run/model.safetensors").exists()


def test_a_comparison_has_the_promised_shape(tmp_path):
    done = dus(
        "compare", "DUS-Digits-v0", "--agents", "heuristic,reinforce:policy=literal", "--seeds", "3,1",
        "--epochs", 3, "--out", "c", "--json", cwd=tmp_path, check=0,
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result) >= {"env", "method", "seeds", "agents"}
    assert result["seeds"] == [3, 1]
    assert list(result["agents"]) == ["uniform", "heuristic", "reinforce:policy=literal"]
    for row in result["agents"].values():
        assert set(row) >= {"fused", "gap", "samples", "iterations", "vs_uniform"}
        assert set(row["fused"]) == set(row["vs_uniform"]) == {"method", "concat", "sum", "entropy"}
        assert set(row["fused"]["sum"]) == {"accuracy", "map", "macro_f1"}
        assert set(row["fused"]["sum"]["map"]) == {"mean", "std"}
        assert set(row["vs_uniform"]["sum"]) == {"points", "p"}
    runs = [json.loads((tmp_path / f"c/heuristic/seed{s}/summary.json").read_text()) for s in (3, 1)]
    base = [json.loads((tmp_path / f"c/uniform/seed{s}/summary.json").read_text()) for s in (3, 1)]
    points = [
        100 * (a["fused"]["sum"]["accuracy"] - b["fused"]["sum"]["accuracy"]) for a, b in zip(runs, base, strict=True)
    ]
    assert result["agents"]["heuristic"]["vs_uniform"]["sum"]["points"] == pytest.approx(sum(points) / 2)
    # A finished comparison is not run again.
    again = dus(
        "compare", "DUS-Digits-v0", "--agents", "heuristic,reinforce:policy=literal", "--seeds", "3,1",
        "--epochs", 3, "--out", "c", "--json", "--quiet", "--resume", cwd=tmp_path, check=0,
    )  # fmt: skip
    assert json.loads(again.stdout) == result


def test_one_seed_gives_no_p_value_and_says_so(tmp_path):
    done = dus("compare", "DUS-Fake-v0", "--agents", "score", "--seeds", 1, "--json", cwd=tmp_path, check=0)
    assert "no p-value" in done.stdout.lower()
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["agents"]["score"]["vs_uniform"]["sum"]["p"] is None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("train", "DUS-Digit-v0"), "DUS-Digits-v0"),
        (("train", "DUS-Digits-v0", "--agent", "reinforc"), "reinforce"),
        (("train", "DUS-Digits-v0", "--method", "basline"), "baseline"),
        (("trian", "DUS-Digits-v0"), "train"),
        (("train", "DUS-CREMAD-v0"), "--trainer fake"),
        (("train", "DUS-Digits-v0", "--epochs", "0"), "epochs=0"),
        (("train", "DUS-Digits-v0", "--validation", "none"), "DUS-Digits-v0 has no choice of it; leave --validation"),
        (("compare", "DUS-Digits-v0,DUS-CREMAD-v0", "--validation", "none"), "DUS-Digits-v0 has no choice of it"),
        (("train", "DUS-Digits-v0", "--encoder", "clip"), "leave --encoder out"),
        (("train", "DUS-Digits-v0", "--epochs=-3"), "epochs=-3"),
        (("train", "DUS-Digits-v0", "--total-batch", "3"), "total_batch=3"),
        (("train", "DUS-Digits-v0", "--loss-norm", "sum"), "loss_norm='sum'"),
        (("train", "DUS-Digits-v0", "--agent", "reinforce", "--agent.policy", "litral"), "literal"),
        (("train", "DUS-Digits-v0", "--action-mode", "fractions"), "action_mode"),
        (("train", "DUS-Digits-v0", "--device", "cuda:99"), "cuda:99"),
        (("train", "DUS-Digits-v0", "--resume"), "no run to resume"),
        (("compare", "DUS-Digits-v0", "--seeds", "1,1"), "may be named once"),
        (("compare", "DUS-Digits-v0", "--seeds", "many"), "many"),
        (("compare", "DUS-Digits-v0", "--agents", "score:rule"), "option=value"),
    ],
)
def test_what_can_not_be_exits_with_2_names_the_fix_and_writes_nothing(tmp_path, words, named):
    done = dus(*words, cwd=tmp_path, check=2)
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.rglob("*")) == []


def test_a_folder_that_is_no_run_is_never_touched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("years of work")
    for words in (("train", "DUS-Fake-v0"), ("compare", "DUS-Fake-v0")):
        done = dus(*words, "--out", "thesis", "--force", cwd=tmp_path, check=2)
        assert "holds no" in done.stderr
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


SEARCH = ("--constant-generations", 1, "--generations", 0, "--candidates", 4, "--seeds-per-generation", 1)
ON_OWN_DATA = {
    "train": ("--agent", "score", "--alone"),
    "compare": ("--agents", "score", "--seeds", 2),
    "ceiling": ("--agents", "score", "--seeds", 2, *SEARCH),
}


@pytest.fixture
def own_data(tmp_path):
    """40 samples of b, 15 of a, 5 of c, in two modalities."""
    rng = np.random.default_rng(0)
    labels = np.array(["b"] * 40 + ["a"] * 15 + ["c"] * 5)
    means = np.searchsorted(["a", "b", "c"], labels)
    sound = (rng.normal(size=(60, 5)) + means[:, None]).astype(np.float32)
    face = (rng.normal(size=(60, 6, 6)) + means[:, None, None]).astype(np.float32)
    np.savez(tmp_path / "own.npz", sound=sound, face=face, labels=labels)
    return "own.npz"


@pytest.mark.parametrize("command", ON_OWN_DATA)
def test_own_data_is_described_before_anything_is_trained(command, own_data, tmp_path):
    words = (command, "--data", own_data, "--epochs", 1, "--out", "made")
    lines = dus(*words, *ON_OWN_DATA[command], cwd=tmp_path, check=0).stdout.splitlines()
    # A fifth of each class tests: 8, 3 and 1; of what is left a tenth validates, and one at least.
    assert lines[0] == (
        "DUS-Own-v0/own: 2 modalities, 3 classes, 60 samples (43 train, 5 validation, 12 test). Always answering 'b', "
        "the most frequent class of the test split, would be right for 66.7 % of it."
    )
    cells = [line.split("\t") for line in lines[1:]]
    assert cells[0] == ["modality", "one sample", "prepared"]
    assert [row[:2] for row in cells[1:3]] == [["sound", "5"], ["face", "1 × 6 × 6"]]
    classes = cells.index(["class", "train", "validation", "test"])
    assert cells[classes + 1 : classes + 4] == [["a", "11", "1", "3"], ["b", "29", "3", "8"], ["c", "3", "1", "1"]]
    quiet = dus(*words, *ON_OWN_DATA[command], "--force", "--quiet", cwd=tmp_path, check=0)
    assert quiet.stdout == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [("train", ("--agent", "nobody")), ("compare", ("--agents", "nobody")), ("ceiling", ("--agents", "nobody"))],
)
def test_own_data_is_not_described_to_who_asks_for_what_can_not_be(command, words, own_data, tmp_path):
    done = dus(command, "--data", own_data, *words, cwd=tmp_path, check=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_without_out_every_run_gets_its_own_folder(tmp_path):
    for _ in range(2):
        train("DUS-Fake-v0", "--agent", "uniform", cwd=tmp_path)
    assert {p.name for p in (tmp_path / "runs/DUS-Fake-v0").iterdir()} == {
        "uniform-baseline-seed0",
        "uniform-baseline-seed0-2",
    }


@pytest.mark.parametrize("damage", ["truncated", "pickle", "other task"])
def test_a_checkpoint_that_can_not_be_trusted_is_refused(tmp_path, damage):
    words = ("DUS-Digits-v0", "--epochs", 3, "--out", "run")
    train(*words, cwd=tmp_path)
    checkpoint = tmp_path / "run/checkpoint.safetensors"
    (tmp_path / "run/summary.json").unlink()
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    elif damage == "pickle":
        import torch

        torch.save({"x": 1}, checkpoint)
    else:
        train("DUS-DigitsControl-v0", "--epochs", 3, "--out", "other", cwd=tmp_path)
        checkpoint.write_bytes((tmp_path / "other/checkpoint.safetensors").read_bytes())
    done = dus("train", *words, "--resume", cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert {"truncated": "damaged", "pickle": "pickle", "other task": "task"}[damage] in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run/summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["baseline", "mla"])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, method, monkeypatch):
    monkeypatch.setenv("DUS_CHECKPOINT_SECONDS", "0")
    words = ("DUS-Digits-v0", "--method", method, "--agent", "reinforce", "--agent.preset", "tuned", "--epochs", 60)
    whole = train(*words, "--out", "whole", cwd=tmp_path)
    command = [
        sys.executable,
        "-c",
        "from dus_gym.cli import main; main()",
        "train",
        *map(str, words),
        "--out",
        "killed",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    steps = tmp_path / "killed/steps.jsonl"
    kills = 0
    for wanted in (5, 20, 45):
        resume = ["--resume"] if steps.exists() else []
        process = subprocess.Popen([*command, *resume], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if steps.exists() and len(steps.read_bytes().splitlines()) >= wanted:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                break
            time.sleep(0.002)
    assert kills == 3
    assert not (tmp_path / "killed/summary.json").exists()
    resumed = train(*words, "--out", "killed", "--resume", cwd=tmp_path)
    assert without_seconds(resumed) == without_seconds(whole)
    assert steps.read_text() == (tmp_path / "whole/steps.jsonl").read_text()
