"""AlpacaEval 2.0's plain figures, as alpaca_eval 0.6.6 defines them (`metrics/winrate.py`).

A preference lies in [1, 2]; 2 means that the candidate wins, 1.5 is a draw. The official files also store a draw as 0.
The length-controlled win rate is in `length_control`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WinRate:
    """All in percent. `standard_error` is None for a single judgment."""

    win_rate: float
    standard_error: float | None
    discrete_win_rate: float


def win_probabilities(preferences: Sequence[float] | Floats) -> Floats:
    """Probability that the candidate wins, in [0, 1], of each preference; a stored 0 is a draw.

    Raises:
        ValueError: a value that is neither in [1, 2] nor 0.
    """
    values = np.asarray(preferences, dtype=np.float64)
    values = np.where(values == 0.0, 1.5, values)
    if not ((values >= 1.0) & (values <= 2.0)).all():
        raise ValueError("preferences lie in [1, 2], or are 0 for a draw")
    return values - 1.0


def win_rate(preferences: Sequence[float] | Floats) -> WinRate:
    """Win rate, its standard error (ddof 1) over questions, and the discrete win rate (a draw counts half).

    >>> win_rate([2.0, 1.0, 1.75, 0.0]).win_rate
    56.25
    >>> win_rate([2.0, 1.0, 1.75, 0.0]).discrete_win_rate
    62.5
    """
    wins = win_probabilities(preferences)
    if wins.size == 0:
        raise ValueError("a win rate needs at least one preference")
    discrete = np.where(wins > 0.5, 1.0, np.where(wins == 0.5, 0.5, 0.0))
    error = 100.0 * float(wins.std(ddof=1)) / math.sqrt(wins.size) if wins.size > 1 else None
    return WinRate(100.0 * float(wins.mean()), error, 100.0 * float(discrete.mean()))


def average_length(texts: Sequence[str]) -> int:
    """Mean length in characters, cut to an integer as in the official table."""
    return int(sum(len(text) for text in texts) / len(texts))
