"""Presets and normalizers of one's own: by registration, by module, by file, by an installed package's entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

import rnnnorm
from rnnnorm import Norm, Preset, parse_norm, presets, register
from rnnnorm.norms import plugins
from rnnnorm.norms import presets as table
from rnnnorm.norms.base import NORMALIZERS
from rnnnorm.norms.presets import find_preset, load_plugins

MINE = '''
import rnnnorm


class Peak(rnnnorm.Normalizer):
    """y = g ⊙ x / (max |x| + 1)."""

    name = "peak-for-test"
    summary = "each row by its largest entry"
    source = "a test"

    def forward(self, x, t=0):
        return self.gain * x / (x.abs().amax(1, keepdim=True) + 1)


class Nameless(rnnnorm.Normalizer):
    def forward(self, x, t=0):
        return x


norm = rnnnorm.Norm(input="peak-for-test", hidden="ln")
preset = rnnnorm.Preset("other", norm, "per row", "a test", "mine")
number = 3


def made(scale: float = 2.0):
    return rnnnorm.Norm(cell=f"ln:gain={scale}")


def wrong():
    return 3
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "mine_of_test.py"
    path.write_text(MINE)
    (tmp_path / "broken_of_test.py").write_text("1 / 0\n")
    (tmp_path / "lacking_of_test.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = dict(table.PRESETS), dict(table._REGISTERED), dict(plugins.PLUGINS), dict(NORMALIZERS), set(sys.modules)
    yield path
    for known, kept in zip((table.PRESETS, table._REGISTERED, plugins.PLUGINS, NORMALIZERS), before, strict=False):
        known.clear()
        known.update(kept)  # type: ignore[call-overload]
    for name in set(sys.modules) - before[-1]:
        if "_of_test" in name:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "norm"),
    [
        ("{}:norm", "input=peak-for-test+hidden=ln"),
        ("{}:preset", "input=peak-for-test+hidden=ln"),
        ("{}:norm:hidden.gain=0.5", "input=peak-for-test+hidden=ln:gain=0.5"),
        ("{}:Peak", "input=peak-for-test+hidden=peak-for-test+cell=peak-for-test"),
        ("{}:Peak:gain=0.5:cell.gain=2", "input=peak-for-test:gain=0.5+hidden=peak-for-test:gain=0.5+cell="
         "peak-for-test:gain=2"),
        ("{}:made", "cell=ln:gain=2.0"),
        ("{}:made:scale=3.0:bias=False", "cell=ln:gain=3.0:bias=False"),
        ("input={}:Peak:gain=0.5+hidden=ln", "input=peak-for-test:gain=0.5+hidden=ln"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["mine_of_test", "mine_of_test.py", "./mine_of_test.py"])
@pytest.mark.usefixtures("mine")
def test_what_a_reference_can_name(text: str, norm: str, where: str) -> None:
    text = text.format(where)
    NORMALIZERS.pop("peak-for-test", None)
    load_plugins(text)
    assert str(parse_norm(text)) == norm
    lstm = rnnnorm.LSTM(3, 4, norm=text)
    assert lstm(torch.randn(5, 2, 3))[0].isfinite().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("absent_of_test:norm", "there is no module 'absent_of_test'"),
        ("absent_of_test.py:norm", "there is no file 'absent_of_test.py'"),
        ("mine_of_test:nrom", r"mine_of_test has no attribute 'nrom' \(did you mean 'norm'\?\)"),
        ("broken_of_test:norm", "cannot be imported: ZeroDivisionError"),
        ("broken_of_test.py:norm", "cannot be imported: ZeroDivisionError"),
        ("lacking_of_test:norm", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("mine_of_test:number", "expected a Preset, a Norm, a class .* got 3"),
        ("mine_of_test:wrong", "got 3"),
        ("mine_of_test:Nameless", "Nameless has no class attribute `name`"),
        ("mine_of_test:Peak:gian=3", r"no option 'gian'.*did you mean 'gain'"),
        ("mine_of_test:made:scale=a:b", "expected key=value"),
        ("input=mine_of_test:norm", "a place takes a class derived from rnnnorm.Normalizer"),
    ],
)
@pytest.mark.usefixtures("mine")
def test_what_cannot_be_used_is_refused(text: str, message: str) -> None:
    def use() -> None:
        load_plugins(text)
        parse_norm(text)

    with pytest.raises(ValueError, match=message):
        use()


@pytest.mark.parametrize("text", ["mine_of_test:norm", "input=mine_of_test:Peak", "mine_of_test.py:norm"])
@pytest.mark.usefixtures("mine")
def test_a_text_alone_imports_nothing(text: str) -> None:
    """Checkpoints hold such texts, too."""
    with pytest.raises(ValueError, match=r"not loaded.*rnnnorm\.register"):
        rnnnorm.LSTM(3, 4, norm=text)
    assert not [name for name in sys.modules if "mine_of_test" in name]


@pytest.mark.usefixtures("mine")
def test_registration() -> None:
    norm = Norm(hidden="ln", between="bn")
    register("my-norm", norm)
    assert presets()["my-norm"].norm == norm
    assert list(presets())[-1] == "my-norm"
    assert str(parse_norm("my-norm:gain=0.5")) == "hidden=ln:gain=0.5+between=bn:gain=0.5"
    assert rnnnorm.LSTM(3, 4, 2, norm="my-norm").norm.name == "my-norm"
    register("my-norm", norm)  # a notebook's cell that is run again
    with pytest.raises(ValueError, match=r"'my-norm' is taken .*register another name"):
        register("my-norm", Norm(hidden="ln"))
    register("made", lambda scale=1.0: Preset("x", Norm(cell=f"ln:gain={scale}"), "per row", "a test", "mine"))
    assert str(parse_norm("made:scale=0.5")) == "cell=ln:gain=0.5"
    assert presets()["made"].description == "mine"
    load_plugins("mine_of_test:norm")
    register("mine:again", plugins.PLUGINS["mine_of_test:norm"])
    assert parse_norm("mine:again") == parse_norm("mine_of_test:norm")


@pytest.mark.parametrize("name", ["ln", "none", "core", "all"])
def test_taken_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is taken"):
        register(name, Norm(hidden="ln"))


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a=b", "a+b", "a:b:c", 3])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="a preset's name has letters"):
        register(name, Norm(hidden="ln"))


class _Point:
    """An entry point, as far as it matters here."""

    value = "somewhere:preset"

    def __init__(self, load: Callable[[], Any]) -> None:
        self.load = load


def _installed(monkeypatch: pytest.MonkeyPatch, **points: Callable[[], Any]) -> None:
    monkeypatch.setattr(table, "installed", lambda: {name: _Point(load) for name, load in points.items()})
    monkeypatch.setattr(plugins, "installed", table.installed)


@pytest.mark.usefixtures("mine")
def test_presets_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ImportError("something is missing")

    _installed(monkeypatch, theirs=lambda: Norm(cell="ln"), broken=broken)
    assert "theirs" not in presets()
    assert str(parse_norm("theirs:gain=2.0")) == "cell=ln:gain=2.0"
    assert "theirs" in presets()
    with pytest.raises(ValueError, match="'broken' of somewhere:preset cannot be loaded: ImportError: something is"):
        parse_norm("broken")
    with pytest.raises(ValueError, match="did you mean 'broken'"):
        parse_norm("brokn")


def test_entry_points_are_read_by_their_group(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "rnnnorm.norms.presets:CORE", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: (point,) if group == "rnnnorm.presets" else ())
    plugins.installed.cache_clear()
    try:
        assert plugins.load_installed("theirs") is table.CORE
    finally:
        plugins.installed.cache_clear()


@pytest.mark.usefixtures("mine")
def test_a_plugin_is_described_by_what_it_names() -> None:
    load_plugins("mine_of_test:preset")
    preset, overrides = find_preset("mine_of_test:preset:gain=0.5")
    assert preset is not None
    assert (preset.description, preset.source, overrides) == ("mine", "a test", "gain=0.5")
    assert find_preset("input=ln+hidden=ln") == (None, "")
    assert find_preset("nobody:knows") == (None, "")
