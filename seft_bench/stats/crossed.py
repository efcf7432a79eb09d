"""Difference of two methods over the same questions and several training seeds, and its test.

`stats.components` has the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats import crossed_power, length_control
from seft_bench.stats.bootstrap import RESAMPLES, independent_interval, paired_interval, redrawn_seeds_interval
from seft_bench.stats.components import Components, components_of
from seft_bench.stats.intervals import Interval
from seft_bench.stats.length_control import Comparisons
from seft_bench.stats.paired import Difference, refitted_win_rates, skewness_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDifference(Difference):
    """candidate - baseline as means over questions and seeds.

    Attributes:
        skewness: of the questions' mean differences, less what other variance takes from it.
        components: of the variance.
        bootstrap: the question x seed bootstrap's interval, to be shown beside the test: with few seeds it is too
            narrow to be one.
    """

    components: Components
    bootstrap: Interval

    def minimal_effect(self) -> float:
        return crossed_power.minimal_effect(self.components, self.skewness)

    def needed_questions(self, margin: float) -> int | None:
        return crossed_power.needed_questions(self.components, self.skewness, margin)

    def needed_seeds(self, margin: float) -> int | None:
        """Return the training seeds an arm with which the loss found with 80 % power is the margin, on these questions.

        None where no number is enough.
        """
        return crossed_power.needed_seeds(self.components, self.skewness, margin)


def method_difference(candidate: Floats, baseline: Floats, *, paired: bool) -> MethodDifference:
    """Difference of two means over seeds and questions.

    Args:
        candidate, baseline: shape (seeds, questions), every entry scored.
        paired: the rows are the same seeds, in the same order.

    Raises:
        ValueError: as `components_of`.
    """
    found = components_of(candidate, baseline, paired=paired)
    interval = (paired_interval if paired else independent_interval)(candidate, baseline)
    by_question = candidate.mean(axis=0) - baseline.mean(axis=0)
    return _joined(float(candidate.mean() - baseline.mean()), found, skewness_of(by_question), interval, paired, "")


def lc_method_difference(
    candidate: Sequence[Comparisons],
    baseline: Sequence[Comparisons],
    *,
    paired: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
    c: float = length_control.DECLARED_C,
) -> MethodDifference:
    """Difference of two length-controlled win rates (points), each the mean of its seeds' own regressions.

    V_questions comes from refits of all seeds on the same redrawn questions; V_rest from the regressions' influences,
    which stand for the figures of single questions. resamples: 0 takes the influences for both.

    Raises:
        ValueError: as `components_of`.
    """
    fits = [[length_control.length_controlled(data, c) for data in arm] for arm in (candidate, baseline)]
    grids = [np.array([fit.win_rate + len(fit.influence) * fit.influence for fit in arm]) for arm in fits]
    found = components_of(grids[0], grids[1], paired=paired)
    means = [float(np.mean([fit.win_rate for fit in arm])) for arm in fits]
    skewness = skewness_of(grids[0].mean(axis=0) - grids[1].mean(axis=0))
    if not resamples:
        interval = (paired_interval if paired else independent_interval)(grids[0], grids[1])
        return _joined(means[0] - means[1], found, skewness, interval, paired, " (sandwich formula)")
    drawn = [np.array([refitted_win_rates(data, resamples, seed, c) for data in arm]) for arm in (candidate, baseline)]
    by_draw = drawn[0].mean(axis=0) - drawn[1].mean(axis=0)
    found = replace(found, questions=float(by_draw.var(ddof=1)) * found.n / (found.n - 1))
    interval = redrawn_seeds_interval(means[0] - means[1], drawn[0], drawn[1], paired=paired, questions=found.n)
    return _joined(means[0] - means[1], found, skewness, interval, paired, f" ({resamples:,} refits)")


def _joined(
    delta: float, found: Components, skewness: float, bootstrap: Interval, paired: bool, how: str
) -> MethodDifference:
    """Join difference, variance and skewness.

    Only the questions' part of the difference is known to be skewed: its third moment is shared out over the whole
    variance.
    """
    error, part = sqrt(found.variance), sqrt(found.questions / found.variance) if found.variance else 0.0
    seeds = (
        f"{found.seeds[0]} paired training seeds"
        if paired
        else f"{' and '.join(map(str, found.seeds))} independent training seeds"
    )
    return MethodDifference(
        delta=delta,
        standard_error=error,
        n=found.n,
        skewness=skewness * part**3,
        how=f"variance components of questions{how} and {seeds}",
        degrees_of_freedom=found.degrees_of_freedom(),
        components=found,
        bootstrap=bootstrap,
    )
