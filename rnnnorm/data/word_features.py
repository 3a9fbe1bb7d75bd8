"""Spelling features of a word: one string-to-string function for each of spelling, affixes and shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from types import MappingProxyType

_SHAPE = ((re.compile(r"[^\W\d_]"), lambda m: "X" if m[0].isupper() else "x"), (re.compile(r"\d"), "d"))
_RUN = re.compile(r"(.)\1+")


@lru_cache(maxsize=1 << 16)  # a corpus repeats its words
def shape(word: str) -> str:
    """The word's capitalization and digits: upper case → X, other letters → x, digits → d, each run written once.

    >>> shape("McDonald's"), shape("1,234"), shape("USA"), shape("eBay")
    ("XxXx'x", 'd,d', 'X', 'xXx')
    """
    for pattern, symbol in _SHAPE:
        word = pattern.sub(symbol, word)
    return _RUN.sub(r"\1", word)


def _affix(start: int | None, stop: int | None, word: str) -> str:
    return word[start:stop].lower()


FEATURES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "word": str,
        "suffix3": partial(_affix, -3, None),
        "suffix2": partial(_affix, -2, None),
        "prefix3": partial(_affix, None, 3),
        "prefix2": partial(_affix, None, 2),
        "shape": shape,
    }
)
"""Name → function. Affixes are lower-cased and, in a word that is shorter, the whole word; `shape` keeps the case. The
classical features of statistical taggers for words never seen in training (Ratnaparkhi 1996, "A maximum entropy model
for part-of-speech tagging")."""


def check_features(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        ValueError: no name, one given twice, or one that does not exist; it lists those that do.
    """
    chosen = tuple(names)
    unknown = [name for name in chosen if name not in FEATURES]
    if unknown:
        raise ValueError(f"unknown features {unknown}; choose from: {', '.join(FEATURES)}")
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"features must be one or more different names of {', '.join(FEATURES)}, got {list(chosen)}")
    return chosen
