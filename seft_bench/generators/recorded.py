"""Recorded answers: our own rows, alpaca_eval's `model_outputs.json`, FastChat's `model_answer`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from seft_bench.errors import InputError, unknown_name
from seft_bench.generators import BaseGenerator, Decoding, OnAnswer
from seft_bench.records import Answer, Question, instruction_id


def models_in(path: Path) -> list[str]:
    """Name the models in a file of answers, in the order of their first rows."""
    from seft_bench.formats.reading import read_answers

    return list(dict.fromkeys(answer.model_id for answer in read_answers(path)))


class ReadyGenerator(BaseGenerator):
    """One model's answers out of a file, matched by question id; of a question answered twice the last row counts.

    Raises:
        InputError: the file has no answers of that model.
    """

    def __init__(self, path: Path, model_id: str) -> None:
        from seft_bench.formats.reading import read_answers

        answers = read_answers(path)
        known = dict.fromkeys(answer.model_id for answer in answers)
        if model_id not in known:
            raise unknown_name(f"model in {path}", model_id, known)
        self.path, self.model_id = path, model_id
        self._answers = {answer.question_id: answer for answer in answers if answer.model_id == model_id}

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Hand over the file's answers; a question without one stays unanswered, which lowers coverage.

        Raises:
            InputError: see `check`.
        """
        for question, answer in self._found(questions):
            on_answer(
                dataclasses.replace(answer, suite=question.suite, question_id=question.id, decoding=decoding.name)
            )

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions of which the file answers none, or none with all its turns.

        Raises:
            InputError: it is so.
        """
        self._found(questions)

    def _found(self, questions: Sequence[Question]) -> list[tuple[Question, Answer]]:
        """Return the questions that the file answers, with the answers; raise as `check`."""
        found = [(question, answer) for question in questions if (answer := self._find(question))]
        if questions and not found:
            raise InputError(
                f"{self.path} answers none of the {len(questions)} questions of {questions[0].suite} asked for: its "
                f"question ids are {', '.join(list(self._answers)[:4])}, ..., the suite's are "
                f"{', '.join(question.id for question in questions[:4])}, ..."
            )
        if questions and all(len(answer.turns) < len(question.turns) for question, answer in found):
            raise InputError(
                f"{self.path} holds answers to another suite than {questions[0].suite}: it answers {len(found)} of its "
                f"{len(questions)} questions, none with all turns"
            )
        return found

    def _find(self, question: Question) -> Answer | None:
        """Find by id, or by the first turn's text: files keyed by instruction fit any suite with that question."""
        return self._answers.get(question.id) or self._answers.get(instruction_id(question.turns[0]))
