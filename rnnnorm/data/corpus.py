"""Running text as tokens: words or characters, as one stream or as independent sentences."""

from __future__ import annotations

from typing import Literal

Level = Literal["word", "char"]

BOUNDARY: dict[Level, str] = {"word": "<eos>", "char": "\n"}
"""The token that ends a sentence. It also stands before the first token, in place of a <bos>: so both modes have the
same vocabulary, and sentences are read as the stream reads them, where the end of the last one comes before."""


def stream(text: str, level: Level) -> list[list[str]]:
    """All tokens of a text in order, as a list of lists to be read one after the other.

    Words: those of each line, between white space, followed by ``<eos>``; a blank line is an ``<eos>`` alone. This is
    what torchtext's `LanguageModelingDataset` reads and the convention of published word-level perplexities.
    Characters: every one, line feeds included.
    """
    if level == "char":
        return [list(text)]
    return [[*line.split(), BOUNDARY[level]] for line in text.removesuffix("\n").split("\n")]


def sentences(text: str, level: Level, separator: str) -> list[list[str]]:
    """The tokens of each non-blank unit of a text, a boundary token before and after.

    Args:
        text: the text.
        level: "word" or "char".
        separator: what stands between units: a line feed if they are lines, two if they are paragraphs or speeches.
    """
    units = [unit for unit in text.split(separator) if unit.strip()]
    boundary = BOUNDARY[level]
    return [[boundary, *(unit.split() if level == "word" else unit), boundary] for unit in units]
