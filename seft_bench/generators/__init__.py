"""Generators: the protocol of everything that answers questions, and a base for most of them.

A generator is one file with a class that has `Generator`'s methods. Who makes one: `subjects` for a MODEL argument (a
checkpoint, a file, a control, a server), `evaluation.engines` for `--engine`, `stages.sample` for drafts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from seft_bench.config import DecodingConfig
from seft_bench.files import sha256_json
from seft_bench.records import Answer, Question

if TYPE_CHECKING:
    from seft_bench.inference.client import ChatClient

GIVEN = "given"
"""The decoding of ready answers, which come as they are, but for reasoning, which is taken out."""
GIVEN_WITH_REASONING = "given-with-reasoning"
"""The decoding of ready answers with their reasoning left in."""

OnAnswer = Callable[[Answer], None]


@dataclass(frozen=True)
class Decoding:
    """The settings that decide how answers are drawn.

    Attributes:
        name: as the suite's YAML has it ("sampled", "greedy", "official"); "given" for ready answers.
        settings: None for ready answers, which nobody draws.
        seed: of the run; each question and turn draws from a stream of its own.
    """

    name: str
    settings: DecodingConfig | None
    max_new_tokens: int
    seed: int

    @cached_property
    def hash(self) -> str:
        """16 hex digits of settings, limit and seed, which set answers drawn in one way apart; "" for ready answers."""
        if self.settings is None:
            return ""
        return sha256_json([self.settings.model_dump(), self.max_new_tokens, self.seed])[:16]

    @property
    def template_args(self) -> dict[str, Any]:
        """What the chat template is told beside the messages."""
        return dict(self.settings.template_args) if self.settings else {}

    @property
    def keeps_reasoning(self) -> bool:
        """True if the reasoning that a model writes into its answer stays part of it."""
        return self.settings.reasoning == "keep" if self.settings else self.name == GIVEN_WITH_REASONING

    @property
    def top_p(self) -> float:
        return self._drawn.top_p

    def temperature_for(self, question: Question) -> float:
        """Return the temperature of the question's category, else the decoding's own."""
        return self._drawn.by_category.get(question.category, self._drawn.temperature)

    @property
    def _drawn(self) -> DecodingConfig:
        if self.settings is None:
            raise ValueError(f"decoding {self.name} has no settings: ready answers are not drawn")
        return self.settings


class Generator(Protocol):
    """Anything that answers questions.

    Attributes:
        model_id: name of the model in records and tables.
        client: of the server that answers, where one does; None: nothing is sent, nothing paid.
    """

    model_id: str

    @property
    def client(self) -> ChatClient | None: ...

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions that cannot be answered, before anything else is done.

        Raises:
            InputError: a file of answers has none of these.
        """

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Answer every turn of every question, handing over each answer when its last turn is done.

        Raises:
            InputError, ServiceUnavailableError: some questions could not be answered; what was answered was handed
                over.
        """


class BaseGenerator:
    """A generator that asks no server and takes all questions; subclasses override what differs."""

    @property
    def client(self) -> ChatClient | None:
        return None

    def check(self, questions: Sequence[Question]) -> None:
        """Take all questions."""
