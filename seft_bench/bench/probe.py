"""Hours of a matrix by a short probe: a little of each kind of cell, at two sizes, and a straight line through them.

Two sizes tell what is paid once (loading, compiling) from what is paid a step or a prompt. The probe's models are
hardly trained, so their answers tend to be longer than those to come; its files are removed at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seft_bench.bench.executors import ExecutorSettings
from seft_bench.bench.matrix import Cell
from seft_bench.bench.plan import CellState
from seft_bench.bench.probe_cell import BATCHES, STEPS, Cost, Measured, measure_cell
from seft_bench.bench.resolved import Bench
from seft_bench.console import note
from seft_bench.errors import SeftBenchError
from seft_bench.records import Row

HOW = (
    f"estimated on this machine from {STEPS[0]} and {STEPS[1]} training steps and from {BATCHES[0]} and {BATCHES[1]} "
    "batches of prompts and questions of each base, data set and row, a straight line through the two; stages that "
    "cells share count once; judges are not in it"
)


@dataclass(frozen=True)
class Hours:
    """The work still to be done, in hours of the device that the probe ran on.

    Attributes:
        device: "GPU" or "CPU".
        rows: name of a cell's kind -> hours of training one seed, shared stages included.
        wall_hours: with the executor's number of workers, all of them busy.
        failed: kinds that could not be trained, with the error; not in the hours.
    """

    device: str
    rows: Mapping[str, float]
    training_hours: float
    answering_hours: float
    wall_hours: float
    tokens: int
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def total_hours(self) -> float:
        return self.training_hours + self.answering_hours

    def lines(self) -> list[str]:
        parts = f"{self.training_hours:.3g} training, {self.answering_hours:.3g} answering, {self.tokens:,} tokens"
        left_out = [
            f"probe of {kind} failed, so its cells are not in the hours: {message}"
            for kind, message in self.failed.items()
        ]
        return [
            *left_out,
            f"about {self.total_hours:.3g} {self.device} hours ({parts}), {self.wall_hours:.3g} hours of waiting",
            HOW,
        ]

    def as_row(self) -> Row:
        return {
            **vars(self),
            "rows": dict(self.rows),
            "failed": dict(self.failed),
            "total_hours": self.total_hours,
            "how": HOW,
        }


def probe_hours(bench: Bench, todo: Sequence[CellState], executor: ExecutorSettings) -> Hours:
    """Measure in a process of its own, which takes its memory with it, and add up over the cells to run.

    A kind of cell that cannot be trained is left out.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    kinds = {_kind(state.cell): state.cell for state in todo}
    values = bench.matrix.as_row()
    bench.out.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Measured] = {}
    failed: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(dir=bench.out, prefix=".probe-", ignore_cleanup_errors=True) as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        for number, (kind, cell) in enumerate(kinds.items(), start=1):
            note(f"probe {number}/{len(kinds)}: {kind}")
            try:
                threads = executor.cpus_per_cell or 1
                measured[kind] = pool.submit(measure_cell, values, cell.name, Path(folder), threads).result()
            except SeftBenchError as error:
                failed[kind] = str(error)
    possible = [state for state in todo if _kind(state.cell) in measured]
    return replace(_added_up(possible, measured, executor), failed=failed)


def _kind(cell: Cell) -> str:
    """Name what cells share that differ in their seed only."""
    return "-".join([*cell.group.values(), cell.row.name])


def _added_up(todo: Sequence[CellState], measured: Mapping[str, Measured], executor: ExecutorSettings) -> Hours:
    is_gpu = any(found.gpu for found in measured.values())
    clock, share = ("wall_seconds", executor.gpus_per_cell or 1.0) if is_gpu else ("cpu_seconds", 1.0)
    stages: dict[tuple[str, int], Cost] = {}
    answers: list[Cost] = []
    for state in todo:
        found = measured[_kind(state.cell)]
        if not state.is_trained:
            stages |= {(name, state.cell.seed): cost for name, cost in found.stages.items()}
        part = state.answers.missing / state.answers.wanted if state.answers.wanted else 0.0
        answers.append({key: part * value for key, value in found.answers.items()})
    everything = [*stages.values(), *answers]
    return Hours(
        device="GPU" if is_gpu else "CPU",
        rows={kind: share * _sum(found.stages.values(), clock) / 3600 for kind, found in measured.items()},
        training_hours=share * _sum(stages.values(), clock) / 3600,
        answering_hours=share * _sum(answers, clock) / 3600,
        wall_hours=_sum(everything, "wall_seconds") / 3600 / max(1, min(executor.workers, len(todo))),
        tokens=round(_sum(everything, "tokens")),
    )


def _sum(costs: Iterable[Cost], key: str) -> float:
    return float(sum(cost[key] for cost in costs))
