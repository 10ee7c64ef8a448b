"""Everything of ours that reads something from outside: a whole input each, and a function that reads a damaged one.

A target returns what it read, as something that can be compared, or raises the package's own error.
"""

import contextlib
import csv
import datetime
import io
import json
import shutil
import zipfile
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from campaign.mutate import VALUES, mutated, mutated_json, mutated_lines, retyped


class BrokenError(Exception):
    """A command that failed in another way than it should."""


@dataclass(frozen=True)
class Target:
    """A reader under attack."""

    whole: Any
    """The undamaged input."""
    read: Any
    """A function of the damaged one."""
    damage: Any = mutated
    """A function of the whole one and a generator of random numbers."""
    sealed: bool = False
    """Whether the format has a checksum, so that what is read from a damaged input must be what was written."""
    weight: int = 1
    """How often it is attacked."""


def command(*words):
    """Call the command line; return what it printed. A traceback, or more than a line of trouble, is an error."""
    from dus_gym.cli import main

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code or 0
    # A terminal takes no halves of surrogate pairs; ours are told to write them otherwise.
    said = err.getvalue().strip()
    if code not in (0, 1, 2) or (code and said.count("\n") > 3) or "Traceback" in said:
        raise BrokenError(f"{words[:2]}: exit code {code}, {said[:300]!r}")
    return out.getvalue() if code == 0 else None


class Scratch:
    """The folders in which inputs are put."""

    def __init__(self, root):
        from dus_gym.cli import main  # noqa: F401

        self.root = Path(root)
        command("train", "DUS-Fake-v0", "--agent", "reinforce", "--epochs", "6", "--quiet", "--out", self / "whole")
        command("train", "DUS-Fake-v0", "--agent", "pi", "--epochs", "6", "--quiet", "--out", self / "runs/good")
        command("compare", "DUS-Fake-v0", "--agents", "pi", "--seeds", "2", "--epochs", "4", "--quiet", "--out",
                self / "comparison")  # fmt: skip
        shutil.copytree(self / "whole", self / "runs/bad")
        shutil.copytree(self / "whole", self / "stopped")
        (self / "stopped/summary.json").unlink()

    def __truediv__(self, name):
        return self.root / name

    def whole(self, name):
        return (self / "whole" / name).read_bytes()


def run_file(scratch, name, damage):
    """A file of a run folder under every command that reads it."""

    def read(data):
        folder = scratch / "runs/bad"
        (folder / name).write_bytes(data)
        try:
            command("report", folder, "--quiet")
            command("runs", "show", folder)
            command("watch", folder, "--once")
            command("runs", "diff", folder, scratch / "runs/good")
            command("train", "DUS-Fake-v0", "--agent", "reinforce", "--epochs", "6", "--quiet", "--resume", "--out",
                    folder)  # fmt: skip
            listed = command("runs", "list", scratch / "runs")
            if listed is None or "good" not in listed:
                raise BrokenError("the good run beside it is not listed")
        finally:
            shutil.rmtree(folder)
            shutil.copytree(scratch / "whole", folder)

    return Target(scratch.whole(name), read, damage)


def lock_file(scratch):
    def read(data):
        (scratch / "runs/bad/.lock").write_bytes(data)
        try:
            command("runs", "list", scratch / "runs")
            command("watch", scratch / "runs/bad", "--once")
        finally:
            (scratch / "runs/bad/.lock").unlink(missing_ok=True)

    return Target(b'{"host": "here/pid:[1]", "pid": 12, "token": "ab"}', read, mutated_json)


def index(scratch):
    from dus_gym.experiments.storage.run_index import INDEX, list_runs

    root = scratch / "indexed"
    shutil.copytree(scratch / "whole", root / "run")
    rows = list_runs(root)

    def read(data):
        (root / INDEX).write_bytes(data)
        return list_runs(root)

    whole = (root / INDEX).read_bytes()
    assert list_runs(root) == rows
    return Target(whole, read, mutated_lines, sealed=True, weight=2)


def comparison(scratch):
    whole = (scratch / "comparison/comparison.json").read_bytes()

    def read(data):
        folder = scratch / "read"
        folder.mkdir(exist_ok=True)
        (folder / "comparison.json").write_bytes(data)
        command("report", folder / "comparison.json", "--quiet")

    return Target(whole, read, mutated_json)


