"""Simultaneous intervals: their width against closed forms, and how often they all hold in simulated worlds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seft_bench.stats.bootstrap import paired_interval
from seft_bench.stats.intervals import Interval
from seft_bench.stats.simultaneous import (
    critical_value,
    degrees_of_freedom,
    differences,
    grids,
    only,
    simultaneous_intervals,
)


def half(interval: Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return (interval.high - interval.low) / 2


def test_the_own_interval_is_the_paired_one_over_questions_and_runs() -> None:
    rng = np.random.default_rng(0)
    first, other = rng.normal(0, 1, (2, 5, 60))
    other[2, 7] = np.nan
    found = simultaneous_intervals(differences(first, other[None]).values)[0]
    expected = paired_interval(first, other)
    assert found is not None
    assert (found.alone.mean, found.alone.low, found.alone.high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )


def test_one_difference_needs_no_correction_and_many_independent_ones_sidaks() -> None:
    """Of m independent normal differences the largest |t| is below c in 95 % where P(|t| < c) = 0.95^(1/m)."""
    draws = np.random.default_rng(1).normal(0, 3, (8, 40_000))
    assert critical_value(draws[:1], np.zeros(1)) == pytest.approx(1.960, rel=0.02)
    assert critical_value(draws, np.zeros(8)) == pytest.approx(2.727, rel=0.02)  # normal quantile of 0.99680
    assert critical_value(np.repeat(draws[:1], 8, axis=0), np.zeros(8)) == pytest.approx(1.960, rel=0.02)


def test_corrected_intervals_are_centred_and_wider() -> None:
    gaps = np.random.default_rng(2).normal(0.3, 1, (6, 4, 100))
    for found in simultaneous_intervals(gaps):
        assert found is not None
        assert (
            found.alone.mean == found.corrected.mean == pytest.approx((found.corrected.low + found.corrected.high) / 2)
        )  # type: ignore[operator]
        assert half(found.corrected) > 1.2 * half(found.alone)
        assert "6 differences at once" in found.corrected.how


@pytest.mark.parametrize("runs", [5, 20])
def test_all_intervals_hold_at_once_in_about_95_of_100_worlds(runs: int) -> None:
    """Ten arms without any difference, compared with one: without a correction some interval errs far more often."""
    rng, errs_alone, errs = np.random.default_rng(3), 0, 0
    worlds = 200
    for _ in range(worlds):
        arms = rng.normal(0, 1, (11, 1, 80)) + rng.normal(0, 0.3, (11, runs, 1)) + rng.normal(0, 0.5, (11, runs, 80))
        found = simultaneous_intervals(differences(arms[0], arms[1:]).values, resamples=500)
        own, all_at_once = zip(*((each.alone, each.corrected) for each in found if each), strict=True)
        errs_alone += any(excludes(interval) for interval in own)
        errs += any(excludes(interval) for interval in all_at_once)
    assert errs_alone / worlds > 0.2
    assert errs / worlds < 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)


def excludes(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and (interval.low > 0 or interval.high < 0)


def test_runs_and_questions_without_a_pair_are_dropped() -> None:
    runs = [{"a": 1.0, "b": 2.0}, None, {"a": 3.0}]
    values = grids([runs, [{"a": 0.0, "b": 0.0, "c": 9.0}] * 3], ["a", "b", "c"], 2.0)
    found = differences(values[0], values[1:])
    assert found.runs == (0, 2)
    assert found.shape_of(0) == (2, 2)
    assert found.values[0, 0].tolist() == [2.0, 4.0]
    assert found.values[0, 1, 0] == 6.0
    assert np.isnan(found.values[0, 1, 1])
    assert (found.mean_over(0, [0, 1]), found.mean_over(0, [0, 2])) == (3.0, 4.0)
    assert math.isnan(found.mean_over(0, [1]))
    kept = only(values, [[True, False, True]] * 3)
    assert np.isnan(kept[0, 0, 1])
    assert kept[0, 0, 0] == 2.0


def test_an_arm_without_any_pair_has_no_figure_and_one_without_spread_no_width() -> None:
    gaps = np.full((3, 3, 10), np.nan)
    gaps[0], gaps[2] = 1.5, np.random.default_rng(4).normal(0, 1, (3, 10))
    constant, missing, other = simultaneous_intervals(gaps)
    assert missing is None
    assert other is not None
    assert constant is not None
    assert (constant.corrected.low, constant.corrected.high) == (1.5, 1.5)


def test_few_degrees_where_runs_make_the_variance_and_many_where_questions_do() -> None:
    rng = np.random.default_rng(5)
    by_run = rng.normal(0, 1, (5, 1)) + rng.normal(0, 0.1, (5, 80))
    by_question = rng.normal(0, 1, (1, 80)) + rng.normal(0, 0.1, (5, 80))
    assert degrees_of_freedom(by_run) == pytest.approx(4, abs=0.1)
    assert degrees_of_freedom(by_question) > 60
    by_run[1, :3] = np.nan
    assert degrees_of_freedom(by_run) == pytest.approx(4, abs=0.1)
    assert degrees_of_freedom(by_question[:1]) == 79


def test_fewer_than_three_runs_are_not_corrected() -> None:
    gaps = np.random.default_rng(6).normal(1, 1, (2, 4, 30))
    gaps[1, 2:] = np.nan
    enough, few = simultaneous_intervals(gaps)
    assert enough is not None
    assert few is not None
    assert enough.corrected.low is not None
    assert few.alone.low is not None
    assert (few.corrected.low, few.corrected.high) == (None, None)
    assert few.corrected.how == "not corrected: fewer than 3 runs"
