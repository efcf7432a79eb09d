"""Thousands of judgments against a server that fails in fourteen ways: `benchmarks/soak.py`, on a small scale."""

from __future__ import annotations

import sys

import pytest

from tests.benchmark_scripts import load_script


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_mixed_up_and_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = load_script("soak").soak(judgments=5000, in_flight=64, faults=0.1)
    assert {name: found[name] for name in ("lost", "doubled", "mixed_up", "unstored")} == {
        "lost": 0,
        "doubled": 0,
        "mixed_up": 0,
        "unstored": 0,
    }
    assert found["kinds"] == 14
    assert found["faults"] > 500
    early, late = found["megabytes"]
    assert late - early < 20
