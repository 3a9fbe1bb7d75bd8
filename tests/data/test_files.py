from __future__ import annotations

import codecs
import functools
import gzip
import hashlib
import http.server
import io
import socket
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rnnnorm.data import LanguageModel, Names, PartOfSpeech, files
from rnnnorm.data.files import LONGEST_LINE, Remote, data_root, github, locate, read, read_text

CONTENT = b"one line\nand another\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_data_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setattr(files.pooch, "os_cache", lambda project: tmp_path / "cache" / project)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which a local server shows it."""
    folder = tmp_path_factory.mktemp("served")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def remote(url: str = "http://127.0.0.1:9/nobody/here", **keys: str) -> Remote:
    return Remote(**({"name": "data.txt", "url": url, "sha256": SHA256} | keys))  # type: ignore[arg-type]


def zipped(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["data.txt", "data.txt.gz", "other.txt", "other.txt.gz"])
@pytest.mark.parametrize("place", ["set", "."], ids=["below data_dir", "data_dir itself"])
def test_a_file_that_exists_is_used_as_it_is(place: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / place / name
    path.parent.mkdir(exist_ok=True)
    own = b"not what the checksum says"
    path.write_bytes(gzip.compress(own) if name.endswith(".gz") else own)
    file = Remote("data.txt", "http://127.0.0.1:9/", SHA256, also=("other.txt",))
    (found,) = locate([file], "set", str(tmp_path))
    assert found.samefile(path)
    assert read(found) == own


def test_data_dir_comes_before_the_variable_and_that_before_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert data_root() == tmp_path / "cache" / "rnnnorm"
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "variable"))
    assert data_root() == tmp_path / "variable"
    assert data_root(str(tmp_path / "given")) == tmp_path / "given"
    assert data_root("~/data") == Path.home() / "data"


