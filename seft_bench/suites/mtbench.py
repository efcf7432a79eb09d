"""MT-Bench: single-answer grading, one grade from 1 to 10 for each turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench import data
from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.files import Row, read_jsonl
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Result
from seft_bench.suites import own
from seft_bench.suites import scored as common

if TYPE_CHECKING:
    from seft_bench.stats.mtbench import Grade

_DATA_FILES = (data.QUESTIONS, data.REFERENCE_ANSWERS)
_FIGURES = ("score", "turn_1", "turn_2", "se", "low", "high", "by_category", "score_fastchat")


class MTBench:
    """The protocol over the official questions, the tinyworld's, or the user's own."""

    def __init__(self, config: SuiteConfig) -> None:
        self.config = config

    def questions(self) -> list[Question]:
        return self._all_questions()[: self.config.max_questions]

    def requests(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[JudgeRequest]:
        """One grade for every answered turn; turn 2 is judged with turn 1 before it."""
        return [
            JudgeRequest("grade", question, turn, answers[question.id].turns[:turn])
            for question in questions
            if question.id in answers
            for turn in _turns(question)
            if turn <= len(answers[question.id].turns)
        ]

    def settled(self, request: JudgeRequest, model: str) -> Judgment | None:
        """Always None: every turn is graded."""
        return None

    def score(self, model: str, questions: Sequence[Question], answers: Mapping[str, Answer], judgments: Sequence[Judgment]) -> Result:
        """Means over the last valid row of each key, and FastChat's own mean over all rows."""
        expected = _expected(questions, self.requests(questions, answers))
        rows = common.match(expected, judgments)
        categories = {question.id: question.category for question in questions}
        grades = [_grade(row, categories) for row in rows.valid_rows]
        metrics = dict.fromkeys(_FIGURES) | _figures(grades) | common.rubric_means(rows.by_key.values())
        notes = (*rows.notes, *common.coverage_note(len(expected), rows), *self._notes(bool(grades)))
        return common.result(self.config.name, model, len(expected), rows, answers, metrics, notes=notes, per_question=_per_question(grades))

    def _all_questions(self) -> list[Question]:
        if self.config.source == "files":
            return own.conversations(self.config)
        return self._official_questions() if self.config.source == "official" else data.tinyworld_questions("mtbench", self.config.source)

    def _official_questions(self) -> list[Question]:
        path = data.official_path(data.QUESTIONS)
        references = _official_references(data.official_path(data.REFERENCE_ANSWERS))
        rows = read_jsonl(path, "MT-Bench's questions", required=("question_id", "category", "turns"))
        return [
            Question(self.config.name, str(row["question_id"]), str(row["category"]), tuple(row["turns"]), references.get(str(row["question_id"]), ()))
            for row in rows
        ]

    def _notes(self, scored: bool) -> list[str]:
        if not scored:
            return ["nothing is scored, so there are no figures."]
        from seft_bench.stats.mtbench import CLUSTERED

        notes = [f"low and high: 95 % {CLUSTERED}; se is clustered likewise."]
        if self.config.source == "files":
            notes.append(own.files_note(self.config))
        return notes + (data.data_warnings(_DATA_FILES) if self.config.source == "official" else [])


def _turns(question: Question) -> range:
    return range(1, len(question.turns) + 1)


def _expected(questions: Sequence[Question], requests: Sequence[JudgeRequest]) -> list[common.Expected]:
    hashes = {request.key: request.answer_hash for request in requests}
    keys = [JudgeRequest("grade", question, turn, ()).key for question in questions for turn in _turns(question)]
    return [common.Expected(key, hashes.get(key, "")) for key in keys]


def _grade(row: Judgment, categories: Mapping[str, str]) -> Grade:
    from seft_bench.stats.mtbench import Grade

    if row.score is None:
        raise InputError(f"judgment {row.key} of {row.model_id} has status ok but no score")
    return Grade(row.question_id, categories[row.question_id], row.turn, row.score)


def _figures(grades: Sequence[Grade]) -> dict[str, Any]:
    """All figures of the scored rows; none without any."""
    if not grades:
        return {}
    from seft_bench.stats import mtbench

    rows = mtbench.last_of_each_key(grades)
    interval, error = mtbench.clustered_mean(rows)
    turns = {f"turn_{turn}": value for turn, value in mtbench.mean_by_turn(rows).items()}
    figures = {"score": interval.mean, "se": error, "low": interval.low, "high": interval.high}
    return figures | turns | {"by_category": mtbench.mean_by_category(rows), "score_fastchat": mtbench.fastchat_average(grades)}


def _per_question(grades: Sequence[Grade]) -> dict[str, float]:
    if not grades:
        return {}
    from seft_bench.stats.mtbench import last_of_each_key, mean_by_question

    return mean_by_question(last_of_each_key(grades))


def _official_references(path: Path) -> dict[str, tuple[str, ...]]:
    """Question id -> GPT-4's reference answers, one a turn (ids 101-130)."""
    rows = read_jsonl(path, "MT-Bench's reference answers", required=("question_id", "choices"))
    return {str(row["question_id"]): _first_choice(row, path) for row in rows}


def _first_choice(row: Row, path: Path) -> tuple[str, ...]:
    try:
        return tuple(str(turn) for turn in row["choices"][0]["turns"])
    except (LookupError, TypeError):
        raise InputError(f"{path}: question {row['question_id']} has no choices[0].turns") from None
