"""The source that runs: the commit of its checkout, or the version that is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .._version import __version__

ROOT = Path(__file__).parents[2]


def source() -> str:
    """The commit of the source that runs, or `version 0.1.0` where it is no git checkout."""
    return commit() or f"version {__version__}"


def commit(root: Path = ROOT) -> str | None:
    """The commit of the source that runs, with ` + changes` where package, experiments or protocol differ from it.

    Args:
        root: of the source; None is returned where it is no git checkout.
    """
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    parts = ["rnnnorm", "experiments", "docs/protocol.md"]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--", *parts]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head} + changes" if changed else head
