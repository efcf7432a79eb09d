"""What a run saves while it trains: the checkpoints asked for, and the state that a killed run goes on from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seft_bench.checkpoints.holds import CHECKPOINT
from seft_bench.ownership import remove_listed
from seft_bench.records import Row

from .checkpoint import save_checkpoint, save_state, step_name
from .record import Clock
from .run import Run
from .settings import checkpoint_steps
from .sharding import gathered, gathered_weights

FIRST_SAVE_SECONDS = 60.0
"""A run's first state is saved this early: a long step or a slow disk shows in what it took."""

LARGEST_SHARE = 0.05
"""Of the run's time, that saving its state may take."""


@dataclass
class StateRhythm:
    """When the state is saved: by a clock, or every so many steps.

    Attributes:
        every_seconds: between two saves; longer where saves would take more than `LARGEST_SHARE` of the time.
        every_steps: a save each so many steps instead, whatever it takes.
        seconds: a clock.
    """

    every_seconds: float
    every_steps: int | None = None
    seconds: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    ended: float | None = field(init=False, default=None)
    spent: float = field(init=False, default=0.0)
    longest: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.started = self.seconds()

    def is_due(self, step: int, at_checkpoint: bool) -> bool:
        """Return whether the state is saved after this step.

        A checkpoint is a good moment, because what goes on from there never makes it again.
        """
        if self.every_steps is not None:
            return at_checkpoint or step % self.every_steps == 0
        wanted = self.every_seconds if self.ended else min(self.every_seconds, FIRST_SAVE_SECONDS)
        waited = self.seconds() - (self.ended or self.started)
        return (at_checkpoint or waited >= wanted) and self._is_affordable()

    def _is_affordable(self) -> bool:
        """Return whether all saves together stay within their share; what the first one takes, nobody knows yet."""
        return self.spent + self.longest <= LARGEST_SHARE * (self.seconds() - self.started)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure one save."""
        before = self.seconds()
        yield
        self.ended = self.seconds()
        self.spent += self.ended - before
        self.longest = max(self.longest, self.ended - before)


@dataclass(frozen=True)
class Saver:
    """Saves checkpoints, and the state that a killed run goes on from.

    Attributes:
        facts: what every checkpoint's checkpoint.json says of this run.
    """

    out: Path
    tokenizer: Any
    facts: Row
    clock: Clock
    rhythm: StateRhythm

    def save(self, run: Run, loss: float, best_step: int | None = None) -> None:
        """Save what is due after a step.

        Args:
            best_step: the step whose checkpoint is to be the last, so far; None where that is the last step's.
        """
        at_checkpoint = run.step == best_step or run.step in checkpoint_steps(run.steps, run.job.checkpoints)
        if at_checkpoint:
            self._save_checkpoint(run, loss)
        if run.may_pause and run.processes.from_main(lambda: self.rhythm.is_due(run.step, at_checkpoint)):
            # After the checkpoint: a run that goes on from this state never makes that checkpoint again.
            with self.rhythm.measured():
                self._save_state(run)
            if best_step is not None and run.processes.is_main:
                # Only now: a run that goes on from an older state may need its best checkpoint of then.
                keep_checkpoints(self.out, {best_step, *checkpoint_steps(run.steps, run.job.checkpoints)})

    def _save_state(self, run: Run) -> None:
        """Let the first process write whole tensors, which all processes gather."""
        facts, tensors = run.facts() | self.clock.facts(), gathered(run.tensors(), run.processes)
        if run.processes.is_main:
            save_state(self.out / "state", tensors, facts)
        else:
            deque(tensors, maxlen=0)

    def _save_checkpoint(self, run: Run, loss: float) -> None:
        facts = {"step": run.step, "steps": run.steps, "tokens": run.tokens, "loss": loss}
        folder = self.out / "checkpoints" / step_name(run.step)
        weights = gathered_weights(run.model, run.processes)
        if run.processes.is_main:
            save_checkpoint(folder, run.model, self.tokenizer, facts | self.facts, weights)


def final_steps(run: Run, best_step: int | None) -> list[int]:
    """List the steps whose checkpoints a run leaves: those asked for; up to the best one, where that is the last."""
    asked = checkpoint_steps(run.steps, run.job.checkpoints)
    return asked if best_step is None else [*(step for step in asked if step < best_step), best_step]


def keep_checkpoints(out: Path, steps: Collection[int]) -> None:
    """Remove the checkpoints of all other steps."""
    kept = {step_name(step) for step in steps}
    for folder in (out / "checkpoints").glob("step-*"):
        if folder.name not in kept:
            remove_listed(folder, CHECKPOINT)
