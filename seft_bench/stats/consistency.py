"""Consistency of a judge: how much its verdict changes when the very same prompt is judged again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from seft_bench.stats.clusters import clustered_ratio, clustered_share, sums_by_question
from seft_bench.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class Repeated:
    """Verdicts of one judge on one prompt, at least two: grades, or codes of verdicts."""

    question_id: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Consistency:
    """Verdicts on the same prompts.

    Attributes:
        prompts: judged at least twice.
        pairs: of verdicts on one prompt.
        equal: share of pairs with the same verdict.
        sd: standard deviation of one judgment about the judge's mean on that prompt, in grade points; None for verdicts
            without a scale.
        noise_of_mean: sd / sqrt(rows): what judging again moves a mean over `rows` prompts, where the judge's errors
            are independent.
    """

    prompts: int
    pairs: int
    equal: Interval
    sd: Interval | None
    noise_of_mean: Interval | None
    rows: int


def consistency(seen: Sequence[Repeated], *, graded: bool, rows: int = 160) -> Consistency | None:
    """Self-consistency over prompts with at least two verdicts, intervals over questions; None without any.

    Args:
        graded: values are grades, so that a standard deviation means something.
        rows: judgments that a suite's mean is over (MT-Bench: 160).
    """
    usable = [item for item in seen if len(item.values) > 1]
    if not usable:
        return None
    pairs = [(item.question_id, one == other) for item in usable for one, other in combinations(item.values, 2)]
    equal = clustered_share([question for question, _ in pairs], [same for _, same in pairs])
    sd = _rejudgment_sd(usable) if graded else None
    return Consistency(
        len(usable), len(pairs), equal, sd, None if sd is None else _scaled(sd, 1 / math.sqrt(rows)), rows
    )


def _rejudgment_sd(seen: Sequence[Repeated]) -> Interval:
    """Pooled: sqrt(sum of squares within prompts / sum of (verdicts - 1)); for two verdicts d apart that is d^2 / 2."""
    spread = [float(np.sum((np.array(item.values) - np.mean(item.values)) ** 2)) for item in seen]
    squares, degrees = sums_by_question(
        [item.question_id for item in seen], spread, [float(len(item.values) - 1) for item in seen]
    )
    return _root(clustered_ratio(squares, degrees))


def _root(variance: Interval) -> Interval:
    low, high = (None if end is None else math.sqrt(end) for end in (variance.low, variance.high))
    return Interval(math.sqrt(variance.mean), low, high, variance.how)


def _scaled(interval: Interval, factor: float) -> Interval:
    low, high = (None if end is None else end * factor for end in (interval.low, interval.high))
    return Interval(interval.mean * factor, low, high, interval.how)
