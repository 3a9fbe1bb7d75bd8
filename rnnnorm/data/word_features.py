"""Spelling features of a word: one string-to-string function for each of spelling, affixes and shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
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


def _spelling(word: str) -> str:
    return word


def _suffix2(word: str) -> str:
    return word[-2:].lower()


def _suffix3(word: str) -> str:
    return word[-3:].lower()


def _prefix2(word: str) -> str:
    return word[:2].lower()


def _prefix3(word: str) -> str:
    return word[:3].lower()


FEATURES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "word": _spelling,
        "suffix3": _suffix3,
        "suffix2": _suffix2,
        "prefix3": _prefix3,
        "prefix2": _prefix2,
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
