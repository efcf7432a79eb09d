"""Several training seeds' figures as one array, or as one interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats.intervals import Interval

FEWEST_SEEDS = 3
"""Training seeds of each arm without which there is no verdict on a method."""

JOINT = "mean over seeds; width from the seeds' own intervals over questions and the variance between seeds"


def grid(seeds: Sequence[Mapping[str, float]], questions: Sequence[str], scale: float = 1.0) -> NDArray[np.float64]:
    """Figures of shape (seeds, questions), times `scale`; NaN where a question was not scored."""
    values = [[figures.get(question, np.nan) for question in questions] for figures in seeds]
    return scale * np.array(values, dtype=np.float64).reshape(len(seeds), len(questions))


def any_scored(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).any())


def joint_interval(seeds: Sequence[Interval]) -> Interval:
    """Mean over seeds of a figure that cannot be averaged question by question, as a regression's.

    Half-width squared = mean of the seeds' own half-widths squared (not divided by their number: all seeds answer the
    same questions) + 1.96^2 times the variance of a mean over seeds (ddof 1).

    Raises:
        ValueError: no seed.
    """
    if not seeds:
        raise ValueError("at least one seed is needed")
    means = np.array([interval.mean for interval in seeds], dtype=np.float64)
    mean = float(means.mean())
    ends = [
        (interval.low, interval.high) for interval in seeds if interval.low is not None and interval.high is not None
    ]
    if len(ends) < len(seeds):
        return Interval(mean, None, None, "no interval: a seed has none")
    within = float(np.mean([((high - low) / 2.0) ** 2 for low, high in ends]))
    between = float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0
    half = sqrt(within + 1.96**2 * between)
    return Interval(mean, mean - half, mean + half, JOINT)
