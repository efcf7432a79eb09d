"""The record of an interval, and Student's quantile, which all share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import stdtrit


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval. `low` and `high` are None where no spread can be estimated.

    Attributes:
        how: how the interval was made, in words that may stand under a table.
    """

    mean: float
    low: float | None
    high: float | None
    how: str


NORMAL_QUANTILE = 1.959963984540054
"""Two-sided, of 95 %."""


def share_interval(share: float, count: int) -> Interval:
    """Wilson's interval of a share (1927, JASA 22), which stays within 0 and 1 and has a width at both ends.

    Args:
        share: of `count` independent cases that are so; halves may be in it.

    >>> found = share_interval(1.0, 100)
    >>> round(found.low or 0, 4), found.high
    (0.963, 1.0)
    """
    if not count:
        return Interval(share, None, None, "nothing was measured")
    square = NORMAL_QUANTILE**2 / count
    middle = (share + square / 2) / (1 + square)
    half = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), f"Wilson's, over {count} questions")


def t_quantile(degrees_of_freedom: int, confidence: float = 0.95) -> float:
    """Two-sided quantile: `mean -/+ t * SE` covers with the given confidence.

    >>> round(t_quantile(79), 4)
    1.9905
    """
    return float(stdtrit(degrees_of_freedom, (1 + confidence) / 2))
