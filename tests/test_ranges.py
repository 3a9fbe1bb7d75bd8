"""Every option of everything is checked: its type, that it is finite, its range; the message names option and value."""

from __future__ import annotations

import inspect
import math
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import rnnnorm
from rnnnorm.common.ranges import Checked, OptionTypeError, Range, at_least, between, one_of, ranges_of
from rnnnorm.data import AddingProblem, DelayedRecall, LanguageModel, PartOfSpeech, SequentialMNIST, Spec, TemporalOrder
from rnnnorm.nn.options import RANGES
from rnnnorm.norms import NORMALIZERS, Normalizer, StoredStatistics, Use, options_of
from rnnnorm.norms.places import Norm
from rnnnorm.probes import ALL
from rnnnorm.tasks import TASKS

HUGE = 2**63
GARBAGE: dict[type, list[Any]] = {
    bool: ["False", "yes", 2, 0.5, [], math.nan],
    int: [2.5, "3", "many", True, -1, HUGE, math.nan, math.inf, [4], {}],
    float: ["abc", "", math.nan, math.inf, -math.inf, True, 1e300, 10**400, [1.0], ()],
    str: [5, 0.5, True, "no such word", ["last"], {}],
}


def garbage(range: Range) -> list[Any]:
    """Values that no option of such a range has."""
    free = str in range.kinds and not range.words
    negative = int in range.kinds and range.low == -math.inf
    first, *others = (GARBAGE[kind] for kind in range.kinds)
    values = [v for v in first if all(any(v is w or v == w for w in other) for other in others)]
    values = [v for v in values if not (free and isinstance(v, str)) and not (negative and v == -1)]
    return values if range.optional else [*values, None]


def refused(build: Any, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"\b{option}\b") as error:
        build()
    assert repr(value) in str(error.value), error.value


CASES = [(name, option) for name, cls in NORMALIZERS.items() for option in options_of(cls)]


@pytest.mark.parametrize(("name", "option"), CASES, ids=str)
def test_every_option_of_every_normalizer(name: str, option: str) -> None:
    cls: Any = NORMALIZERS[name]
    features = () if Use(name).is_weight else (4,)
    assert option in ranges_of(cls), f"{option} of {name} is not checked: its annotation is not made of plain types"
    for value in garbage(ranges_of(cls)[option]):
        refused(lambda value=value: Use(name, {option: value}), option, value)
        refused(lambda value=value: cls(*features, **{option: value}), option, value)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_documented_defaults_pass(name: str) -> None:
    cls: Any = NORMALIZERS[name]
    defaults = {option: p.default for option, p in options_of(cls).items()}
    assert inspect.Parameter.empty not in defaults.values()
    Use(name, defaults)
    cls(*(() if Use(name).is_weight else (4,)), **defaults)


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        ("bn-timestep:gain=abc", "gain must be a finite number, got 'abc'"),
        ("bn-timestep:gain=nan", "gain must be a finite number, got 'nan'"),
        ("bn-timestep:gain=1e400", "gain must be a finite number, got inf"),
        ("bn-timestep:gain=1e39", "gain must be a finite number that float32 can hold, got 1e[+]39"),
        ("ln:eps=0", "ln:eps=0: eps must be a positive number, got 0"),
        ("ln:eps=-1e-5", "eps must be a positive number, got -1e-05"),
        ("ln:eps=1e-50", "eps must be a positive number that float32 can hold"),
        (
            "bn-timestep:min_rows=2.5",
            "min_rows must be an integer of at least 2, since one row has no variance, got 2.5",
        ),
        ("bn-timestep:max_steps=1.5", "max_steps must be an integer of at least 1, got 1.5"),
        ("bn-timestep:max_steps=10000000000", "at least 1 and at most 1000000, got 10000000000"),
        ("bn-timestep:momentum=little", r"momentum must be a number in \(0, 1\] or None, got 'little'"),
        ("bn-timestep:window=true", "window must be an integer of at least 1, got True"),
        ("bn-timestep:tail=1", "tail must be one of last, pool, error, got 1"),
        ("bn-timestep:statistics=5", "statistics must be one of sequence, shared, timestep, got 5"),
        ("bn-timestep:frozen=1", "frozen must be true or false, got 1"),
        ("bn-timestep:sync=maybe", "sync must be true, false or None, got 'maybe'"),
        ("ln:carried=False ", None),
        ("ln-carried:carried=maybe", "carried must be true or false, got 'maybe'"),
        ("gn:groups=0", "groups must be an integer of at least 1, got 0"),
        ("online:alpha_forward=1.0", r"alpha_forward must be a number in \(0, 1\), got 1.0"),
        ("online:alpha_backward=0.0", r"alpha_backward must be a number in \(0, 1\), got 0.0"),
        ("online:guard=cut", "guard must be one of scaling, clamp, none, got 'cut'"),
        ("online:groups=3", "groups must divide the 16 features, got 3"),
        ("streaming:alpha=1.5", "alpha must be a number between 0 and 1, got 1.5"),
        ("streaming:beta_long=0.75:beta_short=0.5", r"beta_long \+ beta_short must be between 0 and 1, got 1.25"),
        ("power:alpha_forward=1.0", r"alpha_forward must be a number in \[0, 1\), got 1.0"),
        ("power:warmup=-1", "warmup must be an integer of at least 0, got -1"),
        ("power:groups=3", "groups must divide the 16 features or be 0, got 3"),
        ("cbn:statistics=shared", "must be one of sequence, timestep, since its slots"),
        ("cbn:tail=pool", "must be one of last, error, since its slots"),
        ("cbn:burn_in=-1", "burn_in must be an integer of at least 0, got -1"),
        ("brn:r_max=0.5", "r_max must be a number of at least 1, where r is fixed to 1, got 0.5"),
        ("brn:d_max=-1", "d_max must be a number of at least 0, got -1"),
        ("brn:warmup=50000", "warmup=50000, r_end=40000"),
        ("brn:d_end=10", "d_end=10"),
        ("lrn:size=2.5", r"size must be an integer of at least 1, got 2\.5"),
        ("lrn:alpha=-1", "alpha must be a number of at least 0, got -1"),
        ("lrn:k=0", "k must be a positive number, so that a row of zeros has a value"),
        ("gn:groups=3", "16 features cannot be divided into groups=3"),
        ("streaming:p=3", "p must be one of 1, 2, got 3"),
        ("streaming:p=true", "p must be one of 1, 2, got True"),
        ("wn:init=5", "init must be one of norm, data, got 5"),
    ],
)
def test_messages(norm: str, words: str | None) -> None:
    if words is None:
        rnnnorm.LSTM(3, 4, norm=norm)
        return
    with pytest.raises(ValueError, match=words):
        rnnnorm.LSTM(3, 4, norm=norm)


