"""Base class of data modules with vocabularies, which are saved in checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from rnnnorm.data.module import SequenceDataModule


class TokenDataModule(SequenceDataModule):
    """A `SequenceDataModule` whose inputs or targets are ids of tokens.

    The vocabularies are part of its state, so Lightning writes them into checkpoints. A model's embeddings mean nothing
    with another vocabulary, so loading a checkpoint over other data is an error and not a silent confusion of ids.
    """

    @property
    @abstractmethod
    def vocabularies(self) -> dict[str, list[str]]:
        """Tokens in the order of their ids, for each input column and, if it is one, for the target."""

    def state_dict(self) -> dict[str, Any]:
        """The vocabularies."""
        return {"vocabularies": self.vocabularies}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a checkpoint was written over the same vocabularies.

        Raises:
            ValueError: it was not; it says what differs first.
        """
        saved = state_dict["vocabularies"]
        own = self.vocabularies
        if list(saved) != list(own):
            raise ValueError(f"the checkpoint has vocabularies of {', '.join(saved)}; the data have {', '.join(own)}")
        for name, tokens in own.items():
            if tokens != saved[name]:
                differ = (i for i, (a, b) in enumerate(zip(tokens, saved[name], strict=False)) if a != b)
                first = next(differ, min(len(tokens), len(saved[name])))
                raise ValueError(
                    f"the checkpoint's vocabulary of {name!r} has {len(saved[name])} entries and the data's has "
                    f"{len(tokens)}; they differ first at id {first}: {saved[name][first : first + 1]} in the "
                    f"checkpoint, {tokens[first : first + 1]} in the data"
                )
