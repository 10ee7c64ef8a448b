"""Own data as a task: from a file or folder to a run, and every mistake named."""

import csv
import json
import re
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import soundfile
import torch
from command import dus
from PIL import Image

import dus_gym
from dus_gym.data.own.decoders import Picture
from dus_gym.data.own.folder import read_folder
from dus_gym.data.registry import get_task
from dus_gym.errors import BadMediaError
from dus_gym.experiments.results import Result
from dus_gym.experiments.spec import make_spec, name_data
from dus_gym.seeding import RunSeeds

N = 60


def arrays(n=N, classes=3, seed=0):
    """Two modalities that the label can be read from."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return {
        "voice": (rng.normal(size=(n, 5)) + labels[:, None]).astype(np.float32),
        "face": (rng.normal(size=(n, 6, 6)) + labels[:, None, None]).astype(np.float32),
        "labels": labels,
    }


def save(path, **changes):
    """An .npz of :func:`arrays` with changes; None leaves an array out."""
    chosen = {name: array for name, array in (arrays() | changes).items() if array is not None}
    np.savez(path, **chosen)
    return path


def build(path, seed=0, **options):
    task = get_task("Own").configured(options, path)
    return task, task.data(RunSeeds(seed), path)


@pytest.fixture
def file(tmp_path):
    return save(tmp_path / "own.npz")


# -- arrays ----------------------------------------------------------------------------------------


def test_an_npz_is_a_task_with_its_own_modalities_classes_and_encoders(file):
    task, data = build(file)
    assert (task.modalities, task.num_classes, task.encoders) == (("voice", "face"), 3, ("mlp", "cnn"))
    assert data.input_shapes == [(5,), (1, 6, 6)]
    assert data.data_kind == "own"
    assert [len(s.labels) for s in (data.train, data.validation, data.test)] == [42, 6, 12]


def test_gym_make_trains_on_it_and_worker_processes_can_too(file):
    env = gym.make("dus_gym:DUS-Own-v0", data_root=str(file), epochs=2)
    env.reset(seed=0)
    ended = False
    while not ended:
        _, _, ended, _, info = env.step([0.5, 0.5])
    assert {"size/voice", "size/face"} <= set(info)
    assert 0.0 <= env.unwrapped.evaluate().fused["sum"].accuracy <= 1.0


@pytest.mark.slow
def test_worker_processes_rebuild_it_from_plain_values(file):
    envs = gym.make_vec(
        "dus_gym:DUS-Own-v0", num_envs=2, vectorization_mode="async", data_root=str(file), epochs=1,
        vector_kwargs={"context": "spawn"},
    )  # fmt: skip
    observations, _ = envs.reset(seed=[0, 0])
    envs.close()
    np.testing.assert_array_equal(observations[0], observations[1])


def test_the_drawn_split_keeps_the_classes_and_follows_the_seed(file):
    _, one = build(file, seed=1)
    _, same = build(file, seed=1)
    _, other = build(file, seed=2)
    for split in ("train", "validation", "test"):
        counted = torch.bincount(getattr(one, split).labels)
        assert len(set(counted.tolist())) == 1, "classes of one size stay of one size"
        assert torch.equal(getattr(one, split).inputs[0], getattr(same, split).inputs[0])
    assert not torch.equal(one.test.inputs[0], other.test.inputs[0])


def test_standardising_looks_at_train_alone(tmp_path):
    split = np.array(["train"] * 40 + ["test"] * 20)
    voice = arrays()["voice"] * [1, 10, 100, 0, 1] + [0, 5, 0, 7, 0]
    face = arrays()["face"]
    far = [np.concatenate([x[:40], 1000 * x[40:]]) for x in (voice, face)]
    _, data = build(save(tmp_path / "a.npz", split=split, voice=voice, face=face), validation="none")
    _, moved = build(save(tmp_path / "b.npz", split=split, voice=far[0], face=far[1]), validation="none")
    assert torch.equal(data.train.inputs[0], moved.train.inputs[0])
    assert torch.equal(data.train.inputs[1], moved.train.inputs[1])
    torch.testing.assert_close(data.train.inputs[0].mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    deviations = data.train.inputs[0].std(0, correction=0)
    torch.testing.assert_close(deviations, torch.tensor([1.0, 1, 1, 0, 1]), atol=1e-4, rtol=0)
    assert float(data.train.inputs[1].std(correction=0)) == pytest.approx(1, abs=1e-4)
    _, raw = build(tmp_path / "a.npz", standardise=False, validation="none")
    np.testing.assert_allclose(raw.train.inputs[0], voice[:40], rtol=1e-6)


@pytest.mark.parametrize("words", [("train", "val", "test"), (0, 1, 2), (b"train", b"validation", b"test")])
def test_given_splits_are_kept_in_words_or_numbers(tmp_path, words):
    split = np.array([words[0]] * 30 + [words[1]] * 10 + [words[2]] * 20)
    _, data = build(save(tmp_path / "own.npz", split=split))
    assert [len(s.labels) for s in (data.train, data.validation, data.test)] == [30, 10, 20]
    assert data.test.labels.tolist() == (np.arange(40, 60) % 3).tolist()
    _, without = build(tmp_path / "own.npz", validation="none")
    assert without.validation is None
    assert len(without.train.labels) == 30


def test_a_set_of_arrays_a_split_will_do(tmp_path):
    parts = {f"{split}_{name}": x for split, n in (("train", 40), ("test", 20)) for name, x in arrays(n).items()}
    np.savez(tmp_path / "own.npz", **parts)
    task, data = build(tmp_path / "own.npz", validation="none")
    assert task.modalities == ("face", "voice")
    assert [len(data.train.labels), len(data.test.labels)] == [40, 20]


def test_a_folder_of_npy_files_gives_the_same_as_the_npz(tmp_path, file):
    for name, array in arrays().items():
        np.save(tmp_path / f"{name}.npy", array)
    file.unlink()
    folder, whole = tmp_path, save(tmp_path.parent / f"{tmp_path.name}.npz")
    _, one = build(folder)
    _, other = build(whole)
    # Files of a folder go by name; those of a .npz in the order they were saved in.
    assert torch.equal(one.test.inputs[1], other.test.inputs[0])


def test_labels_may_be_words_or_any_numbers(tmp_path):
    names = np.array(["cat", "dog", "ant"])[arrays()["labels"]]
    task, data = build(save(tmp_path / "a.npz", labels=None, y=names))
    assert task.num_classes == 3
    _, numbers = build(save(tmp_path / "b.npz", labels=arrays()["labels"] * 10.0 - 4))
    assert set(numbers.train.labels.tolist()) == set(data.train.labels.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("shape", "expected", "encoder"),
    [
        ((), (1,), "mlp"),
        ((7,), (7,), "mlp"),
        ((9, 5), (1, 9, 5), "cnn"),
        ((3, 8, 9), (3, 8, 9), "cnn"),
        ((8, 9, 3), (3, 8, 9), "cnn"),
        ((40, 40), (1, 40, 40), "cnn:channels=16,32,64"),
        ((1, 8, 9), (1, 8, 9), "cnn"),
        ((3, 5, 8, 9), (3, 5, 8, 9), "cnn"),
        ((5, 8, 9, 3), (3, 5, 8, 9), "cnn"),
        ((5, 3, 8, 9), (3, 5, 8, 9), "cnn"),
    ],
)
def test_encoders_are_chosen_by_shape(tmp_path, shape, expected, encoder):
    face = np.random.default_rng(0).integers(0, 255, (N, *shape)).astype(np.uint8)
    task, data = build(save(tmp_path / "own.npz", face=face))
    assert (task.encoders[1], data.input_shapes[1]) == (encoder, expected)


LAYOUTS = {"CHW": (2, 8, 9), "HWC": (8, 9, 2), "CTHW": (2, 5, 8, 9), "THWC": (5, 8, 9, 2), "TCHW": (5, 2, 8, 9)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_cannot_be_seen_is_asked_for_and_then_believed(tmp_path, layout):
    shape = LAYOUTS[layout]
    # What a pixel holds is where it should be: channel · 1000 + frame · 100 + row · 10 + column.
    order = [layout.index(axis) for axis in ("CHW" if len(shape) == 3 else "CTHW")]
    right = np.fromfunction(lambda *at: sum(1000 / 10**k * x for k, x in enumerate(at)), [shape[k] for k in order])
    face = np.broadcast_to(right.transpose(np.argsort(order)), (N, *shape))
    path = save(tmp_path / "own.npz", face=face)
    with pytest.raises(dus_gym.ConfigError, match=rf"'face'.*{re.escape(str(shape))}.*{layout}.*task\.layout face="):
        build(path)
    _, data = build(path, layout=f"face={layout.lower()}", standardise=False)
    np.testing.assert_array_equal(data.train.inputs[1][0], right.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((3, 8, 3), "auto", "CHW or HWC"),
        ((4, 8, 9, 3), "auto", "CTHW or THWC"),
        ((3, 4, 8, 9), "auto", "CTHW or TCHW"),
        ((3, 8, 9), "fase=HWC", "'fase'.*'face'"),
        ((3, 8, 9), "HWC", "'HWC'"),
        ((3, 8, 9), "face=WHC", "'WHC'.*CHW"),
        ((3, 8, 9), "face=TCHW", r"TCHW of 'face'.*\(3, 8, 9\), which may be CHW or HWC"),
        ((8, 9), "face=HWC", "whose axes are no channels"),
        ((2, 2, 2, 2, 2), "auto", r"give vectors \(d,\)"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(tmp_path, shape, layout, message):
    with pytest.raises(dus_gym.ConfigError, match=message):
        build(save(tmp_path / "own.npz", face=np.zeros((N, *shape))), layout=layout)


def test_an_encoder_may_be_named_for_one_modality_or_all(file):
    assert build(file, encoder="voice=mlp:hidden=8")[0].encoders == ("mlp:hidden=8", "cnn")
    both = "face=cnn:channels=4,8,voice=mlp:hidden=8"
    assert build(file, encoder=both)[0].encoders == ("mlp:hidden=8", "cnn:channels=4,8")
    assert build(file, encoder="mlp:hidden=8")[0].encoders == ("mlp:hidden=8",) * 2
    for word, named in (("fase=mlp", "'fase'.*'face'"), ("face=mpl", "mpl"), ("mpl", "mpl")):
        with pytest.raises(dus_gym.ConfigError, match=named):
            build(file, encoder=word)


def test_token_ids_reach_a_text_encoder_as_they_are(tmp_path):
    ids = np.random.default_rng(0).integers(1, 50, (N, 6))
    encoder = "words=bert:weights=none:hidden=8:layers=1:heads=1:vocab=50"
    _, data = build(save(tmp_path / "own.npz", words=ids), encoder=encoder)
    assert data.train.inputs[2].dtype == torch.int64
    assert 1 <= int(data.train.inputs[2].min()) <= int(data.train.inputs[2].max()) < 50


def padded_ids():
    """Ids of texts of 1 to 20 tokens, the place of each in its text, padded to 30."""
    lengths = np.arange(N) % 20 + 1
    return np.where(np.arange(30) < lengths[:, None], np.arange(1, 31), 0)


@pytest.mark.parametrize("encoder", ["bert", "clip-text"])
def test_a_batch_of_token_ids_is_cut_to_its_longest_text_and_loses_no_token(tmp_path, encoder):
    word = f"words={encoder}:weights=none:hidden=8:layers=1:heads=1:vocab=50"
    file = save(tmp_path / "own.npz", words=padded_ids())
    _, data = build(file, encoder=word, validation="none")
    for split in (data.train, data.test):
        lengths = (split.inputs[2] != 0).sum(1)
        for rows in (torch.nonzero(lengths <= 8).flatten(), torch.nonzero(lengths > 16).flatten()):
            found = split.fetch(2, rows)
            # 30 stored: up to 8 tokens are 8 columns, 17 to 20 are 24.
            assert found.shape[1] == (8 if lengths[rows[0]] <= 8 else 24)
            assert torch.equal(found, split.inputs[2][rows, : found.shape[1]])
            assert (found != 0).sum() == lengths[rows].sum()
            assert torch.equal(split.fetch(0, rows), split.inputs[0][rows])


def test_an_encoder_in_training_sees_texts_of_few_lengths_alone(tmp_path):
    word = "words=bert:weights=none:hidden=8:layers=1:heads=1:vocab=50"
    env = gym.make(
        "dus_gym:DUS-Own-v0",
        data_root=str(save(tmp_path / "own.npz", words=padded_ids())),
        task_options={"encoder": word},
        total_batch=9,
        epochs=2,
    ).unwrapped
    env.reset(seed=0)
    seen = []
    env.run.model.encoders[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    env.step(np.ones(3))
    assert len(seen) > 4
    for ids in seen:
        longest = int((ids != 0).sum(1).max())
        assert ids.shape[1] == -(-longest // 8) * 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voice": np.zeros((N - 1, 5))}, "'voice'.*59 samples and the labels have 60"),
        ({"voice": np.full((N, 5), np.nan)}, "'voice'.*NaN.* in 60 samples, the first is 0"),
        ({"voice": np.full((N, 5), 1e300)}, "'voice'.*too large"),
        ({"voice": np.array([{}] * N)}, "'voice'.*Object arrays are refused"),
        ({"voice": np.array(["a"] * N)}, "'voice'.*made of numbers"),
        ({"voice": np.zeros((N, 0))}, "'voice'.*empty"),
        ({"voice": None}, "one modality 'face'"),
        ({"labels": None}, "no labels.*face, voice"),
        ({"y": arrays()["labels"]}, "both labels and y"),
        ({"labels": np.eye(3)[arrays()["labels"]]}, r"'labels'.*one-hot.*labels\.argmax\(1\)"),
        ({"labels": arrays()["labels"][:, None]}, r"labels\.ravel\(\)"),
        ({"labels": arrays()["labels"][None]}, r"labels\.ravel\(\)"),
        ({"labels": np.ones((N, 3), int)}, "several classes"),
        ({"labels": np.zeros((N, 3), int)}, "several classes"),
        ({"labels": np.full((N, 3), 7)}, "one number or word per sample"),
        ({"labels": np.array(1)}, "one number or word per sample"),
        ({"labels": arrays()["labels"] + 2.0**53}, "beyond"),
        ({"labels": np.full(N, 1e300)}, "beyond"),
        ({"labels": arrays()["labels"].astype(np.uint64) + np.uint64(2**63)}, "beyond"),
        ({"labels": np.array(["a", " "] * (N // 2))}, "empty at sample 1"),
        ({"labels": np.array([b"a", b"\xff"] * (N // 2))}, "no UTF-8"),
        ({"labels": np.full(N, 0x110000, np.uint32).view("U1")}, "damaged"),
        ({"labels": np.ones(N, complex)}, "complex128"),
        ({"labels": np.zeros(N, int)}, "1 class"),
        ({"labels": np.full(N, np.nan)}, "no classes"),
        ({"split": np.array(["train"] * 59 + ["tset"])}, "'split'.*'tset' at sample 59"),
        ({"split": np.zeros(N, int)}, "'split'.*no sample to 'test'"),
        ({"split": np.zeros(5, int)}, "'split'.*shape"),
        ({"two words": np.zeros((N, 2))}, "'two words'; rename"),
        ({"train_labels": np.zeros(N, int)}, "belongs to no split"),
    ],
)
def test_every_mistake_names_the_array_and_what_to_do(tmp_path, changes, message):
    with pytest.raises(dus_gym.ConfigError, match=message):
        build(save(tmp_path / "own.npz", **changes))


def test_the_advice_for_labels_works_when_it_is_followed(tmp_path):
    labels = arrays()["labels"]
    for followed in (labels[:, None].ravel(), np.eye(3)[labels].argmax(1)):
        _, data = build(save(tmp_path / "own.npz", labels=followed))
        assert torch.bincount(data.test.labels).tolist() == [4, 4, 4]


@pytest.mark.parametrize("kind", [np.str_, np.bytes_])
def test_spaces_around_a_label_are_no_part_of_it(tmp_path, kind):
    labels = np.array(["sad ", "happy", " sad", "happy\t"] * 15, dtype=kind)
    task, data = build(save(tmp_path / "own.npz", labels=labels))
    assert task.num_classes == 2
    assert torch.bincount(data.test.labels).tolist() == [6, 6]


def test_labels_of_several_splits_are_of_one_kind(tmp_path):
    parts = {f"{split}_{name}": x for split, n in (("train", 40), ("test", 20)) for name, x in arrays(n).items()}
    unsigned = parts["train_labels"].astype(np.uint64)
    np.savez(tmp_path / "a.npz", **parts | {"train_labels": unsigned, "test_labels": parts["test_labels"] * 1.0})
    assert build(tmp_path / "a.npz")[0].num_classes == 3
    np.savez(tmp_path / "b.npz", **parts | {"train_labels": parts["train_labels"].astype("U")})
    with pytest.raises(dus_gym.ConfigError, match="text in train, numbers in test"):
        build(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
        b"{'descr':",
        b"{'descr': '<f4', 'fortran_order': False, b'shape': (5, 6), }",
    ],
)
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_a_damaged_array_is_named_and_nothing_is_allocated_for_what_it_claims(tmp_path, header, form):
    content = b"\x93NUMPY\x01\x00" + (128 - 10).to_bytes(2, "little") + header.ljust(117) + b"\n" + bytes(64)
    for name, array in arrays().items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "voice.npy").write_bytes(content)
    path = tmp_path
    if form == "npz":
        path = tmp_path / "own.npz"
        with zipfile.ZipFile(path, "w") as archive:
            for name in arrays():
                archive.write(tmp_path / f"{name}.npy", f"{name}.npy")
    with pytest.raises(dus_gym.ConfigError, match=r"'voice'.*damaged"):
        build(path)


def test_what_is_no_npz_is_refused_and_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path / "ran").mkdir, ()

    np.save(tmp_path / "voice.npy", np.array([Evil()] * 3), allow_pickle=True)
    with pytest.raises(dus_gym.ConfigError, match=r"'voice'.*without running code"):
        build(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(dus_gym.ConfigError, match="savez"):
        build(tmp_path / "bad.npz")
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(dus_gym.ConfigError, match=r"data\.csv is not allowed"):
        build(tmp_path / "data.csv")
    assert not (tmp_path / "ran").exists()


def test_without_data_the_id_says_how_to_give_it():
    env = gym.make("dus_gym:DUS-Own-v0")
    with pytest.raises(dus_gym.DatasetNotFoundError, match=r"labels\.csv.*--data FILE.*fake"):
        env.reset(seed=0)
    with pytest.raises(dus_gym.DatasetNotFoundError, match="nowhere"):
        gym.make("dus_gym:DUS-Own-v0", data_root="/nowhere").reset(seed=0)


# -- media folders ---------------------------------------------------------------------------------


def media(root, n=24, split=True):
    """Pictures, sounds, arrays and texts of two classes."""
    rng = np.random.default_rng(0)
    for name in ("image", "sound", "pulse", "note"):
        (root / name).mkdir(parents=True)
    rows = [["sample", "label", *(["split"] if split else [])]]
    for i in range(n):
        label = i % 2
        Image.fromarray(np.full((9, 12, 3), 60 + 120 * label, np.uint8)).save(root / f"image/s{i}.png")
        wave = np.sin(np.arange(4000) * (0.3 + 0.6 * label)) * 0.5
        soundfile.write(root / f"sound/s{i}.wav", wave, 8000)
        np.save(root / f"pulse/s{i}.npy", rng.normal(size=7) + label)
        (root / f"note/s{i}.txt").write_text(("good day " if label else "bad night ") + "all round", encoding="utf-8")
        rows.append([f"s{i}", "yes" if label else "no", *(["test" if i >= 16 else "train"] if split else [])])
    with (root / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)
    return root


OPTIONS = {"picture_size": 8, "seconds": 0.5}


def test_a_media_folder_is_a_task(tmp_path):
    task, data = build(media(tmp_path), **OPTIONS)
    assert task.modalities == ("image", "note", "pulse", "sound")
    assert task.encoders == ("cnn", "mlp", "mlp", "cnn:channels=16,32,64")
    assert data.input_shapes == [(3, 8, 8), (6,), (7,), (1, 64, 30)]
    assert [len(s.labels) for s in (data.train, data.validation, data.test)] == [14, 2, 8]
    # Each modality tells the classes apart: their means are far from one another.
    for x in data.train.inputs:
        means = [x[data.train.labels == k].mean(0) for k in (0, 1)]
        assert float((means[0] - means[1]).abs().max()) > 0.5


def test_media_are_decoded_once(tmp_path, monkeypatch):
    root = media(tmp_path)
    _, first = build(root, **OPTIONS)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded again"))
    _, second = build(root, **OPTIONS)
    assert torch.equal(first.train.inputs[0], second.train.inputs[0])


def test_words_are_counted_by_what_train_holds(tmp_path):
    root = media(tmp_path)
    (root / "note/s20.txt").write_text("unheard words of the test split", encoding="utf-8")
    _, data = build(root, **OPTIONS)
    assert data.input_shapes[1] == (6,)
    with pytest.raises(dus_gym.ConfigError, match=r"'note'.*counts of words"):
        build(root, encoder="note=bert", **OPTIONS)


def test_a_bad_file_fails_or_its_sample_is_left_out_of_all(tmp_path):
    root = media(tmp_path)
    (root / "image/s3.png").unlink()
    (root / "sound/s17.wav").write_bytes(b"RIFF")
    cut = root / "sound/s19.wav"
    cut.write_bytes(cut.read_bytes()[:-500])
    np.save(root / "pulse/s5.npy", np.zeros(3))
    with pytest.raises(BadMediaError, match=r"s3.*missing"):
        build(root, **OPTIONS)
    _, data = build(root, on_error="skip", max_bad=0.2, **OPTIONS)
    assert data.dropped == {"train": 2, "test": 2}
    assert [len(s.labels) for s in (data.train, data.validation, data.test)] == [12, 2, 6]


def test_spaces_around_the_words_of_a_list_are_no_part_of_them(tmp_path):
    root = media(tmp_path)
    path = root / "labels.csv"
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(text.replace(",", " , ").replace("yes", "yes "), encoding="utf-8")
    task, data = build(root, **OPTIONS)
    assert task.num_classes == 2
    assert len(data.test.labels) == 8


def test_pictures_are_seen_as_they_are_shown_and_deep_ones_refused(tmp_path):
    root = media(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    upper = Image.new("RGB", (8, 8), "white")
    upper.paste("black", (0, 0, 8, 4))
    upper.save(root / "image/s0.png", exif=exif)
    logo = np.zeros((8, 8, 4), np.uint8)
    logo[:4, :, 3] = 255
    Image.fromarray(logo).save(root / "image/s2.png")
    rows = read_folder(root).rows["image"]
    turned, on_white = (Picture("image", 8)(row) for row in (rows[0], rows[2]))
    np.testing.assert_array_equal(turned, np.broadcast_to([255] * 4 + [0] * 4, (3, 8, 8)))
    np.testing.assert_array_equal(on_white[0], np.repeat([0] * 4 + [255] * 4, 8).reshape(8, 8))
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(root / "image/s4.png")
    with pytest.raises(BadMediaError, match=r"s4.*bits per sample.*\.npy"):
        build(root, **OPTIONS)


def test_arrays_in_files_have_a_layout_too_and_other_files_say_theirs(tmp_path):
    root = media(tmp_path)
    for i in range(24):
        np.save(root / f"pulse/s{i}.npy", np.zeros((5, 6, 2)))
    with pytest.raises(dus_gym.ConfigError, match=r"'pulse'.*\(5, 6, 2\), which may be CHW or HWC"):
        build(root, **OPTIONS)
    assert build(root, layout="pulse=HWC", **OPTIONS)[1].input_shapes[2] == (2, 5, 6)
    with pytest.raises(dus_gym.ConfigError, match="'sound' is made of files"):
        build(root, layout="sound=HWC", **OPTIONS)


def break_list(text):
    return lambda root: (root / "labels.csv").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "labels.csv").unlink(), r"labels\.csv is not there"),
        (break_list("sample,label\n"), "lists no samples"),
        (break_list("sample,klass\ns0,a\n"), "line 2.*'label'.*'sample', 'klass'"),
        (break_list("sample,label\ns0,a\ns0,b\n"), "'s0' more than once"),
        (break_list("sample,label\ns0,a\ns1,a\n"), "1 class"),
        (break_list("sample,label,split\ns0,a,train\ns1,b,tset\n"), "'tset' at sample 1"),
        (break_list("sample,label\ns0,a,b\n"), "line 2"),
        (break_list("sample,label\ns0, \n"), "line 2.*nothing in column 'label'"),
        (lambda root: (root / "image/s1.wav").write_bytes(b"x"), r"s1\.wav and s1\.png|s1\.png and s1\.wav"),
        (lambda root: (root / "image/t.wav").write_bytes(b"x"), "files of 2 kinds"),
        (lambda root: (root / "empty").mkdir(), "empty holds no file"),
    ],
)
def test_every_mistake_in_a_media_folder_is_named(tmp_path, damage, message):
    root = media(tmp_path)
    damage(root)
    with pytest.raises(dus_gym.ConfigError, match=message):
        build(root, **OPTIONS)


# -- what it is, before and after training -----------------------------------------------------------


def test_the_overview_counts_classes_and_splits_and_says_what_was_standardised(tmp_path):
    labels = np.array(["b"] * 40 + ["a"] * 15 + ["c"] * 5)
    voice = arrays()["voice"] * [1, 1, 1, 1, 0]
    task = get_task("Own").configured({}, save(tmp_path / "own.npz", labels=labels, voice=voice))
    data = task.overview(RunSeeds(0), tmp_path / "own.npz")
    assert data.shapes == {"voice": (5,), "face": (1, 6, 6)}
    assert data.classes == ("a", "b", "c")
    # Of 15, 40 and 5 a fifth tests; of the 12, 32 and 4 that are left a tenth validates, and one at least.
    assert data.counts == {"train": (11, 29, 3), "validation": (1, 3, 1), "test": (3, 8, 1)}
    assert data.sizes == {"train": 43, "validation": 5, "test": 12}
    assert data.majority == ("b", 8 / 12)
    assert data.rare(4) == {"a": 3, "c": 1}
    assert data.prepared == {
        "voice": "every feature to mean 0, deviation 1 in train (1 constant of 5: mean 0 only)",
        "face": "every channel to mean 0, deviation 1 in train",
    }
    raw = get_task("Own").configured({"standardise": False}, tmp_path / "own.npz")
    assert set(raw.overview(RunSeeds(0), tmp_path / "own.npz").prepared.values()) == {"as they are"}


def test_a_result_has_the_overview_that_was_there_before(file):
    settings = {"data_root": file, "epochs": 1, "agent": "uniform"}
    before = make_spec("DUS-Own-v0", seed=3, **settings).overview()
    result = dus_gym.train("DUS-Own-v0", seed=3, **settings)
    assert result.data == before
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result
    # Classes of the embedded digits are drawn by the seed, each run's by its own.
    counts = [make_spec("DUS-Digits-v0", "uniform", seed=seed).overview().counts["train"] for seed in (0, 1)]
    comparison = dus_gym.compare("DUS-Digits-v0", "uniform", seeds=[0], epochs=1)
    assert comparison.parts[0].data.counts["train"] == counts[0] != counts[1]
    assert make_spec("DUS-Own-v0", trainer="fake", **settings).overview() is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("iris.npz", "iris"),
        ("data/iris.v2.npz", "iris.v2"),
        ("/data/iris.v2", "iris.v2"),
        ("/data/my faces [bold]/", "my-faces-bold"),
        ("--force.npz", "force"),
        (".hidden/..", Path.cwd().name),
        ("größe.npz", "größe"),
        ("/", "data"),
        ("[].npz", "data"),
        ("a\nb\udcff.npz", "a-b"),
    ],
)
def test_own_data_is_called_by_its_stem_in_letters_that_a_path_may_hold(path, name):
    assert name_data(path) == name


def test_a_long_name_is_cut_and_two_of_them_differ():
    names = [name_data("a" * 150 + end) for end in ("b", "c")]
    assert names[0] != names[1]
    assert max(map(len, names)) < 130


# -- the command line ------------------------------------------------------------------------------


def test_three_files_are_told_apart_in_folders_lists_reports_and_comparisons(tmp_path):
    (tmp_path / "other").mkdir()
    for path, name in (("one.npz", "one"), ("two [x].npz", "two-x"), ("other/one.npz", "one")):
        save(tmp_path / path)
        done = dus("train", "--data", path, "--epochs", 1, "--alone", "--json", cwd=tmp_path, check=0)
        assert done.stdout.startswith(f"DUS-Own-v0/{name}: 2 modalities, 3 classes, 60 samples (42 train, 6 val")
        summary = json.loads(done.stdout.splitlines()[-1])
        assert (summary["env"], summary["data_name"]) == ("DUS-Own-v0", name)
    runs = [f"DUS-Own-v0/{name}/steady-baseline-seed0" for name in ("one", "one", "two-x")]
    runs[1] += "-2"
    rows = [line.split("\t") for line in dus("runs", "list", cwd=tmp_path, check=0).stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == runs
    assert [row[2] for row in rows] == ["DUS-Own-v0/one", "DUS-Own-v0/one", "DUS-Own-v0/two-x"]
    # Two of one name are told apart by their settings.
    roots = [json.loads((tmp_path / "runs" / run / "config.json").read_text())["data_root"] for run in runs]
    assert roots == ["one.npz", "other/one.npz", "two [x].npz"]
    for asked, count in (("DUS-Own-v0", 3), ("DUS-Own-v0/one", 2), ("DUS-Own-v0/three", 0)):
        found = dus("runs", "list", "--env", asked, "--json", "--quiet", cwd=tmp_path, check=0).stdout
        assert len(json.loads(found)["runs"]) == count
    dus("report", f"runs/{runs[2]}", cwd=tmp_path, check=0)
    page = (tmp_path / "runs" / runs[2] / "report.html").read_text()
    assert "<h1" in page
    assert "DUS-Own-v0/two-x" in page
    assert "every channel to mean 0" in page


def test_a_comparison_says_whose_data_it_is_and_a_fake_one_counts_nothing(tmp_path, file):
    words = ("compare", "--data", file, "--epochs", 1, "--seeds", 1, "--agents", "uniform")
    done = dus(*words, "--json", cwd=tmp_path, check=0)
    comparison = json.loads(done.stdout.splitlines()[-1])
    assert (comparison["data_name"], comparison["data"]["counts"]["test"]) == ("own", [4, 4, 4])
    assert done.stdout.startswith("DUS-Own-v0/own: ")
    assert "\nDUS-Own-v0/own, baseline, 1 seed" in done.stdout
    assert any("3 of 3 classes have fewer than 5 test samples (0 4, 1 4 and 2 4)" in w for w in comparison["warnings"])
    assert (tmp_path / "runs/DUS-Own-v0/own/compare-baseline/comparison.json").is_file()
    fake = dus(*words, "--trainer", "fake", cwd=tmp_path, check=0)
    assert "samples (" not in fake.stdout


def test_a_run_is_the_same_wherever_its_data_has_moved_and_whatever_it_is_called_now(tmp_path, file):
    dus("train", "--data", file, "--epochs", 1, "--out", "run", "--quiet", cwd=tmp_path, check=0)
    file.rename(tmp_path / "moved.npz")
    dus("validate", "run", "--data-root", "moved.npz", cwd=tmp_path, check=0)
    words = ("train", "--data", "moved.npz", "--epochs", 1, "--out", "run", "--resume", "--quiet", "--json")
    assert json.loads(dus(*words, cwd=tmp_path, check=0).stdout)["data_name"] == "own"


def test_train_and_compare_take_data(tmp_path, file):
    words = ("--data", file, "--epochs", 2, "--task.lr", ".05", "--quiet", "--json")
    summary = json.loads(dus("train", *words, "--agent", "score", cwd=tmp_path, check=0).stdout)
    assert (summary["env"], summary["data_kind"]) == ("DUS-Own-v0", "own")
    assert summary["task_options"] == {"lr": 0.05}
    assert list(summary["modalities"]) == ["voice", "face"]
    result = json.loads(dus("compare", *words, "--agents", "score", "--seeds", 1, cwd=tmp_path, check=0).stdout)
    assert result["data_kind"] == "own"


def test_a_run_goes_on_with_the_same_data_only(tmp_path, file):
    words = ("train", "--data", file, "--epochs", 2, "--agent", "uniform", "--out", "run", "--quiet")
    dus(*words, cwd=tmp_path, check=0)
    moved = file.rename(tmp_path / "elsewhere.npz")
    words = [moved if word is file else word for word in words]
    dus(*words, "--resume", cwd=tmp_path, check=0)
    save(moved, voice=arrays(seed=5)["voice"])
    assert "other settings (data" in dus(*words, "--resume", cwd=tmp_path, check=2).stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--data FILE"),
        (("DUS-Digits-v0", "--data", "own.npz"), "leave ENV"),
        (("--data", "own.npz", "--data-root", "."), "--data-root out"),
        (("--data", "nowhere.npz"), "nowhere.npz is not there"),
        (("--data", "own.npz", "--encoder", "nose=mlp"), "'nose'"),
    ],
)
def test_impossible_wishes_exit_2(tmp_path, file, words, named):
    done = dus("train", *words, cwd=tmp_path, check=2)
    assert named in done.stderr
    assert not (tmp_path / "runs").exists()
