"""Components of the variance of a difference of two methods: questions and seeds, with degrees of freedom.

Model (two-way crossed random effects): figure[seed, question] = mean + question + seed + rest; questions and seeds are
both draws. With m = the questions' mean differences and s = the seeds' mean figures, each has an unbiased mean square,

    V_questions = var(m) / n      V_seeds = sum over draws of seeds of var(s) / k      V_rest = sum of the residuals'
    variance / (n k),

and the variance of the difference is V_questions + V_seeds - V_rest, as the first two both hold the rest. Where seeds
seem to add nothing, it is V_questions.

Rows that share seed numbers share what a seed decides (the start, the order of the data), so they are paired by seed:
one draw of k seeds for both. Rows with other seeds are two independent draws. Pairing is right even where a seed
decides nothing; independence would not be where it does.

Degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2). Two degrees for three seeds are so few that a
chance small V_seeds gives a small error and many degrees at once; so the degrees are also taken with every V_seeds
divided by the median of chi^2 / degrees, and the smaller ones count. `benchmarks/method_calibration.py` has the error
rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Components:
    """Components of a difference's variance, in the metric's unit squared.

    The tuples have one entry a draw of seeds: one where the arms are paired by seed, else one an arm.

    Attributes:
        n: questions.
        seeds: training seeds of each draw.
        questions: V_questions.
        of_seeds: V_seeds.
        rest: V_rest, see the module.
    """

    n: int
    seeds: tuple[int, ...]
    questions: float
    of_seeds: tuple[float, ...]
    rest: tuple[float, ...]

    @property
    def from_seeds(self) -> float:
        """Variance that more questions would not lower."""
        return max(sum(self.of_seeds) - sum(self.rest), 0.0)

    @property
    def variance(self) -> float:
        return self.questions + self.from_seeds

    @property
    def share_of_seeds(self) -> float:
        """Share of the variance that only more seeds would lower, in [0, 1]."""
        return self.from_seeds / self.variance if self.variance else 0.0

    def degrees_of_freedom(self) -> float:
        return float(variance_and_degrees(self, [np.array(value) for value in self.of_seeds])[1])


def variance_and_degrees(fixed: Components, of_seeds: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return variance and degrees of freedom for many values of V_seeds, all else as in `fixed`.

    The arrays have one shape, an array for each draw of seeds.
    """
    plain = [np.asarray(value, dtype=np.float64) for value in of_seeds]
    medians = [float(2.0 * gammaincinv((k - 1) / 2.0, 0.5) / (k - 1)) for k in fixed.seeds]
    cautious = [value / median for value, median in zip(plain, medians, strict=True)]
    variance = fixed.questions + np.maximum(sum(plain) - sum(fixed.rest), 0.0)
    degrees = np.minimum(_satterthwaite(fixed, plain), _satterthwaite(fixed, cautious))
    return variance, np.clip(degrees, min(*fixed.seeds, fixed.n) - 1, fixed.n - 1)


def _satterthwaite(fixed: Components, of_seeds: Sequence[Floats]) -> Floats:
    """Squared variance over the sum of squared terms by their own degrees; n - 1 where seeds seem to add nothing."""
    excess = np.asarray(sum(of_seeds) - sum(fixed.rest), dtype=np.float64)
    terms = fixed.questions**2 / (fixed.n - 1) + sum(
        value**2 / (k - 1) for value, k in zip(of_seeds, fixed.seeds, strict=True)
    )
    terms = terms + sum(value**2 / ((fixed.n - 1) * (k - 1)) for value, k in zip(fixed.rest, fixed.seeds, strict=True))
    usable = (excess > 0.0) & (terms > 0.0)
    degrees: Floats = np.divide(
        (fixed.questions + np.maximum(excess, 0.0)) ** 2, terms, out=np.full(excess.shape, fixed.n - 1.0), where=usable
    )
    return degrees


def components_of(candidate: Floats, baseline: Floats, *, paired: bool) -> Components:
    """Return the mean squares of two grids of shape (seeds, questions), the questions in the same order.

    `paired`: row for row by seed.

    Raises:
        ValueError: fewer than two questions or seeds, another number of questions, or of seeds where they are paired.
    """
    arms = [np.asarray(side, dtype=np.float64) for side in (candidate, baseline)]
    n = arms[0].shape[-1]
    if any(arm.ndim != 2 or min(arm.shape) < 2 or arm.shape[1] != n for arm in arms) or (
        paired and arms[0].shape != arms[1].shape
    ):
        raise ValueError(
            f"two grids of at least two seeds and the same questions are needed, these are {arms[0].shape} and "
            f"{arms[1].shape}"
        )
    draws = [arms[0] - arms[1]] if paired else arms
    by_question = arms[0].mean(axis=0) - arms[1].mean(axis=0)
    return Components(
        n,
        tuple(len(draw) for draw in draws),
        float(by_question.var(ddof=1)) / n,
        tuple(float(draw.mean(axis=1).var(ddof=1)) / len(draw) for draw in draws),
        tuple(_residual_variance(draw) / draw.size for draw in draws),
    )


def _residual_variance(grid: Floats) -> float:
    """Mean square of what neither a seed nor a question explains."""
    rest = grid - grid.mean(axis=0) - grid.mean(axis=1, keepdims=True) + grid.mean()
    return float((rest**2).sum() / ((len(grid) - 1) * (len(grid[0]) - 1)))
