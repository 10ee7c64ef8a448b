"""``dus report``: what is on the page, whatever is in the folder."""

import base64
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from command import dus
from made_results import comparison_of

import dus_gym
from dus_gym.cli.report import page_of
from dus_gym.errors import RunFolderError
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.results import Result
from dus_gym.experiments.spec import make_spec
from dus_gym.records import Scores
from dus_gym.report.chart import Chart, Series, evenly, ticks
from dus_gym.report.comparison import comparison_page, next_command
from dus_gym.report.curves import figure, mean_curve
from dus_gym.report.rows import AGENT, ZERO, Difference, differences
from dus_gym.report.run import run_page
from dus_gym.report.runs import Runs

FAKE = ["--trainer", "fake", "--epochs", "4", "--quiet"]
BY_SUM = Scores(0.5, 0.5, 0.5)
VOID = {"meta", "link", "input", "line", "path", "circle", "polygon", "rect", "br", "img"}


class Reader(HTMLParser):
    """Checks that elements close in order, and keeps what tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.wanted, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.wanted) <= set(self.ids)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.wanted += [found[key] for key in ("aria-labelledby", "aria-describedby") if key in found]
        self.wanted += [found["href"][1:]] if found.get("href", "").startswith("#") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def commands(page):
    """Commands that the page suggests."""
    return [unescape(re.sub("<[^>]*>", "", one)) for one in re.findall(r"<pre[^>]*><code>(.*?)</code>", page.html())]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    dus("train", "DUS-Digits-v0", "--agent", "score", *FAKE, "--out", "run", cwd=root, check=0)
    words = ["compare", "DUS-Digits-v0", "--agents", "heuristic,score:rule=softmax", "--seeds", "3", *FAKE]
    dus(*words, "--out", "one", cwd=root, check=0)
    words = ["compare", "DUS-Digits-v0,DUS-Digits3-v0", "--agents", "score", "--seeds", "2", *FAKE]
    dus(*words, "--out", "two", cwd=root, check=0)
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_run_s_page_has_its_verdict_first_and_every_part(root):
    done = dus("report", "run", "--json", cwd=root, check=0)
    text = (root / "run/report.html").read_text(encoding="utf-8")
    reader = Reader(text)
    verdict = json.loads(done.stdout.splitlines()[-1])["verdict"]
    assert text.index(f"<h1>{verdict}</h1>") < text.index("<table")
    summary = json.loads((root / "run/summary.json").read_text())
    assert f"{100 * summary['fused']['method']['accuracy']:.1f} % test accuracy" in verdict
    assert "nothing was trained" in text
    assert {"result", "curves", "scores", "sizes", "gap", "validation", "cost", "configuration"} <= set(reader.ids)
    assert [tag for tag, _ in reader.tags].count("h1") == 1
    for words in ("fused, entropy", "run.min_samples", "trainer", "fake"):
        assert words in text


def opening_of(html):
    """What stands between a page's heading and its list of sections."""
    return html[html.index("</h1>") : html.index("<nav")]


def test_a_run_s_page_opens_with_its_headline_and_the_picture_that_its_folder_keeps(root):
    html = page_of(root / "run").html()
    opening = opening_of(html)
    picture, rest = opening.split("</figure>", 1)
    assert picture.startswith('</h1>\n<figure class="picture">')
    assert f'src="data:image/png;base64,{base64.b64encode((root / "run/curves.png").read_bytes()).decode()}"' in picture
    assert "dus compare DUS-Digits-v0" in re.sub("<[^>]*>", "", rest)
    summary = json.loads((root / "run/summary.json").read_text())
    last = json.loads((root / "run/steps.jsonl").read_text().splitlines()[-1])
    for score, (name, row) in zip(last["observation"], summary["modalities"].items(), strict=True):
        mean = row["samples"] / summary["iterations"]
        assert f"<li>{name}: score {score:.2f} at the end; {mean:.0f} samples per iteration on average</li>" in picture
    assert re.search(r'<section class="folded" aria-labelledby="curves">', html)


