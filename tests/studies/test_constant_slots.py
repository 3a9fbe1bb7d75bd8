"""The study of almost constant slots: what is exchanged, theory, effects, a tiny real run."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from studies.tables import made, run_tiny

from rnnnorm.data import TemporalOrder
from rnnnorm.data.synthetic import Generated
from rnnnorm.norms import recalibrate, statistics
from rnnnorm.studies.constant_slots import ConstantSlots
from rnnnorm.studies.data.languages import Lexicon
from rnnnorm.studies.data.opened import OpenedLexicon
from rnnnorm.studies.data.scaling import BadlyScaled
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures import slots
from rnnnorm.studies.measures.mended import BASES, Mended
from rnnnorm.studies.measures.slot_effects import CONTROLS, shares
from rnnnorm.tasks import Classification, SequenceTask

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = {claim.key for claim in ConstantSlots.claims}
DATA = TemporalOrder(num_train=48, num_val=2, num_test=12, min_length=10, max_length=16, batch_size=16)


def study(quick: bool = True, **keys: Any) -> ConstantSlots:
    return ConstantSlots(load("constant-slots", quick=quick, **keys))


def table(agrees: bool, **keys: Any) -> pd.DataFrame:
    """A world in which all claims are true, or all are false."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        task, jitter = str(trial.conditions["task"]), 1e-3 * trial.seed
        about = {"unit": "nats" if task in ("opened", "language", "chorales") else "accuracy"}
        small, large = 1e-3 + jitter, 0.5 + jitter
        plain = trial.norm in ("bn-timestep", "bn-star") and not trial.conditions["noise"]
        yield {"quantity": "diverged", "value": 0.0}
        for base in ("running", "pooled"):
            gap = large if plain or not agrees else small
            yield {**about, "quantity": "score", "base": base, "taken": "all", "value": 0.9}
            yield {**about, "quantity": "score", "base": base, "taken": "none", "value": 0.9 - gap}
            if not plain:
                continue
            lost = {"none": large, "constant": small, "settled": small, "floor": small, "others": large}
            if not agrees:
                lost = dict.fromkeys(lost, large) | {"others": small}
            if task in CONTROLS:
                lost["none"] = small if agrees else large
            for taken, value in lost.items():
                yield {**about, "quantity": "lost", "base": base, "taken": taken, "value": value}
            for taken in ("none", "settled"):
                value = small if agrees else large
                yield {**about, "quantity": "exact", "base": base, "taken": taken, "value": value}
            for above in (0.3, 3, 30):
                value = small if above < 10 else large
                yield {**about, "quantity": "left", "base": base, "above": above, "value": value}
        if not plain:
            return
        yield {**about, "quantity": "constant", "value": 5}
        yield {**about, "quantity": "slots", "value": 90}
        for number in (100, 1000):
            yield {**about, "quantity": "gained", "rows": number, "value": large if agrees else small}
        for slot in ("constant", "ordinary"):
            for size in (1e-4, 1e-2, 1.0):
                value = large if (slot == "constant") is agrees else small
                yield {**about, "quantity": "injected", "slot": slot, "size": size, "value": value * size / 1e-2}
            for shift in (0.1, 1.0):
                yield {**about, "quantity": "shifted", "slot": slot, "shift": shift, "value": large * shift}

    return made(study(**keys).trials(), rows)


