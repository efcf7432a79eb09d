"""Texts and JSON from outside, made safe to keep. Pure: whatever comes in, a value that any file can hold goes out.

Halves of surrogate pairs, which no file can hold, become U+FFFD: wherever a text is read, hashed or written, so that
the one kept and the one at hand are the same text to every key. Nesting that would overflow the stack is refused, and
numbers of thousands of digits become infinite, which no figure takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

MOST_LEVELS = 60
"""Of nesting; a completion with log-probabilities has seven."""
MOST_DIGITS = 300
"""Of a whole number: one with more has no value as a figure, and would overflow as one."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""As JSON writes one; only a text that holds one need be looked through for halves of pairs."""


def without_lone_surrogates(text: str) -> str:
    """Replace each half of a surrogate pair by U+FFFD.

    >>> without_lone_surrogates("cut \\ud83d here") == "cut \\N{REPLACEMENT CHARACTER} here"
    True
    """
    return text if text.isascii() else _LONE_SURROGATE.sub(REPLACEMENT, text)


def utf8(text: str) -> bytes:
    """Encode any text, as every file, hash and store has it.

    >>> utf8("cut \\ud83d here") == utf8("cut \\N{REPLACEMENT CHARACTER} here")
    True
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        return without_lone_surrogates(text).encode()


def parse_json(text: str, mend: bool = True) -> Any:
    """Return the value of a JSON text.

    Args:
        mend: False leaves halves of surrogate pairs as they are, for readers that refuse them.

    Raises:
        json.JSONDecodeError: it is none, is nested too deeply, or has a key twice, of which one value would be lost.
    """
    try:
        value = json.loads(text, parse_int=whole_number, object_pairs_hook=_with_keys_once)
        if text.count("[") + text.count("{") > MOST_LEVELS:
            check_levels(value)
        return mapped_strings(value, without_lone_surrogates) if mend and _may_have_halves(text) else value
    except (RecursionError, TooDeepError):
        raise json.JSONDecodeError(str(TooDeepError()), text, 0) from None
    except _TwiceError as twice:
        raise json.JSONDecodeError(str(twice), text, 0) from None


class _TwiceError(ValueError):
    """A key that stands twice in one object."""


def _with_keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def has_halves(text: str) -> bool:
    """Return whether a text that `parse_json` takes holds half a surrogate pair."""
    if not _may_have_halves(text):
        return False
    written = json.dumps(parse_json(text, mend=False), ensure_ascii=False)
    return _LONE_SURROGATE.search(written) is not None


def _may_have_halves(text: str) -> bool:
    return _ESCAPED_SURROGATE.search(text) is not None


class TooDeepError(ValueError):
    """Nesting that no file of ours has."""

    def __init__(self) -> None:
        super().__init__(f"nested deeper than {MOST_LEVELS} levels")


def whole_number(digits: str) -> int | float:
    """Return a number, also of thousands of digits, which is infinite then."""
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def check_levels(value: Any, most: int = MOST_LEVELS) -> None:
    """Refuse a JSON value that is nested too deeply, without recursion.

    Raises:
        TooDeepError: it is.
    """
    level = [value]
    for _ in range(most + 1):
        level = [below for item in level if isinstance(item, dict | list) for below in _within(item)]
        if not level:
            return
    raise TooDeepError


def _within(item: dict[Any, Any] | list[Any]) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item


def mapped_strings(value: Any, change: Callable[[str], str], levels: int = MOST_LEVELS) -> Any:
    """Return a JSON value with every string in it changed, keys too.

    Raises:
        TooDeepError: it is nested too deeply.
    """
    if isinstance(value, str):
        return change(value)
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise TooDeepError
    if isinstance(value, list):
        return [mapped_strings(item, change, levels - 1) for item in value]
    return {change(key): mapped_strings(item, change, levels - 1) for key, item in value.items()}
