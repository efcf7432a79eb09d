"""Win matrix: how often one model's figure is higher than another's on the same question."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TIE = 1e-9
"""Figures no further apart than this are a tie: what is left of rounding."""


def win_shares(figures: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Share of the shared questions on which the row's model has the higher figure, a tie counting half.

    Args:
        figures: of shape (models, questions); NaN where a question was not scored.

    Returns:
        shares: of shape (models, models); NaN where two models share no question; 0.5 on the diagonal.
        shared: of the same shape, how many questions both models have a figure for.
    """
    models = len(figures)
    shares = np.full((models, models), np.nan)
    shared = np.zeros((models, models), dtype=np.int64)
    for row in range(models):
        difference = figures[row] - figures
        shared[row] = np.isfinite(difference).sum(axis=1)
        wins = (difference > TIE).sum(axis=1) + 0.5 * (np.abs(difference) <= TIE).sum(axis=1)
        shares[row] = np.divide(wins, shared[row], out=shares[row], where=shared[row] > 0)
    return shares, shared
