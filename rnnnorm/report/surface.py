"""Surfaces that figures are put on: a page, as inline SVG, or files of their own, SVG and PDF."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib
from matplotlib.figure import Figure

from rnnnorm.common.atomic import replacing
from rnnnorm.report.canvas import LIGHT, THEMED, Theme, inline

FORMATS = ("svg", "pdf")

# Outlines instead of text in SVG: an image has no fonts of the page around it. TrueType in PDF: not all take Type 3.
_SETTINGS: Any = {"svg.fonttype": "path", "pdf.fonttype": 42}

_METADATA: Any = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
"""Metadata without dates: the same runs give the same bytes."""


class Surface:
    """A page: figures become `<svg>` elements in the colours of its theme.

    Attributes:
        theme: the colours in which figures have to be drawn.
    """

    theme: Theme = THEMED

    def put(self, figure: Figure, key: str, label: str, name: str = "") -> str:
        """Take a finished figure, within `canvas.settings()`.

        Args:
            figure: drawn in the surface's theme.
            key: unique in the page.
            label: the alternative text.
            name: of its file; the key if not given.

        Returns:
            The `<svg>` element; empty where there is no page.
        """
        return inline(figure, key, label)


PAGE = Surface()


class Files(Surface):
    """A folder: each figure becomes a file per format, on white.

    Args:
        folder: where they go.
        more: of `FORMATS`, beside SVG, which is always written. PDF, which takes several times as long, is also written
            where the folder has some already: they would be of other runs than the page.

    Attributes:
        written: the files, in the order in which they were written.

    Raises:
        ValueError: unknown format.
    """

    theme = LIGHT

    def __init__(self, folder: Path, more: Iterable[str] = ()) -> None:
        wanted = {*more, "svg", *(["pdf"] if any(folder.glob("*.pdf")) else [])}
        if unknown := sorted(wanted - {*FORMATS}):
            raise ValueError(f"figures as {', '.join(unknown)}: expected {' or '.join(FORMATS)}")
        self.folder, self.formats = folder, [kind for kind in FORMATS if kind in wanted]
        self.written: list[Path] = []

    def put(self, figure: Figure, key: str, label: str, name: str = "") -> str:
        """Write a finished figure to `<name>.<format>`; see `Surface.put`."""
        for kind in self.formats:
            self.written.append(self.folder / f"{name or key}.{kind}")
            with matplotlib.rc_context(_SETTINGS), replacing(self.written[-1]) as path:
                figure.savefig(path, format=kind, facecolor=self.theme.paper, metadata=_METADATA[kind])
        return ""


class LinkedPage(Surface):
    """A page beside a folder of files: each figure is followed by links to the files of its name.

    Args:
        files: what has been written, in a folder beside the page.
    """

    def __init__(self, files: Files) -> None:
        self._files: dict[str, list[Path]] = {}
        for path in files.written:
            self._files.setdefault(path.stem, []).append(path)

    def put(self, figure: Figure, key: str, label: str, name: str = "") -> str:
        """The `<svg>` element and its links; see `Surface.put`."""
        links = "".join(
            f'<a href="{quote(f"{path.parent.name}/{path.name}")}">{path.suffix[1:].upper()}</a>'
            for path in self._files.get(name or key, ())
        )
        return super().put(figure, key, label, name) + (f'<p class="files">{links}</p>' if links else "")