def comparison_config(scratch):
    def read(data):
        folder = scratch / "compared"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_bytes(data)
        command("report", folder, "--quiet")
        command("runs", "list", folder)
        command("runs", "show", folder)
        command("validate", folder / "nothing")

    return Target((scratch / "comparison/config.json").read_bytes(), read, mutated_json)


CEILING_WORDS = (
    *("ceiling", "DUS-Digits-v0", "--agents", "score", "--seeds", 2, "--epochs", 1, "--quiet"),
    *("--segments", 2, "--constant-generations", 1, "--generations", 1, "--candidates", 4),
    *("--seeds-per-generation", 1),
)


def ceiling(scratch, name):
    """A file of a ceiling under the commands that read it."""
    whole = scratch / "ceiling"
    if not whole.is_dir():
        command(*CEILING_WORDS, "--out", whole)

    def read(data):
        folder = scratch / "attacked ceiling"
        shutil.copytree(whole, folder)
        try:
            (folder / name).write_bytes(data)
            command("report", folder, "--quiet")
            command("runs", "list", folder)
            if name == "search.json":
                command(*CEILING_WORDS, "--out", folder, "--resume")
        finally:
            shutil.rmtree(folder)

    return Target((whole / name).read_bytes(), read, mutated_json)


def kept_probe(scratch):
    run = scratch / "probed"
    command("train", "DUS-Digits-v0", "--epochs", "2", "--alone", "--quiet", "--out", run)
    command("probe", run, "--quiet")

    def read(data):
        (run / "probe.json").write_bytes(data)
        command("report", run, "--quiet")

    return Target((run / "probe.json").read_bytes(), read, mutated_json)


def settings_file(scratch, ending):
    from dus_gym.cli.arguments import parse
    from dus_gym.cli.run_options import AGENT, METHOD, TASK, OutputOptions, TaskOptions, beneath, call_arguments
    from dus_gym.cli.train import TrainOptions
    from dus_gym.config import RunConfig
    from dus_gym.experiments.spec import make_spec

    def asked(words):
        groups = {"agent": AGENT, "method": METHOD, "task": TASK}
        parsed = parse(words, "train", "", TrainOptions, TaskOptions, OutputOptions, RunConfig, groups=groups,
                       beneath=beneath)  # fmt: skip
        options = parsed.build(TrainOptions)
        spec = make_spec(agent=options.agent, policy=options.policy, seed=options.seed,
                         agent_options=parsed.group("agent"), **call_arguments(parsed))  # fmt: skip
        spec.check()
        return spec.command()

    if ending is None:
        return asked

    def read(data):
        file = scratch / f"settings{ending}"
        file.write_bytes(data)
        return asked(["--config", str(file)])

    values = {
        "env": "DUS-Digits-v0", "agent": "score", "agent_options": {"rule": "softmax", "temperature": 0.3},
        "method": "ogm", "epochs": 3, "seed": 4, "loss_norm": "fixed", "task_options": {}, "min_fraction": 0.1,
    }  # fmt: skip
    if ending == ".json":
        return Target(json.dumps(values).encode(), read, mutated_json)
    import yaml

    return Target(yaml.safe_dump(values).encode(), read)


def state(scratch, name, kind):
    """A safetensors file with a checksum: damaged bytes."""
    from dus_gym.state import load_state

    def read(data):
        file = scratch / f"damaged-{name}"
        file.write_bytes(data)
        found = load_state(file, kind)
        return repr([(key, str(value)) for key, value in sorted(found.items())])

    return Target(scratch.whole(name), read, sealed=True, weight=3)


