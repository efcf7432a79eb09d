"""JSONL rows -> tokenised examples, one row at a time.

Row formats, told apart by their keys; a prompt is a list of messages, or the user's text:

    {"prompt": prompt, "answer": "text"}                          SFT; the answer is learnt
    {"prompt": prompt, "answer": "text", "weight": 0.5}           SFT; the answer counts by its weight, else 1
    {"messages": [messages], "learn": "last" | "all"}             SFT; the last answer is learnt, or every one
    {"text": "plain text"}                                        pre-training; everything is learnt, then EOS
    {"prompt": prompt, "chosen": "text", "rejected": "text"}      pairs
    {"prompt": prompt, "answer": "text", "label": true | false}   answers labelled desirable or not
    {"prompt": prompt}                                            prompts whose answers the policy will draw
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from seft_bench.chat import (
    answer_ids,
    answers_ids,
    as_messages,
    assistant,
    conversation_ids,
    conversation_spans,
    prompt_ids,
)
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, read_text
from seft_bench.records import Message, Row

from .tokens import Example, Tokens

Learn = Literal["last", "all"]
"""Which of the assistant's turns of `messages` are learnt."""

Reason = Literal["prompt_too_long", "empty_answer", "equal_pair", "equal_after_truncation", "conversation_too_long"]
REASONS: dict[Reason, str] = {
    "prompt_too_long": "the prompt leaves an answer no room within max_length",
    "empty_answer": "an answer is empty",
    "equal_pair": "chosen and rejected are equal",
    "equal_after_truncation": "chosen and rejected are equal up to max_length",
    "conversation_too_long": "prompt and answer exceed max_length, and a reward is read at an answer's end",
}


class Dropped(Exception):
    """A row that is well-formed and teaches nothing; it is left out and counted."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(REASONS[reason])
        self.reason: Reason = reason


@contextmanager
def located(path: Path, position: int, what: str) -> Iterator[None]:
    """Add file and line to what is wrong with the row at `position`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what} {path}, line {_line_number(path, position)}: {error}") from None


