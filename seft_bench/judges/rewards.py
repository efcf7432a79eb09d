"""Rewards of conversations, from a sequence-classification model that is loaded when needed and read in batches."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.chat import check_ids, conversation_ids
from seft_bench.checkpoints.batches import Batches, free_memory
from seft_bench.checkpoints.classifiers import load_reward_model
from seft_bench.errors import InputError
from seft_bench.judges.local import LocalModel
from seft_bench.records import Message, Status

Conversation = tuple[tuple[str, str], ...]
"""Messages in their order, each a role and a text."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A conversation's reward, or why it has none. `tokens` is its exact length."""

    tokens: int
    reward: float | None = None
    status: Status = "ok"
    why: str = ""


def conversation(questions: Sequence[str], answers: Sequence[str]) -> Conversation:
    """Return the user's turns that were answered, each with its answer."""
    turns = zip(questions, answers, strict=False)
    return tuple(message for asked, said in turns for message in (("user", asked), ("assistant", said)))


class RewardReader:
    """Reads rewards, each once in a run: a baseline's answer serves every model that meets it."""

    def __init__(self, model: LocalModel, batch_size: int) -> None:
        self.model = model
        self._batches = Batches(batch_size, f"judge {model.judge}")
        self._classifier: Any = None
        self._known: dict[Conversation, Scored] = {}

    def check(self) -> None:
        """Check without the weights: the right kind of model, one output, a template that takes a conversation.

        Raises:
            InputError: something is not so.
        """
        self.model.check_architecture(("ForSequenceClassification",), "a reward model (sequence classification)")
        outputs = self.model.config.num_labels
        if outputs != 1:
            raise InputError(
                f"judge {self.model.judge}: {self.model.name} has {outputs} outputs, and a reward model has one "
                "(num_labels in config.json)"
            )
        self._ids(conversation(["How are you?"], ["Well."]))

    @contextlib.contextmanager
    def loaded(self) -> Iterator[None]:
        """Read the weights at their first use inside, and drop them on leaving."""
        with self.model.memory_guard():
            try:
                yield
            finally:
                self._classifier = None
                free_memory()

    def read(self, conversations: Sequence[Conversation]) -> Iterator[dict[Conversation, Scored]]:
        """Yield rewards of different conversations: first those that need no model, then batches, shortest first."""
        self.check()
        ids = {item: self._ids(item) for item in conversations if item not in self._known}
        limit = self.model.context_tokens
        self._known |= {item: self._too_long(len(tokens)) for item, tokens in ids.items() if len(tokens) > limit}
        yield {item: self._known[item] for item in conversations if item in self._known}
        wanted = [item for item in ids if item not in self._known]
        by_length = sorted(wanted, key=lambda item: len(ids[item]))
        for item, reward in self._batches.over(by_length, lambda batch: self._forward([ids[item] for item in batch])):
            self._known[item] = _scored(len(ids[item]), reward)
            yield {item: self._known[item]}

    def forget(self) -> None:
        """Let go of the rewards that were read."""
        self._known.clear()

    def _ids(self, item: Conversation) -> list[int]:
        messages: list[Message] = [{"role": role, "content": text} for role, text in item]
        try:
            return conversation_ids(self.model.tokenizer, messages)
        except InputError as error:
            raise InputError(f"judge {self.model.judge} ({self.model.name}): {error}") from None

    def _too_long(self, tokens: int) -> Scored:
        why = f"not asked: the conversation has {tokens} tokens, the reward model's context {self.model.context_tokens}"
        return Scored(tokens, None, "over_length", why)

    def _forward(self, rows: Sequence[list[int]]) -> list[float]:
        """Return one reward a row.

        Padding stands on the right, under a mask, where neither a causal model nor an encoder looks.
        """
        import torch

        if self._classifier is None:
            self._classifier = load_classifier(self.model)
        check_ids(rows, self._classifier)
        padding = self._padding(rows)
        width = max(len(row) for row in rows)
        ids = torch.tensor([row + [padding] * (width - len(row)) for row in rows], device=self._classifier.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._classifier.device)
        with torch.inference_mode():
            logits = self._classifier(input_ids=ids, attention_mask=mask).logits
        return [float(value) for value in logits.float().reshape(len(rows), -1)[:, 0].tolist()]

    def _padding(self, rows: Sequence[list[int]]) -> int:
        """Return the id to fill up with.

        transformers reads the reward at the last token that is not the configured padding. A model without one reads
        the very last token, and takes no batches; an id that is in none of the texts, set for this batch, gives the
        same figure.
        """
        config = self.model.config.get_text_config()
        padding = getattr(config, "pad_token_id", None)
        if padding is not None:
            return int(padding)
        used = {token for row in rows for token in row}
        free = next((token for token in range(config.vocab_size) if token not in used), None)
        if free is None:
            raise InputError(
                f"judge {self.model.judge}: every token of {self.model.name} is in one batch, so none can pad it. Set "
                "a smaller batch_size."
            )
        for part in (self._classifier.config, self._classifier.config.get_text_config()):
            part.pad_token_id = free
        return free


def open_reader(folder: Path, device: str = "auto", batch_size: int = 16) -> RewardReader:
    """Open the reward model of a folder, without its weights.

    Raises:
        InputError: there is none.
    """
    reader = RewardReader(LocalModel(f"of samples ({folder.name})", str(folder), device), batch_size)
    reader.check()
    return reader


def read_samples(reader: RewardReader, samples: Sequence[tuple[Sequence[Message], str]]) -> list[Scored | None]:
    """Read the rewards of answers, each behind the messages of its prompt; an empty answer has none.

    Nothing is remembered: a policy that trains hardly gives an answer twice.
    """
    asked = [_sample(prompt, text) if text.strip() else None for prompt, text in samples]
    found: dict[Conversation, Scored] = {}
    for scored in reader.read(list(dict.fromkeys(filter(None, asked)))):
        found |= scored
    reader.forget()
    return [found[item] if item else None for item in asked]


def _sample(prompt: Sequence[Message], text: str) -> Conversation:
    return (*((message["role"], message["content"]) for message in prompt), ("assistant", text))


def _scored(tokens: int, reward: float) -> Scored:
    if math.isfinite(reward):
        return Scored(tokens, reward)
    why = f"the reward is {reward}, no finite number (overflow in the model's number format?)"
    return Scored(tokens, None, "api_error", why)


def load_classifier(model: LocalModel) -> Any:
    """Load the model with its weights, in evaluation mode.

    Raises:
        InputError: it cannot be loaded, or its weights are not all of this model.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # our own bars say what is going on
    try:
        loaded = load_reward_model(model.folder, **model.load_options)
    except InputError as error:
        raise InputError(f"judge {model.judge}: {error}") from None
    return loaded.to(model.device).eval()
