"""What exists, as tables for the terminal: norms, tasks, experiments."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from rich.table import Table

from rnnnorm.compare.experiments import experiments, published, title


def norms() -> Table:
    """The preset table, also of installed packages, with what each norm costs per layer of H units and T steps."""
    from rnnnorm.compare.costs import catalogue
    from rnnnorm.norms.plugins import installed
    from rnnnorm.norms.presets import parse_norm

    broken = []
    for name in installed():
        try:
            parse_norm(name)
        except ValueError as error:
            broken.append((name, str(error)))
    table = _table("preset", "places", "parameters", "stored", "what", "source")
    for entry in catalogue():
        table.add_row(entry.name, entry.places, entry.parameters, entry.stored, entry.description, entry.source)
    for name, problem in broken:
        table.add_row(name, "", "", "", problem, "")
    return table


def tasks() -> Table:
    """The data modules, what is predicted, how it is measured and what they read."""
    import rnnnorm.data
    from rnnnorm.data import SequenceDataModule
    from rnnnorm.tasks import TASKS

    table = _table("--data", "task", "metric", "reads", "what")
    for name in rnnnorm.data.__all__:
        cls = getattr(rnnnorm.data, name)
        if not (inspect.isclass(cls) and issubclass(cls, SequenceDataModule) and hasattr(cls, "task")):
            continue
        task = cls.task
        table.add_row(name, task, TASKS[task].metric, cls.reads, _first_sentence(cls))
    return table


def list_experiments() -> Table:
    """The experiments that `-c` knows by name."""
    table = _table("-c", "what")
    for name, path in {**experiments(), **published()}.items():
        table.add_row(name, title(path))
    return table


LISTS: dict[str, Callable[[], Table]] = {"norms": norms, "tasks": tasks, "experiments": list_experiments}


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _first_sentence(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
