"""Real data that several studies take beside generated ones: the `data` parts of configurations."""

from __future__ import annotations

from typing import Any

from rnnnorm.studies.framework.settings import Settings

VOWELS = {"class_path": "rnnnorm.data.JapaneseVowels", "init_args": {"batch_size": 16}}


def shakespeare(**keys: Any) -> dict[str, Any]:
    """Tiny Shakespeare, letter by letter, with keys of `rnnnorm.data.LanguageModel`."""
    return {"class_path": "rnnnorm.data.LanguageModel", "init_args": {**keys, "dataset": "tinyshakespeare"}}


def stream(settings: Settings, source: str, seed: int) -> tuple[dict[str, Any], int | None]:
    """The configuration of a study whose batches continue each other, and after how many steps to stop (None: never).

    Args:
        settings: of the study.
        source: "running-order", whose data depend on the seed, "shakespeare" or "own".
        seed: of the trial.
    """
    if source != "shakespeare":
        return settings.configured(**({} if source == "own" else {"data": {"seed": seed}})), None
    small: dict[str, Any] = settings.option("shakespeare")
    data = shakespeare(data_dir=settings.data_dir, mode="stream", **{key: small[key] for key in ("bptt", "batch_size")})
    model = {key: small[key] for key in ("hidden_size", "learning_rate")}
    return settings.configured(data=data, model=model, trainer={"max_epochs": small["epochs"]}), small["steps"]
