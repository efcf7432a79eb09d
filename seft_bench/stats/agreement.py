"""Agreement of two raters on which answer is better: a judge and humans, and humans among themselves.

The convention follows MT-Bench (Zheng et al. 2023, arXiv 2306.05685): every pair of votes of two raters on the same
question, the same two models and the same turn counts once, whichever model was shown first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from seft_bench.stats.clusters import RESAMPLES, Floats, percentile_interval, question_draws, redrawn_ratios
from seft_bench.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class Vote:
    """One rater's preference between two models' answers.

    Attributes:
        models: the two models, sorted, so that the order shown does not matter.
        winner: one of `models`, or None for a tie.
    """

    rater: str
    question_id: str
    turn: int
    models: tuple[str, str]
    winner: str | None

    @property
    def comparison(self) -> tuple[str, int, tuple[str, str]]:
        """The comparison that was voted on; votes on one comparison can be paired."""
        return self.question_id, self.turn, self.models


@dataclass(frozen=True, slots=True)
class Pair:
    """Two raters' winners on one comparison; None is a tie."""

    question_id: str
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """`agreed` of `n` pairs of votes are equal; `interval` is their share's, over questions."""

    agreed: int
    n: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Cell:
    """A judge beside humans on one turn, with or without ties, and the humans among themselves.

    A figure is None where there are no pairs.
    """

    turn: int
    ties: bool
    judge: Agreement | None
    humans: Agreement | None
    difference: Interval | None


def compare(humans: Sequence[Vote], judge: Sequence[Vote]) -> list[Cell]:
    """Two cells, with and without ties, for each turn that the humans voted on."""
    return [
        cell
        for turn in sorted({vote.turn for vote in humans})
        for cell in _cells_of_turn([vote for vote in humans if vote.turn == turn], judge, turn)
    ]


def _cells_of_turn(humans: Sequence[Vote], judge: Sequence[Vote], turn: int) -> list[Cell]:
    judged, among = pairs_between(judge, humans), pairs_among(humans)
    return [_cell(turn, True, judged, among), _cell(turn, False, without_ties(judged), without_ties(among))]


def _cell(turn: int, ties: bool, judged: Sequence[Pair], among: Sequence[Pair]) -> Cell:
    return Cell(turn, ties, agreement(judged), agreement(among), agreement_difference(judged, among))


def last_votes(votes: Iterable[Vote]) -> list[Vote]:
    """One vote for each rater and comparison: the last one where a rater voted again."""
    return list({(vote.rater, vote.comparison): vote for vote in votes}.values())


def pairs_between(judge: Iterable[Vote], humans: Iterable[Vote]) -> list[Pair]:
    """Pair each human vote with each vote of the judge on the same comparison.

    Human votes that the judge has no verdict on are left out.
    """
    votes = _by_comparison(judge)
    return [
        Pair(vote.question_id, verdict.winner, vote.winner)
        for vote in last_votes(humans)
        for verdict in votes.get(vote.comparison, ())
    ]


def pairs_among(humans: Iterable[Vote]) -> list[Pair]:
    """Every two different raters' votes on the same comparison."""
    return [
        Pair(one.question_id, one.winner, other.winner)
        for votes in _by_comparison(humans).values()
        for one, other in combinations(votes, 2)
    ]


def without_ties(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs in which both raters prefer one of the models."""
    return [pair for pair in pairs if pair.first is not None and pair.second is not None]


def agreement(pairs: Sequence[Pair], *, rng_seed: int = 0, resamples: int = RESAMPLES) -> Agreement | None:
    """Share of equal votes with its 95 % interval over questions; None without pairs."""
    if not pairs:
        return None
    questions = _questions(pairs)
    agreed, n = _counts(pairs, questions)
    draws = redrawn_ratios(agreed, n, question_draws(len(questions), resamples, rng_seed))
    return Agreement(
        int(agreed.sum()), len(pairs), percentile_interval(float(agreed.sum() / n.sum()), draws, len(questions))
    )


def agreement_difference(
    pairs: Sequence[Pair], other: Sequence[Pair], *, rng_seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """Return the share of equal votes in `pairs` minus that in `other`, both on the same redrawn questions.

    None where one has no pairs.
    """
    if not pairs or not other:
        return None
    questions = _questions([*pairs, *other])
    weights = question_draws(len(questions), resamples, rng_seed)
    (agreed, n), (other_agreed, other_n) = _counts(pairs, questions), _counts(other, questions)
    mean = agreed.sum() / n.sum() - other_agreed.sum() / other_n.sum()
    draws = redrawn_ratios(agreed, n, weights) - redrawn_ratios(other_agreed, other_n, weights)
    return percentile_interval(float(mean), draws, len(questions))


def _by_comparison(votes: Iterable[Vote]) -> dict[tuple[str, int, tuple[str, str]], list[Vote]]:
    grouped: dict[tuple[str, int, tuple[str, str]], list[Vote]] = {}
    for vote in last_votes(votes):
        grouped.setdefault(vote.comparison, []).append(vote)
    return grouped


def _questions(pairs: Iterable[Pair]) -> list[str]:
    """Sorted, so that the order of the files does not change the draws."""
    return sorted({pair.question_id for pair in pairs})


def _counts(pairs: Iterable[Pair], questions: Sequence[str]) -> tuple[Floats, Floats]:
    """Equal pairs and all pairs of each question, both of shape (questions,)."""
    place = {question: index for index, question in enumerate(questions)}
    agreed, n = np.zeros(len(questions)), np.zeros(len(questions))
    for pair in pairs:
        agreed[place[pair.question_id]] += pair.first == pair.second
        n[place[pair.question_id]] += 1
    return agreed, n