def test_what_carries_is_true_or_false() -> None:
    with pytest.raises(ValueError, match="carried must be true or false, got 'False'"):
        Norm(cell="ln", carried="False")  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["num_features", "max_steps", "tail", "window", "debias", "by_rows", "still"])
def test_stored_statistics(option: str) -> None:
    for value in garbage(ranges_of(StoredStatistics)[option]):
        keys = {"num_features": 3, "max_steps": 4, option: value}
        refused(lambda keys=keys: StoredStatistics(**keys), option, value)


class Damped(Normalizer):
    """A normalizer of somebody else's, which says nothing about ranges."""

    def __init__(self, num_features: int, *, strength: float = 0.5, steps: int | None = None, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.strength, self.steps = strength, steps

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        return x


def test_a_new_normalizer_is_checked_by_its_annotations() -> None:
    assert Damped(3, strength=1, gain=np.float32(2), steps=np.int64(4)).strength == 1
    assert Damped(3, steps=None).steps is None
    for keys in ({"strength": "x"}, {"steps": 1.5}, {"gain": math.nan}, {"bias": "False"}):
        with pytest.raises(ValueError, match=rf"{next(iter(keys))} must be"):
            Damped(3, **keys)
    with pytest.raises(ValueError, match="num_features must be an integer"):
        Damped(2.5)  # type: ignore[arg-type]
    assert deepcopy(Damped(3)).num_features == pickle.loads(pickle.dumps(Damped(3))).num_features == 3


LAYERS = (rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN, rnnnorm.LSTMCell, rnnnorm.GRUCell, rnnnorm.RNNCell)
OTHERWISE = {"self", "device", "norm", "zoneout", "residual_scale", "dtype", "nonlinearity"}


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_every_argument_of_every_layer(cls: Any) -> None:
    for name in set(inspect.signature(cls.__init__).parameters) - OTHERWISE:
        for value in garbage(RANGES.get(name, Range(kinds=(bool,)))):
            refused(lambda k=name, v=value: cls(**{"input_size": 3, "hidden_size": 4, k: v}), name, value)


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_what_is_no_plain_value(cls: Any) -> None:
    known = inspect.signature(cls.__init__).parameters
    wrong = {"norm": [7, [], {}, 0.5], "nonlinearity": [5, [], "sin"], "dtype": ["float32", torch.int64, torch.bool]}
    wrong |= {"zoneout": ["much", 1.5, math.nan, (0.1, 0.2, 0.3), [None]], "residual_scale": [0.5, math.inf, "deep"]}
    for name, values in wrong.items():
        for value in values if name in known else ():
            keys = {"residual": "skipinit"} if value in (math.inf, "deep") and name == "residual_scale" else {}
            with pytest.raises(ValueError, match=name.partition("_")[0]):
                cls(3, 4, **keys, **{name: value})


def test_sizes_that_nothing_can_hold_are_named() -> None:
    for keys in ({"num_layers": HUGE}, {"hidden_size": 10**30}, {"input_size": HUGE}, {"max_steps": HUGE}):
        (name,) = keys
        with pytest.raises(ValueError, match=rf"{name} must be an integer of at least 1 and at most \d+, got"):
            rnnnorm.LSTM(**{"input_size": 3, "hidden_size": 4, **keys})
    with pytest.raises(
        ValueError, match="this large cannot be held: got hidden_size=1073741824, input_size=1073741824"
    ):
        rnnnorm.LSTM(2**30, 2**30)


def test_a_wrong_type_is_a_type_error_as_in_torch_too() -> None:
    for module in (torch.nn.LSTM, rnnnorm.LSTM):
        with pytest.raises(TypeError, match="hidden_size"):
            module(3, 2.5)
    with pytest.raises(OptionTypeError):
        rnnnorm.LSTM(3, 4, bias="False")  # type: ignore[arg-type]


def test_numbers_of_numpy_and_flags_as_torch_takes_them() -> None:
    lstm = rnnnorm.LSTM(np.int64(3), np.int32(4), np.int64(2), np.bool_(False), True, np.float32(0.5), bidirectional=1)
    values = (lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.dropout, lstm.bias, lstm.batch_first)
    assert values == (3, 4, 2, 0.5, False, True)
    assert [type(v) for v in values] == [int, int, int, float, bool, bool]
    norm = rnnnorm.norms.BatchNorm(4, gain=np.float64(0.5), max_steps=np.int16(3), bias=np.bool_(True))
    assert norm.bias is not None
    assert norm.initial_gain == 0.5


def test_batch_normalization_by_itself() -> None:
    for keys, words in (
        ({"affine": "False"}, "affine must be true or false, got 'False'"),
        ({"batch_first": "yes"}, "batch_first must be true or false, got 'yes'"),
        ({"eps": 0}, "eps must be a positive number, got 0"),
        ({"statistics": "timestep", "max_steps": 1.5}, r"max_steps must be an integer of at least 1, got 1\.5"),
    ):
        with pytest.raises(ValueError, match=words):
            rnnnorm.RaggedBatchNorm(4, **keys)


SPEC = Spec("language-modelling", vocabularies=(5,), num_outputs=5, max_length=7)


@pytest.mark.parametrize(
    "module", [AddingProblem, DelayedRecall, TemporalOrder, LanguageModel, PartOfSpeech, SequentialMNIST]
)
def test_data_modules(module: Any, tmp_path: Path) -> None:
    for name, range in ranges_of(module).items():
        for value in garbage(range):
            refused(lambda k=name, v=value: module(**{k: v}), name, value)
    assert module(batch_size=np.int64(4)).batch_size == 4
    if "data_dir" in ranges_of(module):
        assert module(data_dir=tmp_path).data_dir == tmp_path


def test_tasks() -> None:
    task = TASKS["language-modelling"]
    for name, range in ranges_of(task).items():
        for value in garbage(range):
            refused(lambda k=name, v=value: task(**{"spec": SPEC, k: v}), name, value)


@pytest.mark.parametrize("probe", ALL)
def test_probes(probe: Any) -> None:
    for name, range in ranges_of(probe).items():
        for value in garbage(range):
            refused(lambda k=name, v=value: probe(**{k: v}), name, value)


class Above(Checked):
    ranges: ClassVar[dict[str, Range]] = {"kind": one_of("a", "b"), "share": between(0, 1, "(]")}

    def __init__(self, kind: str, share: float = 0.5, other: Tensor | None = None, **kw: Any) -> None:
        self.given = kind, share, other, kw


class Below(Above):
    ranges: ClassVar[dict[str, Range]] = {"share": at_least(2, why="since it is no share")}

    def __init__(self, mode: Literal["x", "y"], unknown: Unknown = 3, **kw: Any) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__("a", **kw)
        self.mode = mode


class TestChecked:
    def test_positions_and_names_and_what_is_handed_on(self) -> None:
        assert Above("a", 1, other=None).given == ("a", 1, None, {})
        assert Below("x", share=3, unknown=object(), far="anything").given[1] == 3
        for build, words in (
            (lambda: Above("c"), "kind must be one of a, b, got 'c'"),
            (lambda: Above("a", 0), r"share must be a number in \(0, 1\], got 0"),
            (lambda: Above("a", share="x"), r"share must be a number in \(0, 1\], got 'x'"),
            (lambda: Below("z"), "mode must be one of x, y, got 'z'"),
            (lambda: Below("x", share=0.5), "share must be a number of at least 2, since it is no share, got 0.5"),
        ):
            with pytest.raises(ValueError, match=words):
                build()

    def test_wrong_calls_are_pythons_business(self) -> None:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'kind'"):
            Above(share=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="positional arguments"):
            Above("a", 1, None, 4)  # type: ignore[call-arg]

    def test_copies_are_not_checked_again(self) -> None:
        made = Above("a")
        made.given = ("broken", 7, None, {})
        assert deepcopy(made).given == pickle.loads(pickle.dumps(made)).given == made.given
