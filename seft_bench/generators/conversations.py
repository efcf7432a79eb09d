"""Questions of several turns as batches of conversations: the common half of the generators in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seft_bench.answers import Turn, turn_of, with_turns
from seft_bench.chat import answer_text, opens_reasoning
from seft_bench.generators import BaseGenerator, Decoding, OnAnswer
from seft_bench.records import Answer, Message, Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Completion:
    """One generated text; token counts include the stop token.

    `finish_reason` is "stop", "length" (cut at the limit or at the end of the model's context), or "over_length" (the
    prompt alone fills the context, so there is no answer). `draft` is what a reviser was shown; None where there was
    none.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    draft: str | None = None


@dataclass(frozen=True)
class Sampling:
    """The sampling of one conversation: temperature 0 is greedy; `key` seeds its own stream of random numbers."""

    key: str
    temperature: float
    top_p: float = 1.0


class ConversationGenerator(BaseGenerator):
    """Answers questions turn by turn; a subclass says how one batch of conversations is continued.

    Attributes:
        batch_size: conversations that are continued together; answers are handed over after four batches.
        stops: ids of the tokens that end an answer.
    """

    model_id: str
    batch_size: int
    tokenizer: PreTrainedTokenizerBase
    stops: Sequence[int]

    def complete(
        self,
        conversations: Sequence[Sequence[Message]],
        samplings: Sequence[Sampling],
        max_new_tokens: int,
        seed: int,
        template_args: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Continue every conversation with one assistant's message, in the order given.

        Args:
            template_args: what the chat template is told beside the messages.
        """
        raise NotImplementedError

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Answer every turn of every question; `on_answer` gets each one when its last turn is done."""
        for start in range(0, len(questions), self.batch_size * 4):
            for answer in self._answer_chunk(questions[start : start + self.batch_size * 4], decoding):
                on_answer(answer)

    def _answer_chunk(self, questions: Sequence[Question], decoding: Decoding) -> list[Answer]:
        opened = self._opens_reasoning(decoding)
        conversations: list[list[Message]] = [[] for _ in questions]
        answers: list[list[Turn]] = [[] for _ in questions]
        completions: list[list[Completion]] = [[] for _ in questions]
        for turn in range(max((len(question.turns) for question in questions), default=0)):
            active = [index for index, question in enumerate(questions) if turn < len(question.turns)]
            for index in active:
                _open_turn(conversations[index], answers[index], questions[index].turns[turn])
            samplings = [_sampling(questions[index], turn, decoding) for index in active]
            asked = [conversations[index] for index in active]
            drawn = self.complete(asked, samplings, decoding.max_new_tokens, decoding.seed, decoding.template_args)
            for index, completion in zip(active, drawn, strict=True):
                completions[index].append(completion)
                keep, reason = decoding.keeps_reasoning, completion.finish_reason
                answers[index].append(turn_of(completion.text, reason, keep=keep, opened=opened))
        finished = zip(questions, conversations, completions, answers, strict=True)
        return [self._finished(*one, decoding) for one in finished]

    def _opens_reasoning(self, decoding: Decoding) -> bool:
        """Return whether prompts end with the mark that opens reasoning."""
        return opens_reasoning(self.tokenizer, decoding.template_args)

    def _finished(
        self,
        question: Question,
        conversation: Sequence[Message],
        done: Sequence[Completion],
        turns: Sequence[Turn],
        decoding: Decoding,
    ) -> Answer:
        answer = Answer(
            suite=question.suite,
            question_id=question.id,
            model_id=self.model_id,
            turns=(),
            messages=tuple(conversation),
            finish_reasons=tuple(completion.finish_reason for completion in done),
            prompt_tokens=tuple(completion.prompt_tokens for completion in done),
            completion_tokens=tuple(completion.completion_tokens for completion in done),
            decoding=decoding.name,
            decoding_hash=decoding.hash,
            why=_why(done),
            drafts=tuple(one.draft or "" for one in done) if any(one.draft is not None for one in done) else (),
        )
        return with_turns(answer, turns)

    def _completion(self, prompt_tokens: int, ids: list[int]) -> Completion:
        stopped = bool(ids) and ids[-1] in self.stops
        return Completion(
            answer_text(self.tokenizer, ids, self.stops), "stop" if stopped else "length", prompt_tokens, len(ids)
        )


def over_length(prompts: Sequence[Sequence[int]], context_tokens: int) -> dict[int, Completion]:
    """Map index -> the empty completion, of the prompts that fill the context alone."""
    lengths = enumerate(map(len, prompts))
    return {index: Completion("", "over_length", length, 0) for index, length in lengths if length >= context_tokens}


def _why(done: Sequence[Completion]) -> str:
    over = [completion for completion in done if completion.finish_reason == "over_length"]
    return f"a prompt of {over[0].prompt_tokens} tokens fills the model's context" if over else ""


def _open_turn(conversation: list[Message], done: Sequence[Turn], turn: str) -> None:
    if done:
        conversation.append({"role": "assistant", "content": done[-1].text})
    conversation.append({"role": "user", "content": turn})


def _sampling(question: Question, turn: int, decoding: Decoding) -> Sampling:
    key = f"{question.suite}/{question.id}/{turn}"
    return Sampling(key, decoding.temperature_for(question), decoding.top_p)
