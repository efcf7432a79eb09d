"""Answers of an aligner: a policy drafts, a reviser corrects, turn by turn, so that later turns see what was corrected.

After Aligner (Ji et al. 2024, arXiv 2402.02416). The policy is a model, or a file of answers that any other one gave.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from seft_bench.answers import statuses_of, turn_of
from seft_bench.chat import opens_reasoning
from seft_bench.config import DecodingConfig
from seft_bench.generators import Decoding, OnAnswer
from seft_bench.generators.conversations import Completion, ConversationGenerator, Sampling
from seft_bench.generators.recorded import ReadyGenerator
from seft_bench.records import ANSWERED, UNANSWERED, Answer, Message, Question

Conversation = Sequence[Message]

Ask = Callable[[Conversation, str], list[Message]]
"""Makes the conversation in which a reviser is asked to revise a draft: the very one of its training."""

Keeps = Callable[[Sequence[Conversation], Sequence[str], Sequence[str]], Sequence[bool]]
"""Says of every draft whether it is kept, given the conversations that ask for revisions, the drafts, the revisions."""


def revise_all(asked: Sequence[Conversation], drafts: Sequence[str], revisions: Sequence[str]) -> Sequence[bool]:
    """Keep no draft."""
    return [False] * len(drafts)


@dataclasses.dataclass(frozen=True)
class Corrector:
    """A reviser, how it is asked, and who decides.

    Attributes:
        temperature: of revisions; 0 is greedy.
        max_new_tokens: of a revision; None: as many as of the draft.
    """

    reviser: ConversationGenerator
    ask: Ask
    keeps: Keeps = revise_all
    temperature: float = 0.0
    max_new_tokens: int | None = None


class AlignerGenerator(ConversationGenerator):
    """A policy, and a reviser over it.

    What the policy could not answer, and an empty draft, is not revised; a draft for which the reviser's context has no
    room stays. Reasoning is taken out of drafts before they are revised, and out of revisions.

    Args:
        policy, corrector: load the two models; called when the first answer is asked for.
    """

    def __init__(
        self,
        model_id: str,
        policy: Callable[[], ConversationGenerator],
        corrector: Callable[[], Corrector],
        *,
        batch_size: int = 128,
    ) -> None:
        self.model_id, self.batch_size = model_id, batch_size
        self._load_policy, self._load_corrector = policy, corrector

    @cached_property
    def policy(self) -> ConversationGenerator:
        return self._load_policy()

    @cached_property
    def corrector(self) -> Corrector:
        return self._load_corrector()

    def complete(
        self,
        conversations: Sequence[Conversation],
        samplings: Sequence[Sampling],
        max_new_tokens: int,
        seed: int,
        template_args: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Draft and revise the next message of every conversation, in the order given.

        Token counts are of both models together.
        """
        drafted = self.policy.complete(conversations, samplings, max_new_tokens, seed, template_args)
        done = [_apart(self.policy, completion, template_args) for completion in drafted]
        chosen = [index for index, draft in enumerate(done) if draft.text.strip() and _is_answered(draft)]
        asked = [self.corrector.ask(conversations[index], done[index].text) for index in chosen]
        drawn = [Sampling(f"{samplings[index].key}/revision", self.corrector.temperature) for index in chosen]
        limit = self.corrector.max_new_tokens or max_new_tokens
        written = self.corrector.reviser.complete(asked, drawn, limit, seed, template_args) if asked else []
        revised = [_apart(self.corrector.reviser, completion, template_args) for completion in written]
        drafts = [done[index].text for index in chosen]
        kept = self.corrector.keeps(asked, drafts, [one.text for one in revised]) if asked else []
        for index, revision, keep in zip(chosen, revised, kept, strict=True):
            done[index] = _corrected(done[index], revision, keep or revision.finish_reason == "over_length")
        return done

    def _opens_reasoning(self, decoding: Decoding) -> bool:
        return False  # it is out of the texts already


def _apart(model: ConversationGenerator, completion: Completion, template_args: Mapping[str, Any] | None) -> Completion:
    """Return a model's text without its reasoning; one that is reasoning all through was cut."""
    turn = turn_of(completion.text, completion.finish_reason, opened=_opened(model, template_args))
    finish = "length" if turn.status == "cut" else completion.finish_reason
    return dataclasses.replace(completion, text=turn.text, finish_reason=finish)


def _opened(model: ConversationGenerator, template_args: Mapping[str, Any] | None) -> bool:
    return not isinstance(model, RecordedPolicy) and opens_reasoning(model.tokenizer, template_args or {})


def _is_answered(completion: Completion) -> bool:
    return turn_of(completion.text, completion.finish_reason, keep=True).status in ANSWERED


def _corrected(draft: Completion, revision: Completion, keep: bool) -> Completion:
    """Return what is answered, with the tokens that both models read and wrote for it."""
    answered = draft if keep else revision
    return dataclasses.replace(
        answered,
        prompt_tokens=draft.prompt_tokens + revision.prompt_tokens,
        completion_tokens=draft.completion_tokens + revision.completion_tokens,
        draft=draft.text,
    )


# Over answers that are there already


class RecordedPolicy(ConversationGenerator):
    """A policy that gives, for the key of a question's turn, the answer that was recorded."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self._turns: dict[str, Completion] = {}

    def add(self, answer: Answer) -> None:
        """Take an answer in."""
        for number in range(len(answer.turns)):
            self._turns[f"{answer.suite}/{answer.question_id}/{number}"] = _completion(answer, number)

    def complete(
        self,
        conversations: Sequence[Conversation],
        samplings: Sequence[Sampling],
        max_new_tokens: int,
        seed: int,
        template_args: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Return what was recorded; neither limit nor temperature change it."""
        return [self._turns[sampling.key] for sampling in samplings]


def _completion(answer: Answer, number: int) -> Completion:
    status = statuses_of(answer)[number]
    known = status in UNANSWERED or status == "refused"
    finish = status if known else "length" if status == "cut" else "stop"
    prompt, written = _at(answer.prompt_tokens, number), _at(answer.completion_tokens, number)
    return Completion(answer.turns[number], finish, prompt, written)


def _at(counts: Sequence[int], number: int) -> int:
    """Return a turn's count of tokens; 0 where the file says none."""
    return counts[number] if number < len(counts) else 0


class RevisedAnswers(AlignerGenerator):
    """A reviser over a file of answers, whose later turns were written to the earlier ones as they were.

    Args:
        recorded: the answers.
    """

    def __init__(self, model_id: str, recorded: ReadyGenerator, corrector: Callable[[], Corrector]) -> None:
        self._policy = RecordedPolicy(model_id)
        super().__init__(model_id, lambda: self._policy, corrector)
        self._ready = recorded

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions of which the file answers none, or none with all its turns.

        Raises:
            InputError: it is so.
        """
        self._ready.check(questions)

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Revise the file's answers; a question without one stays unanswered, which lowers coverage.

        Raises:
            InputError: see `check`.
        """
        turns: dict[str, int] = {}

        def take(answer: Answer) -> None:
            self._policy.add(answer)
            turns[answer.question_id] = len(answer.turns)

        self._ready.answer(questions, decoding, take)
        given = [
            dataclasses.replace(question, turns=question.turns[: turns[question.id]])
            for question in questions
            if question.id in turns
        ]
        settings = DecodingConfig(temperature=0.0, reasoning="keep" if decoding.keeps_reasoning else "strip")
        super().answer(given, dataclasses.replace(decoding, settings=settings), on_answer)
