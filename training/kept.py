"""Tokenised rows that the check of a method's data leaves to the trainings that follow in the same process.

They are known by what the rows hold and by the tokenizer's folder as it was; whatever else is tokenised again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from seft_bench.checkpoints import tokenizer_folder
from seft_bench.files import Stamp, folder_stamp
from seft_bench.records import Row

from .data import DataRules
from .tokens import Example

MOST_TOKENS = 1 << 24
"""Of rows that are kept together: 64 MB."""


class Kept:
    """Examples of rows, before they are cut; each is given away once."""

    def __init__(self) -> None:
        self._examples: dict[bytes, Example] = {}
        self._tokens = 0

    def keep(self, row: Row, make: Callable[[Row], Example]) -> Example:
        """Tokenise a row, and keep what comes of it while there is room."""
        example = make(row)
        size, key = _size(example), _key(row)
        if key not in self._examples and self._tokens + size <= MOST_TOKENS:
            self._examples[key] = example
            self._tokens += size
        return example

    def take(self, row: Row, make: Callable[[Row], Example]) -> Example:
        """Return what was kept of a row, which is then forgotten, or tokenise it."""
        example = self._examples.pop(_key(row), None)
        if example is None:
            return make(row)
        self._tokens -= _size(example)
        return example


def kept_rows(model: Path, rules: DataRules) -> Kept:
    """Find the rows that are kept for a model's tokenizer and for one way to read rows."""
    folder = tokenizer_folder(model).absolute()
    return _kept_at(folder, folder_stamp(folder), rules.rows, rules.learn)


@functools.lru_cache(maxsize=4)
def _kept_at(_folder: Path, _stamp: Stamp, _rows: str, _learn: str) -> Kept:
    return Kept()


def _key(row: Row) -> bytes:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest()


def _size(example: Example) -> int:
    return sum(len(sequence.ids) for sequence in example.sequences)
