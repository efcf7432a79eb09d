"""The length-controlled (LC) win rate of AlpacaEval 2.0 (Dubois et al. 2024, arXiv 2404.04475), fitted exactly.

The official tool (`alpaca_eval/metrics/glm_winrate.py`) predicts the preference with a logistic regression on three
features,

    x = (tanh(delta / std(delta)), difficulty of the instruction, 1),   delta = baseline's length - candidate's, in
    characters,

with an L1 penalty and 1,610 extra "gamed" rows (the baseline made verbose and concise, against itself) whose third
feature is 0 and whose weight is 0.1. LC is the mean prediction with the length term set to 0. The official optimiser
stops early and picks its C by a cross-validation that depends on the scikit-learn version; here the optimum is exact
(`lc_regression`), and C is declared, or chosen in `lc_cross_validation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from seft_bench.stats.intervals import t_quantile
from seft_bench.stats.lc_regression import (
    NO_GAMED_ROWS,
    Comparisons,
    Floats,
    GamedRows,
    Problems,
    evaluate,
    every_gamed_row,
    length_feature,
    sigmoid,
    solve,
)

__all__ = [
    "DECLARED_C",
    "NO_GAMED_ROWS",
    "RESAMPLES",
    "Comparisons",
    "GamedRows",
    "LengthControlled",
    "fit",
    "length_controlled",
    "refitted",
    "with_bootstrap",
]

DECLARED_C = 21.544346900318832
"""The grid value of the official tool (logspace(-4, 4, 10)) that most published models were fitted with."""

RESAMPLES, BOOTSTRAP_SEED = 2000, 0
_BATCH_SIZE = 50  # refits at a time: larger batches fall out of the processor's cache


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """LC win rate in percent with its 95 % interval.

    Attributes:
        standard_error: how LC moves when the questions are drawn again.
        standard_error_official: what the official table calls `lc_standard_error`: the standard error of the mean of
            the fitted predictions. It takes the weights as known, so it is smaller, and no interval of LC.
        weights: of (length, difficulty, constant).
        c: the C of the fit; None where nothing is fitted (a model against itself).
        influence: first-order effect of each question's weight on LC, in percent, shape (n,), summing to 0; differences
            of two models' influences give the standard error of their LC difference.
    """

    win_rate: float
    low: float
    high: float
    standard_error: float
    standard_error_official: float
    weights: tuple[float, float, float]
    c: float | None
    influence: Floats = field(compare=False)


def length_controlled(data: Comparisons, c: float = DECLARED_C) -> LengthControlled:
    """LC win rate with a 95 % interval over questions, by influence functions (the sandwich formula).

    The interval says how LC moves when the questions are drawn again, the standardisation of lengths included; it
    agrees with the refitting bootstrap (`with_bootstrap`).

    Raises:
        ValueError: fewer than two comparisons.
    """
    n = data.wins.size
    if n < 2:
        raise ValueError("a length-controlled win rate needs at least two comparisons")
    if is_against_itself(data):
        return LengthControlled(50.0, 50.0, 50.0, 0.0, 0.0, (0.0, 0.0, 0.0), None, np.zeros(n))
    weights = fit(data, c)
    predicted = 100.0 * sigmoid(data.difficulty * weights[1] + weights[2])
    value = float(predicted.mean())
    influence = 100.0 * _influence(data, weights)
    error = float(np.sqrt(np.sum(influence**2) * n / (n - 1)))
    margin = t_quantile(n - 1) * error
    official = float(predicted.std(ddof=1) / np.sqrt(n))
    fitted = (float(weights[0]), float(weights[1]), float(weights[2]))
    return LengthControlled(
        value, max(0.0, value - margin), min(100.0, value + margin), error, official, fitted, c, influence
    )


def with_bootstrap(
    found: LengthControlled, data: Comparisons, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> LengthControlled:
    """Return the same figure with interval and standard error of the refitting bootstrap, at the same C.

    The interval is the 95 % percentile interval.
    """
    if found.c is None:
        return found
    values = refitted(data, resamples, seed, found.c)
    low, high = np.percentile(values, [2.5, 97.5])
    return replace(found, low=float(low), high=float(high), standard_error=float(values.std(ddof=1)))


def fit(data: Comparisons, c: float = DECLARED_C) -> Floats:
    """The exact optimum: weights of (length, difficulty, constant), shape (3,)."""
    ones = np.ones((1, data.wins.size))
    weights: Floats = solve(
        Problems(data, length_feature(data.length_difference, ones), ones, every_gamed_row(data), c)
    )[0]
    return weights


def refitted(
    data: Comparisons,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
    c: float = DECLARED_C,
    batch_size: int = _BATCH_SIZE,
) -> Floats:
    """Return LC win rates (percent), shape (resamples,), each refitted on questions drawn with replacement.

    The gamed rows stay.
    """
    rng = np.random.default_rng(seed)
    n = data.wins.size
    start = fit(data, c)
    values: list[Floats] = []
    for first in range(0, resamples, batch_size):
        size = min(batch_size, resamples - first)
        counts = rng.multinomial(n, np.full(n, 1.0 / n), size=size).astype(np.float64)
        problems = Problems(data, length_feature(data.length_difference, counts), counts, every_gamed_row(data), c)
        weights = solve(problems, np.tile(start, (size, 1)))
        predicted = sigmoid(weights[:, 1:2] * data.difficulty + weights[:, 2:3])
        values.append(100.0 * (counts * predicted).sum(axis=1) / n)
    return np.concatenate(values)


def is_against_itself(data: Comparisons) -> bool:
    """The baseline's own answers: equal lengths, all draws. The gamed rows alone must not move it from 50."""
    return not data.length_difference.any() and bool((data.wins == 0.5).all())


