"""The record of an interval, and Student's quantile, which all share."""

from __future__ import annotations

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


def t_quantile(degrees_of_freedom: int, confidence: float = 0.95) -> float:
    """Two-sided quantile: `mean -/+ t * SE` covers with the given confidence.

    >>> round(t_quantile(79), 4)
    1.9905
    """
    return float(stdtrit(degrees_of_freedom, (1 + confidence) / 2))
