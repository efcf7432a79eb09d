"""Messages as templates are given them: no text holds a marker, and reasoning stands where the template reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from seft_bench.chat.markup import broken_up
from seft_bench.chat.messages import REASONING_KEYS, reasoning_of
from seft_bench.chat.template import ChatFormat, chat_format, rendered
from seft_bench.records import Message


def without_markup(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """Return the messages with control tokens in their texts broken up by a space: no text opens or ends a turn.

    Reasoning is put under the key that the template reads, also where it stands in the answer as a model wrote it.
    """
    form = chat_format(tokenizer)
    return [_without_markup(_with_reasoning_apart(message, form), form) for message in messages]


def _without_markup(message: Message, form: ChatFormat) -> Message:
    return {
        key: broken_up(value, form.markers) if isinstance(value, str) and key != "role" else value
        for key, value in message.items()
    }


_REASONED = re.compile(r"\s*(?P<opened><think>)?(?P<reasoning>.*?)</think>\s*(?P<answer>.*)", re.DOTALL)


def _with_reasoning_apart(message: Message, form: ChatFormat) -> Message:
    """Return an assistant's message with its reasoning under the key that the template reads."""
    if message["role"] != "assistant" or not form.reasoning_key:
        return message
    given = reasoning_of(message)
    others = {key: value for key, value in message.items() if key not in REASONING_KEYS}
    if given:
        return {**others, form.reasoning_key: given}
    found = _REASONED.fullmatch(message["content"])
    if found and (found["opened"] or form.opens_thinking):
        reasoning = found["reasoning"].strip("\n")
        return {**others, "content": found["answer"], **({form.reasoning_key: reasoning} if reasoning else {})}
    return others


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The prompt as text, for people to read."""
    return rendered(tokenizer, without_markup(tokenizer, messages), open_answer=True)
