"""Bootstrap intervals against the formula that they must agree with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seft_bench.stats.bootstrap import paired_interval, question_seed_interval


def width(interval: object) -> float:
    return (interval.high - interval.low) / 2  # type: ignore[attr-defined]


def test_one_seed_gives_the_normal_interval_over_questions() -> None:
    values = np.random.default_rng(0).normal(5, 2, (1, 400))
    interval = question_seed_interval(values)
    assert interval.mean == pytest.approx(values.mean())
    assert width(interval) == pytest.approx(1.96 * values.std(ddof=1) / math.sqrt(400), rel=0.06)
    assert "one seed" in interval.how


def test_seeds_that_differ_widen_the_interval_by_their_variance() -> None:
    """Seed effects alone (every question equal): the spread is that of S - 1 draws of S, SE^2 = var(ddof 1) / S."""
    effects = np.random.default_rng(1).normal(0, 1, 12)
    values = np.repeat(effects[:, None], 50, axis=1)
    expected = effects.std(ddof=1) / math.sqrt(12)
    assert width(question_seed_interval(values)) == pytest.approx(1.96 * expected, rel=0.1)


def test_three_seeds_show_the_unbiased_variance() -> None:
    """Seed means -1, 0, 1: two draws of three reach -1 and 1 each with probability 1/9, so the interval spans them."""
    values = np.repeat(np.array([[-1.0], [0.0], [1.0]]), 30, axis=1)
    interval = question_seed_interval(values)
    assert (interval.low, interval.high) == (-1.0, 1.0)


def test_unscored_entries_are_left_out() -> None:
    values = np.array([[1.0, 1.0, np.nan, 1.0], [3.0, np.nan, 3.0, 3.0]])
    interval = question_seed_interval(values)
    assert interval.mean == pytest.approx(2.0)
    assert interval.low == 1.0
    assert interval.high == 3.0


def test_pairing_removes_the_questions_difficulty() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(0, 3, (1, 200))
    baseline = difficulty + rng.normal(0, 0.3, (3, 200))
    candidate = difficulty + 0.5 + rng.normal(0, 0.3, (3, 200))
    paired = paired_interval(candidate, baseline)
    assert paired.mean == pytest.approx((candidate - baseline).mean())
    assert paired.low is not None
    assert paired.low > 0.3
    assert width(paired) < width(question_seed_interval(candidate)) / 3
    assert paired.how.startswith("paired")


def test_same_rng_seed_same_interval() -> None:
    values = np.random.default_rng(3).normal(0, 1, (3, 80))
    assert question_seed_interval(values, rng_seed=7) == question_seed_interval(values, rng_seed=7)
    assert question_seed_interval(values, rng_seed=7) != question_seed_interval(values, rng_seed=8)


def test_one_question_has_no_interval() -> None:
    interval = question_seed_interval(np.array([[2.0]]))
    assert (interval.mean, interval.low, interval.high) == (2.0, None, None)


@pytest.mark.parametrize("values", [np.zeros(3), np.full((2, 2), np.nan), np.zeros((0, 0))])
def test_wrong_shapes_and_nothing_scored_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scored"):
        question_seed_interval(values)


def test_unequal_arms_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="one shape"):
        paired_interval(np.zeros((2, 3)), np.zeros((2, 4)))
