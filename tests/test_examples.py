"""The examples of docs/examples, run as their users run them."""

from __future__ import annotations

import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnnorm.data import Batch, Spec

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
KINDS = {"PER": ["Ada", "Grace Hopper", "Alan Turing"], "LOC": ["Paris", "New York", "Rome"]}
OTHERS = ["met", "in", "saw", "from", "to", "with", "the", "a", "was", "and", "went"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the examples and a small CoNLL-U corpus of named entities, their tags in the column XPOS."""
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)
    draw = random.Random(0)
    for split, count in {"train": 60, "dev": 20, "test": 20}.items():
        lines: list[str] = []
        for _ in range(count):
            words: list[tuple[str, str]] = []
            for _ in range(draw.randint(1, 5)):
                if draw.random() < 0.5:
                    words.append((draw.choice(OTHERS), "O"))
                    continue
                kind = draw.choice(sorted(KINDS))
                for k, word in enumerate(draw.choice(KINDS[kind]).split()):
                    words.append((word, f"{'I' if k else 'B'}-{kind}"))
            lines += [
                "\t".join([str(k), word, "_", "X", tag, "_", "_", "_", "_", "_"])
                for k, (word, tag) in enumerate(words, 1)
            ]
            lines.append("")
        (tmp_path / f"small-{split}.conllu").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(folder: Path, *args: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    quick = ["--trainer.accelerator", "cpu", "--seeds", "1", "--out", "out"]
    code = "import sys; from rnnnorm.cli import main; sys.exit(main())"  # as the console script does
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", *args, *quick],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def result(folder: Path, norm: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / norm / "seed=0" / "result.json").read_text())
    assert found["status"] == "finished"
    return found


SYNTHETIC = [
    *("--data", "TemporalOrder", "--data.num_train", "64", "--data.num_val", "32", "--data.num_test", "32"),
    *("--data.max_length", "20"),
]


def test_a_tagger_with_a_conditional_random_field(folder: Path) -> None:
    data = [*("--data", "PartOfSpeech", "--data.treebank", "small", "--data.tags", "xpos"), "--data-dir", "."]
    more = [*("--model", "crf_tagger.CRFTagger", "--trainer.max_epochs", "6"), "--model.learning_rate", "0.02"]
    run(folder, *data, *more, "--data.batch_size", "8", "--norms", "none,bn-timestep")
    for norm in ("none", "bn-timestep"):
        found = result(folder, norm)
        assert (found["metric"], found["metric_mode"]) == ("span_f1", "max")
        assert found["test"]["population"]["span_f1"] > 0.8
        assert found["buckets"]["length"]
    assert result(folder, "bn-timestep")["evaluates_by"] == "population"


def test_a_network_with_attention(folder: Path) -> None:
    args = ["--model.network", "attention_network.AttentionNetwork", "--model.network_options", "{width: 8}"]
    run(folder, *SYNTHETIC, *args, "--norms", "none,bn-timestep", "--trainer.max_epochs", "2", "--jobs", "2")
    found = result(folder, "bn-timestep")
    assert found["test"]["running"] != found["test"]["population"] != found["test"]["batch"]
    assert found["parameters"] > result(folder, "none")["parameters"]


def test_a_lightning_module(folder: Path) -> None:
    args = ["--model", "own_module.Classifier", "--model.width", "8", "--trainer.max_epochs", "2"]
    run(folder, *SYNTHETIC, *args, "--norms", "none,bn-timestep")
    found = result(folder, "bn-timestep")
    assert (found["metric"], found["metric_mode"], found["evaluates_by"]) == ("accuracy", "max", "population")
    assert found["test"]["running"] != found["test"]["population"]


@pytest.fixture(scope="module")
def crf() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "crf_tagger.py"))


def test_the_field_is_what_counting_all_tag_sequences_gives(crf: dict[str, Any]) -> None:
    torch.manual_seed(0)
    C, lengths = 3, torch.tensor([4, 2, 2, 1])
    model = crf["CRFTagger"](Spec("tagging", vocabularies=(5,), num_outputs=C, max_length=4), hidden_size=4)
    for parameter in (model.transitions, model.first, model.last):
        torch.nn.init.normal_(parameter)
    logits = torch.randn(4, 4, C)
    packed = pack_padded_sequence(logits, lengths, batch_first=True)
    tags = torch.randint(C, (len(packed.data),))
    batch = Batch(packed, tags)
    losses = model.batch_losses(packed.data, batch)
    best = model.decode(packed.data, batch).argmax(1)
    back = [pad_packed_sequence(packed._replace(data=rows), batch_first=True)[0] for rows in (tags, best, losses)]
    for b, T in enumerate(lengths.tolist()):
        scores = {}
        for y in product(range(C), repeat=T):
            s = model.first[y[0]] + model.last[y[-1]] + sum(logits[b, t, y[t]] for t in range(T))
            scores[y] = s + sum(model.transitions[i, j] for i, j in pairwise(y))
        log_z = torch.stack(list(scores.values())).logsumexp(0)
        expected = (log_z - scores[tuple(back[0][b, :T].tolist())]) / T
        torch.testing.assert_close(back[2][b, :T], expected.expand(T))
        assert tuple(back[1][b, :T].tolist()) == max(scores, key=lambda y: scores[y].item())


@pytest.mark.parametrize(
    ("names", "tags", "spans"),
    [
        ("O B-X I-X B-Y I-Y", [0, 1, 2, 2, 0, 1, 1], {(1, 4, "X"), (5, 6, "X"), (6, 7, "X")}),
        ("O B-X I-X B-Y I-Y", [2, 4, 3, 2], {(0, 1, "X"), (1, 2, "Y"), (2, 3, "Y"), (3, 4, "X")}),
        ("NOUN VERB", [0, 0, 1], {(0, 2, "0"), (2, 3, "1")}),
    ],
)
def test_spans(names: str, tags: list[int], spans: set[tuple[int, int, str]], crf: dict[str, Any]) -> None:
    assert crf["SpanF1"](names.split()).spans(tags) == spans


def test_the_f1_score(crf: dict[str, Any]) -> None:
    metric = crf["SpanF1"](["O", "B-X", "I-X"])
    found, there = torch.tensor([1, 1, 2, 0, 0]), torch.tensor([1, 0, 2, 1, 0])  # two sequences, of 3 and 2 steps
    metric.update(found, there, torch.tensor([2, 2, 1]))
    assert metric.compute() == pytest.approx(2 * 1 / (2 + 2))
    metric.update(there, there, torch.tensor([2, 2, 1]))
    assert metric.compute() == pytest.approx(2 * 3 / (4 + 4))
