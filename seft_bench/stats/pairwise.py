"""Two verdicts on one comparison, the answers shown in both orders, merged by MT-Bench's rule.

The rule is `display_result_pairwise` of FastChat's `llm_judge/show_result.py` (fschat 0.2.36): a winner must win in
both orders, everything else is a tie, a comparison with an error in either order is left out, and a tie is half a win
(its `win_rate_adjusted`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seft_bench.stats.mtbench import Grade, clustered_mean

WIN, TIE, LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One turn of one question, judged in both orders.

    Attributes:
        shown_first, shown_second: the model's outcome (WIN, TIE or LOSS) where its answer stood first, and where it
            stood second.
    """

    question_id: str
    category: str
    turn: int
    shown_first: float
    shown_second: float

    @property
    def outcome(self) -> float:
        """The outcome that counts: WIN or LOSS only where both orders say so."""
        return self.shown_first if self.shown_first == self.shown_second else TIE

    @property
    def is_inconsistent(self) -> bool:
        """The orders' verdicts differ, be it between a winner and a tie."""
        return self.shown_first != self.shown_second


def outcome_of(preference: float) -> float:
    """A preference in [1, 2] as WIN, TIE or LOSS: judges with graded preferences win by their side of 1.5.

    >>> outcome_of(2.0), outcome_of(1.5), outcome_of(1.2)
    (1.0, 0.5, 0.0)
    """
    return TIE if preference == 1.5 else WIN if preference > 1.5 else LOSS


def outcomes_in_percent(comparisons: Sequence[Comparison]) -> list[Grade]:
    """Rows whose mean is the win rate in percent."""
    return [Grade(item.question_id, item.category, item.turn, 100.0 * item.outcome) for item in comparisons]


def counts(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """Wins, losses and ties as FastChat counts them; `inconsistent` are those of the ties whose orders differ."""
    outcomes = [item.outcome for item in comparisons]
    return {
        "wins": outcomes.count(WIN),
        "losses": outcomes.count(LOSS),
        "ties": outcomes.count(TIE),
        "inconsistent": sum(item.is_inconsistent for item in comparisons),
    }


def position_bias(comparisons: Sequence[Comparison]) -> dict[str, float | None]:
    """Return how much the order alone decides, in percent with 95 % intervals clustered by question.

    `inconsistent_rate`: comparisons whose orders disagree. `first_shown_win_rate`: verdicts for the answer shown first,
    of all verdicts with a winner (50 without bias; None where there is no winner).
    """
    disagree = [Grade(item.question_id, "", item.turn, 100.0 * item.is_inconsistent) for item in comparisons]
    for_first = [
        (item, outcome)
        for item in comparisons
        for outcome in (item.shown_first, 1.0 - item.shown_second)
        if outcome != TIE
    ]
    decided = [Grade(item.question_id, "", item.turn, 100.0 * outcome) for item, outcome in for_first]
    return _with_ends("inconsistent_rate", disagree) | _with_ends("first_shown_win_rate", decided)


def _with_ends(name: str, rows: Sequence[Grade]) -> dict[str, float | None]:
    if not rows:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    interval, _ = clustered_mean(rows)
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
