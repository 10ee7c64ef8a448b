"""The report in a real headless Chromium: values, switches, keyboard, phone, dark mode, print, contrast."""

import re

import browser
import pytest
from command import dus

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.BINARY is None, reason=browser.MISSING),
]

CONTRAST = """
(() => {
  const part = (c) => (c /= 255, c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  const light = (c) => .2126 * part(c[0]) + .7152 * part(c[1]) + .0722 * part(c[2]);
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const c = read(getComputedStyle(node).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || node.closest("script, style, .alt") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const ink = read(node.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(node))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) low.push(walk.currentNode.data.trim() + " " + (a + .05) / (b + .05));
  }
  return low;
})()
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("browser")
    fake = ["--trainer", "fake", "--epochs", "12", "--quiet"]
    dus("train", "DUS-Digits-v0", "--agent", "score", *fake, "--out", "run", cwd=root, check=0)
    agents = "heuristic,score,score:rule=softmax,random,reversed,half"
    words = ["compare", "DUS-Digits-v0", "--agents", agents, "--seeds", "3", *fake, "--out", "all"]
    dus(*words, cwd=root, check=0)
    dus("train", "DUS-Digits-v0", "--agent", "score", "--epochs", "2", "--quiet", "--out", "probed", cwd=root, check=0)
    dus("probe", "probed", "--quiet", cwd=root, check=0)
    for name in ("run", "all", "probed"):
        dus("report", name, "--quiet", cwd=root, check=0)
    return root


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as page:
        yield page


def opened(chromium, file):
    chromium.size(1280)
    chromium.media("light")
    chromium.open(file)
    yield chromium
    assert chromium.complaints() == []
    assert chromium.requests() == []


@pytest.fixture(params=["run", "all", "probed"])
def page(request, chromium, pages):
    yield from opened(chromium, pages / request.param / "report.html")


@pytest.fixture
def comparison(chromium, pages):
    yield from opened(chromium, pages / "all/report.html")


def unfold(page):
    page.run("document.querySelectorAll('details.fold').forEach((one) => { one.open = true })")


def shown(page, selector):
    """How many elements are there to be seen: rendered, in no part that is folded."""
    return page.run(f"[...document.querySelectorAll('{selector}')].filter((one) => one.checkVisibility()).length")


def place(page, chart, across, down=0.5):
    return page.run(
        f"(() => {{ const svg = document.querySelector('#{chart} .plot svg'); svg.scrollIntoView({{block: 'center'}});"
        "const box = svg.getBoundingClientRect();"
        f"return [box.left + box.width * {across}, box.top + box.height * {down}] }})()"
    )


def tip(page, chart):
    return page.run(
        f"(() => {{ const tip = document.querySelector('#{chart} .tip');"
        "return tip.getClientRects().length ? tip.innerText : null })()"
    )


def test_the_page_opens_with_the_verdict_s_picture_then_the_samples_and_the_rest_is_folded(comparison):
    page = comparison
    tops = page.run(
        "['h1', '#effects', '.command', '#split', 'details.fold'].map((one) => "
        "document.querySelector(one).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)
    assert page.run("document.querySelector('#effects').getBoundingClientRect().top") < 450
    assert shown(page, "#effects tbody tr") == page.run("document.querySelectorAll('#effects tbody tr').length") > 6
    assert shown(page, "figure.chart") == shown(page, ".inside table") == 0
    titles = page.run("[...document.querySelectorAll('details.fold h2')].map((one) => one.textContent)")
    assert titles == ["Result", "Over training", "Batch size and score", "Cost", "Configuration"]
    assert shown(page, "details.fold h2") == 5
    # A link to a folded part opens it.
    page.run("document.querySelector('nav a[href=\\'#curves\\']').click()")
    page.run("new Promise((done) => setTimeout(done, 50))")
    assert page.run("document.querySelector('#curves').closest('details').open")
    assert shown(page, "figure.chart") > 4


@pytest.mark.parametrize(("width", "phone"), [(1200, False), (390, True)])
@pytest.mark.parametrize("name", ["run", "probed"])
def test_a_run_s_page_opens_with_its_picture_which_can_be_read(name, width, phone, chromium, pages):
    for page in opened(chromium, pages / name / "report.html"):
        page.size(width, 900, phone=phone)
        across, wide, top, left, right, command = page.run(
            "(() => { const one = document.querySelector('header figure.picture img'); const box = "
            "one.getBoundingClientRect(); return [box.width, one.naturalWidth, box.top, box.left, box.right, "
            "document.querySelector('.command').getBoundingClientRect().top] })()"
        )
        heading = page.run("document.querySelector('h1').getBoundingClientRect().bottom")
        assert heading < top < 600
        assert top < command
        assert 0 <= left < right <= width
        # Its smallest letters are 10 points at 160 dots per inch.
        assert 10 / 72 * 160 * across / wide >= 8.5
        assert shown(page, "#result") == 1
        assert shown(page, "figure.chart") == 0
        assert page.run("document.documentElement.scrollWidth") <= width


def test_the_picture_lies_where_its_axis_says_and_is_sorted(comparison):
    page = comparison
    rows = page.run(
        "[...document.querySelectorAll('#effects tbody tr')].map((row) => { const box = row.querySelector("
        "'.strip svg svg:last-of-type > .mark').getBoundingClientRect(); return [row.className, row.innerText, "
        "box.left + box.width / 2] })"
    )
    ticks = page.run(
        "[...document.querySelectorAll('#effects tfoot text')].map((one) => { const box = "
        "one.getBoundingClientRect(); return [Number(one.textContent.replace('−', '-')), box.left + box.width / 2] })"
    )
    places = [place for *_, place in rows]
    assert places == sorted(places, reverse=True)
    (first, left), *_, (last, right) = ticks
    each = (right - left) / (last - first)
    for kind, text, place in rows:
        points = 0.0 if kind == "zero" else float(re.search(r"[+−]\d+\.\d", text)[0].replace("−", "-"))
        assert place == pytest.approx(left + each * (points - first), abs=0.06 * each + 1)
    assert {kind for kind, *_ in rows} == {"agent", "control", "zero"}


@pytest.mark.parametrize("clipboard", [True, False], ids=["clipboard", "plain-http"])
def test_the_command_is_copied_by_keyboard_alone(page, clipboard):
    command = page.run("document.querySelector('.command code').textContent")
    assert command.startswith("dus compare DUS-Digits-v0 --agents ")
    page.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.run("navigator.clipboard.writeText('before')")
    if not clipboard:
        page.run("navigator.clipboard.writeText = undefined")
    page.run("document.querySelector('.command pre').focus()")
    page.key("Tab", 9)
    assert page.run("document.activeElement.className") == "copy"
    page.key("Enter", 13, "\r")
    said = "new Promise((done) => setTimeout(() => done(document.querySelector('.copied').textContent), 100))"
    assert page.run(said) == "Copied."
    assert page.run("navigator.clipboard.readText()") == command


def test_the_agents_that_the_verdict_names_are_on(comparison):
    page = comparison
    unfold(page)
    on, off = (
        page.run(
            "[...document.querySelectorAll('#gap .switches [data-series]')].filter((one) => one.ariaPressed === "
            f"'{state}').map((one) => one.textContent)"
        )
        for state in ("true", "false")
    )
    assert on[0] == "uniform"
    assert len(on) == 4
    verdict = page.run("[...document.querySelectorAll('h1, .verdict')].map((one) => one.innerText).join(' ')")
    named = sorted((name for name in on[1:] + off if f"{name} " in verdict), key=lambda name: verdict.find(f"{name} "))
    assert set(named[:3]) == set(on[1:])
    assert len(named) > 3


def test_pointing_at_a_curve_shows_its_values(page):
    unfold(page)
    chart = page.run("document.querySelector('[id^=sizes]').id")
    assert tip(page, chart) is None
    page.move(*place(page, chart, 0.98))
    assert re.match(r"iteration \d+", tip(page, chart))
    near_end = tip(page, chart)
    page.move(*place(page, chart, 0.3))
    assert tip(page, chart) != near_end
    page.move(2, 2)
    assert tip(page, chart) is None


def test_a_switch_hides_its_series_and_its_value(page):
    unfold(page)
    chart = page.run("document.querySelector('[id^=sizes]').id")
    state = (
        f"(() => {{ const f = document.querySelector('#{chart}'); const b = f.querySelector('[data-series=\"0\"]');"
        "const drawn = getComputedStyle(f.querySelector('svg .series')).display;"
        "return [b.getAttribute('aria-pressed'), drawn, b.textContent] })()"
    )
    pressed, display, name = page.run(state)
    assert (pressed, display) == ("true", "inline")
    page.run(f"document.querySelector('#{chart} [data-series=\"0\"]').focus()")
    page.key(" ", 32, " ")
    assert page.run(state)[:2] == ["false", "none"]
    page.move(*place(page, chart, 0.5))
    assert name not in tip(page, chart).split("\n")
    page.run(f"document.querySelector('#{chart} [data-series=\"0\"]').focus()")
    page.key("Enter", 13, "\r")
    assert page.run(state)[:2] == ["true", "inline"]


def test_values_can_be_read_with_the_keyboard_alone(page):
    unfold(page)
    chart = page.run("document.querySelector('[id^=sizes]').id")
    reader = f"document.querySelector('#{chart} .reader')"
    page.run(f"document.querySelector('#{chart} summary').focus()")
    page.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9, modifiers=8)
    page.send("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9, modifiers=8)
    assert page.run(f"document.activeElement === {reader}")
    spoken = page.run(f"{reader}.getAttribute('aria-valuetext')")
    page.key("ArrowLeft", 37)
    assert page.run(f"{reader}.getAttribute('aria-valuetext')") != spoken
    assert re.match(r"iteration \d+: .+ \d", spoken)
    assert tip(page, chart) is not None
    page.key("Escape", 27)
    assert tip(page, chart) is None


def test_every_control_has_a_name_and_every_chart_a_text(page):
    unfold(page)
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), node.get("description", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node.get("role", {}).get("value") in ("button", "slider", "image", "link")
    ]
    charts = page.run("document.querySelectorAll('figure.chart, figure.picture').length")
    assert [role for role, *_ in named].count("image") == charts
    assert all(name for _, name, _ in named)
    assert all(re.search(r"\d", name + description) for role, name, description in named if role == "image")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page, scheme):
    page.media(scheme)
    assert page.run("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert page.run(CONTRAST) == []
    marks = (
        "[...document.querySelectorAll('.rows .mark, .rows .part, .rows .whisker')].map((one) => "
        "getComputedStyle(one)[one.tagName === 'line' ? 'stroke' : 'fill'])"
    )
    assert "rgb(0, 0, 0)" not in page.run(marks), "every mark has a colour of the scheme"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_scrolls_in_one_direction_and_can_be_read(page, width):
    page.size(width, 800, phone=True)
    unfold(page)
    assert page.run("document.documentElement.scrollWidth") <= width
    smallest = page.run(
        "Math.min(...[...document.querySelectorAll('.chart text, .rows text')].map((text) => "
        "parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"
    )
    assert smallest >= 8.5


def test_print_has_every_chart_and_no_control(page, tmp_path):
    page.media("light", "print")
    assert shown(page, ".reader, nav, .tip, .chart details, .every, .copy") == 0
    assert page.run("document.querySelectorAll('details.fold[open]').length") == 0
    for selector in (
        "figure.chart svg[role=img]",
        "figure.rows table",
        ".inside .scroll:not(.chart *)",
        ".command code",
    ):
        assert shown(page, selector) == page.run(f"document.querySelectorAll('{selector}').length")
    page.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_without_scripts_every_series_is_there(chromium, pages):
    chromium.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(pages / "all/report.html")
        document = chromium.send("DOM.getDocument", depth=0)["root"]["nodeId"]
        hidden = chromium.send("DOM.querySelectorAll", nodeId=document, selector=".series.off")["nodeIds"]
        assert hidden
        for node in hidden:
            chromium.send("DOM.getBoxModel", nodeId=node)  # refused for what is not shown
    finally:
        chromium.send("Emulation.setScriptExecutionDisabled", value=False)