def content(scratch, name, kind):
    """A safetensors file whose checksum is right and whose content is not what it should be."""
    from dus_gym.agents.policy_files import load_agent
    from dus_gym.state import load_state, save_state

    whole = load_state(scratch / "whole" / name, kind)

    def damage(value, rng):
        return retyped(value, rng)

    def read(value):
        file = scratch / (f"content-{name}" if kind == "policy" else "stopped/checkpoint.safetensors")
        try:
            save_state(file, kind, value)
        except (TypeError, ValueError, OverflowError, AttributeError):
            return  # what can't be written can't be read
        if kind == "policy":
            load_agent(file)
            command("train", "DUS-Fake-v0", "--policy", file, "--epochs", "1", "--quiet", "--out", scratch / "p",
                    "--force")  # fmt: skip
            return
        shutil.copy(scratch / "whole/steps.jsonl", scratch / "stopped")
        with contextlib.suppress(FileNotFoundError):
            (scratch / "stopped/summary.json").unlink()
        command("train", "DUS-Fake-v0", "--agent", "reinforce", "--epochs", "6", "--quiet", "--resume", "--out",
                scratch / "stopped")  # fmt: skip

    return Target(whole, read, damage)


def model(scratch):
    from dus_gym.state import save_state

    rng = np.random.default_rng(0)
    save_state(scratch / "whole/model.safetensors", "model", {"model": {"w": rng.normal(size=(4, 5))}})
    found = state(scratch, "model.safetensors", "model")
    (scratch / "whole/model.safetensors").unlink()
    return found


def arrays(scratch, compressed):
    from dus_gym.data.own.arrays import read_arrays

    rng = np.random.default_rng(0)
    file = scratch / "own.npz"
    save = np.savez_compressed if compressed else np.savez
    save(file, voice=rng.normal(size=(12, 5)).astype("f4"), face=rng.normal(size=(12, 3)), labels=np.arange(12) % 2)
    whole = file.read_bytes()

    def read(data):
        file.write_bytes(data)
        table = read_arrays(file)
        return repr([(name, array.tobytes()) for name, array in table.modalities.items()] + [table.labels.tobytes()])

    # A name in a ZIP file is no content: a modality of another name is another data set.
    def told(data):
        found = read(data)
        names = sorted(zipfile.ZipFile(io.BytesIO(data)).namelist())
        return found if names == ["face.npy", "labels.npy", "voice.npy"] else wanted

    wanted = read(whole)
    return Target(whole, told, sealed=True, weight=2)


def npy(scratch, name):
    from dus_gym.data.own.arrays import read_arrays
    from dus_gym.data.registry import get_task

    rng = np.random.default_rng(0)
    folder = scratch / f"npy-{name}"
    folder.mkdir()
    np.save(folder / "voice.npy", rng.normal(size=(12, 5)).astype("f4"))
    np.save(folder / "face.npy", rng.normal(size=(12, 1, 4, 4)).astype("f4"))
    np.save(folder / "labels.npy", np.array(["a", "bé"] * 6) if name == "labels" else np.arange(12) % 2)

    def read(data):
        (folder / f"{name}.npy").write_bytes(data)
        read_arrays(folder)
        get_task("Own").configured(None, str(folder))

    return Target((folder / f"{name}.npy").read_bytes(), read)


def media_list(scratch):
    from dus_gym.data.own.folder import read_folder

    root = scratch / "media"
    for name in ("pulse", "step"):
        (root / name).mkdir(parents=True)
        for i in range(12):
            np.save(root / name / f"s{i}.npy", np.zeros(3, "f4"))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerows(
        [("sample", "label", "split"), *((f"s{i}", "ab"[i % 2], ("train", "test")[i > 8]) for i in range(12))]
    )

    def read(data):
        (root / "labels.csv").write_bytes(data)
        read_folder(root)

    return Target(text.getvalue().encode(), read, weight=2)


def annotations(scratch, name, file, read_lists):
    root = scratch / f"mock-{name}"
    if not root.exists():
        command("data", "mock", name, "--clips", "12", "--quiet", "--root", root)
    whole = (root / file).read_bytes()

    def read(data):
        try:
            (root / file).write_bytes(data)
            read_lists(root)
        finally:
            (root / file).write_bytes(whole)

    return Target(whole, read)


def data_settings(scratch):
    from dus_gym.data.media_source import FolderSettings
    from dus_gym.data.registry import get_task

    root = scratch / "mock-cremad-settings"
    command("data", "mock", "cremad", "--clips", "12", "--quiet", "--root", root)

    def read(data):
        (root / "dus-data.json").write_bytes(data)
        FolderSettings.read(root)
        get_task("CREMAD").configured(None, str(root)).source  # noqa: B018

    return Target((root / "dus-data.json").read_bytes(), read, mutated_json)