def _influence(data: Comparisons, weights: Floats) -> Floats:
    """First-order effect of one question's weight on LC (as a share): shape (n,), summing to 0.

    Three ways lead there: the mean over questions, the fitted weights, and the standard deviation that scales the
    lengths. Coefficients at 0 stay there (their optimality condition holds with slack).
    """
    n, ones = data.wins.size, np.ones((1, data.wins.size))
    length = length_feature(data.length_difference, ones)
    hessian = evaluate(Problems(data, length, ones, every_gamed_row(data), 1.0), weights[None, :], 0.0).hessian[0]
    features = np.stack([length[0], data.difficulty, np.ones(n)], axis=1)
    predicted = sigmoid(features @ weights)
    scores = (data.wins - predicted)[:, None] * features
    scale_effect, deviation_change = _scale_terms(data, weights, features, predicted)
    pull = scores - scores.mean(axis=0) + deviation_change[:, None] * scale_effect
    shift = np.zeros((n, 3))
    active = np.flatnonzero(weights)
    if active.size:
        shift[:, active] = np.linalg.solve(hessian[np.ix_(active, active)], pull[:, active].T).T
    level = sigmoid(data.difficulty * weights[1] + weights[2])
    slope = level * (1.0 - level)
    return np.asarray(
        (level - level.mean()) / n
        + shift[:, 1] * float((slope * data.difficulty).mean())
        + shift[:, 2] * float(slope.mean())
    )


def _scale_terms(data: Comparisons, weights: Floats, features: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Return the derivative of the summed scores by the lengths' standard deviation, and that one's own influence.

    Shapes (3,) and (n,).
    """
    difference, n = data.length_difference, data.wins.size
    deviation = float(difference.std(ddof=1))
    if deviation == 0.0:
        return np.zeros(3), np.zeros(n)
    slope = -(difference / deviation**2) * (1.0 - features[:, 0] ** 2)
    direct = np.array([float(((data.wins - predicted) * slope).sum()), 0.0, 0.0])
    through_fit = -((predicted * (1.0 - predicted) * weights[0] * slope) @ features)
    centred = (difference - difference.mean()) ** 2
    return direct + through_fit, (centred - centred.mean()) / (2.0 * deviation * (n - 1))
