"""Contenders in turns, by a clock that only the contenders move."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rnnnorm.bench.steps import Step
from rnnnorm.bench.timing import MAX_ROUNDS, interleave, ratios, spread

CPU = torch.device("cpu")


class Track:
    """A clock, and the order of what happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[str] = []
        self.resets: list[str] = []
        self.collecting: list[bool] = []

    def clock(self) -> float:
        return self.now

    def rounds(self, contenders: int) -> list[tuple[str, ...]]:
        return [tuple(self.runs[k : k + contenders]) for k in range(0, len(self.runs), contenders)]


class Runner(Step):
    """Takes `seconds` for each run, or one of several in turn, and `rest` for each reset."""

    def __init__(self, name: str, track: Track, *seconds: float, rest: float = 0.0) -> None:
        self.name, self.track, self.seconds, self.rest, self.count = name, track, seconds, rest, 0

    def run(self) -> None:
        self.track.collecting.append(gc.isenabled())
        self.track.runs.append(self.name)
        self.track.now += self.seconds[min(self.count, len(self.seconds) - 1)]
        self.count += 1

    def reset(self) -> None:
        assert self.track.runs[-1] == self.name
        self.track.resets.append(self.name)
        self.track.now += self.rest


@pytest.fixture
def track() -> Track:
    return Track()


@pytest.fixture(autouse=True)
def _collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does to the garbage collector, it is on afterwards; real collections only take time."""
    monkeypatch.setattr(gc, "collect", lambda: None)
    yield
    gc.enable()


def runners(track: Track, **seconds: float) -> dict[str, Step]:
    return {name: Runner(name, track, value) for name, value in seconds.items()}


def test_each_contender_gets_its_own_times(track: Track) -> None:
    times = interleave(runners(track, a=0.25, b=0.5, c=0.125), 3.5, CPU, clock=track.clock)
    assert list(times) == ["a", "b", "c"]
    assert set(times["a"]) == {0.25}
    assert set(times["b"]) == {0.5}
    assert set(times["c"]) == {0.125}
    assert len({len(t) for t in times.values()}) == 1


def test_two_rounds_of_warm_up_do_not_count(track: Track) -> None:
    steps = {name: Runner(name, track, 0.75, 0.5, 0.25) for name in "ab"}
    times = interleave(steps, 2.0, CPU, clock=track.clock)
    assert set(times["a"]) == set(times["b"]) == {0.25}
    assert len(track.runs) == 2 * (2 + len(times["a"]))


def test_there_are_five_rounds_even_if_two_fill_the_time(track: Track) -> None:
    times = interleave(runners(track, a=0.25, b=0.5), 1.0, CPU, clock=track.clock)
    assert [len(t) for t in times.values()] == [5, 5]
    assert len(track.rounds(2)) == 2 + 5


def test_a_round_that_takes_longer_than_the_time_is_run_once_to_warm_up_and_three_times(track: Track) -> None:
    times = interleave(runners(track, a=0.25, b=1.0), 1.0, CPU, clock=track.clock)
    assert [len(t) for t in times.values()] == [3, 3]
    assert len(track.rounds(2)) == 1 + 3


def test_there_are_as_many_rounds_as_fit(track: Track) -> None:
    times = interleave(runners(track, a=0.125, b=0.125), 3.0, CPU, clock=track.clock)
    assert len(times["a"]) == pytest.approx(3.0 / 0.25, abs=1)


def test_rounds_have_an_upper_limit(track: Track) -> None:
    times = interleave(runners(track, a=0.0), 1.0, CPU, clock=track.clock)
    assert len(times["a"]) == MAX_ROUNDS


def test_resets_follow_each_run_and_are_not_timed(track: Track) -> None:
    steps = {name: Runner(name, track, 0.125, rest=0.5) for name in "abc"}
    times = interleave(steps, 4.0, CPU, clock=track.clock)
    assert set(times["a"]) == {0.125}
    assert track.resets == track.runs


def test_every_round_is_shuffled_anew(track: Track) -> None:
    interleave(runners(track, a=0.125, b=0.125, c=0.125), 12.0, CPU, clock=track.clock)
    rounds = track.rounds(3)
    assert len(rounds) > 30
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) == 6
    places = [[order.index(name) for order in rounds] for name in "abc"]
    assert np.mean(places, axis=1).tolist() == pytest.approx([1.0] * 3, abs=0.4)


def test_the_seed_decides_the_order() -> None:
    def orders(seed: int) -> list[str]:
        track = Track()
        interleave(runners(track, a=0.125, b=0.125, c=0.125), 6.0, CPU, seed, clock=track.clock)
        return track.runs

    assert orders(3) == orders(3)
    assert orders(3) != orders(4)


def test_garbage_is_collected_before_and_not_during_the_rounds(track: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    collections: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collections.append(len(track.runs)))
    interleave(runners(track, a=0.5), 1.0, CPU, clock=track.clock)
    assert collections == [0]
    assert not any(track.collecting)
    assert gc.isenabled()


def test_the_collector_stays_off_where_it_was_off(track: Track) -> None:
    gc.disable()
    interleave(runners(track, a=0.5), 1.0, CPU, clock=track.clock)
    assert not gc.isenabled()


def test_the_collector_is_on_again_after_a_failure(track: Track) -> None:
    class Broken(Runner):
        def run(self) -> None:
            super().run()
            raise ArithmeticError(f"run {self.count}")

    with pytest.raises(ArithmeticError, match="run 1"):
        interleave({"a": Broken("a", track, 0.5)}, 1.0, CPU, clock=track.clock)
    assert track.collecting == [False]
    assert gc.isenabled()


def test_a_gpu_is_waited_for_before_the_clock_starts_and_before_it_stops(
    track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch returns at once; the work ends while the device is waited for."""
    pending = [0.0]
    waited: list[torch.device] = []

    class Launch(Runner):
        def run(self) -> None:
            super().run()
            pending[0] += 0.25

        def reset(self) -> None:
            super().reset()
            pending[0] += 0.5  # must be over before the next one's time begins

    def synchronize(device: torch.device) -> None:
        waited.append(device)
        track.now += pending[0]
        pending[0] = 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    device = torch.device("cuda:1")
    times = interleave({name: Launch(name, track, 0.0) for name in "ab"}, 8.0, device, clock=track.clock)
    assert set(times["a"]) == set(times["b"]) == {0.25}
    assert waited == [device] * (2 * len(track.runs))


def test_a_cpu_is_waited_for_by_nobody(track: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("there is nothing to wait for"))
    assert interleave(runners(track, a=0.5), 1.0, CPU, clock=track.clock)["a"]


def test_spread_is_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert spread([1.0, 2.0]) == (1.5, 1.25, 1.75)
    assert spread([7]) == (7.0, 7.0, 7.0)
    found = spread([5.0, 1.0, 3.0])
    assert (found.median, found.q1, found.q3) == (3.0, 2.0, 4.0)


def test_a_spread_needs_values() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        spread([])


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is three times slower in some rounds changes nothing."""
    slow = np.array([1.0, 1.0, 3.0, 1.0, 3.0])
    assert ratios(2.0 * slow, slow) == (2.0, 2.0, 2.0)
    # The ratio of the medians would be 2 / 2 = 1.
    assert ratios([1.0, 2.0, 4.0], [4.0, 2.0, 1.0]).median == 1.0
    assert ratios([1.0, 2.0, 9.0], [4.0, 1.0, 2.0]) == (2.0, 1.125, 3.25)


def test_ratios_need_as_many_values_on_both_sides() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        ratios([1.0, 2.0], [1.0])
