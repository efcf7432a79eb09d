"""The probe of one kind of cell: its stages with a few steps and batches, at two sizes, scaled to the full one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.bench.matrix import Cell, find_cell
from seft_bench.config import MatrixConfig, data_label, data_row
from seft_bench.files import read_jsonl, sha256_json, write_jsonl
from seft_bench.generators import Decoding
from seft_bench.records import Answer, Base, Data, Model, Output, Row, Source
from seft_bench.stages import StageRun, door
from seft_bench.suites import Suite

if TYPE_CHECKING:
    from seft_bench.generators.conversations import ConversationGenerator
    from seft_bench.stages.door import stages as kinds

STEPS = (3, 9)
"""Optimizer steps of the two sizes."""
BATCHES = (1, 2)
"""Batches of prompts and of questions of the two sizes: less than one would not show what a full batch costs."""

Cost = dict[str, float]
"""wall_seconds, cpu_seconds, tokens."""


def straight_line(small: tuple[float, float], large: tuple[float, float], size: float) -> float:
    """Read the value at `size` off a line through two points (size, value).

    Where noise leaves no slope, the value is proportional to the larger point's.

    >>> straight_line((1, 12.0), (2, 14.0), 10), straight_line((1, 5.0), (2, 4.0), 10)
    (30.0, 20.0)
    """
    (x, y), (x_large, y_large) = small, large
    if x_large <= x or y_large <= y:
        return y_large * size / x_large if x_large else y_large
    slope = (y_large - y) / (x_large - x)
    start = y_large - slope * x_large
    return start + slope * size if start > 0 else y_large * size / x_large


@dataclass(frozen=True)
class Measured:
    """Costs of one kind of cell at full size.

    Attributes:
        stages: identity of a stage, which other kinds may share -> its cost.
        answers: of answering all suites with all checkpoints.
    """

    gpu: bool
    stages: Mapping[str, Cost]
    answers: Cost


def measure_cell(values: Row, name: str, folder: Path, threads: int) -> Measured:
    """Measure one kind of cell; runs in the probe's own process.

    Args:
        values: the matrix, as a row.
        name: of the cell.
        threads: that torch may use.
    """
    import torch

    torch.set_num_threads(threads)
    matrix = MatrixConfig.model_validate(values)
    probe = _Probe(matrix, find_cell(matrix, name), folder)
    if not (folder / "warm").exists():
        probe.train(0, "warm")  # imports and first kernels: no part of what a cell costs
    runs = [probe.train(0, "small"), probe.train(1, "large")]
    stages = {
        probe.identity(small.stage.name): probe.full_cost(small, large) for small, large in zip(*runs, strict=True)
    }
    return Measured(torch.cuda.is_available(), stages, probe.answer(runs[1][-1].model))


class _Probe:
    """One kind of cell, made small."""

    def __init__(self, matrix: MatrixConfig, cell: Cell, folder: Path) -> None:
        from seft_bench.data.training import open_data

        self._matrix, self._cell, self._folder = matrix, cell, folder
        self.stages = {stage.name: stage for stage in door.methods.build_stages(cell.row.method, cell.row.settings, 1)}
        needed = door.stages.data_sets(self.stages.values())
        data = open_data(cell.data, cell.seed, folder / "data", needed)
        self._rows = {name: read_jsonl(data / f"{name}.jsonl", "data set") for name in needed}
        self._batch = max([size for stage in self.stages.values() if (size := _batch_size(stage))], default=32)

    def train(self, size: int, name: str) -> list[StageRun]:
        """Run all stages on parts of the data sets, with few steps."""
        from seft_bench.stages import Workshop, run_stages
        from seft_bench.stages.engines import needed_engine, open_engine
        from seft_bench.stages.models import open_models

        data = self._folder / name / f"data-{_slug(data_label(self._cell.data))}-{self._batch}"
        for data_set, rows in self._rows.items():
            write_jsonl(data / f"{data_set}.jsonl", rows[: BATCHES[size] * self._batch])
        small = [self._small(stage, size) for stage in self.stages.values()]
        recipe = self._cell.recipe
        base, ready = open_models(recipe, small, self._folder / "data")
        judge = self._matrix.diagnostics_judge
        shop = Workshop(self._folder / name, base, data, self._cell.seed, judge, ready=ready)
        engine_name = needed_engine(recipe.engine, small)
        with open_engine(engine_name, self._folder / "vllm-logs", recipe.vllm.server_arguments()) as engine:
            return run_stages(small, replace(shop, engine=engine))

    def _small(self, stage: kinds.Stage, size: int) -> kinds.Stage:
        if stage.kind != "train":
            return stage
        settings = stage.settings.model_copy(update={"epochs": None, "max_tokens": None, "max_steps": STEPS[size]})
        return replace(stage, settings=settings)

    def identity(self, name: str) -> str:
        """Hash what cells share that run a stage with the same settings on the same inputs.

        The small runs of different stages may be equal.
        """
        stage = self.stages[name]
        inputs = {
            role: self.identity(source.stage) if isinstance(source, Output) else str(source)
            for role, source in stage.inputs.items()
        }
        return sha256_json([self._cell.base, data_row(self._cell.data), stage.kind, stage.settings_row(), inputs])

    def full_cost(self, small: StageRun, large: StageRun) -> Cost:
        """Estimate a stage's cost at full size from its two small runs."""
        stage = self.stages[small.stage.name]
        if stage.kind == "train":
            sizes, full = STEPS, self._full_steps(stage, large)
        else:
            sizes, full = (self._rows_in(stage, 0), self._rows_in(stage, 1)), self._rows_in(stage, None)
        return {
            key: straight_line((sizes[0], value(small.record)), (sizes[1], value(large.record)), full)
            for key, value in _MEASURES.items()
        }

    def _full_steps(self, stage: kinds.Train, large: StageRun) -> int:
        rows = large.record["rows"] * self._rows_in(stage, None) / max(1, self._rows_in(stage, 1))
        return stage.job(0).steps(round(rows))

    def _rows_in(self, stage: kinds.Stage, size: int | None) -> int:
        """Count the rows that a stage reads at one of the probe's sizes, or in full (None)."""
        return max((self._rows_of(source, size) for source in door.stages.row_sources(stage)), default=1)

    def _rows_of(self, source: Source, size: int | None) -> int:
        match source:
            case Base() | Model():
                return 1
            case Data(name):
                rows = len(self._rows[name])
                return rows if size is None else min(rows, BATCHES[size] * self._batch)
            case Output(name):
                stage = self.stages[name]
                rows = self._rows_in(stage, size)
                return _drafts_of(stage, rows) if stage.kind == "sample" else rows

    def answer(self, model: Path) -> Cost:
        """Estimate answering every suite at every decoding with every checkpoint of a cell."""
        from seft_bench.subjects import open_checkpoint
        from seft_bench.suites import load_suite

        generator, total = open_checkpoint(model, "probe"), dict.fromkeys(_MEASURES, 0.0)
        for suite in map(load_suite, self._matrix.suites):
            for name in suite.config.decodings:
                cost = self._answer_suite(generator, suite, name)
                total = {key: total[key] + self._matrix.checkpoints * cost[key] for key in total}
        return total

    def _answer_suite(self, generator: ConversationGenerator, suite: Suite, name: str) -> Cost:
        questions = suite.questions()
        sizes = [min(len(questions), batches * generator.batch_size) for batches in BATCHES]
        decoding = Decoding(name, suite.config.decodings[name], suite.config.max_new_tokens, 0)
        costs = [_timed(partial(generator.answer, questions[:size], decoding)) for size in sizes]
        return {
            key: straight_line((sizes[0], costs[0][key]), (sizes[1], costs[1][key]), len(questions)) for key in costs[0]
        }


def _batch_size(stage: kinds.Stage) -> int | None:
    """Return the conversations that a stage completes at once; None where it completes none."""
    if stage.kind == "sample" or stage.kind == "revise" or (stage.kind == "score" and stage.what == "calibration"):
        return stage.settings.batch_size
    return None


def _drafts_of(stage: kinds.Sample, prompts: int) -> int:
    """Count the drafts that a stage makes of so many prompts."""
    first = min(prompts, (stage.first and stage.first.count) or prompts)
    return max(1, first // (stage.part.parts if stage.part else 1))


_MEASURES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "wall_seconds": lambda record: float(record["wall_seconds"]),
    "cpu_seconds": lambda record: float(record["cpu_seconds"]),
    "tokens": lambda record: float(record.get("tokens_trained", 0) + record.get("tokens_generated", 0)),
}


def _timed(answer: Callable[[Callable[[Answer], None]], None]) -> Cost:
    tokens: list[int] = []
    wall, cpu = time.monotonic(), time.process_time()
    answer(lambda one: tokens.append(sum(one.completion_tokens)))
    return {
        "wall_seconds": time.monotonic() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "tokens": float(sum(tokens)),
    }


def _slug(name: str) -> str:
    from seft_bench.results import slug

    return slug(name)
