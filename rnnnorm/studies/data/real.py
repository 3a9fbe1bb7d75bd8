"""Real data that several studies take beside generated ones: the `data` parts of configurations."""

from __future__ import annotations

from itertools import islice
from typing import Any

from rnnnorm.studies.data.plain_training import build_data
from rnnnorm.studies.framework.settings import Settings

VOWELS = {"class_path": "rnnnorm.data.JapaneseVowels", "init_args": {"batch_size": 16}}


def shakespeare(**keys: Any) -> dict[str, Any]:
    """Tiny Shakespeare, letter by letter, with keys of `rnnnorm.data.LanguageModel`."""
    return {"class_path": "rnnnorm.data.LanguageModel", "init_args": {"dataset": "tinyshakespeare", **keys}}


def stream(settings: Settings, source: str, seed: int, study: str) -> tuple[dict[str, Any], int | None]:
    """The configuration of a study whose batches continue each other, and after how many steps to stop (None: never).

    Args:
        settings: of the study.
        source: "running-order", whose data depend on the seed, "shakespeare" or "own".
        seed: of the trial.
        study: whose.

    Raises:
        ValueError: own data of which none of the first two batches continues another one.
    """
    if source == "running-order":
        return settings.configured(data={"seed": seed}), None
    if source == "own":
        data = build_data(settings.configured(), seed)
        if not any(batch.continues for batch in islice(data.train_dataloader(), 2)):
            raise ValueError(
                f"study {study!r} needs a stream whose batches continue each other, such as "
                f"rnnnorm.data.LanguageModel with mode=stream, got {type(data).__name__}"
            )
        return settings.configured(), None
    small: dict[str, Any] = settings.option("shakespeare")
    text = shakespeare(data_dir=settings.data_dir, mode="stream", **{key: small[key] for key in ("bptt", "batch_size")})
    model = {key: small[key] for key in ("hidden_size", "learning_rate")}
    return settings.configured(data=text, model=model, trainer={"max_epochs": small["epochs"]}), small["steps"]
