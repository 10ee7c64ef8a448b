"""Progress: done of all, time left and the current figure, by a made-up clock."""

import io
import json

import pytest
from command import dus
from rich.console import Console

from dus_gym.cli import progress
from dus_gym.cli.progress import Course, live_run, look_until, progress_over
from dus_gym.experiments.drivers import resolve_agent
from dus_gym.experiments.run import execute
from dus_gym.experiments.spec import make_spec
from dus_gym.experiments.table import duration


class MadeUp:
    """A clock that stands still until it is set forward."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return MadeUp()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3569, "59 min"), (3599, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_a_length_of_time_is_said_in_words(seconds, said):
    assert duration(seconds) == said


def test_a_course_says_done_of_all_time_left_and_the_figure_every_ten_seconds():
    clock, lines = MadeUp(), []
    course = Course("Digits", 9, "runs", lines.append, clock)
    course.look()
    clock.now += 9.9
    course.look()
    assert lines == []
    clock.now += 0.1
    course.look()
    course.advance("score, seed 1: 75.0 %")
    clock.now += 5.0
    course.look()
    assert lines == ["Digits: 0 of 9 runs, 10 s"]
    course.advance("score, seed 2: 76.1 %")
    clock.now += 5.0
    course.look()
    # Two in 20 s: the other seven take 70.
    assert lines[1:] == ["Digits: 2 of 9 runs, 20 s, about 1 min left; score, seed 2: 76.1 %"]


def test_runs_that_were_there_before_say_nothing_of_the_time_left():
    clock = MadeUp()
    course = Course("Digits", 12, "runs", clock=clock)
    for _ in range(8):
        course.advance("", kept=True)
    clock.now += 6.0
    assert course.line() == "Digits: 8 of 12 runs, 6 s"
    course.advance("")
    assert course.line() == "Digits: 9 of 12 runs, 6 s, about 18 s left"
    for _ in range(3):
        course.advance("")
    assert course.line() == "Digits: 12 of 12 runs, 6 s"


def test_the_clock_is_looked_at_until_the_end_also_where_nothing_is_reported():
    clock, lines = MadeUp(), []
    course = Course("Digits", None, "epochs", lines.append, clock)

    def ended(seconds):
        clock.now += seconds
        return clock.now > 1035.0

    look_until(course, ended)
    assert lines == ["Digits: 10 s", "Digits: 20 s", "Digits: 30 s"]


def test_without_a_terminal_lines_go_to_stderr_and_quiet_ones_nowhere(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "look_until", lambda course, ended: None)
    for quiet in (False, True):
        console = Console(file=io.StringIO(), quiet=quiet)
        with progress._shown(console, "Digits", 2, "runs", clock) as (course, moved):
            course.advance("75.0 %")
            moved("")
            clock.now += 10.0
            course.look()
        assert console.file.getvalue() == ""
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "Digits: 1 of 2 runs, 10 s, about 10 s left; 75.0 %\n")


@pytest.mark.parametrize("width", [60, 80])
def test_a_terminal_has_a_bar_with_the_same_figures_and_loses_it_at_the_end(clock, width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False, color_system=None)
    with progress_over(console, "Digits", 4, clock) as advance:
        clock.now += 30.0
        advance("score, seed 1: 75.0 %")
    shown = console.file.getvalue()
    assert "Digits" in shown
    assert "1/4" in shown
    assert "30 s, about 2 min left" in shown
    assert "score, seed 1: 75.0 %" in shown
    assert shown.endswith("\x1b[2K"), "the last that is written takes the bar away"


# -- runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "planned"), [("best-fixed", 5), ("lr-matched:match=best-fixed", 6), ("ppo:runs=3", 3)]
)
def test_the_runs_before_the_one_that_counts_are_counted(agent, planned):
    if agent.startswith("ppo"):
        pytest.importorskip("stable_baselines3")
    told = []
    spec = make_spec("DUS-Fake-v0", agent, epochs=3)
    result = execute(spec, on_prior=lambda *of: told.append(of))
    assert told == [(done, planned) for done in range(planned + 1)]
    assert result.training_runs == pytest.approx(planned, abs=1.0)
    alone = execute(spec)
    assert alone.accuracy == result.accuracy, "counting changes nothing"


def test_an_agent_without_runs_of_its_own_plans_none():
    assert resolve_agent("lookahead", 2).planned_runs == 0


def test_the_view_of_a_run_tells_prior_runs_then_epochs(clock):
    lines = []
    with live_run(Console(file=io.StringIO()), "Fake", clock) as view:
        view._course._say = lines.append

        def after(*of):
            clock.now += 10.0
            view._course.look()

        execute(
            make_spec("DUS-Fake-v0", "best-fixed:splits=3", epochs=2),
            on_step=lambda *of: after(view.step(*of)),
            on_prior=lambda *of: after(view.prior(*of)),
        )
    assert lines[:2] == [
        "Fake, runs before the one that counts: 0 of 3 runs, 10 s",
        "Fake, runs before the one that counts: 1 of 3 runs, 20 s, about 40 s left",
    ]
    assert lines[4].startswith("Fake: 1 of 2 epochs, ")
    assert "validation accuracy, %: " in lines[4]
    assert len(lines) == 6


@pytest.mark.parametrize(
    "words",
    [
        ["train", "DUS-Fake-v0", "--agent", "score", "--epochs", 2],
        ["compare", "DUS-Fake-v0", "--agents", "score", "--seeds", 1, "--epochs", 2],
        ["meta-train", "DUS-Fake-v0", "--agent", "reinforce", "--runs", 2, "--seeds", 2, "--eval-seeds", "120,",
         "--epochs", 2, "--out", "policy"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_commands_say_their_progress_on_stderr_alone(words, tmp_path, monkeypatch):
    # Every look says a line, and one look is made before the end.
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "look_until", lambda course, ended: course.look())
    done = dus(*words, "--json", cwd=tmp_path, check=0)
    assert done.stderr.startswith(("DUS-Fake-v0", "meta-train"))
    assert " s" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])
    quiet = [*words[:-1], "other"] if words[0] == "meta-train" else words
    assert dus(*quiet, "--quiet", cwd=tmp_path, check=0).stderr == ""
