from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnnnorm.data import SequentialMNIST
from rnnnorm.data.digits import FILES, PIXELS, read_idx

REAL = os.environ.get("RNNNORM_DATA")


def write_idx(path: Path, values: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture(scope="module")
def images() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """20 images; pixel p of image n is (p + 10 n) mod 256."""
    return ((np.arange(PIXELS) + 10 * np.arange(20)[:, None]) % 256).astype(np.uint8).reshape(20, 28, 28)


@pytest.fixture(scope="module")
def data_dir(images: np.ndarray[Any, np.dtype[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The upstream layout, two files gzipped and two not: 20 training and 5 test images."""
    root = tmp_path_factory.mktemp("data")
    (root / "mnist").mkdir()
    labels = (np.arange(20) % 10).astype(np.uint8)
    for file, values, ending in zip(
        FILES, (images, labels, images[::-1][:5], labels[:5]), (".gz", "", "", ".gz"), strict=True
    ):
        write_idx(root / "mnist" / f"{file.name}{ending}", values)
    return str(root)


def mnist(data_dir: str, **keys: Any) -> SequentialMNIST:
    return SequentialMNIST(**({"num_val": 8, "data_dir": data_dir, "download": False} | keys))


def test_pixels_are_read_row_by_row(data_dir: str, images: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    data = mnist(data_dir)
    rows, label = data.examples("train")[3]
    assert rows.shape == (784, 1)
    assert torch.equal(rows[:, 0], torch.from_numpy(images[3].astype(np.float32)).flatten() / 255)
    assert label.item() == 3
    assert data.spec.num_features == 1
    assert data.spec.num_outputs == 10
    assert data.spec.max_length == 784


def test_validation_is_the_end_of_the_training_images(
    data_dir: str, images: np.ndarray[Any, np.dtype[np.uint8]]
) -> None:
    data = mnist(data_dir)
    assert [len(data.lengths(split)) for split in ("train", "val", "test")] == [12, 8, 5]
    assert [label.item() for _, label in data.examples("val")] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert data.examples("val")[0][0][0].item() == pytest.approx(images[12, 0, 0] / 255)
    assert data.examples("test")[0][0][0].item() == pytest.approx(images[19, 0, 0] / 255)


def test_subsets_are_the_first_images(data_dir: str) -> None:
    data = mnist(data_dir, num_train=3, num_test=2)
    assert [len(data.lengths(split)) for split in ("train", "val", "test")] == [3, 8, 2]
    whole = mnist(data_dir)
    assert torch.equal(data.examples("train")[2][0], whole.examples("train")[2][0])


def test_rows(data_dir: str, images: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    data = mnist(data_dir, step="row")
    rows, _ = data.examples("train")[1]
    assert torch.equal(rows, torch.from_numpy(images[1].astype(np.float32)) / 255)
    assert (data.spec.num_features, data.spec.max_length) == (28, 28)


@pytest.mark.parametrize("downsample", [2, 4, 7, 14, 28])
@pytest.mark.parametrize("step", ["pixel", "row"])
def test_downsampling_averages_squares(
    step: str, downsample: int, data_dir: str, images: np.ndarray[Any, np.dtype[np.uint8]]
) -> None:
    data = mnist(data_dir, downsample=downsample, step=step)
    side = 28 // downsample
    expected = images[2].reshape(side, downsample, side, downsample).mean(axis=(1, 3)) / 255
    rows, _ = data.examples("train")[2]
    assert rows.shape == ((side * side, 1) if step == "pixel" else (side, side))
    np.testing.assert_allclose(rows.flatten(), expected.flatten(), rtol=1e-5)
    assert data.spec.max_length == len(rows)
    assert data.spec.num_features == rows.shape[1]


@pytest.mark.parametrize("downsample", [1, 4])
def test_true_permutation_shows_every_pixel_once_and_the_same_way(downsample: int, data_dir: str) -> None:
    plain = mnist(data_dir, downsample=downsample)
    permuted = mnist(data_dir, downsample=downsample, permuted="true")
    order = torch.from_numpy(permuted.order)
    assert sorted(order.tolist()) == list(range((28 // downsample) ** 2))
    assert order.tolist() != sorted(order.tolist())
    for split in ("train", "test"):
        for (before, _), (after, _) in zip(plain.examples(split), permuted.examples(split), strict=True):
            assert torch.equal(after, before[order])


def test_true_permutation_is_a_matter_of_the_seed(data_dir: str) -> None:
    orders = [mnist(data_dir, permuted="true", seed=seed).order.tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_published_index_sees_501_of_784_pixels(data_dir: str) -> None:
    data = mnist(data_dir, permuted="published")
    order = data.order
    assert len(order) == 784
    assert len(set(order.tolist())) == 501
    assert order[:5].tolist() == [37, 235, 72, 767, 715]
    plain = mnist(data_dir).examples("train")[0][0]
    assert torch.equal(data.examples("train")[0][0], plain[torch.from_numpy(order)])


def test_permuted_rows_are_permuted_pixels_put_into_rows(data_dir: str) -> None:
    pixels = mnist(data_dir, permuted="true").examples("train")[0][0]
    assert torch.equal(mnist(data_dir, permuted="true", step="row").examples("train")[0][0], pixels.view(28, 28))


def test_batches(data_dir: str) -> None:
    batch = next(iter(mnist(data_dir, batch_size=4, downsample=7).train_dataloader()))
    assert batch.input.batch_sizes.tolist() == [4] * 16
    assert batch.input.data.shape == (64, 1)
    assert batch.target.dtype == torch.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PNG\r\n\x1a\n", "begins with 50 4e 47 0d"),
        (b"", "begins with nothing"),
        (b"\0\0\x07\x01\0\0\0\x01x", "begins with 00 00 07 01"),
        (b"\0\0\x08\x01\0\0\0\x03ab", "has 10 bytes, which is not 8 and 1 for each of \\[3\\]"),
        (b"\0\0\x08\x03\0\0\0\x03", "has 8 bytes"),
    ],
    ids=["no IDX", "empty", "unknown type", "too short", "half a header"],
)
def test_another_file_is_an_error(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_idx_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(b"\0\0\x0c\x02" + struct.pack(">5i", 1, 3, 7, -8, 70000))
    assert read_idx(path).tolist() == [[7, -8, 70000]]


def test_too_few_images_are_an_error(data_dir: str) -> None:
    with pytest.raises(ValueError, match="20 training images are not enough for num_val=15 and num_train=10"):
        mnist(data_dir, num_val=15, num_train=10).lengths("train")


def test_the_shape_is_known_without_the_files(tmp_path: Path) -> None:
    assert mnist(str(tmp_path)).spec.max_length == 784


@pytest.mark.skipif(REAL is None, reason="RNNNORM_DATA is not set")
def test_real_files() -> None:
    data = SequentialMNIST(step="row", download=False)
    assert [len(data.lengths(split)) for split in ("train", "val", "test")] == [50_000, 10_000, 10_000]
    assert [label.item() for _, label in data.examples("train")[:6]] == [5, 0, 4, 1, 9, 2]
    assert torch.stack([rows for rows, _ in data.examples("train")]).mean().item() == pytest.approx(0.1307, abs=1e-3)


@pytest.mark.parametrize("length", range(4, 16))
def test_half_a_header_is_named(length: int, tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes((bytes([0, 0, 8, 3]) + bytes(12))[:length])
    with pytest.raises(ValueError, match=rf"images has {length} bytes, which is not even the 16 of its header"):
        read_idx(path)


@pytest.mark.parametrize("number", range(4))
def test_images_and_labels_that_do_not_belong_together_are_named(
    number: int, data_dir: str, tmp_path: Path, images: np.ndarray[Any, np.dtype[np.uint8]]
) -> None:
    for path in (Path(data_dir) / "mnist").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name = FILES[number].name
    for path in tmp_path.glob(f"{name}*"):
        path.unlink()
    write_idx(tmp_path / name, images[:7] if number % 2 else images[:7, :, 0])
    with pytest.raises(ValueError, match=rf"{name} has values of shape \(7, 28"):
        mnist(str(tmp_path)).lengths("train")
