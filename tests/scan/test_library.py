"""Compiling the scan where it is used: once, for all processes, and never at the price of an exception."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

import rnnnorm
from rnnnorm.scan.native import cache as cache_module
from rnnnorm.scan.native import library as module
from rnnnorm.scan.native.cache import cache_folder, is_whole

PROJECT = Path(rnnnorm.__file__).parents[1]
HAS_COMPILER = module.library() is not None
compiles = pytest.mark.skipif(not HAS_COMPILER, reason="needs a C++ compiler")

TRAIN = """
import torch, warnings, rnnnorm
torch.set_num_threads(1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lstm = rnnnorm.LSTM(3, 4, num_layers=2, norm="ln")
    plain = rnnnorm.LSTM(3, 4)
    for _ in range(3):
        lstm(torch.randn(3, 6, 3))[0].sum().backward()
        plain(torch.randn(3, 6, 3))[0].sum().backward()
print(lstm.ran, plain.ran)
for warning in caught:
    if "rnnnorm" in str(warning.message):
        print("warned:", warning.message)
"""


def start(code: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Python in another process, with a cache of its own."""
    variables = {**os.environ, "PYTHONPATH": str(PROJECT), "RNNNORM_CACHE": str(folder), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], env=variables, text=True, **pipes)


def finish(process: subprocess.Popen[str], seconds: float = 90) -> tuple[str, str]:
    """What it printed; fails if it did not end well."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], object]:
    """`library` as in a process that has not loaded anything yet, with an empty cache folder."""
    monkeypatch.setenv("RNNNORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_library", cache(module._library.__wrapped__))
    monkeypatch.setattr(module, "_told", set())
    return module.library


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiler that counts its compilations and does not optimize, which is quicker."""
    real = shutil.which(os.environ.get("CXX", "c++").split()[0])
    path = tmp_path_factory.mktemp("compiler") / "counting-compiler"
    counting = f'case " $* " in *" -c "*) echo compiled >> "{path.with_name("count")}";; esac'
    path.write_text(f'#!/bin/sh\n{counting}\nexec "{real}" "$@" -O0\n')
    path.chmod(0o755)
    return path


