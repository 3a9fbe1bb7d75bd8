"""Files of a data set: where they lie, how they get there, and how they are read."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
from lightning.pytorch.utilities import rank_zero_info

VARIABLE = "RNNNORM_DATA"
TIMEOUT = 10.0  # seconds without an answer before a server counts as dead
LIMIT = 1 << 30
"""Bytes that a file may have once it is unpacked: 1 GiB, twenty times as many as the largest data set here has."""
LONGEST_LINE = 1_000_000
"""Characters that a line may have where it is a sentence, a word or a name."""

Unpack = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Remote:
    """A file of a data set and its public source.

    Args:
        name: the file as it lies in the data set's folder, without ".gz".
        url: where it is published.
        sha256: of its uncompressed bytes: the same file is gzipped differently by everyone.
        member: its path within the zip archive at `url`; "" if `url` is the file itself, gzipped or not.
        also: other names under which an existing file is accepted.
        size: uncompressed bytes; no more are unpacked. `LIMIT` where that is not known.
    """

    name: str
    url: str
    sha256: str
    member: str = ""
    also: tuple[str, ...] = ()
    size: int = LIMIT


def github(repository: str, commit: str, path: str) -> str:
    """The address of one file of a GitHub repository as it is at one commit."""
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def data_root(data_dir: str | None = None) -> Path:
    """The folder that holds data sets: `data_dir`, else $RNNNORM_DATA, else the user's cache folder."""
    chosen = data_dir or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("rnnnorm"))


def locate(files: Sequence[Remote], folder: str, data_dir: str | None = None, download: bool = True) -> list[Path]:
    """Find the files of a data set, or fetch them.

    A file is looked for in `<root>/<folder>/` and in `<root>/` itself (the data set's own folder given directly), with
    and without ".gz", where root is `data_root(data_dir)`. Files that exist are used as they are: a variant of one's
    own is welcome. Missing ones are downloaded into `<root>/<folder>/`, and checked.

    Args:
        files: what is needed.
        folder: name of the data set's folder.
        data_dir: see `data_root`.
        download: fetch missing files; otherwise they are an error.

    Returns:
        one path per file, in the same order; it may end in ".gz": read it with `read`.

    Raises:
        FileNotFoundError: a file does not exist and may not or could not be downloaded.
        ValueError: a downloaded file is not the one expected. It is not kept.
    """
    root = data_root(data_dir)
    paths = []
    for file in files:
        path = find(root, folder, (file.name, *file.also))
        if path is None:
            path = root / folder / file.name
            fetch(path, file.url, download, _unpacker(file))
        paths.append(path)
    return paths


def find(root: Path, folder: str, names: Sequence[str]) -> Path | None:
    """The first of the names that exists in `<root>/<folder>` or `<root>`, with or without ".gz"."""
    for place in (root / folder, root):
        for name in names:
            for path in (place / name, place / f"{name}.gz"):
                if path.exists():
                    return path
    return None


def fetch(path: Path, url: str, download: bool, unpack: Unpack) -> None:
    """Download to a temporary folder beside `path`, unpack, and move the result to `path`.

    Whoever sees `path` sees it complete: it appears by renaming, so processes that start together do no harm.

    Args:
        path: the file or folder wanted.
        url: where it is published.
        download: False only says that it is missing.
        unpack: turns what was downloaded (first argument) into what is wanted (second), and checks it.

    Raises:
        FileNotFoundError: it may not or could not be downloaded.
        ValueError: `unpack` found something else than expected.
    """
    missing = (
        f"no file {path} (nor {path.name} or {path.name}.gz in {path.parent.parent}). Get it from {url} and put it "
        f"there, or say where the data are by data_dir (--data-dir) or the environment variable {VARIABLE}"
    )
    if not download:
        raise FileNotFoundError(f"{missing}; or allow downloading by download=true.")
    rank_zero_info(f"Downloading {url} to {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as scratch:
            loaded, wanted = Path(scratch) / "loaded", Path(scratch) / "wanted"
            # Not pooch.retrieve: its checksum would be that of the gzip or zip around the file, which differs.
            pooch.HTTPDownloader(timeout=TIMEOUT)(url, str(loaded), None)
            if loaded.stat().st_size > LIMIT:
                raise ValueError(f"{url} has {loaded.stat().st_size:,} bytes: at most {LIMIT:,} were expected")
            unpack(loaded, wanted)
            if not path.exists():
                wanted.replace(path)
    except OSError as error:  # requests' errors are OSErrors too
        raise FileNotFoundError(f"{missing}. Downloading it failed: {error}") from error


def check(digest: str, expected: str, url: str) -> None:
    """Compare checksums.

    Raises:
        ValueError: they differ.
    """
    if digest != expected:
        raise ValueError(f"{url} is not the expected file: its sha256 is {digest}, {expected} was expected")


def read(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file, decompressed if they are gzipped.

    Args:
        path: the file.
        limit: how many bytes it may be decompressed to; None: `LIMIT`. A file that is not compressed may be larger.

    Raises:
        ValueError: a gzip file that is broken, or larger than `limit`.
    """
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            return file.read()
    limit = LIMIT if limit is None else limit
    try:
        with gzip.open(path) as packed:
            data = packed.read(limit + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a broken gzip file: {error}") from error
    if len(data) > limit:
        raise ValueError(f"{path} has more than {limit:,} bytes when it is decompressed")
    return data


def read_text(path: Path, longest: int | None = None) -> str:
    """The text of a file in UTF-8, decompressed if it is gzipped; a byte order mark is left out.

    Args:
        path: the file.
        longest: how many characters a line may have, such as `LONGEST_LINE`; None: any.

    Raises:
        ValueError: a gzip file that is broken, bytes that are no UTF-8, nothing but white space, or a line that is too
            long. The message names the file and the line.
    """
    data = read(path).removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} is no text in UTF-8: line {line}, {error.reason} {data[error.start]:#04x}") from error
    if not text.strip():
        raise ValueError(f"{path} is blank: a text was expected")
    if longest is not None and len(text) > longest:
        for line, content in enumerate(text.split("\n"), start=1):
            if len(content) > longest:
                raise ValueError(f"{path}, line {line}: {len(content):,} characters, at most {longest:,} were expected")
    return text


def _unpacker(file: Remote) -> Unpack:
    """For one file: decompress it, or take it from its archive, and compare its checksum."""

    def unpack(loaded: Path, wanted: Path) -> None:
        if file.member:
            try:
                with zipfile.ZipFile(loaded) as archive, archive.open(file.member) as member:
                    data = member.read(file.size + 1)
            except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
                raise ValueError(f"{file.url} is no zip archive with a member {file.member}: {error}") from error
        else:
            try:
                data = read(loaded, file.size)
            except ValueError as error:
                raise ValueError(f"{file.url} is broken: {error}") from error
        if len(data) > file.size:
            raise ValueError(f"{file.url} is not the expected file: it has more than {file.size:,} bytes")
        check(hashlib.sha256(data).hexdigest(), file.sha256, file.url)
        wanted.write_bytes(data)

    return unpack
