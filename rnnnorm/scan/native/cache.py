"""Cache of compiled code; no file that another user could have written is run.

The name of a file ends in the SHA-256 of its bytes, so that one that was damaged is known before it is loaded.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnavailableError(RuntimeError):
    """The scan cannot be compiled or loaded here."""


def cache_folder() -> Path:
    """Folder of compiled scans: `RNNNORM_CACHE`, or one in the user's cache."""
    chosen = os.environ.get("RNNNORM_CACHE")
    if chosen:
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise UnavailableError(f"there is no place to keep it ({error}); name one by RNNNORM_CACHE") from error
    return Path(base) / "rnnnorm"


def private_folder(folder: Path) -> Path:
    """The folder, made if it is not there, with all links resolved.

    Raises:
        UnavailableError: it cannot be made, belongs to somebody else, or others may put something into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve(strict=True)
        status = folder.stat()
        if hasattr(os, "geteuid"):  # Windows has other means
            if status.st_uid != os.geteuid():
                raise UnavailableError(
                    f"the cache folder {folder} belongs to user {status.st_uid} and not to you: "
                    f"name one of your own by RNNNORM_CACHE"
                )
            if status.st_mode & _OTHERS_WRITE and not os.environ.get("RNNNORM_CACHE"):
                folder.chmod(0o700)  # our own folder, of an earlier version; what others put there is not loaded
            elif status.st_mode & _OTHERS_WRITE:
                raise UnavailableError(
                    f"others may write to the cache folder {folder}: `chmod 700 {folder}`, "
                    f"or name another one by RNNNORM_CACHE"
                )
            for parent in folder.parents:
                mode = parent.stat().st_mode
                if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                    raise UnavailableError(
                        f"anybody may replace the cache folder {folder}, since anybody may write to {parent}: "
                        f"name another one by RNNNORM_CACHE"
                    )
    except OSError as error:
        raise UnavailableError(f"cannot write to the cache folder {folder}: {error.strerror}") from error
    return folder


def is_whole(path: Path) -> bool:
    """Whether a file is ours and has the bytes that its name says; one that has not is removed."""
    try:
        status = path.lstat()
        ours = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
        if not ours or not stat.S_ISREG(status.st_mode) or status.st_mode & _OTHERS_WRITE:
            return False
        if path.stem.endswith("-" + digest(path)):
            return True
        path.unlink()
    except OSError:  # it cannot be read, or somebody else has just removed it
        pass
    return False


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def keep(file: Path, folder: Path, prefix: str) -> Path:
    """Path of a file after it has been moved atomically into the folder, under its prefix and digest.

    Raises:
        OSError: it cannot be written.
    """
    file.chmod(0o700)
    _sync(file)
    path = file.replace(folder / f"{prefix}{digest(file)}{file.suffix}")
    _sync(folder)
    return path


def _sync(path: Path) -> None:
    """Let what was written outlive a crash of the machine, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
