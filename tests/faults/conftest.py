"""Fixtures of the tests of faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.inference.store import ResponseStore


@pytest.fixture
def store(tmp_path: Path) -> ResponseStore:
    return ResponseStore(tmp_path / "store.sqlite")
