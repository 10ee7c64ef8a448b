"""``curves.png``: axes with names, numbers and units, and what was decided."""

from itertools import pairwise

import numpy as np
import pytest
from made_results import step

from dus_gym.experiments.picture import draw_run

NAMES = ["pixels", "columns"]
SIZES = [{"size/pixels": 64, "size/columns": 64}, {"size/pixels": 32, "size/columns": 96}]
RATES = [{"rate/pixels": 1.0, "rate/columns": 1.0}, {"rate/pixels": 0.5, "rate/columns": 1.5}]


@pytest.fixture
def figure(tmp_path, monkeypatch):
    """The figure that a picture of these steps has."""
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: drawn.append(figure))

    def make(decided):
        draw_run(tmp_path / "x.png", "title", NAMES, [step(k + 1, **of) for k, of in enumerate(decided)])
        return drawn[-1]

    return make


@pytest.mark.parametrize(
    ("decided", "name", "heights"),
    [
        (SIZES, "samples per iteration\n(dotted: equal split)", [64, 32]),
        ([of | SIZES[0] for of in RATES], "factors on learning rates\n(dotted: equal split)", [1.0, 0.5]),
    ],
    ids=["samples", "rates"],
)
def test_the_panels_have_names_numbers_and_what_was_decided(decided, name, heights, figure):
    scores, parts = figure(decided).axes
    assert (scores.get_ylabel(), parts.get_ylabel()) == ("discrepancy score\n(thin: last step alone)", name)
    assert parts.get_xlabel() == "iteration"
    for axes in (scores, parts):
        assert len([label for label in axes.get_yticklabels() if label.get_text()]) >= 3
    assert float(parts.get_xticklabels()[0].get_text()) == 0.0
    lowest = parts.collections[0].get_paths()[0].vertices
    for iteration, height in zip((2, 4), heights, strict=True):
        assert lowest[lowest[:, 0] == iteration, 1].max() >= height
        assert height in lowest[:, 1]
    equal = parts.lines[0].get_ydata()
    assert np.array_equal(equal, [heights[0]] * 3), "the first split is equal"


def test_validation_is_dashed_where_there_is_any(figure):
    validated = [of | {"val_score/pixels": 0.4, "val_score/columns": 0.3} for of in SIZES]
    scores = figure(validated).axes[0]
    assert "dashed: validation" in scores.get_ylabel()
    assert [line.get_ydata().tolist() for line in scores.lines if line.get_linestyle() == "--"] == [
        [0.4] * 2,
        [0.3] * 2,
    ]


def test_the_legend_stands_above_the_curves(figure):
    made = figure(SIZES)
    made.canvas.draw()
    scores = made.axes[0]
    legend = scores.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == NAMES
    assert legend.get_window_extent().y0 >= scores.get_window_extent().y1


def test_six_modalities_and_a_long_title_have_room_above_the_curves(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: drawn.append(figure))
    names = ["fourier", "profile", "karhunen", "pixels", "zernike", "morphology"]
    figures = {f"{kind}/{name}": 8 for kind in ("size", "train_score") for name in names}
    title = "DUS-MFeat-v0, mmpareto:alpha=0.25 under reinforce:preset=tuned, seed 0\ntrainer real, data real"
    draw_run(tmp_path / "x.png", title, names, [step(1, **figures) | {"observation": [0.5] * 6, "iterations": 18000}])
    made = drawn[0]
    made.canvas.draw()
    words, legend = made._suptitle.get_window_extent(), made.axes[0].get_legend().get_window_extent()
    assert words.y0 > legend.y1
    assert legend.y0 >= made.axes[0].get_window_extent().y1
    assert legend.x1 <= made.bbox.x1
    numbers = [label.get_window_extent() for label in made.axes[1].get_xticklabels()]
    assert all(one.x1 < two.x0 for one, two in pairwise(numbers))
