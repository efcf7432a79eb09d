"""Group-sequential tests: look at the data several times, stop early, and keep the error rate that was promised.

The error is spent by the power family alpha * t^rho (Kim and DeMets 1987, Biometrika 74) with Lan and DeMets'
boundaries, found by the recursion of Armitage, McPherson and Rowe (1969). With rho = 5 and looks at 40, 60, 80 and 100
% of the questions, power is within one point of the test that looks once.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]

RHO = 5.0
LOOK_FRACTIONS = (0.4, 0.6, 0.8, 1.0)
"""A first look at fewer questions would save little more: its level would be so small that skewed differences break it.
"""
_GRID = 1501
_REACH = 8.0  # standard deviations that the grid covers below 0; what lies beyond is less than 1e-15


def spent(fraction: float, alpha: float, rho: float = RHO) -> float:
    """Error that may be spent until this fraction of the data is seen."""
    return alpha * math.pow(min(max(fraction, 0.0), 1.0), rho)


def look_sizes(questions: int) -> tuple[int, ...]:
    """Return how many questions are judged at each look; the last one is all.

    Sets of fewer than 20 questions are looked at once.

    >>> look_sizes(80), look_sizes(3)
    ((32, 48, 64, 80), (3,))
    """
    if questions < 20:
        return (questions,)
    return tuple(math.ceil(questions * fraction) for fraction in LOOK_FRACTIONS)


@functools.lru_cache(maxsize=64)
def nominal_levels(fractions: tuple[float, ...], alpha: float, rho: float = RHO) -> tuple[float, ...]:
    """One-sided significance level of each look, such that ever rejecting has probability `alpha` under the null.

    Args:
        fractions: share of the data seen at each look, increasing, the last one at most 1.

    Raises:
        ValueError: fractions that do not increase within (0, 1].
    """
    if not fractions or any(b <= a for a, b in itertools.pairwise((0.0, *fractions))) or fractions[-1] > 1.0:
        raise ValueError(f"fractions of the data must increase within (0, 1], these are {fractions}")
    levels = [spent(fractions[0], alpha, rho)]
    points, density = _first_density(fractions[0], levels[0])
    for before, now in itertools.pairwise(fractions):
        increment = spent(now, alpha, rho) - spent(before, alpha, rho)
        boundary = _boundary(points, density, now - before, increment)
        levels.append(float(ndtr(-boundary / math.sqrt(now))))
        points, density = _next_density(points, density, now - before, boundary, now)
    return tuple(levels)


def _first_density(fraction: float, level: float) -> tuple[Floats, Floats]:
    """Density of the score process at the first look, where it did not cross."""
    scale = math.sqrt(fraction)
    points = np.linspace(-_REACH * scale, -float(ndtri(level)) * scale, _GRID)
    return points, _normal(points, scale)


def _boundary(points: Floats, density: Floats, step: float, increment: float) -> float:
    """The value that the process exceeds, for the first time, with probability `increment`."""
    mass = density * _weights(points)

    def excess(boundary: float) -> float:
        return float(mass @ ndtr((points - boundary) / math.sqrt(step))) - increment

    found: float = brentq(excess, -_REACH, 2 * _REACH, xtol=1e-10)
    return found


def _next_density(
    points: Floats, density: Floats, step: float, boundary: float, fraction: float
) -> tuple[Floats, Floats]:
    following = np.linspace(-_REACH * math.sqrt(fraction), boundary, _GRID)
    kernel = _normal(following[:, None] - points[None, :], math.sqrt(step))
    return following, kernel @ (density * _weights(points))


def _weights(points: Floats) -> Floats:
    """Trapezoid rule."""
    weights = np.full(points.size, points[1] - points[0])
    weights[0] /= 2
    weights[-1] /= 2
    return weights


def _normal(values: Floats, scale: float) -> Floats:
    return np.asarray(np.exp(-0.5 * (values / scale) ** 2) / (scale * math.sqrt(2 * math.pi)), dtype=np.float64)


def levels_for(sizes: Sequence[int], alpha: float) -> tuple[float, ...]:
    """`nominal_levels` of looks at these numbers of questions, the last one being all."""
    return nominal_levels(tuple(size / sizes[-1] for size in sizes), alpha)
