"""MT-Bench means by hand."""

from __future__ import annotations

import math

import pytest

from seft_bench.stats.intervals import t_quantile
from seft_bench.stats.mtbench import (
    Grade,
    clustered_mean,
    fastchat_average,
    last_of_each_key,
    mean_by_category,
    mean_by_question,
    mean_by_turn,
)

ROWS = [
    Grade("1", "math", 1, 4.0),
    Grade("1", "math", 2, 2.0),
    Grade("2", "stem", 1, 9.0),
    Grade("2", "stem", 2, 7.0),
    Grade("1", "math", 1, 8.0),  # judged again: this one counts
]


def test_last_row_of_a_key_counts_and_fastchat_averages_all() -> None:
    kept = last_of_each_key(ROWS)
    assert [row.score for row in kept] == [8.0, 2.0, 9.0, 7.0]
    assert fastchat_average(ROWS) == 30 / 5


def test_means_by_turn_category_and_question() -> None:
    kept = last_of_each_key(ROWS)
    assert mean_by_turn(kept) == {1: 8.5, 2: 4.5}
    assert mean_by_category(kept) == {"math": 5.0, "stem": 8.0}
    assert mean_by_question(kept) == {"1": 5.0, "2": 8.0}


def test_clustered_standard_error_by_hand() -> None:
    """Sums 10 and 16 over 2 rows each, mean 6.5: residuals -3 and 3, SE = sqrt(2 * 18) / 4 = 1.5."""
    interval, error = clustered_mean(last_of_each_key(ROWS))
    assert interval.mean == 6.5
    assert error == pytest.approx(1.5)
    assert interval.high == pytest.approx(6.5 + t_quantile(1) * 1.5)
    assert interval.low == pytest.approx(6.5 - t_quantile(1) * 1.5)


def test_with_equal_turns_it_is_the_error_of_question_means() -> None:
    """Question means 5 and 8 and 2: SE = sd / sqrt(3) = 3 / sqrt(3)."""
    rows = [*last_of_each_key(ROWS), Grade("3", "math", 1, 1.0), Grade("3", "math", 2, 3.0)]
    assert clustered_mean(rows)[1] == pytest.approx(3 / math.sqrt(3))


def test_one_question_has_no_interval() -> None:
    interval, error = clustered_mean(ROWS[:2])
    assert (interval.mean, interval.low, interval.high, error) == (3.0, None, None, None)


def test_t_quantiles_of_the_tables() -> None:
    assert t_quantile(1) == pytest.approx(12.706, abs=1e-3)
    assert t_quantile(79) == pytest.approx(1.990, abs=1e-3)
