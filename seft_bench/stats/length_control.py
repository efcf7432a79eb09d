"""The length-controlled (LC) win rate of AlpacaEval 2.0 (Dubois et al. 2024, arXiv 2404.04475), fitted exactly.

The official tool (`alpaca_eval/metrics/glm_winrate.py`) predicts the preference with a logistic regression on three features,

    x = (tanh(delta / std(delta)), difficulty of the instruction, 1),   delta = baseline's length - candidate's, in characters,

with an L1 penalty and 1,610 extra "gamed" rows (the baseline made verbose and concise, against itself) whose third feature is
0 and whose weight is 0.1. LC is the mean prediction with the length term set to 0. The official optimiser stops early and
picks its C by a cross-validation that depends on the scikit-learn version; here C is declared and the optimum is exact:

    minimise  sum_i v_i * logloss(p_i, x_i . w)  +  |w|_1 / C.

One solver serves the fit (a batch of one) and the refitting bootstrap (a batch of question weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats.intervals import t_quantile

Floats = NDArray[np.float64]

DECLARED_C = 21.544346900318832
"""The grid value of the official tool (logspace(-4, 4, 10)) that most published models were fitted with."""

GAMED_WEIGHT = 0.1
_MAXIMUM_STEPS = 100
_TOLERANCE = 1e-10
_SIGNS = np.array(list(product((-1.0, 0.0, 1.0), repeat=3)))  # (27, 3): every way in which coefficients may be signed or zero


@dataclass(frozen=True, slots=True)
class GamedRows:
    """The gamed rows: features, and the two sums through which their preferences enter a fit at a given C.

    Attributes:
        tanh_length, difficulty: shape (rows,).
        preference_by_length, preference_by_difficulty: sum of p * tanh_length, and of p * difficulty.
    """

    tanh_length: Floats
    difficulty: Floats
    preference_by_length: float
    preference_by_difficulty: float


NO_GAMED_ROWS = GamedRows(np.zeros(0), np.zeros(0), 0.0, 0.0)


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
class LengthControlled:
    """LC win rate in percent, its 95 % interval, and the weights of (length, difficulty, constant)."""

    win_rate: float
    low: float
    high: float
    standard_error: float
    weights: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Point:
    """Objective and derivatives at the weights `at`, each with a leading batch axis; the penalty is not in the derivatives."""

    at: Floats
    objective: Floats
    gradient: Floats
    hessian: Floats


def length_controlled(data: Comparisons, c: float = DECLARED_C) -> LengthControlled:
    """LC win rate with a 95 % interval over questions, by influence functions (the sandwich formula).

    The interval says how LC moves when the questions are drawn again, the standardisation of lengths included; it agrees with
    the refitting bootstrap. The official table's `lc_standard_error` is a smaller, different thing.

    Raises:
        ValueError: fewer than two comparisons.
    """
    if data.wins.size < 2:
        raise ValueError("a length-controlled win rate needs at least two comparisons")
    if is_against_itself(data):
        return LengthControlled(50.0, 50.0, 50.0, 0.0, (0.0, 0.0, 0.0))
    weights = fit(data, c)
    value, influence = _level(data, weights), 100.0 * _influence(data, weights)
    n = data.wins.size
    error = float(np.sqrt(np.sum(influence**2) * n / (n - 1)))
    margin = t_quantile(n - 1) * error
    return LengthControlled(value, max(0.0, value - margin), min(100.0, value + margin), error, (float(weights[0]), float(weights[1]), float(weights[2])))


def influence_of_questions(data: Comparisons, c: float = DECLARED_C) -> tuple[float, Floats]:
    """LC in percent, and the first-order effect of each question's weight on it: shape (n,), summing to 0."""
    if is_against_itself(data):
        return 50.0, np.zeros(data.wins.size)
    weights = fit(data, c)
    return _level(data, weights), 100.0 * _influence(data, weights)


def _level(data: Comparisons, weights: Floats) -> float:
    """The mean prediction with the length term set to 0, in percent."""
    return 100.0 * float(_sigmoid(data.difficulty * weights[1] + weights[2]).mean())


def fit(data: Comparisons, c: float = DECLARED_C) -> Floats:
    """The exact optimum: weights of (length, difficulty, constant), shape (3,)."""
    weights: Floats = _solve(data, np.ones((1, data.wins.size)), c)[0]
    return weights


