"""The frame of ``render_mode="rgb_array"``: what is drawn lies where its axis says."""

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw, ImageFont

from dus_gym.curves import COLOURS
from dus_gym.envs.rendering import GUIDE, HEIGHT, INK, LEFT, RIGHT, SCORES, SIZES, WIDTH, _round_steps, draw

BLUE, ORANGE = map(ImageColor.getrgb, COLOURS[:2])


def steps(count, state=(0.25, 0.75), sizes=(32, 96)):
    return [{"state": list(state), "sizes": list(sizes), "reward": 0.0} for _ in range(count)]


def rows_of(frame, x, colour):
    """Rows of a column that have a colour."""
    return np.flatnonzero(np.all(frame[:, x] == colour, axis=1))


def written(text):
    """The ink of a number as it stands left of an axis, cut to what is dark."""
    picture = Image.new("RGB", (LEFT, 30), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((LEFT - 6, 15), text, fill=INK, font=ImageFont.load_default(12), anchor="rm")
    return np.asarray(picture)


def test_scores_and_sizes_lie_at_their_values():
    frame = draw(["pixels", "columns"], steps(4), 128)
    assert (frame.shape, frame.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    middle = LEFT + (RIGHT - LEFT) // 8  # of the first step
    top, bottom = SCORES
    for colour, score in ((BLUE, 0.25), (ORANGE, 0.75)):
        at = rows_of(frame[: bottom + 1], middle, colour)
        assert at.mean() == pytest.approx(bottom - score * (bottom - top), abs=1.5)
    top, bottom = SIZES
    blue, orange = (rows_of(frame[top : bottom + 1], middle, colour) for colour in (BLUE, ORANGE))
    assert len(blue) / (len(blue) + len(orange)) == pytest.approx(0.25, abs=0.02)
    assert blue.min() > orange.max(), "the first modality lies below"


@pytest.mark.parametrize(("total", "m"), [(128, 2), (192, 3), (900, 9)])
def test_the_axes_have_the_numbers_of_their_ticks(total, m):
    frame = draw([f"m{j}" for j in range(m)], [], total)
    splits = m if m <= 4 else 1
    numbers = {SIZES: [(k / splits, f"{total * k // splits}") for k in range(splits + 1)]}
    numbers[SCORES] = [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]
    for (top, bottom), ticks in numbers.items():
        for part, text in ticks:
            y = round(bottom - part * (bottom - top))
            assert np.array_equal(frame[y - 8 : y + 8, : LEFT - 2], written(text)[7:23, : LEFT - 2]), text
            assert part == 0.0 or np.all(frame[y, RIGHT - 20] == GUIDE)
    assert (frame[HEIGHT - 16 :, (LEFT + RIGHT) // 2 - 20 : (LEFT + RIGHT) // 2 + 20] < 128).any(), (
        "the axis has a name"
    )


def test_names_that_do_not_fit_are_counted_and_none_is_cut():
    def dark(names):
        return (draw(names, [], 12)[:28] < 255).any(axis=(0, 2))

    assert not dark(["a" * 40] * 9)[RIGHT + 1 :].any()
    assert np.array_equal(dark(["ab", "cd"])[: LEFT + 30], dark(["ab"])[: LEFT + 30])
    # Four long names and the number of the others take as much room whatever the others are called.
    assert np.array_equal(dark([*["m" * 12] * 4, "x" * 30, "y" * 30]), dark([*["m" * 12] * 4, "z" * 40, "y" * 40]))


@pytest.mark.parametrize(
    ("count", "marked"),
    [(0, []), (1, [1]), (7, [1, 2, 3, 4, 5, 6, 7]), (25, [1, 5, 10, 15, 20, 25]), (999, [1, *range(100, 1000, 100)])],
)
def test_steps_are_marked_at_round_numbers(count, marked):
    assert _round_steps(count) == marked
