"""The cost of grading samples while a matrix is trained, estimated before anything of it is started."""

from __future__ import annotations

from collections.abc import Sequence

from seft_bench import pipeline
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.errors import InputError
from seft_bench.evaluation.cost_estimate import Estimate, Line, estimate_grading
from seft_bench.stages import door


def grading_cost(bench: Bench, untrained: Sequence[Cell]) -> Estimate:
    """Estimate what servers would be asked for the samples of cells; those that cells share count for each."""
    asking = {name for name, judge in bench.grader_configs.items() if judge.kind == "openai"}
    lines: list[Line] = []
    for cell in untrained:
        plan = door.methods.build_stages(cell.row.method, cell.row.settings, bench.matrix.checkpoints)
        if asking & {door.stages.grader_of(stage) for stage in plan}:
            left = pipeline.left_to_grade(cell.recipe, bench.stages_folder, bench.matrix.checkpoints)
            lines += estimate_grading(left).lines
    return Estimate(lines)


def check_budget(found: Estimate, budget_usd: float | None) -> None:
    """Refuse a budget that nobody would keep: workers grade, and each counts for itself.

    Raises:
        InputError: there is one, and grading costs something.
    """
    paid = [line for line in found.lines if line.to_ask and line.usd != (0.0, 0.0)]
    if budget_usd is not None and paid:
        raise InputError(
            f"--budget cannot be kept where workers pay: {sum(line.to_ask for line in paid)} samples are graded by "
            f"{paid[0].by} while rows train. Train those rows alone (`seft-bench train --budget`), or give --yes"
        )
