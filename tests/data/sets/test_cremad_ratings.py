"""Ratings of CREMA-D's clips: the right rows, and nothing of the third condition."""

import numpy as np
import pytest
import torch
from small_data import build, real, real_folder, write_ratings

from dus_gym.data.sets import cremad_ratings
from dus_gym.errors import AnnotationError, DatasetNotFoundError


def test_a_clip_has_thirteen_numbers_a_sense_from_its_own_rows(tmp_path):
    write_ratings(tmp_path)
    table = cremad_ratings.read_votes(tmp_path / "tabulatedVotes.csv")
    assert list(table) == ["voice", "face"]
    for digit, (places, numbers) in zip("12", table.values(), strict=True):
        line = next(x for x in (tmp_path / "tabulatedVotes.csv").read_text().splitlines() if x.startswith(f'"{digit}'))
        cells = line.split(",")
        votes = np.array(cells[1:7], float)
        row = numbers[places[cells[7].strip('"')]]
        np.testing.assert_allclose(row[:6], votes / votes.sum(), rtol=1e-6)
        np.testing.assert_allclose(row[6:12], np.array(cells[9:15], float), rtol=1e-6)
        assert row[12] == float(cells[8])


def test_the_split_is_that_of_the_lists_and_a_tenth_of_train_validates(tmp_path):
    write_ratings(tmp_path)
    data, task = build("CREMADRatings", tmp_path)
    sizes = [len(part.labels) for part in (data.train, data.validation, data.test)]
    assert sum(sizes) == 60
    assert sizes[2] == 12
    assert 4 <= sizes[1] <= 6
    assert task.modalities == ("voice", "face")
    assert list(data.input_shapes) == [(13,), (13,)]
    other, _ = build("CREMADRatings", tmp_path, seed=1)
    assert torch.equal(other.test.labels, data.test.labels)
    assert not torch.equal(other.train.inputs[0], data.train.inputs[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda lines: [lines[0].replace("numResponses", "n"), *lines[1:]], AnnotationError, "lacks the columns numR"),
        (lambda lines: [*lines, lines[1]], AnnotationError, "more than one voice row of clip '1001_DFA_NEU_XX'"),
        (lambda lines: [lines[0], *lines[2:]], DatasetNotFoundError, "no voice row of 1 clips .* 1001_DFA_NEU_XX"),
        (lambda lines: [lines[0], lines[1][:-1] + "x", *lines[2:]], AnnotationError, "voice row .* no number"),
        (lambda lines: [], AnnotationError, "lacks the columns"),
    ],
)
def test_a_table_of_another_form_is_named(tmp_path, change, error, message):
    write_ratings(tmp_path, change=change)
    with pytest.raises(error, match=message) as caught:
        build("CREMADRatings", tmp_path)
    assert "tabulatedVotes.csv" in str(caught.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"tabulatedVotes\.csv.*dus data fetch cremad-ratings"):
        build("CREMADRatings", tmp_path)
    write_ratings(tmp_path)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"no lists of train and test clips.*dus data fetch"):
        build("CREMADRatings", tmp_path)


def test_a_folder_that_says_it_is_mock_is_reported_as_mock(tmp_path):
    write_ratings(tmp_path)
    (tmp_path / "dus-data.json").write_text('{"data_kind": "mock"}')
    assert build("CREMADRatings", tmp_path)[0].data_kind == "mock"


@real
def test_the_published_ratings():
    data, _ = build("CREMADRatings", real_folder("cremad_ratings"))
    sizes = [len(part.labels) for part in (data.train, data.validation, data.test)]
    assert sizes[0] + sizes[1] == 6698
    assert sizes[2] == 744
    assert 660 <= sizes[1] <= 680
    assert all(torch.isfinite(view).all() for view in data.train.inputs)
