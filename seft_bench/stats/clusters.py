"""Means and shares with 95 % intervals over questions.

Rows of one question are not independent, so questions are redrawn, not rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats.intervals import Interval

Floats = NDArray[np.float64]
RESAMPLES = 2000


def sums_by_question(questions: Sequence[str], *columns: Sequence[float] | Floats) -> tuple[Floats, ...]:
    """Sum every column within each question, each of shape (different questions,).

    Sorted, so that the order of rows changes nothing.
    """
    positions = np.unique(np.asarray(questions, dtype=str), return_inverse=True)[1]
    return tuple(
        np.bincount(positions, weights=np.asarray(column, dtype=np.float64)).astype(np.float64) for column in columns
    )


@functools.lru_cache(maxsize=8)
def question_draws(questions: int, resamples: int, rng_seed: int) -> Floats:
    """Draw how often each question is taken, shape (resamples, questions): n - 1 draws of n, as in `stats.bootstrap`.

    The source is Rao and Wu (1988).

    One report asks for the same draws many times, and they are most of its cost; so they are kept, and read-only.
    """
    rng = np.random.default_rng(rng_seed)
    draws = rng.multinomial(max(questions - 1, 1), np.full(questions, 1.0 / questions), size=resamples).astype(
        np.float64
    )
    draws.setflags(write=False)
    return draws


def redrawn_ratios(numerator: Floats, denominator: Floats, weights: Floats) -> Floats:
    """Ratio of the two redrawn sums, shape (resamples,); NaN where a draw's denominator is 0."""
    total = weights @ denominator
    ratios: Floats = np.divide(weights @ numerator, total, out=np.full(len(total), np.nan), where=total > 0)
    return ratios


def percentile_interval(mean: float, draws: Floats, questions: int) -> Interval:
    """The middle 95 % of the draws; no interval for a single question."""
    if questions < 2:
        return Interval(mean, None, None, "no interval: one question")
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Interval(
        mean,
        float(low),
        float(high),
        f"95 % percentile bootstrap ({len(draws):,} resamples) over {questions} questions",
    )


def clustered_ratio(
    numerator: Floats, denominator: Floats, *, rng_seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Sum of `numerator` over sum of `denominator`, both by question, shape (questions,)."""
    draws = redrawn_ratios(numerator, denominator, question_draws(len(numerator), resamples, rng_seed))
    return percentile_interval(float(numerator.sum() / denominator.sum()), draws, len(numerator))


def clustered_mean(
    questions: Sequence[str], values: Sequence[float] | Floats, *, rng_seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean of the values, every row with equal weight. `questions[i]` is the question of `values[i]`.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("a mean of no values does not exist")
    return clustered_ratio(
        *sums_by_question(questions, values, np.ones(len(values))), rng_seed=rng_seed, resamples=resamples
    )


def clustered_share(
    questions: Sequence[str], hits: Sequence[bool], *, rng_seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the share of hits.

    Where all rows or none are hits, redrawing shows no spread: the exact (Clopper-Pearson) bound for as many rows as
    there are questions stands instead.
    """
    interval = clustered_mean(questions, [float(hit) for hit in hits], rng_seed=rng_seed, resamples=resamples)
    n = len(set(questions))
    if n < 2 or 0.0 < interval.mean < 1.0:
        return interval
    margin = 1.0 - 0.025 ** (1.0 / n)
    low, high = (0.0, margin) if interval.mean == 0.0 else (1.0 - margin, 1.0)
    return Interval(
        interval.mean, low, high, f"95 % exact (Clopper-Pearson) bound, one observation a question, {n} questions"
    )
