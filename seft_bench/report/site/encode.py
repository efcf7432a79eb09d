"""Data as JavaScript files that a page opened from a folder can load: no request, no parser that a text could fool.

Pure.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

_ESCAPED = re.compile("[<>&\u007f-\u009f\u2028\u2029\ud800-\udfff]")
"""Characters that could end a script, start markup or a line, or are no valid UTF-8 (lone surrogates)."""

CUT = "\n[… cut here: {count:,} more characters, see the file of answers or judgments]"

DELIVERY = "seftBench.deliver("
"""The beginning of every data file."""


def to_javascript(name: str, data: Any) -> str:
    """A file that hands `data` to the page under `name` ("answers/3-0")."""
    return f"{DELIVERY}{encode(name)},{encode(data)});\n"


def encode(value: Any) -> str:
    """JSON that is safe inside a script, an attribute and markup alike.

    >>> encode("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def clip(text: str, limit: int) -> str:
    """Return the text, or its first `limit` characters and how many follow.

    One answer without an end must not make a page that nobody can open.
    """
    return text if len(text) <= limit else text[:limit] + CUT.format(count=len(text) - limit)


def rounded(value: float | None, digits: int = 4) -> float | int | None:
    """A figure as short as it can be shown; None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    short = round(float(value), digits)
    return int(short) if short == int(short) else short
