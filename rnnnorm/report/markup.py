"""Small pieces of HTML."""

from __future__ import annotations

import re

from markupsafe import Markup, escape


def code(text: str) -> Markup:
    """Backticks to `<code>`."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
