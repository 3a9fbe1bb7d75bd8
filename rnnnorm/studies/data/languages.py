"""Generated problems with an answer at every step that are the same problem at any length: what length studies need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rnnnorm.common.ranges import Range, at_least, between
from rnnnorm.data.base import Spec
from rnnnorm.data.synthetic import Generated, Integers


class RunningSum(Generated):
    """At every step the sum of all digits so far, modulo m: the word problem of the cyclic group, parity for m = 2.

    The state must be tracked without error from the first step on, so that one mistake spoils all later steps; what a
    network must know at a step does not depend on how many steps there are. Guessing is right in 1/m of the steps. A
    digit is 0, which changes nothing, with probability 1 - `rate`, and one of 1 … m - 1 otherwise.

    Args:
        modulus: m, states to tell apart.
        rate: share of the digits that are not 0.
        **keys: see `rnnnorm.data.synthetic.Generated`.

    Raises:
        ValueError: a modulus below 2, or a rate that is not in (0, 1].
    """

    task = "tagging"
    ranges: ClassVar[Mapping[str, Range]] = {"modulus": at_least(2), "rate": between(0, 1, "(]")}

    def __init__(self, modulus: int = 2, rate: float = 0.3, **keys: Any) -> None:
        super().__init__(**keys)
        self.modulus = modulus
        self.rate = rate

    @property
    def spec(self) -> Spec:
        """One digit per step, one of m sums."""
        return Spec(self.task, vocabularies=(self.modulus,), num_outputs=self.modulus, max_length=self.max_length)

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) digits and (N,) sums."""
        digits = random.integers(1, self.modulus, size=lengths.sum()) * (random.random(lengths.sum()) < self.rate)
        total = digits.cumsum()
        before = np.concatenate([[0], total[lengths.cumsum()[:-1] - 1]])  # what stood there when the sequence began
        sums = (total - np.repeat(before, lengths)) % self.modulus
        return torch.from_numpy(digits).unsqueeze(1), torch.from_numpy(sums)


class Lexicon(Generated):
    """Predict the next letter of a made-up language: characters of text, without a text.

    Words of 2 to 6 letters are drawn once, from `seed` alone; each word is followed by one of `num_successors` others,
    with probabilities proportional to 1, 1/2, 1/3, … A sequence is cut out of endless text at a random letter, as
    Cooijmans et al. (2017) cut theirs out of the Penn Treebank, so that the distribution of the input is the same at
    every step and only the network's own state passes through a transient. Within a word the next letter is nearly
    certain; at its end the word before helps: a network must carry what it has read over a few steps, at any length.

    Args:
        num_words: different words.
        num_letters: different letters beside the space.
        num_successors: words that can follow a word.
        **keys: see `rnnnorm.data.synthetic.Generated`.

    Raises:
        ValueError: fewer than 2 words, letters or successors, or more successors than words.
    """

    task = "language-modelling"
    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(("num_words", "num_letters", "num_successors"), at_least(2))

    def __init__(self, num_words: int = 60, num_letters: int = 16, num_successors: int = 6, **keys: Any) -> None:
        super().__init__(**keys)
        if num_successors > num_words:
            raise ValueError(f"num_successors is {num_successors}: at most num_words, {num_words}, is possible")
        self.num_words, self.num_letters, self.num_successors = num_words, num_letters, num_successors

    @property
    def spec(self) -> Spec:
        """Token 0 is the space, the others are letters."""
        size = self.num_letters + 1
        return Spec(self.task, vocabularies=(size,), num_outputs=size, max_length=self.max_length)

    def language(self) -> tuple[list[Integers], Integers]:
        """The words, each with its space at the end, and which words follow each, (num_words, num_successors)."""
        random = np.random.default_rng([self.seed, 1000])
        words = []
        for length in random.integers(2, 7, size=self.num_words):
            words.append(np.append(random.integers(1, self.num_letters + 1, size=length), 0))
        followers = np.stack(
            [random.choice(self.num_words, self.num_successors, replace=False) for _ in range(self.num_words)]
        )
        return words, followers

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 1) letters and (N,) next letters."""
        words, followers = self.language()
        shares = 1 / np.arange(1, self.num_successors + 1)
        steps = int(lengths.max()) // 3 + 4  # enough words of at least three letters, the first ones cut
        chosen = np.empty((len(lengths), steps), dtype=np.int64)
        chosen[:, 0] = random.integers(self.num_words, size=len(lengths))
        picks = random.choice(self.num_successors, size=(len(lengths), steps), p=shares / shares.sum())
        for k in range(1, steps):
            chosen[:, k] = followers[chosen[:, k - 1], picks[:, k]]
        inputs, targets = [], []
        for row, length in zip(chosen, lengths, strict=True):
            start = int(random.integers(len(words[row[0]])))
            text = np.concatenate([words[word] for word in row])[start : start + length + 1]
            inputs.append(text[:-1])
            targets.append(text[1:])
        return torch.from_numpy(np.concatenate(inputs)).unsqueeze(1), torch.from_numpy(np.concatenate(targets))
