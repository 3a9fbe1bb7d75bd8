"""Pretrained embeddings: vectors by word, or a matrix by token id, from files that run no code."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MATRICES = (".npy", ".pt", ".pth")


def load_embeddings(path: str, data: Any, weight: Tensor) -> tuple[int, str]:
    """Write the vectors of a file into the embedding of the first column of tokens.

    Text files have a word and its D numbers on each line, separated by blanks, as those of GloVe and word2vec, whose
    first line says how many there are; a word that is not found is looked up in lower case, and keeps its random
    vector if that fails, too. `.npy` and `.pt` files hold a matrix (V, D) in the order of the token ids.

    Args:
        path: the file.
        data: a data module whose `vocabularies` are the tokens of each column, in the order of their ids; not needed
            for a matrix.
        weight: (V, D), changed in place.

    Returns:
        how many tokens have a vector from the file, and what the column is called.

    Raises:
        ValueError: another number of dimensions or tokens, a file of another format, no word found, no vocabulary.
        OSError: the file cannot be read.
    """
    V, D = weight.shape
    column, words = _words(data, V)
    if Path(path).suffix in MATRICES:
        matrix = _matrix(path)
        if tuple(matrix.shape) != (V, D):
            raise ValueError(
                f"embeddings {path} are {tuple(matrix.shape)}: expected ({V}, {D}), that is, a row for each token of "
                f"{column or 'the vocabulary'} and embedding_size={D} columns"
            )
        weight.copy_(matrix)
        return V, column
    if words is None:
        raise ValueError(f"embeddings {path}: the data have no `vocabularies` of {V} tokens to look words up in")
    wanted = {word for token in words for word in (token, token.lower())}
    vectors = _vectors(path, wanted, D)
    found = 0
    for k, token in enumerate(words):
        vector = vectors.get(token, vectors.get(token.lower()))
        if vector is not None:
            weight[k] = vector
            found += 1
    if not found:
        raise ValueError(f"embeddings {path}: none of the {V} tokens of {column}, such as {words[-1]!r}, is in it")
    return found, column


def _words(data: Any, size: int) -> tuple[str, Sequence[str] | None]:
    found = getattr(data, "vocabularies", None)
    for name, words in found.items() if isinstance(found, dict) else ():
        return (name, words) if len(words) == size else (name, None)
    return "", None


def _matrix(path: str) -> Tensor:
    try:
        if path.endswith(".npy"):
            content: Any = torch.as_tensor(np.load(path, allow_pickle=False))
        else:
            content = torch.load(path, weights_only=True, map_location="cpu")
    except (ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"embeddings {path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, Tensor) or content.dim() != 2 or not content.isfinite().all():
        raise ValueError(f"embeddings {path}: expected a matrix of finite numbers, got {type(content).__name__}")
    return content.float()


def _vectors(path: str, wanted: set[str], size: int) -> dict[str, Tensor]:
    """Vectors of the wanted words; of a word that is there twice, the first one."""
    found: dict[str, Tensor] = {}
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                if int(parts[1]) != size:
                    raise ValueError(_other_size(path, 1, int(parts[1]), size))
                continue
            if len(parts) <= size or (number < 3 and len(parts) != size + 1):
                raise ValueError(_other_size(path, number, len(parts) - 1, size))
            word = " ".join(parts[:-size])  # some have blanks in them
            if word not in wanted or word in found:
                continue
            try:
                found[word] = torch.tensor([float(part) for part in parts[-size:]])
            except ValueError:
                raise ValueError(f"embeddings {path}, line {number}: expected {size} numbers after {word!r}") from None
            if not found[word].isfinite().all():
                raise ValueError(f"embeddings {path}, line {number}: numbers after {word!r} are not finite")
    return found


def _other_size(path: str, line: int, there: int, size: int) -> str:
    return f"embeddings {path}, line {line}: {there} numbers per word, but embedding_size is {size}"
