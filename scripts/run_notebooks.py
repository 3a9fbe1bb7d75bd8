#!/usr/bin/env python3
"""Run the notebooks of docs/notebooks from top to bottom and keep what they print (extra "docs")."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with what was printed in several parts, which differ from run to run, as one."""
    made: list[NotebookNode] = []
    for one in outputs:
        if made and one.output_type == made[-1].output_type == "stream":
            made[-1].text += one.text
        else:
            made.append(one)
    return made


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
            cell.outputs = joined([one for one in cell.outputs if one.get("name") != "stderr"])
    if keep:
        notebook.metadata.language_info = {"name": "python"}
        nbformat.write(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of notebooks, without .ipynb; by default all")
    parser.add_argument("--check", action="store_true", help="run them, and write nothing")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    paths = [FOLDER / f"{name}.ipynb" for name in options.names] or sorted(FOLDER.glob("*.ipynb"))
    for path in paths:
        run(path, keep=not options.check)
        print(path.name)


if __name__ == "__main__":
    main()
