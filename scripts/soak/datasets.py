"""Small sound data sets on disk, one per format that the data modules read."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import scipy.io.wavfile

import rnnnorm.data
from rnnnorm.data.module import FileDataModule
from rnnnorm.data.text import Names
from soak.draw import Draw

Files = dict[str, bytes]


class DataSet(NamedTuple):
    """Files by their path in the folder, and what reads them.

    Args:
        module: the name of a class in `rnnnorm.data`.
        keys: of its constructor.
        files: what it reads.
    """

    module: str
    keys: dict[str, Any]
    files: Files


@cache
def _vowels() -> Files:
    numbers = np.random.default_rng(0)
    lines = ["# comment", "@problemName JapaneseVowels", "@data"]
    for speaker in [*range(1, 10)] * 7:
        rows = numbers.normal(size=(12, numbers.integers(2, 5))).round(3)
        lines.append(":".join([*(",".join(map(str, channel)) for channel in rows), str(speaker)]))
    text = "\n".join(lines).encode()
    return {f"japanese_vowels/JapaneseVowels_{part}.ts": text for part in ("TRAIN", "TEST")}


@cache
def _music(kind: str) -> Files:
    numbers = np.random.default_rng(1)
    buffer, arrays = io.BytesIO(), {}
    for split in ("train", "valid", "test"):
        rolls = [(numbers.random((length, 88)) < 0.1).astype(np.uint8) for length in (3, 5, 4)]
        if kind == "mat":
            cell = np.empty((1, len(rolls)), dtype=object)
            cell[0] = rolls
            arrays[f"{split}data"] = cell
        else:
            arrays |= {
                f"{split}.packed": np.packbits(np.concatenate(rolls), axis=1),
                f"{split}.lengths": np.array([3, 5, 4]),
            }
    if kind == "mat":
        scipy.io.savemat(buffer, arrays)
        return {"polymusic/JSB_Chorales.mat": buffer.getvalue()}
    np.savez(buffer, **arrays)
    return {"polymusic/jsb_chorales.npz": buffer.getvalue()}


@cache
def _digits() -> Files:
    numbers = np.random.default_rng(2)
    files = {}
    for part, count in (("train", 6), ("t10k", 3)):
        images = numbers.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        files[f"mnist/{part}-images-idx3-ubyte"] = struct.pack(">BBBBIII", 0, 0, 8, 3, *images.shape) + images.tobytes()
        labels = numbers.integers(0, 10, count, dtype=np.uint8)
        files[f"mnist/{part}-labels-idx1-ubyte"] = struct.pack(">BBBBI", 0, 0, 8, 1, count) + labels.tobytes()
    return files


@cache
def _speech() -> Files:
    numbers, files = np.random.default_rng(3), {}
    for index in (0, 1, 5, 6, 10, 11):
        buffer = io.BytesIO()
        scipy.io.wavfile.write(buffer, 8000, numbers.integers(-999, 999, 600 + 50 * index, dtype=np.int16))
        files[f"fsdd/recordings/{index % 10}_jo_{index}.wav"] = buffer.getvalue()
    return files


@cache
def _treebank() -> Files:
    words = ["The", "dog", "saw", "a", "Café", "in", "1999", ",", "didn't", "it", "?", "Yes"]
    tags = ["DET", "NOUN", "VERB", "DET", "PROPN", "ADP", "NUM", "PUNCT", "AUX", "PRON", "PUNCT", "INTJ"]
    lines = []
    for length in (3, 12, 1, 7):
        lines += [f"# sent_id = {length}", "1-2\tx\t_\t_\t_\t_\t_\t_\t_\t_"]
        lines += [
            f"{i + 1}\t{word}\t{word}\t{tag}\t{tag[:2]}\t_\t0\troot\t_\t_"
            for i, (word, tag) in enumerate(zip(words[:length], tags, strict=False))
        ]
        lines.append("")
    text = "\n".join(lines).encode()
    return {f"mini/xx_mini-ud-{split}.conllu": text for split in ("train", "dev", "test")}


@cache
def _names() -> Files:
    return {f"names/{language}.txt": f"{language}\nÁbc\nO'Neil \n".encode() for language in Names.class_names}


@cache
def _text() -> Files:
    text = "the cat sat on the mat\n\nA dog , too .\n<unk> = \n" * 4
    return {f"own/{split}.txt": text.encode() for split in ("train", "valid", "test")}


@cache
def _own(kind: str) -> Files:
    words = ["fly", "rain", "to", "in", "Oslo", "Rome", ",", "café"]
    texts = [" ".join(words[k % (1 + j) :][: 1 + j]) for k in range(4) for j in range(4)]
    content = {
        "csv": "text,label\n" + "".join(f'"{text}",{"ab"[k % 2]}\n' for k, text in enumerate(texts)),
        "conll": "".join(f"# {k}\n" + "".join(f"{w}\tO\n" for w in t.split()) + "\n" for k, t in enumerate(texts)),
        "txt": "".join(f"{text}\n" for text in texts),
        "ts": "@dimensions 2\n@classLabel true a b\n@data\n"
        + "".join(f"{k}.5,1.25,?:0.5,2,3:{'ab'[k % 2]}\n" for k in range(12)),
    }
    return {f"own.{kind}": content[kind].encode()}


OWN = {"csv": "LabelledText", "conll": "TaggedText", "txt": "PlainText", "ts": "TimeSeries"}


def _own_files(draw: Draw) -> DataSet:
    kind = draw.pick(sorted(OWN))
    keys: dict[str, Any] = {"train": f"own.{kind}", "val_share": 0.2, "test_share": 0.2}
    if kind == "ts":
        keys |= {"missing": draw.pick(("zero", "last")), "standardize": draw.chance(0.5)}
    if kind == "txt":
        keys |= {"level": draw.pick(("word", "char")), "mode": draw.pick(("sentences", "stream")), "batch_size": 2}
    return DataSet(OWN[kind], keys, _own(kind))


SETS: dict[str, Callable[[Draw], DataSet]] = {
    "vowels": lambda draw: DataSet("JapaneseVowels", {}, _vowels()),
    "music": lambda draw: DataSet("PolyphonicMusic", {}, _music(draw.pick(("mat", "npz")))),
    "digits": lambda draw: DataSet(
        "SequentialMNIST",
        {"num_val": 2, "step": draw.pick(("row", "pixel")), "downsample": draw.pick((1, 14))},
        _digits(),
    ),
    "speech": lambda draw: DataSet("SpokenDigits", {"standardize": draw.chance(0.5)}, _speech()),
    "treebank": lambda draw: DataSet(
        "PartOfSpeech", {"treebank": "mini/xx_mini-ud", "tags": draw.pick(("upos", "xpos"))}, _treebank()
    ),
    "names": lambda draw: DataSet("Names", {}, _names()),
    "own": _own_files,
    "text": lambda draw: DataSet(
        "LanguageModel",
        {
            "dataset": "folder",
            "folder": "own",
            "level": draw.pick(("word", "char")),
            "mode": draw.pick(("sentences", "stream")),
            "batch_size": 2,
            "bptt": 3,
        },
        _text(),
    ),
}


def build(data: DataSet, folder: str) -> Any:
    """The data module that reads a folder."""
    cls = getattr(rnnnorm.data, data.module)
    download = {"download": False} if issubclass(cls, FileDataModule) else {}
    return cls(data_dir=folder, **download, **data.keys)
