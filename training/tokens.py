"""Tokenised examples: ids, and which of them are learnt."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from seft_bench.records import Message

Range = tuple[int, int]
"""[first, end)"""


class Tokens(NamedTuple):
    """One sequence.

    What is learnt is told by position, never by comparing ids with the padding token, which may be the stop token
    itself.

    Attributes:
        ids: prompt, then answer.
        prompt_tokens: how many of them are the prompt, which is not learnt.
        spans: the ranges that are learnt, where they are not simply all behind the prompt.
    """

    ids: array[int]
    prompt_tokens: int
    spans: tuple[Range, ...] = ()

    @classmethod
    def of(cls, prompt: Sequence[int], answer: Sequence[int]) -> Tokens:
        return cls(array("i", [*prompt, *answer]), len(prompt))

    @classmethod
    def of_spans(cls, ids: Sequence[int], spans: Sequence[Range]) -> Tokens:
        """A conversation of which several ranges are learnt."""
        return cls(array("i", ids), spans[0][0], tuple(spans))

    @property
    def learnt(self) -> tuple[Range, ...]:
        """The ranges that are learnt; a sequence's very first token has nothing before it to be predicted from."""
        ranges = self.spans or ((self.prompt_tokens, len(self.ids)),)
        return tuple((max(1, first), end) for first, end in ranges if end > max(1, first))

    @property
    def labelled(self) -> int:
        """Tokens that are learnt."""
        return sum(end - first for first, end in self.learnt)

    def cut(self, max_length: int) -> Tokens:
        """Cut at the end: prompts stay, answers lose theirs."""
        spans = tuple((first, min(end, max_length)) for first, end in self.spans if first < max_length)
        return Tokens(self.ids[:max_length], self.prompt_tokens, spans)


class Example(NamedTuple):
    """One training example.

    Attributes:
        chosen: the answer; of a pair the chosen one.
        rejected: None unless the loss compares two answers.
        label: whether the answer is desirable, where answers are labelled one by one.
        messages: the prompt's, where answers to it are yet to be drawn: `chosen` is the prompt alone.
        mismatched: the same prompt with an answer to another one, where a loss measures on such; it is never learnt.
        weight: of the answer's negative log-likelihood; None: it counts 1.
    """

    chosen: Tokens
    rejected: Tokens | None = None
    label: bool | None = None
    mismatched: Tokens | None = None
    messages: Sequence[Message] | None = None
    weight: float | None = None

    @property
    def sequences(self) -> tuple[Tokens, ...]:
        """The sequences that are learnt."""
        return (self.chosen,) if self.rejected is None else (self.chosen, self.rejected)

    @property
    def length(self) -> int:
        """Tokens of the longest sequence, to which a batch is padded."""
        return max(len(sequence.ids) for sequence in self.sequences)

    def cut(self, max_length: int) -> Example:
        rejected = None if self.rejected is None else self.rejected.cut(max_length)
        return self._replace(chosen=self.chosen.cut(max_length), rejected=rejected)
