"""Vocabularies: torchtext fields built on the training split and applied to every split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor
from torchtext.data import Field

UNK = "<unk>"


def token_field(*, unk: str | None = UNK, lower: bool = False, convert: object = None) -> Field:
    """A torchtext `Field` for token sequences. It has no padding token: batches are packed, never padded.

    Args:
        unk: the token that stands for those outside the vocabulary; None if there may be none.
        lower: lower-case the tokens.
        convert: what to make of each token after that, a `torchtext.data.Pipeline`.
    """
    return Field(unk_token=unk, pad_token=None, lower=lower, preprocessing=convert)


def encode(field: Field, sequences: Iterable[Sequence[str]], source: str) -> tuple[Tensor, ...]:
    """The ids of token sequences, each (T,) int64.

    Looks tokens up by `get`: `Field.numericalize` indexes the vocabulary's `defaultdict`, which would enter every
    unknown token of the validation and test splits into `stoi`.

    Args:
        field: a field whose vocabulary has been built.
        sequences: lists of preprocessed tokens.
        source: what is encoded, for error messages.

    Raises:
        ValueError: a token outside a vocabulary that has no token for unknown ones.
    """
    sequences = list(sequences)
    lookup, unknown = field.vocab.stoi.get, field.vocab.unk_index
    ids = [lookup(token, unknown) for token in chain.from_iterable(sequences)]
    if unknown is None and None in ids:
        tokens = sorted(set(chain.from_iterable(sequences)) - field.vocab.stoi.keys())
        raise ValueError(f"{source}: {tokens[:10]} not in the vocabulary of {len(field.vocab)} built on training data")
    return torch.split(torch.tensor(ids, dtype=torch.int64), [len(sequence) for sequence in sequences])


def label_field(train: Iterable[str], others: Iterable[tuple[str, str]], unseen: bool) -> Field:
    """A field for labels, with a vocabulary of the training labels, the most frequent first.

    Args:
        train: the labels of the training split.
        others: those of the other splits, each with its place, for error messages.
        unseen: whether the other splits may have labels that training has not. Only if they do is there an ``<unk>``,
            the last label, which no model gets right.

    Raises:
        ValueError: a label that training has not and that may not be.
    """
    labels = list(train)
    known = set(labels)
    new = next(((where, label) for where, label in others if label not in known), None)
    if new is not None and not unseen:
        where, label = new
        raise ValueError(
            f"{where}: label {expected_one_of(label, sorted(known))}, the labels of the training split; "
            "unknown_labels=true makes a class of the others"
        )
    field = token_field(unk=UNK if new is not None else None)
    field.build_vocab([labels], specials_first=False)
    return field


def expected_one_of(given: str, known: Sequence[str]) -> str:
    """Words for a label that is none of those known; of many, the first few are listed."""
    return f"{given[:60]!r}, expected one of {', '.join(known[:20])}{', …' if len(known) > 20 else ''}"
