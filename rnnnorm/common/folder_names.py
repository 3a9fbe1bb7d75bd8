"""Folder names: those of norms, which are texts with characters that not every file system takes."""

from __future__ import annotations

from urllib.parse import quote, unquote


def norm_folder(norm: str) -> str:
    """A norm's name as a folder's name: ":" becomes ",", whatever else is not safe in one becomes %XX."""
    name = quote(norm, safe="=+:").replace("~", "%7E").replace(":", ",")
    return "%2E" + name[1:] if name.startswith(".") else name


def norm_of_folder(folder: str) -> str:
    """The norm whose folder has that name."""
    return unquote(folder.replace(",", ":"))
