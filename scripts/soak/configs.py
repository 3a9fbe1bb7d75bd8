"""Cases: configurations of `rnnnorm compare`, from a sound file to garbage, up to the first run."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from rnnnorm import cli
from rnnnorm.compare import runner
from soak.config_values import FLAGS, KEYS, SOUND, TEXTS, VALUES
from soak.draw import Draw
from soak.verdict import ACCEPTED, FAILED, KIND, REFUSED, SILENT, UNNAMED, Verdict, error_of, gist

MOST_LINES = 15
"""Of an error, with the usage that stands before it."""


class _Stopped(BaseException):
    """A comparison that is about to train."""


def _stop(*_: Any, **__: Any) -> None:
    raise _Stopped


@dataclass(frozen=True)
class ConfigCase:
    """A configuration, and what stands beside it on the command line."""

    content: bytes
    flags: tuple[str, ...]

    @property
    def text(self) -> str:
        shown = repr(self.content.decode("utf-8", "backslashreplace"))
        return f"rnnnorm compare -c FILE {' '.join(map(repr, self.flags))}  # FILE holds {shown[:1500]}"

    def run(self, announce: Callable[[str], None], alone: str = "") -> Verdict:
        """Everything that happens before the first run trains."""
        announce("rnnnorm")
        errors, code = io.StringIO(), 0
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            Path("mine.yaml").write_bytes(self.content)
            args = ["compare", "-c", "mine.yaml", "--out", "runs", *self.flags]
            try:
                with (
                    mock.patch.object(runner, "run", _stop),
                    contextlib.redirect_stderr(errors),
                    contextlib.redirect_stdout(io.StringIO()),
                    warnings.catch_warnings(),
                ):
                    code = cli.main(args)
            except _Stopped:
                return Verdict(ACCEPTED)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except Exception as exception:
                error = error_of(exception)
                return Verdict(FAILED, KIND, f"{error.kind} in {error.where}", str(error))
        return self._ended(code, errors.getvalue())

    def _ended(self, code: int, said: str) -> Verdict:
        lines = [line for line in said.splitlines() if line.strip()]
        last = next((line for line in lines if "error:" in line), "")
        if code != 2:
            return Verdict(FAILED, SILENT if code == 0 else KIND, f"exit code {code}: {gist(last)}", said[:400])
        if "Traceback" in said or not last or len(lines) > MOST_LINES:
            return Verdict(FAILED, UNNAMED, f"{len(lines)} lines: {gist(last)}", said[:600])
        return Verdict(REFUSED)


def configs(draw: Draw) -> ConfigCase:
    """A sound configuration with a change or two, or something else altogether, and a flag now and then."""
    flags = tuple(draw.sample(FLAGS, draw.pick((0, 0, 0, 1, 2))))
    roll = draw.integer(0, 9)
    if roll == 0:
        return ConfigCase(draw.pick(TEXTS).encode(), flags)
    lines = SOUND.splitlines()
    for _ in range(draw.pick((0, 1, 1, 2)) if flags else draw.pick((1, 1, 2))):
        at = draw.integer(0, len(lines) - 1)
        key, _, value = lines[at].partition(":")
        indent = key[: len(key) - len(key.lstrip())]
        lines[at] = draw.pick(
            (
                f"{key}: {draw.pick(VALUES)}",
                f"{key}: {draw.pick(VALUES)}",
                f"{key}: {draw.pick(VALUES)}",
                f"{indent}{draw.pick(KEYS)}:{value}",
                f"{lines[at]}\n{indent}{draw.pick(KEYS)}: {draw.pick(VALUES)}",
                "",
                f" {lines[at]}",
                f"{lines[at]}\n{lines[at]}",
            )
        )
    content = "\n".join(lines).encode()
    if roll == 1:
        first = draw.integer(0, len(content) - 1)
        content = (
            content[:first]
            + draw.pick((b"", b"\x00", b"\xff", b"\t", b"{", b"'", b"\xe2\x80\xa8", b"\r"))
            + content[first + draw.integer(0, 2) :]
        )
    return ConfigCase(content, flags)
