"""CoNLL-U, the file format of Universal Dependencies treebanks: ten tab-separated columns, one word a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

NUM_COLUMNS = 10
EMPTY = "_"  # what the format writes where a treebank has no annotation


class Sentence(NamedTuple):
    """The words of one sentence and their part-of-speech tags, one entry a word.

    Args:
        words: column FORM, spelled as in the text.
        upos: column UPOS, the universal tags.
        xpos: column XPOS, the tags of the treebank's own scheme.
    """

    words: list[str]
    upos: list[str]
    xpos: list[str]


def read_conllu(lines: Iterable[str], source: str = "CoNLL-U text") -> Iterator[Sentence]:
    """Sentences of a CoNLL-U file, syntactic words only.

    Multiword tokens (an id with "-", as in ``8-9 don't``) repeat the words that follow them, and empty nodes (an id
    with ".", as in ``8.1``) are not in the text, so both are skipped. Comments start with ``#``; a blank line ends a
    sentence.

    torchtext's `SequenceTaggingDataset` reads tab-separated columns too, but would take comments, multiword tokens and
    empty nodes for words.

    Args:
        lines: the file's lines, with or without their line feeds.
        source: the file's name, for error messages.

    Raises:
        ValueError: a line without ten columns; it names the source and the line.

    Source: https://universaldependencies.org/format.html
    """
    sentence = Sentence([], [], [])
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip("\r\n")
        if not line:
            if sentence.words:
                yield sentence
                sentence = Sentence([], [], [])
            continue
        if line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != NUM_COLUMNS:
            raise ValueError(
                f"{source}, line {number}: {len(columns)} tab-separated columns where CoNLL-U has {NUM_COLUMNS}: "
                f"{line[:60]!r}"
            )
        if "-" in columns[0] or "." in columns[0]:
            continue
        sentence.words.append(columns[1])
        sentence.upos.append(columns[3])
        sentence.xpos.append(columns[4])
    if sentence.words:
        yield sentence
