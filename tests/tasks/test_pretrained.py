"""Pretrained embeddings, from text and from matrices."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rnnnorm.data import Batch, Spec
from rnnnorm.tasks import Tagging
from rnnnorm.tasks.pretrained import load_embeddings
from tests.tasks.tiny import Batches, model_of, packed, trainer_of

pytestmark = pytest.mark.filterwarnings("ignore")
DATA: Any = SimpleNamespace(vocabularies={"word": ["<unk>", "the", "Cat", "New York"], "tags": ["A", "B"]})
GLOVE = "the 1 2 3\ncat 4 5 6\ndog 0 0 0\nNew York 7 8 9\nthe 0 0 0\n"


def written(folder: Path, text: str) -> str:
    (folder / "vectors.txt").write_text(text)
    return str(folder / "vectors.txt")


@pytest.mark.parametrize("head", ["", "5 3\n"], ids=["GloVe", "word2vec"])
def test_words_are_looked_up_and_the_others_keep_what_they_have(head: str, tmp_path: Path) -> None:
    weight = torch.full((4, 3), -1.0)
    assert load_embeddings(written(tmp_path, head + GLOVE), DATA, weight) == (3, "word")
    assert weight.tolist() == [[-1, -1, -1], [1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("name", ["x.npy", "x.pt"])
def test_a_matrix_by_token_id(name: str, tmp_path: Path) -> None:
    matrix = torch.arange(12.0).view(4, 3)
    path = tmp_path / name
    np.save(path, matrix.numpy()) if name == "x.npy" else torch.save(matrix, path)
    weight = torch.zeros(4, 3)
    load_embeddings(str(path), None, weight)
    assert weight.equal(matrix)
    with pytest.raises(ValueError, match=r"are \(4, 3\): expected \(4, 5\).*embedding_size=5 columns"):
        load_embeddings(str(path), None, torch.zeros(4, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2\n", "line 1: 2 numbers per word, but embedding_size is 3"),
        ("the 1 2 3 4\n", "line 1: 4 numbers per word, but embedding_size is 3"),
        ("9 300\n", "line 1: 300 numbers per word, but embedding_size is 3"),
        ("dog 1 2 3\ncat 4 5 6\nthe 1\n", "line 3: 1 numbers per word"),
        ("the 1 x 3\n", "line 1: expected 3 numbers after 'the'"),
        ("the 1 nan 3\n", "line 1: numbers after 'the' are not finite"),
        ("dog 1 2 3\n", "none of the 4 tokens of word, such as 'New York', is in it"),
        ("", "none of the 4 tokens"),
    ],
)
def test_another_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_embeddings(written(tmp_path, text), DATA, torch.zeros(4, 3))


def test_files_run_no_code_and_data_need_words(tmp_path: Path) -> None:
    for name in ("x.npy", "x.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(SimpleNamespace(a=1)))
        with pytest.raises(ValueError, match="cannot be read"):
            load_embeddings(str(tmp_path / name), DATA, torch.zeros(4, 3))
    np.save(tmp_path / "y.npy", np.array([SimpleNamespace()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        load_embeddings(str(tmp_path / "y.npy"), DATA, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="no `vocabularies` of 4 tokens"):
        load_embeddings(written(tmp_path, GLOVE), None, torch.zeros(4, 3))
    with pytest.raises(OSError, match="nowhere"):
        load_embeddings(str(tmp_path / "nowhere.txt"), DATA, torch.zeros(4, 3))


@pytest.mark.parametrize("freeze", [False, True])
def test_they_are_read_before_training_and_frozen_if_asked(freeze: bool, tmp_path: Path) -> None:
    spec = Spec("tagging", vocabularies=(4,), num_outputs=2, max_length=3)
    np.save(tmp_path / "x.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    keys: dict[str, Any] = {"hidden_size": 4, "embedding_size": 3, "learning_rate": 0.1}
    model = Tagging(spec, embeddings=str(tmp_path / "x.npy"), freeze_embeddings=freeze, **keys)
    rows = torch.tensor([[1], [2], [3], [1], [2]])
    batches = Batches([Batch(packed(rows, [3, 2]), torch.tensor([0, 1, 0, 1, 0]))])
    trainer = trainer_of()
    trainer.fit(model, batches)
    weight = model.embedding.embeddings[0].get_parameter("weight").detach()
    expected = torch.arange(12.0).view(4, 3)
    assert weight.equal(expected) == freeze
    assert weight[0].equal(expected[0])  # of a token that did not occur
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    (tmp_path / "x.npy").unlink()  # a checkpoint does not need it
    again = Tagging.load_from_checkpoint(tmp_path / "x.ckpt")
    assert again.embedding.embeddings[0].get_parameter("weight").equal(weight)


@pytest.mark.parametrize(
    ("task", "keys"), [("regression", {}), ("multi-label", {}), ("tagging", {"embedding_size": 0})]
)
def test_features_and_one_hot_rows_have_no_embeddings(task: str, keys: dict[str, Any]) -> None:
    spec = Spec("tagging", vocabularies=(4,), num_outputs=2, max_length=3)
    with pytest.raises(ValueError, match="embeddings and freeze_embeddings are for tokens"):
        _ = Tagging(spec, embeddings="x", **keys) if keys else model_of(task, freeze_embeddings=True)
