"""Population statistics: as of one batch, whatever the batches; pooled by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support import assert_same, buffers
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import rnnnorm
from rnnnorm.nn import wavefront
from rnnnorm.norms import step_statistics
from rnnnorm.norms.recorder import Recorder
from rnnnorm.packing import merge

STATEFUL = [n for n in rnnnorm.presets() if rnnnorm.has_batch_statistics(rnnnorm.LSTM(2, 2, norm=n))]
LENGTHS = [[3, 7, 2, 5, 9, 4], [2, 2, 9], [4, 8, 8, 1, 1, 6], [9, 3]]
INPUT, HIDDEN = 3, 4
DOUBLE = torch.float64
SHAPES: dict[str, dict[str, Any]] = {
    "one": {},
    "bi": {"bidirectional": True},
    "stacked": {"num_layers": 2},
    "stacked-bi": {"num_layers": 2, "bidirectional": True},
}


def sequences(seed: int = 1) -> list[list[Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [[torch.randn(n, INPUT, dtype=DOUBLE, generator=random) + 0.3 for n in lengths] for lengths in LENGTHS]


def batches(parts: list[list[Tensor]] | None = None) -> list[PackedSequence]:
    return [pack_sequence(part, enforce_sorted=False) for part in parts or sequences()]


def whole(seed: int = 1) -> PackedSequence:
    return pack_sequence([s for part in sequences(seed) for s in part], enforce_sorted=False)


def moved(cell: type, norm: str, **options: Any) -> Any:
    """A network in double precision whose running averages have seen something."""
    torch.manual_seed(5)
    net = cell(INPUT, HIDDEN, norm=norm, dtype=DOUBLE, max_steps=8, init="orthogonal", **options)
    for batch in batches(sequences(7))[:2]:
        net(batch)
    return net.eval()


def population(model: nn.Module) -> list[Tensor]:
    found = []
    for s in step_statistics(model):
        assert s.population_mean is not None
        found += [s.population_mean.clone(), s.population_var.clone(), s.population_rows.double()]
    return found


def assert_equal(actual: list[Tensor], expected: list[Tensor], tolerance: float = 1e-12) -> None:
    for k, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert_same(a, b, f"statistic {k}", tolerance)


def accepted(cell: type) -> Iterator[Any]:
    """A cell with each norm, in two layers of two directions; an LSTM also in one of the other shapes, in turns."""
    for k, norm in enumerate(STATEFUL):
        try:
            cell(INPUT, HIDDEN, norm=norm)
        except ValueError:
            continue
        for shape in ["stacked-bi", *([list(SHAPES)[k % 3]] if cell is rnnnorm.LSTM else [])]:
            yield pytest.param(cell, norm, shape, id=f"{cell.__name__}-{norm}-{shape}")


@pytest.fixture
def always_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wavefront.stream, "__defaults__", (0,))


class TestConsistent:
    @pytest.mark.parametrize("streamed", [False, True], ids=["at-once", "step-by-step"])
    @pytest.mark.parametrize(
        ("cell", "norm", "shape"), [*accepted(rnnnorm.LSTM), *accepted(rnnnorm.GRU), *accepted(rnnnorm.RNN)]
    )
    def test_of_several_batches_are_those_of_one(
        self, cell: type, norm: str, shape: str, streamed: bool, request: pytest.FixtureRequest
    ) -> None:
        if streamed:
            request.getfixturevalue("always_streamed")
        net = moved(cell, norm, **SHAPES[shape])
        rnnnorm.recalibrate(net, [whole()])
        expected = population(net)
        for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
            rnnnorm.recalibrate(net, [batches()[k] for k in order])
            assert_equal(population(net), expected)

    @pytest.mark.parametrize(
        "options",
        [
            {"residual": "skipinit", "between": "bn:statistics=timestep"},
            {"residual": "plain", "between": "bn:statistics=timestep", "between_on": "sum"},
            {"between": "bn:statistics=sequence"},
            {"between": "bn:statistics=timestep", "bidirectional": True},
            {"proj_size": 2},
            {"peepholes": True},
            {"zoneout": 0.2},
        ],
        ids=str,
    )
    def test_step_by_step_with_all_that_stands_between(self, options: dict[str, Any], always_streamed: None) -> None:
        options = dict(options)
        step = "bn:statistics=timestep:gain=0.1"
        norm = rnnnorm.Norm(input=step, hidden=step, cell=step, between=options.pop("between", None))
        net = moved(rnnnorm.LSTM, norm, num_layers=3, **options)  # type: ignore[arg-type]
        rnnnorm.recalibrate(net, [whole()])
        expected = population(net)
        rnnnorm.recalibrate(net, batches())
        assert_equal(population(net), expected)

    @pytest.mark.parametrize("backend", ["native", "reference"])
    @pytest.mark.parametrize("norm", ["bn-timestep", "bn-shared", "bn-star", "bn-vertical", "bn-joint"])
    def test_backends_agree(self, norm: str, backend: str) -> None:
        net = moved(rnnnorm.LSTM, norm, num_layers=2)
        rnnnorm.recalibrate(net, batches())
        expected = population(net)
        other = moved(rnnnorm.LSTM, norm, num_layers=2, backend=backend)
        rnnnorm.recalibrate(other, batches())
        assert_equal(population(other), expected, 1e-11)

    @pytest.mark.parametrize("shape", ["one", "stacked-bi"])
    @pytest.mark.parametrize("norm", ["bn-timestep", "bn-star", "bn-vertical", "bn-joint", "brn"])
    def test_evaluation_computes_what_the_one_batch_did(self, norm: str, shape: str) -> None:
        """Up to Bessel's correction, which is taken back here; every slot has several rows."""
        net = moved(rnnnorm.LSTM, norm, **SHAPES[shape])
        x = torch.randn(6, 20, INPUT, dtype=DOUBLE)
        rnnnorm.recalibrate(net, list(x.split(5, 1)), rows=None)
        for s in step_statistics(net):
            n = s.population_rows.double().unsqueeze(1)
            s.population_var *= (n - 1).clamp(min=1) / n.clamp(min=1)
        with rnnnorm.statistics(net, "population"):
            stored = net(x)[0]
        with rnnnorm.statistics(net, "batch"):
            own = net(x)[0]
        assert_same(stored, own, "output", 1e-10)

    def test_rows_are_normalized_by_the_numbers_that_are_stored(self) -> None:
        """Where all rows agree, a mean that is rounded in another way is an error that γ/√ε multiplies."""
        torch.manual_seed(1)
        net = rnnnorm.LSTM(INPUT, 16, norm="bn-timestep", backend="reference", max_steps=4).eval()
        x = torch.randn(3, 1, INPUT).expand(3, 4000, INPUT)  # constant at every step, so every output is N_cell's bias
        rnnnorm.recalibrate(net, [x])
        with rnnnorm.statistics(net, "population"):
            assert net(x)[0].abs().max() < 1e-4

    def test_pooled_ones_are_of_another_network(self) -> None:
        net = moved(rnnnorm.LSTM, "bn-timestep")
        rnnnorm.recalibrate(net, batches())
        consistent = population(net)
        rnnnorm.recalibrate(net, batches(), way="pooled")
        assert any((a - b).abs().max() > 1e-3 for a, b in zip(population(net), consistent, strict=True))

    def test_a_single_sequence_of_late_steps_is_normalized_as_in_evaluation(self) -> None:
        """Not by running averages, which have nothing to do with the population."""
        net = moved(rnnnorm.LSTM, "bn-timestep", num_layers=2, bidirectional=True)
        x = pack_sequence([torch.randn(n, INPUT, dtype=DOUBLE) for n in (8, 5, 4, 4)])
        rnnnorm.recalibrate(net, [x])
        expected = population(net)
        for s in step_statistics(net):
            s.running_mean += 5
        rnnnorm.recalibrate(net, [x])
        assert_equal(population(net), expected, 0.0)

    def test_a_min_rows_above_two_is_about_training(self) -> None:
        few, many = (moved(rnnnorm.LSTM, f"bn-timestep:min_rows={n}") for n in (2, 6))
        for net in (few, many):
            rnnnorm.recalibrate(net, batches())
        assert_equal(population(many), population(few), 0.0)


