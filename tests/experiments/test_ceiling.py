"""The ceiling: what the search finds, how it goes on after a kill, and what is said of agents beside it."""

import json
import math
import shutil

import numpy as np
import pytest
from command import dus

from dus_gym.agents import make_agent
from dus_gym.errors import ConfigError, RunFolderError
from dus_gym.experiments import ceiling as module
from dus_gym.experiments.ceiling import ceiling
from dus_gym.experiments.picture import draw_shares
from dus_gym.experiments.search import Search, SearchOptions
from dus_gym.experiments.spec import make_spec
from dus_gym.experiments.storage.run_folder import CEILING, CEILING_PICTURE, SEARCH
from dus_gym.statistics import ratio_interval

SMALL = SearchOptions(segments=2, constant_generations=2, generations=1, candidates=4, seeds_per_generation=2)
SHORT = {"seeds": 3, "epochs": 3, "search": SMALL}


def test_search_finds_the_best_schedule_of_a_known_surface(tmp_path):
    """The surface: the first half of the run wants .2 of the first modality, the second half .6."""

    class Surface:
        def do(self, work, tasks):
            for index, task in enumerate(tasks):
                found = []
                for split, seed in zip(task.splits, task.seeds, strict=True):
                    parts = [float(part.split("/")[0]) for part in split.split("+")]
                    first, second = parts[0], parts[-1]
                    # What a seed is worth is the same for all candidates, and must not disturb the search.
                    found.append(0.5 - (first - 0.2) ** 2 - (second - 0.6) ** 2 + (seed % 7) / 10)
                yield index, found

    options = SearchOptions(segments=2, constant_generations=8, generations=12, candidates=32, seeds_per_generation=2)
    search = Search(make_spec("DUS-Digits-v0", "uniform"), options, Surface(), together=10)
    constant, schedule = search.run(tmp_path, [], None)
    assert constant[0] == pytest.approx(0.4, abs=0.04)
    assert [part[0] for part in schedule] == pytest.approx([0.2, 0.6], abs=0.06)


def test_a_killed_search_goes_on_to_the_same_result(tmp_path):
    whole = ceiling("DUS-Digits-v0", ["holdout"], out=tmp_path / "whole", **SHORT)

    class Killed(Exception):
        pass

    class Bar:
        def __init__(self, *_):
            self.done = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __call__(self, *_):
            self.done += 1
            if self.done == 2 * 10 + 1:
                raise Killed

    with pytest.raises(Killed):
        ceiling("DUS-Digits-v0", ["holdout"], out=tmp_path / "part", progress=Bar, **SHORT)
    kept = json.loads((tmp_path / "part" / SEARCH).read_text())["generations"]
    assert len(kept) == 2
    with pytest.raises(RunFolderError, match=r"epochs.*3 there, 4 asked"):
        ceiling("DUS-Digits-v0", ["holdout"], out=tmp_path / "part", resume=True, **SHORT | {"epochs": 4})
    again = ceiling("DUS-Digits-v0", ["holdout"], out=tmp_path / "part", resume=True, **SHORT)
    assert again.to_json() == whole.to_json()
    assert json.loads((tmp_path / "part" / CEILING).read_text()) == whole.to_json()
    assert (tmp_path / "part" / CEILING_PICTURE).stat().st_size > 5000


def test_more_agents_are_set_beside_a_finished_search_without_searching_again(tmp_path):
    first = ceiling("DUS-Digits-v0", ["holdout"], out=tmp_path, **SHORT)
    before = (tmp_path / SEARCH).read_bytes()
    second = ceiling("DUS-Digits-v0", ["holdout", "score"], out=tmp_path, resume=True, **SHORT)
    assert (tmp_path / SEARCH).read_bytes() == before
    assert second.agents["holdout"] == first.agents["holdout"]
    assert "score" in second.agents


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ceiling") / "c"
    ceiling("DUS-Digits-v0", ["score"], out=folder, **SHORT)
    return folder


