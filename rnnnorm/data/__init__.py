"""Ragged sequences as LightningDataModules: generated problems, speech, music, digits, text, and your own files."""

from __future__ import annotations

from rnnnorm.data.base import Batch, Spec
from rnnnorm.data.digits import SequentialMNIST
from rnnnorm.data.labelled_text import LabelledText
from rnnnorm.data.language_modelling import LanguageModel
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.data.music import PolyphonicMusic
from rnnnorm.data.plain_text import PlainText
from rnnnorm.data.speech import SpokenDigits
from rnnnorm.data.synthetic import AddingProblem, DelayedRecall, TemporalOrder
from rnnnorm.data.tagged_text import TaggedText
from rnnnorm.data.text import Names, PartOfSpeech
from rnnnorm.data.time_series import TimeSeries, TimeSeriesRegression
from rnnnorm.data.vowels import JapaneseVowels

__all__ = [
    "AddingProblem",
    "Batch",
    "DelayedRecall",
    "JapaneseVowels",
    "LabelledText",
    "LanguageModel",
    "Names",
    "PartOfSpeech",
    "PlainText",
    "PolyphonicMusic",
    "SequenceDataModule",
    "SequentialMNIST",
    "Spec",
    "SpokenDigits",
    "TaggedText",
    "TemporalOrder",
    "TimeSeries",
    "TimeSeriesRegression",
]
