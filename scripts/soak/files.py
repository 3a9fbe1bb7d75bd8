"""Cases: files of data sets, damaged in one place."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soak.datasets import SETS, DataSet, build
from soak.draw import Draw
from soak.verdict import ACCEPTED, FAILED, KIND, REFUSED, SILENT, UNNAMED, Verdict, error_of, gist

Damage = Callable[[Draw, bytes], bytes]


def _cut(draw: Draw, content: bytes) -> tuple[int, int]:
    first = draw.integer(0, max(len(content) - 1, 0))
    return first, min(len(content), first + draw.pick((1, 2, 7, 50)))


def _without(draw: Draw, content: bytes) -> bytes:
    first, last = _cut(draw, content)
    return content[:first] + content[last:]


def _flipped(draw: Draw, content: bytes) -> bytes:
    first, last = _cut(draw, content)
    return content[:first] + bytes(byte ^ draw.integer(1, 255) for byte in content[first:last]) + content[last:]


def _flipped_early(draw: Draw, content: bytes) -> bytes:
    at = draw.integer(0, min(40, len(content) - 1))
    return content[:at] + bytes([draw.pick((0, 1, 9, 10, 127, 128, 255))]) + content[at + 1 :]


def _inserted(draw: Draw, content: bytes) -> bytes:
    first, _ = _cut(draw, content)
    what = draw.pick(
        (b"\xff\xfe", b"\x00", b"\t", b"\n\n", b":", b",", b"nan", b"\xe4", b"\r", b"\xe2\x80\xa8", b"9" * 400)
    )
    return content[:first] + what + content[first:]


def _number(draw: Draw, content: bytes) -> bytes:
    """Another value in place of one number of a text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return content[::-1]
    match = draw.pick(found)
    value = draw.pick(
        (b"nan", b"inf", b"-inf", b"1e999", b"", b"-1", b"0", b"99", b"1e30", b"x", b"1_0", b"\xd9\xa3", b"0x1", b" 7 ")
    )
    return content[: match.start()] + value + content[match.end() :]


def _line(draw: Draw, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = draw.integer(0, len(lines) - 1)
    lines[at] = draw.pick(
        (b"", b"#", b"\t" * 9, b"1\t\t\t\t\t\t\t\t\t", b":", b"@data", lines[at] * 2, b" ", b"\x1a", b"nan:1")
    )
    return b"\n".join(lines)


DAMAGES: dict[str, Damage] = {
    "left as it is": lambda draw, content: content,
    "truncated": lambda draw, content: content[: draw.integer(0, len(content))],
    "empty": lambda draw, content: b"",
    "a part cut out": _without,
    "bytes flipped": _flipped,
    "an early byte changed": _flipped_early,
    "something inserted": _inserted,
    "a number replaced": _number,
    "a line replaced": _line,
    "doubled": lambda draw, content: content * 2,
    "blank": lambda draw, content: b"\n \n\n",
    "zeros": lambda draw, content: bytes(len(content)),
    "text": lambda draw, content: b"this is no data\n" * 3,
    "utf-16": lambda draw, content: content.decode("latin-1").encode("utf-16"),
    "utf-8 with a mark": lambda draw, content: b"\xef\xbb\xbf" + content,
    "latin-1": lambda draw, content: content.decode("utf-8", "replace").encode("latin-1", "replace"),
    "line ends of DOS": lambda draw, content: content.replace(b"\n", b"\r\n"),
    "line ends of old Macs": lambda draw, content: content.replace(b"\n", b"\r"),
    "gzipped": lambda draw, content: gzip.compress(content),
    "half of a gzip file": lambda draw, content: gzip.compress(content)[: draw.integer(2, 60)],
    "a damaged gzip file": lambda draw, content: _flipped(draw, gzip.compress(content)),
    "infinite": lambda draw, content: re.sub(rb"\d+\.\d+", b"inf", content, count=draw.integer(1, 5)),
}
PLACES = ("missing", "a folder", "a link to itself")


@dataclass(frozen=True)
class DataCase:
    """A data set one of whose files is damaged."""

    data: DataSet
    path: str
    damage: str
    content: bytes | None

    @property
    def text(self) -> str:
        keys = ", ".join(f"{key}={value!r}" for key, value in self.data.keys.items())
        shown = "" if self.content is None or self.damage == "left as it is" else f": {self.content[:60]!r}…"
        return f"{self.data.module}({keys})  # {self.path} {self.damage}{shown}"

    def run(self, announce: Callable[[str], None], alone: str = "") -> Verdict:
        """Read everything, and look at what comes."""
        announce("rnnnorm")
        with tempfile.TemporaryDirectory() as folder:
            for path, content in self.data.files.items():
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                if path != self.path:
                    file.write_bytes(content)
                elif self.content is not None:
                    file.write_bytes(self.content)
                elif self.damage == "a folder":
                    file.mkdir()
                elif self.damage == "a link to itself":
                    file.symlink_to(file)
            try:
                found = _odd(build(self.data, folder))
            except Exception as error:
                return self._refused(error)
        if found:
            return Verdict(FAILED, SILENT, f"{self.data.module}: {gist(found)}", found)
        return Verdict(ACCEPTED)

    def _refused(self, exception: Exception) -> Verdict:
        error = error_of(exception)
        if not isinstance(exception, ValueError | OSError):
            return Verdict(FAILED, KIND, f"{error.kind} in {error.where}", str(error))
        *folders, name = Path(self.path).parts
        known = (*folders, name, self.data.module, *SPLITS)
        if not any(word in error.message for word in known):
            return Verdict(FAILED, UNNAMED, f"{error.kind} in {error.where}: {gist(error.message)}", str(error))
        return Verdict(REFUSED)


SPLITS = ("train", "val", "test")


def _odd(module: Any) -> str:
    """What is wrong with batches that were handed out; "" if nothing is."""
    spec = module.spec
    for split in SPLITS:
        for batch in module.loader(split, 4, shuffle=False):
            rows: Tensor = batch.input.data
            if rows.is_floating_point() and not rows.isfinite().all():
                return f"{split}: rows that are not finite"
            if rows.is_floating_point() and rows.dtype != torch.float32:
                return f"{split}: rows of {rows.dtype}"
            target = batch.target
            if target.is_floating_point() and not target.isfinite().all():
                return f"{split}: targets that are not finite"
            if spec.task == "multi-label" and not ((target == 0) | (target == 1)).all():
                return f"{split}: labels that are neither 0 nor 1"
            if not target.is_floating_point() and not ((target >= 0) & (target < spec.num_outputs)).all():
                return f"{split}: classes out of range"
            sizes = torch.tensor(spec.vocabularies)
            if len(sizes) and not ((rows >= 0) & (rows < sizes)).all():
                return f"{split}: tokens out of range"
    return ""


def files(draw: Draw) -> DataCase:
    """One data set, one file, one damage."""
    data = SETS[draw.pick(sorted(SETS))](draw)
    path = draw.pick(sorted(data.files))
    if draw.chance(0.08):
        return DataCase(data, path, draw.pick(PLACES), None)
    damage = draw.pick(list(DAMAGES))
    return DataCase(data, path, damage, DAMAGES[damage](draw, data.files[path]))
