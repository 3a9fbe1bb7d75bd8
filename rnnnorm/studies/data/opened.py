"""A made-up language whose sequences all begin with the same sign, as sentences of a corpus may."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnnnorm.data.base import Spec
from rnnnorm.data.synthetic import Integers
from rnnnorm.studies.data.languages import Lexicon


class OpenedLexicon(Lexicon):
    """`Lexicon` with one more symbol, which is read at the first step of every sequence in place of a letter.

    Lengths, all other symbols and all targets are those of `Lexicon` with the same keys; the first letter is hidden, so
    that the two differ in what a network knows of the first word and in whether a slot is constant over the batch.

    Args:
        **keys: see `Lexicon`; the sign is token `num_letters` + 1, which no word contains.
    """

    @property
    def spec(self) -> Spec:
        """The tokens of `Lexicon`, and the sign after them."""
        size = self.num_letters + 2
        return Spec(self.task, vocabularies=(size,), num_outputs=size, max_length=self.max_length)

    @property
    def sign(self) -> int:
        """The token that begins every sequence."""
        return self.num_letters + 1

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) letters and (N,) next letters."""
        letters, following = super().generate(lengths, random)
        letters[torch.from_numpy(np.cumsum(lengths) - lengths)] = self.sign
        return letters, following
