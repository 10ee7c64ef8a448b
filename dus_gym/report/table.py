"""Tables of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Cell:
    """A cell with a second, smaller line."""

    text: str
    below: str = ""
    tone: str = ""
    """better, worse or nothing: set in a colour, beside words that say the same."""

    def html(self) -> str:
        """What is inside the cell."""
        if not self.below:
            return escape(self.text)
        tone = f' class="{self.tone}"' if self.tone else ""
        return f"{escape(self.text)}<small{tone}>{escape(self.below)}</small>"


@dataclass(frozen=True)
class Table:
    """A head line and rows whose first cell names them; wider than the screen, it scrolls in its own frame."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str
    """Says what it is; also the name of the frame for readers."""
    words: bool = False
    """Cells are text, set to the left; numbers otherwise."""

    def html(self) -> str:
        """The table."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.head)
        body = "".join(
            f'<tr><th scope="row">{_inside(first)}</th>{"".join(f"<td>{_inside(cell)}</td>" for cell in rest)}</tr>'
            for first, *rest in self.rows
        )
        kind = ' class="words"' if self.words else ""
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(self.caption)}"><table{kind}>'
            f"<caption><span>{escape(self.caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def _inside(cell: str | Cell) -> str:
    return cell.html() if isinstance(cell, Cell) else escape(cell)
