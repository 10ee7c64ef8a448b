// Switches of series, reading values by pointer, finger or keyboard, copying commands, and opening folded parts that
// a link leads to. The page is whole without it.
"use strict";
document.documentElement.classList.add("js");

const folds = [...document.querySelectorAll("details.fold")];
function unfold() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const fold = target && target.closest("details.fold");
  if (fold) fold.open = true;
}
addEventListener("hashchange", unfold);
for (const link of document.querySelectorAll('nav a')) link.addEventListener("click", () => setTimeout(unfold));
unfold();
let shut = [];
addEventListener("beforeprint", () => { shut = folds.filter((one) => !one.open); shut.forEach((one) => { one.open = true; }); });
addEventListener("afterprint", () => shut.forEach((one) => { one.open = false; }));

for (const box of document.querySelectorAll(".command")) {
  const code = box.querySelector("code"), said = box.querySelector(".copied");
  box.querySelector(".copy").addEventListener("click", async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // refused, or a page that came over plain http: what is selected can be copied there too
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy");
    }
    said.textContent = done ? "Copied." : "This browser does not let a page copy; the command is selected: press Ctrl+C.";
  });
}

for (const figure of document.querySelectorAll("figure.chart")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector(".plot svg");
  const tip = figure.querySelector(".tip");
  const rule = svg.querySelector(".rule");
  const dots = svg.querySelector(".dots");
  const reader = figure.querySelector(".reader");
  const groups = [...svg.querySelectorAll(".series")];
  const buttons = [...figure.querySelectorAll(".switches button[data-series]")];
  const every = figure.querySelector(".switches .every");
  const isOn = (i) => !groups[i].classList.contains("off");
  const make = (name, parent) => parent.appendChild(document.createElement(name));

  function turn(i, on) {
    groups[i].classList.toggle("off", !on);
    buttons[i].setAttribute("aria-pressed", String(on));
    if (every) every.setAttribute("aria-pressed", String(groups.every((_, k) => isOn(k))));
  }

  // Series that have a value at place k and are shown.
  const shown = (k) => data.series.map((_, i) => i).filter((i) => isOn(i) && data.series[i].y[k] !== null);

  function read(k) {
    const here = shown(k);
    figure.classList.toggle("reading", here.length > 0);
    if (!here.length) return;
    const x = data.x[k];
    rule.setAttribute("x1", x);
    rule.setAttribute("x2", x);
    rule.style.visibility = data.marks ? "hidden" : "";
    dots.replaceChildren();
    tip.replaceChildren();
    make("b", tip).textContent = data.labels[k];
    for (const i of here) {
      const one = data.series[i];
      const dot = dots.appendChild(document.createElementNS(svg.namespaceURI, "circle"));
      dot.setAttribute("class", groups[i].classList[1]);
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", one.y[k]);
      dot.setAttribute("r", data.marks ? 8 : 4.5);
      const row = make("span", tip);
      make("i", row).className = groups[i].classList[1];
      make("span", row).textContent = one.name;
      make("span", row).textContent = one.text[k];
    }
    const box = svg.getBoundingClientRect();
    const left = (x / svg.viewBox.baseVal.width) * box.width;
    const room = box.width - tip.offsetWidth;
    const beside = left < box.width / 2 ? left + 14 : left - tip.offsetWidth - 14;
    tip.style.left = Math.max(0, Math.min(room, beside)) + "px";
    if (data.marks) {
      const top = (data.series[here[0]].y[k] / svg.viewBox.baseVal.height) * box.height;
      tip.style.top = (top > box.height / 2 ? top - tip.offsetHeight - 14 : top + 14) + "px";
    }
    reader.value = k;
    reader.setAttribute("aria-valuetext",
      data.labels[k] + ": " + here.map((i) => data.series[i].name + " " + data.series[i].text[k]).join("; "));
  }

  function nearest(event) {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = -1, least = Infinity;
    data.x.forEach((place, k) => {
      const here = shown(k);
      if (!here.length) return;
      const away = data.marks ? Math.hypot(place - x, data.series[here[0]].y[k] - y) : Math.abs(place - x);
      if (away < least) [best, least] = [k, away];
    });
    return best;
  }

  const still = () => figure.classList.remove("reading");
  const follow = (event) => { const k = nearest(event); if (k >= 0) read(k); };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", still);
  reader.addEventListener("input", () => read(Number(reader.value)));
  reader.addEventListener("focus", () => { if (reader.matches(":focus-visible")) read(Number(reader.value)); });
  reader.addEventListener("blur", still);
  reader.addEventListener("keydown", (event) => { if (event.key === "Escape") still(); });
  buttons.forEach((button, i) => button.addEventListener("click", () => { turn(i, !isOn(i)); still(); }));
  if (every) {
    const first = groups.map((_, i) => isOn(i));
    every.setAttribute("aria-pressed", String(first.every(Boolean)));
    every.addEventListener("click", () => {
      const all = groups.every((_, i) => isOn(i));
      groups.forEach((_, i) => turn(i, all ? (first.every(Boolean) ? i === 0 : first[i]) : true));
    });
  }
}
