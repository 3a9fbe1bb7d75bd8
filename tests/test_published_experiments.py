"""Reproductions of published results: each parses, has a small sibling, and its data and model can be built."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import yaml

from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.experiments import find_experiment, published, title
from rnnnorm.tasks import for_spec

ROWS = [name for name in published() if not name.endswith("-scaled")]
NO_SIBLING = {"published/text8-cooijmans"}
GENERATED = ("AddingProblem", "DelayedRecall")
FEW = ["--data.num_train", "300", "--data.num_val", "9", "--data.num_test", "9"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts where the experiments look for theirs, long enough for a batch."""
    root = tmp_path_factory.mktemp("texts")
    text = "the cat sat on the mat and a dog sat beside\n" * 800
    for name in ("ptb/train", "ptb/valid", "ptb/test", "text8/train", "text8/valid", "text8/test", "wikitext2/train"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / f"{name}.txt").write_text(text)
    for name in ("wikitext2/valid", "wikitext2/test"):
        (root / f"{name}.txt").write_text(text)
    (root / "tinyshakespeare").mkdir()
    (root / "tinyshakespeare/input.txt").write_text(text * 3)
    return root


def first_losses(comparison: Comparison) -> list[float]:
    """The loss of the first batch under each norm, by networks of few units."""
    data = comparison.build_data()
    batch = next(iter(data.train_dataloader()))
    losses = []
    for norm in comparison.norms:
        keys = {key: value for key, value in comparison.model_options.items() if key != "spec"}
        keys |= {"norm": norm, "hidden_size": 8, "embedding_size": 8 if keys["embedding_size"] else 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = for_spec(data.spec)(data.spec, **keys)  # type: ignore[attr-defined]
        loss = task.batch_losses(task(batch.input)[0], batch).mean()
        loss.backward()
        task.configure_optimizers()
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("name", ROWS)
def test_a_row_and_its_small_sibling_can_be_run(name: str, root: Path) -> None:
    """They share data module and baseline; data that are generated, or texts, are read, too."""
    modules = set()
    for one in [name] if name in NO_SIBLING else [name, f"{name}-scaled"]:
        class_path = yaml.safe_load(published()[one].read_text())["data"]["class_path"]
        module = class_path.rpartition(".")[2]
        more = ["--data-dir", str(root)] if module == "LanguageModel" else FEW if module in GENERATED else []
        comparison = Comparison(["-c", one, *more])
        assert len(comparison.seeds) == 5
        assert comparison.norms[0] == "none"
        assert comparison.out == Path("runs") / Path(one).name
        assert 30 < len(title(published()[one])) <= 118
        modules.add(module)
        if more:
            assert all(map(math.isfinite, first_losses(comparison)))
    assert len(modules) == 1


@pytest.mark.parametrize("name", ["published/jsb-music", "experiments/published/jsb-music.yaml"])
def test_rows_are_found_by_name_and_by_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_experiment(name) == published()["published/jsb-music"]


def test_an_unknown_row_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match=r"published/jsb-musik.*did you mean 'published/jsb-music'"):
        find_experiment("published/jsb-musik")
