"""Tables in LaTeX, for the package booktabs."""

from __future__ import annotations

import re

from rnnnorm.report.grid import Grid

_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after \\, the end of a row, a bracket or an asterisk would be an argument
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "½": r"$\frac12$",
    "∞": r"$\infty$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "⁺": "$^{+}$",
    "⁻": "$^{-}$",
    "…": r"\ldots{}",
    "\n": " ",
}


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped, and mathematical ones as formulas."""
    return "".join(_CHARACTERS.get(character, character) for character in re.sub("-(?=-)", "-\0", text)).replace(
        "\0", "{}"
    )


def booktabs(grid: Grid) -> str:
    """A `tabular` environment with the rules of booktabs, to be read by `\\input`; the notes are comments before it.

    A field with parentheses in the head of a column is set on two lines.
    """
    head = [latex(title) for title in grid.head]
    upper, lower = zip(*(title.partition(" (")[::2] for title in head), strict=True)
    lines = [f"% {' '.join(note.split())}" for note in ("needs the package booktabs", *grid.notes)]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", _row(upper)]
    if any(lower):
        lines.append(_row(["(" + text if text else "" for text in lower]))
    lines.append(r"\midrule")
    for i, row in enumerate(grid.rows):
        fields = [rf"\textbf{{{latex(text)}}}" if (i, j) in grid.strong else latex(text) for j, text in enumerate(row)]
        lines.append(_row(fields))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(fields: list[str] | tuple[str, ...]) -> str:
    return " & ".join(fields) + r" \\"
