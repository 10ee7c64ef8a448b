"""One table of text that a terminal, a Markdown page, a report and a notebook show alike."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dus_gym.errors import ConfigError

GAP = "  "
"""Between two columns of plain text."""
TONES = {"gains": "better", "loses": "worse", "harm not excluded": "worse"}
"""Words at the end of a cell that HTML also sets in a colour."""


@dataclass(frozen=True)
class Table:
    """A head line and rows of text; the first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    """Says what it is."""
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
        """Return aligned plain text, one line per row.

        Args:
            width: the caption is wrapped to this many characters, the head in as few lines as make the table fit, if it
                can without breaking a word or a cell, and rows' names after their colons where it still does not; None
                wraps nothing.
        """
        widest = [max(map(len, column), default=0) for column in self._columns()]
        heads = [[name] for name in self.head]
        for lines in range(2, 2 + max(name.count(" ") for name in self.head)):
            sizes = [max(size, *map(len, head)) for size, head in zip(widest, heads, strict=True)]
            if width is None or sum(sizes) + len(GAP) * (len(sizes) - 1) <= width:
                break
            heads = [_in_lines(name, size, lines) for name, size in zip(self.head, widest, strict=True)]
        deep = max(map(len, heads))
        sizes = [max(size, *map(len, head)) for size, head in zip(widest, heads, strict=True)]
        names = [[row[0]] for row in self.rows]
        rest = sum(sizes[1:]) + len(GAP) * (len(sizes) - 1)
        if width is not None and sizes[0] + rest > width:
            names = [_after_colons(row[0], width - rest) for row in self.rows]
            sizes[0] = max(map(len, [*heads[0], *(part for parts in names for part in parts)]))
        heads = [[""] * (deep - len(head)) + head for head in heads]

        def line(cells: Sequence[str]) -> str:
            left = [self.words or k == 0 for k in range(len(cells))]
            set_cells = [
                cell.ljust(size) if to_left else cell.rjust(size)
                for cell, size, to_left in zip(cells, sizes, left, strict=False)
            ]
            return GAP.join(set_cells).rstrip()

        caption = [self.caption] if width is None else textwrap.wrap(self.caption, width, break_long_words=False)
        rows = [
            cells
            for row, parts in zip(self.rows, names, strict=True)
            for cells in ([parts[0], *row[1:]], *([part] for part in parts[1:]))
        ]
        return "\n".join([*caption, *map(line, zip(*heads, strict=True)), *map(line, rows)])

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


def _in_lines(name: str, least: int, lines: int) -> list[str]:
    """Return a head in at most so many lines, as narrow as that goes but no narrower than its column's cells."""
    if not name:
        return [""]
    width = max(least, *map(len, name.split()))
    while len(wrapped := textwrap.wrap(name, width)) > lines:
        width += 1
    return wrapped


def _after_colons(name: str, width: int) -> list[str]:
    """Break a name that is too long after its colons and commas; later lines are set in by two."""
    lines = [""]
    for part in re.split(r"(?<=:)|(?<=, )", name):
        if lines[-1].strip() and len((lines[-1] + part).rstrip()) > width:
            lines.append("  ")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _html_cell(text: str) -> str:
    tone = next((tone for word, tone in TONES.items() if text.endswith(word)), None)
    return f"<td>{escape(text)}</td>" if tone is None else f'<td class="{tone}">{escape(text)}</td>'
