"""Differences of several arms to one: each with its own interval, and with one that all of them hold at once.

The bootstrap is `stats.bootstrap`'s over questions and runs. The simultaneous interval is the sup-t band of Montiel
Olea and Plagborg-Moller (2019, Journal of Applied Econometrics 34, 1-17): mean -/+ c x standard error, where c is the
95 % point of the largest |t| of all arms in one redraw, with standard errors by the same redraws. What all arms share
(the one that they are compared with, the questions) is in each redraw, so c is smaller than Bonferroni's.

Redraws of few runs know too little of how runs spread, so c is carried over from the normal distribution to Student's
at the same probability, with Satterthwaite's degrees of freedom (`stats.components`): many where questions make the
variance, about runs - 1 where runs do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from seft_bench.stats.bootstrap import RESAMPLES, draws, resampled_means
from seft_bench.stats.components import components_of
from seft_bench.stats.intervals import Interval
from seft_bench.stats.seeds import FEWEST_SEEDS

Floats = NDArray[np.float64]
Figures = Mapping[str, float]
"""Question -> figure, of one run."""


@dataclass(frozen=True, slots=True)
class Simultaneous:
    """One difference of several.

    Attributes:
        alone: its own 95 % interval.
        corrected: the interval that holds at once with those of all others in 95 %; without ends where an arm has
            fewer runs than a verdict takes.
    """

    alone: Interval
    corrected: Interval


def grids(arms: Sequence[Sequence[Figures | None]], questions: Sequence[str], scale: float = 1.0) -> Floats:
    """Figures of shape (arms, runs, questions), times `scale`; NaN where a run is missing or was not scored."""
    values = [[[(run or {}).get(question, np.nan) for question in questions] for run in arm] for arm in arms]
    array = np.array(values, dtype=np.float64).reshape(len(arms), len(arms[0]) if arms else 0, len(questions))
    return scale * array


def only(values: Floats, kept: Sequence[Sequence[bool]]) -> Floats:
    """The figures of some questions of each run, `kept` of shape (runs, questions); NaN elsewhere."""
    return np.where(np.array(kept, dtype=bool), values, np.nan)


@dataclass(frozen=True, slots=True)
class Gaps:
    """Paired differences of one arm to several others.

    Attributes:
        values: shape (arms, runs, questions), NaN where there is no pair.
        runs: of the runs that were asked for those that are left, by position.
    """

    values: Floats
    runs: tuple[int, ...]

    def shape_of(self, arm: int) -> tuple[int, int]:
        """How many runs and questions an arm has a pair in."""
        scored = np.isfinite(self.values[arm])
        return int(scored.any(axis=1).sum()), int(scored.any(axis=0).sum())

    def mean_over(self, arm: int, runs: Sequence[int]) -> float:
        """Mean of an arm over runs, named as in `runs`; NaN without a pair there."""
        own = self.values[arm][[run in runs for run in self.runs]]
        own = own[np.isfinite(own)]
        return float(own.mean()) if len(own) else float("nan")


def differences(first: Floats, others: Floats) -> Gaps:
    """`first` minus each of `others`; runs and questions without any pair are dropped.

    Args:
        first: shape (runs, questions).
        others: shape (arms, runs, questions).
    """
    gaps: Floats = first - others
    scored = np.isfinite(gaps)
    runs, questions = np.flatnonzero(scored.any(axis=(0, 2))), np.flatnonzero(scored.any(axis=(0, 1)))
    return Gaps(gaps[:, runs][:, :, questions], tuple(int(run) for run in runs))


def simultaneous_intervals(gaps: Floats, resamples: int = RESAMPLES) -> list[Simultaneous | None]:
    """Intervals of the mean of each arm's differences; None where an arm has none.

    Args:
        gaps: shape (arms, runs, questions), NaN where there is no pair; runs and questions are redrawn for all alike.
    """
    scored = np.isfinite(gaps)
    present = np.flatnonzero(scored.any(axis=(1, 2)))
    found = _intervals(gaps[present], scored[present], resamples) if len(present) else []
    by_arm = dict(zip(present.tolist(), found, strict=True))
    return [by_arm.get(arm) for arm in range(len(gaps))]


def _intervals(gaps: Floats, scored: NDArray[np.bool_], resamples: int) -> list[Simultaneous]:
    arms, runs, questions = gaps.shape
    counts = scored.sum(axis=(1, 2))
    means = np.where(scored, gaps, 0.0).sum(axis=(1, 2)) / counts
    if questions < 2:
        none = [Interval(float(mean), None, None, "no interval: one question") for mean in means]
        return [Simultaneous(interval, interval) for interval in none]
    redrawn = np.concatenate(
        [resampled_means(gaps, scored, *drawn) for drawn in draws(runs, questions, resamples)], axis=-1
    )
    low, high = _percentiles(redrawn)
    normal = critical_value(redrawn, means)
    quantiles = np.array([student(normal, degrees_of_freedom(arm)) for arm in gaps])
    margins = quantiles * np.nanstd(redrawn, axis=1)
    how = f"({resamples:,} resamples) over {questions} questions and {runs} runs"
    at_once = f"95 % for {arms} differences at once, largest |t| of a bootstrap {how}"
    alone = [
        Interval(float(mean), float(low[arm]), float(high[arm]), f"95 % percentile bootstrap {how}")
        for arm, mean in enumerate(means)
    ]
    few = scored.any(axis=2).sum(axis=1) < FEWEST_SEEDS
    return [
        Simultaneous(
            own,
            Interval(own.mean, None, None, f"not corrected: fewer than {FEWEST_SEEDS} runs")
            if few[arm]
            else Interval(own.mean, own.mean - float(margins[arm]), own.mean + float(margins[arm]), at_once),
        )
        for arm, own in enumerate(alone)
    ]


def _percentiles(redrawn: Floats) -> tuple[Floats, Floats]:
    take = np.nanpercentile if np.isnan(redrawn).any() else np.percentile  # the former is slow
    low, high = take(redrawn, [2.5, 97.5], axis=1)
    return low, high


def critical_value(redrawn: Floats, means: Floats) -> float:
    """The 95 % point over redraws of the largest |redrawn mean - mean| / standard error of all arms.

    Args:
        redrawn: shape (arms, redraws); means: shape (arms,). An arm whose redraws are all alike takes no part.
    """
    errors = np.nanstd(redrawn, axis=1)
    varied = errors > 1e-12 * (1.0 + np.abs(means))
    if not varied.any():
        return 0.0
    t = np.abs(redrawn[varied] - means[varied, None]) / errors[varied, None]
    largest = np.where(np.isnan(t), 0.0, t).max(axis=0)  # 0 where a redraw of an arm has no pair
    return float(np.percentile(largest, 95.0))


def student(normal: float, degrees: float) -> float:
    """The quantile of Student's t at the probability of a normal quantile.

    >>> round(student(1.959964, 4), 3)
    2.776
    """
    return float(stdtrit(degrees, ndtr(normal)))


def degrees_of_freedom(gaps: Floats) -> float:
    """Degrees of freedom of a mean over runs and questions, shape (runs, questions).

    Entries that are missing are taken for the sum of their run's and their question's effect.
    """
    runs, questions = gaps.shape
    if runs < 2:
        return float(questions - 1)
    scored = np.isfinite(gaps)
    if not scored.all():
        means = [_means(gaps, scored, axis) for axis in (1, 0)]
        gaps = np.where(scored, gaps, means[0][:, None] + means[1][None, :] - gaps[scored].mean())
    return float(components_of(gaps, np.zeros_like(gaps), paired=True).degrees_of_freedom())


def _means(gaps: Floats, scored: NDArray[np.bool_], axis: int) -> Floats:
    """Means along an axis of what is scored; the whole mean where nothing is."""
    counts = scored.sum(axis=axis)
    sums = np.where(scored, gaps, 0.0).sum(axis=axis)
    means: Floats = np.divide(sums, counts, out=np.full(len(counts), gaps[scored].mean()), where=counts > 0)
    return means
