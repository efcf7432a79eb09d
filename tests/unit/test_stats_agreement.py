"""Agreement of raters, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seft_bench.stats.agreement import (
    Pair,
    Vote,
    agreement,
    agreement_difference,
    last_votes,
    pairs_among,
    pairs_between,
    without_ties,
)


def vote(rater: str, winner: str | None, question: str = "1", turn: int = 1) -> Vote:
    return Vote(rater, question, turn, ("a", "b"), winner)


def pairs(question: str, equal: int, different: int) -> list[Pair]:
    return [Pair(question, "a", "a")] * equal + [Pair(question, "a", "b")] * different


def test_the_judge_meets_every_human_vote_on_what_it_judged() -> None:
    humans = [vote("x", "a"), vote("y", "b"), vote("z", None), vote("x", "a", question="2"), vote("x", "a", turn=2)]
    assert pairs_between([vote("judge", "a")], humans) == [
        Pair("1", "a", "a"),
        Pair("1", "a", "b"),
        Pair("1", "a", None),
    ]


def test_three_humans_make_three_pairs_and_never_one_with_themselves() -> None:
    humans = [vote("x", "a"), vote("y", "b"), vote("z", None), vote("x", "a", question="2")]
    assert pairs_among(humans) == [Pair("1", "a", "b"), Pair("1", "a", None), Pair("1", "b", None)]


def test_the_last_of_a_raters_votes_counts() -> None:
    assert last_votes([vote("x", "a"), vote("y", "b"), vote("x", None)]) == [vote("x", None), vote("y", "b")]
    assert pairs_among([vote("x", "a"), vote("x", "b")]) == []


def test_a_tie_agrees_with_a_tie_and_is_dropped_without_ties() -> None:
    seen = [Pair("1", None, None), Pair("1", None, "a"), Pair("2", "a", "a"), Pair("2", "a", "b"), Pair("2", "b", None)]
    with_ties, without = agreement(seen), agreement(without_ties(seen))
    assert with_ties is not None
    assert without is not None
    assert (with_ties.agreed, with_ties.n, with_ties.interval.mean) == (2, 5, 0.4)
    assert (without.agreed, without.n, without.interval.mean) == (1, 2, 0.5)


def test_the_interval_is_that_of_questions_not_of_votes() -> None:
    """100 questions of 10 votes that all agree or all differ: SE = sqrt(p (1 - p) / 99), as if there were one vote a
    question.
    """
    seen = [pair for question in range(100) for pair in pairs(str(question), *((10, 0) if question % 4 else (0, 10)))]
    found = agreement(seen)
    assert found is not None
    assert found.interval.mean == 0.75
    assert found.interval.low is not None
    assert found.interval.high is not None
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(1.96 * math.sqrt(0.75 * 0.25 / 99), rel=0.06)


def test_questions_count_by_their_votes() -> None:
    found = agreement([*pairs("1", 3, 0), *pairs("2", 0, 1)])
    assert found is not None
    assert found.interval.mean == 0.75


def test_the_difference_redraws_both_sides_together() -> None:
    """Both sides rise and fall with the question, 0.1 apart on each: all draws give the same difference."""
    rates = np.random.default_rng(0).integers(0, 9, 40)
    high = [pair for question, rate in enumerate(rates) for pair in pairs(str(question), int(rate) + 1, 9 - int(rate))]
    low = [pair for question, rate in enumerate(rates) for pair in pairs(str(question), int(rate), 10 - int(rate))]
    difference = agreement_difference(high, low)
    assert difference is not None
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_same_seed_gives_the_same_interval_in_any_order_of_rows() -> None:
    seen = [pair for question in range(9) for pair in pairs(str(question), question, 4)]
    assert agreement(seen) == agreement(seen[::-1])
    assert agreement(seen) != agreement(seen, rng_seed=1)


def test_nothing_to_measure() -> None:
    assert agreement([]) is None
    assert agreement_difference([], pairs("1", 1, 1)) is None
    one = agreement(pairs("1", 1, 1))
    assert one is not None
    assert (one.interval.mean, one.interval.low, one.interval.how) == (0.5, None, "no interval: one question")
