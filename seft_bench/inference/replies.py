"""Replies of OpenAI-compatible servers. Pure: JSON and headers in, a `Reply` out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from seft_bench.records import Status

# Words that servers use for "does not fit" (OpenAI, vLLM, llama.cpp, TGI, Anthropic's compatibility layer).
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|maximum model length|max_model_len|"
    r"context (window|size|length)|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content_filter|content_policy_violation|content management policy", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer to one call.

    Attributes:
        status: "ok" (there is a text), "refused", "over_length" or "api_error".
        text: the reply, or what went wrong.
        top_logprobs: token -> log-probability at the first position; None where the server sent none.
        body: the response as it came.
        stored: it came out of the store and cost nothing now.
        attempts_failed: every attempt failed for a reason that lies with the server.
    """

    status: Status
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

    def as_stored(self) -> Reply:
        """Return the same reply for an equal call, which costs nothing more."""
        return dataclasses.replace(self, stored=True)


def read_completion(
    body: Mapping[str, Any], latency_seconds: float | None = None, received_at: str = "", stored: bool = False
) -> Reply:
    """Read a chat completion as a reply.

    Raises:
        KeyError, TypeError, IndexError, ValueError: it is not one (no choices, no message).
    """
    choice = body["choices"][0]
    message, finish_reason = choice["message"], str(choice.get("finish_reason") or "")
    refusal, content = message.get("refusal"), message.get("content")
    refused = bool(refusal) or finish_reason == "content_filter"
    # All tokens went on reasoning, which comes apart: paid for, and asking again would pay again.
    spent = content is None and finish_reason == "length"
    if not refused and not spent and not isinstance(content, str):
        raise ValueError("the message has no content")
    usage = body.get("usage") or {}
    return Reply(
        status="refused" if refused else "ok",
        text=str(refusal or content or ""),
        model=str(body.get("model") or ""),
        finish_reason=finish_reason,
        top_logprobs=_first_token_logprobs(choice),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        latency_seconds=latency_seconds,
        received_at=received_at or datetime.now(UTC).isoformat(timespec="seconds"),
        body=body,
        stored=stored,
    )


def _first_token_logprobs(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """Return log-probabilities at the first position; a token listed twice (byte fallbacks) keeps the larger one."""
    content = (choice.get("logprobs") or {}).get("content") or []
    listed = (content[0].get("top_logprobs") or []) if content else []
    found: dict[str, float] = {}
    for item in listed:
        token, logprob = str(item["token"]), float(item["logprob"])
        found[token] = max(logprob, found.get(token, logprob))
    return found or None


def classify_error(http_status: int, text: str) -> Status:
    """Return the status of a 4xx that another attempt would not change."""
    if http_status == 413 or _TOO_LONG.search(text):
        return "over_length"
    return "refused" if _FILTERED.search(text) else "api_error"


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return `Retry-After` (or OpenAI's `retry-after-ms`) in seconds from now; None if unreadable.

    It is a number or an HTTP date.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("Retry-After", "").strip()
    seconds = _number(text)
    return seconds if seconds is not None else _seconds_until(text)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _seconds_until(date_text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date_text)
    except (ValueError, TypeError, IndexError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
