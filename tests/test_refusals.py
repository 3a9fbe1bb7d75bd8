"""Calls that do not fit: refused where torch refuses them, by an error that whoever expects torch's catches, too."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import rnnnorm
from rnnnorm.nn.inputs import InputError

Call = Callable[[Any, str], object]
LAYERS, CELLS = ("LSTM", "GRU", "RNN"), ("LSTMCell", "GRUCell", "RNNCell")
PAGE = " ".join((Path(__file__).parents[1] / "docs" / "drop-in.md").read_text().split())
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def new(*args: Any, **keys: Any) -> Call:
    return lambda library, kind: getattr(library, kind)(*args, **keys)


def call(*args: Any, prepare: Callable[[Any], object] = lambda module: None, **keys: Any) -> Call:
    """Of a module of 4 features and H = 5, with a tensor in the place of each state if hx is one."""

    def run(library: Any, kind: str) -> object:
        module = getattr(library, kind)(4, 5, **keys)
        prepare(module)
        input, *hx = args
        states = [(h, h) if isinstance(h, Tensor) and kind.startswith("LSTM") else h for h in hx]
        return module(input, *states)

    return run


def packed(change: Callable[[Tensor], Tensor] = lambda data: data) -> PackedSequence:
    batch = pack_padded_sequence(torch.randn(6, 5, 4), [6, 5, 4, 2, 1])
    return batch._replace(data=change(batch.data))


def quantized(data: Tensor) -> Tensor:
    return torch.quantize_per_tensor(data, 0.1, 0, torch.qint8)


def flatten(name: str) -> Callable[[nn.Module], None]:
    return lambda module: setattr(module, name, nn.Parameter(module.get_parameter(name).detach().flatten()))


x, y, Z = torch.randn(6, 3, 4), torch.randn(3, 4), torch.zeros
double = nn.Module.double
BOTH = {
    "hidden_size 5.0": new(4, 5.0),
    "hidden_size '5'": new(4, "5"),
    "hidden_size -1": new(4, -1),
    "input_size 4.0": new(4.0, 5),
    "hidden_size None": new(4, None),
    "no hidden_size": new(4),
    "unknown option": new(4, 5, options=1),
    "dtype by name": new(4, 5, dtype="float32"),
    "dtype int64": new(4, 5, dtype=torch.int64),
    "unknown device": new(4, 5, device="nowhere"),
    "device -1": new(4, 5, device=-1),
    "device 1.5": new(4, 5, device=1.5),
}
OF_LAYERS: dict[str, Call] = {
    **BOTH,
    "hidden_size 0": new(4, 0),
    "input_size 0": new(0, 5),
    "num_layers 0": new(4, 5, 0),
    "num_layers 1.5": new(4, 5, 1.5),
    "num_layers '2'": new(4, 5, num_layers="2"),
    "bias 1": new(4, 5, bias=1),
    "bias 'False'": new(4, 5, bias="False"),
    "bias None": new(4, 5, bias=None),
    "batch_first 0": new(4, 5, batch_first=0),
    "batch_first 'True'": new(4, 5, batch_first="True"),
    "dropout 2": new(4, 5, 2, dropout=2.0),
    "dropout -1": new(4, 5, 2, dropout=-1),
    "dropout nan": new(4, 5, 2, dropout=float("nan")),
    "dropout True": new(4, 5, 2, dropout=True),
    "dropout 'x'": new(4, 5, 2, dropout="x"),
    "dropout [0.5]": new(4, 5, 2, dropout=[0.5]),
    "dropout None": new(4, 5, 2, dropout=None),
    "three features": call(Z(6, 3, 3)),
    "1-D input": call(Z(4)),
    "4-D input": call(Z(1, 6, 3, 4)),
    "0-D input": call(torch.tensor(1.0)),
    "no steps": call(Z(0, 3, 4)),
    "no steps, unbatched": call(Z(0, 4)),
    "no steps, no sequences": call(Z(0, 0, 4)),
    "no sequences of three features": call(Z(6, 0, 3)),
    "input list": call([[1.0, 2.0]]),
    "input None": call(None),
    "input double": call(x.double()),
    "input half": call(x.half()),
    "input int": call(x.long()),
    "input bool": call(x > 0),
    "input complex": call(x.to(torch.complex64)),
    "input float, module double": call(x, prepare=double),
    "packed double": call(packed(Tensor.double)),
    "packed three features": call(packed(lambda data: data[:, :3])),
    "packed 3-D": call(packed(lambda data: data.unsqueeze(0))),
    "packed 1-D": call(packed(lambda data: data[:, 0])),
    "hx of one layer for two": call(x, Z(1, 3, 5), num_layers=2),
    "hx of another batch": call(x, Z(1, 2, 5)),
    "hx of another size": call(x, Z(1, 3, 4)),
    "hx 2-D": call(x, Z(3, 5)),
    "hx 4-D": call(x, Z(1, 1, 3, 5)),
    "hx 3-D, input unbatched": call(x[:, 0], Z(1, 1, 5)),
    "hx of two layers, input unbatched": call(x[:, 0], Z(2, 5)),
    "hx of another packed batch": call(packed(), Z(1, 3, 5)),
    "hx 2-D, input packed": call(packed(), Z(5, 5)),
    "hx double": call(x, Z(1, 3, 5).double()),
    "hx int": call(x, Z(1, 3, 5).long()),
    "hx float, module and input double": call(x.double(), Z(1, 3, 5), prepare=double),
    "hx double, input packed": call(packed(), Z(1, 5, 5).double()),
    "hx for no sequences": call(x, Z(1, 0, 5)),
    "hx for sequences, input without": call(Z(6, 0, 4), Z(1, 3, 5)),
    "hx of one": call(x, (Z(1, 3, 5),)),
    "hx of three": call(x, (Z(1, 3, 5),) * 3),
    "hx empty": call(x, ()),
    "hx of None": call(x, (None, None)),
    "hx text": call(x, "ab"),
    "hx for batch_first": call(x, Z(1, 3, 5), batch_first=True),
    "input on meta": call(x.to("meta")),
    "module on meta": call(x, prepare=lambda module: module.to("meta")),
    "hx on meta": call(x, Z(1, 3, 5, device="meta")),
    "packed on meta": call(packed(lambda data: data.to("meta"))),
    "nothing at all": lambda library, kind: getattr(library, kind)(4, 5)(),
}
OF_LSTM: dict[str, Call] = {
    "proj_size 5": new(4, 5, proj_size=5),
    "proj_size -1": new(4, 5, proj_size=-1),
    "proj_size 2.5": new(4, 5, proj_size=2.5),
    "proj_size '2'": new(4, 5, proj_size="2"),
    "c of another type": call(x, (Z(1, 3, 5), Z(1, 3, 5).double())),
    "c of another size": call(x, (Z(1, 3, 5), Z(1, 3, 4))),
    "h not projected": call(x, (Z(1, 3, 5), Z(1, 3, 5)), proj_size=2),
    "hx one tensor": lambda library, kind: getattr(library, kind)(4, 5)(x, Z(1, 3, 5)),
}
OF_CELLS: dict[str, Call] = {
    **BOTH,
    "three features": call(Z(3, 3)),
    "three features, unbatched": call(Z(3)),
    "3-D input": call(Z(1, 3, 4)),
    "0-D input": call(torch.tensor(1.0)),
    "input list": call([1.0, 2, 3, 4]),
    "input None": call(None),
    "input packed": call(packed()),
    "input double": call(y.double()),
    "input half": call(y.half()),
    "input int": call(y.long()),
    "flat weight_ih": call(y, prepare=flatten("weight_ih")),
    "flat weight_hh": call(y, prepare=flatten("weight_hh")),
    "input float, module double": call(y, prepare=double),
    "hx of another batch": call(y, Z(2, 5)),
    "hx of another size": call(y, Z(3, 4)),
    "hx 1-D": call(y, Z(5)),
    "hx 3-D": call(y, Z(1, 3, 5)),
    "hx 2-D, input unbatched": call(y[0], Z(1, 5)),
    "hx double": call(y, Z(3, 5).double()),
    "hx int": call(y, Z(3, 5).long()),
    "hx float, module and input double": call(y.double(), Z(3, 5), prepare=double),
    "hx of one": call(y, (Z(3, 5),)),
    "hx of three": call(y, (Z(3, 5),) * 3),
    "hx of None": call(y, (None, None)),
    "no sequences of three features": call(Z(0, 3)),
    "no sequences, hx for three": call(Z(0, 4), Z(3, 5)),
    "input on meta": call(y.to("meta")),
    "module on meta": call(y, prepare=lambda module: module.to("meta")),
    "hx on meta": call(y, Z(3, 5, device="meta")),
}
CASES: dict[str, tuple[str, Call]] = {
    **{f"{kind}: {name}": (kind, given) for name, given in OF_LAYERS.items() for kind in LAYERS},
    **{f"LSTM: {name}": ("LSTM", given) for name, given in OF_LSTM.items()},
    **{f"{kind}: {name}": (kind, given) for name, given in OF_CELLS.items() for kind in CELLS},
    "LSTMCell: hx one tensor": ("LSTMCell", lambda library, kind: getattr(library, kind)(4, 5)(y, Z(3, 5))),
    "LSTMCell: c of another size": ("LSTMCell", call(y, (Z(3, 5), Z(3, 4)))),
    "RNN: unknown nonlinearity": ("RNN", new(4, 5, nonlinearity="sin")),
}
TORCH_RUNS: dict[str, tuple[tuple[str, ...], Call, str]] = {
    "hidden_size True": (("LSTM", "GRU"), new(4, True), "`True` as a size"),
    "num_layers True": (LAYERS, new(4, 5, True), "`True` as a size"),
    "hidden_size 0": (CELLS, new(4, 0), "sizes of 0 in cells"),
    "input_size 0": (CELLS, new(0, 5), "sizes of 0 in cells"),
    "bias 1": (CELLS, new(4, 5, bias=1), "`bias` must be True or False in cells, too"),
    "bias 'relu'": (CELLS, new(4, 5, bias="relu"), "`bias` must be True or False in cells, too"),
    "unknown nonlinearity": (("RNNCell",), new(4, 5, nonlinearity="sin"), "an unknown `nonlinearity` of a cell"),
}
"""Refused here and not there: by which classes, and how docs/drop-in.md begins the reason."""


def outcome(library: Any, kind: str, given: Call) -> Exception | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            given(library, kind)
        except Exception as error:
            return error
    return None


@pytest.mark.parametrize("case", CASES)
def test_errors_are_torchs(case: str) -> None:
    kind, given = CASES[case]
    theirs, ours = outcome(nn, kind, given), outcome(rnnnorm, kind, given)
    assert theirs is not None
    assert ours is not None, f"torch: {theirs!r}"
    if isinstance(theirs, AttributeError | IndexError):  # torch stumbles over it
        assert isinstance(ours, ValueError | TypeError), repr(ours)
    else:
        assert isinstance(ours, type(theirs)), f"{ours!r} instead of {theirs!r}"


@pytest.mark.parametrize("case", TORCH_RUNS)
def test_refused_by_us_alone(case: str) -> None:
    kinds, given, reason = TORCH_RUNS[case]
    assert reason in PAGE
    for kind in kinds:
        assert outcome(nn, kind, given) is None
        assert isinstance(outcome(rnnnorm, kind, given), ValueError)


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
class TestMessages:
    def test_types(self, norm: str) -> None:
        for rnn in (rnnnorm.LSTM(4, 5, norm=norm), rnnnorm.LSTMCell(4, 5, norm=norm)):
            keys = {"step": 0} if isinstance(rnn, rnnnorm.LSTMCell) else {}
            hx = (Z(3, 5),) * 2 if keys else (Z(1, 3, 5),) * 2
            rows = y if keys else x
            words = r"input is torch.float64, the weights are torch.float32: use input.to\(torch.float32\)"
            with pytest.raises(InputError, match=words + r", or convert the module by .to\(torch.float64\)"):
                rnn(rows.double(), **keys)
            with pytest.raises(InputError, match=r"input is torch.int64, .*use input.to\(torch.float32\)$"):
                rnn(rows.long(), **keys)
            rnn.double()
            with pytest.raises(InputError, match=r"h is torch.float32, .*torch.float64: use h.to\(torch.float64\)"):
                rnn(rows.double(), hx, **keys)

    def test_devices(self, norm: str) -> None:
        rnn = rnnnorm.GRU(4, 5, norm=norm)
        with pytest.raises(InputError, match=r"input is on meta, the weights are on cpu: use .to\('cpu'\)"):
            rnn(x.to("meta"))
        with pytest.raises(InputError, match="h is on meta"):
            rnn(x, Z(1, 3, 5, device="meta"))

    def test_quantized_views(self, norm: str) -> None:
        """Copying such a view would end the process."""
        view = torch._neg_view(quantized(x))
        with pytest.raises(InputError, match=r"input is quantized, torch\.qint8: use input\.dequantize\(\)"):
            rnnnorm.LSTM(4, 5, norm=norm, batch_first=True)(view)
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(InputError, match="h is quantized"):
            rnnnorm.GRU(4, 5, norm=norm)(x, quantized(Z(1, 3, 5)))

    def test_a_vector_of_weights(self, norm: str) -> None:
        """A product with it broadcasts where H = 1."""
        cell = rnnnorm.RNNCell(4, 1, norm=norm)
        flatten("weight_ih")(cell)
        with pytest.raises(InputError, match=r"weight_ih must be a matrix, got shape \(4,\)"):
            cell(y, step=0)

    def test_autocast_converts(self, norm: str) -> None:
        rnn = rnnnorm.LSTM(4, 5, norm=norm)
        with torch.autocast("cpu", torch.bfloat16):
            assert rnn(x.bfloat16())[0].isfinite().all()


def test_a_cell_state_may_be_kept_in_a_wider_type() -> None:
    wide = (Z(3, 5), Z(3, 5).double())
    for cell in (nn.LSTMCell(4, 5), rnnnorm.LSTMCell(4, 5)):
        assert [state.dtype for state in cell(y, wide)] == [torch.float64] * 2
