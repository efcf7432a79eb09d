"""JSONL rows -> tokenised examples, and the order in which the loop takes them.

Row formats, told apart by their keys:

    {"prompt": [messages], "answer": "text"}                          SFT; the answer is learnt
    {"messages": [messages]}                                          SFT; the last message, the assistant's, is learnt
    {"text": "plain text"}                                            pre-training; everything is learnt, then EOS
    {"prompt": [messages], "chosen": "text", "rejected": "text"}      pairs

What is learnt is told by position (`Sequence.prompt_tokens`), never by comparing ids with the padding token, which
may be the stop token itself.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seft_bench.chat import answer_ids
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl
from seft_bench.records import Message, Row

BATCHES_IN_A_CHUNK = 16
"""Global batches that are sorted by length together.

Enough to cut padding to a few percent, few enough to stay shuffled.
"""


class Tokens(NamedTuple):
    """One sequence: `ids` (prompt, then answer) and how many of them are the prompt, which is not learnt."""

    ids: array[int]
    prompt_tokens: int

    @classmethod
    def of(cls, prompt: Sequence[int], answer: Sequence[int]) -> Tokens:
        return cls(array("i", [*prompt, *answer]), len(prompt))

    @property
    def labelled(self) -> int:
        """Tokens that are learnt; a sequence's very first token has nothing before it to be predicted from."""
        return len(self.ids) - max(1, self.prompt_tokens)


class Example(NamedTuple):
    """One training example; `rejected` is None unless the loss compares two answers."""

    chosen: Tokens
    rejected: Tokens | None = None

    @property
    def sequences(self) -> tuple[Tokens, ...]:
        return (self.chosen,) if self.rejected is None else (self.chosen, self.rejected)

    @property
    def length(self) -> int:
        """Tokens of the longest sequence, to which a batch is padded."""
        return max(len(sequence.ids) for sequence in self.sequences)


@dataclass(frozen=True, slots=True)
class DataCounts:
    """Counts of what became of a data set's rows.

    Attributes:
        rows: rows of the file.
        used: examples to train on.
        dropped_too_long: prompts that leave an answer no room.
        truncated_answers: answers (each side of a pair counts) cut at the maximal length, which lack the stop token.
        tokens, labelled_tokens: of one epoch, both sides of pairs.
    """

    rows: int
    used: int
    dropped_too_long: int
    truncated_answers: int
    tokens: int
    labelled_tokens: int


class RowError(ValueError):
    """A fault of one row; the caller knows file and line."""


def load_examples(path: Path, tokenizer: Any, *, pairs: bool, max_length: int) -> tuple[list[Example], DataCounts]:
    """Read and tokenise a data set.

    Args:
        pairs: rows are (prompt, chosen, rejected), else one of the SFT formats.
        max_length: tokens of prompt and answer together; longer answers are cut, prompts never.

    Raises:
        InputError: the file or a row is malformed (with its line number), or no example is left.
    """
    rows = read_jsonl(path, "training data")
    full = _tokenised(rows, path, tokenizer, pairs)
    kept = [example for example in full if _has_room(example, max_length)]
    if not kept:
        shortest = min(example.chosen.prompt_tokens for example in full)
        raise InputError(
            f"training data {path}: of {len(rows)} rows none leaves room for an answer within max_length = "
            f"{max_length} tokens (the shortest prompt has {shortest}). Raise max_length."
        )
    examples = [Example(*(_cut(sequence, max_length) for sequence in example.sequences)) for example in kept]
    return examples, _count(full, kept, examples, max_length)


def _tokenised(rows: Sequence[Row], path: Path, tokenizer: Any, pairs: bool) -> list[Example]:
    parse = _pair_example if pairs else _single_example
    examples = []
    for position, row in enumerate(rows):
        try:
            examples.append(parse(tokenizer, row))
        except RowError as error:
            raise InputError(f"training data {path}, line {_line_number(path, position)}: {error}") from None
    return examples


def _line_number(path: Path, position: int) -> int:
    """Line of the row at `position`; blank lines hold no rows."""
    filled = [
        number for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1) if line.strip()
    ]
    return filled[position]


def _single_example(tokenizer: Any, row: Row) -> Example:
    if "text" in row:
        ids = tokenizer(_text(row, "text"), add_special_tokens=False)["input_ids"]
        return Example(Tokens.of([], [*ids, tokenizer.eos_token_id]))
    if "messages" in row:
        *prompt, last = _messages(row, "messages")
        if last["role"] != "assistant" or not prompt:
            raise RowError("'messages' must end with the assistant's answer to an earlier message")
        return Example(_tokens(tokenizer, prompt, last["content"]))
    _require(row, ("prompt", "answer"), "an SFT row has 'prompt' and 'answer', or 'messages', or 'text'")
    return Example(_tokens(tokenizer, _messages(row, "prompt"), _text(row, "answer")))


