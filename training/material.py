"""What a run learns from: its examples, those that are held out, and what the reference model says of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from seft_bench.chat import check_ids

from .adapters import Start, open_model
from .data import DataCounts, Example, data_rules, load_examples, planned_steps
from .distributed import Processes
from .kept import kept_rows
from .packing import check_apart
from .reference import reference_logprobs
from .settings import TrainJob, course_of
from .sharding import placed
from .validation import split_file


@dataclass(frozen=True)
class Sides:
    """Examples of a run.

    Attributes:
        learnt: that are trained on.
        held_out: that validation measures on; empty where none are asked for.
        counts: what became of the rows of the former.
    """

    learnt: list[Example]
    held_out: list[Example]
    counts: DataCounts

    def last_ids(self) -> set[int]:
        """Return the token ids that end sequences."""
        return {ids[-1] for ids in _all_ids(self)}


def load_sides(data_file: Path, tokenizer: Any, model: Path, config: Any, job: TrainJob, out: Path) -> Sides:
    """Read and tokenise a data set, parted where validation is asked for.

    Args:
        model: folder of the model, for whose tokenizer a check may have kept rows.
        config: of the model.
        out: folder of the run, which keeps the rows of the two sides.

    Raises:
        InputError: the data is malformed or does not fit the model.
    """
    rules, validation = data_rules(job, config), job.settings.validation
    kept = kept_rows(model, rules).take
    if validation is None:
        examples, counts = load_examples(data_file, tokenizer, rules, kept)
        return Sides(examples, [], counts)
    learnt_file, held_out_file = split_file(data_file, validation, out)
    examples, counts = load_examples(learnt_file, tokenizer, rules, kept)
    return Sides(examples, load_examples(held_out_file, tokenizer, rules, kept)[0], counts)


def check_fit(model: Any, sides: Sides, job: TrainJob, processes: Processes) -> None:
    """Refuse, before anything is trained, what a model cannot learn from these examples, or not with these settings.

    Raises:
        InputError: the tokenizer is another model's, warmup does not fit into the steps, or sequences of one row are
            not kept apart.
    """
    check_ids(_all_ids(sides), model)
    _ = course_of(job.settings, planned_steps(job, sides.learnt))
    if job.settings.padding_free:
        check_apart(placed(model, job.settings, processes), job.settings)


def _all_ids(sides: Sides) -> Iterator[Sequence[int]]:
    return (sequence.ids for example in [*sides.learnt, *sides.held_out] for sequence in example.sequences)


def references_of(
    sides: Sides, start: Start, frozen: Path | None, fingerprint: str, job: TrainJob, out: Path, processes: Processes
) -> tuple[Tensor | None, Tensor | None]:
    """Return [examples, 2] log-probabilities of the learnt and the held-out side under the frozen model.

    None of a side without examples, and of both where the loss needs no reference.

    Args:
        frozen: None is the model that training starts from, which is asked before its first step; no second one is
            loaded.
        fingerprint: of the frozen model.
        out: folder of the run, which keeps them.
    """
    if not job.loss_entry.needs_reference:
        return None, None

    @cache
    def load() -> Any:
        return placed(open_model(frozen, job, processes) if frozen else start.model, job.settings, processes)

    def of(examples: Sequence[Example]) -> Tensor | None:
        return reference_logprobs(load, fingerprint, examples, job, out / "reference", processes) if examples else None

    return of(sides.learnt), of(sides.held_out)