@pytest.mark.parametrize("validated", [True, False])
def test_the_picture_s_words_tell_of_validation_where_there_is_any(root, validated):
    run = root / "run"
    config, summary = (json.loads((run / name).read_text()) for name in ("config.json", "summary.json"))
    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    if not validated:
        steps = [{key: value for key, value in step.items() if not key.startswith("val_")} for step in steps]
    html = run_page(config, Result.from_json(summary, folder=run), steps).html()
    assert ("dashed: validation" in opening_of(html)) == validated


def test_the_picture_s_words_are_of_learning_rates_where_those_move(tmp_path):
    run = tmp_path / "run"
    dus_gym.train("DUS-Fake-v0", "score", epochs=3, lever="rates", out=run)
    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    names = [key.removeprefix("rate/") for key in steps[0] if key.startswith("rate/")]
    opening = opening_of(page_of(run).html())
    for name in names:
        mean = sum(step[f"rate/{name}"] for step in steps) / 3
        assert f"learning rate × {mean:.2f} on average</li>" in opening
    assert len(names) == 2
    assert "the factors on the learning rates" in opening
    assert "samples per iteration" not in opening.split("</figure>")[0]


def test_a_run_without_a_picture_opens_with_the_two_charts_that_would_be_in_it(root):
    html = page_of(next(root.glob("one/score*/seed1"))).html()
    assert re.findall('<figure class="chart" id="([a-z]+)"', opening_of(html)) == ["scores", "sizes"]
    assert "<img" not in html
    charts = re.findall('<figure class="chart" id="([a-z]+)"', html)
    assert charts == ["scores", "sizes", "gap", "validation", "loss", "reward"]
    Reader(html)


def test_a_comparison_s_page_says_what_the_comparison_says(root):
    dus("report", "one", "--out", "page.html", "--quiet", cwd=root, check=0)
    text = (root / "page.html").read_text(encoding="utf-8")
    reader = Reader(text)
    result = json.loads((root / "one/comparison.json").read_text())
    assert re.sub("<[^>]*>", "", text).count(result["verdict"])
    assert {"effects", "split", "accuracy-0", "score-1", "scores-0", "sizes-1", "gap", "validation"} <= set(reader.ids)
    assert "heuristic, at equal samples" in text
    assert "Holm" in text
    assert "samples per iteration" in text


def rows_of(html, key="effects"):
    """Rows of a picture: kind, name and what is written behind it."""
    picture = re.search(f'<figure class="rows" id="{key}".*?</figure>', html, re.DOTALL)[0]
    rows = re.findall(
        r"<tr(?: class=\"(\w+)\")?><th scope=\"row\"[^>]*>(.*?)</th>.*?<td class=\"said\">(.*?)</td>", picture
    )
    return [(kind, unescape(name), unescape(said)) for kind, name, said in rows], re.sub("<[^>]*>", " ", picture)


def test_the_picture_has_every_difference_in_falling_order_with_its_kind_and_outcome():
    found = comparison_of({"steady": 2.1, "lr-matched": 3.6, "reversed": -1.0, "score": 0.0})
    page = comparison_page(found)
    rows, text = rows_of("".join(page.opening))
    assert [(kind, name) for kind, name, _ in rows] == [
        ("control", "lr-matched"), ("agent", "steady"), ("zero", "uniform"), ("agent", "score"),
        ("control", "reversed"),
    ]  # fmt: skip
    part = found.parts[0]
    low, high = part.agents["steady"].interval_corrected
    assert rows[1][2] == f"+2.1 [{low:+.1f}, {high:+.1f}]"
    assert rows[2][2] == "70.0 ± 0.2 % accuracy"
    assert rows[4][2].startswith("−1.0 [−")
    words = " ".join(text.split())
    for legend in (
        "an agent", "a control, which a gain must beat", "95 % interval, wider because 4 differences are tested",
        "points of accuracy", "less accurate than uniform", "steady +2.1", "gains", "loses", "cannot be told",
    ):  # fmt: skip
        assert legend in words
    assert "goes on beyond" not in words
    html = page.html()
    assert html.index("<h1") < html.index('id="effects"') < html.index("<nav") < html.index("<details")


def test_one_seed_has_no_interval_and_no_word_of_one():
    rows, text = rows_of("".join(comparison_page(comparison_of({"steady": 2.0}, seeds=[4])).opening))
    assert [said for *_, said in rows] == ["+2.0", "70.2 % accuracy"]
    assert "interval" not in text.replace("points [95 % interval]", "")
    assert "single seeds" not in text


