"""AlpacaEval 2.0: each answer compared once with the baseline's, reported as win rate and length-controlled win rate."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seft_bench import data
from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.files import read_json
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Result, instruction_id
from seft_bench.suites import scored as common

if TYPE_CHECKING:
    from seft_bench.stats.length_control import Comparisons, GamedRows

_DATA_FILES = (data.BASELINE, data.DIFFICULTY, data.GAMED)
_FIGURES = ("win_rate", "win_rate_se", "discrete_win_rate", "lc_win_rate", "lc_low", "lc_high", "avg_length")


def candidate_first(instruction: str) -> bool:
    """Whether the judge is shown the candidate first: alpaca_eval's seed rule (`annotators/base.py`, 0.6.6)."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


class AlpacaEval:
    """The protocol over the official questions or the tinyworld's. Questions are keyed by instruction, never by position."""

    def __init__(self, config: SuiteConfig) -> None:
        self.config = config

    def questions(self) -> list[Question]:
        everything = self._official_questions() if self._official else data.tinyworld_questions("alpacaeval", self.config.source)
        return everything[: self.config.max_questions]

    def requests(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[JudgeRequest]:
        """One preference for every question that has an answer."""
        return [_request(question, answers[question.id].turns) for question in questions if question.id in answers]

    def settled(self, request: JudgeRequest, model: str) -> Judgment | None:
        """A draw for identical texts, as the official tool gives without a call.

        The tinyworld's rubric is asked all the same: it costs nothing, and grades the answer's parts.
        """
        if not self._official or request.candidate != request.baseline:
            return None
        order = "candidate_first" if request.candidate_first else "candidate_second"
        return Judgment(
            suite=self.config.name,
            question_id=request.question.id,
            model_id=model,
            turn=request.turn,
            key=request.key,
            answer_hash=request.answer_hash,
            judge_id=common.SETTLED,
            requested_model="",
            returned_model="",
            prompt_hash="",
            order=order,
            status="ok",
            preference=1.5,
            raw="identical texts",
        )

    def score(self, model: str, questions: Sequence[Question], answers: Mapping[str, Answer], judgments: Sequence[Judgment]) -> Result:
        """Win rates and LC over the scored questions; a draw for identical texts needs no judgment in the list."""
        requests = self.requests(questions, answers)
        rows = common.match(_expected(questions, requests), [*judgments, *self._draws(model, requests, judgments)])
        preferences = {row.question_id: _preference(row) for row in rows.by_key.values()}
        judged = [question for question in questions if question.id in preferences]
        metrics: dict[str, Any] = dict.fromkeys(_FIGURES)
        metrics |= _plain_figures(preferences)
        metrics |= _average_length(questions, answers)
        metrics |= self._lc_figures(judged, answers, preferences)
        metrics |= common.rubric_means(rows.by_key.values())
        notes = (*rows.notes, *common.coverage_note(len(questions), rows), *self._notes(metrics, len(questions) - len(judged)))
        per_question = {question.id: preferences[question.id] - 1.0 for question in judged}
        return common.result(self.config.name, model, len(questions), rows, answers, metrics, notes=notes, per_question=per_question)

    def data_hashes(self) -> dict[str, str]:
        return data.data_hashes(_DATA_FILES) if self._official else {}

    @property
    def _official(self) -> bool:
        return self.config.source == "official"

    def _official_questions(self) -> list[Question]:
        path = data.official_path(data.BASELINE)
        rows = read_json(path, "AlpacaEval's baseline")
        if not isinstance(rows, list) or not all(isinstance(row, dict) and {"instruction", "output"} <= row.keys() for row in rows):
            raise InputError(f"{path}: a list of objects with instruction and output is expected")
        return [_question(self.config.name, row) for row in rows]

    def _draws(self, model: str, requests: Sequence[JudgeRequest], judgments: Sequence[Judgment]) -> list[Judgment]:
        """Settled judgments of the requests that have no valid one yet."""
        judged = {judgment.key for judgment in judgments if judgment.status == "ok"}
        settled = [self.settled(request, model) for request in requests if request.key not in judged]
        return [judgment for judgment in settled if judgment is not None]

    def _lc_figures(self, judged: Sequence[Question], answers: Mapping[str, Answer], preferences: Mapping[str, float]) -> dict[str, Any]:
        """LC needs the text of every judged answer; without them only the plain figures can be given."""
        if len(judged) < 2 or any(question.id not in answers for question in judged):
            return {}
        from seft_bench.stats.length_control import length_controlled

        lc = length_controlled(self._comparisons(judged, answers, preferences))
        return {"lc_win_rate": lc.win_rate, "lc_low": lc.low, "lc_high": lc.high}

    def _comparisons(self, judged: Sequence[Question], answers: Mapping[str, Answer], preferences: Mapping[str, float]) -> Comparisons:
        import numpy as np

        from seft_bench.stats.alpacaeval import win_probabilities
        from seft_bench.stats.length_control import NO_GAMED_ROWS, Comparisons

        difficulties = self._difficulties()
        return Comparisons(
            wins=win_probabilities([preferences[question.id] for question in judged]),
            length_difference=np.array([len(question.reference[0]) - len(answers[question.id].turns[0]) for question in judged], dtype=np.float64),
            difficulty=np.array([difficulties.get(question.id, 0.0) for question in judged]),
            gamed=_gamed_rows() if self._official else NO_GAMED_ROWS,
        )

    def _difficulties(self) -> dict[str, float]:
        """Difficulty by question id; the official file is in the order of the baseline's file."""
        if not self._official:
            return {}
        return {question.id: value for question, value in zip(self._official_questions(), data.instruction_difficulties(), strict=True)}

    def _notes(self, metrics: Mapping[str, Any], missing: int) -> list[str]:
        if metrics["win_rate"] is None:
            return ["nothing is scored, so there are no figures."]
        if metrics["lc_win_rate"] is None:
            return ["no length-controlled win rate: it needs the texts of all judged answers, and at least two."]
        notes = ["lc_low and lc_high: 95 % interval over questions by influence functions; win_rate_se: standard error over questions."]
        if not self._official:
            return [*notes, "length control without difficulties and gamed rows (own questions): difficulty set to 0, features length and constant."]
        notes.append("length control: exact optimum at C = 21.544; the official tool picks C by cross-validation and then differs by up to 0.15.")
        if missing:
            notes.append("difficulty is keyed by instruction; the official tool goes by row position, so with missing rows its figure differs.")
        return notes + data.data_warnings(_DATA_FILES)


def _question(suite: str, row: Mapping[str, Any]) -> Question:
    instruction = str(row["instruction"])
    metadata = {"dataset": str(row.get("dataset", ""))}
    return Question(suite, instruction_id(instruction), "", (instruction,), (str(row["output"]),), metadata)


def _request(question: Question, candidate: tuple[str, ...]) -> JudgeRequest:
    return JudgeRequest("preference", question, 1, candidate[:1], question.reference[:1], candidate_first(question.turns[0]))


def _expected(questions: Sequence[Question], requests: Sequence[JudgeRequest]) -> list[common.Expected]:
    hashes = {request.question.id: request.answer_hash for request in requests}
    return [common.Expected(_request(question, ()).key, hashes.get(question.id, "")) for question in questions]


def _plain_figures(preferences: Mapping[str, float]) -> dict[str, Any]:
    if not preferences:
        return {}
    from seft_bench.stats.alpacaeval import win_rate

    rates = win_rate(list(preferences.values()))
    return {"win_rate": rates.win_rate, "win_rate_se": rates.standard_error, "discrete_win_rate": rates.discrete_win_rate}


def _average_length(questions: Sequence[Question], answers: Mapping[str, Answer]) -> dict[str, Any]:
    texts = [answers[question.id].turns[0] for question in questions if question.id in answers]
    if not texts:
        return {}
    from seft_bench.stats.alpacaeval import average_length

    return {"avg_length": average_length(texts)}


def _preference(row: Judgment) -> float:
    """The row's preference in [1, 2]; official files also store a draw as 0."""
    if row.preference is None:
        raise InputError(f"judgment {row.key} of {row.model_id} has status ok but no preference")
    return row.preference or 1.5


def _gamed_rows() -> GamedRows:
    import numpy as np

    from seft_bench.stats.length_control import GamedRows

    rows = data.gamed_data()
    length, difficulty, preference = np.tanh(rows.std_length_difference), np.array(rows.difficulty), np.array(rows.preference)
    return GamedRows(length, difficulty, float(preference @ length), float(preference @ difficulty))
