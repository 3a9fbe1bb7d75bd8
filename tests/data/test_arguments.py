"""Arguments that no data module accepts, and data sets that are not there: each is named, with what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rnnnorm.data import (
    AddingProblem,
    DelayedRecall,
    JapaneseVowels,
    LanguageModel,
    Names,
    PartOfSpeech,
    PolyphonicMusic,
    SequenceDataModule,
    SequentialMNIST,
    SpokenDigits,
    TemporalOrder,
)

COUNT = "must be an integer of at least"


@pytest.mark.parametrize(
    ("module", "keys", "message"),
    [
        *((TemporalOrder, {key: -1}, f"{key} {COUNT} 1") for key in ("batch_size", "eval_batch_size")),
        *((TemporalOrder, {key: -1}, f"{key} {COUNT} 0") for key in ("num_workers", "seed", "shuffle_seed")),
        (AddingProblem, {"min_length": 1}, f"min_length {COUNT} 2, got 1"),
        (AddingProblem, {"length_distribution": "fixed", "max_length": 1}, f"max_length {COUNT} 2, got 1"),
        (AddingProblem, {"min_length": 20, "max_length": 10}, "min_length is 20 and max_length 10"),
        (AddingProblem, {"length_distribution": "normal"}, "one of fixed, uniform, heavy-tailed, got 'normal'"),
        (AddingProblem, {"num_val": 0}, f"num_val {COUNT} 1, got 0"),
        (DelayedRecall, {"min_length": 6}, f"min_length {COUNT} 7, got 6"),
        (DelayedRecall, {"num_recall": 0}, f"num_recall {COUNT} 1, got 0"),
        (DelayedRecall, {"num_symbols": 1}, f"num_symbols {COUNT} 2, got 1"),
        (TemporalOrder, {"min_length": 9}, f"min_length {COUNT} 10, got 9"),
        (TemporalOrder, {"num_relevant": 4}, "num_relevant must be one of 2, 3, got 4"),
        (SequentialMNIST, {"permuted": "yes"}, "permuted must be one of none, true, published, got 'yes'"),
        (SequentialMNIST, {"step": "column"}, "step must be one of pixel, row, got 'column'"),
        (SequentialMNIST, {"downsample": 3}, "one of 1, 2, 4, 7, 14, 28, the divisors of 28, got 3"),
        (SequentialMNIST, {"downsample": 0}, "divisors of 28, got 0"),
        (SequentialMNIST, {"permuted": "published", "downsample": 2}, "must be 1, not 2"),
        (SequentialMNIST, {"num_val": 0}, f"num_val {COUNT} 1, got 0"),
        (SequentialMNIST, {"num_train": -1}, f"num_train {COUNT} 1 or None, got -1"),
        (PolyphonicMusic, {"dataset": "muse"}, "dataset must be one of jsb, nottingham, got 'muse'"),
        (PartOfSpeech, {"tags": "lemma"}, "tags must be one of upos, xpos, got 'lemma'"),
        (PartOfSpeech, {"features": ["word", "suffix9"]}, r"unknown features \['suffix9'\].*word, suffix3"),
        (PartOfSpeech, {"features": []}, "one or more different names"),
        (PartOfSpeech, {"features": ["word", "word"]}, "one or more different names"),
        (PartOfSpeech, {"min_freq": 0}, f"min_freq {COUNT} 1, got 0"),
        (PartOfSpeech, {"max_train_length": 0}, f"max_train_length {COUNT} 1 or None, got 0"),
        (LanguageModel, {"dataset": "ptb"}, "dataset must be one of wikitext2, tinyshakespeare, folder, got 'ptb'"),
        (LanguageModel, {"level": "byte"}, "level must be one of word, char or None, got 'byte'"),
        (LanguageModel, {"mode": "lines"}, "mode must be one of sentences, segments, stream, got 'lines'"),
        (LanguageModel, {"max_length": 0}, f"max_length {COUNT} 1 or None, got 0"),
        (LanguageModel, {"bptt": 0}, f"bptt {COUNT} 1, got 0"),
        (LanguageModel, {"min_freq": 0}, f"min_freq {COUNT} 1, got 0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else getattr(value, "__name__", str(value)),
)
def test_impossible_keys_are_errors(module: type[SequenceDataModule], keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**keys)


@pytest.mark.parametrize(
    ("module", "place"),
    [
        (SequentialMNIST, "mnist.train-images-idx3-ubyte"),
        (SpokenDigits, "fsdd.recordings"),
        (JapaneseVowels, r"japanese_vowels.JapaneseVowels_TRAIN\.ts"),
        (PartOfSpeech, r"ud_english_ewt.en_ewt-ud-train\.conllu"),
        (Names, r"names.Arabic\.txt"),
        (LanguageModel, r"wikitext2.train\.txt"),
        (PolyphonicMusic, r"polymusic.*JSB_Chorales\.mat"),
    ],
)
def test_missing_files_are_named(module: type[SequenceDataModule], place: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=place):
        module(data_dir=str(tmp_path), download=False).lengths("train")  # type: ignore[call-arg]
