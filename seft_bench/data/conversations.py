"""Messages out of the forms in which data sets write conversations down. Nothing here reads a file.

A fault of a row (a column of another type) is `ShapeError`; what is well formed but no training row can be made of (a
conversation without an answer) is `LeftOutError`, whose reason is counted. Rows that teach nothing (an empty answer, a
pair of equals) pass: training counts those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from seft_bench.records import Message, Row


class ShapeError(ValueError):
    """A fault of one row; the caller knows where the row stands."""


class LeftOutError(ValueError):
    """A row that is well formed and cannot be used; its text is the reason, the same for all rows of a kind."""


_ROLES = ("system", "user", "assistant")

_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""ShareGPT's name of who speaks -> role."""

_TURN = re.compile(r"\n\n(Human|Assistant):")
"""Anthropic's marks of turns in one text, which Nectar and HH-RLHF use."""


def messages_of(value: Any, column: str) -> list[Message]:
    """Read a list of messages: `{"role", "content"}`, or ShareGPT's `{"from", "value"}`.

    Other keys of a message are kept where they hold something: a table fills absent ones with null.
    """
    if not isinstance(value, list | tuple) or not value:
        raise ShapeError(f"{column!r} must be a list of messages with at least one, this is {shown(value)}")
    return [_message(item, column) for item in value]


def _message(item: Any, column: str) -> Message:
    if not isinstance(item, Mapping):
        raise ShapeError(f"{column!r}: a message has a role and a content, this is {shown(item)}")
    others = {key: value for key, value in item.items() if value is not None}
    if "from" in others and "role" not in others:
        speaker, content = others.pop("from"), others.pop("value", None)
        role = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
        known = ", ".join(_SPEAKERS)
    else:
        speaker, content = others.pop("role", None), others.pop("content", None)
        role, known = (speaker if speaker in _ROLES else None), ", ".join(_ROLES)
    if role is None:
        raise ShapeError(f"{column!r}: a message is from {speaker!r}; known are {known}")
    if not isinstance(content, str):
        raise ShapeError(f"{column!r}: the content of a message must be text, this is {shown(content)}")
    return {"role": role, "content": content, **others}


def turns_of(text: str) -> list[Message]:
    r"""Split a text with Anthropic's marks into messages; an empty last turn is where the answer would stand.

    >>> turns_of("\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: ")[1:]
    [{'role': 'assistant', 'content': 'Hello'}, {'role': 'user', 'content': 'Bye'}]
    """
    _, *parts = _TURN.split(text)
    messages = [
        {"role": _SPEAKERS["human" if who == "Human" else "assistant"], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    return messages[:-1] if messages and not messages[-1]["content"] else messages


def has_marked_turns(value: Any) -> bool:
    """Return whether a value is a text that begins with one of Anthropic's marks."""
    return isinstance(value, str) and _TURN.match(value) is not None


def prompt_of(row: Row, column: str = "prompt") -> list[Message]:
    """Read a prompt: a text, a text with marked turns, or messages; with the row's `system` message before it.

    Raises:
        LeftOutError: it is empty, or does not end with the user's message.
    """
    value = row[column]
    if has_marked_turns(value):
        messages = turns_of(value)
    elif isinstance(value, str):
        messages = [{"role": "user", "content": value}]
    else:
        messages = messages_of(value, column)
    return checked_prompt([*_system(row, messages), *messages])


def _system(row: Row, messages: Sequence[Message]) -> list[Message]:
    """A column `system`, as some sets have it beside a prompt that is a text."""
    value = row.get("system")
    if not isinstance(value, str) or not value.strip() or (messages[:1] and messages[0]["role"] == "system"):
        return []
    return [{"role": "system", "content": value}]


def checked_prompt(messages: list[Message]) -> list[Message]:
    """Return the messages, or leave out the row for which they are no prompt."""
    if not messages or messages[-1]["role"] != "user":
        raise LeftOutError("prompt that does not end with the user's message")
    if not messages[-1]["content"].strip():
        raise LeftOutError("empty prompt")
    return messages


def text_of(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise ShapeError(f"{column!r} must be text, this is {shown(value)}")
    return value


def answer_messages(value: Any, column: str) -> list[Message]:
    """Read the messages of an answer that is no text."""
    if not isinstance(value, list | tuple):
        raise ShapeError(f"{column!r} must be text or a list of messages, this is {shown(value)}")
    return messages_of(value, column)


def answer_of(value: Any, column: str) -> str:
    """Read an answer: a text, or one message of the assistant's.

    Reasoning beside an answer is written before it as `<think>...</think>`, which the chat template then renders as its
    own. An empty answer is one: training counts it.

    Raises:
        LeftOutError: it is more than one message.
    """
    if isinstance(value, str):
        return value
    messages = answer_messages(value, column)
    if messages[-1]["role"] != "assistant":
        raise ShapeError(
            f"{column!r} must end with the assistant's message, this ends with the {messages[-1]['role']}'s"
        )
    if len(messages) > 1:
        raise LeftOutError("answer of more than one message")
    answer = messages[0]
    if answer.get("tool_calls"):
        raise ShapeError(f"{column!r}: an answer that calls tools cannot be learnt")
    reasoning = answer.get("reasoning_content")
    return f"<think>\n{reasoning}\n</think>\n\n{answer['content']}" if reasoning else answer["content"]


def whole_conversation(messages: list[Message]) -> list[Message]:
    """Cut what follows the last answer.

    Raises:
        LeftOutError: nothing is answered, or the assistant speaks first.
    """
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise LeftOutError("conversation without an answer")
    if next(role for role in roles if role != "system") == "assistant":
        raise LeftOutError("conversation that the assistant begins")
    return messages[: len(roles) - roles[::-1].index("assistant")]


def shown(value: Any) -> str:
    """What a wrong value is, for a message: its type and its beginning."""
    text = "" if value is None else f" {str(value)[:60]!r}"
    return f"{type(value).__name__}{text}" if value is not None else "null"
