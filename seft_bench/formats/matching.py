"""Which rows of a file belong to which question of a suite: by the exact text, then without outer white space. Pure.

What is left over, comes twice or fits only nearly is counted and named: a figure over fewer questions than its reader
believes, or over other answers, is a wrong figure.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seft_bench.formats.reading import FileAnswer
from seft_bench.records import Answer, Judgment, Question, candidate_first, instruction_id, preference_key

NAMED = 3
"""So many of a kind are named in a note."""


@dataclass(frozen=True)
class Matched:
    """One model's answers to the questions of a suite.

    Attributes:
        answers: question id -> answer; of a question answered twice the last row's.
        notes: what did not fit, one sentence each.
    """

    answers: Mapping[str, Answer]
    notes: tuple[str, ...]


def match_answers(questions: Sequence[Question], found: Sequence[FileAnswer]) -> Matched:
    """Give every question the answer of a file's rows.

    A row fits by its id, or by the question's first turn, so that files keyed by instruction fit any suite with that
    question; where no row does, by that text without the white space around it.
    """
    rows = {one.answer.question_id: one for one in found}
    nearly = nearly_same(questions, {key: one.asked for key, one in rows.items()})
    chosen = {question.id: key for question in questions if (key := _key_of(question, rows, nearly))}
    extra = [key for key in rows if key not in set(chosen.values())]
    answers = {question: rows[key].answer for question, key in chosen.items()}
    names = {key: _name(one) for key, one in rows.items()}
    repeated = [key for key, count in Counter(one.answer.question_id for one in found).items() if count > 1]
    notes = [
        *_note(len(extra), "answers match no question of the suite and are left out", (names[key] for key in extra)),
        *_nearly_note("answers", [names[key] for key in chosen.values() if key in nearly.values()]),
        *_note(
            len(repeated),
            "questions are answered more than once; the last row counts",
            (names[key] for key in repeated),
        ),
        *_several_choices(found, names),
    ]
    return Matched(answers, tuple(notes))


def _key_of(question: Question, rows: Mapping[str, FileAnswer], nearly: Mapping[str, str]) -> str | None:
    exact = [key for key in (question.id, instruction_id(question.turns[0])) if key in rows]
    return exact[0] if exact else nearly.get(question.id)


def nearly_same(questions: Sequence[Question], asked: Mapping[str, str]) -> dict[str, str]:
    """Map question id -> id of the one row that asks the same, but for white space around it.

    Only questions that no row asks exactly, and rows that ask no question exactly.

    Args:
        asked: id of a row -> its instruction, "" where it has none.
    """
    exact = {key for question in questions for key in (question.id, instruction_id(question.turns[0]))}
    rows = _once({key: text.strip() for key, text in asked.items() if text and key not in exact})
    lacking = [one for one in questions if not {one.id, instruction_id(one.turns[0])} & asked.keys()]
    wanted = _once({question.id: question.turns[0].strip() for question in lacking})
    return {question: rows[text] for text, question in wanted.items() if text in rows}


def _once(texts: Mapping[str, str]) -> dict[str, str]:
    """Map text -> its key, of texts that only one key has."""
    counts = Counter(texts.values())
    return {text: key for key, text in texts.items() if counts[text] == 1}


def match_judgments(
    questions: Sequence[Question], judgments: Sequence[Judgment], asked: Mapping[str, str]
) -> tuple[list[Judgment], list[str]]:
    """Return comparisons keyed by the suite's questions, also where a file's instruction lost white space; and notes.

    Args:
        asked: id of a row's question -> its instruction, as `reading.read_instructions` has it.
    """
    nearly = nearly_same(questions, asked)
    by_row = {row: question for question in questions if (row := nearly.get(question.id))}
    renamed = [_renamed(row, by_row[row.question_id]) if row.question_id in by_row else row for row in judgments]
    touched = dict.fromkeys(row.question_id for row in judgments if row.question_id in by_row)
    return renamed, _nearly_note("judgments", [_shown(asked[key]) for key in touched])


def _renamed(row: Judgment, question: Question) -> Judgment:
    key = preference_key(question.id, row.turn, candidate_first(question.turns[0]))
    return dataclasses.replace(row, question_id=question.id, key=key)


def _nearly_note(what: str, names: Sequence[str]) -> list[str]:
    said = f"{what} match their question only without the white space around its text; they are taken"
    return _note(len(names), said, names)


def _several_choices(found: Sequence[FileAnswer], names: Mapping[str, str]) -> list[str]:
    several = [names[one.answer.question_id] for one in found if one.choices > 1]
    return _note(len(several), "rows hold more than one choice; the first counts, as in FastChat's judging", several)


def _note(count: int, what: str, names: Iterable[str]) -> list[str]:
    listed = list(dict.fromkeys(names))
    more = ", ..." if len(listed) > NAMED else ""
    return [f"{count} {what}: {', '.join(listed[:NAMED])}{more}."] if count else []


def _name(one: FileAnswer) -> str:
    return _shown(one.asked) if one.asked else one.answer.question_id


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
