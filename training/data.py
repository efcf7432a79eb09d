"""A data set as tokenised, counted examples (`rows` says the formats), and the order in which the loop takes them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from seft_bench.checkpoints.weights import positions_of
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl
from seft_bench.records import Row

from .loss_table import Rows
from .rows import (
    REASONS,
    Dropped,
    Learn,
    Reason,
    cut_example,
    labelled_example,
    located,
    pair_example,
    prompt_example,
    rewarded_example,
    single_example,
    with_mismatched,
)
from .settings import TrainJob
from .tokens import Example, Tokens

__all__ = [
    "Batch",
    "DataCounts",
    "DataRules",
    "Example",
    "Tokens",
    "batch_plan",
    "collate",
    "data_rules",
    "examples_of",
    "load_examples",
    "planned_steps",
    "steps_within",
]

BATCHES_IN_A_CHUNK = 16
"""Global batches that are sorted by length together.

Enough to cut padding to a few percent, few enough to stay shuffled.
"""


@dataclass(frozen=True, slots=True)
class DataCounts:
    """Counts of what became of a data set's rows.

    Attributes:
        rows: rows of the file.
        used: examples to train on.
        dropped: reason (see `rows.REASONS`) -> rows that were left out for it.
        truncated_answers: answers (each side of a pair counts) cut at the maximal length, which lack the stop token.
        tokens, labelled_tokens: of one epoch, both sides of pairs.
    """

    rows: int
    used: int
    dropped: Mapping[str, int]
    truncated_answers: int
    tokens: int
    labelled_tokens: int

    @property
    def dropped_share(self) -> float:
        return 1 - self.used / self.rows

    def dropped_in_words(self) -> str:
        """Say how many rows were dropped, and why: "31 of 32 rows (31 prompt_too_long)"."""
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"{self.rows - self.used:,} of {self.rows:,} rows ({why})"


@dataclass(frozen=True)
class DataRules:
    """The rules by which rows become examples.

    Attributes:
        max_length: tokens of prompt and answer together; longer answers are cut, prompts never.
        rows: the kind of them, see `loss_table.Rows`.
        positions: of the model; `max_length` may exceed them, no sequence may.
        max_dropped_share: of the rows; above it the data is refused.
        learn: which turns of `messages` are learnt, where a row does not say it.
        mismatched: examples also get an answer to another prompt.
        drawn_tokens: that the answers to prompts may have.
    """

    max_length: int
    rows: Rows = "answers"
    positions: int | None = None
    max_dropped_share: float = 1.0
    learn: Learn = "last"
    mismatched: bool = False
    drawn_tokens: int = 0


def data_rules(job: TrainJob, config: Any) -> DataRules:
    """Return the rules of a job, for a model of this configuration."""
    given, loss, positions = job.settings, job.loss_entry, positions_of(config)
    allowed, drawn = given.max_dropped_share, job.online.max_new_tokens if job.online else 0
    return DataRules(given.max_length, loss.rows, positions, allowed, given.learn, loss.needs_mismatched, drawn)


Through = Callable[[Row, Callable[[Row], Example]], Example]
"""Given a row and what tokenises it, returns its example: where rows are kept, see `kept`."""


def _directly(row: Row, make: Callable[[Row], Example]) -> Example:
    return make(row)


def load_examples(
    path: Path, tokenizer: Any, rules: DataRules, through: Through = _directly
) -> tuple[list[Example], DataCounts]:
    """Read and tokenise a data set.

    Raises:
        InputError: the file or a row is malformed (with its line number), too many rows teach nothing, or a sequence
            is longer than the model's positions.
    """
    return examples_of(read_jsonl(path, "training data"), path, tokenizer, rules, through)


def examples_of(
    rows: Sequence[Row], path: Path, tokenizer: Any, rules: DataRules, through: Through = _directly
) -> tuple[list[Example], DataCounts]:
    """Tokenise rows as `load_examples` does.

    Args:
        rows: one for each row of the file at `path`, in its order: messages name its lines.
    """
    examples, dropped, truncated = [], Counter[str](), 0
    make = partial(_example, tokenizer, rules)
    for position, row in enumerate(rows):
        try:
            with located(path, position, "training data"):
                whole = through(row, make)
            is_rewarded = rules.rows == "conversations"
            examples.append(cut_example(whole, rules.max_length, rules.drawn_tokens, is_rewarded))
            truncated += sum(len(sequence.ids) > rules.max_length for sequence in whole.sequences)
        except Dropped as reason:
            dropped[reason.reason] += 1
    counts = _count(len(rows), examples, dropped, truncated)
    _check_dropped(path, counts, rules)
    if rules.mismatched:
        try:
            examples = with_mismatched(examples, rules.max_length)
        except InputError as error:
            raise InputError(f"training data {path}: {error}") from None
    _check_positions(path, examples, rules)
    return examples, counts


def _example(tokenizer: Any, rules: DataRules, row: Row) -> Example:
    if rules.rows == "pairs":
        return pair_example(tokenizer, row)
    if rules.rows == "prompts":
        return prompt_example(tokenizer, row)
    if rules.rows == "conversations":
        return rewarded_example(tokenizer, row)
    return labelled_example(tokenizer, row) if rules.rows == "labels" else single_example(tokenizer, row, rules.learn)


def _count(rows: int, examples: Sequence[Example], dropped: Mapping[str, int], truncated: int) -> DataCounts:
    sequences = [sequence for example in examples for sequence in example.sequences]
    return DataCounts(
        rows=rows,
        used=len(examples),
        dropped=dict(dropped),
        truncated_answers=truncated,
        tokens=sum(len(sequence.ids) for sequence in sequences),
        labelled_tokens=sum(sequence.labelled for sequence in sequences),
    )


def _check_dropped(path: Path, counts: DataCounts, rules: DataRules) -> None:
    if counts.used and counts.dropped_share <= rules.max_dropped_share:
        return
    why = "; ".join(f"{reason}: {REASONS[cast(Reason, reason)]}" for reason in sorted(counts.dropped))
    allowed = (
        f"more than max_dropped_share = {rules.max_dropped_share:g} allows" if counts.used else "so nothing is left"
    )
    raise InputError(
        f"training data {path}: {counts.dropped_in_words()} teach nothing, {allowed} ({why}). Mend the rows, raise "
        f"max_length (now {rules.max_length}), or set max_dropped_share."
    )


def _check_positions(path: Path, examples: Sequence[Example], rules: DataRules) -> None:
    mismatched = [len(example.mismatched.ids) for example in examples if example.mismatched]
    longest = max([*mismatched, *(example.length + rules.drawn_tokens for example in examples)])
    positions = rules.positions
    if positions is not None and longest > positions:
        raise InputError(
            f"training data {path}: the longest sequence has {longest} tokens, and the model positions for {positions} "
            f"only. Set max_length to {positions} or less."
        )


def batch_plan(lengths: Sequence[int], global_batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Plan the global batches of one epoch: indices of examples, each exactly once, similar lengths together.

    Shuffle, sort by length within chunks, cut into batches, shuffle the batches. The plan follows from the arguments
    alone, so a resumed run needs no state of a random generator.
    """
    generator = random.Random(f"batch plan/{seed}/{epoch}")
    order = list(range(len(lengths)))
    generator.shuffle(order)
    chunk_size = global_batch_size * BATCHES_IN_A_CHUNK
    chunks = [order[start : start + chunk_size] for start in range(0, len(order), chunk_size)]
    by_length = [index for chunk in chunks for index in sorted(chunk, key=lambda index: lengths[index])]
    batches = [by_length[start : start + global_batch_size] for start in range(0, len(by_length), global_batch_size)]
    generator.shuffle(batches)
    return batches