def list_of_objects(scratch, parse, whole):
    file = scratch / f"list-{parse.__module__}.json"

    def read(data):
        file.write_bytes(data)
        parse(file)

    return Target(json.dumps(whole).encode(), read, mutated_json)


def medium(scratch, ending, whole):
    """A media file under the decoder of its kind; errors are the file's, and no file ends a build."""
    from dus_gym.data.media.audio import read_wave
    from dus_gym.data.media.video import read_every, read_window
    from dus_gym.data.own.decoders import Picture, load_plain
    from dus_gym.data.store import Row

    file = scratch / f"medium{ending}"

    def read(data):
        file.write_bytes(data)
        if ending in (".wav", ".flac", ".ogg"):
            read_wave(file, 16_000)
        elif ending in (".png", ".jpg"):
            Picture("face", 16)(Row("s", (file,)))
        elif ending == ".npy":
            load_plain(file)
        else:
            read_every(file, 1)
            read_window(file, 0, 4)
            read_wave(file, 16_000)

    return Target(whole, read)


def archive(scratch, ending):
    from dus_gym.data.archive import open_files

    folder = scratch / f"packed{ending}"
    for i in range(3):
        (folder / "a").mkdir(parents=True, exist_ok=True)
        (folder / f"a/{i}.txt").write_text(f"{i}" * 100)
    kind = {".zip": "zip", ".tar": "tar", ".tgz": "gztar", ".txz": "xztar"}[ending]
    file = Path(shutil.make_archive(str(folder), kind, folder))
    whole = file.read_bytes()

    def read(data):
        file.write_bytes(data)
        with open_files(file) as found:
            for name, size in found.sizes.items():
                with found.open(name) as member:
                    member.read(min(size, 10_000))

    return Target(whole, read)


ODD = [
    "0.5", b"1", "2020-01-01", datetime.date(2020, 1, 1), np.datetime64("2020-01-01"), 10**400, 1e400, float("nan"),
    -0.1, 1 + 2j, None, True, [], {}, object(), Decimal("0.5"), Fraction(1, 3), [0.5], np.float16(0.5), np.array(0.25),
    1e308, 5e-324, -0.0, 2**70, np.ma.masked, range(2), slice(2), {0.5}, np.array(["0.5"]), np.void(b"ab"),
]  # fmt: skip


def odd_action(_, rng):
    """An action: sometimes a fine one, usually not."""
    length = rng.choice((2, 2, 2, 2, 0, 1, 3))
    entries = [rng.choice(ODD) if rng.random() < 0.6 else rng.random() for _ in range(length)]
    if rng.random() < 0.1:
        return rng.choice((*ODD, [entries], {"a": entries}, tuple(entries), iter(entries)))
    return entries


def actions(mode, vector=False):
    import gymnasium as gym

    from dus_gym.errors import ConfigError

    make = gym.make_vec if vector else gym.make
    env = make("dus_gym:DUS-Fake-v0", **({"num_envs": 2} if vector else {}), action_mode=mode, epochs=2)
    env.reset(seed=0)

    def read(action):
        if vector:
            action = [action, [0.5, 0.5]]
            info = env.step(action)[4]
            sizes = [[int(info[key][i]) for key in info if key.startswith("size/")] for i in range(2)]
        else:
            _, _, ended, _, info = env.unwrapped.step(action)
            sizes = [[info[key] for key in info if key.startswith("size/")]]
            if ended:
                env.reset(seed=0)
        for each in sizes:
            if sum(each) > 128 or (min(each) < 2 and any(each)) or (mode == "shares" and sum(each) not in (0, 128)):
                raise BrokenError(f"sizes {each}")

    assert ConfigError
    return Target(None, read, odd_action, weight=6)


