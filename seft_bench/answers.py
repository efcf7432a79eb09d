"""What became of a model's answer, turn by turn: its status, and its reasoning apart. Pure.

A status that is final is judged, an empty text too, as the official tools do; everything else is no answer: it is never
judged, and asked for again. FastChat's `$ERROR$` is none either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from seft_bench import reasoning
from seft_bench.records import ANSWERED, UNANSWERED, Answer, AnswerStatus, Row, from_row

ERROR_MARK = "$ERROR$"
"""What FastChat writes in place of an answer when a call failed (fastchat/llm_judge/common.py, API_ERROR_OUTPUT)."""

_BY_FINISH_REASON: Mapping[str, AnswerStatus] = {
    "over_length": "over_length",
    "api_error": "api_error",
    "error": "api_error",
    "partial": "partial",
    "refused": "refused",
    "content_filter": "refused",
}


_AS_FINISH_REASON = {status: status for status in (*UNANSWERED, "refused")} | {"cut": "length"}
"""Status -> the finish reason that it comes from, where a text alone would not say it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn's answer, its reasoning apart, and what became of it."""

    text: str
    reasoning: str
    status: AnswerStatus


def turn_of(text: str, finish_reason: str, *, keep: bool = False, opened: bool = False, apart: str = "") -> Turn:
    """Return the turn that a model's reply is.

    Args:
        finish_reason: "stop", "length", "" where it is unknown, or the status of a reply that is none.
        keep: reasoning in the text stays in it.
        opened: see `reasoning.split`.
        apart: reasoning that a server sent beside the text.
    """
    said = reasoning.Said("", text) if keep else reasoning.split(text, opened)
    status = "cut" if not said.ended else status_of(said.answer, finish_reason)
    return Turn(said.answer, apart + said.reasoning, status)


def status_of(text: str, finish_reason: str = "") -> AnswerStatus:
    """Return the status of one turn's text."""
    if known := _BY_FINISH_REASON.get(finish_reason):
        return known
    if finish_reason == "length":
        return "cut"
    if not finish_reason and text.strip() == ERROR_MARK:
        return "api_error"
    return "ok" if text.strip() else "empty"


def statuses_of(answer: Answer) -> tuple[AnswerStatus, ...]:
    """Return a status a turn, also of a row that was written before there were any.

    A turn behind one that has no answer has none either: what the model was asked there held no answer of its own.
    """
    reasons = (*answer.finish_reasons, *[""] * len(answer.turns))
    found = answer.statuses or tuple(status_of(*turn) for turn in zip(answer.turns, reasons, strict=False))
    failed = next((place for place, status in enumerate(found) if status in UNANSWERED), len(found))
    behind = (found[failed],) * (len(found) - failed) if failed < len(found) else ()
    return cast("tuple[AnswerStatus, ...]", (*found[:failed], *behind))


def answered_turns(answer: Answer) -> int:
    """Count the turns, from the first one on, that are answers."""
    statuses = statuses_of(answer)
    return next((place for place, status in enumerate(statuses) if status not in ANSWERED), len(statuses))


def is_whole(answer: Answer) -> bool:
    """Return whether no turn failed, so that there is nothing to be asked again."""
    return bool(answer.turns) and answered_turns(answer) >= len(answer.turns)


def answered_only(answers: Mapping[str, Answer]) -> dict[str, Answer]:
    """Return the answers that are some, by the same keys, each up to its last turn that is one: what is judged."""
    found = {}
    for key, answer in answers.items():
        count = answered_turns(answer)
        if count >= len(answer.turns):
            found[key] = answer
        elif count:
            found[key] = dataclasses.replace(answer, turns=answer.turns[:count])
    return found


def without_reasoning(answer: Answer, keep: bool = False) -> Answer:
    """Return an answer that somebody else drew, its reasoning apart, and with a status a turn."""
    blank = [""] * len(answer.turns)
    reasons = [_AS_FINISH_REASON.get(status, "") for status in answer.statuses] or [*answer.finish_reasons, *blank]
    parts = zip(answer.turns, reasons, [*answer.reasoning, *blank], strict=False)
    return with_turns(answer, [turn_of(text, reason, keep=keep, apart=apart) for text, reason, apart in parts])


def with_turns(answer: Answer, turns: Sequence[Turn]) -> Answer:
    """Return the answer with these turns."""
    apart = tuple(turn.reasoning for turn in turns)
    return dataclasses.replace(
        answer,
        turns=tuple(turn.text for turn in turns),
        statuses=tuple(turn.status for turn in turns),
        reasoning=apart if any(apart) else (),
    )


def answer_of_row(row: Row, keep: bool = False) -> Answer:
    """Return the answer of a row of ours; one of an earlier version gets its statuses, and its reasoning apart.

    Args:
        keep: reasoning in its texts stays there.
    """
    answer = from_row(Answer, row)
    return answer if answer.statuses else without_reasoning(answer, keep)
