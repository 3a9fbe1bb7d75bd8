"""Reproductions of published results: each parses, has a small sibling, and its data and model can be built."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.experiments import find_experiment, published, title
from rnnnorm.data import LanguageModel
from rnnnorm.data.synthetic import Generated
from rnnnorm.tasks import for_spec

ROWS = [name for name in published() if not name.endswith("-scaled")]
LARGE = {"published/text8-cooijmans": "2,000 units have no small sibling"}


def comparison_of(name: str, *more: str) -> Comparison:
    return Comparison(["-c", name, *more])


def step(comparison: Comparison, data: Any, norm: str, **smaller: Any) -> float:
    """The loss of the first batch, by a network of few units."""
    keys = {**comparison.model_options, **smaller, "norm": norm, "hidden_size": 8}
    if keys.get("embedding_size"):
        keys["embedding_size"] = 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = for_spec(data.spec)(data.spec, **{k: v for k, v in keys.items() if k != "spec"})
    batch = next(iter(data.train_dataloader()))
    logits, _ = task(batch.input)
    loss = task.batch_losses(logits, batch).mean()
    loss.backward()
    task.configure_optimizers()
    return float(loss)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_and_its_small_sibling_parse(name: str, tmp_path: Path) -> None:
    """The two are about the same data module, five seeds, and the baseline; text is generated, to be read by both."""
    found = []
    for one in (name, f"{name}-scaled") if name not in LARGE else (name,):
        comparison = comparison_of(one)
        assert comparison.seeds == (0, 1, 2, 3, 4)
        assert comparison.norms[0] == "none"
        assert comparison.out == Path("runs") / one.partition("/")[2]
        assert 30 < len(title(published()[one])) <= 118
        found.append(comparison)
    assert len({c.config.data.class_path for c in found}) == 1
    for comparison in found:
        data = comparison.build_data()
        if isinstance(data, LanguageModel):
            _texts(tmp_path, comparison.config.data.init_args)
            data = comparison_of(comparison_name(comparison, name), "--data-dir", str(tmp_path)).build_data()
        elif not isinstance(data, Generated):
            continue  # reads files that are not here
        for norm in comparison.norms:
            assert torch.isfinite(torch.tensor(step(comparison, data, norm)))


def comparison_name(comparison: Comparison, name: str) -> str:
    return f"published/{comparison.experiment}"


def _texts(root: Path, keys: Any) -> None:
    """Splits long enough for every batch, where the data set is expected."""
    folder, level = keys.folder or keys.dataset, keys.level
    (root / folder).mkdir(exist_ok=True)
    line = "the cat sat on the mat and a dog sat beside\n" * (700 if level == "char" else 500)
    for split in ("train", "valid", "test"):
        (root / folder / f"{split}.txt").write_text(line)
    (root / folder / "input.txt").write_text(line * 5)


@pytest.mark.parametrize("name", ["published/jsb-music", "experiments/published/jsb-music.yaml"])
def test_rows_are_found_by_name_and_by_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_experiment(name) == published()["published/jsb-music"]


def test_an_unknown_row_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match=r"published/jsb-musik.*did you mean 'published/jsb-music'"):
        find_experiment("published/jsb-musik")