def command_lines(scratch):
    """Random words from the options of commands that only read, or of those that train as far as the checks."""
    from dus_gym.cli.arguments import parse
    from dus_gym.cli.compare import CompareOptions
    from dus_gym.cli.data import BuildOptions, FetchOptions, MockOptions, RootOptions
    from dus_gym.cli.meta_train import MetaTrainOptions
    from dus_gym.cli.reproduce import ReproduceOptions
    from dus_gym.cli.run_options import OutputOptions, TaskOptions
    from dus_gym.cli.train import TrainOptions
    from dus_gym.config import RunConfig
    from dus_gym.options import option_table

    asked = settings_file(scratch, None)
    parsers = [
        (MetaTrainOptions, RunConfig), (ReproduceOptions,), (BuildOptions,), (FetchOptions,), (MockOptions,),
        (RootOptions,), (CompareOptions, TaskOptions, OutputOptions, RunConfig),
    ]  # fmt: skip
    reading = [["envs"], ["methods"], ["agents"], ["rewards"], ["data", "list"], ["runs", "list"], ["runs", "show"],
               ["runs", "diff"], ["report"], ["watch", "--once"], ["runs"], ["data"], []]  # fmt: skip
    names = sorted({
        f"--{row['name'].replace('_', '-')}"
        for kinds in [*parsers, (TrainOptions,)] for kind in kinds for row in option_table(kind)
    } - {"--out", "--csv", "--parquet", "--yes", "--every"})  # fmt: skip
    words = [
        "DUS-Fake-v0", "DUS-Digits-v0", "dus_gym:DUS-Fake-v0",
        "score", "pi", "reinforce", "gap", "ogm", "baseline", "0",
        "1", "-1", "1e400", "nan", "9" * 400, "", "=", "--", "-", "--agent.beta", "--agent.rule=softmax", "--task.x",
        "--method.alpha", "score:rule=softmax", "fixed:shares=1/3", "a:b", "a=b", ":", "--epochs=2", "--help", "-h",
        "cremad", "digits", "\udcff", "é", "[red]", "1,2", "0-9", "3-1", "0-99999999999", str(scratch / "whole"),
        str(scratch / "runs"), str(scratch / "comparison"), "/nowhere", "--no-amp", "--json", "%s", "{}", "$(x)",
    ]  # fmt: skip

    def damage(_, rng):
        start = rng.choice((*reading, "train", "train", "parse", "parse"))
        said = [rng.choice(names) if rng.random() < 0.4 else rng.choice(words) for _ in range(rng.randrange(7))]
        return start, said, rng.randrange(len(parsers))

    def read(line):
        start, said, number = line
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                if start == "train":
                    asked(said)
                elif start == "parse":
                    parse(said, "x", "", *parsers[number])
                elif "--rebuild" not in said:
                    command(*start, *said)
            except SystemExit as ended:
                if ended.code not in (0, None):
                    raise BrokenError(f"exit code {ended.code}") from ended

    return Target(None, read, damage, weight=4)


