"""Markers: what a chat template steers a model with, tokens or plain text. No text of a user or a model writes one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

COMMON_MARKERS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "[INST]", "[/INST]", "<<SYS>>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<start_of_turn>"),
    *("<end_of_turn>", "</s>", "### Human:", "### Assistant:", "### Instruction:", "### Response:"),
)
"""Markers of common chat templates. In an answer of whatever model they show that it was sampled with a wrong template,
or did not stop; a template that writes one of them as plain text steers its model with it all the same.
"""
_MARK = re.compile(r"<\|[^\s<>|]+\|>")
"""What looks like a marker wherever a template writes it."""


def written_marks(rendered: str) -> set[str]:
    """Return the marks that a template writes around texts as plain text (Zephyr's <|assistant|>, Llama 2's [/INST]).

    Args:
        rendered: conversations whose texts hold none.
    """
    return {mark for mark in COMMON_MARKERS if mark in rendered} | set(_MARK.findall(rendered))


def marker_texts(tokenizer: Any, written_by_template: str) -> tuple[str, ...]:
    """Return the texts that the tokenizer reads as one control token.

    These are all added tokens that are special, also those known only to tokenizer.json or added_tokens_decoder, and
    the added tokens that the chat template itself writes, special or not (Phi-3's <|end|>, Qwen3's <think>). Others
    are ordinary text (Gemma's line breaks and HTML tags), and so is what has no second visible character.

    Args:
        written_by_template: the template's source and a conversation that it rendered.
    """
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    written = {token.content for token in added if _is_written(token.content, written_by_template)}
    return tuple(sorted(text for text in special | written if len(text.strip()) > 1))


def _is_written(token: str, by_template: str) -> bool:
    """Return whether the template writes this token; a bare word in it ("user") is no marker."""
    return token in by_template and not token.strip().isalnum()


def pattern_of(markers: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern that finds any of the markers, the longest first; None without markers."""
    texts = [re.escape(marker) for marker in sorted(markers, key=lambda text: (-len(text), text))]
    return re.compile("|".join(texts)) if texts else None


def broken_up(text: str, markers: re.Pattern[str] | None) -> str:
    """Put a space after the first visible character of every marker in the text, until there is none left."""
    while markers is not None and markers.search(text):
        text = markers.sub(lambda found: _with_space(found[0]), text)
    return text


def _with_space(marker: str) -> str:
    first = len(marker) - len(marker.lstrip()) + 1
    return f"{marker[:first]} {marker[first:]}"
