"""Graded answers that a reward model is calibrated on, and the fitted map as a file.

The map is kept beside the response store: a run that goes on neither fits again nor loses what it said about its error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.config import load_suite
from seft_bench.data.questions import graded_questions
from seft_bench.errors import InputError
from seft_bench.files import read_json, sha256_file, write_json
from seft_bench.formats.reading import read_answers, read_judgments
from seft_bench.records import Answer, Judgment, Question, text_hash

if TYPE_CHECKING:
    from seft_bench.stats.intervals import Interval
    from seft_bench.stats.rewards import Calibration, GradeMap


@dataclass(frozen=True)
class GradedAnswers:
    """The files of graded answers, and the suite that they belong to."""

    answers: Path
    judgments: Path
    suite: str

    @property
    def identity(self) -> dict[str, str]:
        """Hashes of the files' contents, wherever they lie.

        Raises:
            InputError: a file is not there.
        """
        for what, path in (("answers", self.answers), ("judgments", self.judgments)):
            if not path.is_file():
                raise InputError(f"calibration: no file of {what} at {path}")
        return {"answers": sha256_file(self.answers), "judgments": sha256_file(self.judgments), "suite": self.suite}


@dataclass(frozen=True)
class GradedAnswer:
    """One answer with its grade: the conversation up to the graded turn."""

    question_id: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    grade: float


def read_graded(source: GradedAnswers) -> list[GradedAnswer]:
    """Read every valid grade with a known question and answer; the last one of each answer and turn counts.

    Raises:
        InputError: a file is missing or broken, or no judgment fits an answer.
    """
    questions = {question.id: question for question in graded_questions(load_suite(source.suite))}
    answers = {(answer.question_id, answer.model_id): answer for answer in read_answers(source.answers)}
    found: dict[tuple[str, str, int], GradedAnswer] = {}
    for row in read_judgments(source.judgments):
        graded = _graded(row, questions.get(row.question_id), answers.get((row.question_id, row.model_id)))
        if graded:
            found[row.question_id, row.model_id, row.turn] = graded
    if not found:
        raise InputError(
            f"calibration: no grade in {source.judgments} belongs to an answer in {source.answers} to a question of "
            f"{source.suite}. Question and model must have the same names in both, and `suite` must be theirs."
        )
    return list(found.values())


def _graded(row: Judgment, question: Question | None, answer: Answer | None) -> GradedAnswer | None:
    if row.status != "ok" or row.score is None or not 1 <= row.score <= 10:
        return None
    if question is None or answer is None or len(answer.turns) < row.turn:
        return None
    texts = answer.turns[: row.turn]
    if row.answer_hash and row.answer_hash != text_hash(*texts):
        return None  # the judge read another text than the one in the file
    return GradedAnswer(row.question_id, question.turns[: row.turn], texts, row.score)


@dataclass(frozen=True)
class FittedGrades:
    """A map from reward to grade, with notes for the reader."""

    map: GradeMap
    notes: tuple[str, ...]

    def save(self, path: Path) -> None:
        from seft_bench.stats.rewards import map_row

        write_json(path, {"map": map_row(self.map), "notes": list(self.notes)})

    @classmethod
    def load(cls, path: Path) -> FittedGrades:
        from seft_bench.stats.rewards import map_of_row

        row: Mapping[str, Any] = read_json(path, "fitted calibration")
        try:
            return cls(map_of_row(row["map"]), tuple(str(note) for note in row["notes"]))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path} is no fitted calibration. Delete it: it is fitted again.") from None


def notes_on(fitted: Calibration, suite: str, left_out: int) -> tuple[str, ...]:
    """Describe the map, the data behind it and its error in sentences."""
    errors, best = fitted.errors, fitted.errors[fitted.name]
    named = {name: "the mean grade alone" if name == "constant" else name for name in errors if name != fitted.name}
    others = ", ".join(f"{shown} {errors[name].mean:.2f}" for name, shown in named.items())
    unscored = f" ({left_out} more could not be scored)" if left_out else ""
    notes = [
        f"grades are rewards put on the 1-10 scale by a map ({fitted.name}) fitted on {fitted.rows} graded answers to "
        f"{fitted.questions} questions of {suite}{unscored}.",
        f"its mean absolute error on questions held out of the fit is {_interval(best)} grade points (95 % "
        f"{best.how}); {others}.",
    ]
    if not fitted.foretells:
        notes.append(
            "the rewards do not foretell held-out grades clearly better than the mean grade alone: these grades say "
            "little."
        )
    return tuple(notes)


def _interval(error: Interval) -> str:
    if error.low is None or error.high is None:
        return f"{error.mean:.2f}"
    return f"{error.mean:.2f} [{error.low:.2f}, {error.high:.2f}]"
