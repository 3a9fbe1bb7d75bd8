"""File names of treebanks of Universal Dependencies."""

from __future__ import annotations

from pathlib import Path, PurePath

from rnnnorm.data.files import Remote, data_root, find, github, locate

EWT = "en_ewt-ud"
_EWT_FOLDER = "ud_english_ewt"
_SPLITS = {"train": "train", "val": "dev", "test": "test"}  # ours → Universal Dependencies'
_EWT_SHA256 = {
    "train": "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
    "dev": "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
    "test": "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
}


def _ewt(split: str, sha256: str) -> Remote:
    """English EWT as in release 2.16."""
    name = f"{EWT}-{split}.conllu"
    return Remote(
        name, github("UniversalDependencies/UD_English-EWT", "15d613d8447b3478787d4c278730a1e48a945efb", name), sha256
    )


def find_treebank(treebank: str, data_dir: str | None = None, download: bool = True) -> dict[str, Path]:
    """The files of a treebank, by split.

    Args:
        treebank: "en_ewt-ud", or folder and prefix of any other, such as "UD_German-GSD/de_gsd-ud".
        data_dir: see `rnnnorm.data.files.data_root`.
        download: fetch English EWT where it is missing.

    Raises:
        FileNotFoundError: a file does not exist; it says which treebanks do.
        ValueError: a downloaded file is not the one expected.
    """
    if treebank == EWT:
        paths = locate([_ewt(split, sha256) for split, sha256 in _EWT_SHA256.items()], _EWT_FOLDER, data_dir, download)
        return dict(zip(_SPLITS, paths, strict=True))
    place = data_root(data_dir) / PurePath(treebank).parent
    found: dict[str, Path] = {}
    for split, name in _SPLITS.items():
        file = f"{PurePath(treebank).name}-{name}.conllu"
        path = find(place, "", [file])
        if path is None:
            raise FileNotFoundError(f"no file {place / file} (or .gz). {_existing(data_root(data_dir))}")
        found[split] = path
    return found


def _existing(root: Path) -> str:
    """Which treebanks lie in a folder or in the folders in it."""
    files = [*root.glob("*-train.conllu*"), *root.glob("*/*-train.conllu*")]
    names = sorted({str(file.relative_to(root)).partition("-train.conllu")[0] for file in files})
    return f"Treebanks in {root}: {', '.join(names) or 'none'}"
