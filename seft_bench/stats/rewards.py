"""From a reward model's figures to preferences and grades: Bradley-Terry, and monotone maps fitted on graded answers.

Rewards have no unit of their own. The difference of two is read as log-odds (Bradley and Terry 1952), which is what
such models are trained for. A grade needs a scale from outside: a map that never falls, fitted on answers with known
grades.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, least_squares
from scipy.special import expit

from seft_bench.stats.intervals import Interval
from seft_bench.stats.mtbench import Grade, clustered_mean

Floats = NDArray[np.float64]
LOWEST_GRADE, HIGHEST_GRADE = 1.0, 10.0
FOLDS = 10
MINIMUM_ROWS = 20


def bradley_terry_preference(candidate_reward: float, baseline_reward: float, temperature: float = 1.0) -> float:
    """1 + P(candidate beats baseline), in [1, 2], with log-odds = difference of rewards / temperature.

    >>> bradley_terry_preference(2.0, 2.0), round(bradley_terry_preference(1.0, 0.0), 4)
    (1.5, 1.7311)
    """
    return 1.0 + float(expit((candidate_reward - baseline_reward) / temperature))


def grade_against_reference(reward: float, reference_reward: float, temperature: float = 1.0) -> float:
    """Grade in [1, 10]: 5.5 where the answer is worth as much as the reference, 10 where it surely beats it."""
    return 1.0 + 9.0 * float(expit((reward - reference_reward) / temperature))


@dataclass(frozen=True, slots=True)
class GradedReward:
    """One graded answer: the question it answers, its reward and its grade."""

    question_id: str
    reward: float
    grade: float


@dataclass(frozen=True, slots=True)
class SigmoidMap:
    """grade = 1 + 9 * sigmoid(slope * reward + intercept), slope >= 0."""

    slope: float
    intercept: float

    def __call__(self, rewards: Sequence[float] | Floats) -> Floats:
        values = np.asarray(rewards, dtype=np.float64)
        return np.asarray(1.0 + 9.0 * expit(self.slope * values + self.intercept), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """Straight lines between knots, flat outside of them. `rewards` rises strictly, `grades` never falls."""

    rewards: tuple[float, ...]
    grades: tuple[float, ...]

    def __call__(self, rewards: Sequence[float] | Floats) -> Floats:
        return np.asarray(np.interp(np.asarray(rewards, dtype=np.float64), self.rewards, self.grades), dtype=np.float64)


GradeMap = SigmoidMap | IsotonicMap


def fit_sigmoid(rows: Sequence[GradedReward]) -> SigmoidMap:
    """Least squares, slope not under 0; rewards are standardised for the fit, so their scale does not matter."""
    rewards, grades = _columns(rows)
    centre, scale = float(rewards.mean()), float(rewards.std()) or 1.0
    standard = (rewards - centre) / scale
    level = (np.clip(grades.mean(), LOWEST_GRADE + 0.05, HIGHEST_GRADE - 0.05) - 1.0) / 9.0
    start = np.array([1.0, math.log(level / (1.0 - level))])

    def residuals(parameters: Floats) -> Floats:
        return np.asarray(1.0 + 9.0 * expit(parameters[0] * standard + parameters[1]) - grades, dtype=np.float64)

    slope, intercept = least_squares(residuals, start, bounds=([0.0, -20.0], [20.0, 20.0])).x
    return SigmoidMap(float(slope / scale), float(intercept - slope * centre / scale))


def fit_isotonic(rows: Sequence[GradedReward]) -> IsotonicMap:
    """Fit by least squares among the maps that never fall (pool adjacent violators).

    Rows of one reward share their mean grade.
    """
    rewards, grades = _columns(rows)
    knots, group = np.unique(rewards, return_inverse=True)
    counts = np.bincount(group).astype(np.float64)
    means = np.bincount(group, weights=grades) / counts
    fitted = isotonic_regression(means, weights=counts).x
    return IsotonicMap(tuple(knots.tolist()), tuple(np.asarray(fitted, dtype=np.float64).tolist()))


FITS: Mapping[str, Callable[[Sequence[GradedReward]], GradeMap]] = {"sigmoid": fit_sigmoid, "isotonic": fit_isotonic}
"""Name of a map -> its fit. The first wins where two err alike."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted map and how well it foretells grades of questions that it was not fitted on.

    Attributes:
        name: which map: the one with the smaller held-out error.
        errors: name of a map -> mean absolute error in grade points over held-out questions, with its interval;
            "constant" is what the mean grade alone would err.
        gain: how much less than "constant" the map errs, paired by answer.
    """

    name: str
    map: GradeMap
    rows: int
    questions: int
    errors: Mapping[str, Interval]
    gain: Interval

    @property
    def foretells(self) -> bool:
        """True if the rewards foretell grades clearly better than the mean grade does."""
        return self.gain.low is not None and self.gain.low > 0


def calibrate(rows: Sequence[GradedReward], minimum_rows: int = MINIMUM_ROWS) -> Calibration:
    """Fit both maps and keep the one with the smaller held-out error, by cross-validation over questions.

    Raises:
        ValueError: too few rows, one grade only, one question only, or a reward that is no finite number.
    """
    problem = why_not(rows, minimum_rows)
    if problem:
        raise ValueError(problem)
    fits = {**FITS, "constant": _fit_constant}
    held_out = {name: held_out_errors(rows, fit) for name, fit in fits.items()}
    errors = {name: _mean_by_question(rows, values) for name, values in held_out.items()}
    best = min(FITS, key=lambda name: errors[name].mean)
    gain = _mean_by_question(rows, held_out["constant"] - held_out[best])
    return Calibration(best, FITS[best](rows), len(rows), len({row.question_id for row in rows}), errors, gain)


def why_not(rows: Sequence[GradedReward], minimum_rows: int = MINIMUM_ROWS) -> str:
    """Say what keeps rows from being calibrated on; "" where nothing does."""
    if len(rows) < minimum_rows:
        return f"{len(rows)} graded answers, at least {minimum_rows} are needed"
    if len({row.grade for row in rows}) < 2:
        return "every answer has the same grade, at least two different ones are needed"
    if len({row.question_id for row in rows}) < 2:
        return "all answers are to one question, at least two are needed"
    if not all(math.isfinite(row.reward) for row in rows):
        return "a reward is no finite number"
    return ""


def held_out_errors(
    rows: Sequence[GradedReward], fit: Callable[[Sequence[GradedReward]], GradeMap], folds: int = FOLDS
) -> Floats:
    """Absolute error of each row's grade, foretold by a fit that saw no row of its question.

    The questions, sorted, go into `folds` folds in turn, so equal rows give equal folds.
    """
    fold_of = {
        question: position % folds for position, question in enumerate(sorted({row.question_id for row in rows}))
    }
    fold = np.array([fold_of[row.question_id] for row in rows])
    rewards, grades = _columns(rows)
    errors = np.empty(len(rows))
    for number in sorted(set(fold_of.values())):
        fitted = fit([row for row in rows if fold_of[row.question_id] != number])
        errors[fold == number] = np.abs(grades - fitted(rewards))[fold == number]
    return errors


def _mean_by_question(rows: Sequence[GradedReward], values: Floats) -> Interval:
    """Mean over rows, its interval clustered by question."""
    return clustered_mean(
        [Grade(row.question_id, "", 1, float(value)) for row, value in zip(rows, values, strict=True)]
    )[0]


def _fit_constant(rows: Sequence[GradedReward]) -> IsotonicMap:
    return IsotonicMap((0.0,), (float(np.mean([row.grade for row in rows])),))


def _columns(rows: Sequence[GradedReward]) -> tuple[Floats, Floats]:
    return np.array([row.reward for row in rows], dtype=np.float64), np.array(
        [row.grade for row in rows], dtype=np.float64
    )


def map_row(fitted: GradeMap) -> dict[str, Any]:
    """A map as a JSON-ready dict."""
    if isinstance(fitted, SigmoidMap):
        return {"slope": fitted.slope, "intercept": fitted.intercept}
    return {"rewards": list(fitted.rewards), "grades": list(fitted.grades)}


def map_of_row(row: Mapping[str, Any]) -> GradeMap:
    """The map of `map_row`'s dict."""
    if "slope" in row:
        return SigmoidMap(float(row["slope"]), float(row["intercept"]))
    return IsotonicMap(tuple(row["rewards"]), tuple(row["grades"]))
