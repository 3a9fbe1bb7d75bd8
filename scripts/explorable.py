#!/usr/bin/env python3
"""Measurements behind docs/explorable.md: BN-LSTMs at initialization and after a short training, by five conditions.

    python scripts/explorable.py      # writes docs/explorable/measurements.js, about a quarter of an hour of one core

The page draws what stands there and computes nothing. Conditions that are in the file already are kept, so that the
command goes on where it was ended; with other settings, or `--fresh`, all of them are measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rnnnorm
from rnnnorm.common.atomic import write_text
from rnnnorm.data.base import Batch
from rnnnorm.data.collate import collate
from rnnnorm.data.synthetic import Integers
from rnnnorm.probes import record
from rnnnorm.studies.data.opened import OpenedLexicon
from rnnnorm.tasks import LanguageModelling, SequenceTask

OUT = Path(__file__).parents[1] / "docs" / "explorable" / "measurements.js"
PREFIX = "window.rnnnormMeasurements = "

CONTROLS: dict[str, list[Any]] = {
    "start": [0, 1, 3],
    "lengths": ["fixed", "uniform", "heavy-tailed"],
    "batch": [4, 16, 64],
    "whh": ["identity", "orthogonal", "random"],
    "gain": [0.03, 0.1, 0.3, 1.0],
}
"""Controls of the page, each with its values, in the order in which they make the key of a condition."""

SIZES: dict[str, Any] = {
    "hidden_size": 24, "max_length": 16, "min_length": 4, "num_words": 20, "num_letters": 8, "num_successors": 3,
    "num_train": 1000, "num_statistics": 400, "num_test": 400, "train_steps": 150, "learning_rate": 0.02, "clip": 1.0,
    "eps": 1e-5, "gradient_batches": 5, "seeds": [2000, 2001],
}  # fmt: skip
SOURCES = ("batch", "running", "population")
CURVES = ("gradient", "sigma", "error_running", "error_pooled", *(f"loss_{source}" for source in SOURCES))
"""Curves of a condition, each a value per timestep."""


class Opened(OpenedLexicon):
    """A made-up language whose sequences have the same sign in the first `start` steps, in place of letters."""

    def __init__(self, start: int, **keys: Any) -> None:
        super().__init__(**keys)
        self.start = start

    def generate(self, lengths: Integers, random: Any) -> tuple[Tensor, Tensor]:
        """Make (N, 1) letters and (N,) next letters; the letters under the signs still decide what follows."""
        letters, following = super(OpenedLexicon, self).generate(lengths, random)
        starts = torch.from_numpy(lengths.cumsum() - lengths)
        for t in range(self.start):
            letters[starts + t] = self.sign
        return letters, following


def build_data(here: dict[str, Any], seed: int) -> Opened:
    """The language, of sequences with the lengths and the start of a condition."""
    names = ("max_length", "min_length", "num_words", "num_letters", "num_successors", "num_train", "num_test")
    keys = {name: SIZES[name] for name in names}
    return Opened(here["start"], length_distribution=here["lengths"], num_val=1, seed=seed, **keys)


def build_model(here: dict[str, Any], data: Opened, seed: int) -> SequenceTask:
    """A language model of one BN-LSTM layer; all weights but W_hh are the seed's own, under all conditions."""
    torch.manual_seed(seed)
    H = SIZES["hidden_size"]
    norm = f"bn-timestep:gain={here['gain']:g}:eps={SIZES['eps']:g}"
    model = LanguageModelling(data.spec, norm, hidden_size=H)  # W_hh orthogonal, gate by gate
    if here["whh"] == "identity":
        model.recurrent.assign("weight_hh_l0", torch.eye(H).repeat(4, 1))
    if here["whh"] == "random":
        model.recurrent.assign("weight_hh_l0", torch.randn(4 * H, H) / math.sqrt(H))
    return model.train()


def once(data: Opened, split: str, size: int, count: int) -> Iterator[Batch]:
    """Batches of the first `count` sequences of a split, as they come, whatever their lengths."""
    examples = data.examples(split)[:count]
    for i in range(0, len(examples) - size + 1, size):
        yield collate(examples[i : i + size], data.task)


