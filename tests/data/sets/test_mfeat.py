"""Views of handwritten numerals: any two or more, known by their width, half of each class to train."""

import numpy as np
import pytest
import scipy.io
import torch
from small_data import build, real, real_folder, write_views

from dus_gym.data.sets.mfeat import WIDTHS
from dus_gym.errors import AnnotationError, ConfigError, DatasetNotFoundError


def test_halves_of_each_class_train_and_test(tmp_path):
    write_views(tmp_path)
    data, task = build("MFeat", tmp_path)
    assert task.modalities == ("fou", "zer", "mor")
    assert torch.bincount(data.test.labels).tolist() == [10] * 10
    assert torch.bincount(data.train.labels).tolist() == [9] * 10
    assert torch.bincount(data.validation.labels).tolist() == [1] * 10
    rows = [r.tobytes() for part in (data.train, data.validation, data.test) for r in part.inputs[0].numpy()]
    assert len(set(rows)) == 200
    assert not torch.equal(build("MFeat", tmp_path, seed=1)[0].test.inputs[0], data.test.inputs[0])


@pytest.mark.parametrize("names", [("mor", "pix"), ("pix", "fou", "fac", "zer", "kar", "mor")])
def test_any_views_in_any_order(tmp_path, names):
    write_views(tmp_path, order=("mor", "zer", "pix", "kar", "fac", "fou"), first_label=1)
    data, task = build("MFeat", tmp_path, modalities=names)
    assert task.modalities == names
    assert task.encoders == ("mlp",) * len(names)
    assert list(data.input_shapes) == [(WIDTHS[name],) for name in names]
    assert data.train.labels.unique().tolist() == list(range(10))


@pytest.mark.parametrize(
    ("names", "message"),
    [(("pix",), "two or more"), (("pix", "pix"), "each once"), (("pix", "foo"), "Did you mean 'fou'")],
)
def test_views_that_can_not_be_are_refused(tmp_path, names, message):
    with pytest.raises(ConfigError, match=message):
        build("MFeat", tmp_path, modalities=names)


def test_a_feature_that_never_changes_becomes_0(tmp_path):
    write_views(tmp_path)
    found = scipy.io.loadmat(tmp_path / "handwritten.mat")
    found["X"][0, 1][:, 3] = 5.0
    scipy.io.savemat(tmp_path / "handwritten.mat", {"X": found["X"], "Y": found["Y"]})
    data, _ = build("MFeat", tmp_path)
    assert data.train.inputs[0][:, 3].abs().max() == 0.0
    assert data.train.inputs[0].isfinite().all()


def cells(*views):
    found = np.empty((1, len(views)), object)
    for i, view in enumerate(views):
        found[0, i] = view
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": cells(np.zeros((20, 3))), "Y": np.zeros((20, 1))}, r"views of width \[3\]; expected"),
        ({"X": cells(np.zeros((20, 3))), "Y": np.zeros((19, 1))}, "a row for each of its 19 labels"),
        ({"X": cells(np.array(["text"] * 20)), "Y": np.zeros((20, 1))}, "must hold numbers"),
        ({"Y": np.zeros((20, 1))}, "can't be read"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, message):
    scipy.io.savemat(tmp_path / "handwritten.mat", content)
    with pytest.raises(AnnotationError, match=message) as caught:
        build("MFeat", tmp_path)
    assert "handwritten.mat" in str(caught.value)


def test_what_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"handwritten\.mat.*dus data fetch mfeat --root DIR"):
        build("MFeat", tmp_path)
    (tmp_path / "handwritten.mat").write_bytes(b"no matlab file at all, however long it may be" * 9)
    with pytest.raises(AnnotationError, match="can't be read as MATLAB data"):
        build("MFeat", tmp_path)


@real
def test_the_published_views():
    data, _ = build("MFeat", real_folder("mfeat"))
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [900, 100, 1000]
    assert torch.bincount(data.test.labels).tolist() == [100] * 10
