"""Messages as data brings them: checked, and a bare text made the one message that it stands for."""

from __future__ import annotations

from typing import Any

from seft_bench.errors import InputError
from seft_bench.records import Message

ROLES = ("system", "user", "assistant")
REASONING_KEYS = ("reasoning_content", "thinking")
"""Keys under which data holds an assistant's reasoning; a template reads one of them, or none."""


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def reasoning_of(message: Message) -> str:
    return next((message[key] for key in REASONING_KEYS if message.get(key)), "")


def as_messages(value: Any, name: str = "prompt") -> list[Message]:
    """Return a conversation's messages; a text is one message of the user's.

    Args:
        name: of the value, for the message of an error.

    Raises:
        InputError: it is neither text nor a list of messages, or a message is malformed.
    """
    if isinstance(value, str):
        return [user(value)]
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{name!r} must be a list of messages with at least one, or the user's text; this is {type(value).__name__}"
        )
    for message in value:
        _check(message, name)
    return value


def _check(message: Any, name: str) -> None:
    if (
        not isinstance(message, dict)
        or not isinstance(message.get("content"), str)
        or message.get("role") not in ROLES
        or not all(isinstance(message.get(key) or "", str) for key in REASONING_KEYS)
    ):
        raise InputError(
            f"{name!r}: a message is {{'role': 'system' | 'user' | 'assistant', 'content': text}} (an assistant's may "
            f"have 'reasoning_content': text), this is {str(message)[:80]}"
        )
    if message.get("tool_calls"):
        raise InputError(f"{name!r}: tool_calls are not supported, this message has {str(message['tool_calls'])[:80]}")
