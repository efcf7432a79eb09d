"""Power of a check of two methods: the loss it could have seen, and how many seeds or questions it would need.

The components are taken as true. The power at a loss is then the mean, over the distribution of V_seeds (its chi^2
quantiles, a grid for each draw of seeds), of the chance that the difference falls below the critical value which that
V_seeds gives: with three seeds the critical value itself varies by a factor of three, so no single t has the right
power.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr, stdtrit

from seft_bench.stats.components import Components, variance_and_degrees
from seft_bench.stats.paired import ALPHA, POWER, effect_in_errors
from seft_bench.stats.seeds import FEWEST_SEEDS

Floats = NDArray[np.float64]
MOST_SEEDS, MOST_QUESTIONS = 1000, 1_000_000
"""Limits of the search: what needs more than this is said to be out of reach."""
_GRID_POINTS = {1: 400, 2: 40}


def minimal_effect(components: Components, skewness: float = 0.0, alpha: float = ALPHA, power: float = POWER) -> float:
    """Loss that is found with this power, in the metric's unit.

    Skewness enters as in `paired.minimal_effect`, by the ratio to none.
    """
    truth = _truth(components)
    if not truth.variance:
        return 0.0
    spread = sqrt(truth.variance)
    widths = _critical_widths(truth, alpha)
    low, high = 0.0, float(widths.max()) + 6.0 * spread
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if float(ndtr((middle - widths) / spread).mean()) < power else (low, middle)
    return high * effect_in_errors(skewness, truth.n, alpha, power) / effect_in_errors(0.0, truth.n, alpha, power)


def _truth(components: Components) -> Components:
    """The components as a population's: V_seeds of a population is never below V_rest."""
    excess, total = components.from_seeds, sum(components.of_seeds)
    shares = [value / total if total else 0.0 for value in components.of_seeds]
    return replace(
        components, of_seeds=tuple(rest + excess * share for rest, share in zip(components.rest, shares, strict=True))
    )


def _critical_widths(truth: Components, alpha: float) -> Floats:
    """Return how far below 0 a difference must be, at each point of the grid of V_seeds."""
    points = _GRID_POINTS[len(truth.seeds)]
    quantiles = (np.arange(points) + 0.5) / points
    axes = [
        value * 2.0 * gammaincinv((k - 1) / 2.0, quantiles) / (k - 1)
        for value, k in zip(truth.of_seeds, truth.seeds, strict=True)
    ]
    variance, degrees = variance_and_degrees(truth, [axis.ravel() for axis in np.meshgrid(*axes)])
    widths: Floats = -stdtrit(degrees, alpha) * np.sqrt(variance)
    return widths


def needed_questions(components: Components, skewness: float, margin: float) -> int | None:
    """Return the questions for which the loss found with 80 % power is the margin, with these seeds.

    None where no number is enough, or nothing varies.
    """
    return _smallest(
        lambda n: minimal_effect(_with_questions(components, n), skewness * sqrt(components.n / n)) <= margin,
        2,
        MOST_QUESTIONS,
        components,
    )


def needed_seeds(components: Components, skewness: float, margin: float) -> int | None:
    """Return the training seeds an arm for which the loss found with 80 % power is the margin, on these questions.

    None where no number is enough, or nothing varies.
    """
    return _smallest(
        lambda k: minimal_effect(_with_seeds(components, k), skewness) <= margin, FEWEST_SEEDS, MOST_SEEDS, components
    )


def _smallest(is_enough: Callable[[int], bool], low: int, high: int, components: Components) -> int | None:
    if not components.variance or not is_enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low


def _with_questions(components: Components, n: int) -> Components:
    """The same population, asked n questions: what seeds add by themselves stays."""
    truth, factor = _truth(components), components.n / n
    of_seeds = tuple(value - rest + rest * factor for value, rest in zip(truth.of_seeds, truth.rest, strict=True))
    return replace(
        truth,
        n=n,
        questions=truth.questions * factor,
        of_seeds=of_seeds,
        rest=tuple(rest * factor for rest in truth.rest),
    )


def _with_seeds(components: Components, k: int) -> Components:
    """The same population with k seeds in every draw: what questions add by themselves stays."""
    truth = _truth(components)
    factors = [seeds / k for seeds in truth.seeds]
    rest = tuple(value * factor for value, factor in zip(truth.rest, factors, strict=True))
    questions = max(truth.questions - sum(truth.rest), 0.0) + sum(rest)
    of_seeds = tuple(value * factor for value, factor in zip(truth.of_seeds, factors, strict=True))
    return replace(truth, seeds=(k,) * len(factors), questions=questions, of_seeds=of_seeds, rest=rest)
