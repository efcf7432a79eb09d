"""Fixtures shared by all tests: isolation from the user's environment, and where the real test material lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder with the real AlpacaEval and MT-Bench material: SEFT_BENCH_SHARED, else ../shared beside the checkout."""
    return Path(os.environ.get("SEFT_BENCH_SHARED") or REPOSITORY.parent / "shared")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The `data` folder of the shared material; the test is skipped, saying so, where it is absent."""
    folder = shared_folder() / "data"
    if not folder.is_dir():
        pytest.skip(f"SHARED DATA ABSENT: {folder} (set SEFT_BENCH_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's keys, data folder or store, and none reaches for the hub."""
    for name in ("OPENAI_API_KEY", "SEFT_BENCH_DATA_DIR", "SEFT_BENCH_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
