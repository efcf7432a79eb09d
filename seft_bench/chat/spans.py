"""Where the assistant's turns stand in the ids of a conversation, for training on all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from seft_bench.chat.ids import End
from seft_bench.chat.template import (
    SENTINEL,
    around_sentinel,
    between,
    chat_format,
    check_reasoning,
    last_turn,
    rendered,
)
from seft_bench.chat.texts import without_markup
from seft_bench.errors import InputError
from seft_bench.records import Message

Range = tuple[int, int]
"""[first, end)"""

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""The mark around what the assistant wrote, in templates that have it."""


class Spans(NamedTuple):
    """A conversation's ids, and the ranges of them that the assistant wrote."""

    ids: list[int]
    learnt: list[Range]


def conversation_spans(tokenizer: Any, messages: Sequence[Message]) -> Spans:
    """Ids of a conversation, and where in it the assistant's turns stand, with the stop tokens behind them.

    A template with `{% generation %}` says so itself. Of others a turn is found by rendering another text in its
    place; it begins where the prompt before it ends. The ids are `apply_chat_template` of the conversation up to the
    last turn's stop token.

    Args:
        messages: the last one is the assistant's.

    Raises:
        InputError: the template refuses the conversation or drops an answer's reasoning, or the tokenizer is a slow
            one, which does not say where its tokens stand.
    """
    messages = without_markup(tokenizer, messages)
    form, whole = chat_format(tokenizer), rendered(tokenizer, messages)
    prompt = rendered(tokenizer, messages[:-1], open_answer=True)
    turn = last_turn(tokenizer, messages[:-1], messages[-1], prompt)
    end = End.of(tokenizer, turn, form)
    encoded = _encoded(tokenizer, whole if end.text else whole.removesuffix(turn.closing))
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    found = [_tokens_at(encoded, _place(tokenizer, messages, index, whole)) for index in turns]
    if GENERATION.search(tokenizer.get_chat_template()):
        found = _marked(tokenizer, messages)
    ids = end.cut(encoded.ids)
    return Spans(ids, [_with_stop(first, after, ids, form.stops) for first, after in found if first < after])


class _Encoded(NamedTuple):
    """Ids of a text, and each one's first and last character in it."""

    ids: list[int]
    offsets: list[Range]


def _encoded(tokenizer: Any, text: str) -> _Encoded:
    try:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError:
        raise InputError(
            "all answers of a conversation can only be learnt with a fast tokenizer (tokenizer.json): this one does "
            "not say where its tokens stand. Learn the last answer only"
        ) from None
    return _Encoded(list(found["input_ids"]), list(found["offset_mapping"]))


def _place(tokenizer: Any, messages: Sequence[Message], index: int, whole: str) -> Range:
    """Return the characters of one assistant's turn, from the end of its prompt on."""
    said = messages[index]
    other = [*messages[:index], {**said, "content": SENTINEL}, *messages[index + 1 :]]
    head, rest = around_sentinel(rendered(tokenizer, other))
    if between(whole, head, rest) is None:
        raise InputError(f"the chat template rewrites the conversation by the text of its message {index + 1}")
    prompt = rendered(tokenizer, messages[:index], open_answer=True)
    first = len(prompt) if head.startswith(prompt) else len(head)
    check_reasoning(said, whole[first : len(head)])
    return first, len(whole) - len(rest)


def _tokens_at(encoded: _Encoded, place: Range) -> Range:
    """Return the tokens that begin within the characters; one that spans the border belongs to the prompt."""
    starts = [start for start, _ in encoded.offsets]
    inside = [index for index, start in enumerate(starts) if place[0] <= start < place[1]]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _marked(tokenizer: Any, messages: Sequence[Message]) -> list[Range]:
    """Return the ranges that the template marks with `{% generation %}`."""
    found = tokenizer.apply_chat_template(list(messages), return_dict=True, return_assistant_tokens_mask=True)
    mask = [0, *found["assistant_masks"], 0]
    edges = [index for index in range(len(mask) - 1) if mask[index] != mask[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _with_stop(first: int, after: int, ids: Sequence[int], stops: Sequence[int]) -> Range:
    """Take the stop token behind a turn in: without it a model never learns to end."""
    after = min(after, len(ids))
    return first, after + (after < len(ids) and ids[after - 1] not in stops and ids[after] in stops)
