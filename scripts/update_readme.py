#!/usr/bin/env python3
"""Write the preset table of README.md from the catalogue; with --check, only say whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rnnnorm.compare.costs import markdown

BEGIN, END = "<!-- presets -->", "<!-- /presets -->"
README = Path(__file__).parents[1] / "README.md"


def replaced(text: str) -> str:
    """The text with the present table between the two marks.

    Raises:
        ValueError: a mark is missing, or there twice.
    """
    for mark in (BEGIN, END):
        if text.count(mark) != 1:
            raise ValueError(f"expected {mark} once, found it {text.count(mark)} times")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the table is out of date")
    check = parser.parse_args().check
    old = README.read_text()
    new = replaced(old)
    if new == old:
        return 0
    if check:
        print(f"{README.name} is out of date: run {Path(__file__).name}", file=sys.stderr)
        return 1
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
