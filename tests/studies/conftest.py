"""Studies see no real data unless a test says so."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNNNORM_DATA", raising=False)