def test_figures_are_those_of_the_comparison(tmp_path):
    found = ceiling("DUS-Digits-v0", ["score"], out=tmp_path, **SHORT)
    part = found.comparison.parts[0]

    def mean(name):
        rows = part.agents[name].by_seed
        return np.mean([rows["concat"], rows["sum"]])

    for name, one in found.agents.items():
        assert one.points == pytest.approx(100 * (mean(name) - mean("uniform")))
    constant, schedule = found.labels
    assert found.highest == max((constant, schedule), key=lambda name: found.agents[name].points)
    assert part.agents[schedule].training_runs == 0
    assert len(found.schedule) == 2
    assert all(math.isclose(sum(split), 1.0) for split in (found.constant, *found.schedule))


def test_a_kill_under_force_leaves_a_folder_that_goes_on(tmp_path, monkeypatch):
    old = ceiling("DUS-Digits-v0", ["score"], out=tmp_path, **SHORT | {"epochs": 2})
    whole = Search._generation

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "_generation", killed)
    with pytest.raises(KeyboardInterrupt):
        ceiling("DUS-Digits-v0", ["holdout"], out=tmp_path, force=True, **SHORT)
    assert not (tmp_path / CEILING).exists()
    monkeypatch.setattr(Search, "_generation", whole)
    new = ceiling("DUS-Digits-v0", ["holdout"], out=tmp_path, resume=True, **SHORT)
    assert "score" not in new.agents
    assert new.constant != old.constant


def _set(path, value):
    def change(state):
        *heads, last = path
        for head in heads:
            state = state[head]
        state[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(["generations", 0, "mean"], []),
        _set(["generations", 0, "mean"], [[1.0, -1.0], [1.0, -1.0]]),
        _set(["generations", 0, "mean"], [[1.0, 0.0, -1.0]]),
        _set(["generations", 0, "mean"], [[1e4, -1e4]]),
        _set(["generations", 0, "mean"], [["a", "b"]]),
        _set(["generations", 0, "spread"], [[-1.0, 1.0]]),
        _set(["generations", 0, "kind"], "x"),
        _set(["generations", 2, "mean"], [[1.0, -1.0]]),
        _set(["generations", 0], 3),
        _set(["generations"], {}),
        lambda state: state["generations"].append(state["generations"][-1]),
        lambda state: state["generations"].pop(0),
    ],
)
def test_a_damaged_search_is_one_line_that_names_the_file(done, tmp_path, change):
    shutil.copytree(done, tmp_path / "c")
    file = tmp_path / "c" / SEARCH
    state = json.loads(file.read_text())
    change(state)
    file.write_text(json.dumps(state))
    with pytest.raises(RunFolderError, match=r"search\.json.* is damaged") as error:
        ceiling("DUS-Digits-v0", ["score"], out=tmp_path / "c", resume=True, **SHORT)
    assert "\n" not in str(error.value)


def test_a_method_that_needs_equal_batches_is_refused_before_the_search(tmp_path):
    with pytest.raises(ConfigError, match=r"method='ogm' needs every sample in all modalities"):
        ceiling("DUS-Digits-v0", ["uniform"], method="ogm", out=tmp_path / "c", **SHORT)
    assert not (tmp_path / "c").exists()
    found = ceiling("DUS-Digits-v0", lambda observation, info: [0.3, 0.7], method="ogm", lever="rates", **SHORT)
    assert len(found.agents) == 3


def test_panels_of_agents_that_decide_more_or_less_often_all_span_the_run(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: figures.append(figure))
    seldom, often = [[0.5, 0.2], [0.5, 0.8]], [[0.5, 0.1, 0.3, 0.4], [0.5, 0.9, 0.7, 0.6]]
    draw_shares(tmp_path / "x.png", "title", ["a", "b"], {"seldom": seldom, "often": often})
    first, second = figures[0].axes
    for axes, shares in ((first, seldom), (second, often)):
        assert axes.get_xlim() == (0.0, 1.0)
        lowest = axes.collections[0].get_paths()[0].vertices
        assert (lowest[:, 0].min(), lowest[:, 0].max()) == (0.0, 1.0)
        assert lowest[:, 1].max() == max(shares[0])


