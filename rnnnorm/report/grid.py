"""Tables as text, independent of the format they are written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnnnorm.report.markdown import markdown_table


@dataclass(frozen=True)
class Grid:
    """One table.

    Args:
        head: titles of the columns; the first one is that of the norms.
        rows: fields of each row.
        strong: (row, column) of the fields in bold.
        notes: what must be known to read it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[tuple[int, int]] = frozenset()
    notes: Sequence[str] = ()

    def markdown(self) -> list[str]:
        """Lines of Markdown: the table and its notes."""
        rows = [
            [f"**{text}**" if (i, j) in self.strong else text for j, text in enumerate(row)]
            for i, row in enumerate(self.rows)
        ]
        return [*markdown_table(list(self.head), rows), "", *(f"- {note}" for note in self.notes), ""]
