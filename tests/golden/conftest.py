"""Fixtures of the tests against official figures."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def mt_bench(official_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real judgments and answers of MT-Bench, with its official files at hand and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return official_data / "mt_bench"