def _line_number(path: Path, position: int) -> int:
    """Line of the row at `position`; blank lines hold no rows."""
    filled = [number for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    return filled[position % len(filled)]  # of a line's several rows the later ones stand behind all lines' first ones


def read_rows(path: Path, what: str, required: Iterable[str] = ()) -> list[Row]:
    """Read rows; a prompt that is a text becomes the user's message.

    Raises:
        InputError: the file is missing or empty, or a row is no object, lacks a key or has a malformed prompt.
    """
    rows = read_jsonl(path, what, required)
    for position, row in enumerate(rows):
        if "prompt" in row:
            with located(path, position, what):
                row["prompt"] = as_messages(row["prompt"])
    return rows


def single_example(tokenizer: Any, row: Row, learn: Learn = "last") -> Example:
    """Tokenise a row of which one answer, or a conversation's answers, are learnt.

    Raises:
        InputError: the row is malformed. Dropped: it teaches nothing.
    """
    if "text" in row:
        ids = tokenizer(_answer(row, "text"), add_special_tokens=False)["input_ids"]
        return Example(Tokens.of([], [*ids, tokenizer.eos_token_id]))
    if "messages" in row:
        return Example(_conversation(tokenizer, row, learn))
    _require(row, ("prompt", "answer"), "an SFT row has 'prompt' and 'answer', or 'messages', or 'text'")
    answered = _answered(tokenizer, as_messages(row["prompt"]), _answer(row, "answer"))
    return Example(answered, weight=_weight(row) if "weight" in row else None)


def _weight(row: Row) -> float:
    value = row["weight"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"'weight' is a finite number of at least 0, this is {value!r}")
    return float(value)


def pair_example(tokenizer: Any, row: Row) -> Example:
    """Tokenise a row of which two answers are compared.

    Raises:
        InputError: the row is malformed. Dropped: it teaches nothing.
    """
    _require(row, ("prompt", "chosen", "rejected"), "a row of pairs has 'prompt', 'chosen' and 'rejected'")
    answers = [_answer(row, key) for key in ("chosen", "rejected")]
    prompt, [chosen, rejected] = answers_ids(tokenizer, as_messages(row["prompt"]), answers)
    if chosen == rejected:
        raise Dropped("equal_pair")
    return Example(Tokens.of(prompt, chosen), Tokens.of(prompt, rejected))


def rewarded_example(tokenizer: Any, row: Row) -> Example:
    """Tokenise a row of which two answers get a reward each, at the last token of the conversation as it is written.

    That is the template's stop token, and what the template writes behind it (ChatML's line break), so that whoever
    renders a conversation by the template reads the reward where it was learnt.

    Raises:
        InputError: the row is malformed. Dropped: it teaches nothing.
    """
    _require(row, ("prompt", "chosen", "rejected"), "a row of pairs has 'prompt', 'chosen' and 'rejected'")
    prompt, answers = as_messages(row["prompt"]), [_answer(row, key) for key in ("chosen", "rejected")]
    chosen, rejected = (conversation_ids(tokenizer, [*prompt, assistant(answer)]) for answer in answers)
    if chosen == rejected:
        raise Dropped("equal_pair")
    return Example(Tokens.of(chosen[:-1], chosen[-1:]), Tokens.of(rejected[:-1], rejected[-1:]))


def labelled_example(tokenizer: Any, row: Row) -> Example:
    """Tokenise a row of which one answer is labelled desirable or undesirable.

    Raises:
        InputError: the row is malformed. Dropped: it teaches nothing.
    """
    _require(row, ("prompt", "answer", "label"), "a labelled row has 'prompt', 'answer' and 'label'")
    if not isinstance(row["label"], bool):
        raise InputError(f"'label' is true or false, this is {row['label']!r}")
    answered = _answered(tokenizer, as_messages(row["prompt"]), _answer(row, "answer"))
    return Example(answered, label=row["label"])


def prompt_example(tokenizer: Any, row: Row) -> Example:
    """Tokenise a prompt, to which answers will be drawn.

    Raises:
        InputError: the row is malformed.
    """
    _require(row, ("prompt",), "a row of prompts has 'prompt'")
    messages = as_messages(row["prompt"])
    return Example(Tokens.of(prompt_ids(tokenizer, messages), []), messages=messages)


def with_mismatched(examples: Sequence[Example], max_length: int) -> list[Example]:
    """Give each example an answer to another prompt: that of the nearest example before it, in a circle.

    Raises:
        InputError: all examples have one prompt.
    """
    prompts = [example.chosen.ids[: example.chosen.prompt_tokens] for example in examples]
    return [
        example._replace(mismatched=_mismatched(examples, prompts, position).cut(max_length))
        for position, example in enumerate(examples)
    ]


def _mismatched(examples: Sequence[Example], prompts: Sequence[Sequence[int]], position: int) -> Tokens:
    for back in range(1, len(examples)):
        other = examples[position - back].chosen
        if prompts[position - back] != prompts[position]:
            return Tokens.of(prompts[position], other.ids[other.prompt_tokens :])
    raise InputError("all rows have one prompt, and this loss needs answers to other prompts than an answer's own")


def cut_example(example: Example, max_length: int, drawn_tokens: int = 0, is_rewarded: bool = False) -> Example:
    """Cut an example's answers at `max_length` tokens of prompt and answer together.

    Args:
        drawn_tokens: that the answers to a prompt alone may have.
        is_rewarded: its conversations have a reward each, at their end, which no cut one has.

    Raises:
        Dropped: nothing is left to learn of it.
    """
    if example.messages is not None:
        if example.length + drawn_tokens > max_length:
            raise Dropped("prompt_too_long")
        return example
    if is_rewarded and example.length > max_length:
        raise Dropped("conversation_too_long")
    cut = example.cut(max_length)
    if not all(sequence.labelled for sequence in cut.sequences):
        raise Dropped("prompt_too_long")
    if cut.rejected is not None and cut.chosen.ids == cut.rejected.ids:
        raise Dropped("equal_after_truncation")
    return cut


def _conversation(tokenizer: Any, row: Row, learn: Learn) -> Tokens:
    learn = row.get("learn", learn)
    if learn not in get_args(Learn):
        raise InputError(f"'learn' is 'last' or 'all', this is {learn!r}")
    *prompt, last = as_messages(row["messages"], "messages")
    if last["role"] != "assistant" or not prompt:
        raise InputError("'messages' must end with the assistant's answer to an earlier message")
    if not last["content"].strip():
        raise Dropped("empty_answer")
    if learn == "last":
        return _answered(tokenizer, prompt, last)
    return Tokens.of_spans(*conversation_spans(tokenizer, [*prompt, last]))


def _answered(tokenizer: Any, prompt: Sequence[Message], answer: str | Message) -> Tokens:
    return Tokens.of(*answer_ids(tokenizer, prompt, answer))


def _require(row: Row, keys: Sequence[str], rule: str) -> None:
    missing = [key for key in keys if key not in row]
    if missing:
        raise InputError(
            f"key {', '.join(missing)} is missing ({rule}); this row has {', '.join(sorted(row)) or 'no keys'}"
        )


def _answer(row: Row, key: str) -> str:
    answer = text_of(row, key)
    if not answer.strip():
        raise Dropped("empty_answer")
    return answer


def text_of(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise InputError(f"{key!r} must be text, this is {type(value).__name__}")
    return value
