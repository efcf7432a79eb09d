"""Markers: the tokens with which a chat template steers a model. No text of a user or a model may write one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


def marker_texts(tokenizer: Any, written_by_template: str) -> tuple[str, ...]:
    """Return the texts that the tokenizer reads as one control token, the longest first.

    These are all added tokens that are special, also those known only to tokenizer.json or added_tokens_decoder, and
    the added tokens that the chat template itself writes, special or not (Phi-3's <|end|>, Qwen3's <think>). Others
    are ordinary text (Gemma's line breaks and HTML tags), and so is what has no second visible character.

    Args:
        written_by_template: the template's source and a conversation that it rendered.
    """
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    written = {token.content for token in added if _is_written(token.content, written_by_template)}
    return tuple(
        sorted((text for text in special | written if len(text.strip()) > 1), key=lambda text: (-len(text), text))
    )


def _is_written(token: str, by_template: str) -> bool:
    """Return whether the template writes this token; a bare word in it ("user") is no marker."""
    return token in by_template and not token.strip().isalnum()


def pattern_of(markers: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern that finds any of the markers; None without markers."""
    texts = [re.escape(marker) for marker in markers]
    return re.compile("|".join(texts)) if texts else None


def broken_up(text: str, markers: re.Pattern[str] | None) -> str:
    """Put a space after the first visible character of every marker in the text, until there is none left."""
    while markers is not None and markers.search(text):
        text = markers.sub(lambda found: _with_space(found[0]), text)
    return text


def _with_space(marker: str) -> str:
    first = len(marker) - len(marker.lstrip()) + 1
    return f"{marker[:first]} {marker[first:]}"
