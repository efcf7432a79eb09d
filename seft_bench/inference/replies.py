"""Replies of OpenAI-compatible servers: the one place that knows what a completion can look like. Pure.

Whatever a server sends as a completion becomes a `Reply` with a status:

    ok           there is a text
    empty        nothing was written, though the server found no fault (all tokens may have gone on reasoning)
    refused      a refusal, or a content filter
    over_length  the prompt did not fit, so nothing came
    partial      a text that an error cut short
    api_error    an error in place of a text

The first two are paid for and kept in the store; the last two never are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

ReplyStatus = Literal["ok", "empty", "refused", "over_length", "partial", "api_error"]
KEPT: tuple[ReplyStatus, ...] = ("ok", "empty")

MOST_NAME_CHARACTERS = 200
MOST_TOKENS = 10**8
"""No completion has so many: such a count is no count."""

_FILTERS = ("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "refusal")
"""Finish reasons that mean a filter or a refusal (OpenAI's and Azure's first, Google's, Anthropic's)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer to one call.

    Attributes:
        status: see the module.
        text: what was said, without the reasoning; or what went wrong.
        reasoning: what the server sends apart as the model's reasoning.
        finish_reason: "stop", "length", ...; "" where the server does not say.
        top_logprobs: token -> log-probability at the first position; None where the server sent none.
        prompt_tokens, completion_tokens: None where the server does not say, or says what cannot be.
        body: the response as it came.
        stored: it came out of the store and cost nothing now.
        attempts_failed: every attempt failed for a reason that lies with the server.
        error, error_code: words and HTTP status of an error inside a completion; "" and None where there is none.
    """

    status: ReplyStatus
    text: str = ""
    model: str = ""
    finish_reason: str = ""
    top_logprobs: Mapping[str, float] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_seconds: float | None = None
    received_at: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    stored: bool = False
    attempts_failed: bool = False
    reasoning: str = ""
    error: str = ""
    error_code: int | None = None

    @property
    def reasoning_tokens(self) -> int:
        """The tokens that went on reasoning, as the server counts them; 0 where it does not say."""
        details = _object(_object(self.body.get("usage")).get("completion_tokens_details"))
        return token_count(details.get("reasoning_tokens")) or 0

    def as_stored(self) -> Reply:
        """Return the same reply for an equal call, which costs nothing more."""
        return dataclasses.replace(self, stored=True)


def read_completion(
    body: Mapping[str, Any], latency_seconds: float | None = None, received_at: str = "", stored: bool = False
) -> Reply:
    """Read a chat completion as a reply.

    Raises:
        ValueError: it is none (no choices, no message, content of an unknown form).
    """
    choice = {} if _error_of(body) else _first_choice(body)
    error = _error_of(body) or _error_of(choice) or _error_by_reason(choice)
    message = _object(choice.get("message"))
    if not error and "message" not in choice:
        raise ValueError("the choice has no message")
    said = _Said.of(message)
    finish_reason = _short_string(choice.get("finish_reason"))
    prompt_tokens, completion_tokens = _usage(body, bool(said.text or said.reasoning))
    return Reply(
        status=_status(said, finish_reason, error),
        text=said.refusal or said.text or (error.message if error else ""),
        model=_short_string(body.get("model")),
        finish_reason=finish_reason,
        top_logprobs=_first_token_logprobs(choice),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        latency_seconds=latency_seconds,
        received_at=received_at or datetime.now(UTC).isoformat(timespec="seconds"),
        body=body,
        stored=stored,
        reasoning=said.reasoning,
        error=error.message if error else "",
        error_code=error.code if error else None,
    )


@dataclass(frozen=True, slots=True)
class _Error:
    message: str
    code: int | None


def _error_of(holder: Mapping[str, Any]) -> _Error | None:
    """Return the error that a response or a choice holds under `error`, or that it is itself (vLLM's older form)."""
    error = holder if holder.get("object") == "error" else holder.get("error")
    if not error:
        return None
    if not isinstance(error, dict):
        return _Error(str(error)[:2000], None)
    code = error.get("code") or error.get("status")
    message = error.get("message") or error.get("code") or error
    return _Error(str(message)[:2000], code if isinstance(code, int) and 400 <= code < 600 else None)


def _error_by_reason(choice: Mapping[str, Any]) -> _Error | None:
    reason = choice.get("finish_reason")
    return _Error("finish reason `error`, without a word why", None) if reason == "error" else None


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("no choices")
    return choices[0]


def _status(said: _Said, finish_reason: str, error: _Error | None) -> ReplyStatus:
    if error:
        return "partial" if said.text else "api_error"
    if said.refusal or finish_reason.lower().startswith(_FILTERS):
        return "refused"
    return "ok" if said.text.strip() else "empty"


@dataclass(frozen=True, slots=True)
class _Said:
    """The words of a message, by what they are."""

    text: str
    reasoning: str
    refusal: str

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> _Said:
        """Read a message whose content is a string, null, or a list of parts.

        Raises:
            ValueError: it is something else.
        """
        content = message.get("content")
        parts = content if isinstance(content, list) else [] if content is None else [content]
        apart = next((message[name] for name in ("reasoning_content", "reasoning") if message.get(name)), "")
        return cls(
            text="".join(_text_of(part) for part in parts),
            reasoning=_flat(apart) + "".join(_reasoning_of(part) for part in parts),
            refusal=_flat(message.get("refusal")) + "".join(_flat(_object(part).get("refusal")) for part in parts),
        )


_REASONING_PARTS = ("thinking", "reasoning", "reasoning_text")


def _text_of(part: Any) -> str:
    """Return the text of a part of the content; parts that are no text (reasoning, pictures) give none."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise ValueError(f"the message's content holds {type(part).__name__}, which is no text")
    return "" if part.get("type") in _REASONING_PARTS else _flat(part.get("text"))


def _reasoning_of(part: Any) -> str:
    held = _object(part)
    if held.get("type") not in _REASONING_PARTS:
        return ""
    return _flat(held.get("thinking") or held.get("reasoning") or held.get("text") or held.get("summary"))


def _flat(value: Any) -> str:
    """Return a string, or the strings of a list of texts; "" for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(item if isinstance(item, str) else _flat(_object(item).get("text")) for item in value)
    return ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _short_string(value: Any) -> str:
    return value[:MOST_NAME_CHARACTERS] if isinstance(value, str) else ""


def _usage(body: Mapping[str, Any], anything_said: bool) -> tuple[int | None, int | None]:
    """Return the token counts of prompt and completion; None for one that is missing or cannot be believed."""
    usage = _object(body.get("usage"))
    prompt, completion = token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens"))
    return prompt or None, None if completion == 0 and anything_said else completion


def token_count(value: Any) -> int | None:
    """Return a count of tokens as a server gives it; None for what is none: text, a bool, NaN, a negative.

    >>> [token_count(value) for value in (7, 7.0, -1, True, "7", float("nan"), 10**30)]
    [7, 7, None, None, None, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def _first_token_logprobs(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """Return log-probabilities at the first position; a token listed twice (byte fallbacks) keeps the larger one.

    What is no log-probability (text, NaN, above 0) is left out.
    """
    content = _object(choice.get("logprobs")).get("content")
    first = _object(content[0]) if isinstance(content, list) and content else {}
    found: dict[str, float] = {}
    for item in map(_object, _list(first.get("top_logprobs"))):
        token, logprob = item.get("token"), _logprob(item.get("logprob"))
        if isinstance(token, str) and logprob is not None:
            found[token] = max(logprob, found.get(token, -math.inf))
    return found or None


ROUNDING = 1e-3
"""Servers that compute in half precision give log-probabilities a little above 0."""


def _logprob(value: Any) -> float | None:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and value <= ROUNDING
    return float(value) if is_one else None


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
