"""Keys cut out of whatever a server says, in each form in which one can come back. Pure but for the list of keys.

A server may echo a key as it is, percent-encoded, with escapes or entities for its characters, with markup or white
space between them, or in base64 (Basic authorisation). All are replaced by `[key]` in decoded strings, before anything
is stored, printed or reported.
"""

from __future__ import annotations

import binascii
import functools
import re
from base64 import b64decode
from collections.abc import Iterable

from seft_bench.inference.addresses import MASK

LEAST_CHARACTERS = 8
"""A shorter "key" (EMPTY, abc) is a placeholder of a local server, and a word that answers may hold."""

_BETWEEN = r"(?:<[^<>]{0,80}>|[\s\u200b-\u200f\u2060\ufeff\u00ad*_`~\\|]){0,4}?"
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")


class Secrets:
    """The keys that a client knows."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys: set[str] = set()
        for key in keys:
            self.add(key)

    def add(self, key: str) -> None:
        """Mask this key from now on."""
        if len(key) >= LEAST_CHARACTERS:
            self._keys.add(key)

    def mask(self, text: str) -> str:
        """Return a text without the keys, in whatever form they stand in it."""
        for key in sorted(self._keys, key=len, reverse=True):  # a longer one may hold a shorter
            if len(text) >= len(key):
                text = _masked(text, key)
        return text


_ESCAPES = ("%", "\\", "&#")


def _masked(text: str, key: str) -> str:
    text = text.replace(key, MASK)
    if set(key) <= set(text) or any(mark in text for mark in _ESCAPES):  # or the slow search could find nothing
        text = _any_form(key).sub(MASK, text)
    return _BASE64.sub(lambda found: MASK if _holds(found[0], key) else found[0], text)


@functools.lru_cache(maxsize=32)
def _any_form(key: str) -> re.Pattern[str]:
    """Match a key whose characters may be escaped, with something in between that is not seen."""
    return re.compile(_BETWEEN.join(_character(character) for character in key))


def _character(character: str) -> str:
    code = ord(character)
    hexadecimal = "".join(f"[{digit.lower()}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{code:x}")
    forms = [
        re.escape(character),
        f"%(?:25)?{hexadecimal}",
        rf"\\{{1,4}}(?:u00|u\{{|x){hexadecimal}\}}?",
        f"&#0?{code};",
        f"&#[xX]{hexadecimal};",
    ]
    return f"(?:{'|'.join(forms)})"


def _holds(encoded: str, key: str) -> bool:
    """Return whether base64 holds the key, at any of the four alignments that letters before it can cause."""
    plain = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    wanted = key.encode()
    return any(wanted in _decoded(plain[start:]) for start in range(4))


def _decoded(plain: str) -> bytes:
    whole = plain[: len(plain) - 1] if len(plain) % 4 == 1 else plain
    try:
        return b64decode(whole + "=" * (-len(whole) % 4))
    except (binascii.Error, ValueError):
        return b""
