"""Merging two orders by hand."""

from __future__ import annotations

import pytest

from seft_bench.stats.pairwise import LOSS, TIE, WIN, Comparison, counts, outcome_of, outcomes_in_percent, position_bias


@pytest.mark.parametrize(
    ("first", "second", "outcome", "inconsistent"),
    [
        (WIN, WIN, WIN, False),
        (LOSS, LOSS, LOSS, False),
        (TIE, TIE, TIE, False),
        (WIN, LOSS, TIE, True),
        (LOSS, WIN, TIE, True),
        (WIN, TIE, TIE, True),
        (TIE, LOSS, TIE, True),
    ],
)
def test_a_winner_must_win_in_both_orders(first: float, second: float, outcome: float, inconsistent: bool) -> None:
    comparison = Comparison("1", "math", 1, first, second)
    assert (comparison.outcome, comparison.is_inconsistent) == (outcome, inconsistent)


def test_counts_and_percent() -> None:
    comparisons = [
        Comparison("1", "", 1, WIN, WIN),
        Comparison("1", "", 2, WIN, LOSS),
        Comparison("2", "", 1, LOSS, LOSS),
        Comparison("2", "", 2, TIE, TIE),
    ]
    assert counts(comparisons) == {"wins": 1, "losses": 1, "ties": 2, "inconsistent": 1}
    assert [row.score for row in outcomes_in_percent(comparisons)] == [100.0, 50.0, 0.0, 50.0]


def test_position_bias_counts_verdicts_for_the_first_shown() -> None:
    """Shown first, the model wins twice and ties once; shown second it loses twice and wins once: 4 of 5 decided
    verdicts go to the first.
    """
    bias = position_bias(
        [Comparison("1", "", 1, WIN, LOSS), Comparison("2", "", 1, WIN, LOSS), Comparison("3", "", 1, TIE, WIN)]
    )
    assert bias["first_shown_win_rate"] == pytest.approx(80.0)
    assert bias["inconsistent_rate"] == pytest.approx(100.0)
    assert bias["inconsistent_rate_low"] == pytest.approx(100.0)


def test_without_a_winner_there_is_no_bias_to_see() -> None:
    bias = position_bias([Comparison("1", "", 1, TIE, TIE), Comparison("2", "", 1, TIE, TIE)])
    assert bias["first_shown_win_rate"] is None
    assert bias["inconsistent_rate"] == 0.0


def test_graded_preferences_win_by_their_side_of_a_half() -> None:
    assert [outcome_of(value) for value in (1.0, 1.49, 1.5, 1.51, 2.0)] == [LOSS, LOSS, TIE, WIN, WIN]
