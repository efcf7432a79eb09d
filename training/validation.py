"""Validation on a held-out part of a run's data: who belongs to it, what is measured on it, and when a run is over.

Held out are questions, not rows: all rows whose conversation opens with the same question stand on one side, a
reviser's rows about different drafts of one answer too. The side follows from the question's own hash, so it stays when
rows come or go, and it is the same in every stage of a method.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Row

from .data import Example
from .reference import first_epoch_batches
from .run import Run
from .settings import EarlyStop, ValidationSettings

LEARNT, HELD_OUT = "learnt_rows.jsonl", "held_out_rows.jsonl"
"""Files of the two sides, in the folder of the run."""


def split_file(data_file: Path, settings: ValidationSettings, out: Path) -> tuple[Path, Path]:
    """Write the rows that are learnt and those held out each to a file in `out`; return the two.

    Raises:
        InputError: one side would be empty.
    """
    learnt, held_out = checked_split(read_jsonl(data_file, "training data"), settings, data_file)
    write_jsonl(out / LEARNT, learnt)
    write_jsonl(out / HELD_OUT, held_out)
    return out / LEARNT, out / HELD_OUT


def checked_split(rows: Sequence[Row], settings: ValidationSettings, data_file: Path) -> tuple[list[Row], list[Row]]:
    """Part rows as `split_rows`.

    Raises:
        InputError: one side would be empty.
    """
    learnt, held_out = split_rows(rows, settings)
    if not learnt or not held_out:
        asked = f"share {settings.share}" if settings.share is not None else f"rows {settings.rows}"
        raise InputError(
            f"validation: {asked} of {data_file} holds out {len(held_out)} rows and leaves {len(learnt)} to learn. "
            "Rows with the same question stay together: give another share or number of rows"
        )
    return learnt, held_out


def split_rows(rows: Sequence[Row], settings: ValidationSettings) -> tuple[list[Row], list[Row]]:
    """Part rows into those that are learnt and those held out, each in their order."""
    places = [place_of(row) for row in rows]
    limit = settings.share if settings.share is not None else _limit(places, settings.rows or 0)
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row, place in zip(rows, places, strict=True):
        sides[place < limit].append(row)
    return sides


def _limit(places: Sequence[float], rows: int) -> float:
    """Return the place below which as many rows lie as are asked for, or the fewest above that."""
    ordered = sorted(places)
    return next((place for place in ordered[rows:] if place > ordered[rows - 1]), 2.0)


def place_of(row: Row) -> float:
    """Return the place of a row's question between 0 and 1, by its hash."""
    digest = hashlib.sha256(json.dumps(["held out", _question(row)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _question(row: Row) -> object:
    """Return what a row's conversation opens with: its first message of the user's, or its text."""
    messages = row.get("prompt", row.get("messages", row.get("text")))
    if not isinstance(messages, list):
        return messages
    return next((m.get("content") for m in messages if isinstance(m, dict) and m.get("role") == "user"), messages)


@dataclass
class Validation:
    """What is held out of one run, and what was measured on it.

    Attributes:
        reference: [examples, 2] log-probabilities under the reference model; None without one.
        rows: of validation.jsonl, up to the step of the run.
    """

    settings: ValidationSettings
    examples: Sequence[Example]
    reference: Tensor | None
    rows: list[Row] = field(default_factory=list)

    def is_due(self, step: int, steps: int) -> bool:
        return step % self.settings.every_steps == 0 or step == steps

    def measure(self, run: Run) -> Row:
        """Measure loss and metrics on what is held out; the run is left as it was."""
        parts = first_epoch_batches(self.examples, run.job, run.processes)
        measured: dict[str, Tensor] = {}
        run.model.eval()
        totals = run.totals(self.examples, run.divergence(self.examples, self.reference, parts))
        with torch.no_grad():
            for indices, counts in parts:
                reference = None if self.reference is None else self.reference[indices]
                scores = run.scores([self.examples[index] for index in indices], reference)
                for name, share in run.measured(scores, totals, counts).items():
                    measured[name] = measured[name] + share if name in measured else share
        run.model.train()
        values = run.processes.add_up(torch.stack(list(measured.values()))).tolist()
        self.rows.append({"step": run.step, **dict(zip(measured, values, strict=True))})
        return self.rows[-1]

    @property
    def is_over(self) -> bool:
        """Return whether the held-out loss has not improved for as long as the run was to wait."""
        return self.settings.early_stop is not None and is_over(self.rows, self.settings.early_stop)

    @property
    def kept_step(self) -> int | None:
        """Return the step whose checkpoint is to be the last: the best one's; None where no loss decides."""
        if self.settings.early_stop is None or not self.rows:
            return None
        return int(best_row(self.rows, self.settings.early_stop.min_delta)["step"])

    def summary(self) -> Row:
        """Sum up for summary.json: how many examples, the best and the last measurement."""
        return {"examples": len(self.examples), "best": best_row(self.rows, 0.0), "last": self.rows[-1]}


def best_row(rows: Sequence[Row], min_delta: float) -> Row:
    """Return the last row whose loss lies more than `min_delta` below that of the best one before it."""
    best = rows[0]
    for row in rows[1:]:
        if row["loss"] < best["loss"] - min_delta:
            best = row
    return best


def is_over(rows: Sequence[Row], early_stop: EarlyStop) -> bool:
    """Return whether `patience` measurements in a row brought no better one."""
    if not rows:
        return False
    best: int = best_row(rows, early_stop.min_delta)["step"]
    return len([row for row in rows if row["step"] > best]) >= early_stop.patience
