"""`seft-bench judges agreement --ask`: ask any judge for the comparisons that humans voted on, in both orders.

Only the protocol of `judges/base.py` is used, so every kind of judge can be measured. A judge is never told whose
answers it sees. Every verdict is in the file the moment that it arrives; run again, the command asks for what is
missing only.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from seft_bench.console import Progress
from seft_bench.errors import InputError
from seft_bench.files import append_rows, read_log
from seft_bench.judge_quality.agreement import Report, compare_with_humans, some
from seft_bench.judge_quality.votes import Ballot
from seft_bench.judges import Judge
from seft_bench.judges.verdicts import standing
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, from_row, to_row

if TYPE_CHECKING:
    from seft_bench.stats.agreement import Vote
    from seft_bench.stats.consistency import Consistency

ItemT = TypeVar("ItemT")
Verdicts = Mapping[tuple[str, str], Judgment]
"""(request key, hash of the judged texts) -> the judgment."""

ANONYMOUS = "compared"
"""`model_id` of these judgments: the two answers of a comparison have no other name here."""
ORDERS = (True, False)
_NEUTRAL = 1.5


@dataclass(frozen=True)
class Comparison:
    """Two models' answers to one question up to one turn; `models` are sorted, and the first one is the candidate."""

    question: Question
    turn: int
    models: tuple[str, str]
    texts: tuple[tuple[str, ...], tuple[str, ...]]

    def request(self, candidate_first: bool, repeat: int = 0) -> JudgeRequest:
        return JudgeRequest(
            "preference", self.question, self.turn, self.texts[0], self.texts[1], candidate_first, repeat
        )


@dataclass(frozen=True)
class Ask:
    """The size of the question: how many comparisons, how often, and what counts as a tie.

    Attributes:
        limit: ask for a sample of so many comparisons; None for all. A larger limit with the same seed contains the
            smaller.
        repeats: how often a sample is asked again.
        repeat_sample: so many comparisons of those asked.
        tie_band: a preference within 1.5 -/+ this is a tie; 0: only 1.5 itself.
    """

    limit: int | None = None
    seed: int = 0
    repeats: int = 0
    repeat_sample: int = 50
    tie_band: float = 0.0


def ask_and_measure(
    judge: Judge,
    humans: Sequence[Vote],
    questions: Sequence[Question],
    answers: Sequence[Answer],
    raters: str,
    out: Path,
    ask: Ask,
    progress: Progress,
) -> Report:
    """Ask for every verdict that is not in `out` yet, then compare with the humans.

    Args:
        judge: an open judge.
        humans: votes that count.
        questions: with references where the judge's templates show them.
        out: JSON Lines of judgments; rows of other judges may be in it.

    Raises:
        InputError: nothing can be compared, or the judge cannot be used; before anything is asked.
        ServiceUnavailableError: the judge is gone; what arrived is in `out`.
    """
    chosen, again = _chosen(humans, questions, answers, ask)
    requests = _requests(chosen, again, ask.repeats)
    collect(judge, requests, out, progress)
    verdicts = _good(judge.id, out, judge)
    ballots = [ballot_of(comparison, verdicts, ask.tie_band) for comparison in chosen]
    report = compare_with_humans(judge.id, raters, humans, ballots, answers)
    notes = tuple(_notes(judge, chosen, again, requests, verdicts, ask))
    return dataclasses.replace(report, consistency=_consistency(again, verdicts, ask), notes=notes)


def requests_of(
    humans: Sequence[Vote], questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
) -> list[JudgeRequest]:
    """Return everything that `ask_and_measure` would have judged, each once; nothing is sent.

    Raises:
        InputError: nothing can be compared.
    """
    requests = _requests(*_chosen(humans, questions, answers, ask), ask.repeats)
    return list({(request.key, request.answer_hash): request for request in requests}.values())


def _chosen(
    humans: Sequence[Vote], questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
) -> tuple[list[Comparison], list[Comparison]]:
    """Return the comparisons to ask for, and those of them to ask for again."""
    chosen = sample(find_comparisons(humans, questions, answers), ask.limit, ask.seed)
    # Two equal answers need no judge, so they show no noise.
    unlike = [comparison for comparison in chosen if comparison.texts[0] != comparison.texts[1]]
    return chosen, sample(unlike, ask.repeat_sample, ask.seed + 1) if ask.repeats else []


def find_comparisons(
    humans: Sequence[Vote], questions: Sequence[Question], answers: Sequence[Answer]
) -> list[Comparison]:
    """Return the comparisons that humans voted on, if question and answers are here, each once, in a fixed order.

    Raises:
        InputError: there is none.
    """
    by_id = {question.id: question for question in questions}
    texts = {(answer.model_id, answer.question_id): answer.turns for answer in answers}
    found = []
    for question_id, turn, models in sorted({vote.comparison for vote in humans}):
        pair = [texts.get((model, question_id), ()) for model in models]
        if question_id in by_id and all(len(one) >= turn for one in pair) and turn <= len(by_id[question_id].turns):
            found.append(Comparison(by_id[question_id], turn, models, (pair[0][:turn], pair[1][:turn])))
    if found:
        return found
    compared = some({model for vote in humans for model in vote.models})
    there = some({answer.model_id for answer in answers})
    raise InputError(
        f"no comparison that the humans voted on can be asked for: they compared {compared}; there are answers of "
        f"{there} to {len({answer.question_id for answer in answers} & set(by_id))} of {len(by_id)} questions. Name "
        "the compared models' answers with --answers"
    )


