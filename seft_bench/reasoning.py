"""Reasoning that a model writes before its answer, told apart from it: the one place that knows the marks. Pure.

Marks count at the start of a reply only; an answer that quotes `<think>` in its prose is an answer. The opening mark
may be missing, as chat templates write it into the prompt (DeepSeek-R1's). Reasoning that never ends leaves no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MARKS = (
    *[(f"<{word}>", f"</{word}>") for word in ("think", "thinking", "thought", "reasoning", "seed:think", "mm:think")],
    ("[THINK]", "[/THINK]"),  # Mistral's Magistral
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere's Command A
)
"""(opening, closing) mark."""


def _any(texts: list[str]) -> str:
    """Return a pattern of any of these; tags in angle brackets are read in any case."""
    return "|".join(f"(?i:{re.escape(text)})" if text.startswith("<") else re.escape(text) for text in texts)


_OPENING = re.compile(_any([opening for opening, _ in _MARKS]))
_CLOSING = re.compile(_any([closing for _, closing in _MARKS]))
_CLOSED_BY = {opening.lower(): re.compile(_any([closing])) for opening, closing in _MARKS}

# OpenAI's harmony format (gpt-oss): messages in channels, of which only "final" is for the reader. Its marks are
# special tokens, so a server that drops those leaves the channels' names, melted into the text.
_CHANNELS = r"(?:analysis|commentary|final)"
_HARMONY = re.compile(
    rf"\s*(?:<\|start\|>assistant)?\s*(?:<\|channel\|>\s*{_CHANNELS}|{_CHANNELS}[^<\n]*<\|message\|>)"
)
_FINAL = re.compile(r"(?:^\s*|<\|channel\|>)\s*final[^<\n]*(?:<\|constrain\|>[^<\n]*)?<\|message\|>")
_END_OF_MESSAGE = re.compile(r"\s*(?:<\|end\|>|<\|return\|>|<\|call\|>)?\s*\Z")
_MELTED = re.compile(r"\s*analysis(?=[A-Z])")
_MELTED_FINAL = re.compile(r"assistantfinal")

_PAIRED = frozenset(mark for pair in _MARKS for mark in pair)
_HARMONYS = frozenset(f"<|{word}|>" for word in ("start", "channel", "message", "end", "return", "call", "constrain"))

_QUOTES = "\"'`\u2018\u2019\u201c\u201d"


@dataclass(frozen=True, slots=True)
class Said:
    """A reply in its two parts.

    Attributes:
        reasoning: as it was written, marks included; "" where there is none.
        answer: what was said after it.
        ended: False where the reasoning never ends, so that no answer came.
    """

    reasoning: str
    answer: str
    ended: bool = True


def split(text: str, opened: bool = False) -> Said:
    """Split a model's reply into its reasoning and its answer, at the first mark that closes what was opened.

    Args:
        opened: the prompt ended with an opening mark (`opens`), so that the reply begins inside the reasoning.

    >>> split("<think>A or B?</think>\\n\\nB."), split("Write <think> first.").answer, split("<think>A or").ended
    (Said(reasoning='<think>A or B?</think>', answer='B.', ended=True), 'Write <think> first.', False)
    """
    ends = _ends_of_opened(text, opened)
    if ends is None:
        ends = [end for start, end in _bare_closings(text) if _is_mark(text, start, end) and text[end:].strip()]
        if not ends:
            return Said("", text)
    if not ends:
        return Said(text, "", ended=False)
    return _cut(text, ends[0])


def marks_among(tokens: Iterable[str]) -> set[str]:
    """Return the marks among special tokens of a reply, which must not be dropped before `split` has seen them."""
    found = set(tokens)
    return found & (_PAIRED | _HARMONYS if "<|channel|>" in found else _PAIRED)


def opens(prompt: str) -> bool:
    """Return whether a rendered prompt ends with an opening mark, as a template that makes its model reason writes."""
    found = list(_OPENING.finditer(prompt[-64:]))
    return bool(found) and not prompt[-64:][found[-1].end() :].strip()


def readings(text: str) -> list[list[str]]:
    """Return what a judge may have said after its reasoning: groups of texts, the likeliest group first.

    A reply may quote a mark, in its reasoning or behind it, and cannot be cut for certain then. A verdict is read from
    the first group that holds one, and only where the texts of that group agree on it (`judges.parse.verdict_in`).

    >>> readings("<think>[[3]]?</think> [[4]]"), readings("Rating: [[2]]. It wrote </think>")
    ([['[[4]]']], [[''], ['Rating: [[2]]. It wrote </think>']])
    """
    ends = _ends_of_opened(text, opened=False)
    if ends is not None:
        return [list(dict.fromkeys(_behind(text, end) for end in ends))]
    closings = _bare_closings(text)
    if closings:
        behind = [_behind(text, end) for _, end in closings]
        doubtful = [] if any(_is_mark(text, *place) for place in closings) else [text]
        return [list(dict.fromkeys([*behind, *doubtful])), [text]]
    return [list(dict.fromkeys([text, _without_blocks(text)]))]


def _behind(text: str, end: int) -> str:
    return _cut(text, end).answer


def _cut(text: str, end: int) -> Said:
    """Cut at a place; reasoning that follows at once is cut off too, and what closes a message of harmony's."""
    answer = text[end:].lstrip()
    if _HARMONY.match(text):
        answer = _END_OF_MESSAGE.sub("", answer)
    again = _ends_of_opened(answer, opened=False) if answer else None
    if again is not None:
        further = _cut(answer, again[0]) if again else Said(answer, "", ended=False)
        return Said(text[: len(text) - len(answer)] + further.reasoning, further.answer, further.ended)
    return Said(text[:end], answer)


