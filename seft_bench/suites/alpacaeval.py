"""AlpacaEval 2.0: each answer compared once with the baseline's; plain and length-controlled win rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.answers import answered_only
from seft_bench.config import SuiteConfig
from seft_bench.data import official
from seft_bench.data.questions import pairwise_questions
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_once
from seft_bench.records import (
    Answer,
    JudgeRequest,
    Judgment,
    Question,
    Result,
    candidate_first,
    instruction_id,
    preference_key,
    text_hash,
)
from seft_bench.suites import alpacaeval_length, answered, coverage, custom
from seft_bench.suites.base import BaseSuite

if TYPE_CHECKING:
    from seft_bench.stats.lc_regression import Comparisons

_DATA_FILES = (official.BASELINE, official.DIFFICULTY, official.GAMED)
_FIGURES = ("win_rate", "win_rate_se", "discrete_win_rate", *alpacaeval_length.FIGURES, "avg_length")
_NO_DIFFICULTIES = (
    "own questions without difficulties: plain win rate only (`difficulty` in the suite's YAML: zero, or a file fitted "
    "to these questions)."
)

Pairs = tuple[tuple[str, str, str], ...]
"""(instruction, baseline's answer, data set) of each row."""


class AlpacaEval(BaseSuite):
    """The protocol over the official questions, the tinyworld's, or the user's own.

    Questions are keyed by instruction, never by position.
    """

    def __init__(self, config: SuiteConfig) -> None:
        self.config = config

    def questions(self) -> list[Question]:
        questions = self._all_questions()
        if self.config.source == "files":
            custom.difficulties(self.config, questions)  # what is wrong with them is said before anything runs
        return questions[: self.config.max_questions]

    def requests(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[JudgeRequest]:
        """Return one preference for every question that has an answer."""
        given = answered_only(answers)
        return [_request(question, given[question.id].turns) for question in questions if question.id in given]

    def settled(self, request: JudgeRequest, model: str) -> Judgment | None:
        """Return a draw for identical texts, as the official tool gives without a call.

        The tinyworld's rubric is asked all the same: it costs nothing, and grades the answer's parts.
        """
        if self.config.source.startswith("tinyworld") or request.candidate != request.baseline:
            return None
        return Judgment(
            suite=self.config.name,
            question_id=request.question.id,
            model_id=model,
            turn=request.turn,
            key=request.key,
            answer_hash=request.answer_hash,
            judge_id=coverage.SETTLED,
            requested_model="",
            returned_model="",
            prompt_hash="",
            order="candidate_first" if request.candidate_first else "candidate_second",
            status="ok",
            preference=1.5,
            raw="identical texts",
        )

    def score(
        self, model: str, questions: Sequence[Question], answers: Mapping[str, Answer], judgments: Sequence[Judgment]
    ) -> Result:
        """Compute win rates and LC of the scored questions; identical texts draw, and need no judgment in the list."""
        every, answers = answers, answered_only(answers)
        judgments = answered.of_answers(judgments, every)
        rows = self.counted(model, questions, answers, judgments)
        preferences = preferences_of(rows)
        judged = [question for question in questions if question.id in preferences]
        metrics: dict[str, Any] = dict.fromkeys(_FIGURES)
        metrics |= _plain_figures(preferences)
        metrics |= _average_length(questions, answers)
        lc_figures, about_length, covariates = self._length_control(questions, judged, answers, preferences)
        metrics |= lc_figures
        metrics |= coverage.rubric_means(rows.by_key.values())
        notes = (*rows.notes, *coverage.coverage_note(len(questions), rows), *self._notes(metrics, about_length))
        per_question = {question.id: preferences[question.id] - 1.0 for question in judged}
        return coverage.result(
            self.config.name,
            model,
            len(questions),
            rows,
            answers,
            metrics,
            answered=answered.count(questions, every, coverage.judged_turns(rows), self.config.max_new_tokens),
            notes=notes,
            per_question=per_question,
            covariates=covariates,
        )

    def comparisons_of(self, result: Result, questions: Sequence[str]) -> Comparisons | None:
        """Return the data that LC is fitted on, out of a result, for these questions in this order.

        None where the suite has no length control.
        """
        difficulty = self._difficulties(self.questions())
        if difficulty is None:
            return None
        return alpacaeval_length.comparisons_of(result, questions, difficulty, self._official)

    def data_hashes(self) -> dict[str, str]:
        return official.data_hashes(_DATA_FILES) if self._official else {}

    def counted(
        self, model: str, questions: Sequence[Question], answers: Mapping[str, Answer], judgments: Sequence[Judgment]
    ) -> coverage.Scored:
        """Return the judgments that count: each question's last valid one, and draws for identical texts."""
        expected = [_expected(question, answers.get(question.id)) for question in questions]
        judged = {judgment.key for judgment in judgments if judgment.status == "ok"}
        unjudged = [question for question, item in zip(questions, expected, strict=True) if item.key not in judged]
        draws = [self.settled(request, model) for request in self.requests(unjudged, answers)]
        return coverage.match(expected, [*judgments, *(draw for draw in draws if draw is not None)])

    @property
    def _official(self) -> bool:
        return self.config.source == "official"

    def _all_questions(self) -> list[Question]:
        """Return the whole question set, whatever `max_questions` says."""
        if self.config.source == "files":
            return pairwise_questions(self.config)
        if self._official:
            return list(_official_questions(_read_pairs(official.official_path(official.BASELINE)), self.config.name))
        return official.tinyworld_questions("alpacaeval", self.config.source)

    def _length_control(
        self,
        questions: Sequence[Question],
        judged: Sequence[Question],
        answers: Mapping[str, Answer],
        preferences: Mapping[str, float],
    ) -> tuple[dict[str, Any], list[str], alpacaeval_length.Covariates]:
        """Return LC with its notes and covariates.

        Own questions have it only with difficulties of their own, or with 0 if the suite says so.
        """
        difficulty = self._difficulties(questions)
        if difficulty is None:
            return {}, [_NO_DIFFICULTIES], {}
        rows = alpacaeval_length.Judged(questions, judged, answers, preferences, difficulty, self._official)
        return alpacaeval_length.figures(self.config, rows)

    def _difficulties(self, questions: Sequence[Question]) -> Mapping[str, float] | None:
        """Return difficulties by question id; None: no length control.

        The official file is in the order of the baseline's file.
        """
        if self._official:
            pairs = _read_pairs(official.official_path(official.BASELINE))
            return _official_difficulties(pairs, official.instruction_difficulties())
        if self.config.source == "files":
            return custom.difficulties(self.config, questions)
        return dict.fromkeys((question.id for question in questions), 0.0)

    def _notes(self, metrics: Mapping[str, Any], about_length: Sequence[str]) -> list[str]:
        notes = [custom.files_note(self.config)] if self.config.source == "files" else []
        if metrics["win_rate"] is None:
            return [*notes, "nothing is scored, so there are no figures."]
        notes += ["win_rate_se: standard error over questions.", *about_length]
        return notes + (official.data_warnings(_DATA_FILES) if self._official else [])


def preferences_of(rows: coverage.Scored) -> dict[str, float]:
    """Map question id -> preference in [1, 2]."""
    return {row.question_id: _preference(row) for row in rows.by_key.values()}


@read_once
def _read_pairs(path: Path) -> Pairs:
    rows, needed = read_json(path, "AlpacaEval's baseline"), {"instruction", "output"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise InputError(f"{path}: a list of objects with instruction and output is expected")
    return tuple((str(row["instruction"]), str(row["output"]), str(row.get("dataset", ""))) for row in rows)


@lru_cache(maxsize=4)
def _official_questions(pairs: Pairs, suite: str) -> tuple[Question, ...]:
    return tuple(
        Question(suite, instruction_id(instruction), "", (instruction,), (output,), {"dataset": dataset})
        for instruction, output, dataset in pairs
    )


@lru_cache(maxsize=4)
def _official_difficulties(pairs: Pairs, difficulties: tuple[float, ...]) -> Mapping[str, float]:
    return {
        instruction_id(instruction): difficulty
        for (instruction, _, _), difficulty in zip(pairs, difficulties, strict=True)
    }


def _request(question: Question, candidate: tuple[str, ...]) -> JudgeRequest:
    first = candidate_first(question.turns[0])
    return JudgeRequest("preference", question, 1, candidate[:1], question.reference[:1], first)


def _expected(question: Question, answer: Answer | None) -> coverage.Expected:
    """Return key and hash of the question's `_request`, without making one for each question of each model."""
    key = preference_key(question.id, 1, candidate_first(question.turns[0]))
    return coverage.Expected(key, text_hash(*answer.turns[:1], *question.reference[:1]) if answer else "")


def _plain_figures(preferences: Mapping[str, float]) -> dict[str, Any]:
    if not preferences:
        return {}
    from seft_bench.stats.alpacaeval import win_rate

    rates = win_rate(list(preferences.values()))
    return {
        "win_rate": rates.win_rate,
        "win_rate_se": rates.standard_error,
        "discrete_win_rate": rates.discrete_win_rate,
    }


def _average_length(questions: Sequence[Question], answers: Mapping[str, Answer]) -> dict[str, Any]:
    texts = [answers[question.id].turns[0] for question in questions if question.id in answers]
    if not texts:
        return {}
    from seft_bench.stats.alpacaeval import average_length

    return {"avg_length": average_length(texts)}


def _preference(row: Judgment) -> float:
    """Return the row's preference in [1, 2]; official files also store a draw as 0."""
    if row.preference is None:
        raise InputError(f"judgment {row.key} of {row.model_id} has status ok but no preference")
    return row.preference or 1.5