def planned_steps(job: TrainJob, examples: Sequence[Example]) -> int:
    """Count the optimizer steps of a run over these examples, at least 1.

    Raises:
        InputError: the first batch has more tokens than the run may take.
    """
    if job.settings.max_tokens is None:
        return job.steps(len(examples))
    tokens = [sum(len(sequence.ids) for sequence in example.sequences) for example in examples]
    lengths = [example.length for example in examples]
    return steps_within(job.settings.max_tokens, tokens, lengths, job.settings.global_batch_size, job.seed)


def steps_within(max_tokens: int, tokens: Sequence[int], lengths: Sequence[int], batch_size: int, seed: int) -> int:
    """Count the steps of the batch plan whose tokens stay within a number of them.

    Args:
        tokens, lengths: of each example; those of both sides, and of the longer one.

    Raises:
        InputError: the first batch has more.
    """
    whole, left = divmod(max_tokens, sum(tokens))  # every epoch has the same tokens
    steps = whole * math.ceil(len(tokens) / batch_size)
    for batch in batch_plan(lengths, batch_size, seed, epoch=whole):
        left -= sum(tokens[index] for index in batch)
        if left < 0:
            break
        steps += 1
    if not steps:
        raise InputError(
            f"training settings: max_tokens: {max_tokens} are fewer than the first batch has. Give more, or a smaller "
            "global_batch_size"
        )
    return steps


class Batch(NamedTuple):
    """Sequences padded on the right to the longest.

    Attributes:
        ids: [n, width] int64.
        labelled: [n, width] bool, True where the token is learnt.
    """

    ids: Tensor
    labelled: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.ids.to(device, non_blocking=True), self.labelled.to(device, non_blocking=True))


def collate(sequences: Iterable[Tokens]) -> Batch:
    """Pad on the right with id 0: under causal attention no real token ever sees it, and it is never labelled."""
    rows = list(sequences)
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    labelled = torch.zeros(len(rows), width, dtype=torch.bool)
    for position, row in enumerate(rows):
        ids[position, : len(row.ids)] = torch.frombuffer(row.ids, dtype=torch.int32)
        for first, end in row.learnt:
            labelled[position, first:end] = True
    return Batch(ids, labelled)
