"""HTML: the environment in which the templates of a page are rendered."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape


def environment(*folders: Path) -> Environment:
    """Jinja environment with automatic escaping, the filter `code`, and the layout and style sheet of all pages.

    Args:
        folders: where further templates are; they may extend `layout.html.j2`.
    """
    found = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["code"] = code
    return found


def code(text: str) -> Markup:
    """Escaped text in which backticks become `<code>`."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def two_lines(value: object) -> Markup:
    """Escaped text with what stands in parentheses on a line of its own, as `0.84 (0.76 to 1.00)` in a table."""
    text = str(escape(str(value)))
    before, opened, rest = text.partition(" (")
    return Markup(f'{before}<br><span class="same">({rest}</span>' if opened else text)
