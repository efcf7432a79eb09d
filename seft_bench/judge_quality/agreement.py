"""`seft-bench judges agreement`: a judge's verdicts against human votes, and what it prefers besides the better answer.

The verdicts come from a file (`measure_agreement`), or from asking a judge (`asking.ask_and_measure`). Words and
tables: `judge_quality/shown.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.errors import InputError, unknown_name
from seft_bench.formats.reading import read_answers
from seft_bench.judge_quality.votes import Ballot, answers_in_votes, read_votes
from seft_bench.records import MINIMUM_COVERAGE, Answer

if TYPE_CHECKING:
    from seft_bench.stats.agreement import Cell, Vote
    from seft_bench.stats.consistency import Consistency
    from seft_bench.stats.judge_bias import LengthBias, PositionBias


@dataclass(frozen=True)
class Report:
    """The agreement and biases that the command shows.

    Attributes:
        human_votes: votes of the chosen raters on the chosen turns.
        not_asked: those of them whose comparison the judge was not asked for.
        failed: those whose comparison the judge was asked for without a verdict.
        coverage: share with a verdict among the votes that the judge was asked for.
        position: None where the verdicts of the two orders are not known.
        length: None without the answers.
        consistency: of verdicts asked again, in each order ("one order") and after merging ("both orders"); empty where
            none was.
        notes: what else a reader must know, one sentence each.
    """

    judge: str
    raters: str
    human_votes: int
    not_asked: int
    failed: int
    coverage: float
    withheld: bool
    cells: tuple[Cell, ...]
    position: PositionBias | None = None
    length: LengthBias | None = None
    consistency: dict[str, Consistency] | None = None
    notes: tuple[str, ...] = ()


def measure_agreement(
    votes: Path,
    judge_votes: Path,
    *,
    judge: str | None = None,
    raters: str = "expert",
    turn: int | None = None,
    answers: Sequence[Path] = (),
) -> Report:
    """Measure a judge's recorded verdicts against humans, and the humans among themselves.

    Args:
        judge: the judge's name, needed where `judge_votes` holds several.
        raters: the humans whose names begin so; "" takes all.
        turn: only this turn; None: each turn that the humans voted on.
        answers: files of the answers that were compared, for the length bias; default: those in the rows of `votes`, if
            any.

    Raises:
        InputError: a missing file, a broken row, or nothing in common.
    """
    humans = human_votes(votes, raters, turn)
    name, ballots = _of_judge(read_votes(judge_votes, "the judge's votes"), judge, judge_votes)
    asked = {ballot.vote.comparison for ballot in ballots}
    if not any(vote.comparison in asked for vote in humans):
        raise _nothing_in_common(humans, ballots, votes, judge_votes)
    return compare_with_humans(name, raters, humans, ballots, compared_answers(votes, answers))


def human_votes(path: Path, raters: str, turn: int | None) -> list[Vote]:
    """Return the chosen raters' votes on the chosen turns.

    A rater's last vote on a comparison counts; a failed row is no vote.
    """
    return _of_turn(_of_raters(read_votes(path, "human votes"), raters, path), turn, path)


def compared_answers(votes: Path, files: Sequence[Path]) -> list[Answer]:
    """Return the answers that humans compared: from the files, or else from the rows of votes."""
    return [answer for path in files for answer in read_answers(path)] or answers_in_votes(votes)


def compare_with_humans(
    name: str, raters: str, humans: Sequence[Vote], ballots: Sequence[Ballot], answers: Iterable[Answer]
) -> Report:
    """Measure agreement and biases of one judge's verdicts.

    Args:
        ballots: one for each comparison that the judge was asked for; with a failed one and a verdict on a comparison,
            the verdict counts.
    """
    from seft_bench.stats import agreement, judge_bias

    asked = {ballot.vote.comparison for ballot in ballots}
    verdicts = {ballot.vote.comparison: ballot.vote for ballot in ballots if not ballot.failed}
    games = {ballot.game.comparison: ballot.game for ballot in ballots if ballot.game}
    wanted = [vote for vote in humans if vote.comparison in asked]
    failed = sum(vote.comparison not in verdicts for vote in wanted)
    coverage = 1 - failed / len(wanted) if wanted else 0.0
    turns = {vote.turn for vote in humans}
    contests = judge_bias.contests(verdicts.values(), humans, _lengths(answers))
    return Report(
        judge=name,
        raters=raters,
        human_votes=len(humans),
        not_asked=len(humans) - len(wanted),
        failed=failed,
        coverage=coverage,
        withheld=coverage < MINIMUM_COVERAGE,
        cells=tuple(agreement.compare(humans, list(verdicts.values()))),
        position=judge_bias.position_bias([game for game in games.values() if game.turn in turns]),
        length=judge_bias.length_bias(contests),
    )


def _lengths(answers: Iterable[Answer]) -> dict[tuple[str, str, int], int]:
    """Map (model, question id, turn) -> characters of that answer."""
    return {
        (answer.model_id, answer.question_id, turn): len(text)
        for answer in answers
        for turn, text in enumerate(answer.turns, start=1)
    }


# Which votes count


def _of_raters(ballots: Sequence[Ballot], raters: str, path: Path) -> list[Vote]:
    from seft_bench.stats.agreement import last_votes

    votes = [ballot.vote for ballot in ballots if not ballot.failed]
    chosen = last_votes(vote for vote in votes if vote.rater.startswith(raters))
    if not chosen:
        known = some({vote.rater for vote in votes})
        raise InputError(
            f"{path} has no vote of a rater whose name begins with {raters!r}; it has votes of {known}. Choose with "
            "--raters ('' takes all)"
        )
    return chosen


def _of_turn(votes: list[Vote], turn: int | None, path: Path) -> list[Vote]:
    chosen = [vote for vote in votes if turn in (None, vote.turn)]
    if not chosen:
        known = ", ".join(str(number) for number in sorted({vote.turn for vote in votes}))
        raise InputError(f"{path} has no votes of these raters on turn {turn}; it has turns {known} (--turn)")
    return chosen


def _of_judge(ballots: Sequence[Ballot], judge: str | None, path: Path) -> tuple[str, list[Ballot]]:
    names = sorted({ballot.vote.rater for ballot in ballots})
    if judge is None and len(names) > 1:
        raise InputError(f"{path} has votes of {len(names)} judges: {some(names)}; name one with --judge")
    name = names[0] if judge is None else judge
    if name not in names:
        raise unknown_name("judge", name, names, f"Looked in {path}.")
    return name, [ballot for ballot in ballots if ballot.vote.rater == name]


def _nothing_in_common(humans: Sequence[Vote], ballots: Sequence[Ballot], votes: Path, judge_votes: Path) -> InputError:
    humans_models = {model for vote in humans for model in vote.models}
    judges_models = {model for ballot in ballots for model in ballot.vote.models}
    return InputError(
        f"{judge_votes} judges nothing that the {len(humans)} human votes of {votes} are about (same question, two "
        f"models and turn). The humans compared {some(humans_models)}; the judge {some(judges_models)}. Ask it for "
        "these pairs (--ask), or name other votes with --votes"
    )


def some(names: Iterable[str], limit: int = 8) -> str:
    """List the first names of many, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more or "nobody"