def count(compiler: Path) -> int:
    file = compiler.with_name("count")
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(scope="module")
def built(compiler: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that two processes have filled at once, of which both succeeded."""
    folder = tmp_path_factory.mktemp("built") / "cache"
    for out, err in map(finish, [start(TRAIN, folder, CXX=str(compiler)) for _ in range(2)]):
        assert out.splitlines() == ["native native"]
        assert err.count("compiling its scan") <= 1
    assert 1 <= count(compiler) <= 2
    return folder


@pytest.fixture
def filled(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(built, tmp_path / "cache")


def test_without_a_compiler(tmp_path: Path) -> None:
    """A whole process: everything works by other backends, and one warning says what to do."""
    out, _ = finish(start(TRAIN, tmp_path / "cache", CXX="/nonexistent"))
    first, *rest = out.splitlines()
    assert first == "reference torch"
    assert len(rest) == 1
    assert "correctly but slower" in rest[0]
    assert "no C++ compiler '/nonexistent' was found; install one, or name it by the variable CXX" in rest[0]


def script(path: Path, text: str) -> Path:
    """A command for the shell that says that it is some version, and otherwise does as the text says."""
    path.write_text(f'#!/bin/sh\ncase " $* " in *" --version "*) echo 1; exit 0;; esac\n{text}\n')
    path.chmod(0o755)
    return path


OUTPUT = 'while [ "$1" != -o ]; do shift; done\n'  # "$2" is then the file that is asked for


def _garbage(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """A compiler that makes no library, as on a full disk."""
    patch.setenv("CXX", str(script(tmp_path / "garbage", OUTPUT + 'echo "ELF and nothing else" > "$2"')))


def _nothing(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("CXX", str(script(tmp_path / "lazy", "exit 0")))


def _not_executable(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\0\0 no program")
    path.chmod(0o755)
    patch.setenv("CXX", str(path))


def _hanging(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """It has started somebody else, who holds its pipes and does not end either."""
    patch.setenv("CXX", str(script(tmp_path / "slow", "sleep 100 & sleep 100")))
    patch.setattr(module, "PATIENCE", {"version": 20.0, "compile": 0.5})


def _hanging_at_once(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "slower"
    path.write_text("#!/bin/sh\nsleep 100\n")
    path.chmod(0o755)
    patch.setenv("CXX", str(path))
    patch.setattr(module, "PATIENCE", {"version": 0.5, "compile": 20.0})


def _file_for_folder(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    patch.setenv("RNNNORM_CACHE", str(tmp_path / "file" / "cache"))


def _homeless(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """A container whose user has no home, which `Path.home` answers by a RuntimeError."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    patch.delenv("RNNNORM_CACHE")
    patch.delenv("XDG_CACHE_HOME", raising=False)
    patch.setattr(Path, "home", home)


def _broken_compiler(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("CXX", str(script(tmp_path / "broken", 'echo "no such luck" >&2\nexit 1')))


def _full(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """A disk that has no room for what was compiled."""

    def keep(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(module, "keep", keep)


def _open_to_all(tmp_path: Path, patch: pytest.MonkeyPatch, mode: int = 0o777) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)


def _open_to_the_group(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    _open_to_all(tmp_path, patch, 0o770)


def _link_to_open(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere").chmod(0o777)
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")


def _open_parent(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """Whoever may write there can put another folder in the place of ours."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    patch.setenv("RNNNORM_CACHE", str(tmp_path / "open" / "cache"))


def _of_somebody_else(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    me = os.geteuid()
    patch.setattr(cache_module.os, "geteuid", lambda: me + 1)


TROUBLE: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], None], str]] = {
    "no-compiler": (
        lambda _, patch: patch.setenv("CXX", "/nonexistent"),
        r"install one, or name it by the variable CXX",
    ),
    "no-such-command": (lambda _, patch: patch.setenv("CXX", "no-such-compiler -v"), r"no C\+\+ compiler"),
    "false": (lambda _, patch: patch.setenv("CXX", "false"), r"false failed: no message"),
    "broken-compiler": (_broken_compiler, r"broken failed: no such luck"),
    "unwritable-cache": (_file_for_folder, r"cannot write to the cache folder .*: Not a directory"),
    "no-home": (_homeless, r"RNNNORM_CACHE|home"),
    "garbage": (_garbage, r"does not load"),
    "nothing": (_nothing, r"lazy has made no library: .*No such file"),
    "not-executable": (_not_executable, r"does not start: Exec format error"),
    "hanging": (_hanging, r"slow did not finish within 0.5 s"),
    "hanging-at-once": (_hanging_at_once, r"slower did not finish within 0.5 s"),
    "full-disk": (_full, r"cannot write to the cache folder .*: No space left on device"),
    "open-to-all": (_open_to_all, r"others may write to the cache folder .*: `chmod 700 .*RNNNORM_CACHE"),
    "open-to-the-group": (_open_to_the_group, r"others may write to the cache folder"),
    "link-to-open": (_link_to_open, r"others may write to the cache folder .*elsewhere"),
    "open-parent": (_open_parent, r"anybody may write to .*open: name another one by RNNNORM_CACHE"),
    "of-somebody-else": (_of_somebody_else, r"belongs to user \d+ and not to you: name one of your own"),
}
NEEDS_COMPILER = set(TROUBLE) - {"no-compiler", "no-such-command"}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble(trouble: str, fresh: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning that names the reason, and None ever after."""
    arrange, message = TROUBLE[trouble]
    if trouble in NEEDS_COMPILER and not HAS_COMPILER:
        pytest.skip("needs a C++ compiler")
    arrange(tmp_path, monkeypatch)
    with pytest.warns(UserWarning, match=message) as caught:
        assert fresh() is None
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fresh() is None


def test_trouble_in_several_threads(fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first calls may come at once: still one warning."""
    monkeypatch.setenv("CXX", "/nonexistent")
    found: list[object] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=lambda: found.append(fresh())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [None] * 8
    assert len(caught) == 1


@compiles
def test_processes_share_one_compilation(
    compiler: Path, built: Path, fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two that have started at once, later ones compile nothing, and no scraps are left."""
    compiled = count(compiler)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("RNNNORM_CACHE", str(built))
    assert fresh() is not None
    assert count(compiler) == compiled
    assert {path.suffix for path in built.iterdir()} == {".so"}
    assert all(is_whole(path) for path in built.iterdir())
    assert stat.S_IMODE(built.stat().st_mode) == 0o700


@compiles
def test_another_compiler_or_source_is_another_file(
    compiler: Path, fresh: Callable[[], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built: list[str] = []
    monkeypatch.setattr(module, "_build", lambda command, openmp, folder, prefix: built.append(prefix))
    module._loaded()
    monkeypatch.setenv("CXX", str(compiler))
    module._loaded()
    monkeypatch.setenv("RNNNORM_CXXFLAGS", "-DRNNNORM_UNUSED")
    module._loaded()
    for name in module.SOURCES:
        (tmp_path / name).write_bytes((module.HERE / name).read_bytes())
    (tmp_path / "step.h").write_text((tmp_path / "step.h").read_text() + "\n// changed\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    module._loaded()
    monkeypatch.setattr(module, "_processor", lambda: "another one")
    module._loaded()
    assert len(set(built)) == len(built) == 5


def test_every_source_counts() -> None:
    """A file that is included but not listed would not make the cache notice its changes."""
    assert set(module.SOURCES) == {path.name for path in module.HERE.iterdir() if path.suffix in (".h", ".cpp")}


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNNORM_CACHE", "/chosen")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv("RNNNORM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/rnnnorm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "rnnnorm"


@compiles
@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
def test_no_second_openmp_runtime() -> None:
    """Torch has loaded one: another would have threads of its own, and both would fight for the cores."""
    path = module._loaded()._name
    needed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in needed
    assert not any(f"lib{name}" in needed for name in ("gomp", "omp", "iomp5"))
    symbols = subprocess.run(["readelf", "-Ws", path], capture_output=True, text=True, check=True).stdout
    assert "GOMP_parallel" in symbols or "__kmpc_fork_call" in symbols  # it is parallel all the same


@compiles
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [1, 7, 8, 9, 64])
def test_padding(hidden: int, dtype: torch.dtype) -> None:
    """Whole vectors, and fewer than one too many."""
    loaded = module.library()
    assert loaded is not None
    padded = loaded.rnnnorm_padding(hidden, dtype == torch.float64)
    vector = loaded.rnnnorm_padding(1, dtype == torch.float64)
    assert vector * dtype.itemsize in (16, 32, 64)
    assert padded % vector == 0
    assert hidden <= padded < hidden + vector


@compiles
def test_a_compiler_without_openmp_makes_a_scan_for_one_thread(compiler: Path, tmp_path: Path) -> None:
    strict, before = tmp_path / "no-openmp", count(compiler)
    strict.write_text(
        f'#!/bin/sh\ncase " $* " in *" -fopenmp "*) echo what is that >&2; exit 1;; esac\nexec "{compiler}" "$@"\n'
    )
    strict.chmod(strict.stat().st_mode | stat.S_IXUSR)
    out, err = finish(start(TRAIN, tmp_path / "cache", CXX=str(strict)))
    assert out.split("\n")[0] == "native native"
    warned = [line for line in out.splitlines() if line.startswith("warned")]
    assert len(warned) == 1
    assert "one thread, without OpenMP: no-openmp failed: what is that" in warned[0].replace(str(strict), strict.name)
    assert err.count("compiling its scan") == 1
    assert count(compiler) == before + 1
    # What it has made is found when no compiler is there any more.
    out, _ = finish(start(TRAIN, tmp_path / "cache", CXX="/nonexistent"))
    assert out.split("\n")[0] == "native native"
    (warned,) = [line for line in out.splitlines() if line.startswith("warned")]
    assert "one thread, without OpenMP: no C++ compiler '/nonexistent'" in warned


@compiles
def test_a_cached_library_needs_no_compiler(
    filled: Path, fresh: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the one that has made it: what counts is the source, the flags and the processor."""
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("RNNNORM_CACHE", str(filled))
    assert fresh() is not None
    monkeypatch.setenv("RNNNORM_CXXFLAGS", "-DRNNNORM_UNUSED")
    with pytest.raises(module.UnavailableError, match="no C"):
        module._loaded()


def test_integers_have_64_bits() -> None:
    """`long` has 32 on Windows, where a product of sizes would overflow, and Python hands over 64."""
    for name in module.SOURCES:
        code = re.sub(r"//.*", "", (module.HERE / name).read_text())
        assert not re.search(r"\b(long|unsigned)\b", code), name


def test_one_warning_for_all_libraries(fresh: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent")
    with pytest.warns(UserWarning, match="correctly but slower") as caught:
        assert [fresh(variant) for variant in module.VARIANTS] == [None] * len(module.VARIANTS)
    assert len(caught) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50_000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "one-bit": flip,
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "open-to-all": lambda path: path.chmod(0o777),
    "link": lambda path: path.symlink_to(path.rename(path.with_suffix(".elsewhere"))),
    "of-somebody-else": lambda path: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_kept_is_whole(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with the bytes that its name says, which nobody else can have written; no other."""
    made = tmp_path / "made.so"
    made.write_bytes(os.urandom(60_000))
    cache_module.keep(made, tmp_path, "scan-")
    (kept,) = tmp_path.iterdir()
    assert is_whole(kept)
    if damage == "of-somebody-else":
        monkeypatch.setattr(cache_module.os, "geteuid", lambda: kept.stat().st_uid + 1)
    DAMAGE[damage](kept)
    assert not is_whole(kept)


@compiles
def test_a_truncated_library_is_compiled_again(compiler: Path, filled: Path) -> None:
    """Reading behind the end of a mapped file ends a process; the one after has a whole one again."""
    for library in filled.glob("*.so"):
        truncate(library)
    before = count(compiler)
    for _ in range(2):
        out, _ = finish(start(TRAIN, filled, CXX=str(compiler)))
        assert out.splitlines() == ["native native"]
        assert count(compiler) == before + 1


@compiles
def test_a_library_without_our_functions(compiler: Path, filled: Path, tmp_path: Path) -> None:
    """Whole by its name, but somebody else's: compiled again, once; and then there is none."""
    library, *more = filled.glob("*.so")
    for path in more:
        path.unlink()
    source = tmp_path / "other.cpp"
    source.write_text("int other() { return 0; }")
    subprocess.run([str(compiler), "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    prefix = library.name.rsplit("-", 1)[0]
    other = library.rename(library.with_name(f"{prefix}-{cache_module.digest(library)}.so"))
    assert is_whole(other)
    out, _ = finish(start(TRAIN, filled, CXX=str(compiler)))
    assert out.splitlines() == ["native native"]
    empty = script(tmp_path / "empty", OUTPUT + f'exec "{compiler}" -shared -fPIC "{source}" -o "$2"')
    out, _ = finish(start(TRAIN, tmp_path / "second", CXX=str(empty)))
    first, warned = out.splitlines()
    assert first == "reference torch"
    assert "the compiled scan is none" in warned


@compiles
def test_the_folder_of_an_earlier_version(compiler: Path, built: Path, tmp_path: Path) -> None:
    """Under the umask of some systems it was open to the group: the default folder, which is ours alone, is closed."""
    folder = shutil.copytree(built, tmp_path / "rnnnorm")
    folder.chmod(0o775)
    out, _ = finish(start(TRAIN, Path(), CXX=str(compiler), XDG_CACHE_HOME=str(tmp_path), RNNNORM_CACHE=""))
    assert out.splitlines() == ["native native"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@compiles
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(compiler: Path, filled: Path) -> None:
    """What is there is used, and nothing else is done."""
    filled.chmod(0o500)
    before = count(compiler)
    out, _ = finish(start(TRAIN, filled, CXX=str(compiler)))
    filled.chmod(0o700)
    assert out.splitlines() == ["native native"]
    assert count(compiler) == before