def _pair_example(tokenizer: Any, row: Row) -> Example:
    _require(row, ("prompt", "chosen", "rejected"), "a row of pairs has 'prompt', 'chosen' and 'rejected'")
    prompt = _messages(row, "prompt")
    return Example(_tokens(tokenizer, prompt, _text(row, "chosen")), _tokens(tokenizer, prompt, _text(row, "rejected")))


def _tokens(tokenizer: Any, prompt: Sequence[Message], answer: str) -> Tokens:
    return Tokens.of(*answer_ids(tokenizer, prompt, answer))


def _require(row: Row, keys: Sequence[str], rule: str) -> None:
    missing = [key for key in keys if key not in row]
    if missing:
        raise RowError(
            f"key {', '.join(missing)} is missing ({rule}); this row has {', '.join(sorted(row)) or 'no keys'}"
        )


def _text(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise RowError(f"{key!r} must be text, this is {type(value).__name__}")
    return value


def _messages(row: Row, key: str) -> list[Message]:
    messages = row[key]
    if not isinstance(messages, list) or not messages:
        raise RowError(f"{key!r} must be a list of messages with at least one, this is {type(messages).__name__}")
    for message in messages:
        if (
            not isinstance(message, dict)
            or not isinstance(message.get("content"), str)
            or message.get("role") not in ("system", "user", "assistant")
        ):
            raise RowError(
                f"{key!r}: a message is {{'role': 'system' | 'user' | 'assistant', 'content': text}}, this is "
                f"{str(message)[:80]}"
            )
    return messages


def _has_room(example: Example, max_length: int) -> bool:
    """Return whether something is left to learn on every side after the cut."""
    return all(_cut(sequence, max_length).labelled > 0 for sequence in example.sequences)


def _cut(sequence: Tokens, max_length: int) -> Tokens:
    return Tokens(sequence.ids[:max_length], sequence.prompt_tokens)


def _count(
    full: Sequence[Example], kept: Sequence[Example], examples: Sequence[Example], max_length: int
) -> DataCounts:
    sequences = [sequence for example in examples for sequence in example.sequences]
    return DataCounts(
        rows=len(full),
        used=len(examples),
        dropped_too_long=len(full) - len(examples),
        truncated_answers=sum(len(sequence.ids) > max_length for example in kept for sequence in example.sequences),
        tokens=sum(len(sequence.ids) for sequence in sequences),
        labelled_tokens=sum(sequence.labelled for sequence in sequences),
    )


def batch_plan(lengths: Sequence[int], global_batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Plan the global batches of one epoch: indices of examples, each exactly once, similar lengths together.

    Shuffle, sort by length within chunks, cut into batches, shuffle the batches. The plan follows from the arguments
    alone, so a resumed run needs no state of a random generator.
    """
    generator = random.Random(f"batch plan/{seed}/{epoch}")
    order = list(range(len(lengths)))
    generator.shuffle(order)
    chunk_size = global_batch_size * BATCHES_IN_A_CHUNK
    chunks = [order[start : start + chunk_size] for start in range(0, len(order), chunk_size)]
    by_length = [index for chunk in chunks for index in sorted(chunk, key=lambda index: lengths[index])]
    batches = [by_length[start : start + global_batch_size] for start in range(0, len(by_length), global_batch_size)]
    generator.shuffle(batches)
    return batches


def micro_batches(batch: Sequence[int], size: int) -> list[Sequence[int]]:
    """Cut a global batch into the parts that go through the model together."""
    return [batch[start : start + size] for start in range(0, len(batch), size)]


class Batch(NamedTuple):
    """Sequences padded on the right to the longest.

    Attributes:
        ids: [n, width] int64.
        labelled: [n, width] bool, True where the token is learnt.
    """

    ids: Tensor
    labelled: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.ids.to(device, non_blocking=True), self.labelled.to(device, non_blocking=True))


def collate(sequences: Iterable[Tokens]) -> Batch:
    """Pad on the right with id 0: under causal attention no real token ever sees it, and it is never labelled."""
    rows = list(sequences)
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    labelled = torch.zeros(len(rows), width, dtype=torch.bool)
    for position, row in enumerate(rows):
        ids[position, : len(row.ids)] = torch.frombuffer(row.ids, dtype=torch.int32)
        labelled[position, max(1, row.prompt_tokens) : len(row.ids)] = True
    return Batch(ids, labelled)
