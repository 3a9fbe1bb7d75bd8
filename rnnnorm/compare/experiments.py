"""Experiments by name: YAML files that come with the package, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from rnnnorm.common.suggestions import did_you_mean


def folder() -> Path:
    """Where the packaged experiments lie: inside an installed package, beside it in a checkout."""
    packaged = Path(str(resources.files("rnnnorm"))) / "experiments"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "experiments"


def experiments() -> Mapping[str, Path]:
    """Every packaged experiment, name → file, sorted by name."""
    return {path.stem: path for path in sorted(folder().glob("*.yaml"))}


def published() -> Mapping[str, Path]:
    """Reproductions of published results, `published/<row>` → file, sorted by name; `<row>-scaled` is a small one."""
    return {f"published/{path.stem}": path for path in sorted((folder() / "published").glob("*.yaml"))}


def title(path: Path) -> str:
    """What an experiment says of itself: its first line, a comment."""
    with path.open(encoding="utf-8") as lines:
        return lines.readline().removeprefix("#").strip()


def find_experiment(name: str) -> Path:
    """The file meant by `-c NAME`, `-c published/ROW`, `-c experiments/NAME.yaml` or `-c any/other.yaml`.

    A file that exists where the user says wins; then the packaged one of that name.

    Raises:
        ValueError: neither exists; the message lists the packaged experiments. Or the file is binary.
    """
    given = Path(name)
    if given.is_file():
        try:
            given.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"-c {name} is no text: expected a YAML file in UTF-8 ({error.reason})") from None
        return given
    known = {**experiments(), **published()}
    bare = given.with_suffix("") if given.suffix in (".yaml", ".yml") else given
    name_of = bare.relative_to("experiments") if bare.is_relative_to("experiments") else bare
    if name_of.as_posix() in known:
        return known[name_of.as_posix()]
    raise ValueError(
        f"there is no experiment or file {name!r}{did_you_mean(name_of.as_posix(), known)}; "
        f"experiments: {', '.join(experiments()) or 'none installed'}; published results: published/ROW"
    )
