from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import torch

from rnnnorm.data import SpokenDigits, speech
from rnnnorm.data.speech import cepstrum, digest

REAL = os.environ.get("RNNNORM_DATA")
RATE = 8000


def tone(digit: int, index: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """A tone of 300 + 100 · digit Hz of 100 + 10 · index milliseconds, with a little noise."""
    time = np.arange(RATE * (100 + 10 * index) // 1000) / RATE
    noise = np.random.default_rng([digit, index]).normal(scale=100, size=len(time))
    return (8000 * np.sin(2 * np.pi * (300 + 100 * digit) * time) + noise).astype(np.int16)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The upstream layout: two speakers, ten digits, recordings 0, 4, 5, 9, 10 and 11."""
    folder = tmp_path_factory.mktemp("data") / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit in range(10):
        for speaker in ("anna", "bert"):
            for index in (0, 4, 5, 9, 10, 11):
                scipy.io.wavfile.write(folder / f"{digit}_{speaker}_{index}.wav", RATE, tone(digit, index))
    return str(folder.parent.parent)


def write(path: Path, samples: int) -> Path:
    scipy.io.wavfile.write(path, RATE, np.random.default_rng(0).integers(-999, 999, samples).astype(np.int16))
    return path


@pytest.mark.parametrize(("samples", "frames"), [(200, 1), (279, 1), (280, 2), (281, 2), (360, 3), (8000, 98), (50, 1)])
def test_a_frame_every_10_ms_of_full_windows_of_25_ms(samples: int, frames: int, tmp_path: Path) -> None:
    coefficients = cepstrum(write(tmp_path / "sound.wav", samples))
    assert coefficients.shape == (frames, 13)
    assert coefficients.dtype == np.float32
    assert np.isfinite(coefficients).all()


def test_samples_beyond_the_last_full_window_change_nothing(tmp_path: Path) -> None:
    short, long = cepstrum(write(tmp_path / "short.wav", 360)), cepstrum(write(tmp_path / "long.wav", 439))
    np.testing.assert_array_equal(short, long)


def test_silence_is_finite(tmp_path: Path) -> None:
    scipy.io.wavfile.write(tmp_path / "silence.wav", RATE, np.zeros(800, dtype=np.int16))
    assert np.isfinite(cepstrum(tmp_path / "silence.wav")).all()


def test_splits_go_by_the_number_of_the_recording(data_dir: str) -> None:
    data = SpokenDigits(data_dir=data_dir, download=False)
    assert [len(data.lengths(split)) for split in ("train", "val", "test")] == [40, 40, 40]
    # 100 + 10 · index milliseconds have 8 + index full windows
    assert set(data.lengths("test")) == {8, 12}
    assert set(data.lengths("val")) == {13, 17}
    assert set(data.lengths("train")) == {18, 19}
    assert data.spec.max_length == 19
    for split in ("train", "val", "test"):
        assert sorted(int(digit) for _, digit in data.examples(split)) == sorted(4 * list(range(10)))


def test_rows_are_standardized_by_the_training_frames(data_dir: str) -> None:
    data = SpokenDigits(data_dir=data_dir, download=False)
    raw = SpokenDigits(data_dir=data_dir, download=False, standardize=False)
    frames = torch.cat([rows for rows, _ in data.examples("train")])
    torch.testing.assert_close(frames.mean(0), torch.zeros(13), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.std(0, correction=0), torch.ones(13), atol=1e-4, rtol=0)
    unscaled = torch.cat([rows for rows, _ in raw.examples("train")])
    test = raw.examples("test")[0][0]
    torch.testing.assert_close(
        data.examples("test")[0][0], (test - unscaled.mean(0)) / unscaled.std(0, correction=0), atol=1e-3, rtol=1e-3
    )
    assert torch.equal(raw.examples("test")[0][0], torch.from_numpy(cepstrum(recordings(data_dir) / "0_anna_0.wav")))


def recordings(data_dir: str) -> Path:
    return Path(data_dir) / "fsdd" / "recordings"


def test_digits_differ_in_their_coefficients(data_dir: str) -> None:
    data = SpokenDigits(data_dir=data_dir, download=False)
    means: dict[int, list[torch.Tensor]] = {}
    for rows, digit in data.examples("train"):
        means.setdefault(int(digit), []).append(rows.mean(0))
    spread = max(torch.dist(same[0], same[1]).item() for same in means.values())
    assert torch.dist(means[1][0], means[8][0]).item() > 3 * spread


def archive(folder: Path, path: Path) -> None:
    """What GitHub packs: the repository's folder, with more than the recordings in it."""
    with tarfile.open(path, "w:gz") as packed:
        packed.add(folder, "free-spoken-digit-dataset-26eb9aa/recordings")
        other = tarfile.TarInfo("free-spoken-digit-dataset-26eb9aa/acquire_data/say.wav")
        other.size = 3
        packed.addfile(other, io.BytesIO(b"abc"))


def test_the_archive_is_downloaded_and_checked(data_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(self: object, url: str, output_file: str, pooch: None) -> None:
        assert url == speech.URL
        archive(recordings(data_dir), Path(output_file))

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", publish)
    data = SpokenDigits(data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=speech.RECORDINGS_SHA256):
        data.lengths("train")
    assert not recordings(str(tmp_path)).exists()
    monkeypatch.setattr(speech, "RECORDINGS_SHA256", digest(recordings(data_dir)))
    assert len(data.lengths("train")) == 40
    assert digest(recordings(str(tmp_path))) == digest(recordings(data_dir))


def test_a_broken_archive_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(self: object, url: str, output_file: str, pooch: None) -> None:
        Path(output_file).write_bytes(b"\x1f\x8b\x08 and then nothing")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", publish)
    with pytest.raises(ValueError, match="is broken"):
        SpokenDigits(data_dir=str(tmp_path)).lengths("train")


def hostile(path: Path, limit: str) -> None:
    """An archive with paths and links that lead elsewhere, and too much of something."""
    with tarfile.open(path, "w:gz") as packed:
        for name in ("/tmp/recordings/0_a_0.wav", "x/recordings/../recordings/0_a_1.wav", "../recordings/0_a_2.wav"):
            member = tarfile.TarInfo(name)
            member.size = 3
            packed.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("x/recordings/0_a_3.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
        if limit == "bytes":
            member = tarfile.TarInfo("x/other.bin")
            member.size = 2_000_000
            packed.addfile(member, io.BytesIO(bytes(member.size)))


@pytest.mark.parametrize("limit", ["nothing", "bytes", "recordings"])
def test_an_archive_is_unpacked_into_its_folder_and_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(speech, "LIMIT", 100_000)
    monkeypatch.setattr(speech, "MOST_RECORDINGS", 2 if limit == "recordings" else 3)
    hostile(tmp_path / "a.tar.gz", limit)
    message = {"nothing": "sha256 is", "bytes": "more than 100,000 bytes", "recordings": "more than 2 recordings"}
    (tmp_path / "place").mkdir()
    with pytest.raises(ValueError, match=message[limit]) as caught:
        speech._unpack(tmp_path / "a.tar.gz", tmp_path / "place" / "recordings")
    assert speech.URL in str(caught.value)
    found = sorted(path for path in tmp_path.rglob("*") if path.suffix == ".wav")
    assert all(path.parent == tmp_path / "place" / "recordings" and not path.is_symlink() for path in found)
    assert len(found) == (2 if limit == "recordings" else 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("zero_anna_0.wav", b"", r"is not named \{digit\}_\{speaker\}_\{index\}\.wav"),
        ("0_anna_0.wav", b"no sound", "cannot be read as a wav file"),
        ("0_anna_0.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(4), "cannot be read as a wav file"),
        (
            "0_anna_0.wav",
            b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0\xffata\4\0\0\0" + bytes(4),
            "cannot be read as a wav file",
        ),
    ],
    ids=["name", "content", "header-alone", "no-samples"],
)
def test_another_file_is_an_error(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        SpokenDigits(data_dir=str(tmp_path), download=False).lengths("train")


def test_two_channels_are_an_error(tmp_path: Path) -> None:
    scipy.io.wavfile.write(tmp_path / "stereo.wav", RATE, np.zeros((800, 2), dtype=np.int16))
    with pytest.raises(ValueError, match=r"samples of shape \(800, 2\): one channel"):
        cepstrum(tmp_path / "stereo.wav")


@pytest.mark.skipif(REAL is None, reason="RNNNORM_DATA is not set")
def test_real_files() -> None:
    data = SpokenDigits(download=False)
    official = data.lengths("train") + data.lengths("val")
    assert (len(official), sum(official), min(official), max(official)) == (2700, 112_911, 12, 226)
    assert (len(data.lengths("test")), max(data.lengths("test"))) == (300, 113)
    assert digest(speech.find(speech.data_root(), "fsdd", ("recordings",)) or Path()) == speech.RECORDINGS_SHA256
