#!/usr/bin/env python3
"""Run the notebooks of docs/notebooks from top to bottom and keep what they print (extra "docs")."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def run(path: Path, keep: bool) -> None:
    """Execute a notebook in an empty folder; an error in a cell is an error here.

    Args:
        path: the notebook.
        keep: write it back with its outputs.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ from run to run
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    if keep:
        notebook.metadata.language_info = {"name": "python"}
        nbformat.write(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run them, and write nothing")
    check = parser.parse_args().check
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for path in sorted(FOLDER.glob("*.ipynb")):
        run(path, keep=not check)
        print(path.name)


if __name__ == "__main__":
    main()
