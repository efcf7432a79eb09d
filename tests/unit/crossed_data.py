"""Simulated scores of two methods over questions and seeds."""

from __future__ import annotations

import numpy as np

from seft_bench.stats.crossed import MethodDifference, method_difference
from seft_bench.stats.lc_regression import NO_GAMED_ROWS, Comparisons


def drawn(seed: int, k: int = 3, n: int = 80, own: float = 0.5, between: float = 0.2, rest: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, own, n) + rng.normal(0, between, (k, 1)) + rng.normal(0, rest, (k, n))


def against_zero(grid: np.ndarray) -> MethodDifference:
    return method_difference(grid, np.zeros_like(grid), paired=True)


def simulated_comparisons(seed: int, n: int = 60, level: float = 0.0) -> Comparisons:
    rng = np.random.default_rng(seed)
    lengths = rng.normal(50, 200, n)
    wins = 1 / (
        1
        + np.exp(
            -(level + np.random.default_rng(99).normal(0, 1, n) - 0.3 * np.tanh(lengths / 200) + rng.normal(0, 1, n))
        )
    )
    return Comparisons(wins, lengths, np.zeros(n), NO_GAMED_ROWS)
