"""Answers without a model, to show what a judge gives to nothing: a constant, the prompt's copy, and filler.

A judge that can be had by one of these says little about the models above them (Zheng et al. 2024, arXiv 2410.07137,
"null models").
"""

from __future__ import annotations

from collections.abc import Sequence

from seft_bench.errors import unknown_name
from seft_bench.files import sha256_json
from seft_bench.generators import BaseGenerator, Decoding, OnAnswer
from seft_bench.records import Answer, Question

CONSTANT = "Thank you for your question; I am glad to help you with it."
FILLER = (
    "There is more than one way to look at this, and each of them has its place. It depends on what is wanted, on what "
    "is at hand, and on how much time there is. Some points matter more than others, and they should be considered in "
    "turn. With these things in mind, a good result can be reached step by step. "
)
"""Sentences that say nothing about any question; repeated and cut to a length."""
STATED_LENGTH_CHARACTERS = 1000
"""Length of the filler where a suite has no answer to take the length from."""

CONTROLS = {
    "constant": "constant answer",
    "copy-prompt": "copy of the prompt",
    "length-only": "filler of the baseline's length",
}
"""Name of a control -> its name in tables."""


class ControlGenerator(BaseGenerator):
    """One control as a generator; deterministic, whatever the decoding and the seed.

    Raises:
        InputError: no control of that name.
    """

    def __init__(self, control: str, model_id: str = "") -> None:
        if control not in CONTROLS:
            raise unknown_name("control", control, CONTROLS)
        self.control, self.model_id = control, model_id or f"control:{control}"

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Hand over an answer to every turn of every question."""
        for question in questions:
            turns = tuple(_text(self.control, question, turn) for turn in range(len(question.turns)))
            finished = ("stop",) * len(turns)
            on_answer(
                Answer(
                    question.suite,
                    question.id,
                    self.model_id,
                    turns,
                    finish_reasons=finished,
                    decoding=decoding.name,
                    decoding_hash=decoding.hash,
                )
            )


def fingerprint(control: str) -> str:
    """Hash all that decides a control's answers: other texts are other answers, and are judged anew.

    Raises:
        InputError: no control of that name.
    """
    if control not in CONTROLS:
        raise unknown_name("control", control, CONTROLS)
    texts = {"constant": CONSTANT, "copy-prompt": "", "length-only": f"{STATED_LENGTH_CHARACTERS} {FILLER}"}
    return sha256_json(["control", control, texts[control]])


def filler(length: int) -> str:
    """Return sentences without content of exactly `length` characters, with full stops to the end.

    >>> len(filler(77)), filler(20)
    (77, 'There is more than..')
    """
    said = (FILLER * (length // len(FILLER) + 1))[: max(0, length - 1)].rstrip(" ,.")
    return said + "." * (length - len(said))


def _text(control: str, question: Question, turn: int) -> str:
    if control == "constant":
        return CONSTANT
    if control == "copy-prompt":
        return question.turns[turn]
    return filler(len(question.reference[turn]) if turn < len(question.reference) else STATED_LENGTH_CHARACTERS)
