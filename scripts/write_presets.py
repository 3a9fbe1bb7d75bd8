#!/usr/bin/env python3
"""Preset tables of docs/concepts.md (core) and docs/presets.md (all); with --check, only say if they are up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rnnnorm.compare.costs import markdown
from rnnnorm.norms.presets import CORE, presets

BEGIN, END = "<!-- presets -->", "<!-- /presets -->"
ROOT = Path(__file__).parents[1]
PAGES = {ROOT / "docs" / "concepts.md": CORE, ROOT / "docs" / "presets.md": tuple(presets())}


def replaced(text: str, names: Sequence[str]) -> str:
    """The text with the present table of these presets between the two marks.

    Raises:
        ValueError: a mark is missing, or there twice.
    """
    for mark in (BEGIN, END):
        if text.count(mark) != 1:
            raise ValueError(f"expected {mark} once, found it {text.count(mark)} times")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{markdown(names)}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is out of date")
    check = parser.parse_args().check
    outdated = 0
    for page, names in PAGES.items():
        old = page.read_text(encoding="utf-8")
        new = replaced(old, names)
        if new != old and check:
            print(f"{page.relative_to(ROOT)} is out of date: run scripts/{Path(__file__).name}", file=sys.stderr)
            outdated = 1
        elif new != old:
            page.write_text(new, encoding="utf-8")
    return outdated


if __name__ == "__main__":
    sys.exit(main())
