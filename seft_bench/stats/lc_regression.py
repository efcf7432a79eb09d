"""The regression behind the length-controlled win rate, solved exactly for many problems at once.

    minimise  sum_i v_i * logloss(p_i, x_i . w)  +  |w|_1 / C,      x = (tanh(standardised length difference),
    difficulty, 1)

One batched solver serves the fit (a batch of one), the refitting bootstrap (a batch of question weights) and the
cross-validation (a batch of folds). What the rows mean is said in `length_control`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GAMED_WEIGHT = 0.1
_MAXIMUM_STEPS = 100
_TOLERANCE = 1e-10
_SIGNS = np.array(list(product((-1.0, 0.0, 1.0), repeat=3)))
"""Every way in which coefficients may be signed or zero, shape (27, 3)."""


@dataclass(frozen=True, slots=True)
class GamedRows:
    """The gamed rows, each of shape (rows,); `preference` is the probability in [0, 1].

    At a given C their preferences enter only through two sums; cross-validation needs those sums by fold.
    """

    tanh_length: Floats
    difficulty: Floats
    preference: Floats

    @property
    def preference_by_length(self) -> float:
        return float(self.preference @ self.tanh_length)

    @property
    def preference_by_difficulty(self) -> float:
        return float(self.preference @ self.difficulty)


NO_GAMED_ROWS = GamedRows(np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Comparisons:
    """One model's judged comparisons, one entry a question.

    Attributes:
        wins: probability that the candidate wins, in [0, 1]; shape (n,).
        length_difference: baseline's length - candidate's, in characters; shape (n,).
        difficulty: of the instruction (0 where there is none); shape (n,).
        gamed: the extra rows, or `NO_GAMED_ROWS` for question sets without them.
    """

    wins: Floats
    length_difference: Floats
    difficulty: Floats
    gamed: GamedRows


@dataclass(frozen=True, slots=True)
class Problems:
    """A batch of regressions on the same rows.

    Attributes:
        length: tanh of the standardised length difference, shape (batch or 1, n).
        counts: how often each comparison counts, shape (batch, n).
        gamed_counts: the same of each gamed row, shape (batch or 1, gamed rows).
        c: inverse strength of the penalty.
    """

    data: Comparisons
    length: Floats
    counts: Floats
    gamed_counts: Floats
    c: float


@dataclass(frozen=True, slots=True)
class Point:
    """Objective and derivatives at the weights `at`, each with a leading batch axis.

    The penalty is not in the derivatives.
    """

    at: Floats
    objective: Floats
    gradient: Floats
    hessian: Floats


def every_gamed_row(data: Comparisons) -> Floats:
    """Each gamed row once: shape (1, gamed rows)."""
    return np.ones((1, data.gamed.preference.size))


def sigmoid(z: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def length_feature(difference: Floats, counts: Floats) -> Floats:
    """tanh of the standardised length difference (ddof 1) under each row of question counts: shape (batch, n).

    Where all differences are equal, length tells nothing and the feature is 0.
    """
    total = counts.sum(axis=1, keepdims=True)
    centred = difference - difference.mean()
    mean = counts @ centred[:, None] / total
    variance = np.maximum(counts @ (centred * centred)[:, None] / total - mean * mean, 0.0) * total / (total - 1.0)
    deviation = np.sqrt(variance)
    constant = deviation <= 1e-9 * (1.0 + float(np.abs(difference).max()))
    return np.where(constant, 0.0, np.tanh(difference / np.where(constant, 1.0, deviation)))


def solve(problems: Problems, start: Floats | None = None) -> Floats:
    """Weights of (length, difficulty, constant), shape (batch, 3), by proximal Newton steps with step halving.

    Args:
        start: weights to begin with, shape (batch, 3); default 0.

    Raises:
        ArithmeticError: no convergence.
    """
    penalty = 1.0 / problems.c
    point = evaluate(problems, np.zeros((len(problems.counts), 3)) if start is None else start, penalty)
    for _ in range(_MAXIMUM_STEPS):
        step = _quadratic_optimum(point, penalty) - point.at
        if float(np.abs(step).max()) < _TOLERANCE:
            return point.at
        point = _descend(problems, point, step, penalty)
    raise ArithmeticError(f"the length-control regression did not converge in {_MAXIMUM_STEPS} steps")


def _descend(problems: Problems, point: Point, step: Floats, penalty: float) -> Point:
    """The point after the full Newton step, or after the largest halving of it that does not raise the objective."""
    scale = np.ones((len(step), 1))
    slack = 1e-12 * (1.0 + np.abs(point.objective))
    for _ in range(40):
        trial = evaluate(problems, point.at + scale * step, penalty)
        worse = trial.objective > point.objective + slack
        if not worse.any():
            break
        scale[worse] *= 0.5
    return trial


def evaluate(problems: Problems, weights: Floats, penalty: float) -> Point:
    """Objective, gradient (batch, 3) and Hessian (batch, 3, 3) at the weights."""
    difficulty, length = problems.data.difficulty, problems.length
    logits = weights[:, :1] * length + weights[:, 1:2] * difficulty + weights[:, 2:]
    predicted = sigmoid(logits)
    loss = (problems.counts * log_losses(problems.data.wins, logits)).sum(axis=1)
    gradient = _moments(problems.counts * (predicted - problems.data.wins), length, difficulty)
    hessian = _hessian(problems.counts * predicted * (1.0 - predicted), length, difficulty)
    loss = loss + _add_gamed(problems, weights, gradient, hessian)
    return Point(weights, loss + penalty * np.abs(weights).sum(axis=1), gradient, hessian)


def _add_gamed(problems: Problems, weights: Floats, gradient: Floats, hessian: Floats) -> Floats:
    """Add the gamed rows to the derivatives in place, and return their loss, shape (batch,)."""
    gamed = problems.data.gamed
    if not gamed.preference.size:
        return np.zeros(len(weights))
    length, difficulty = gamed.tanh_length, gamed.difficulty
    counts = GAMED_WEIGHT * problems.gamed_counts
    logits = weights[:, :1] * length + weights[:, 1:2] * difficulty
    predicted = sigmoid(logits)
    residual, curvature = counts * (predicted - gamed.preference), counts * predicted * (1.0 - predicted)
    gradient[:, :2] += residual @ np.stack([length, difficulty], axis=1)
    entries = curvature @ np.stack(
        [length * length, length * difficulty, length * difficulty, difficulty * difficulty], axis=1
    )
    hessian[:, :2, :2] += entries.reshape(-1, 2, 2)
    loss: Floats = (counts * log_losses(gamed.preference, logits)).sum(axis=1)
    return loss


def log_losses(wins: Floats, logits: Floats) -> Floats:
    """-(p log q + (1 - p) log(1 - q)) with q = sigmoid(logits), without overflow."""
    # A third of logaddexp's time.
    losses: Floats = np.maximum(logits, 0.0) + np.log(1.0 + np.exp(-np.abs(logits))) - wins * logits
    return losses


def _moments(values: Floats, length: Floats, difficulty: Floats) -> Floats:
    """Sum of values times each of the three features: shape (batch, 3)."""
    return np.stack([(values * length).sum(axis=1), values @ difficulty, values.sum(axis=1)], axis=1)


def _hessian(curvature: Floats, length: Floats, difficulty: Floats) -> Floats:
    by_length = _moments(curvature * length, length, difficulty)
    rest = _moments(curvature, length, difficulty)
    by_difficulty = np.stack([by_length[:, 1], curvature @ (difficulty * difficulty), rest[:, 1]], axis=1)
    return np.stack([by_length, by_difficulty, rest], axis=1)


def _quadratic_optimum(point: Point, penalty: float) -> Floats:
    """Exact minimum of the local quadratic model plus the L1 penalty: shape (batch, 3).

    With three coefficients all 27 sign patterns can be solved; the optimum is the one that meets the optimality
    conditions: a non-zero coefficient has its pattern's sign, and at a zero one the slope is within the penalty.
    """
    # A feature that is 0 everywhere has no curvature; its coefficient stays 0.
    curvature = point.hessian + 1e-10 * np.eye(3)
    target = np.einsum("bij,bj->bi", curvature, point.at) - point.gradient
    zero = _SIGNS == 0.0
    systems = np.where(zero[None, :, :, None], np.eye(3), curvature[:, None, :, :])
    right = np.where(zero, 0.0, target[:, None, :] - penalty * _SIGNS)
    candidates = np.linalg.solve(systems, right[..., None])[..., 0]
    slope = np.einsum("bij,bpj->bpi", curvature, candidates) - target[:, None, :]
    violation = np.where(zero, np.abs(slope) - penalty, -_SIGNS * candidates).max(axis=2)
    best = violation.argmin(axis=1)
    return np.asarray(candidates[np.arange(len(best)), best], dtype=np.float64)