def test_a_method_without_a_prediction_of_its_own_has_its_table_in_the_picture_s_place():
    own = {"every": {"fused": {"method": None, "concat": None, "sum": BY_SUM, "entropy": None}}}
    page = comparison_page(comparison_of({"steady": 2.0}, **own))
    assert "".join(page.opening) == ""
    assert [section.key for section in page.sections if not section.folded and any(section.parts)] == ["result"]


@pytest.mark.parametrize(
    ("interval", "arrows", "drawn"),
    [((-1.0, 3.0), 0, 2), ((-50.0, 3.0), 1, 2), ((-50.0, 60.0), 2, 2), (None, 0, 0)],
)
def test_an_interval_that_is_too_wide_to_draw_ends_in_an_arrow(interval, arrows, drawn):
    rows = [
        Difference("steady", AGENT, 1.0, interval, (0.5, 1.5), "+1.0", "cannot be told"),
        Difference("uniform", ZERO, 0.0, None, (), "70.0 %", ""),
    ]
    legend = dict.fromkeys((AGENT, ZERO, "interval", "seed"), "in words")
    html = differences("k", "t", "s", {"": rows}, reference="uniform", legend=legend)
    Reader(html)
    in_legend = min(1, arrows)
    assert html.count('class="arrow"') == arrows + in_legend
    assert html.count('class="whisker"') == drawn
    assert html.count("goes on beyond the picture") == in_legend
    assert all(0.0 <= float(x) <= 100.0 for x in re.findall(r'x[12]?="([-\d.]+)%"', html))


def test_who_got_how_many_samples_is_what_the_runs_drew(root):
    rows, text = rows_of(page_of(root / "one").html(), "split")
    named = {name: said for _, name, said in rows}
    assert rows[0][1:] == ("uniform", "64, 64")
    summaries = [json.loads((root / f"one/heuristic/seed{k}/summary.json").read_text()) for k in range(3)]
    means = [
        sum(one["modalities"][name]["samples"] / one["iterations"] for one in summaries) / 3
        for name in ("pixels", "columns")
    ]
    assert named["heuristic"] == ", ".join(f"{mean:.0f}" for mean in means)
    assert "samples per iteration" in text


@pytest.mark.parametrize(
    ("gains", "how", "config", "said", "end"),
    [
        ({"steady": 2.0}, {"seeds": [0, 1]}, {}, "5 seeds, the fewest", "--agents steady --seeds 5 --epochs 4"),
        (
            {"steady": 4.0, "random": 0.0}, {}, {}, "the controls that did not run",
            "--agents steady,random,reversed,best-fixed,lr-matched --seeds 5 --epochs 4",
        ),
        (
            {"steady": 4.0}, {"left_out": {"best-fixed": "it can't"}}, {"lever": "rates"}, "the controls",
            "--agents steady,reversed,random --seeds 5 --lever rates --epochs 4",
        ),
        ({"steady": 0.0}, {}, {}, "seeds that were not used yet", "--agents steady --seeds 5-9 --epochs 4"),
        ({"random": 4.0}, {}, {}, "seeds that were not used yet", "--agents random --seeds 5-9 --epochs 4"),
    ],
)  # fmt: skip
def test_the_next_comparison_follows_from_the_verdict_and_has_these_runs_settings(gains, how, config, said, end):
    part = comparison_of(gains, **how).parts[0]
    runs = Runs(config=make_spec("DUS-Digits-v0", "uniform", **config, epochs=4).as_config())
    words, command = next_command(part, runs)
    assert said in words
    assert command == f"dus compare DUS-Digits-v0 {end}"


def test_no_command_is_made_up_for_objects_of_a_program_or_without_the_runs():
    runs = Runs(config=make_spec("DUS-Digits-v0", "uniform").as_config())
    assert next_command(comparison_of({"my-policy": 2.0}).parts[0], runs) is None
    assert next_command(comparison_of({"steady": 2.0}).parts[0], Runs()) is None
    assert next_command(comparison_of({}).parts[0], runs) is None


def test_a_page_suggests_the_comparison_s_own_settings(root):
    assert commands(page_of(root / "one")) == [
        "dus compare DUS-Digits-v0 --agents heuristic,score:rule=softmax --seeds 5 --trainer fake --epochs 4"
    ]


