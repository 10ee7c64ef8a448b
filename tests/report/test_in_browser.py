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
    for name in ("run", "all"):
        dus("report", name, "--quiet", cwd=root, check=0)
    return root


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as page:
        yield page


@pytest.fixture(params=["run", "all"])
def page(request, chromium, pages):
    chromium.size(1280)
    chromium.media("light")
    chromium.open(pages / request.param / "report.html")
    yield chromium
    assert chromium.complaints() == []
    assert chromium.requests() == []


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


def test_pointing_at_a_curve_shows_its_values(page):
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
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), node.get("description", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node.get("role", {}).get("value") in ("button", "slider", "image", "link")
    ]
    charts = page.run("document.querySelectorAll('figure.chart').length")
    assert [role for role, *_ in named].count("image") == charts
    assert all(name for _, name, _ in named)
    assert all(re.search(r"\d", description) for role, _, description in named if role == "image")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page, scheme):
    page.media(scheme)
    assert page.run("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert page.run(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_scrolls_in_one_direction_and_can_be_read(page, width):
    page.size(width, 800, phone=True)
    assert page.run("document.documentElement.scrollWidth") <= width
    smallest = page.run(
        "Math.min(...[...document.querySelectorAll('.chart text')].map((text) => "
        "parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"
    )
    assert smallest >= 8.5


def test_print_has_every_chart_and_no_control(page, tmp_path):
    page.media("light", "print")
    shown = "[...document.querySelectorAll('{}')].filter((one) => one.getClientRects().length).length"
    assert page.run(shown.format(".reader, nav, .tip, details, .every")) == 0
    assert page.run(shown.format("figure.chart svg[role=img]")) == page.run(
        "document.querySelectorAll('figure.chart').length"
    )
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