def drawn(data: Opened, size: int, count: int) -> Iterator[Batch]:
    """So many batches of training sequences drawn with replacement, whatever their lengths."""
    random = torch.Generator().manual_seed(data.seed)
    examples = data.examples("train")
    for _ in range(count):
        yield collate([examples[i] for i in torch.randint(len(examples), (size,), generator=random)], data.task)


def gradient(model: SequenceTask, batches: Iterable[Batch]) -> Tensor:
    """‖∂L/∂h_t‖, (T,), of L = Σ p ⊙ h over each sequence's last h, in float64, with p Gaussian.

    The median over those batches that reach the step with a gradient; nan where none does.
    """
    model, rows = model.double(), []
    for batch in batches:
        with record(model) as recording:
            h = model(batch.input)[1][0]
            (h * torch.randn_like(h)).sum().backward()
        norms = recording.layers["l0"].gradient_norms()["h"]
        rows.append(torch.cat([norms, torch.zeros(SIZES["max_length"] - len(norms))]))
    found = torch.stack(rows)
    return torch.where(found > 0, found, torch.nan).nanmedian(0).values


def train(model: SequenceTask, batches: Iterable[Batch]) -> None:
    """Train by Adam with clipped gradients; raises RuntimeError if a loss is not finite."""
    optimizer = torch.optim.Adam(model.parameters(), lr=SIZES["learning_rate"])
    for batch in batches:
        optimizer.zero_grad()
        loss = model.losses(model(batch.input)[0], batch.target).mean()
        if not torch.isfinite(loss):
            raise RuntimeError("a training loss is not finite: the page has no way to show that")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), SIZES["clip"])
        optimizer.step()


@torch.no_grad()
def losses_by_step(model: SequenceTask, batches: Iterable[Batch]) -> Tensor:
    """Mean loss in nats by timestep, (T,), over all rows of a step; nan where there is none."""
    total, count = torch.zeros(2, SIZES["max_length"], dtype=torch.float64)
    for batch in batches:
        losses = model.losses(model(batch.input)[0], batch.target)
        for t, part in enumerate(losses.split(batch.input.batch_sizes.tolist())):
            total[t] += part.sum()
            count[t] += len(part)
    return total / count


def measure(here: dict[str, Any], seed: int) -> dict[str, Any]:
    """`curves` by timestep; by way the largest `shift` with its place and timestep; by source the `mean` loss."""
    data, B, N = build_data(here, seed), here["batch"], SIZES["num_statistics"]
    curves = {"gradient": gradient(build_model(here, data, seed), drawn(data, B, SIZES["gradient_batches"]))}
    model = build_model(here, data, seed)
    train(model, drawn(data, B, SIZES["train_steps"]))
    norms = dict(model.eval().recurrent.norms_l0.named_children())
    means = {"running": {place: norm.stats.running_mean.clone() for place, norm in norms.items()}}
    for way, size in (("pooled", B), ("consistent", N)):
        batches = once(data, "train", size, N)
        rnnnorm.recalibrate(model, batches, lambda batch: model(batch.input), way=way, rows=None)
        means[way] = {place: norm.stats.population_mean.clone() for place, norm in norms.items()}
    true, shift = means.pop("consistent"), {}
    curves["sigma"] = norms["hidden"].stats.population_var.sqrt().median(1).values
    for way, stored in means.items():
        errors = {place: (mean - true[place]).abs() for place, mean in stored.items()}
        curves[f"error_{way}"] = errors["hidden"].median(1).values
        shifts = [(float(by.max()), int(by.argmax()), place) for place, by in shifted(norms, errors).items()]
        shift[way] = [rounded(max(shifts)[0]), max(shifts)[2], max(shifts)[1]]
    mean = {}
    for source in SOURCES:
        size = B if source == "batch" else SIZES["num_test"]
        with rnnnorm.statistics(model, source):
            curves[f"loss_{source}"] = losses_by_step(model, once(data, "test", size, SIZES["num_test"]))
        mean[source] = rounded(losses_mean(curves[f"loss_{source}"], data), 3)
    return {"curves": curves, "shift": shift, "mean": mean}