def test_a_run_s_page_has_its_probe_or_names_the_command(tmp_path):
    run = tmp_path / "a run"
    result = dus_gym.train("DUS-Digits-v0", "uniform", epochs=2, out=run)
    assert commands(page_of(run))[-1] == f"dus probe '{run}'"
    found = result.probe()
    text = re.sub("<[^>]*>", " ", html := page_of(run).html())
    assert "dus probe" not in text
    assert Reader(html).ids.count("probe") == 1
    for name, row in found.modalities.items():
        cells = [f"{100 * row.head.accuracy:.1f}", f"{100 * row.linear.accuracy:.1f}", f"{row.linear.strength:g}"]
        assert " ".join([name, *cells, f"{100 * row.shapley:+.1f}"]) in " ".join(text.split())
    for caption in ("Test accuracy by true class", "parameters are trained", "the fused prediction"):
        assert caption in text
    (run / "probe.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"damaged.*Delete it, and dus probe"):
        page_of(run)
    (run / "probe.json").unlink()
    (run / "model.safetensors").unlink()
    assert "without weights nothing can be probed" in page_of(run).html()


def test_a_run_of_the_fake_trainer_has_nothing_to_probe(root):
    assert "fake trainer, which has no network to probe" in page_of(root / "run").html()


def test_several_comparisons_are_one_page_with_an_overview(root):
    dus("report", "two", "--quiet", cwd=root, check=0)
    reader = Reader((root / "two/report.html").read_text(encoding="utf-8"))
    assert {"effects", "overview", "c0-split", "c1-split", "c1-scores-2", "c0-scores-1"} <= set(reader.ids)
    links = [found["href"] for tag, found in reader.tags if tag == "a"]
    assert links == ["#main", "#overview", "#c0-result", "#c1-result"]


def test_a_comparison_without_its_runs_still_has_a_page(root):
    shutil.copy(root / "one/comparison.json", root / "alone.json")
    dus("report", "alone.json", "--out", "alone.html", "--quiet", cwd=root, check=0)
    ids = Reader((root / "alone.html").read_text(encoding="utf-8")).ids
    assert "effects" in ids
    assert {"gap", "split"}.isdisjoint(ids), "what only runs have"


def test_a_comparison_writes_the_page_that_the_command_writes(root):
    folder = root / "one"
    comparison = Comparison.from_json(json.loads((folder / "comparison.json").read_text()), folder=folder)
    assert comparison.report(root / "mine.html").read_text(encoding="utf-8") == page_of(folder).html()


def test_the_suggested_comparison_has_the_run_s_settings(root):
    assert commands(page_of(root / "run")) == ["dus compare DUS-Digits-v0 --agents score --trainer fake --epochs 4"]


def test_the_suggested_comparison_imports_what_this_command_did(root, monkeypatch):
    monkeypatch.setattr("dus_gym.experiments.spec.IMPORTED", ["my_agents"])
    (command,) = commands(page_of(root / "run"))
    assert command == "dus compare DUS-Digits-v0 --agents score --trainer fake --epochs 4 --import my_agents"


def test_a_run_that_goes_on_has_its_curves_and_no_figures(root):
    (root / "run/summary.json").unlink()
    assert page_of(root / "run").verdict == "Not finished: at epoch 4 of 4."
    assert {"result", "cost"}.isdisjoint(Reader(page_of(root / "run").html()).ids)
    (root / "run/steps.jsonl").unlink()
    assert page_of(root / "run").verdict == "Not finished: before its first step."
    Reader(page_of(root / "run").html())


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b<c>'"])
def test_names_can_not_become_code(root, text):
    for name, changed in (("config", {"agent": text}), ("summary", {"agent": text, "env": text})):
        file = root / f"run/{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    steps = (root / "run/steps.jsonl").read_text().replace("pixels", json.dumps(text)[1:-1])
    (root / "run/steps.jsonl").write_text(steps)
    html = page_of(root / "run").html()
    reader = Reader(html)
    assert html.count("<img") == 1, "the picture of the run"
    assert [tag for tag, _ in reader.tags].count("script") == len(re.findall('<figure class="chart"', html)) + 1
    one = next(found for found in re.findall(r'<script type="application/json">(.*?)</script>', html))
    assert text in [series["name"] for series in json.loads(one)["series"]]


def test_nothing_is_loaded_from_anywhere(root):
    html = page_of(root / "one").html()
    assert "default-src 'none'" in html
    assert re.findall(r'(?:src|href)="(?!#|data:)', html) == []
    assert not re.search(r"https?://|@import|url\(", html)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "one/comparison.json").write_text("{"), "damaged"),
        (
            lambda root: (root / "one/comparison.json").write_text('{"agents": {}}'),
            "format is missing.*dus compare --resume",
        ),
        (lambda root: (root / "one/comparison.json").write_text('{"format": 9}'), "has format 9"),
        (lambda root: (root / "one/comparison.json").unlink(), "not finished"),
        (lambda root: shutil.rmtree(root / "one"), "holds no run"),
    ],
)
def test_what_can_not_be_reported_is_named(root, damage, message):
    damage(root)
    with pytest.raises(RunFolderError, match=message):
        page_of(root / "one")
    assert dus("report", "one", cwd=root, check=2).stderr.startswith("dus: ")


