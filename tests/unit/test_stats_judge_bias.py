"""Biases of judges: counted by hand, and found (or not) in simulated verdicts of known bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from seft_bench.stats.agreement import Vote
from seft_bench.stats.intervals import Interval
from seft_bench.stats.judge_bias import Contest, Game, contests, length_bias, length_slope, position_bias, sign_test

MODELS = ("a", "b")
REPEATS = 250


def game(first_order: str | None, second_order: str | None, question: str = "1") -> Game:
    return Game(question, 1, MODELS, (first_order, second_order))


def covers(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= truth <= interval.high


# Position


def test_the_nine_outcomes_of_two_orders() -> None:
    """models[0] is shown first in the first order, models[1] in the second."""
    leans = {(one, other): game(one, other).lean for one in ("a", "b", None) for other in ("a", "b", None)}
    assert leans == {
        ("a", "a"): 0, ("b", "b"): 0, (None, None): 0,
        ("a", "b"): 1, ("b", "a"): -1,
        ("a", None): 0.5, (None, "b"): 0.5, ("b", None): -0.5, (None, "a"): -0.5,
    }  # fmt: skip
    assert [game(*winners).winner for winners in (("a", "a"), ("a", "b"), ("a", None), (None, None))] == [
        "a",
        None,
        None,
        None,
    ]


def test_shares_and_bias_by_hand() -> None:
    """Of ten comparisons five agree, three lean to the first (one by half), two to the second: (1 + 1 + 0.5 - 1 - 1) /
    10.
    """
    seen = [game("a", "a", str(n)) for n in range(5)] + [
        game("a", "b", "5"),
        game("a", "b", "6"),
        game("a", None, "7"),
        game("b", "a", "8"),
        game("b", "a", "9"),
    ]
    found = position_bias(seen)
    assert found is not None
    assert (found.consistent.mean, found.first.mean, found.second.mean, found.bias.mean) == (
        0.5,
        0.3,
        0.2,
        pytest.approx(0.05),
    )
    assert (found.n_first, found.n_second, found.p_value, found.biased) == (3, 2, 1.0, False)


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (10, 0, 2 / 1024), (9, 1, 22 / 1024), (1, 9, 22 / 1024), (7, 7, 1.0)],
)
def test_sign_test(one: int, other: int, p: float) -> None:
    assert sign_test(one, other) == pytest.approx(p)


def test_a_judge_that_always_takes_the_first() -> None:
    found = position_bias([game("a", "b", str(question)) for question in range(20)])
    assert found is not None
    assert (found.bias.mean, found.first.mean, found.biased) == (1.0, 1.0, True)
    assert found.consistent.high == pytest.approx(1 - 0.025 ** (1 / 20))  # 0 of 20: exact bound, no false certainty


def test_a_judge_that_never_changes_its_mind_is_not_biased() -> None:
    found = position_bias([game("a", "a", str(question)) for question in range(20)])
    assert found is not None
    assert (found.bias.mean, found.p_value, found.biased) == (0.0, 1.0, False)
    assert found.consistent.low == pytest.approx(0.025 ** (1 / 20))


def _games(bias: float, rng: np.random.Generator, questions: int = 60, each: int = 5) -> list[Game]:
    """Verdicts with log-odds of quality (shared within a question in part) plus `bias` for the answer shown first."""
    found = []
    for question in range(questions):
        shared = rng.normal(0, 1)
        for _ in range(each):
            quality = shared + rng.normal(0, 1)
            first, second = rng.random() < expit(quality + bias), rng.random() < expit(quality - bias)
            found.append(game("a" if first else "b", "a" if second else "b", str(question)))
    return found


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_intervals_of_the_position_bias_cover_95_per_cent(bias: float) -> None:
    rng = np.random.default_rng(0)
    many = [game.lean for game in _games(bias, rng, questions=20_000, each=4)]
    found = [position_bias(_games(bias, rng)) for _ in range(REPEATS)]
    assert 0.91 <= np.mean([covers(one and one.bias, float(np.mean(many))) for one in found]) <= 0.98
    assert 0.91 <= np.mean([covers(one and one.consistent, many.count(0.0) / len(many)) for one in found]) <= 0.98
    called_biased = np.mean([one is not None and one.biased for one in found])
    assert called_biased <= 0.08 if bias == 0 else called_biased >= 0.8


# Length


def vote(rater: str, winner: str | None, question: str = "1") -> Vote:
    return Vote(rater, question, 1, MODELS, winner)


def test_contests_need_a_verdict_a_vote_and_two_lengths() -> None:
    lengths = {("a", "1", 1): 100, ("b", "1", 1): 40, ("a", "2", 1): 10, ("b", "2", 1): 10, ("a", "3", 1): 5}
    humans = [vote("x", "a"), vote("y", None), vote("x", "b", "2"), vote("x", "a", "3"), vote("x", "a", "4")]
    judge = [vote("judge", "b", question) for question in ("1", "2", "3", "5")]
    assert contests(judge, humans, lengths) == [Contest("1", 60.0, 0.0, (1.0, 0.5))]


def test_shares_of_the_longer_by_hand() -> None:
    """The judge takes the longer twice, ties once and takes the shorter once; the humans: 1, 0.5, 1, 0."""
    seen = [
        Contest("1", 10, 1.0, (1.0,)),
        Contest("2", -10, 0.0, (1.0, 0.0)),
        Contest("3", 10, 0.5, (1.0,)),
        Contest("4", -10, 1.0, (1.0, 0.5, 1.0)),
    ]
    found = length_bias(seen)
    assert found is not None
    assert (found.all.comparisons, found.all.judge.mean) == (4, 0.625)
    assert found.all.humans.mean == pytest.approx((1 + 0.5 + 1 + 1 / 6) / 4)
    assert found.all.difference.mean == pytest.approx(found.all.judge.mean - found.all.humans.mean)
    assert found.decided is not None
    assert (found.decided.comparisons, found.decided.judge.mean, found.decided.humans.mean) == (
        3,
        pytest.approx(2 / 3),
        0.5,
    )
    assert found.scale_characters == 10


def test_which_model_is_named_first_changes_nothing() -> None:
    seen = _contests(0.8, np.random.default_rng(3))
    turned = [
        Contest(c.question_id, -c.length_difference, 1 - c.judge, tuple(1 - one for one in c.votes)) if n % 3 else c
        for n, c in enumerate(seen)
    ]
    one, other = length_bias(seen), length_bias(turned)
    assert one is not None
    assert other is not None
    assert one.slope is not None
    assert other.slope is not None
    assert (one.slope.mean, one.slope.low) == pytest.approx((other.slope.mean, other.slope.low))
    assert one.all.difference.mean == pytest.approx(other.all.difference.mean)


def test_the_slope_is_the_log_odds_of_the_counts() -> None:
    """All differences the same and humans always tied: expit(b tanh 1) is the share of the longer, so b = log(3) / tanh
    1 at 75 %.
    """
    seen = [Contest(str(n), 7.0 if n % 2 else -7.0, float((n % 4 != 0) == bool(n % 2)), (0.5,)) for n in range(400)]
    longer = np.mean([c.judge if c.length_difference > 0 else 1 - c.judge for c in seen])
    assert longer == 0.75
    varied = [replace(c, votes=(1.0,) if n % 8 < 4 else (0.0,)) for n, c in enumerate(seen)]
    slope = length_slope(varied, 7.0)
    assert slope is not None
    assert slope.mean == pytest.approx(np.log(3) / np.tanh(1), rel=0.01)


def test_no_slope_without_a_maximum() -> None:
    """The judge takes the longer always, or the humans always tie: no coefficient, never a huge one."""
    assert length_slope([Contest(str(n), 7.0, 1.0, (float(n % 2),)) for n in range(20)], 7.0) is None
    assert length_slope([Contest(str(n), 7.0, float(n % 2), (0.5,)) for n in range(20)], 7.0) is None


def _contests(slope: float, rng: np.random.Generator, questions: int = 60, each: int = 5) -> list[Contest]:
    """Judge and humans see one quality; the judge adds `slope` x tanh(length difference / 300)."""
    found = []
    for question in range(questions):
        for _ in range(each):
            difference = float(np.round(rng.normal(0, 300))) or 1.0
            votes = tuple((rng.random(2) < 0.5 + 0.2 * np.tanh(difference / 300)).astype(float))
            odds = slope * np.tanh(difference / 300) + 1.2 * (2 * float(np.mean(votes)) - 1)
            found.append(Contest(str(question), difference, float(rng.random() < expit(odds)), votes))
    return found


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_intervals_of_the_length_slope_cover_95_per_cent(slope: float) -> None:
    rng = np.random.default_rng(1)
    found = [length_slope(_contests(slope, rng), 300.0) for _ in range(REPEATS)]
    assert 0.91 <= np.mean([covers(one, slope) for one in found]) <= 0.98


def test_a_judge_with_the_humans_own_liking_for_length_is_not_called_biased_and_one_with_more_is() -> None:
    """Verdict and votes drawn alike, with a liking for length: the paired difference is 0 in truth."""
    rng = np.random.default_rng(2)

    def like_humans(extra: float) -> list[Contest]:
        found = []
        for question in range(60):
            for difference in np.round(rng.normal(0, 300, 6)) + 0.5:
                p = 0.5 + 0.25 * np.tanh(difference / 300)
                judged = p + extra * np.sign(difference)
                found.append(
                    Contest(
                        str(question),
                        float(difference),
                        float(rng.random() < judged),
                        tuple((rng.random(2) < p).astype(float)),
                    )
                )
        return found

    fair = [length_bias(like_humans(0.0)) for _ in range(REPEATS)]
    assert np.mean([one is not None and one.biased for one in fair]) <= 0.08
    assert 0.91 <= np.mean([covers(one and one.all.difference, 0.0) for one in fair]) <= 0.98
    assert (
        np.mean([one is not None and one.biased for one in (length_bias(like_humans(0.15)) for _ in range(50))]) >= 0.9
    )


def test_nothing_to_measure() -> None:
    assert (position_bias([]), length_bias([])) == (None, None)
    one = position_bias([game("a", "b")])
    assert one is not None
    assert (one.bias.low, one.biased) == (None, False)