def _ends_of_opened(text: str, opened: bool) -> list[int] | None:
    """Return all places where reasoning that the reply begins with may end; None where it begins with none."""
    if _HARMONY.match(text):
        return [found.end() for found in _FINAL.finditer(text)]
    if _MELTED.match(text):
        return [found.end() for found in _MELTED_FINAL.finditer(text)]
    opening = _OPENING.match(text, len(text) - len(text.lstrip()))
    if opening:
        return _ends(text, _CLOSED_BY[opening[0].lower()], opening.end())
    return _ends(text, _CLOSING, 0) if opened else None


def _ends(text: str, closing: re.Pattern[str], start: int) -> list[int]:
    """Return the ends of the closing marks; those that are written about only where there are no others."""
    found = [match.span() for match in closing.finditer(text, start)]
    return [end for _, end in [place for place in found if _is_mark(text, *place)] or found]


def _bare_closings(text: str) -> list[tuple[int, int]]:
    """Return the places of closing marks before which nothing was opened."""
    opening = _OPENING.search(text)
    before = opening.start() if opening else len(text)
    return [found.span() for found in _CLOSING.finditer(text) if found.start() < before]


def _is_mark(text: str, start: int, end: int) -> bool:
    """Tell a mark that ends reasoning from one that is written about.

    Quoted, in a code block, or in the middle of a line behind a space, it is a word among words.
    """
    before, after = text[:start], text[end:]
    if before.count("```") % 2 or before[-1:] in tuple(_QUOTES) or after[:1] in tuple(_QUOTES):
        return False
    return not before[-1:].isspace() or before[-1:] == "\n" or after[:1] in ("", "\n")


def _without_blocks(text: str) -> str:
    """Return the text without the whole blocks of reasoning in its middle."""
    at, kept = 0, []
    while opening := _OPENING.search(text, at):
        closing = _CLOSED_BY[opening[0].lower()].search(text, opening.end())
        if closing is None:
            break
        kept.append(text[at : opening.start()])
        at = closing.end()
    return "".join([*kept, text[at:]])
