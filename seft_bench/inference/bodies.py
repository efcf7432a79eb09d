"""The JSON of a response, made safe to keep. Pure: text in, a checked object out.

What a server sends is not trusted: nesting that would overflow the stack is refused, numbers of thousands of digits
become infinite, and halves of surrogate pairs, which no file can hold, become U+FFFD.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

MOST_LEVELS = 60
"""Of nesting; a completion with log-probabilities has seven."""
MOST_DIGITS = 18
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_body(text: str) -> dict[str, Any]:
    """Return the JSON object of a response.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        body = json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise ValueError(f"JSON nested deeper than {MOST_LEVELS} levels") from None
    if not isinstance(body, dict):
        raise ValueError(f"not a JSON object but {type(body).__name__}")
    return body


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def mapped_strings(value: Any, change: Callable[[str], str], levels: int = MOST_LEVELS) -> Any:
    """Return a JSON value with every string in it changed, keys too.

    Raises:
        ValueError: it is nested too deeply.
    """
    if isinstance(value, str):
        return change(value)
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise ValueError(f"JSON nested deeper than {MOST_LEVELS} levels")
    if isinstance(value, list):
        return [mapped_strings(item, change, levels - 1) for item in value]
    return {change(key): mapped_strings(item, change, levels - 1) for key, item in value.items()}


def without_lone_surrogates(text: str) -> str:
    """Replace each half of a surrogate pair by U+FFFD.

    >>> without_lone_surrogates("cut \\ud83d here") == "cut \\N{REPLACEMENT CHARACTER} here"
    True
    """
    return text if text.isascii() else _LONE_SURROGATE.sub(REPLACEMENT, text)
