"""Atomic writing: a file is seen with its old content or its new one, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".part"
"""Ending of a file that is being written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path to write to; the file takes the place of `path` when the block ends, and is deleted if the block fails.

    It lies in the same folder, so that no other file system needs room for it. File and folder are flushed to the disk:
    after a power failure there is either the old file or the new one.

    Raises:
        OSError: it cannot be written, because the disk is full perhaps; the error names `path`.
    """
    unfinished = path.with_name(path.name + SUFFIX)
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield unfinished
            _flush(unfinished)
            unfinished.replace(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
    if os.name == "posix":  # elsewhere folders cannot be opened
        _flush(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Block whose OSErrors name a path: that of a write to a full disk has none, and TensorBoard's becomes another."""
    try:
        yield
    except Exception as error:
        found = error if isinstance(error, OSError) else disk_is_full(error)
        if found is None or found.errno is None or found.filename is not None:
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error


def disk_is_full(error: BaseException | None) -> OSError | None:
    """The error, or the one that caused it, which says that the disk or the user's part of it is full; None if none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file at once; see `replacing`."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a text in UTF-8 at once; see `replacing`."""
    write_bytes(path, content.encode("utf-8"))


def _flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
