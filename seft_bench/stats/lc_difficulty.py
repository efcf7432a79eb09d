"""Difficulties of instructions from several models' judgments: one joint logistic regression.

    logit p(model m beats the baseline on instruction i) = intercept_m + slope_m * tanh(delta_mi / std(delta_m)) +
    difficulty_i

as AlpacaEval's own were made (Dubois et al. 2024, arXiv 2404.04475; `notebooks/instruction_difficulty.ipynb` of its
repository). There, an L1 penalty with a cross-validated C is on all coefficients and the first instruction's difficulty
is 0; here the difficulties have a normal prior, and their sum is 0. A higher value means that models win there more
often: the instruction is hard for the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats.lc_regression import Floats, sigmoid

PRIOR_DEVIATION = 1.5
"""Standard deviation of the difficulties' prior, on the scale of log-odds: AlpacaEval's own have 1.48."""

_SLACK = 1e-6  # ridge on intercepts and slopes: a model that always wins has no finite intercept
_MAXIMUM_STEPS, _TOLERANCE = 200, 1e-9


@dataclass(frozen=True, slots=True)
class JointFit:
    """Difficulties of shape (instructions,), sum 0; intercepts and slopes of length of shape (models,)."""

    difficulty: Floats
    intercept: Floats
    slope: Floats


@dataclass(frozen=True, slots=True)
class _State:
    coefficients: Floats  # (models, 2): intercept, slope
    difficulty: Floats
    objective: float


def fit_difficulties(wins: Floats, length: Floats) -> JointFit:
    """The exact optimum, by Newton steps: the difficulties' block of the Hessian is diagonal and is eliminated.

    Args:
        wins: probability that the model wins, shape (models, instructions); NaN where it was not judged.
        length: tanh of the standardised length difference, same shape; anything where `wins` is NaN.

    Raises:
        ValueError: fewer than two models, or shapes that differ.
        ArithmeticError: no convergence.
    """
    if wins.ndim != 2 or wins.shape != length.shape or len(wins) < 2:
        raise ValueError("wins and length of at least two models are needed, both of shape (models, instructions)")
    judged = np.isfinite(wins)
    features = np.stack([np.ones(wins.shape), length], axis=2) * judged[:, :, None]
    target = np.where(judged, wins, 0.0)
    state = _state(np.zeros((len(wins), 2)), np.zeros(wins.shape[1]), target, judged, features)
    for _ in range(_MAXIMUM_STEPS):
        step = _newton_step(state, target, judged, features)
        if max(float(np.abs(part).max()) for part in step) < _TOLERANCE:
            mean = float(state.difficulty.mean())
            return JointFit(state.difficulty - mean, state.coefficients[:, 0] + mean, state.coefficients[:, 1])
        state = _descended(state, step, target, judged, features)
    raise ArithmeticError(f"the joint regression did not converge in {_MAXIMUM_STEPS} steps")


def _logits(coefficients: Floats, difficulty: Floats, features: Floats) -> Floats:
    logits: Floats = np.einsum("mik,mk->mi", features, coefficients) + difficulty
    return logits


def _state(
    coefficients: Floats, difficulty: Floats, target: Floats, judged: NDArray[np.bool_], features: Floats
) -> _State:
    logits = _logits(coefficients, difficulty, features)
    loss = float((judged * (np.logaddexp(0.0, logits) - target * logits)).sum())
    penalty = 0.5 * float(difficulty @ difficulty) / PRIOR_DEVIATION**2 + 0.5 * _SLACK * float((coefficients**2).sum())
    return _State(coefficients, difficulty, loss + penalty)


def _newton_step(state: _State, target: Floats, judged: NDArray[np.bool_], features: Floats) -> tuple[Floats, Floats]:
    """Steps of the coefficients (models, 2) and of the difficulties (instructions,)."""
    models, precision = len(target), 1.0 / PRIOR_DEVIATION**2
    predicted = sigmoid(_logits(state.coefficients, state.difficulty, features))
    residual, curvature = judged * (predicted - target), judged * predicted * (1.0 - predicted)
    slope = (np.einsum("mi,mik->mk", residual, features) + _SLACK * state.coefficients).ravel()
    slope_of_difficulty = residual.sum(axis=0) + precision * state.difficulty
    diagonal = curvature.sum(axis=0) + precision
    cross = (curvature[:, :, None] * features).transpose(0, 2, 1).reshape(2 * models, -1)
    own = np.zeros((models, 2, models, 2))
    own[range(models), :, range(models), :] = np.einsum("mi,mij,mik->mjk", curvature, features, features)
    reduced = own.reshape(2 * models, 2 * models) + _SLACK * np.eye(2 * models) - (cross / diagonal) @ cross.T
    step = -np.linalg.solve(reduced, slope - cross @ (slope_of_difficulty / diagonal))
    return step.reshape(models, 2), -(slope_of_difficulty + cross.T @ step) / diagonal


def _descended(
    state: _State, step: tuple[Floats, Floats], target: Floats, judged: NDArray[np.bool_], features: Floats
) -> _State:
    """The state after the full step, or after the largest halving of it that does not raise the objective."""
    scale = 1.0
    for _ in range(40):
        trial = _state(
            state.coefficients + scale * step[0], state.difficulty + scale * step[1], target, judged, features
        )
        if trial.objective <= state.objective + 1e-12 * (1.0 + abs(state.objective)):
            break
        scale *= 0.5
    return trial
