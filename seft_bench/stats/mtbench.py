"""MT-Bench means with standard errors that know that one question's turns belong together.

FastChat's own figure (`llm_judge/show_result.py`, fschat 0.2.36) stands under its own name: it averages every parsed
row, so a judgment made twice counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats.intervals import Interval, t_quantile

CLUSTERED = "Student's t interval over questions, the turns of a question as one cluster"


@dataclass(frozen=True, slots=True)
class Grade:
    """One graded turn: a row with a parsed score."""

    question_id: str
    category: str
    turn: int
    score: float


def last_of_each_key(rows: Sequence[Grade]) -> list[Grade]:
    """Return the last row of every (question, turn), in order of first appearance.

    A turn that was judged again counts once.
    """
    return list({(row.question_id, row.turn): row for row in rows}.values())


def mean_by_turn(rows: Sequence[Grade]) -> dict[int, float]:
    """Turn -> mean score of its rows."""
    return {turn: _mean(row.score for row in rows if row.turn == turn) for turn in sorted({row.turn for row in rows})}


def mean_by_category(rows: Sequence[Grade]) -> dict[str, float]:
    """Category -> mean score of its rows, in order of first appearance; questions without a category are left out."""
    return {
        name: _mean(row.score for row in rows if row.category == name)
        for name in dict.fromkeys(row.category for row in rows)
        if name
    }


def mean_by_question(rows: Sequence[Grade]) -> dict[str, float]:
    """Question -> mean score over its turns: what a paired comparison works on."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.question_id, []).append(row.score)
    return {question: _mean(values) for question, values in scores.items()}


def figures(rows: Sequence[Grade], name: str = "score") -> dict[str, float | None]:
    """Return `name`, `turn_1`, ... and of each `_se`, `_low`, `_high`, all clustered by question.

    Of "score" they are plain `se`, `low` and `high`.
    """
    found = _named(rows, name, "" if name == "score" else f"{name}_")
    for turn in sorted({row.turn for row in rows}):
        found |= _named([row for row in rows if row.turn == turn], f"turn_{turn}", f"turn_{turn}_")
    return found


def _named(rows: Sequence[Grade], name: str, prefix: str) -> dict[str, float | None]:
    interval, error = clustered_mean(rows)
    return {name: interval.mean, f"{prefix}se": error, f"{prefix}low": interval.low, f"{prefix}high": interval.high}


def figures_by_category(rows: Sequence[Grade], name: str = "score") -> dict[str, dict[str, float | None]]:
    """Category -> its `figures` and its number of questions; questions without a category are left out."""
    groups = {
        category: [row for row in rows if row.category == category]
        for category in dict.fromkeys(row.category for row in rows)
        if category
    }
    return {
        category: figures(group, name) | {"questions": len({row.question_id for row in group})}
        for category, group in groups.items()
    }


def fastchat_average(rows: Sequence[Grade]) -> float:
    """show_result's "average": the mean over all parsed rows, repeated ones included."""
    return _mean(row.score for row in rows)


def clustered_mean(rows: Sequence[Grade]) -> tuple[Interval, float | None]:
    """Mean over rows with an interval and a standard error clustered by question.

    With scores' sum S_q and count m_q of question q, mu = sum S / sum m and
    SE^2 = Q/(Q-1) * sum (S_q - mu m_q)^2 / (sum m)^2. None for a single question.
    """
    sums, counts = _sums_by_question(rows)
    mean, questions = float(sums.sum() / counts.sum()), len(sums)
    if questions < 2:
        return Interval(mean, None, None, "no interval: one question"), None
    spread = float(np.sum((sums - mean * counts) ** 2))
    error = math.sqrt(questions / (questions - 1) * spread) / float(counts.sum())
    margin = t_quantile(questions - 1) * error
    return Interval(mean, mean - margin, mean + margin, CLUSTERED), error


def _sums_by_question(rows: Sequence[Grade]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    index = {question: position for position, question in enumerate(dict.fromkeys(row.question_id for row in rows))}
    positions = np.array([index[row.question_id] for row in rows])
    scores = np.array([row.score for row in rows], dtype=np.float64)
    return np.bincount(positions, weights=scores).astype(np.float64), np.bincount(positions).astype(np.float64)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
