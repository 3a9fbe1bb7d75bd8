"""Hook of the site's build: pages for notebooks and for files at the root of the repository.

CONTRIBUTING.md, CHANGELOG.md and SECURITY.md stay where a Git host looks for them, and are pages of the site, too.
Links lead to these pages.
"""

from __future__ import annotations

import base64
import json
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


def of_notebook(text: str, stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, its prose, its code, and what the code has printed, and its figures by name.

    A figure is described by the comment with which its cell begins.
    """
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join("".join(output.get("text", "")) for output in cell["outputs"]).rstrip()
        if printed:
            parts.append(f"```text\n{printed}\n```")
        for output in cell["outputs"]:
            if png := output.get("data", {}).get("image/png"):
                name = f"{stem}-{len(figures) + 1}.png"
                figures[name] = base64.b64decode("".join(png))
                parts.append(f"![{source.splitlines()[0].removeprefix('# ')}]({name})")
    return "\n\n".join(parts) + "\n", figures


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the notebooks and of the files at the root."""
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page, figures = of_notebook(path.read_text(encoding="utf-8"), path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
        for name, figure in figures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=figure))
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=as_in_docs((ROOT / name).read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to notebooks and to files at the root lead to their pages."""
    return with_lists(to_root_files(markdown.replace(".ipynb)", ".md)"), page.file.src_uri.count("/")))