def sample(items: Sequence[ItemT], limit: int | None, seed: int) -> list[ItemT]:
    """Draw a random sample; that of a larger limit contains that of a smaller one."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:limit]


def missing(
    judge_id: str, requests: Iterable[JudgeRequest], out: Path, judge: Judge | None = None
) -> list[JudgeRequest]:
    """Return requests without a good verdict of this judge on these very texts; two that show the same texts are one.

    Args:
        judge: the judge itself where it was probed: then verdicts of other weights than it has now do not count.
    """
    done = _good(judge_id, out, judge)
    unique = {(request.key, request.answer_hash): request for request in requests}
    return [request for key, request in unique.items() if key not in done]


def collect(judge: Judge, requests: Sequence[JudgeRequest], out: Path, progress: Progress, kind: str = "pair") -> None:
    """Ask for what is missing; the judge is probed for this kind of request only when something is."""
    if not missing(judge.id, requests, out):
        return
    judge.check([kind])
    wanted = missing(judge.id, requests, out, judge)
    count = 0

    def save(judgment: Judgment) -> None:
        nonlocal count
        append_rows(out, [to_row(judgment)])
        count += 1
        progress(f"ask {judge.id}", count, len(wanted))

    judge.judge(wanted, ANONYMOUS, save)


def ballot_of(comparison: Comparison, verdicts: Verdicts, tie_band: float, repeat: int = 0) -> Ballot:
    """Merge both orders' verdicts by FastChat's rule: a winner must win in both, else it is a tie.

    Failed where one has no verdict.
    """
    from seft_bench.stats.agreement import Vote
    from seft_bench.stats.judge_bias import Game

    question_id, turn, models = comparison.question.id, comparison.turn, comparison.models
    requests = [comparison.request(order, repeat) for order in ORDERS]
    rows = [verdicts.get((request.key, request.answer_hash)) for request in requests]
    if any(row is None or row.preference is None for row in rows):
        return Ballot(Vote("", question_id, turn, models, None), failed=True)
    first, second = (_winner(row.preference, models, tie_band) for row in rows if row and row.preference is not None)
    game = Game(question_id, turn, models, (first, second))
    return Ballot(Vote("", question_id, turn, models, game.winner), failed=False, game=game)


def _winner(preference: float, models: tuple[str, str], tie_band: float) -> str | None:
    """Turn a preference in [1, 2] into a verdict; 2 means that the first of `models` wins."""
    if abs(preference - _NEUTRAL) <= tie_band:
        return None
    return models[0] if preference > _NEUTRAL else models[1]


def _requests(chosen: Sequence[Comparison], again: Sequence[Comparison], repeats: int) -> list[JudgeRequest]:
    once = [comparison.request(order) for comparison in chosen for order in ORDERS]
    return once + [
        comparison.request(order, repeat)
        for repeat in range(1, repeats + 1)
        for comparison in again
        for order in ORDERS
    ]


def _good(judge_id: str, out: Path, judge: Judge | None = None) -> dict[tuple[str, str], Judgment]:
    rows = [row for row in read_log(out) if row.get("judge_id") == judge_id and row.get("status") == "ok"]
    stand = standing(rows, judge)
    return {key: from_row(Judgment, row) for row in rows if (key := (row["key"], row["answer_hash"])) in stand}


def _consistency(again: Sequence[Comparison], verdicts: Verdicts, ask: Ask) -> dict[str, Consistency] | None:
    from seft_bench.stats.consistency import Repeated, consistency

    one, both = [], []
    for comparison in again:
        ballots = [ballot_of(comparison, verdicts, ask.tie_band, repeat) for repeat in range(ask.repeats + 1)]
        games = [ballot.game for ballot in ballots if ballot.game]
        codes = {None: 0.0, comparison.models[0]: 1.0, comparison.models[1]: -1.0}
        both.append(Repeated(comparison.question.id, tuple(codes[game.winner] for game in games)))
        one += [
            Repeated(comparison.question.id, tuple(codes[game.winners[order]] for game in games)) for order in (0, 1)
        ]
    found = {"one order": consistency(one, graded=False), "both orders": consistency(both, graded=False)}
    return {name: value for name, value in found.items() if value is not None} or None


def _notes(
    judge: Judge,
    chosen: Sequence[Comparison],
    again: Sequence[Comparison],
    requests: Sequence[JudgeRequest],
    verdicts: Verdicts,
    ask: Ask,
) -> Iterable[str]:
    wanted = {(request.key, request.answer_hash) for request in requests}
    repeated = f", {len(again)} of them {ask.repeats + 1} times" if again else ""
    yield f"{len(chosen)} comparisons in both orders{repeated}."
    yield (
        f"a preference within {ask.tie_band:g} of 1.5 is a tie; verdicts of the two orders that differ are a tie "
        "(FastChat's rule)."
    )
    if unsaid := len(wanted) - len(wanted & verdicts.keys()):
        yield f"{unsaid} of {len(wanted)} requests have no verdict; the same command asks for them again."
    yield from judge.notes
