"""The page itself: one file that needs nothing else, and may load nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""Browsers refuse the page everything but what is written in it."""

LONG = 130
"""Characters of the heading that it does not exceed, unless its one sentence does; then it is set smaller."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    key: str
    """Unique on the page; letters, digits and dashes."""
    title: str
    parts: Sequence[str]
    """HTML, one after another; empty ones are left out, and a section without any is too."""
    grid: bool = False
    """Sets the parts in two columns where there is room."""
    link: str | None = None
    """What the list of sections calls it; its title if not given, nothing at all if empty."""

    def html(self) -> str:
        """The section."""
        inside = "".join(self.parts)
        body = f'<div class="grid">{inside}</div>' if self.grid else inside
        return f'<section aria-labelledby="{self.key}"><h2 id="{self.key}">{escape(self.title)}</h2>{body}</section>'


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    kicker: str
    """Above the verdict: what this is."""
    verdict: str
    remarks: Sequence[str]
    """Below it: what one must know to read it."""
    facts: Sequence[tuple[str, str]]
    """Name and value, such as the trainer."""
    sections: Sequence[Section]
    foot: str
    warning: str = ""
    """Above everything: that nothing was trained, that a run diverged."""

    def html(self) -> str:
        """The whole file."""
        sections = [section for section in self.sections if any(section.parts)]
        named = [(one.key, one.title if one.link is None else one.link) for one in sections]
        links = "".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name in named if name)
        facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in self.facts)
        home = files("dus_gym.report")
        style, script = ((home / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
        warning = f'<p class="warning"><strong>{escape(self.warning)}</strong></p>' if self.warning else ""
        heading, rest = _heading(self.verdict)
        size = ' class="long"' if len(heading) > LONG else ""
        more = f' <p class="verdict">{escape(rest)}</p>' if rest else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
            f"<title>{escape(self.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            '<a class="skip" href="#main">Skip to the content</a>\n<header>\n'
            f'<p class="kicker">{escape(self.kicker)}</p>\n{warning}<h1{size}>{escape(heading)}</h1>{more}\n'
            + "".join(f"<p>{escape(remark)}</p>\n" for remark in self.remarks)
            + f'<dl class="facts">{facts}</dl>\n</header>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
            f'<main id="main" tabindex="-1">\n{"".join(one.html() for one in sections)}\n</main>\n'
            f"<footer><p>{escape(self.foot)}</p></footer>\n<script>\n{script}</script>\n</body>\n</html>\n"
        )


def _heading(verdict: str) -> tuple[str, str]:
    """Split a verdict into the sentences that fit the heading, at least one, and the others."""
    sentences = verdict.split(". ")
    count = next((k for k in range(len(sentences), 1, -1) if len(". ".join(sentences[:k])) < LONG), 1)
    end = "." if count < len(sentences) else ""
    return ". ".join(sentences[:count]) + end, ". ".join(sentences[count:])