def refitted(data: Comparisons, resamples: int = 2000, seed: int = 0, c: float = DECLARED_C, batch_size: int = 200) -> Floats:
    """LC win rates (percent), shape (resamples,), each refitted on questions drawn with replacement; the gamed rows stay."""
    rng = np.random.default_rng(seed)
    n = data.wins.size
    values: list[Floats] = []
    for start in range(0, resamples, batch_size):
        size = min(batch_size, resamples - start)
        counts = rng.multinomial(n, np.full(n, 1.0 / n), size=size).astype(np.float64)
        weights = _solve(data, counts, c)
        predicted = _sigmoid(weights[:, 1:2] * data.difficulty + weights[:, 2:3])
        values.append(100.0 * (counts * predicted).sum(axis=1) / n)
    return np.concatenate(values)


def is_against_itself(data: Comparisons) -> bool:
    """The baseline's own answers: equal lengths, all draws. The gamed rows alone must not move it from 50."""
    return not data.length_difference.any() and bool((data.wins == 0.5).all())


def _sigmoid(z: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def _length_feature(difference: Floats, counts: Floats) -> Floats:
    """tanh of the standardised length difference (ddof 1) under each row of question counts: shape (batch, n).

    Where all differences are equal, length tells nothing and the feature is 0.
    """
    total = counts.sum(axis=1, keepdims=True)
    mean = counts @ difference[:, None] / total
    variance = (counts * (difference - mean) ** 2).sum(axis=1, keepdims=True) / (total - 1.0)
    deviation = np.sqrt(variance)
    constant = deviation <= 1e-9 * (1.0 + np.abs(mean))
    return np.where(constant, 0.0, np.tanh(difference / np.where(constant, 1.0, deviation)))


def _solve(data: Comparisons, counts: Floats, c: float) -> Floats:
    """Proximal Newton with step halving, for every row of question counts at once: weights of shape (batch, 3)."""
    length = _length_feature(data.length_difference, counts)
    point = _evaluate(data, counts, length, np.zeros((len(counts), 3)), 1.0 / c)
    for _ in range(_MAXIMUM_STEPS):
        step = _quadratic_optimum(point, 1.0 / c) - point.at
        if float(np.abs(step).max()) < _TOLERANCE:
            return point.at
        point = _descend(data, counts, length, point, step, 1.0 / c)
    raise ArithmeticError(f"the length-control regression did not converge in {_MAXIMUM_STEPS} steps")


def _descend(data: Comparisons, counts: Floats, length: Floats, point: _Point, step: Floats, penalty: float) -> _Point:
    """The point after the full Newton step, or after the largest halving of it that does not raise the objective."""
    scale = np.ones((len(counts), 1))
    slack = 1e-12 * (1.0 + np.abs(point.objective))
    for _ in range(40):
        trial = _evaluate(data, counts, length, point.at + scale * step, penalty)
        worse = trial.objective > point.objective + slack
        if not worse.any():
            break
        scale[worse] *= 0.5
    return trial


def _evaluate(data: Comparisons, counts: Floats, length: Floats, weights: Floats, penalty: float) -> _Point:
    """Objective, gradient (batch, 3) and Hessian (batch, 3, 3) at the weights; the gamed rows enter through two sums."""
    difficulty, gamed = data.difficulty, data.gamed
    logits = weights[:, :1] * length + weights[:, 1:2] * difficulty + weights[:, 2:]
    gamed_logits = weights[:, :1] * gamed.tanh_length + weights[:, 1:2] * gamed.difficulty
    predicted, gamed_predicted = _sigmoid(logits), _sigmoid(gamed_logits)
    sums = GAMED_WEIGHT * np.array([gamed.preference_by_length, gamed.preference_by_difficulty, 0.0])

    loss = (counts * (np.logaddexp(0.0, logits) - data.wins * logits)).sum(axis=1)
    gamed_loss = GAMED_WEIGHT * np.logaddexp(0.0, gamed_logits).sum(axis=1) - weights @ sums
    residual = counts * (predicted - data.wins)
    gradient = _moments(residual, length, difficulty) - sums
    gradient[:, 0] += GAMED_WEIGHT * gamed_predicted @ gamed.tanh_length
    gradient[:, 1] += GAMED_WEIGHT * gamed_predicted @ gamed.difficulty
    hessian = _hessian(counts * predicted * (1.0 - predicted), length, difficulty)
    hessian[:, :2, :2] += _gamed_hessian(GAMED_WEIGHT * gamed_predicted * (1.0 - gamed_predicted), gamed)
    return _Point(weights, loss + gamed_loss + penalty * np.abs(weights).sum(axis=1), gradient, hessian)


def _moments(values: Floats, length: Floats, difficulty: Floats) -> Floats:
    """Sum of values times each of the three features: shape (batch, 3)."""
    return np.stack([(values * length).sum(axis=1), values @ difficulty, values.sum(axis=1)], axis=1)


def _hessian(curvature: Floats, length: Floats, difficulty: Floats) -> Floats:
    by_length = _moments(curvature * length, length, difficulty)
    rest = _moments(curvature, length, difficulty)
    by_difficulty = np.stack([by_length[:, 1], curvature @ (difficulty * difficulty), rest[:, 1]], axis=1)
    return np.stack([by_length, by_difficulty, rest], axis=1)


def _gamed_hessian(curvature: Floats, gamed: GamedRows) -> Floats:
    length, difficulty = gamed.tanh_length, gamed.difficulty
    cross = curvature @ (length * difficulty)
    entries = np.stack([curvature @ (length * length), cross, cross, curvature @ (difficulty * difficulty)], axis=1)
    return entries.reshape(-1, 2, 2)


def _quadratic_optimum(point: _Point, penalty: float) -> Floats:
    """Exact minimum of the local quadratic model plus the L1 penalty: shape (batch, 3).

    With three coefficients all 27 sign patterns can be solved; the optimum is the one that meets the optimality conditions:
    a non-zero coefficient has its pattern's sign, and at a zero one the slope is within the penalty.
    """
    curvature = point.hessian + 1e-10 * np.eye(3)  # a feature that is 0 everywhere has no curvature; its coefficient stays 0
    target = np.einsum("bij,bj->bi", curvature, point.at) - point.gradient
    zero = _SIGNS == 0.0
    systems = np.where(zero[None, :, :, None], np.eye(3), curvature[:, None, :, :])
    right = np.where(zero, 0.0, target[:, None, :] - penalty * _SIGNS)
    candidates = np.linalg.solve(systems, right[..., None])[..., 0]
    slope = np.einsum("bij,bpj->bpi", curvature, candidates) - target[:, None, :]
    violation = np.where(zero, np.abs(slope) - penalty, -_SIGNS * candidates).max(axis=2)
    best = violation.argmin(axis=1)
    return np.asarray(candidates[np.arange(len(best)), best], dtype=np.float64)


def _influence(data: Comparisons, weights: Floats) -> Floats:
    """First-order effect of one question's weight on LC (as a share): shape (n,), summing to 0.

    Three ways lead there: the mean over questions, the fitted weights, and the standard deviation that scales the lengths.
    Coefficients at 0 stay there (their optimality condition holds with slack).
    """
    n, ones = data.wins.size, np.ones((1, data.wins.size))
    length = _length_feature(data.length_difference, ones)
    hessian = _evaluate(data, ones, length, weights[None, :], 0.0).hessian[0]
    features = np.stack([length[0], data.difficulty, np.ones(n)], axis=1)
    predicted = _sigmoid(features @ weights)
    scores = (data.wins - predicted)[:, None] * features
    scale_effect, deviation_change = _scale_terms(data, weights, features, predicted)
    pull = scores - scores.mean(axis=0) + deviation_change[:, None] * scale_effect
    shift = np.zeros((n, 3))
    active = np.flatnonzero(weights)
    if active.size:
        shift[:, active] = np.linalg.solve(hessian[np.ix_(active, active)], pull[:, active].T).T
    level = _sigmoid(data.difficulty * weights[1] + weights[2])
    slope = level * (1.0 - level)
    return np.asarray((level - level.mean()) / n + shift[:, 1] * float((slope * data.difficulty).mean()) + shift[:, 2] * float(slope.mean()))


def _scale_terms(data: Comparisons, weights: Floats, features: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Derivative of the summed scores by the lengths' standard deviation (3,), and that deviation's own influence (n,)."""
    difference, n = data.length_difference, data.wins.size
    deviation = float(difference.std(ddof=1))
    if deviation == 0.0:
        return np.zeros(3), np.zeros(n)
    slope = -(difference / deviation**2) * (1.0 - features[:, 0] ** 2)
    direct = np.array([float(((data.wins - predicted) * slope).sum()), 0.0, 0.0])
    through_fit = -((predicted * (1.0 - predicted) * weights[0] * slope) @ features)
    centred = (difference - difference.mean()) ** 2
    return direct + through_fit, (centred - centred.mean()) / (2.0 * deviation * (n - 1))