def made_media(scratch):
    """Small whole media files by their ending."""
    import av
    import soundfile
    from PIL import Image

    rng = np.random.default_rng(0)
    sound = 0.3 * rng.standard_normal(4_000)
    for ending, form in ((".wav", "WAV"), (".flac", "FLAC"), (".ogg", "OGG")):
        soundfile.write(scratch / f"made{ending}", sound, 16_000, format=form)
    pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    for ending in (".png", ".jpg"):
        Image.fromarray(pixels).save(scratch / f"made{ending}")
    np.save(scratch / "made.npy", pixels.astype("f4"))
    for ending, codec in ((".mp4", "mpeg4"), (".avi", "mjpeg")):
        with av.open(str(scratch / f"made{ending}"), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
            voice = container.add_stream("mp3", rate=16_000, layout="mono")
            for i in range(8):
                frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 20 * i, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            frame = av.AudioFrame.from_ndarray(sound[None].astype("f4"), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return {ending: (scratch / f"made{ending}").read_bytes()
            for ending in (".wav", ".flac", ".ogg", ".png", ".jpg", ".npy", ".mp4", ".avi")}  # fmt: skip


MEDIA = (".wav", ".flac", ".ogg", ".png", ".jpg", ".npy", ".mp4", ".avi")


def _lists(name, file, module):
    def make(scratch):
        from importlib import import_module

        return annotations(scratch, name, file, import_module(f"dus_gym.data.sets.{module}").read_lists)

    return make


def _objects(module, whole, *more):
    def make(scratch):
        from importlib import import_module

        parse = import_module(f"dus_gym.data.sets.{module}").parse_json

        def read(path):
            parse(path, *more)

        read.__module__ = module
        return list_of_objects(scratch, read, whole)

    return make


def _votes(scratch):
    from dus_gym.data.sets.cremad_ratings import LEVELS, VOTES, read_votes

    file = scratch / "votes.csv"
    head = ["", *VOTES, *LEVELS, "fileName", "numResponses"]
    lines = [",".join(head)]
    lines += [",".join([str(digit), *["3"] * (len(head) - 3), f"c{i}", "10"]) for digit in (1, 2, 3) for i in range(4)]

    def read(data):
        file.write_bytes(data)
        read_votes(file)

    return Target("\n".join(lines).encode(), read)


FORMATS = {
    "config.json": lambda s: run_file(s, "config.json", mutated_json),
    "summary.json": lambda s: run_file(s, "summary.json", mutated_json),
    "steps.jsonl": lambda s: run_file(s, "steps.jsonl", mutated_lines),
    "comparison.json": comparison,
    "comparison's config.json": comparison_config,
    "ceiling.json": lambda s: ceiling(s, "ceiling.json"),
    "search.json": lambda s: ceiling(s, "search.json"),
    "probe.json": kept_probe,
    "lock": lock_file,
    "index": index,
    "settings.yaml": lambda s: settings_file(s, ".yaml"),
    "settings.json": lambda s: settings_file(s, ".json"),
    "checkpoint": lambda s: state(s, "checkpoint.safetensors", "checkpoint"),
    "policy": lambda s: state(s, "policy.safetensors", "policy"),
    "model": model,
    "checkpoint, content": lambda s: content(s, "checkpoint.safetensors", "checkpoint"),
    "policy, content": lambda s: content(s, "policy.safetensors", "policy"),
    "npz": lambda s: arrays(s, False),
    "npz, compressed": lambda s: arrays(s, True),
    "npy": lambda s: npy(s, "voice"),
    "npy, picture": lambda s: npy(s, "face"),
    "npy, labels": lambda s: npy(s, "labels"),
    "labels.csv": media_list,
    "dus-data.json": data_settings,
    "list of cremad": _lists("cremad", "train.csv", "cremad"),
    "list of kinetics-sounds": _lists("kinetics-sounds", "annotations/train.csv", "kinetics_sounds"),
    "list of nvgesture": _lists("nvgesture", "nvgesture_train_correct.lst", "nvgesture"),
    "list of sarcasm": _lists("sarcasm", "text/train.txt", "sarcasm"),
    "list of food101": _lists("food101", "texts/train_titles.csv", "food101"),
    "list of ucf101": _lists("ucf101", "ucfTrainTestlist/trainlist01.txt", "ucf101"),
    "list of vggsound": _lists("vggsound", "vggsound.csv", "vggsound"),
    "list of cmu-mosei": _lists("cmu-mosei", "label.csv", "cmu_mosei"),
    "list of twitter2015": _lists("twitter2015", "train.tsv", "twitter2015"),
    "JSON list of sarcasm": _objects("sarcasm", [{"text": "a", "label": 1, "image_id": "3"}] * 2, "train"),
    "JSON list of kinetics-sounds": _objects(
        "kinetics_sounds", {"database": {"abcdefghijk_000001_000011": {"subset": "training", "label": "bowling"}}}
    ),
    "votes of cremad-ratings": _votes,
    **{f"medium {ending}": lambda s, ending=ending: medium(s, ending, made_media(s)[ending]) for ending in MEDIA},
    **{f"archive {ending}": lambda s, ending=ending: archive(s, ending) for ending in (".zip", ".tar", ".tgz", ".txz")},
    "actions, shares": lambda _: actions("shares"),
    "actions, fractions": lambda _: actions("fractions"),
    "actions, vector": lambda _: actions("shares", vector=True),
    "command lines": command_lines,
}
"""By format: a function of the scratch folders that returns the target."""
assert VALUES
