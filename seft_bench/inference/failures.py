"""What a server's refusal means: status, words and headers of an error in; a kind, a wait and advice out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from seft_bench.console import plain
from seft_bench.inference.bodies import decode_body
from seft_bench.texts import mapped_strings

Kind = Literal[
    "over_length", "no_room", "refused", "request", "parameter", "key", "model", "credits", "throttled", "server"
]
"""What a refusal is about.

The prompt's length (`over_length`), or a reply limit that no prompt leaves room for (`no_room`); what the prompt says
(`refused`); something else in this one request; a parameter that every request has; the key; the model's name; money;
the rate; or the server itself (try again).
"""

# Words that servers use for "does not fit" (OpenAI, vLLM, llama.cpp, TGI, Anthropic, Google, Bedrock, Groq, litellm).
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|maximum model length|max_model_len|"
    r"context.?(window|size|length)|prompt is too long|too many tokens|string_above_max_length|"
    r"input (is|was) too long|input tokens? (count |exceed)|reduce the length of",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content.?filter|content.?policy|content.?management|ResponsibleAIPolicyViolation|moderation|"
    r"(input|prompt|content|message|request)\W.{0,40}\bflagged|usage polic|safety (system|filter|polic)|"
    r"data_?inspection_?failed|(inappropriate|sensitive|prohibited|harmful) content",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(r"\b(account|organi[sz]ation|project|api key)\b", re.IGNORECASE)
_NO_CREDITS = re.compile(
    r"insufficient_quota|insufficient.{0,10}(balance|credits?|funds)|credit balance is too low|billing_hard_limit|"
    r"billing_not_active|account is not active|payment required|arrears|overdue",
    re.IGNORECASE,
)
_NO_KEY = re.compile(
    r"(invalid|incorrect|missing|expired)[ _]api[ _-]?key|api[ _-]?key (is |has )?(not valid|invalid|expired)|"
    r"API_KEY_INVALID|authentication_error",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|unknown_model|invalid_model|(not a valid|unknown|invalid) model\b|"
    r"model\b.{0,80}(does not exist|not found|is not available)",
    re.IGNORECASE,
)
_PARAMETER = re.compile(
    r"(unsupported|unknown|unrecognized|unrecognised|invalid)[ _](parameter|value|field|request argument|argument)|"
    r"(extra|additional) (inputs|fields|properties)\b.{0,20}not (permitted|allowed)|extra_forbidden|"
    r"cannot both be specified|is not supported (with|by|for) this model|not allowed to request|"
    r"does not (support|accept|allow)\b.{0,40}(parameter|temperature|top_p|logprobs|seed|max_)",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"(?:maximum (?:context|model) length|max_model_len|context (?:length|window|size)|n_ctx)\D{0,20}(\d{2,8})",
    re.IGNORECASE,
)


def kind_of(http_status: int, error: ErrorWords, sent: Mapping[str, Any]) -> Kind:
    """Return what a refusal is about.

    Args:
        sent: the parameters of the request.
    """
    said = f"{error.words} {error.codes}"
    if http_status == 402 or (400 <= http_status < 500 and _NO_CREDITS.search(said)):
        return "credits"
    by_status: dict[int, Kind] = {401: "key", 407: "key", 408: "server", 425: "server", 429: "throttled"}
    if http_status in by_status:
        return by_status[http_status]
    return "server" if http_status >= 500 else _kind_of_request(http_status, said, sent)


def _kind_of_request(http_status: int, words: str, sent: Mapping[str, Any]) -> Kind:
    if _NO_KEY.search(words):
        return "key"
    if http_status == 413 or _TOO_LONG.search(words):
        limit, most = context_limit(words), reply_limit(sent)
        return "no_room" if limit and most and most >= limit else "over_length"
    if http_status == 451 or (_FILTERED.search(words) and not _ACCOUNT.search(words)):
        return "refused"
    if _PARAMETER.search(words) and named_parameters(words, sent):
        return "parameter"
    if http_status == 404 or _NO_MODEL.search(words):
        return "model"
    return "key" if http_status == 403 else "request"


def reply_limit(sent: Mapping[str, Any]) -> int | None:
    """Return the most tokens that a request allows for its reply; None where it names no limit."""
    most = sent.get("max_completion_tokens") or sent.get("max_tokens")
    return int(most) if most else None


def named_parameters(words: str, sent: Mapping[str, Any]) -> list[str]:
    """Return the parameters of a request that a refusal names."""
    return [name for name in sent if re.search(rf"\b{re.escape(name)}\b", words)]


def context_limit(words: str) -> int | None:
    """Return the context in tokens that a refusal names; None where it names none.

    >>> context_limit("This model's maximum context length is 2048 tokens and your request has 30 input tokens")
    2048
    """
    found = _LIMIT.search(words)
    return int(found[1]) if found else None


MOST_WORDS = 400
MOST_CHARACTERS_READ = 20_000


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """What an error says.

    Attributes:
        words: its message in one short line that a terminal can show, without JSON and markup.
        codes: what programs go by (code, type, parameter).
    """

    words: str
    codes: str = ""


def read_error(text: str, mask: Callable[[str], str] = str) -> ErrorWords:
    """Read the body of a refusal, whatever its form.

    Args:
        mask: takes secrets out of a decoded string.

    >>> read_error('{"error": {"message": "No\\nroom", "code": "full"}}')
    ErrorWords(words='No room', codes='full')
    """
    try:
        error = _error_object(mapped_strings(decode_body(text), mask))
    except ValueError:
        return ErrorWords(_one_line(mask(text)))
    named = [error.get(name) for name in ("code", "type", "param", "status")]
    codes = " ".join(str(value)[:200] for value in named if isinstance(value, str | int))
    return ErrorWords(_one_line(_message(error) or mask(text)), _one_line(codes))


def _error_object(body: Mapping[str, Any]) -> Mapping[str, Any]:
    error = body.get("error", body)
    return error if isinstance(error, dict) else {"message": str(error)}


def _message(error: Mapping[str, Any]) -> str:
    """Return an error's message, with that of the provider behind it (OpenRouter), or FastAPI's list of details."""
    said = [error.get("message") or error.get("detail")]
    if isinstance(said[0], list):
        said = [_detail(item) for item in said[0][:5]]
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    said += [read_error(raw).words] if isinstance(raw, str) else []
    return ": ".join(str(part) for part in said if part)


def _detail(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {item.get('msg')} ({item.get('type')})"


def _one_line(text: str) -> str:
    words = text[:MOST_CHARACTERS_READ]
    if "<" in words:
        words = re.sub(r"<(script|style)\b.*?</\1>|<[^<>]{0,200}>", " ", words, flags=re.DOTALL)
    words = " ".join(plain(" ".join(words.split())).split()).rstrip(".")
    return words if len(words) <= MOST_WORDS else words[:MOST_WORDS] + "..."


@dataclass(frozen=True)
class Settings:
    """Where a client's settings stand and what they are called, for advice.

    Attributes:
        file: that holds them.
        reply_limit: the setting of the longest reply.
        no_seed: what sends no seed.
        others: parameter -> advice where a server refuses it.
    """

    file: str = "the YAML that --server names (a file with `base_url` and such settings, in place of the address)"
    reply_limit: str = "`max_new_tokens` of the suite"
    no_seed: str = "`send_seed: false`"
    others: Mapping[str, str] = field(default_factory=dict)


def parameter_advice(words: str, sent: Mapping[str, Any], settings: Settings) -> str:
    """Return what to set where a server refuses a parameter of a request; "" if no setting is known.

    Args:
        sent: the parameters of the request.
    """
    named = named_parameters(words, sent)
    if {"temperature", "top_p"} <= set(named) and "both" in words:
        return f"Set `send_top_p: false` in {settings.file}."
    for name in named:
        if name in settings.others:
            return settings.others[name]
        if name in ("max_tokens", "max_completion_tokens"):
            other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
            return f"Set `max_tokens_parameter: {other}` in {settings.file}."
        if name in ("temperature", "top_p"):
            return f"Set `send_{name}: false` in {settings.file}."
        if name == "seed":
            return f"Set {settings.no_seed} in {settings.file}."
    return f"Change {', '.join(f'`{name}`' for name in named)} in {settings.file}." if named else ""


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