@pytest.mark.parametrize(
    ("published", "member"),
    [(CONTENT, ""), (gzip.compress(CONTENT, mtime=0), ""), (zipped("folder/a.txt", CONTENT), "folder/a.txt")],
    ids=["plain", "gzip", "zip"],
)
def test_a_missing_file_is_downloaded_once(
    published: bytes, member: str, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = served
    (folder / "published").write_bytes(published)
    file = remote(f"{url}/published", member=member)
    (path,) = locate([file], "set", str(tmp_path))
    assert path == tmp_path / "set" / "data.txt"
    assert read(path) == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["data.txt"], "nothing is left beside it"
    (folder / "published").unlink()
    assert locate([file], "set", str(tmp_path)) == [path]


def test_downloads_go_to_the_cache_without_data_dir(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    (folder / "published").write_bytes(CONTENT)
    (path,) = locate([remote(f"{url}/published")], "set")
    assert path == tmp_path / "cache" / "rnnnorm" / "set" / "data.txt"


@pytest.mark.parametrize(
    ("published", "member", "message"),
    [
        (b"<html>Sorry</html>", "", f"sha256 is {hashlib.sha256(b'<html>Sorry</html>').hexdigest()}, {SHA256} was"),
        (gzip.compress(CONTENT, mtime=0)[:-9], "", "is broken"),
        (b"\x1f\x8b nonsense", "", "is broken"),
        (CONTENT, "a.txt", "no zip archive with a member a.txt"),
        (zipped("b.txt", CONTENT), "a.txt", "no zip archive with a member a.txt"),
    ],
    ids=["another file", "half a gzip", "no gzip", "no zip", "another member"],
)
def test_a_wrong_file_is_an_error_and_not_kept(
    published: bytes, member: str, message: str, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = served
    (folder / "published").write_bytes(published)
    with pytest.raises(ValueError, match=message) as caught:
        locate([remote(f"{url}/published", member=member)], "set", str(tmp_path))
    assert url in str(caught.value)
    assert list((tmp_path / "set").iterdir()) == []


def test_a_page_that_is_not_there_is_a_missing_file(served: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="404"):
        locate([remote(f"{served[1]}/nothing")], "set", str(tmp_path))


def test_a_dead_server_fails_at_once_and_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/published"  # bound, but nobody listens
        start = time.monotonic()
        with pytest.raises(FileNotFoundError) as caught:
            locate([remote(url)], "set", str(tmp_path))
    assert time.monotonic() - start < 3
    for said in (str(tmp_path / "set" / "data.txt"), url, "data_dir", "RNNNORM_DATA", "failed"):
        assert said in str(caught.value)


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "TIMEOUT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(FileNotFoundError, match="timed out"):
            locate([remote(f"http://127.0.0.1:{silent.getsockname()[1]}/published")], "set", str(tmp_path))
    assert time.monotonic() - start < 3


def test_without_downloading_the_message_says_where_the_file_should_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        locate([remote()], "set", str(tmp_path), download=False)
    for said in (str(tmp_path / "set" / "data.txt"), "http://127.0.0.1:9/nobody/here", "RNNNORM_DATA", "download=true"):
        assert said in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_written_is_a_clear_error(served: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(FileNotFoundError, match="Downloading it failed"):
        locate([remote(f"{served[1]}/published")], "set", str(tmp_path))


def test_github_addresses_name_the_commit() -> None:
    assert github("a/b", "c0ffee", "d/e.txt") == "https://raw.githubusercontent.com/a/b/c0ffee/d/e.txt"


@pytest.mark.parametrize(
    "content", [gzip.compress(CONTENT, mtime=0)[:-9], b"\x1f\x8b nonsense", gzip.compress(CONTENT, mtime=0)[:-1] + b"x"]
)
def test_a_broken_gzip_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"some\.txt is a broken gzip file"):
        read(path)


def test_a_text_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(codecs.BOM_UTF8 + "Anna\nJürgen\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"some\.txt is no text in UTF-8: line 2, invalid start byte 0xfc"):
        read_text(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes("Jürgen\ufeff".encode("utf-8-sig"))
    assert read_text(path) == "Jürgen\ufeff"


@pytest.mark.parametrize("content", [b"", b"\n \n\t", codecs.BOM_UTF8, gzip.compress(b"", mtime=0)])
def test_a_blank_text_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"some\.txt is blank"):
        read_text(path)


def test_a_line_that_is_no_sentence_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_text("a sentence\n" + "x" * 31 + "\n")
    assert read_text(path, 31)
    with pytest.raises(ValueError, match=r"some\.txt, line 2: 31 characters, at most 30 were expected"):
        read_text(path, 30)


@pytest.mark.parametrize("mode", ["sentences", "stream"])
def test_the_lines_of_sentences_have_an_end_and_a_stream_may_be_one_line(mode: Any, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a b\n" + "a " * (LONGEST_LINE // 2 + 1))
    data = LanguageModel("folder", folder=str(tmp_path), mode=mode)
    if mode == "stream":
        assert len(data.texts["train"]) > LONGEST_LINE
    else:
        with pytest.raises(ValueError, match=r"train\.txt, line 2: 1,000,002 characters"):
            _ = data.texts


def test_absurd_names_and_words_are_named(tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    for name in Names.class_names:
        (tmp_path / "names" / f"{name}.txt").write_text("Anna\n" if name != "Dutch" else "x" * 1_000_001)
    with pytest.raises(ValueError, match=r"Dutch\.txt, line 1: 1,000,001 characters"):
        Names(data_dir=str(tmp_path), download=False).lengths("train")
    for split in ("train", "dev", "test"):
        (tmp_path / f"own-{split}.conllu").write_text("\n\n1\t" + "x" * 1_000_001)
    with pytest.raises(ValueError, match=r"own-train\.conllu, line 3: 1,000,003 characters"):
        PartOfSpeech("own", data_dir=str(tmp_path)).lengths("train")


def test_a_gzip_file_is_decompressed_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LIMIT", 1000)
    path = tmp_path / "some.txt.gz"
    path.write_bytes(gzip.compress(b"a" * 1000))
    assert len(read(path)) == 1000
    path.write_bytes(gzip.compress(b"a" * 10_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"some\.txt\.gz has more than 1,000 bytes when it is decompressed"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    path.write_bytes(b"b" * 2000)
    assert len(read(path)) == 2000, "what is not compressed is as large as it is"


@pytest.mark.parametrize(
    ("published", "member"),
    [(gzip.compress(bytes(100_000), mtime=0), ""), (bytes(100_000), ""), (zipped("a.txt", bytes(100_000)), "a.txt")],
    ids=["gzip", "plain", "zip"],
)
def test_a_download_is_not_unpacked_beyond_its_size(
    published: bytes, member: str, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = served
    (folder / "published").write_bytes(published)
    file = Remote("data.txt", f"{url}/published", SHA256, member, size=len(CONTENT))
    with pytest.raises(ValueError, match=rf"more than {len(CONTENT)} bytes") as caught:
        locate([file], "set", str(tmp_path))
    assert url in str(caught.value)
    assert list((tmp_path / "set").iterdir()) == []


def test_a_huge_download_is_not_even_looked_at(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = served
    (folder / "published").write_bytes(CONTENT)
    monkeypatch.setattr(files, "LIMIT", len(CONTENT) - 1)
    monkeypatch.setattr(files, "read", lambda *_: pytest.fail("it was"))
    with pytest.raises(ValueError, match=r"has 21 bytes: at most 20 were expected"):
        locate([remote(f"{url}/published")], "set", str(tmp_path))