def test_the_picture_has_the_shares_of_the_runs(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(module, "draw_shares", lambda path, title, modalities, panels: drawn.update(panels))
    found = ceiling("DUS-Digits-v0", ["reinforce:preset=tuned"], out=tmp_path, **SHORT)
    constant, tuned = drawn["best constant"], drawn["reinforce:preset=tuned"]
    assert [len(constant[0]), len(tuned[0])] == [3, 4]
    assert [share[0] for share in constant] == [0.5, 0.5]
    assert constant[0][1:] == pytest.approx([found.constant[0]] * 2, abs=1 / 64)


def test_resume_needs_a_folder():
    with pytest.raises(ConfigError, match="resume=True is not allowed without out"):
        ceiling("DUS-Digits-v0", resume=True, **SHORT)


def test_a_search_that_takes_too_long_is_refused_with_its_time_and_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONG", 1e-3)
    with pytest.raises(ConfigError, match=r"would take about \d+ s: 30 training runs of 3 epochs.*--yes"):
        ceiling("DUS-Digits-v0", out=tmp_path / "c", **SHORT)
    assert not (tmp_path / "c").exists()
    ceiling("DUS-Digits-v0", out=tmp_path / "c", yes=True, **SHORT)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": "1000-1003"}, r"\[1000, 1001, 1002, 1003\] are seeds of the search \(1000 to 1005\)"),
        ({"trainer": "fake"}, "fitted curves have no ceiling"),
        ({"agents": ["fixed:shares=.2/.3/.5"]}, "give 2 numbers"),
        ({"agents": ["hodlout"]}, "holdout"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        ceiling("DUS-Digits-v0", out=tmp_path / "c", **SHORT | changes)
    assert not (tmp_path / "c").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="holds no ceiling"):
        ceiling("DUS-Digits-v0", out=tmp_path, **SHORT)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_command_prints_table_verdict_and_json(tmp_path):
    words = "DUS-Digits-v0 --epochs 3 --lever rates --seeds 3 --candidates 4 --seeds-per-generation 2 --segments 2"
    more = f"--constant-generations 1 --generations 1 --agents score --json --out {tmp_path / 'c'}"
    code, out, _ = dus("ceiling", *words.split(), *more.split(), cwd=tmp_path)
    assert code == 0
    *_, last = out.strip().splitlines()
    found = json.loads(last)
    assert found["settings"]["lever"] == "rates"
    assert "Verdict: The best " in out
    assert list(found["agents"])[2] == "score"


def test_schedule_changes_at_equal_parts_of_the_run():
    agent = make_agent("schedule", 2, shares=".1/.9+.5/.5+3/1")
    shares = [agent.act([0.5, 0.5], {"epoch": epoch, "epochs": 6})[0] for epoch in range(1, 7)]
    assert shares == pytest.approx([0.1, 0.5, 0.5, 0.75, 0.75, 0.75])
    with pytest.raises(ConfigError, match=r"shares='.1/.9\+.5' is not allowed; give 2 numbers"):
        make_agent("schedule", 2, shares=".1/.9+.5")
    with pytest.raises(ConfigError, match="use the agent schedule"):
        make_agent("fixed", 2, shares=".1/.9+.5/.5")


def test_ratio_interval_holds_the_ratios_that_a_t_test_does_not_exclude():
    from scipy import stats

    rng = np.random.default_rng(0)
    reference = rng.normal(3.0, 1.5, 40)
    values = 0.8 * reference + rng.normal(0.0, 1.0, 40)
    low, high = ratio_interval(values.tolist(), reference.tolist())
    for ratio, inside in ((low - 1e-3, False), (low + 1e-3, True), (high - 1e-3, True), (high + 1e-3, False)):
        p = stats.ttest_1samp(values - ratio * reference, 0.0).pvalue
        assert bool(p > 0.05) is inside
    assert ratio_interval([1.0, 2.0, 0.0], [0.1, -0.1, 0.02]) is None
    assert ratio_interval([1.0], [1.0]) is None


def test_a_run_of_one_iteration_is_timed_too(tmp_path):
    found = ceiling("DUS-Digits-v0", ["score"], seeds=2, epochs=1, iterations=1, search=SMALL)
    assert len(found.seeds) == 2
