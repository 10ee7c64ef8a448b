"""One table of text that a terminal, a Markdown page, a report and a notebook show alike."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from typing import Any

from dus_gym.errors import ConfigError

GAP = "  "
"""Between two columns of plain text."""
TONES = {"gains": "better", "loses": "worse", "harm not excluded": "worse"}
"""Words at the end of a cell that HTML also sets in a colour."""


def percent(value: float | None) -> str:
    """Return a fraction in per cent, or a dash."""
    return "–" if value is None else f"{100.0 * value:.1f}"


def duration(seconds: float) -> str:
    """Return a length of time as one says it: ``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@dataclass(frozen=True)
class Table:
    """A head line and rows of text; the first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    """Says what it is; nothing of it is shown where it is empty."""
    words: bool = False
    """Set cells to the left, as text; else, but for the first, to the right, as numbers."""

    def _columns(self) -> list[list[str]]:
        return [[row[k] for row in self.rows] for k in range(len(self.head))]

    def markdown(self) -> str:
        """Return a table of GitHub's Markdown, without the caption."""
        numbers = "---" if self.words else "---:"
        rule = ["---", *([numbers] * (len(self.head) - 1))]
        lines = [self.head, rule, *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def text(self, width: int | None = None) -> str:
        """Return aligned plain text, one line per row where it fits.

        Args:
            width: the caption is wrapped to this many characters, the head in as few lines as make the table fit, if it
                can without breaking a word or a cell. Where it still does not fit, rows' names are broken after their
                colons, slashes and words, and then cells of words between them, or, in a table of ``words``, as names;
                None wraps nothing.
        """
        columns = self._columns()
        widest = [max(map(len, column), default=0) for column in columns]
        heads = [[name] for name in self.head]
        for lines in range(2, 2 + max(name.count(" ") for name in self.head)):
            sizes = [max(size, *map(len, head)) for size, head in zip(widest, heads, strict=True)]
            if width is None or _across(sizes) <= width:
                break
            heads = [_in_lines(name, size, lines) for name, size in zip(self.head, widest, strict=True)]
        sizes = [max(size, *map(len, head)) for size, head in zip(widest, heads, strict=True)]
        cells = [[[cell] for cell in column] for column in columns]
        for k in range(len(sizes)):
            excess = 0 if width is None else _across(sizes) - width
            if excess <= 0:
                break
            if k == 0:
                least = max(len(part) for name in columns[0] for part in _after_colons(name, 0))
                cells[0] = [_after_colons(name, max(least, sizes[0] - excess)) for name in columns[0]]
            elif not any(character.isdigit() for cell in columns[k] for character in cell):
                cells[k] = [_in_words(cell, sizes[k] - excess) for cell in columns[k]]
            elif self.words:
                cells[k] = [_after_colons(cell, sizes[k] - excess) for cell in columns[k]]
            sizes[k] = max(map(len, [*heads[k], *(part for parts in cells[k] for part in parts)]))
        deep = max(map(len, heads))
        heads = [[""] * (deep - len(head)) + head for head in heads]

        def line(parts: Sequence[str]) -> str:
            left = [self.words or k == 0 for k in range(len(parts))]
            set_cells = [
                part.ljust(size) if to_left else part.rjust(size)
                for part, size, to_left in zip(parts, sizes, left, strict=True)
            ]
            return GAP.join(set_cells).rstrip()

        whole = [self.caption] if self.caption else []
        caption = whole if width is None else _wrapped(self.caption, width)
        rows = [parts for row in zip(*cells, strict=True) for parts in zip_longest(*row, fillvalue="")]
        return "\n".join([*caption, *map(line, zip(*heads, strict=True)), *map(line, rows)])

    def records(self) -> str:
        """Return the caption, the head and every row on a line of its own, cells between tabs, for other programs."""
        lines = [*([[self.caption]] if self.caption else []), self.head, *self.rows]
        return "\n".join("\t".join(" ".join(cell.split()) for cell in line) for line in lines)

    def rich(self) -> Any:
        """Return a :class:`rich.table.Table` whose head wraps and whose cells do not."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
        for k, (name, cells) in enumerate(zip(self.head, self._columns(), strict=True)):
            least = max(map(len, [*cells, *name.split()]), default=0)
            table.add_column(Text(name), justify="left" if self.words or k == 0 else "right", min_width=least)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` of the same texts, by the first column.

        Raises:
            ConfigError: without pandas.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError("pandas() needs pandas, which is not installed: pip install pandas.") from None
        frame = pandas.DataFrame(list(self.rows), columns=list(self.head))
        return frame.set_index(self.head[0])

    def html(self) -> str:
        """Return an HTML table in a frame of its own, in which it scrolls where it is wider than the screen."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.head)
        body = "".join(
            f'<tr><th scope="row">{escape(first)}</th>{"".join(map(_html_cell, rest))}</tr>'
            for first, *rest in self.rows
        )
        kind = ' class="words"' if self.words else ""
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(self.caption)}"><table{kind}>'
            f"<caption><span>{escape(self.caption)}</span></caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def _across(sizes: Sequence[int]) -> int:
    """Return the width of columns and the gaps between them."""
    return sum(sizes) + len(GAP) * (len(sizes) - 1)


def _wrapped(text: str, width: int) -> list[str]:
    """Break text between words, never inside one."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _in_words(text: str, width: int) -> list[str]:
    """Break a cell between words, no narrower than its longest."""
    return _wrapped(text, max(1, width, *map(len, text.split()))) if text else [""]


def _in_lines(name: str, least: int, lines: int) -> list[str]:
    """Return a head in at most so many lines, as narrow as that goes but no narrower than its column's cells."""
    if not name:
        return [""]
    width = max(least, *map(len, name.split()))
    while len(wrapped := _wrapped(name, width)) > lines:
        width += 1
    return wrapped


def _after_colons(name: str, width: int) -> list[str]:
    """Break a name that is too long after its colons, slashes and words; later lines are set in by two."""
    lines = [""]
    for part in re.split(r"(?<=[:/ ])", name):
        if lines[-1].strip() and len((lines[-1] + part).rstrip()) > width:
            lines.append("  ")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _html_cell(text: str) -> str:
    tone = next((tone for word, tone in TONES.items() if text.endswith(word)), None)
    return f"<td>{escape(text)}</td>" if tone is None else f'<td class="{tone}">{escape(text)}</td>'
