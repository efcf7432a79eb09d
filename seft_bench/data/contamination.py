"""Does a training text ask what a suite asks? Pure.

The rule is Tülu 3's (arXiv 2411.15124, section 3.2): a word of a question counts as found where both texts share a
sequence of 8 words that holds it, and the question is found in a text that holds more than half of its words so. A
question of fewer than 8 words has no such sequence: it is found where it is the whole text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from seft_bench.records import Row

WORDS = 8
SHARE = 0.5

RULE = (
    f"a question is found in a text that shares sequences of {WORDS} words with it which hold over {SHARE:.0%} of its "
    "words; a shorter one where it is the whole text"
)

_WORD = re.compile(r"\w+")


class Asked(NamedTuple):
    """A turn of a suite's question."""

    suite: str
    text: str


def words_of(text: str) -> list[str]:
    """Split a text into words without case and punctuation."""
    return _WORD.findall(text.casefold())


class QuestionIndex:
    """Questions, to be found in texts."""

    def __init__(self, questions: Iterable[Asked]) -> None:
        self._questions = list(dict.fromkeys(questions))
        self._words = [words_of(question.text) for question in self._questions]
        self._whole: dict[str, int] = {}
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, words in enumerate(self._words):
            if len(words) < WORDS:
                self._whole.setdefault(" ".join(words), number)
            for start, sequence in _sequences(words):
                self._places[sequence].append((number, start))
        self._whole.pop("", None)

    def find(self, text: str) -> Asked | None:
        """Return the question of which the text holds most, None where that is too little."""
        words = words_of(text)
        if len(words) < WORDS:
            number = self._whole.get(" ".join(words))
            return None if number is None else self._questions[number]
        found: dict[int, set[int]] = defaultdict(set)
        for _, sequence in _sequences(words):
            for number, start in self._places.get(sequence, ()):
                found[number].update(range(start, start + WORDS))
        shares = {number: len(held) / len(self._words[number]) for number, held in found.items()}
        number = max(shares, key=lambda number: shares[number], default=None)
        return self._questions[number] if number is not None and shares[number] > SHARE else None

    def find_in_row(self, row: Row) -> tuple[Asked, str] | None:
        """Return a question that a row of training data asks, and the text of the row that does."""
        for text in asking_texts(row):
            if asked := self.find(text):
                return asked, text
        return None


def asking_texts(row: Row) -> list[str]:
    """List what the user asks in a row of ours, or its plain text; answers are not looked at."""
    if "text" in row:
        return [row["text"]]
    messages = row["prompt"] if "prompt" in row else row["messages"]
    return [message["content"] for message in messages if message["role"] == "user"]


def _sequences(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    for start in range(len(words) - WORDS + 1):
        yield start, " ".join(words[start : start + WORDS])
