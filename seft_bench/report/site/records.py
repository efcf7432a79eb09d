"""Answers and judgments of an entry, and the questions of a suite, as the page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seft_bench.answers import answer_of_row, statuses_of
from seft_bench.errors import SeftBenchError
from seft_bench.files import read_log_as
from seft_bench.records import STATUSES, Answer, Judgment, Question, from_row
from seft_bench.report.site.encode import clip, rounded
from seft_bench.report.site.model import Entry
from seft_bench.results import slug

ANSWER_CHARACTERS, RAW_CHARACTERS, PREVIEW_CHARACTERS = 40_000, 20_000, 300
NOT_SCORED = "missing"
STATUS_NAMES = (*STATUSES, NOT_SCORED)
STATUS_LETTERS = dict(zip(STATUS_NAMES, "oparlm", strict=True))
"""Status -> the one letter that stands for it in the files of figures."""

Judgments = dict[str, list[Judgment]]


def questions_of(entries: Sequence[Entry]) -> list[Question]:
    """Return the suite's questions in its order, then those that only the entries know.

    Without the official data, what the answers' messages say.
    """
    suite = entries[0].result.suite
    known = {question.id: question for question in _suite_questions(suite)}
    named = sorted(
        {question for entry in entries for question in entry.result.per_question} - set(known), key=_by_number
    )
    if not known:
        asked = _asked(entries)
        known = {name: asked[name] for name in sorted(asked, key=_by_number)}
    return [*known.values(), *(Question(suite, name, "", ()) for name in named if name not in known)]


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isascii() and name.isdigit() else 0, name)


def _suite_questions(name: str) -> list[Question]:
    from seft_bench.suites import load_suite

    try:
        return load_suite(name).questions()
    except SeftBenchError:
        return []


def _asked(entries: Sequence[Entry]) -> dict[str, Question]:
    """Question id -> the user's turns, from the messages that were sent."""
    found: dict[str, Question] = {}
    for entry in entries:
        for name, answer in answers_of(entry).items():
            turns = tuple(
                str(message.get("content", "")) for message in answer.messages if message.get("role") == "user"
            )
            if len(turns) > len(found.get(name, Question("", "", "", ())).turns) or name not in found:
                found[name] = Question(entry.result.suite, name, "", turns)
    return found


def answers_of(entry: Entry) -> dict[str, Answer]:
    """Question id -> answer; of a question answered twice the last row counts, as in the pipeline."""
    if entry.folder is None:
        return {}
    made = partial(answer_of_row, keep=True)
    found = [one for name in ("unanswered.jsonl", "answers.jsonl") for one in read_log_as(entry.folder / name, made)]
    return {answer.question_id: answer for answer in found}


def judgments_of(entry: Entry) -> Judgments:
    """Return question id -> the judgments of the entry's judge.

    Of each key the last good one of the text judged last, else the last.
    """
    rows = [row for path in _judgment_files(entry) for row in read_log_as(path, partial(from_row, Judgment))]
    judges = set(entry.result.judge_id.split(" + "))
    chosen: dict[str, Judgment] = {}
    for row in rows:
        if len(judges) > 1 and row.judge_id not in judges:
            continue
        before = chosen.get(row.key)
        if before is None or row.status == "ok" or before.status != "ok" or before.answer_hash != row.answer_hash:
            chosen[row.key] = row
    found: Judgments = {}
    for row in chosen.values():
        found.setdefault(row.question_id, []).append(row)
    return found


def _judgment_files(entry: Entry) -> list[Path]:
    """The judge's own file; where several judges are mixed, every file."""
    if entry.folder is None:
        return []
    own = entry.folder / f"judgments-{slug(entry.result.judge_id)}.jsonl"
    return (
        [own]
        if own.exists()
        else sorted(entry.folder.glob("judgments-*.jsonl"))
        if " + " in entry.result.judge_id
        else []
    )


def status_of(name: str, entry: Entry, judgments: Judgments) -> str:
    """The worst status of a question's judgments.

    A figure without judgments at hand is ok, neither of them is "missing".
    """
    statuses = {judgment.status for judgment in judgments.get(name, [])}
    failed = [status for status in STATUSES if status in statuses and status != "ok"]
    return failed[0] if failed else "ok" if name in entry.result.per_question or statuses else NOT_SCORED


def text_row(index: int, answer: Answer | None, judgments: Iterable[Judgment], shorter: int = 1) -> list[Any]:
    """Return [question number, answer's turns, finish reasons, verdicts].

    Texts are cut at their limits, divided by `shorter`.
    """
    turns = [clip(turn, ANSWER_CHARACTERS // shorter) for turn in answer.turns] if answer else None
    rows = sorted(judgments, key=lambda row: (row.turn, row.key))
    return [
        index,
        turns,
        _reasons(answer) if answer else [],
        [_verdict(row, RAW_CHARACTERS // shorter) for row in rows],
    ]


def _reasons(answer: Answer) -> list[str]:
    """How each turn ended: its status where it is no plain text, else the finish reason."""
    ends = list(zip(statuses_of(answer), [*answer.finish_reasons, *[""] * len(answer.turns)], strict=False))
    if all(status == "ok" or (status == "cut" and reason) for status, reason in ends):
        return list(answer.finish_reasons)
    return [reason if status == "ok" else status for status, reason in ends]


def _verdict(row: Judgment, limit: int) -> list[Any]:
    """In the order that the page's `verdict` reads."""
    details = [[str(key), clip(_plain(value), 500)] for key, value in list(row.details.items())[:40]]
    figures = [rounded(row.score), rounded(row.preference)]
    return [
        row.turn,
        row.order,
        row.status,
        *figures,
        clip(row.raw, limit),
        row.requested_model,
        row.returned_model,
        details,
    ]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(part)}" for key, part in value.items())
    return ", ".join(_plain(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


def preview(question: Question) -> str:
    return " / ".join(question.turns)[:PREVIEW_CHARACTERS]


def question_row(index: int, question: Question) -> list[Any]:
    """[question number, turns, references] in full."""
    return [
        index,
        [clip(turn, ANSWER_CHARACTERS) for turn in question.turns],
        [clip(turn, ANSWER_CHARACTERS) for turn in question.reference],
    ]
