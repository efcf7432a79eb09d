"""Biases of a judge, besides preferring the better answer: towards the one shown first, or the longer one.

Position bias follows Zheng et al. 2023 (arXiv 2306.05685): the same two answers in both orders. Length bias is measured
against the humans who saw the same two answers: liking long answers is no fault where people like them as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, expit

from seft_bench.stats.agreement import Vote, last_votes
from seft_bench.stats.clusters import Floats, clustered_mean, clustered_share
from seft_bench.stats.intervals import Interval, t_quantile

_STEPS = 50
_CONVERGED = 1e-10
_LARGEST_SLOPE = 30.0  # beyond it the likelihood has no maximum: length and votes separate the verdicts


@dataclass(frozen=True, slots=True)
class Game:
    """One comparison judged in both orders.

    Attributes:
        models: the two models, sorted.
        winners: the winner where models[0] is shown first, then where models[1] is; None for a tie.
    """

    question_id: str
    turn: int
    models: tuple[str, str]
    winners: tuple[str | None, str | None]

    @property
    def comparison(self) -> tuple[str, int, tuple[str, str]]:
        return self.question_id, self.turn, self.models

    @property
    def lean(self) -> float:
        """Wins of the answer shown first minus those of the second, over both orders: -1, -0.5, 0, 0.5 or 1."""
        return (_sign(self.winners[0], self.models) - _sign(self.winners[1], self.models)) / 2

    @property
    def winner(self) -> str | None:
        """FastChat's rule: the winner of both orders, else a tie."""
        return self.winners[0] if self.winners[0] == self.winners[1] else None


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Changes of the verdict when the two answers are swapped.

    `consistent`, `first` and `second` are shares of the comparisons and add up to 1.

    Attributes:
        consistent: both orders say the same.
        first, second: the verdict moves towards the answer shown first, or second.
        bias: mean of `Game.lean`: the win rate of the answer shown first minus that of the other.
        n_first, n_second: comparisons behind the two shares.
        p_value: exact two-sided sign test (McNemar's) of n_first against n_second, as if the comparisons were
            independent.
    """

    comparisons: int
    consistent: Interval
    first: Interval
    second: Interval
    bias: Interval
    n_first: int
    n_second: int
    p_value: float

    @property
    def biased(self) -> bool:
        """The interval of `bias`, which knows that comparisons of one question belong together, excludes zero."""
        return excludes_zero(self.bias)


@dataclass(frozen=True, slots=True)
class Longer:
    """Shares of the longer answer's wins, for a judge and for humans on the same comparisons, and their difference.

    The difference is paired.
    """

    comparisons: int
    judge: Interval
    humans: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class LengthBias:
    """A judge's liking for long answers beside that of humans.

    Attributes:
        all: every comparison, a tie as half a win.
        decided: where the judge has a winner and at least one human too, of humans' votes only those with a winner;
            None where there is none.
        slope: log-odds of the judge's verdict for an answer that is far longer (tanh of the length difference /
            `scale_characters`), the humans' vote share held fixed; None where it cannot be estimated.
        scale_characters: root mean square of the length differences.
    """

    all: Longer
    decided: Longer | None
    slope: Interval | None
    scale_characters: float

    @property
    def biased(self) -> bool:
        """True if the judge prefers the longer answer more, or less, often than humans: the interval excludes zero."""
        return excludes_zero(self.all.difference)


@dataclass(frozen=True, slots=True)
class Contest:
    """A judge's verdict and humans' votes on one comparison, seen from the model named first.

    Attributes:
        length_difference: characters of the first answer minus those of the second.
        judge: 1 where the judge prefers the first, 0.5 for a tie, else 0.
        votes: the same, one a human.
    """

    question_id: str
    length_difference: float
    judge: float
    votes: tuple[float, ...]


def excludes_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and (interval.low > 0 or interval.high < 0)


def position_bias(games: Sequence[Game]) -> PositionBias | None:
    """Position bias over comparisons judged in both orders; None without any."""
    if not games:
        return None
    questions, leans = [game.question_id for game in games], [game.lean for game in games]
    n_first, n_second = sum(lean > 0 for lean in leans), sum(lean < 0 for lean in leans)
    return PositionBias(
        comparisons=len(games),
        consistent=clustered_share(questions, [lean == 0 for lean in leans]),
        first=clustered_share(questions, [lean > 0 for lean in leans]),
        second=clustered_share(questions, [lean < 0 for lean in leans]),
        bias=clustered_mean(questions, leans),
        n_first=n_first,
        n_second=n_second,
        p_value=sign_test(n_first, n_second),
    )


def sign_test(one: int, other: int) -> float:
    """Exact two-sided p-value that both outcomes are equally likely.

    >>> sign_test(5, 0), sign_test(3, 3)
    (0.0625, 1.0)
    """
    return min(1.0, 2.0 * float(bdtr(min(one, other), one + other, 0.5)))


def contests(judge: Iterable[Vote], humans: Iterable[Vote], lengths: dict[tuple[str, str, int], int]) -> list[Contest]:
    """Comparisons with a verdict, a human vote, and two answers of known and different length.

    Args:
        lengths: (model, question id, turn) -> characters of the answer.
    """
    voted: dict[tuple[str, int, tuple[str, str]], list[float]] = {}
    for vote in last_votes(humans):
        voted.setdefault(vote.comparison, []).append(_share(vote))
    found = []
    for verdict in last_votes(judge):
        first, second = (lengths.get((model, verdict.question_id, verdict.turn)) for model in verdict.models)
        votes = voted.get(verdict.comparison)
        if votes and first is not None and second is not None and first != second:
            found.append(Contest(verdict.question_id, float(first - second), _share(verdict), tuple(votes)))
    return found


def length_bias(seen: Sequence[Contest]) -> LengthBias | None:
    """Length bias over comparisons of answers of different length; None without any."""
    if not seen:
        return None
    scale = float(np.sqrt(np.mean([contest.length_difference**2 for contest in seen])))
    decided = [decision for contest in seen if (decision := _decided(contest)) is not None]
    return LengthBias(_longer(seen), _longer(decided) if decided else None, length_slope(seen, scale), scale)


def length_slope(seen: Sequence[Contest], scale_characters: float) -> Interval | None:
    """Fit b of logit P(judge prefers the first) = b tanh(d / scale) + c (2 h - 1).

    h is the humans' share for the first.

    No intercept: which of the two is named first is arbitrary, and naming them the other way round changes the sign of
    both sides. The interval is Student's t on a standard error clustered by question (sandwich with G / (G - 1)). None
    where no maximum exists.
    """
    design = np.array(
        [[np.tanh(c.length_difference / scale_characters), 2 * float(np.mean(c.votes)) - 1] for c in seen]
    )
    verdicts = np.array([contest.judge for contest in seen])
    coefficients = _logistic(design, verdicts)
    positions = np.unique([contest.question_id for contest in seen], return_inverse=True)[1]
    clusters = int(positions.max()) + 1
    if coefficients is None or clusters < 2:
        return None
    fitted = expit(design @ coefficients)
    inverse = np.linalg.inv(_information(design, fitted))
    scores = np.zeros((clusters, design.shape[1]))
    np.add.at(scores, positions, (verdicts - fitted)[:, None] * design)
    error = float(np.sqrt((inverse @ (scores.T @ scores) @ inverse)[0, 0] * clusters / (clusters - 1)))
    slope, margin = float(coefficients[0]), t_quantile(clusters - 1) * error
    return Interval(
        slope, slope - margin, slope + margin, f"95 % t interval, standard error clustered by {clusters} questions"
    )


def _logistic(design: Floats, outcome: Floats) -> Floats | None:
    """Maximum likelihood by Newton's method for outcomes in [0, 1]; None where it does not converge."""
    coefficients: Floats = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        fitted = expit(design @ coefficients)
        try:
            step = np.linalg.solve(_information(design, fitted), design.T @ (outcome - fitted))
        except np.linalg.LinAlgError:
            return None
        coefficients = coefficients + step
        if np.abs(coefficients).max() > _LARGEST_SLOPE:
            return None
        if np.abs(step).max() < _CONVERGED:
            return coefficients
    return None


def _information(design: Floats, fitted: Floats) -> Floats:
    information: Floats = (design * (fitted * (1 - fitted))[:, None]).T @ design
    return information


def _longer(seen: Sequence[Contest]) -> Longer:
    questions = [contest.question_id for contest in seen]
    judge = np.array([_towards_longer(contest.judge, contest) for contest in seen])
    humans = np.array([_towards_longer(float(np.mean(contest.votes)), contest) for contest in seen])
    return Longer(
        len(seen),
        clustered_mean(questions, judge),
        clustered_mean(questions, humans),
        clustered_mean(questions, judge - humans),
    )


def _towards_longer(share: float, contest: Contest) -> float:
    return share if contest.length_difference > 0 else 1 - share


def _decided(contest: Contest) -> Contest | None:
    votes = tuple(vote for vote in contest.votes if vote != 0.5)
    return (
        Contest(contest.question_id, contest.length_difference, contest.judge, votes)
        if votes and contest.judge != 0.5
        else None
    )


def _sign(winner: str | None, models: tuple[str, str]) -> int:
    return 0 if winner is None else 1 if winner == models[0] else -1


def _share(vote: Vote) -> float:
    return (1 + _sign(vote.winner, vote.models)) / 2
