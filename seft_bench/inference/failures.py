"""What a server's refusal means: the words and headers of an error in, a status or a wait out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

# Words that servers use for "does not fit" (OpenAI, vLLM, llama.cpp, TGI, Anthropic's compatibility layer).
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|maximum model length|max_model_len|"
    r"context (window|size|length)|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content_filter|content_policy_violation|content management policy", re.IGNORECASE)


def classify_error(http_status: int, text: str) -> Literal["over_length", "refused", "api_error"]:
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
