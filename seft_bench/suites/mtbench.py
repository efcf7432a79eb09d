"""MT-Bench: single-answer grading, one grade from 1 to 10 for each turn.

Comparisons with a baseline are in `mtbench_pairwise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seft_bench.answers import answered_only
from seft_bench.config import SuiteConfig
from seft_bench.data.official import data_hashes
from seft_bench.data.questions import graded_questions, mtbench_files
from seft_bench.errors import InputError
from seft_bench.records import FASTCHAT_SCORE, Answer, JudgeRequest, Judgment, Question, Result
from seft_bench.suites import answered, coverage, mtbench_notes
from seft_bench.suites.base import BaseSuite

if TYPE_CHECKING:
    from seft_bench.stats.mtbench import Grade

_FIGURES = ("score", "turn_1", "turn_2", "se", "low", "high", "by_category", "categories", "score_fastchat")


class MTBench(BaseSuite):
    """The protocol over the official questions, the tinyworld's, or the user's own."""

    def __init__(self, config: SuiteConfig) -> None:
        self.config = config

    def questions(self) -> list[Question]:
        return graded_questions(self.config)

    def requests(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[JudgeRequest]:
        """Return one grade for every answered turn; turn 2 is judged with turn 1 before it."""
        given = answered_only(answers)
        return [
            JudgeRequest("grade", question, turn, given[question.id].turns[:turn])
            for question in questions
            if question.id in given
            for turn in turns_of(question)
            if turn <= len(given[question.id].turns)
        ]

    def score(
        self, model: str, questions: Sequence[Question], answers: Mapping[str, Answer], judgments: Sequence[Judgment]
    ) -> Result:
        """Compute means over the last valid row of each key, and FastChat's own mean over all rows."""
        every, answers = answers, answered_only(answers)
        judgments = answered.of_answers(judgments, every)
        expected = _expected(questions, self.requests(questions, answers))
        rows = coverage.match(expected, mtbench_notes.parsed(self.config, judgments))
        grades = _grades(rows, questions)
        metrics = dict.fromkeys(_FIGURES) | _figures(grades) | _fastchat(rows, questions)
        metrics |= coverage.rubric_means(rows.by_key.values())
        notes = [*rows.notes, *coverage.coverage_note(len(expected), rows), *_interval_note(bool(grades))]
        if self.config.parsing == "strict":
            official = coverage.match(expected, judgments)
            before = _figures(_grades(official, questions)).get("score")
            notes.append(mtbench_notes.strict_note(official.by_key, rows.by_key, "score", before, metrics["score"]))
        notes += mtbench_notes.notes(self.config, answers, judgments)
        return coverage.result(
            self.config.name,
            model,
            len(expected),
            rows,
            answers,
            metrics,
            answered=answered.count(questions, every, coverage.judged_turns(rows), self.config.max_new_tokens),
            notes=tuple(notes),
            per_question=_per_question(grades),
        )

    def data_hashes(self) -> dict[str, str]:
        return data_hashes(mtbench_files(self.config))


def turns_of(question: Question) -> range:
    """Return the numbers of a question's turns, from 1."""
    return range(1, len(question.turns) + 1)


def _interval_note(scored: bool) -> list[str]:
    if not scored:
        return ["nothing is scored, so there are no figures."]
    from seft_bench.stats.mtbench import CLUSTERED

    return [f"low and high: 95 % {CLUSTERED}; se is clustered likewise, and so are those of turns and categories."]


def _expected(questions: Sequence[Question], requests: Sequence[JudgeRequest]) -> list[coverage.Expected]:
    hashes = {request.key: request.answer_hash for request in requests}
    keys = [JudgeRequest("grade", question, turn, ()).key for question in questions for turn in turns_of(question)]
    return [coverage.Expected(key, hashes.get(key, "")) for key in keys]


def _grades(rows: coverage.Scored, questions: Sequence[Question]) -> list[Grade]:
    from seft_bench.stats.mtbench import Grade

    categories = {question.id: question.category for question in questions}
    return [Grade(row.question_id, categories[row.question_id], row.turn, _score(row)) for row in rows.valid_rows]


def _score(row: Judgment) -> float:
    if row.score is None:
        raise InputError(f"judgment {row.key} of {row.model_id} has status ok but no score")
    return row.score


def _figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """Return all figures of the scored rows; none without any."""
    if not grades:
        return {}
    from seft_bench.stats import mtbench

    rows = mtbench.last_of_each_key(grades)
    by_category = {"by_category": mtbench.mean_by_category(rows), "categories": mtbench.figures_by_category(rows)}
    return mtbench.figures(rows) | by_category


def _fastchat(rows: coverage.Scored, questions: Sequence[Question]) -> dict[str, Any]:
    """Return FastChat's own mean: of every row with a number, whatever the number, repeated ones included."""
    from seft_bench.stats.mtbench import Grade, fastchat_average

    categories = {question.id: question.category for question in questions}
    numbers = [(row, row.details.get(FASTCHAT_SCORE, row.score)) for row in rows.rows]
    grades = [
        Grade(row.question_id, categories[row.question_id], row.turn, float(number))
        for row, number in numbers
        if number is not None
    ]
    return {"score_fastchat": fastchat_average(grades)} if grades else {}


def _per_question(grades: Sequence[Grade]) -> dict[str, float]:
    if not grades:
        return {}
    from seft_bench.stats.mtbench import last_of_each_key, mean_by_question

    return mean_by_question(last_of_each_key(grades))
