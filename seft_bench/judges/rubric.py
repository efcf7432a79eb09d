"""The tinyworld's rubric as a judge: exact, deterministic, free. It sees the question and the answer only."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from seft_bench.config import RubricJudgeConfig
from seft_bench.errors import InputError
from seft_bench.files import sha256_json
from seft_bench.judges.base import BaseJudge, OnJudgment, judgment_of
from seft_bench.records import JudgeRequest, Judgment, Question

SHARPNESS = 1.0
"""Log-odds of winning a pair per point of grade."""

LENGTH_SCALE_CHARACTERS = 40.0
"""A difference of answer lengths that counts as large, in characters: tinyworld answers have some 20 to 80."""


class RubricJudge(BaseJudge):
    """Grades 1-10, and preferences by a logistic of the difference of two grades.

    Args:
        length_bias: log-odds added to a pair for a much longer candidate (as tanh of the difference), so that a
            length-controlled win rate has something to control.
    """

    def __init__(self, name: str = "rubric", length_bias: float = 0.0) -> None:
        from seft_bench.tinyworld import WORLD_VERSION

        self.length_bias = length_bias
        settings = {
            "rubric": WORLD_VERSION,
            "length_bias": length_bias,
            "sharpness": SHARPNESS,
            "scale": LENGTH_SCALE_CHARACTERS,
        }
        self.id = f"{name}-{sha256_json(settings)[:8]}"
        self.notes: list[str] = []

    @classmethod
    def from_config(cls, config: RubricJudgeConfig, store_path: Path | None = None) -> RubricJudge:
        return cls(config.name, config.length_bias)

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Do nothing: nothing can be missing."""

    def check_questions(self, kind: str, questions: Sequence[Question]) -> None:
        """Refuse questions of another world: an answer to one gets no grade.

        Raises:
            InputError: naming the first one.
        """
        for question in questions:
            try:
                _grade(question.turns, ("",) * len(question.turns))
            except ValueError as error:
                raise InputError(
                    f"judge rubric grades the tinyworld only; {question.id} asks {question.turns[-1][:80]!r}: {error}"
                ) from None

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        for request in requests:
            on_judgment(self._judge_one(request, model_id))

    def _judge_one(self, request: JudgeRequest, model_id: str) -> Judgment:
        try:
            total, parts = _grade(request.question.turns, request.candidate)
            if request.kind == "grade":
                return judgment_of(request, model_id, self.id, "rubric", status="ok", score=total, details=parts)
            baseline, _ = _grade(request.question.turns, request.baseline)
        except ValueError as error:
            return judgment_of(request, model_id, self.id, "rubric", status="refused", raw=str(error))
        preference = self._preference(total - baseline, _characters(request.candidate) - _characters(request.baseline))
        return judgment_of(request, model_id, self.id, "rubric", status="ok", preference=preference, details=parts)

    def _preference(self, grade_difference: float, length_difference_characters: int) -> float:
        log_odds = SHARPNESS * grade_difference + self.length_bias * math.tanh(
            length_difference_characters / LENGTH_SCALE_CHARACTERS
        )
        return round(1.0 + 1.0 / (1.0 + math.exp(-log_odds)), 6)


def _grade(question_turns: Sequence[str], answer_turns: Sequence[str]) -> tuple[float, dict[str, float]]:
    from seft_bench.tinyworld.rubric import grade

    verdict = grade(question_turns[: len(answer_turns)], answer_turns)
    return verdict.total, {
        "content": verdict.content,
        "format": verdict.format,
        "style": verdict.style,
        "concision": verdict.concision,
    }


def _characters(turns: Sequence[str]) -> int:
    return sum(len(turn) for turn in turns)