def network(norm: str = "bn-timestep") -> SequenceTask:
    """A network with running averages of a few batches and weights that are not those of its start."""
    torch.manual_seed(0)
    model = Classification(DATA.spec, norm=norm, hidden_size=6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
        for batch in DATA.train_dataloader():
            model.scores(batch)
    return model.eval()


def chosen(model: SequenceTask, step: int) -> slots.Slots:
    return [torch.arange(len(norm.stats.num_rows)) == step for norm in slots.normalizers(model)]


def consistent(model: SequenceTask) -> slots.Moments:
    recalibrate(model, DATA.training_sample(48), forward=model.encode, rows=None)
    return slots.stored(model)


def output(model: SequenceTask) -> torch.Tensor:
    with torch.no_grad(), statistics(model, "population"):
        return model(next(iter(DATA.test_dataloader())).input)[0]


def test_only_the_named_slots_are_exchanged() -> None:
    model = network()
    running, right = slots.stored(model, "running"), consistent(model)
    before = deepcopy(running)
    mixed = slots.exchanged(running, right, chosen(model, 1))
    for old, new, other in zip(running, mixed, right, strict=True):
        for a, b, c in zip(old, new, other, strict=True):
            assert b[1].equal(c[1])
            assert b[:1].equal(a[:1])
            assert b[2:].equal(a[2:])
    assert any(not a[0][1].equal(c[0][1]) for a, c in zip(running, right, strict=True))
    for old, kept in zip(before, running, strict=True):
        assert all(a.equal(b) for a, b in zip(old, kept, strict=True))
    everything = [chosen(model, 1)[0] | True for _ in right]
    slots.put(model, slots.exchanged(running, right, everything))
    mended = output(model)
    slots.put(model, right)
    assert mended.equal(output(model))
    slots.put(model, running)
    assert not mended.allclose(output(model), atol=1e-3)


def test_running_averages_put_as_those_of_the_population_evaluate_alike() -> None:
    model = network()
    with torch.no_grad(), statistics(model, "running"):
        expected = model(next(iter(DATA.test_dataloader())).input)[0]
    slots.put(model, slots.stored(model, "running"))
    assert output(model).allclose(expected, atol=1e-6)


def test_moments_are_not_copied_before_there_are_any() -> None:
    with pytest.raises(ValueError, match="recalibrate"):
        slots.stored(network())


def test_the_shift_that_an_error_makes_is_that_of_theory() -> None:
    model = network()
    right = consistent(model)
    number, step = 0, 4
    norm = slots.normalizers(model)[number]
    found = []
    hook = norm.register_forward_hook(lambda module, args, y: found.append(y) if args[1] == step else None)
    here = [one & (k == number) for k, one in enumerate(chosen(model, step))]
    for moments in (right, slots.with_error(right, here, [0.03] * len(right))):
        slots.put(model, moments)
        output(model)
    hook.remove()
    sign = 1 - 2 * (torch.arange(found[0].shape[1]) % 2)
    shift = (found[1] - found[0]).double()
    expected = -0.03 * sign * slots.multipliers(model, right)[number][step] * norm.gain.detach().sign()
    assert shift.allclose(expected.expand_as(shift), rtol=1e-3, atol=1e-6)


def test_amplification_is_largest_where_all_sequences_agree() -> None:
    model = network()
    right = consistent(model)
    by = slots.amplification(model, right)
    norms = slots.normalizers(model)
    assert float(by[0][0]) == pytest.approx(float(norms[0].gain.abs().median()) / 1e-5**0.5, rel=0.05)
    assert float(by[0][1:8].max()) < 3  # symbols differ there
    most, middle = slots.one_slot(by, right, 1.0), slots.one_slot(by, right, 0.5)
    assert sum(int(one.sum()) for one in most) == sum(int(one.sum()) for one in middle) == 1
    reached = [rows >= 0.5 * rows.max() for _, _, rows in right]
    whole = torch.cat([a[there] for a, there in zip(by, reached, strict=True)])
    assert float(torch.cat(by)[torch.cat(most)]) == float(whole.max())
    below = int((whole < float(torch.cat(by)[torch.cat(middle)])).sum())
    assert abs(below - len(whole) / 2) <= 1


def test_slots_with_one_row_amplify_nothing() -> None:
    model = network()
    mean, var, rows = slots.stored(model, "running")[0]
    rows[3] = 1
    others = slots.stored(model, "running")[1:]
    assert float(slots.amplification(model, [(mean, var * 0, rows), *others])[0][3]) == 0.0


def test_a_slot_that_is_settled_absorbs_what_came_before_it_and_leaves_all_others() -> None:
    model = network()
    right = consistent(model)
    step = 1
    wrong = slots.with_error(right, chosen(model, 0), [0.1] * len(right))
    slots.put(model, wrong)
    slots.settle(model, DATA.training_sample(48)[0], chosen(model, step))
    settled = slots.stored(model)
    for old, new in zip(wrong, settled, strict=True):
        rest = torch.arange(len(old[2])) != step
        assert all(a[rest].equal(b[rest]) for a, b in zip(old, new, strict=True))
    hidden = 1  # W_hh h: its input at step 1 is what step 0 put out
    off = (settled[hidden][0] - right[hidden][0])[step].abs().max()
    slots.put(model, right)
    slots.settle(model, DATA.training_sample(48)[0], chosen(model, step))
    for (mean, _, _), (again, _, _) in zip(right, slots.stored(model), strict=True):
        assert (again - mean).abs().max() < 0.1 * off  # Bessel's correction of the slots before


def test_variances_have_a_floor() -> None:
    right = consistent(network())
    for (_, before, _), (_, after, _) in zip(right, slots.floored(right, 0.01), strict=True):
        assert float(after.min()) == pytest.approx(0.01)
        assert after[before > 0.01].equal(before[before > 0.01])


def test_what_is_lost_is_counted_from_one_consistent_batch() -> None:
    model = network()
    mended = Mended(model, DATA, 1.0, 48)
    rows = [*mended.by_base(), *mended.exchanges(3.0, [0.0, 1e9], 0.01), *mended.samples([8])]
    m = pd.DataFrame(rows)
    scores = {(row.base, row.taken): row.value for row in where(m, quantity="score").itertuples()}
    assert scores["running", "all"] == scores["pooled", "all"] == mended.best
    for base in ("running", "pooled"):
        none = float(where(m, quantity="lost", base=base, taken="none")["value"].item())
        assert none == pytest.approx(mended.best - scores[base, "none"])
        assert float(where(m, quantity="left", base=base, above=1e9)["value"].item()) == pytest.approx(none)
    worse = pd.DataFrame(Mended(model, DATA, -1.0, 48).by_base())
    assert where(worse, base="running", taken="none")["value"].item() == -scores["running", "none"]


@pytest.mark.parametrize("cls", [TemporalOrder, BadlyScaled])
def test_in_64_bits_pooled_moments_of_one_batch_are_consistent(cls: type[Generated]) -> None:
    """With one training batch pooling mixes nothing, and rounding would be all that is lost."""
    data = cls(num_train=48, num_val=2, num_test=12, min_length=10, max_length=16, batch_size=48)
    torch.manual_seed(1)
    model = Classification(data.spec, norm="bn-timestep:gain=1.0", hidden_size=6, max_steps=20).double().eval()
    mended = Mended(model, data, 1.0, 48)
    m = pd.DataFrame(mended.exactly(3.0))
    assert {*zip(m["base"], m["taken"], strict=True)} == {(b, t) for b in BASES for t in ("none", "settled")}
    for (mean, var, _), (right, spread, _) in zip(mended.bases["pooled"], mended.right, strict=True):
        assert mean.dtype == torch.float64
        assert torch.allclose(mean, right, atol=1e-9)
        assert torch.allclose(var, spread, atol=1e-9)
    assert where(m, base="pooled")["value"].abs().max() < 1e-6


def test_the_opened_language_differs_in_its_first_symbol_alone() -> None:
    keys: dict[str, Any] = {"num_train": 8, "num_val": 2, "num_test": 2, "min_length": 6, "max_length": 12}
    plain, opened = Lexicon(**keys), OpenedLexicon(**keys)
    assert opened.spec.vocabularies == (plain.spec.vocabularies[0] + 1,)
    for (rows, targets), (others, same) in zip(plain.examples("train"), opened.examples("train"), strict=True):
        assert int(others[0]) == opened.sign == opened.spec.vocabularies[0] - 1
        assert others[1:].equal(rows[1:])
        assert same.equal(targets)


def test_cures_are_compared_with_consistent_statistics_of_plain_training() -> None:
    cases = {verdict.claim.key: verdict for verdict in study().judge(table(True))}
    assert cases["mute"].headline.effect.mean == pytest.approx(1e-3 + 1e-3)
    assert {case.condition for case in cases["noise"].cases} == {"temporal order"}
    said = " ".join(study().findings(table(True)))
    assert "temporal order, bn-timestep: one consistent batch 0.900, " in said
    assert "5 of 90 slots are almost constant. Running averages lose 0.501; with these slots copied 0.002" in said


def test_shares_are_of_what_is_lost_and_of_no_less_than_counts() -> None:
    m = table(True)
    assert shares(m)["value"].tolist() == pytest.approx(
        [1 - (1e-3 + 1e-3 * seed) / (0.5 + 1e-3 * seed) for seed in shares(m)["seed"]]
    )
    assert set(shares(m)["task"]) == {"order", "opened"}  # nothing is lost by controls
    m.loc[(m["task"] == "order") & (m["taken"] == "none"), "value"] = 0.02
    assert set(shares(m)["task"]) == {"opened"}


def test_chorales_count_from_more_nats(tmp_path: Path) -> None:
    m = table(True, data_dir=str(tmp_path))
    whole = ConstantSlots(load("constant-slots", quick=True, data_dir=str(tmp_path)))
    by_key = {verdict.claim.key: verdict for verdict in whole.judge(m)}
    needed = {case.condition.split(",")[0]: case.needed for case in by_key["controls"].cases}
    assert needed == {
        "order": 0.02, "language": 0.02, "permuted MNIST": 0.02, "spoken digits": 0.02, "chorales": 0.1,
    }  # fmt: skip
    assert {case.condition.split(",")[0] for case in by_key["others"].cases} == {
        "temporal order", "language after a sign", "rows of MNIST",
    }  # fmt: skip


def test_networks_without_stored_statistics_and_those_that_diverged() -> None:
    trial = Trial({"task": "order", "noise": 0.0}, "ln", 0, {})
    assert list(study().evaluate(trial, SimpleNamespace(), network("ln"), DATA)) == []  # type: ignore[arg-type]
    lost: Any = SimpleNamespace(diverged=True, rows=lambda: iter([]), data=lambda: DATA, spec=DATA.spec)
    assert [row["value"] for row in study().measure(trial, lost)] == [0.25]


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = (
        "seeds: 1\nnorms: [bn-timestep]\n"
        "options: {rows: 16, samples: [8], errors: [0.01], shifts: [0.1], above: [3], cured: [order], "
        "cures: [{norm: bn-timestep, noise: 0.1}]}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1}\n"
        "data: {class_path: rnnnorm.data.TemporalOrder, init_args: {num_train: 16, num_val: 4, num_test: 8, "
        "min_length: 10, max_length: 12, batch_size: 8}}\n"
    )
    m = run_tiny("constant-slots", settings, tmp_path)
    assert {"score", "lost", "exact", "left", "gained", "injected", "shifted", "constant"} <= set(m["quantity"])
    assert where(m, quantity="lost")["taken"].nunique() == 6
