"""Hook of the site's build: pages for files at the root of the repository, and links that lead to them.

CONTRIBUTING.md, CHANGELOG.md and SECURITY.md stay where a Git host looks for them, and are pages of the site, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}


def as_in_docs(text: str) -> str:
    """The text of a file at the root, with its links as they are from a page in docs."""
    for name, page in PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text.replace("](docs/", "](")


def to_root_files(text: str, depth: int) -> str:
    """The text of a page, with its links to files at the root leading to their pages."""
    up = "../" * depth
    for name, page in PAGES.items():
        text = text.replace(f"]({up}../{name}", f"]({up}{page}")
    return text


def with_lists(text: str) -> str:
    """A blank line before each list, which GitHub does not need and Python-Markdown does."""
    lines: list[str] = []
    fenced = False
    for line in text.split("\n"):
        fenced ^= line.lstrip().startswith("```")
        before = lines[-1] if lines else ""
        begins = re.match(r"([-*]|\d+\.) ", line) and not re.match(r"\s*([-*]|\d+\.) |\s", before)
        if begins and before and not fenced:
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the files at the root."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=as_in_docs((ROOT / name).read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files at the root lead to their pages."""
    return with_lists(to_root_files(markdown, page.file.src_uri.count("/")))
