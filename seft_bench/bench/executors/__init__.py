"""Executors: where the cells of a matrix are trained and answered.

A new one is one file with a `run_cells`, and one line here.

An executor yields what happens (`events.WorkerEvent`). A failed cell does not stop the others. Closing the generator
ends the workers; what they had finished stays.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import cast

from seft_bench.bench.events import WorkerEvent
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.errors import InputError, unknown_name

EXECUTORS = {
    "local": "seft_bench.bench.executors.local:run_cells",
    "ray": "seft_bench.bench.executors.ray:run_cells",
}

TICK_SECONDS = 0.5

Events = Generator[WorkerEvent, None, None]


@dataclass(frozen=True)
class ExecutorSettings:
    """The means that an executor may use.

    Attributes:
        workers: cells at a time (with Ray: on a cluster that is started here; another one decides itself).
        address: of a Ray cluster, "auto" (the one that runs here) or "local" (start one).
        cpus_per_cell: None: the cores shared out among the workers, 1 with Ray.
        gpus_per_cell: None: one where there are any.
        retries: how often a cell is run again whose worker or node was lost.
    """

    name: str = "local"
    workers: int = 1
    address: str = "auto"
    cpus_per_cell: int | None = None
    gpus_per_cell: float | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        if self.name not in EXECUTORS:
            raise unknown_name("executor", self.name, EXECUTORS)


def check_executor(settings: ExecutorSettings, bench: Bench) -> None:
    """Refuse an executor whose package is not installed, or that cannot run this matrix.

    Raises:
        InputError: it cannot be used.
    """
    if settings.name == "ray":
        from seft_bench.bench.executors.ray import import_ray

        import_ray()
        judge = bench.matrix.diagnostics_judge
        if judge and bench.judge_configs[judge].kind == "openai":
            raise InputError(
                f"diagnostics_judge {judge} asks a server from the workers, and keys stay with the driver: take another"
            )
        for name, grader in bench.grader_configs.items():
            if grader.kind in ("openai", "vllm"):
                raise InputError(
                    f"grader {name} asks a server from the workers, and keys and the response store stay with the "
                    "driver: take another grader, or --executor local"
                )


def run_cells(bench: Bench, todo: Sequence[Cell], settings: ExecutorSettings) -> Events:
    """Train and answer cells; yields what happens."""
    module, _, name = EXECUTORS[settings.name].partition(":")
    run = cast(
        Callable[[Bench, Sequence[Cell], ExecutorSettings], Events], getattr(importlib.import_module(module), name)
    )
    return run(bench, todo, settings)
