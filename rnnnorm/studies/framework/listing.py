"""The studies, as a table for the terminal."""

from __future__ import annotations

from rich.table import Table


def list_studies() -> Table:
    """Names, questions and how many claims each judges."""
    from rnnnorm.studies import STUDIES

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "question", "claims"):
        table.add_column(column, overflow="fold")
    for study in STUDIES.values():
        table.add_row(study.name, study.question, str(len(study.claims)))
    return table
