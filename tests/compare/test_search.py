"""What `--tune` takes, and the points that all norms try."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.search import Dimension, Search, Widening, gather, parse_dimension, parse_tune

if TYPE_CHECKING:
    from tests.compare.conftest import Small

pytestmark = pytest.mark.filterwarnings("ignore")
RATE = Dimension("model.learning_rate", "log", 1e-4, 1e-1, reach=(2, 2))
DROPOUT = Dimension("model.dropout", "lin", 0.0, 0.5)


def search_of(small: Small, *args: str) -> Search:
    found = Comparison(["-c", str(small.config), *args]).search
    assert found is not None
    return found


def test_points_are_the_same_each_time_and_those_of_fewer_trials_come_first() -> None:
    few, many = (Search((RATE, DROPOUT), trials, rounds=2) for trials in (5, 12))
    for number in range(2):
        points = many.points(number)
        assert [p.values for p in points] == [p.values for p in many.points(number)]
        assert [p.values for p in points[:5]] == [p.values for p in few.points(number)]
    assert many.points(0)[0].values != many.points(1)[0].values


def test_points_fill_the_range_evenly() -> None:
    values = sorted(point[RATE.key] for point in Search((RATE,), 8).points(0))
    edges = [1e-4 * 1e3 ** (k / 8) for k in range(9)]
    assert all(low <= value <= high for value, low, high in zip(values, edges, edges[1:], strict=False))


def test_added_points_lie_beyond_the_range_and_do_not_move_when_the_search_grows() -> None:
    for end, low, high in (("low", 1e-6, 1e-4), ("high", 1e-1, 10.0)):
        widenings = [Widening(RATE.key, end, times) for times in (1, 2)]
        found = Search((RATE, DROPOUT), 8).points(0, widenings)
        assert len({point.name for point in found}) == 8 + 2 * 3
        for point in found[8:]:
            assert low <= point[RATE.key] <= high
            assert 0 <= point[DROPOUT.key] <= 0.5
        grown = {point.name: point.values for point in Search((RATE, DROPOUT), 16).points(0, widenings)}
        assert all(grown[point.name] == point.values for point in found)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ("log:1e-3..1", {float}),
        ("lin:-1..1", {float}),
        ("int:1..3", {int}),
        ("adam|sgd", {str}),
        ([True, None], {bool, type(None)}),
    ],
)
def test_values_have_the_type_of_their_range(given: Any, kinds: set[type]) -> None:
    dim = parse_dimension("key", given, 1)
    found = {dim.value(k / 50) for k in range(50)}
    assert {type(value) for value in found} == kinds
    again = parse_dimension("key", list(dim.choices) if dim.kind == "choice" else dim.text, 1)
    assert again == dim
    if dim.kind == "int":
        assert found == {1, 2, 3}


@pytest.mark.parametrize(
    ("args", "given"),
    [
        ([], None),
        (["--tune"], [True]),
        (["--tune", "--seeds", "2"], [True]),
        (["--tune", "a=lin:0..1", "--tune=b=1|2", "--x"], ["a=lin:0..1", "b=1|2"]),
        (["--tune", "a", "--tune", "false"], False),
    ],
)
def test_options_are_gathered(args: list[str], given: Any, tmp_path: Any) -> None:
    import json

    *rest, last = [*gather(args), ""] if given is None else gather(args)
    assert "--tune" not in rest
    assert given is None or json.loads(last.removeprefix("--tune=")) == given


def test_yaml_says_the_same_as_options(small: Small) -> None:
    by_option = search_of(small, "--tune", "model.learning_rate=log:1e-4..1e-1", "--tune", "model.optimizer=adam|sgd")
    text = small.config.read_text()
    for form in (
        "tune: {model.learning_rate: 'log:1e-4..1e-1', model.optimizer: [adam, sgd]}",
        "tune: [model.learning_rate=log:1e-4..1e-1, model.optimizer=adam|sgd]",
    ):
        small.config.write_text(f"{text}{form}\ntune_trials: 8\n")
        assert search_of(small) == by_option
    small.config.write_text(f"{text}tune: true\n")
    (rate,) = search_of(small).dimensions
    assert (rate.key, rate.low, rate.high, rate.reach) == ("model.learning_rate", 3.333e-5, 0.03, (2, 2))
    small.config.write_text(f"{text}tune: model.dropout=lin:0..0.5\n")
    assert search_of(small).dimensions[0].key == "model.dropout"
    assert Comparison(["-c", str(small.config), "--tune", "false"]).search is None


def test_what_describes_a_search_is_read_as_the_same(small: Small) -> None:
    first = search_of(small, "--tune", "--tune", "data.batch_size=int:4..9", "--tune-rounds", "2", "--seeds", "2")
    described = first.describe()
    assert parse_tune(described["tune"]) == described["tune"]
    args = [f"--tune={key}={text}" for key, text in described["tune"].items()]
    assert search_of(small, *args, "--tune-rounds", "2", "--seeds", "2") == first


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--tune model.lr=log:1e-4..1", "no key 'model.lr'; model has: .*learning_rate, lr_decay"),
        ("--tune modell.lr", "no key 'modell.lr'; there are: .*data, .*model"),
        ("--tune trainer.callbacks.x=1|2", "trainer.callbacks is None and has none"),
        ("--tune model.learning_rate=log:1..1e-3", r"log:LOW\.\.HIGH with 0 < LOW < HIGH"),
        ("--tune model.learning_rate=log:0..1", "0 < LOW < HIGH"),
        ("--tune model.learning_rate=lin:1", "expected log:LOW"),
        ("--tune model.learning_rate=0.1", "expected log:LOW"),
        ("--tune model.num_layers=int:1..2.5", "int:LOW"),
        ("--tune model.optimizer=adam|adam", r"A\|B\|C"),
        ("--tune model.optimizer=adam|lion", "must be one of adam, adamw, sgd, rmsprop, got 'lion'"),
        ("--tune model.dropout=lin:0..2", "a probability between 0 and 1, got 2.0"),
        ("--tune model.hidden_size=lin:8..64", "must be an integer, got 8.0"),
        ("--tune trainer.gradient_clip_val=a|b", "cannot be 'a'"),
        ("--tune model.weight_decay", "0.0 has no default range"),
        ("--tune --tune model.learning_rate=lin:0..1", "there twice"),
        ("--tune model.norm=ln|none", "takes its norms from --norms"),
        ("--tune trainer.accelerator=cpu|gpu", "expected a key of model, data or trainer"),
        ("--tune seeds=1|2", "expected a key of model, data or trainer"),
        ("--tune trainer.max_epochs=int:1..3 --tune-halving 2", "compared at the same epochs"),
        ("--tune --tune-halving 1", "expected 0, for none, or at least 2"),
        ("--tune --seeds 3,1000", "--seeds 1000: .*must have others"),
        ("--tune --tune-rounds 3 --seeds 2", "--seeds gives 2"),
    ],
)
def test_what_cannot_be_tuned_is_one_clear_error(small: Small, args: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Comparison(["-c", str(small.config), *args.split()])
    assert re.search(r"--(tune|seeds)", str(error.value))
    assert "\n" not in str(error.value)


def test_a_range_is_not_widened_beyond_what_its_key_takes(small: Small) -> None:
    (decay,) = search_of(small, "--tune", "model.lr_decay=log:0.5..1").dimensions
    assert decay.reach == (2, 0)
    (size,) = search_of(small, "--tune", "model.hidden_size=int:2..4").dimensions
    assert size.reach == (0, 0)
