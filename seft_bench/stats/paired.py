"""Tests of a candidate against a baseline over the same questions: is it worse?

Paired differences, non-inferiority and regression, Holm, and what could be seen.

The unit is the question: its turns, orders and repeats are averaged first (MT-Bench has 80 units, not 160 rows). All
tests are one-sided.

Paired differences of grades are skewed (up to 1.3 on real models), and then Student's t alone errs in up to 6.8 % of
the checks at 5 %. So a bound holds only where Student's t and Hall's transformation of it (1992, Journal of the Royal
Statistical Society B 54), which corrects for skewness, both say so. Without skewness the two are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from seft_bench.stats import length_control
from seft_bench.stats.length_control import Comparisons

Floats = NDArray[np.float64]
FloatT = TypeVar("FloatT", float, Floats)
Verdict = Literal["PASS", "REGRESSED", "INCONCLUSIVE"]

ALPHA = 0.05
POWER = 0.80
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Difference:
    """candidate - baseline, in the metric's own units.

    Attributes:
        delta: the difference.
        standard_error: of it, over questions.
        n: questions.
        skewness: of the questions' contributions.
        how: how the standard error was made.
        degrees_of_freedom: of the standard error; None: n - 1.
    """

    delta: float
    standard_error: float
    n: int
    skewness: float
    how: str
    degrees_of_freedom: float | None = None

    def lower(self, alpha: float = ALPHA) -> float:
        """One-sided lower confidence bound at level 1 - alpha."""
        return self.delta + _critical(alpha, self.n, -self.skewness, self.degrees_of_freedom) * self.standard_error

    def upper(self, alpha: float = ALPHA) -> float:
        """One-sided upper confidence bound at level 1 - alpha."""
        return self.delta - _critical(alpha, self.n, self.skewness, self.degrees_of_freedom) * self.standard_error

    def p_regressed(self) -> float:
        """One-sided p-value of "no worse than the baseline": small where the candidate is worse."""
        return self._p_below(self.delta, self.skewness)

    def p_worse_than(self, margin: float) -> float:
        """One-sided p-value of "worse by the margin or more": small where the candidate passes."""
        return self._p_below(-(self.delta + margin), -self.skewness)

    def _p_below(self, shift: float, skewness: float) -> float:
        """Chance of such a t or a smaller one, by Student and by Hall; the larger of the two."""
        if self.standard_error == 0.0:
            return 0.0 if shift < 0 else 1.0
        t = shift / self.standard_error
        return float(stdtr(self.degrees_of_freedom or self.n - 1, max(t, hall(t, skewness, self.n))))

    def minimal_effect(self) -> float:
        """Loss that is found with 80 % power at 5 %."""
        return minimal_effect(self)

    def needed_questions(self, margin: float) -> int | None:
        """Questions for which that loss is the margin; None where no number of them is enough, or nothing varies."""
        return needed_questions(self, margin)


def hall(t: FloatT, skewness: FloatT, n: int) -> FloatT:
    """Hall's transformation: t of a skewed sample as one of a sample without skewness.

    It never falls, unlike Johnson's of 1978.

    >>> hall(-2.0, 0.0, 80), round(hall(-2.0, 1.0, 80), 3)
    (-2.0, -1.836)
    """
    pull = skewness / (3.0 * math.sqrt(n))
    return t + pull * t * t + pull * pull * t**3 / 3.0 + pull / 2.0


def _hall_inverse(value: float, skewness: float, n: int) -> float:
    pull = skewness / (3.0 * math.sqrt(n))
    if abs(pull) < 1e-9:
        return value
    return (math.cbrt(1.0 + 3.0 * pull * (value - pull / 2.0)) - 1.0) / pull


def _critical(alpha: float, n: int, skewness: float, degrees_of_freedom: float | None = None) -> float:
    """The t below which a loss counts (negative): Student's, or Hall's where that is lower."""
    student = float(stdtrit(degrees_of_freedom or n - 1, alpha))
    return min(student, _hall_inverse(student, skewness, n))


@dataclass(frozen=True, slots=True)
class Check:
    """One primary metric's test.

    Attributes:
        p_holm: `p_regressed` after Holm over all primary metrics of the check.
        level: that `p_holm` (of a sequential check's look: `p_regressed`) must be under.
        bound_level: level of the bound that is held against the margin.
        minimal_effect: loss that this many questions would show with 80 % power.
        needed_n: questions for which that loss is the margin.
    """

    name: str
    difference: Difference
    margin: float
    p_regressed: float
    p_holm: float
    passes: bool
    regressed: bool
    minimal_effect: float
    needed_n: int | None
    level: float
    bound_level: float


def mean_difference(candidate: Sequence[float] | Floats, baseline: Sequence[float] | Floats) -> Difference:
    """Difference of two means over the same questions, in the same order.

    Raises:
        ValueError: different lengths, or fewer than two questions.
    """
    differences = np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if differences.ndim != 1 or differences.size < 2:
        raise ValueError("a paired difference needs at least two questions")
    error = float(differences.std(ddof=1)) / math.sqrt(differences.size)
    return Difference(
        float(differences.mean()),
        error,
        int(differences.size),
        skewness_of(differences),
        "paired differences by question",
    )


def lc_difference(
    candidate: Comparisons,
    baseline: Comparisons,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    c: float = length_control.DECLARED_C,
) -> Difference:
    """Difference of two length-controlled win rates (points), both refitted on the same redrawn questions.

    Args:
        candidate, baseline: the same questions in the same order.
        resamples: 0 takes the sandwich formula instead, which agrees.

    Raises:
        ValueError: different numbers of questions, or fewer than two.
    """
    n = candidate.wins.size
    if baseline.wins.size != n or n < 2:
        raise ValueError("a paired difference needs the same questions on both sides, at least two")
    fits = [length_control.length_controlled(arm, c) for arm in (candidate, baseline)]
    influence = fits[0].influence - fits[1].influence
    delta, skewness = fits[0].win_rate - fits[1].win_rate, skewness_of(influence)
    if not resamples:
        error = float(np.sqrt(np.sum(influence**2) * n / (n - 1)))
        return Difference(delta, error, n, skewness, "sandwich formula over questions")
    draws = [refitted_win_rates(arm, resamples, seed, c) for arm in (candidate, baseline)]
    error = float((draws[0] - draws[1]).std(ddof=1)) * math.sqrt(n / (n - 1))
    return Difference(delta, error, n, skewness, f"{resamples:,} refits on redrawn questions")


def skewness_of(values: Floats) -> float:
    """Third standardised moment (divisor n); 0 where the values do not vary."""
    centred = values - values.mean()
    deviation = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean()) / deviation**3 if deviation > 0.0 else 0.0


def refitted_win_rates(arm: Comparisons, resamples: int, seed: int, c: float) -> Floats:
    """LC of each redrawn set; a model against itself stays at 50, as in `length_controlled`."""
    return (
        np.full(resamples, 50.0)
        if length_control.is_against_itself(arm)
        else length_control.refitted(arm, resamples, seed, c)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def minimal_effect(difference: Difference, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the loss that is found with this power.

    It is 2.49 * SE by default for many questions without skewness, (z_alpha + z_power) * SE.

    A loss l (in SE) is found where T < critical + l (1 - skewness * T / (2 sqrt(n))), T being the t of no loss: in a
    skewed sample mean and standard error move together. Hall's transformation makes T normal, so l follows from its
    quantile.
    """
    return effect_in_errors(difference.skewness, difference.n, alpha, power) * difference.standard_error


def effect_in_errors(skewness: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """`minimal_effect` in standard errors."""
    quantile = _hall_inverse(float(ndtri(power)), skewness, n)
    return (quantile - _critical(alpha, n, skewness)) / (1.0 - skewness * quantile / (2.0 * math.sqrt(n)))


def needed_questions(difference: Difference, margin: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Questions for which a loss of `margin` is found with this power; None where the questions do not vary at all."""
    deviation = difference.standard_error * math.sqrt(difference.n)
    if not deviation:
        return None
    n = difference.n
    for _ in range(50):  # what t and skewness add depends on n, ever less
        following = max(
            2, math.ceil((effect_in_errors(difference.skewness, n, alpha, power) * deviation / margin) ** 2)
        )
        if following == n:
            break
        n = following
    return n


def checked(
    differences: Sequence[tuple[str, Difference, float]], alpha: float = ALPHA, *, regression_alpha: float | None = None
) -> list[Check]:
    """Test every primary metric, given as (name, difference, margin); Holm over all of them for a regression.

    Args:
        alpha: one-sided level of passing and, after Holm, of regressing.
        regression_alpha: of each metric by itself, instead of Holm; a sequential check has such levels for every look
            (`sequential.levels_for`).
    """
    p_values = [difference.p_regressed() for _, difference, _ in differences]
    return [
        Check(
            name=name,
            difference=difference,
            margin=margin,
            p_regressed=p_value,
            p_holm=adjusted,
            passes=difference.p_worse_than(margin) < alpha,
            regressed=adjusted < alpha if regression_alpha is None else p_value < regression_alpha,
            minimal_effect=difference.minimal_effect(),
            needed_n=difference.needed_questions(margin),
            level=alpha if regression_alpha is None else regression_alpha,
            bound_level=alpha,
        )
        for (name, difference, margin), p_value, adjusted in zip(differences, p_values, holm(p_values), strict=True)
    ]


def verdict(checks: Sequence[Check]) -> Verdict:
    """PASS when every metric passes, else REGRESSED when one is worse, else INCONCLUSIVE.

    A loss that is certain and certainly smaller than the margin passes: the margin says what matters.
    """
    if checks and all(check.passes for check in checks):
        return "PASS"
    return "REGRESSED" if any(check.regressed for check in checks) else "INCONCLUSIVE"