def test_the_same_folder_gives_the_same_page(root):
    assert page_of(root / "one").html() == page_of(root / "one").html()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.53, 4.3, [0.0, 1.0, 2.0, 3.0, 4.0]),
        (0.0, 60000.0, [0.0, 10000.0, 20000.0, 30000.0, 40000.0, 50000.0, 60000.0]),
        (0.9481, 0.9489, [0.9482, 0.9484, 0.9486, 0.9488]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_thinning_keeps_both_ends():
    assert evenly(5, 10) == [0, 1, 2, 3, 4]
    assert evenly(1000, 5) == [0, 250, 500, 749, 999]


def test_a_mean_is_over_the_runs_that_have_the_figure():
    runs = [
        [{"iterations": 1, "gap": 1.0}, {"iterations": 2, "gap": 2.0}],
        [{"iterations": 1, "gap": 3.0}],
        [{"iterations": 1, "gap": None}, {"iterations": 2, "gap": None}],
    ]
    found = mean_curve(runs, figure("gap"))
    assert found.iterations == [1, 2]
    assert found.mean == [2.0, 2.0]
    assert found.high == pytest.approx([2.0 + 2**0.5, 2.0])


@pytest.mark.parametrize(
    "value", [1e308, -1e308, 10**400, float("inf"), float("nan")], ids=["large", "low", "whole", "infinite", "nan"]
)
def test_a_figure_that_no_axis_can_hold_is_left_out_and_the_rest_is_drawn(value):
    runs = [[{"iterations": 1, "gap": 1e150}, {"iterations": 2, "gap": value}], [{"iterations": 1, "gap": -1e150}]]
    found = mean_curve(runs, figure("gap"))
    assert (found.iterations, found.mean) == ([1, 2], [0.0, None])
    drawn = Chart("k", "t", "s", "x", "y", [1, 2], [Series("a", [figure("gap", scale=100)(s) for s in runs[0]])]).html()
    assert "NaN" not in drawn
    Reader(drawn)


def test_a_chart_of_constants_or_single_points_is_drawn():
    for values in ([0.0], [5.0, 5.0], [None, 1.0]):
        one = Chart("k", "t", "s", "x", "y", list(range(len(values))), [Series("a", values)])
        assert "NaN" not in one.html()
        Reader(one.html())
    assert Chart("k", "t", "s", "x", "y", [], []).html() == ""
    assert Chart("k", "t", "s", "x", "y", [0], [Series("a", [None])]).html() == ""


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_and_lines_stand_out_in_every_mode(mode):
    css = (files("dus_gym.report") / "page.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", css.split(":root {")[mode + 1].split("}")[0]))
    for text in ("ink", "soft", "accent", "better", "worse"):
        assert min(contrast(colours[text], colours[ground]) for ground in ("page", "card")) >= 4.5, text
    assert contrast(colours["warn-ink"], colours["warn"]) >= 4.5
    series = [name for name in colours if re.fullmatch(r"s\d", name)]
    assert len(series) == 8
    assert min(contrast(colours[name], colours["card"]) for name in series) >= 3
