"""Corpora for language modelling: sources and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rnnnorm.data.corpus import Level
from rnnnorm.data.files import Remote, data_root, find, github, locate, read_text

FOLDER = "folder"  # the `dataset` that is a text of one's own
FILES = ("{}.txt", "ptb.{}.txt", "ptb.char.{}.txt", "wiki.{}.tokens")
SPLITS = {"train": "train", "val": "valid", "test": "test"}  # ours → as it is called in the names of files


@dataclass(frozen=True)
class Corpus:
    """A published text.

    Args:
        folder: the folder it lies in.
        files: one file per split, or a single one.
        level: what it is usually modelled in.
        separator: what stands between its sentences.
        parts: of a single file, the percentage of characters after which each split ends.
    """

    folder: str
    files: Sequence[Remote]
    level: Level
    separator: str
    parts: Sequence[int] = ()

    def read(self, data_dir: str | None = None, download: bool = True, longest: int | None = None) -> dict[str, str]:
        """The text of each split; see `locate` and `read_text` of `rnnnorm.data.files` for the arguments and errors."""
        texts = [_text(path, longest) for path in locate(self.files, self.folder, data_dir, download)]
        if self.parts:
            ends = [len(texts[0]) * percent // 100 for percent in self.parts]
            texts = [texts[0][start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return dict(zip(SPLITS, texts, strict=True))


def read_folder(folder: str, data_dir: str | None = None, longest: int | None = None) -> dict[str, str]:
    """The text of each split of a folder with files named as one of `FILES`.

    Args:
        folder: relative to `data_root(data_dir)` if it is not absolute.
        data_dir: see `rnnnorm.data.files.data_root`.
        longest: see `rnnnorm.data.files.read_text`.

    Raises:
        FileNotFoundError: a split has no file; it says which names were looked for.
        ValueError: a file is no text; it names the file and the line.
    """
    place = data_root(data_dir) / Path(folder).expanduser()
    texts = {}
    for split, word in SPLITS.items():
        names = [name.format(word) for name in FILES]
        path = find(place, "", names)
        if path is None:
            raise FileNotFoundError(f"no text of the {split} split in {place}: none of {', '.join(names)} (or .gz)")
        texts[split] = _text(path, longest)
    return texts


def _text(path: Path, longest: int | None) -> str:
    return read_text(path, longest).replace("\r\n", "\n")


def _wikitext2(split: str, sha256: str) -> Remote:
    # From a commit's own address, which cannot change; torchtext's address has no checksum.
    path = f"word_language_model/data/wikitext-2/{split}.txt"
    url = github("pytorch/examples", "77f55b912142e11fcfdf5b530231fb9c52f181e8", path)
    return Remote(f"{split}.txt", url, sha256, also=(f"wiki.{split}.tokens",))


CORPORA: Mapping[str, Corpus] = MappingProxyType(
    {
        "wikitext2": Corpus(
            folder="wikitext2",
            files=(
                _wikitext2("train", "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"),
                _wikitext2("valid", "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
                _wikitext2("test", "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
            ),
            level="word",
            separator="\n",
        ),
        "tinyshakespeare": Corpus(
            folder="tinyshakespeare",
            files=(
                Remote(
                    "input.txt",
                    github(
                        "karpathy/char-rnn",
                        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e",
                        "data/tinyshakespeare/input.txt",
                    ),
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                ),
            ),
            level="char",
            separator="\n\n",
            parts=(90, 95, 100),
        ),
    }
)
"""Name → text."""
