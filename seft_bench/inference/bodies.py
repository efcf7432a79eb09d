"""The JSON of a response, made safe to keep. Pure: text in, a checked object out.

What a server sends is not trusted: nesting that would overflow the stack is refused, numbers of thousands of digits
become infinite, and halves of surrogate pairs, which no file can hold, become U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any

from seft_bench.texts import TooDeepError, whole_number


def decode_body(text: str) -> dict[str, Any]:
    """Return the JSON object of a response.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        body = json.loads(text, parse_int=whole_number, strict=False)
    except RecursionError:
        raise TooDeepError from None
    if not isinstance(body, dict):
        raise ValueError(f"not a JSON object but {type(body).__name__}")
    return body
