"""What is tested of two methods: a pair's primary metric over questions and training seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from seft_bench.checks.differences import Measured, common_c, comparisons, plain_metric, scale_of
from seft_bench.checks.methods import MethodPair
from seft_bench.errors import InputError
from seft_bench.stats.seeds import grid
from seft_bench.suites import Suite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def measure_methods(pair: MethodPair, suite: Suite) -> Measured:
    """The primary metric as `differences.measure` chooses it; each figure is the mean over its side's seeds.

    Raises:
        InputError: fewer than two questions in common.
    """
    from seft_bench.stats.components import components_of
    from seft_bench.stats.crossed import lc_method_difference, method_difference
    from seft_bench.stats.length_control import length_controlled

    questions, paired = pair.questions, pair.is_paired
    if len(questions) < 2:
        raise InputError(f"{pair.name}: a check needs at least two questions that every seed of both sides has a figure of, there are {len(questions)}")
    candidate, baseline = _grids(pair, questions)
    by_question = dict(zip(questions, (candidate.mean(axis=0) - baseline.mean(axis=0)).tolist(), strict=True))
    found = comparisons(suite, pair.results, questions)
    if found is None:
        metric, difference = plain_metric(pair.results[0]), method_difference(candidate, baseline, paired=paired)
        figures = [float(side.mean()) for side in (candidate, baseline)]
    else:
        arms = found[: len(candidate)], found[len(candidate) :]
        metric, difference = "lc_win_rate", lc_method_difference(*arms, paired=paired, c=common_c(pair.results))
        figures = [fmean(length_controlled(data, common_c(pair.results)).win_rate for data in arm) for arm in arms]

    def error_of(some: Sequence[str]) -> float:
        return math.sqrt(components_of(*_grids(pair, some), paired=paired).variance)

    return Measured(pair, metric, figures[0], figures[1], difference, by_question, error_of)


def _grids(pair: MethodPair, questions: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Figures of both sides, each of shape (seeds, questions), in the metric's unit without length control."""
    scale = scale_of(pair.results[0])
    first, second = (grid([result.per_question for result in side.values()], questions, scale) for side in (pair.candidate, pair.baseline))
    return first, second
