"""Answers from any OpenAI-compatible server, with the judges' client: retries, adaptive concurrency, stored replies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from seft_bench.answers import Turn, turn_of, with_turns
from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.generators import BaseGenerator, Decoding, OnAnswer
from seft_bench.inference.client import ChatCall, ChatClient
from seft_bench.inference.replies import KEPT, Reply
from seft_bench.inference.weights import Adapt, fingerprint_local_weights
from seft_bench.records import UNANSWERED, Answer, AnswerStatus, Message, Question
from seft_bench.texts import utf8

MOST_WHY_CHARACTERS = 500
"""Of a server's words that are kept where an answer should be."""


class OpenAICompatibleGenerator(BaseGenerator):
    """A model behind a chat-completions server.

    Args:
        client: of the server; its store keeps answers the moment that they arrive.
        adapt: makes the sampling parameters what this server takes.
    """

    def __init__(self, model: str, client: ChatClient, adapt: Adapt = dict) -> None:
        self.model_id, self._client, self._adapt = model, client, adapt
        self.notes: list[str] = []

    @property
    def client(self) -> ChatClient:
        return self._client

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Answer turn by turn over all questions: a second turn needs the first one's answer.

        A turn that the server refuses is answered with "". One that outgrows its context, or fails, has no answer, and
        neither have the remaining turns of that question, which are not asked.

        Raises:
            ServiceUnavailableError: some questions got an error; the same command asks for those only.
            InputError: the server refuses some for good.
        """
        self.fingerprint()
        chats = [_Chat(question) for question in questions]
        for turn in range(max((len(question.turns) for question in questions), default=0)):
            asked = [chat for chat in chats if not chat.is_over]
            for chat in asked:
                chat.ask()
            calls = [
                ChatCall(tuple(chat.messages), self._adapt(_sampling(chat.question, turn, decoding))) for chat in asked
            ]
            self._run(calls, self._taker(asked, decoding, on_answer))
        _report_failures([chat for chat in chats if chat.has_error])

    def _run(self, calls: Sequence[ChatCall], take: Callable[[int, Reply], None]) -> None:
        """Send the first call alone: what the server refuses of every request is then asked once."""
        try:
            self.client.run(calls[:1], take)
            self.client.run(calls[1:], lambda index, reply: take(index + 1, reply))
        finally:
            self.notes += [note for note in self.client.notes if note not in self.notes]

    def fingerprint(self) -> str:
        """Hash the weights that answer now; "" if a provider keeps them behind a key.

        The hash enters every key of the store.
        """
        note = fingerprint_local_weights(self.client, self._adapt)
        self.notes += [note] if note and note not in self.notes else []
        return self.client.weights_fingerprint

    def _taker(self, asked: Sequence[_Chat], decoding: Decoding, on_answer: OnAnswer) -> Callable[[int, Reply], None]:
        opened = self._opens_reasoning(decoding)

        def take(index: int, reply: Reply) -> None:
            chat = asked[index]
            chat.take(reply, decoding.keeps_reasoning, opened)
            self._note_model(reply.model)
            if chat.is_over and not chat.has_error:
                on_answer(chat.as_answer(self.model_id, decoding))

        return take

    def _opens_reasoning(self, decoding: Decoding) -> bool:
        """Return whether prompts are known to end with the mark that opens reasoning."""
        return False

    def _note_model(self, returned: str) -> None:
        note = f"asked for model {self.model_id}, the server returned {returned}"
        if returned not in ("", self.model_id) and note not in self.notes:
            self.notes.append(note)


class _Chat:
    """One question's conversation under way."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.messages: list[Message] = []
        self.replies: list[Reply] = []
        self.turns: list[Turn] = []

    @property
    def failed(self) -> AnswerStatus | None:
        """The status of the turn that has no answer."""
        return next((turn.status for turn in self.turns if turn.status in UNANSWERED), None)

    @property
    def has_error(self) -> bool:
        return self.failed in ("api_error", "partial")

    @property
    def is_over(self) -> bool:
        return len(self.replies) == len(self.question.turns) or self.failed is not None

    @property
    def why(self) -> str:
        """What the server said instead of an answer."""
        last = self.replies[-1]
        return (last.error or last.text)[:MOST_WHY_CHARACTERS] if self.failed else ""

    def ask(self) -> None:
        if self.turns:
            self.messages.append({"role": "assistant", "content": self.turns[-1].text})
        self.messages.append({"role": "user", "content": self.question.turns[len(self.replies)]})

    def take(self, reply: Reply, keep: bool, opened: bool) -> None:
        self.replies.append(reply)
        words = reply.text if reply.status in (*KEPT, "partial") else ""
        finish = _finish_reason(reply)
        self.turns.append(turn_of(words, finish, keep=keep, opened=opened and bool(words), apart=reply.reasoning))

    def as_answer(self, model_id: str, decoding: Decoding) -> Answer:
        answer = Answer(
            suite=self.question.suite,
            question_id=self.question.id,
            model_id=model_id,
            turns=(),
            messages=tuple(self.messages),
            finish_reasons=tuple(map(_finish_reason, self.replies)),
            prompt_tokens=tuple(reply.prompt_tokens or 0 for reply in self.replies),
            completion_tokens=tuple(reply.completion_tokens or 0 for reply in self.replies),
            decoding=decoding.name,
            decoding_hash=decoding.hash,
            why=self.why,
        )
        unasked = len(self.question.turns) - len(self.turns)
        return with_turns(answer, [*self.turns, *[Turn("", "", self.turns[-1].status)] * unasked])


def _finish_reason(reply: Reply) -> str:
    return reply.finish_reason if reply.status in KEPT else reply.status


def _sampling(question: Question, turn: int, decoding: Decoding) -> dict[str, Any]:
    told = {"chat_template_kwargs": decoding.template_args} if decoding.template_args else {}
    return {
        "temperature": decoding.temperature_for(question),
        "top_p": decoding.top_p,
        "max_tokens": decoding.max_new_tokens,
        "seed": question_seed(decoding.seed, question, turn),
        **told,
    }


def question_seed(seed: int, question: Question, turn: int) -> int:
    """Return a seed of its own for each question and turn: in [0, 2^31), which every server takes."""
    digest = hashlib.sha256(utf8(f"{seed}/{question.suite}/{question.id}/{turn}")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _report_failures(failed: Sequence[_Chat]) -> None:
    """Raise for questions without an answer, as something that another time may mend where one of them is."""
    passing = [chat for chat in failed if chat.replies[-1].attempts_failed]
    for chat in passing or failed:
        said = f"{len(failed)} questions have no answer; the first one, {chat.question.id}: {chat.why}."
        if passing:
            raise ServiceUnavailableError(f"{said} The same command asks for them only.")
        raise InputError(f"{said} The server refuses these requests, and would again.")
