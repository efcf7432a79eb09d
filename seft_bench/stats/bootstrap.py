"""Intervals over questions and training seeds: a verdict on a method needs both, never a bare best seed."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from seft_bench.stats.intervals import Interval

Floats = NDArray[np.float64]
RESAMPLES = 2000


def question_seed_interval(
    values: Floats, *, rng_seed: int = 0, resamples: int = RESAMPLES, batch_size: int = 500
) -> Interval:
    """Mean of `values` with a 95 % percentile interval from redrawing questions and seeds.

    Rows and columns are drawn independently, one fewer than there are: with replacement, n - 1 draws of n have the
    unbiased variance (Rao and Wu 1988), where n draws would show only 2/3 of it at three seeds. With one seed, only
    questions are drawn and the interval says nothing about training.

    Args:
        values: shape (seeds, questions); NaN where a question was not scored.

    Raises:
        ValueError: not two-dimensional, or nothing scored.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not np.isfinite(array).any():
        raise ValueError("an array of shape (seeds, questions) with at least one scored entry is needed")
    scored = np.isfinite(array)
    mean = float(array[scored].mean())
    seeds, questions = array.shape
    if questions < 2:
        return Interval(mean, None, None, "no interval: one question")
    drawn = draws(seeds, questions, resamples, batch_size, rng_seed)
    means = np.concatenate([resampled_means(array, scored, *counts) for counts in drawn])
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return Interval(mean, float(low), float(high), _how(seeds, questions, resamples))


def paired_interval(candidate: Floats, baseline: Floats, *, rng_seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return mean candidate - baseline on the same questions and seeds, with `question_seed_interval`'s interval.

    Pairing by question removes the questions' difficulty from the interval. An entry scored on one side only is left
    out.

    Args:
        candidate, baseline: shape (seeds, questions), same order of both; NaN where not scored.

    Raises:
        ValueError: the shapes differ.
    """
    if np.shape(candidate) != np.shape(baseline):
        raise ValueError(f"paired arms need one shape, these are {np.shape(candidate)} and {np.shape(baseline)}")
    difference = np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    interval = question_seed_interval(difference, rng_seed=rng_seed, resamples=resamples)
    return Interval(interval.mean, interval.low, interval.high, f"paired differences, {interval.how}")


def independent_interval(
    candidate: Floats, baseline: Floats, *, rng_seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Difference of the two means, paired by question, the seeds of both sides drawn independently.

    Args:
        candidate, baseline: shape (seeds, questions), the same questions, every entry scored.
    """
    mean, questions = float(np.mean(candidate) - np.mean(baseline)), np.shape(candidate)[1]
    rng = np.random.default_rng(rng_seed)
    asked = _draw_counts(questions, resamples, rng)
    means = [
        resampled_means(side, np.isfinite(side), _draw_counts(len(side), resamples, rng), asked)
        for side in (candidate, baseline)
    ]
    low, high = np.nanpercentile(means[0] - means[1], [2.5, 97.5])
    how = (
        f"95 % percentile bootstrap ({resamples:,} resamples) over {questions} questions and {len(candidate)} and "
        f"{len(baseline)} independent seeds"
    )
    return Interval(mean, float(low), float(high), f"paired differences by question, {how}")


def redrawn_seeds_interval(
    mean: float, candidate: Floats, baseline: Floats, *, paired: bool, questions: int, rng_seed: int = 0
) -> Interval:
    """Return the interval of a figure that was refitted.

    Each draw of questions gets a draw of seeds, the same for both sides where they are paired.

    Args:
        mean: the difference itself.
        candidate, baseline: refitted figures on redrawn questions, shape (seeds, resamples).
        questions: how many, for the words.
    """
    rng = np.random.default_rng(rng_seed)
    resamples = np.shape(candidate)[1]
    counts = _draw_counts(len(candidate), resamples, rng)
    others = counts if paired else _draw_counts(len(baseline), resamples, rng)
    sides = [
        (weights.T * side).sum(axis=0) / weights.sum(axis=1)
        for weights, side in ((counts, candidate), (others, baseline))
    ]
    low, high = np.percentile(sides[0] - sides[1], [2.5, 97.5])
    seeds = f"{len(candidate)} seeds" if paired else f"{len(candidate)} and {len(baseline)} independent seeds"
    return Interval(
        mean,
        float(low),
        float(high),
        f"95 % percentile bootstrap ({resamples:,} refits) over {questions} questions and {seeds}",
    )


@functools.lru_cache(maxsize=16)
def draws(
    seeds: int, questions: int, resamples: int = RESAMPLES, batch_size: int = 500, rng_seed: int = 0
) -> list[tuple[Floats, Floats]]:
    """Counts of rows and of columns, batch by batch.

    A table asks for the same draws again and again: they are its whole cost.
    """
    rng = np.random.default_rng(rng_seed)
    sizes = [min(batch_size, resamples - start) for start in range(0, resamples, batch_size)]
    return [(_draw_counts(seeds, size, rng), _draw_counts(questions, size, rng)) for size in sizes]


def resampled_means(values: Floats, scored: NDArray[np.bool_], seed_counts: Floats, question_counts: Floats) -> Floats:
    """Means of the redrawn tables, by counts of rows and columns instead of copies of the table.

    Args:
        values, scored: shape (..., seeds, questions): several tables are redrawn alike.
        seed_counts, question_counts: shapes (draws, seeds) and (draws, questions).

    Returns:
        Shape (..., draws); NaN where a draw took nothing that was scored.
    """
    total = _redrawn_sums(np.where(scored, values, 0.0), seed_counts, question_counts)
    if scored.all():
        weight = np.broadcast_to(seed_counts.sum(axis=1) * question_counts.sum(axis=1), total.shape)
    else:
        weight = _redrawn_sums(scored.astype(np.float64), seed_counts, question_counts)
    means: Floats = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)
    return means


def _redrawn_sums(values: Floats, seed_counts: Floats, question_counts: Floats) -> Floats:
    """Weighted sums of shape (..., draws). Columns go first, for all tables in one product."""
    *tables, seeds, questions = values.shape
    by_seed = (values.reshape(-1, questions) @ question_counts.T).reshape(*tables, seeds, len(question_counts))
    sums: Floats = (by_seed * seed_counts.T).sum(axis=-2)
    return sums


def _draw_counts(n: int, size: int, rng: np.random.Generator) -> Floats:
    """Draw how often each of n items is taken, shape (size, n); a single item is always there."""
    if n == 1:
        return np.ones((size, 1))
    return rng.multinomial(n - 1, np.full(n, 1.0 / n), size=size).astype(np.float64)


def _how(seeds: int, questions: int, resamples: int) -> str:
    over = (
        f"{questions} questions and {seeds} seeds"
        if seeds > 1
        else f"{questions} questions; one seed, so training noise is not in it"
    )
    return f"95 % percentile bootstrap ({resamples:,} resamples) over {over}"
