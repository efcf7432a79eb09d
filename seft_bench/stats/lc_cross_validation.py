"""C of the length-control regression by cross-validation, over the official tool's grid and score.

`alpaca_eval/metrics/glm_winrate.py` (0.6.6) hands rows, each doubled into a win and a loss, to scikit-learn: 10 values
of C, 5 folds of `GroupKFold`, the mean weighted log-loss of the held-out rows, the smallest C among equals, lengths
standardised once over all rows. Which fold a row falls into is there left to an unstable sort. Here it is a rule: an
instruction's position in the question set modulo 5, for the model's row and for the gamed rows of that instruction
alike, so no fold knows an instruction of another. On all 805 questions that is the assignment that a stable sort would
give there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats.lc_regression import (
    GAMED_WEIGHT,
    Comparisons,
    Floats,
    Problems,
    length_feature,
    log_losses,
    solve,
)

GRID: tuple[float, ...] = tuple(float(value) for value in np.logspace(-4, 4, 10))
FOLDS = 5


@dataclass(frozen=True, slots=True)
class ChosenC:
    """The C with the smallest held-out loss, and the mean loss of every value of `GRID`."""

    c: float
    losses: tuple[float, ...]


def cross_validated_c(data: Comparisons, positions: NDArray[np.int_], gamed_positions: NDArray[np.int_]) -> ChosenC:
    """Choose C; the same rows always give the same C.

    Args:
        positions: of each comparison's instruction in the question set, from 0; shape (n,).
        gamed_positions: of each gamed row's instruction; shape (gamed rows,).

    Raises:
        ValueError: a fold has no comparison.
    """
    held_out = positions % FOLDS == np.arange(FOLDS)[:, None]
    gamed_held_out = gamed_positions % FOLDS == np.arange(FOLDS)[:, None]
    if not held_out.any(axis=1).all():
        raise ValueError(f"cross-validation in {FOLDS} folds needs a comparison in each of them")
    length = length_feature(data.length_difference, np.ones((1, data.wins.size)))
    weights = np.zeros((FOLDS, 3))
    losses = []
    for c in GRID:
        # Each fit starts where the last one ended.
        weights = solve(Problems(data, length, 1.0 - held_out, 1.0 - gamed_held_out, c), weights)
        losses.append(float(_held_out_losses(data, length, weights, held_out, gamed_held_out).mean()))
    return ChosenC(GRID[int(np.argmin(losses))], tuple(losses))


def _held_out_losses(
    data: Comparisons, length: Floats, weights: Floats, held_out: NDArray[np.bool_], gamed_held_out: NDArray[np.bool_]
) -> Floats:
    """Weighted log-loss a held-out row, shape (folds,)."""
    gamed = data.gamed
    own = log_losses(data.wins, weights[:, :1] * length + weights[:, 1:2] * data.difficulty + weights[:, 2:])
    extra = log_losses(gamed.preference, weights[:, :1] * gamed.tanh_length + weights[:, 1:2] * gamed.difficulty)
    total = (held_out * own).sum(axis=1) + GAMED_WEIGHT * (gamed_held_out * extra).sum(axis=1)
    losses: Floats = total / (held_out.sum(axis=1) + gamed_held_out.sum(axis=1))
    return losses
