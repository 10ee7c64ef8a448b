"""The page itself: one file that needs nothing else, and may load nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from dus_gym import __version__

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""Browsers refuse the page everything but what is written in it."""

LONG = 130
"""Characters of the heading that it does not exceed, unless its one sentence does; then it is set smaller."""


def command_html(said: str, command: str) -> str:
    """Return a command behind the words that say what it is for, with a button that copies it."""
    # A browser would break a line behind the dashes of an option.
    words = [f"<span>{escape(word)}</span>" if word.startswith("--") else escape(word) for word in command.split(" ")]
    return (
        f'<div class="command"><p>{escape(said)}</p><pre tabindex="0"><code>{" ".join(words)}</code></pre>'
        f'<button type="button" class="copy">Copy<span class="alt"> the command: {escape(said)}</span></button>'
        '<span class="copied" role="status"></span></div>'
    )


def picture_html(
    file: Path, title: str, says: str, alt: str, *, figures: Sequence[str] = (), wide: bool = False
) -> str:
    """Return a picture of a folder as part of the page, which then needs no file; nothing if there is none.

    Args:
        file: a PNG file.
        title: of the picture.
        says: how to read it, in a sentence or two.
        alt: what it shows, for those who can't see it.
        figures: what can be read from it, a line each.
        wide: gives it the whole width of the page, below its words.
    """
    if not file.is_file():
        return ""
    source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    lines = "".join(f"<li>{escape(line)}</li>" for line in figures)
    return (
        f'<figure class="picture{" wide" if wide else ""}"><figcaption><h2>{escape(title)}</h2><p>{escape(says)}</p>'
        f"{f'<ul>{lines}</ul>' if lines else ''}</figcaption>"
        f'<img src="{source}" alt="{escape(alt)}"></figure>'
    )


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
    folded: bool = False
    """Shows the title alone until somebody opens it, and everything on paper."""
    link: str | None = None
    """What the list of sections calls it; its title if not given, nothing at all if empty."""

    def html(self) -> str:
        """The section."""
        inside = "".join(self.parts)
        body = f'<div class="grid">{inside}</div>' if self.grid else inside
        heading = f'<h2 id="{self.key}">{escape(self.title)}</h2>'
        if self.folded:
            body = f'<details class="fold"><summary>{heading}</summary><div class="inside">{body}</div></details>'
        else:
            body = heading + body
        kind = ' class="folded"' if self.folded else ""
        return f'<section{kind} aria-labelledby="{self.key}">{body}</section>'


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
    warning: str = ""
    """Above everything: that nothing was trained, that a run diverged."""
    opening: Sequence[str] = ()
    """HTML of what stands right below the verdict: its picture."""
    following: Sequence[str] = ()
    """HTML of what stands below the remarks: the command that would be next."""

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
            + "".join(self.opening)
            + "".join(f"<p>{escape(remark)}</p>\n" for remark in self.remarks)
            + "".join(self.following)
            + f'<dl class="facts">{facts}</dl>\n</header>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
            f'<main id="main" tabindex="-1">\n{"".join(one.html() for one in sections)}\n</main>\n'
            f"<footer><p>Written by dus-gym {__version__}. This page is one file and loads nothing from anywhere.</p>"
            f"</footer>\n<script>\n{script}</script>\n</body>\n</html>\n"
        )


def _heading(verdict: str) -> tuple[str, str]:
    """Split a verdict into the sentences that fit the heading, at least one, and the others."""
    sentences = verdict.split(". ")
    count = next((k for k in range(len(sentences), 1, -1) if len(". ".join(sentences[:k])) < LONG), 1)
    end = "." if count < len(sentences) else ""
    return ". ".join(sentences[:count]) + end, ". ".join(sentences[count:])
