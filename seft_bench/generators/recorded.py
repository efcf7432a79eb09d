"""Recorded answers: our own rows, alpaca_eval's `model_outputs.json`, FastChat's `model_answer`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from seft_bench.answers import without_reasoning
from seft_bench.errors import InputError, unknown_name
from seft_bench.formats.matching import match_answers
from seft_bench.generators import BaseGenerator, Decoding, OnAnswer
from seft_bench.records import Answer, Question


def models_in(path: Path) -> list[str]:
    """Name the models in a file of answers, in the order of their first rows."""
    from seft_bench.formats.reading import read_answers

    return list(dict.fromkeys(answer.model_id for answer in read_answers(path)))


class ReadyGenerator(BaseGenerator):
    """One model's answers out of a file, matched to questions as `formats.matching.match_answers` does.

    Raises:
        InputError: the file has no answers of that model.
    """

    def __init__(self, path: Path, model_id: str) -> None:
        from seft_bench.formats.reading import read_file_answers

        found = read_file_answers(path)
        known = dict.fromkeys(one.answer.model_id for one in found)
        if model_id not in known:
            raise unknown_name(f"model in {path}", model_id, known)
        self.path, self.model_id = path, model_id
        self._rows = [one for one in found if one.answer.model_id == model_id]

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Hand over the file's answers; a question without one stays unanswered, which lowers coverage.

        Raises:
            InputError: see `check`.
        """
        for question, answer in self._found(questions):
            own = dataclasses.replace(answer, suite=question.suite, question_id=question.id, decoding=decoding.name)
            on_answer(without_reasoning(own, decoding.keeps_reasoning))

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions of which the file answers none, or none with all its turns.

        Raises:
            InputError: it is so.
        """
        self._found(questions)

    def notes_on(self, questions: Sequence[Question]) -> tuple[str, ...]:
        """Return what of the file did not fit these questions, for the reader of a figure."""
        return match_answers(questions, self._rows).notes

    def _found(self, questions: Sequence[Question]) -> list[tuple[Question, Answer]]:
        """Return the questions that the file answers, with the answers; raise as `check`."""
        answers = match_answers(questions, self._rows).answers
        found = [(question, answers[question.id]) for question in questions if question.id in answers]
        if questions and not found:
            ids = [one.answer.question_id for one in self._rows]
            raise InputError(
                f"{self.path} answers none of the {len(questions)} questions of {questions[0].suite} asked for: its "
                f"question ids are {', '.join(ids[:4])}, ..., the suite's are "
                f"{', '.join(question.id for question in questions[:4])}, ..."
            )
        if questions and all(len(answer.turns) < len(question.turns) for question, answer in found):
            raise InputError(
                f"{self.path} holds answers to another suite than {questions[0].suite}: it answers {len(found)} of its "
                f"{len(questions)} questions, none with all turns"
            )
        return found
