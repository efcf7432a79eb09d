"""Is the candidate worse than the baseline? Paired differences over questions, non-inferiority and regression, Holm, and what could be seen.

The unit is the question: its turns, orders and repeats are averaged first (MT-Bench has 80 units, not 160 rows). All tests are one-sided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from seft_bench.stats import length_control
from seft_bench.stats.length_control import Comparisons

Floats = NDArray[np.float64]
Verdict = Literal["PASS", "REGRESSED", "INCONCLUSIVE"]

ALPHA = 0.05
POWER = 0.80
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Difference:
    """candidate - baseline, in the metric's own units.

    Attributes:
        delta: the difference. standard_error: of it, over questions. n: questions.
        skewness: of the questions' contributions. how: how the standard error was made.
    """

    delta: float
    standard_error: float
    n: int
    skewness: float
    how: str

    def lower(self, alpha: float = ALPHA) -> float:
        """One-sided lower confidence bound at level 1 - alpha (Student's t, n - 1)."""
        return self.delta - self._quantile(alpha) * self.standard_error

    def upper(self, alpha: float = ALPHA) -> float:
        """One-sided upper confidence bound at level 1 - alpha."""
        return self.delta + self._quantile(alpha) * self.standard_error

    def p_regressed(self, interim: bool = False) -> float:
        """One-sided p-value of "no worse than the baseline": small where the candidate is worse."""
        return self._p_below(self.delta, self.skewness, interim)

    def p_worse_than(self, margin: float, interim: bool = False) -> float:
        """One-sided p-value of "worse by the margin or more": small where the candidate passes."""
        return self._p_below(-(self.delta + margin), -self.skewness, interim)

    def _p_below(self, shift: float, skewness: float, interim: bool) -> float:
        """P(T <= t) of Student's t.

        An interim look's level is small, and there a skewed distribution of differences would break the t-test; so Johnson's modified t
        (1978, Journal of the American Statistical Association 73) must say the same.
        """
        if self.standard_error == 0.0:
            return 0.0 if shift < 0 else 1.0
        t = shift / self.standard_error
        p_value = float(stdtr(self.n - 1, t))
        if not interim:
            return p_value
        root = math.sqrt(self.n)
        modified = t + skewness * (1.0 / (6.0 * root) + t * t / (3.0 * root))
        return max(p_value, float(stdtr(self.n - 1, modified)))

    def _quantile(self, alpha: float) -> float:
        return float(stdtrit(self.n - 1, 1.0 - alpha))


@dataclass(frozen=True, slots=True)
class Check:
    """One primary metric's test.

    Attributes:
        p_holm: `p_regressed` after Holm over all primary metrics of the check.
        minimal_effect: loss that this many questions would show with 80 % power. needed_n: questions for which that loss is the margin.
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


def mean_difference(candidate: Sequence[float] | Floats, baseline: Sequence[float] | Floats) -> Difference:
    """Difference of two means over the same questions, in the same order.

    Raises:
        ValueError: different lengths, or fewer than two questions.
    """
    differences = np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if differences.ndim != 1 or differences.size < 2:
        raise ValueError("a paired difference needs at least two questions")
    error = float(differences.std(ddof=1)) / math.sqrt(differences.size)
    return Difference(float(differences.mean()), error, int(differences.size), _skewness(differences), "paired differences by question")


def lc_difference(
    candidate: Comparisons, baseline: Comparisons, *, resamples: int = RESAMPLES, seed: int = 0, c: float = length_control.DECLARED_C
) -> Difference:
    """Difference of two length-controlled win rates (points), both refitted on the same redrawn questions.

    Args:
        candidate, baseline: the same questions in the same order. resamples: 0 takes the sandwich formula instead, which agrees.

    Raises:
        ValueError: different numbers of questions, or fewer than two.
    """
    n = candidate.wins.size
    if baseline.wins.size != n or n < 2:
        raise ValueError("a paired difference needs the same questions on both sides, at least two")
    fits = [length_control.length_controlled(arm, c) for arm in (candidate, baseline)]
    influence = fits[0].influence - fits[1].influence
    delta, skewness = fits[0].win_rate - fits[1].win_rate, _skewness(influence)
    if not resamples:
        error = float(np.sqrt(np.sum(influence**2) * n / (n - 1)))
        return Difference(delta, error, n, skewness, "sandwich formula over questions")
    draws = [_refitted(arm, resamples, seed, c) for arm in (candidate, baseline)]
    error = float((draws[0] - draws[1]).std(ddof=1)) * math.sqrt(n / (n - 1))
    return Difference(delta, error, n, skewness, f"{resamples:,} refits on redrawn questions")


def _skewness(values: Floats) -> float:
    centred = values - values.mean()
    deviation = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean()) / deviation**3 if deviation > 0.0 else 0.0


def _refitted(arm: Comparisons, resamples: int, seed: int, c: float) -> Floats:
    """LC of each redrawn set; a model against itself stays at 50, as in `length_controlled`."""
    return np.full(resamples, 50.0) if length_control.is_against_itself(arm) else length_control.refitted(arm, resamples, seed, c)


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


def minimal_effect(standard_error: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """Loss that is found with this power: (z_alpha + z_power) * SE, 2.49 * SE by default."""
    return float(-ndtri(alpha) + ndtri(power)) * standard_error


def needed_questions(difference: Difference, margin: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Questions for which a loss of `margin` is found with this power; None where the questions do not vary at all."""
    deviation = difference.standard_error * math.sqrt(difference.n)
    return math.ceil((minimal_effect(deviation, alpha, power) / margin) ** 2) if deviation else None


def checked(
    differences: Sequence[tuple[str, Difference, float]], alpha: float = ALPHA, *, regression_alpha: float | None = None, interim: bool = False
) -> list[Check]:
    """Test every primary metric, given as (name, difference, margin); Holm over all of them for a regression.

    Args:
        alpha: one-sided level of passing and, after Holm, of regressing. regression_alpha: of each metric by itself, instead of Holm; a
            sequential check has such levels for every look (`sequential.levels_for`). interim: not the last look.
    """
    p_values = [difference.p_regressed(interim) for _, difference, _ in differences]
    return [
        Check(
            name=name,
            difference=difference,
            margin=margin,
            p_regressed=p_value,
            p_holm=adjusted,
            passes=difference.p_worse_than(margin, interim) < alpha,
            regressed=adjusted < alpha if regression_alpha is None else p_value < regression_alpha,
            minimal_effect=minimal_effect(difference.standard_error),
            needed_n=needed_questions(difference, margin),
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
