"""Ragged sequences as LightningDataModules: generated problems, speech, music, digits and text."""

from __future__ import annotations

from rnnnorm.data.base import Batch, Spec
from rnnnorm.data.digits import SequentialMNIST
from rnnnorm.data.language_modelling import LanguageModel
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.data.music import PolyphonicMusic
from rnnnorm.data.speech import SpokenDigits
from rnnnorm.data.synthetic import AddingProblem, DelayedRecall, TemporalOrder
from rnnnorm.data.text import Names, PartOfSpeech
from rnnnorm.data.vowels import JapaneseVowels

__all__ = [
    "AddingProblem",
    "Batch",
    "DelayedRecall",
    "JapaneseVowels",
    "LanguageModel",
    "Names",
    "PartOfSpeech",
    "PolyphonicMusic",
    "SequenceDataModule",
    "SequentialMNIST",
    "Spec",
    "SpokenDigits",
    "TemporalOrder",
]