def shifted(norms: dict[str, Any], errors: dict[str, Tensor]) -> dict[str, Tensor]:
    """γ |δ| / √(σ² + ε) by place, (T,), median over features: what an error δ of the stored mean does to y."""
    found = {}
    for place, norm in norms.items():
        by = errors[place] * norm.gain.detach().abs() / (norm.stats.population_var + norm.eps).sqrt()
        found[place] = by.median(1).values
    return found


def combined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs of all seeds: means of losses by timestep, geometric means of other curves, all else seed by seed."""
    made: dict[str, Any] = {}
    for name in CURVES:
        values = torch.stack([run["curves"][name].double() for run in runs])
        average = values.nanmean(0) if name.startswith("loss") else values.log().nanmean(0).exp()
        short = centinats if name.startswith("loss") else rounded
        made[name] = [short(value) for value in average.tolist()]
    for name in ("shift", "mean"):
        made[name] = {by: [run[name][by] for run in runs] for by in runs[0][name]}
    return made


def losses_mean(by_step: Tensor, data: Opened) -> float:
    """The mean loss over all rows of the test sequences, of the losses by timestep."""
    rows = active(data, "test", SIZES["num_test"])
    return float((by_step.nan_to_num() * rows).sum() / rows.sum())


def active(data: Opened, split: str, size: int) -> Tensor:
    """Mean number of active rows by timestep, (T,) float64, of batches of so many sequences."""
    lengths = torch.tensor(data.lengths(split))
    return size * (lengths[None] > torch.arange(SIZES["max_length"])[:, None]).double().mean(1)


def rounded(value: float, digits: int = 2) -> float | None:
    """So many significant digits; None for what is not there."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def centinats(value: float) -> float | None:
    """Two digits behind the point; None for what is not there."""
    return round(value, 2) if math.isfinite(value) else None


def conditions() -> Iterator[dict[str, Any]]:
    """Every combination of the controls."""
    for values in itertools.product(*CONTROLS.values()):
        yield dict(zip(CONTROLS, values, strict=True))


def key(here: dict[str, Any]) -> str:
    """The name of a condition in the file: the values of the controls with bars in between."""
    return "|".join(f"{value:g}" if isinstance(value, float | int) else value for value in here.values())


def read(path: Path) -> dict[str, Any]:
    """The measurements of a file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8").removeprefix(PREFIX).rstrip(";\n"))
    return content


def compact(value: Any) -> str:
    """JSON with as few characters as there are digits: 4 for 4.0, 1.7e+07 for 17000000.0."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{compact(part)}" for name, part in value.items()) + "}"
    return "[" + ",".join(map(compact, value)) + "]" if isinstance(value, list) else json.dumps(value)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write measurements as a script, which a page can load from a disk, too; one line per condition."""
    head = {name: value for name, value in document.items() if name != "conditions"}
    lines = [f"{json.dumps(name)}:{compact(value)}" for name, value in document["conditions"].items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f'{PREFIX}{compact(head)[:-1]},"conditions":{{\n' + ",\n".join(lines) + "\n}};\n")


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="measure all conditions anew")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for lengths, batch in itertools.product(CONTROLS["lengths"], CONTROLS["batch"]):
        by_step = active(build_data({"start": 0, "lengths": lengths}, SIZES["seeds"][0]), "train", batch)
        rows[f"{lengths}|{batch}"] = [rounded(value, 3) for value in by_step.tolist()]
    document: dict[str, Any] = {"controls": CONTROLS, "sizes": SIZES, "active": rows, "conditions": {}}
    if options.out.is_file() and not options.fresh:
        before = read(options.out)
        if all(before[name] == document[name] for name in ("controls", "sizes")):
            document["conditions"] = before["conditions"]
    todo = [here for here in conditions() if key(here) not in document["conditions"]]
    for number, here in enumerate(todo, 1):
        document["conditions"][key(here)] = combined([measure(here, seed) for seed in SIZES["seeds"]])
        if number % 10 == 0 or number == len(todo):
            order = {key(each): None for each in conditions()}
            document["conditions"] = {k: document["conditions"][k] for k in order if k in document["conditions"]}
            write(options.out, document)
            print(f"{number} of {len(todo)}: {key(here)}", flush=True)


if __name__ == "__main__":
    main()