class Two(nn.Module):
    """Two networks, normalization by itself and a layer without: in a row, or the first one twice."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        keys: dict[str, Any] = {"dtype": DOUBLE, "max_steps": 9}
        self.first = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep", **keys)
        self.norm = rnnnorm.RaggedBatchNorm(HIDDEN, statistics="timestep", **keys)
        self.plain = rnnnorm.LSTM(HIDDEN, HIDDEN, dtype=DOUBLE)
        self.second = rnnnorm.GRU(HIDDEN, INPUT, norm="bn-star", bidirectional=True, **keys)
        self.again = again

    def forward(self, x: PackedSequence) -> Any:
        h, _ = self.first(x)
        if self.again:
            self.first(PackedSequence(h.data[:, :INPUT], *h[1:]))
        h, _ = self.plain(self.norm(h))
        return self.second(h)[0].data


class TestModels:
    def test_networks_in_a_row(self) -> None:
        model = Two()
        rnnnorm.recalibrate(model, [whole()])
        expected = population(model)
        rnnnorm.recalibrate(model, batches())
        assert_equal(population(model), expected)

    def test_the_variances_stored_in_the_end_are_unbiased(self) -> None:
        model = Two()
        rnnnorm.recalibrate(model, batches())
        expected = population(model)
        found: list[Tensor] = []
        model.norm.register_forward_pre_hook(lambda module, args: found.append(args[0].data))
        with rnnnorm.statistics(model, "batch"):
            rnnnorm.recalibrate(model, [whole()])
        first_step = found[-1][: sum(map(len, LENGTHS))]
        assert_same(model.norm.norm.stats.population_var[0], first_step.var(0), "variance", 1e-12)
        assert_equal(population(model), expected)

    def test_a_network_that_runs_twice(self) -> None:
        """Its runs are sequences of one batch: as if both inputs had been in it."""
        model = Two(again=True)
        rnnnorm.recalibrate(model, batches())
        pooled = population(model.first)
        rows = model.first.norms("_l0").hidden.stats.population_rows
        assert int(rows[0]) == 2 * sum(map(len, LENGTHS))
        rnnnorm.recalibrate(model, [whole()])
        assert population(model.first)[0].isfinite().all()
        assert len(pooled) == len(population(model.first))

    def test_siamese_networks_do_not_care_how_their_calls_are_batched(self) -> None:
        class Siamese(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lstm = moved(rnnnorm.LSTM, "bn-timestep")

            def forward(self, pair: tuple[PackedSequence, PackedSequence]) -> Tensor:
                return self.lstm(pair[0])[1][0].sum() - self.lstm(pair[1])[1][0].sum()

        model = Siamese()
        a, b, c, d = batches()
        rnnnorm.recalibrate(model, [(a, b), (c, d)])
        expected = population(model)
        rnnnorm.recalibrate(model.lstm, [whole()])
        assert_equal(population(model), expected)

    def test_a_loop_over_cells_takes_one_batch(self) -> None:
        class Loop(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.cell = rnnnorm.LSTMCell(INPUT, HIDDEN, norm="bn-timestep", dtype=DOUBLE)

            def forward(self, x: Tensor) -> Any:
                state = None
                for t, rows in enumerate(x):
                    state = self.cell(rows, state, step=t)
                return state

        loop = Loop()
        x = torch.randn(4, 6, INPUT, dtype=DOUBLE)
        rnnnorm.recalibrate(loop, [x])
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep", dtype=DOUBLE)
        for name, value in loop.cell.state_dict().items():
            if "population" not in name:
                own = name.replace("norms", "norms_l0") if "norms" in name else f"{name}_l0"
                lstm.state_dict()[own].copy_(value)
        rnnnorm.recalibrate(lstm, list(x.split(2, 1)))
        assert_equal(
            [s.population_mean[:4] for s in step_statistics(loop)],
            [s.population_mean[:4] for s in step_statistics(lstm)],
        )
        with pytest.raises(ValueError, match='those of several are not; give one batch, or way="pooled"'):
            rnnnorm.recalibrate(loop, list(x.split(3, 1)))
        rnnnorm.recalibrate(loop, list(x.split(3, 1)), way="pooled")

    def test_steps_beyond_the_last_slot_do_not_depend_on_how_sequences_are_batched(self) -> None:
        class Chain(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep:gain=1", max_steps=5, dtype=DOUBLE)
                self.norm = rnnnorm.RaggedBatchNorm(HIDDEN, statistics="timestep", max_steps=20, dtype=DOUBLE)

            def forward(self, x: Tensor) -> Tensor:
                return self.norm(self.lstm(x)[0])

        model = Chain()
        x = torch.randn(20, 32, INPUT, dtype=DOUBLE) + torch.linspace(0, 9, 20, dtype=DOUBLE).view(-1, 1, 1)
        rnnnorm.recalibrate(model, [x])
        expected = population(model)
        rnnnorm.recalibrate(model, list(x.split(8, 1)))
        assert_equal(population(model), expected)

    def test_copies_of_a_model_have_as_many_buffers_before_and_after(self) -> None:
        net = moved(rnnnorm.LSTM, "bn-timestep")
        before = [name for name, _ in net.named_buffers()]
        rnnnorm.recalibrate(net, batches())
        assert [name for name, _ in net.named_buffers()] == before
        assert {name for name in net.state_dict() if "population" in name}
        halved = copy.deepcopy(net).to(torch.bfloat16)
        assert_equal(population(halved), population(net), 0.0)

    def test_what_no_batch_uses_has_no_population(self) -> None:
        model = nn.ModuleList([moved(rnnnorm.LSTM, "bn-timestep") for _ in range(2)])
        for used in ([whole()], batches()):
            for way in ("consistent", "pooled"):
                rnnnorm.recalibrate(model, used, forward=model[0], way=way)
                assert all(s.population_mean is not None for s in step_statistics(model[0]))
                assert all(s.population_mean is None for s in step_statistics(model[1]))
        with rnnnorm.statistics(model, "population"), pytest.raises(RuntimeError, match="no population statistics yet"):
            model[1](whole())

    def test_a_compiled_network(self) -> None:
        net = moved(rnnnorm.LSTM, "bn-timestep")
        rnnnorm.recalibrate(net, batches())
        expected = population(net)
        rnnnorm.recalibrate(torch.compile(net, backend="eager"), batches())
        assert_equal(population(net), expected)


class TestLoaders:
    def test_memory_that_is_used_again(self) -> None:
        net = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep")
        data = [torch.randn(6, 8, INPUT) for _ in range(4)]

        def reusing() -> Iterator[Tensor]:
            buffer = torch.empty(6, 8, INPUT)
            for part in data:
                yield buffer.copy_(part)

        rnnnorm.recalibrate(net, reusing())
        found = population(net)
        rnnnorm.recalibrate(net, data)
        assert_equal(found, population(net), 0.0)

    @pytest.mark.parametrize("way", ["consistent", "pooled"])
    def test_no_more_is_read_than_is_needed(self, way: str) -> None:
        for model, forward in self.models():
            read = []

            def endless(read: list[int] = read) -> Iterator[Tensor]:
                while True:
                    read.append(1)
                    yield torch.randn(5, 8, INPUT)

            rnnnorm.recalibrate(model, endless(), forward, rows=8, way=way)
            assert len(read) == 1

    def test_an_endless_loader_of_batches_for_a_loop_over_cells_is_refused_at_once(self) -> None:
        (_, (model, forward)) = self.models()
        with pytest.raises(ValueError, match="give one batch"):
            rnnnorm.recalibrate(model, (torch.randn(5, 8, INPUT) for _ in iter(int, 1)), forward, rows=9)

    @staticmethod
    def models() -> list[tuple[nn.Module, Any]]:
        cell = rnnnorm.LSTMCell(INPUT, HIDDEN, norm="bn-timestep")

        def loop(x: Tensor) -> None:
            state = None
            for t, rows in enumerate(x):
                state = cell(rows, state, step=t)

        return [(rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep"), None), (cell, loop)]

    @pytest.mark.parametrize("count", [1, 4])
    def test_autocast_around_the_model(self, count: int) -> None:
        model = nn.Sequential(nn.Linear(INPUT, INPUT), rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep"))

        def forward(x: Tensor) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return model(x)

        rnnnorm.recalibrate(model, torch.randn(6, 16, INPUT).split(16 // count, 1), forward)
        assert all(part.isfinite().all() for part in population(model))

    @pytest.mark.parametrize(
        "sequences", [[torch.randn(6, 1, INPUT)], iter([torch.randn(6, 1, INPUT)])], ids=["list", "generator"]
    )
    def test_one_sequence_has_no_variance(self, sequences: Any) -> None:
        net = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep")
        with pytest.raises(ValueError, match="at least two sequences"):
            rnnnorm.recalibrate(net, sequences)


class TestNoise:
    def test_on_the_initial_state_is_part_of_the_population(self) -> None:
        net = moved(rnnnorm.LSTM, "bn-timestep", initial_state_noise=0.5)
        rnnnorm.recalibrate(net, [torch.randn(3, 500, INPUT, dtype=DOUBLE)])
        hidden = net.norms("_l0").hidden.stats
        W = net.weight_hh_l0.detach()
        assert_same(
            hidden.population_var[0] / (0.25 * (W**2).sum(1)), torch.ones(4 * HIDDEN, dtype=DOUBLE), "ratio", 0.4
        )
        with rnnnorm.statistics(net, "population"):
            x = torch.randn(3, 2, INPUT, dtype=DOUBLE)
            assert torch.equal(net(x)[0], net(x)[0]), "evaluation draws nothing"

    @pytest.mark.parametrize("way", ["consistent", "pooled"])
    def test_random_streams_stay_where_they_were(self, way: str) -> None:
        net = moved(rnnnorm.LSTM, "bn-timestep", initial_state_noise=0.5)
        before = torch.get_rng_state()
        rnnnorm.recalibrate(net, batches(), way=way, as_trained=True)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(
        "options",
        [
            {"dropout": 0.5},
            {"variational_dropout": 0.5},
            {"hidden_dropout": 0.5},
            {"weight_dropout": 0.5},
            {"zoneout": 0.5},
        ],
        ids=str,
    )
    def test_dropout_is_drawn_only_if_asked_for(self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        net = moved(rnnnorm.LSTM, "bn-timestep", num_layers=2, **options)
        rnnnorm.recalibrate(net, batches())
        expected = population(net)
        rnnnorm.recalibrate(net, batches())
        assert_equal(population(net), expected, 0.0)
        for limit in (wavefront.LIMIT, 0):
            monkeypatch.setattr(wavefront.stream, "__defaults__", (limit,))
            rnnnorm.recalibrate(net, batches(), as_trained=True)
            assert any((a - b).abs().max() > 1e-3 for a, b in zip(population(net), expected, strict=True))
        assert not any(module.training for module in net.modules())

    def test_as_trained_draws_dropout_modules_and_moves_no_statistics(self) -> None:
        model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(INPUT, dtype=DOUBLE), moved(rnnnorm.LSTM, "bn-timestep"))
        x = [torch.randn(6, INPUT, dtype=DOUBLE) for _ in range(3)]  # each an unbatched sequence
        before = buffers(model)
        rnnnorm.recalibrate(model, x)
        without = population(model)
        rnnnorm.recalibrate(model, x, as_trained=True)
        assert any((a - b).abs().max() > 1e-3 for a, b in zip(population(model), without, strict=True))
        after = buffers(model)
        assert all(torch.equal(value, after[name]) for name, value in before.items())


class TestArguments:
    def test_rows(self) -> None:
        net = moved(rnnnorm.LSTM, "bn-timestep")
        read: list[int] = []

        def counted() -> Iterator[PackedSequence]:
            for k, batch in enumerate(batches()):
                read.append(k)
                yield batch

        for way in ("consistent", "pooled"):
            for rows, used in ((2, 1), (6, 1), (7, 2), (10, 3), (None, 4)):
                read.clear()
                rnnnorm.recalibrate(net, counted(), rows=rows, way=way)
                hidden = net.norms("_l0").hidden.stats.population_rows
                assert int(hidden[0]) == sum(len(part) for part in LENGTHS[:used])
                assert len(read) <= max(used, 2)

    @pytest.mark.parametrize("wrong", [1, 0, -3, 2.5, True, "all"])
    def test_wrong_rows(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match=f"rows must be an integer of at least 2.*got {wrong!r}"):
            rnnnorm.recalibrate(moved(rnnnorm.LSTM, "bn-timestep"), batches(), rows=wrong)

    def test_wrong_way(self) -> None:
        with pytest.raises(ValueError, match="way must be one of consistent, pooled, got 'exact'"):
            rnnnorm.recalibrate(moved(rnnnorm.LSTM, "bn-timestep"), batches(), way="exact")

    def test_a_model_of_two_arguments_is_told_of_forward(self) -> None:
        class Pair(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lstm = moved(rnnnorm.LSTM, "bn-timestep")

            def forward(self, x: PackedSequence, scale: float) -> Any:
                return self.lstm(x)

        with pytest.raises(TypeError, match=r"Pair does not take a batch.*'scale'.*forward=lambda batch"):
            rnnnorm.recalibrate(Pair(), batches())
        rnnnorm.recalibrate(pair := Pair(), batches(), forward=lambda batch: pair(batch, 1.0))

    def test_a_batch_the_model_does_not_understand(self) -> None:
        with pytest.raises(TypeError) as error:
            rnnnorm.recalibrate(moved(rnnnorm.LSTM, "bn-timestep"), [(batches()[0], 1)])
        assert any("forward=lambda batch" in note for note in error.value.__notes__)

    def test_nothing_is_lost_when_something_fails(self) -> None:
        model = Two()
        rnnnorm.recalibrate(model, batches())
        before, calls = population(model), []

        def failing(batch: PackedSequence) -> Any:
            calls.append(1)
            if len(calls) > 6:
                raise RuntimeError("out of memory")
            return model(batch)

        with pytest.raises(RuntimeError, match="out of memory"):
            rnnnorm.recalibrate(model, batches(sequences(9)), forward=failing)
        assert_equal(population(model), before, 0.0)
        assert all(s.accumulator is None and s.source is None for s in step_statistics(model))
        assert model.first.recorder is None


def _in_packed_order(batch: PackedSequence) -> tuple[Tensor, Tensor]:
    """Padded sequences (B, T, F) and their lengths, longest first."""
    padded, lengths = pad_packed_sequence(PackedSequence(batch.data, batch.batch_sizes))
    return padded.transpose(0, 1), lengths


class TestMerging:
    def test_rows_and_states_find_their_places(self) -> None:
        together = batches()
        order, sizes, row = merge([batch.batch_sizes for batch in together])
        assert torch.equal(sizes, whole().batch_sizes)
        merged = pad_packed_sequence(PackedSequence(torch.cat([batch.data for batch in together])[row], sizes))[0]
        before = [
            (sequence, int(n)) for batch in together for sequence, n in zip(*_in_packed_order(batch), strict=True)
        ]
        assert sorted(order.tolist()) == list(range(len(before)))
        for place, sequence in enumerate(order.tolist()):
            expected, length = before[sequence]
            assert torch.equal(merged[:length, place], expected[:length])
            assert not merged[length:, place].any()

    def test_states_travel_with_their_sequences(self) -> None:
        net = rnnnorm.LSTM(1, 1, norm="bn-timestep")
        recorder = Recorder()
        with recorder.listening(net), torch.no_grad():
            for k, lengths in enumerate(LENGTHS):
                lengths = sorted(lengths, reverse=True)
                name = torch.tensor([10.0 * k + j for j in range(len(lengths))])  # of each sequence, in input and state
                x = name.view(1, -1, 1).expand(lengths[0], -1, -1)
                net(pack_padded_sequence(x, lengths), (name.view(1, -1, 1), -name.view(1, -1, 1)))
        one = recorder.as_one_batch()
        B = int(one.batch_sizes[0])
        assert torch.equal(one.states[0][0], one.data[:B])
        assert torch.equal(one.states[1][0], -one.data[:B])

    def test_memory_is_that_of_inputs_and_states(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No tensor as large as the pre-activations of all steps is ever made."""
        net = rnnnorm.LSTM(1, 32, norm="bn-timestep", max_steps=50)
        x = torch.randn(50, 64, 1)
        largest = 0

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                nonlocal largest
                result = func(*args, **(kwargs or {}))
                if isinstance(result, Tensor) and not result._is_view():
                    largest = max(largest, result.numel())
                return result

        run: Callable[[], None] = lambda: rnnnorm.recalibrate(net, list(x.split(16, 1)), rows=None)  # noqa: E731
        monkeypatch.setattr(wavefront.stream, "__defaults__", (0,))
        with Watch():
            run()
        # The watcher looks into operators, so the batches that are recorded run by plain ones, which keep their gates.
        assert largest <= 50 * 16 * 4 * 32, "the gates of one of the batches that were recorded"
