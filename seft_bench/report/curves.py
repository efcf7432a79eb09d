"""Points of the curves in the PNG and in the page: a matrix's rows by training step and by prompts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from seft_bench.records import Result, run_of
from seft_bench.report.arms import Arm, Measure, Panel, arm, mean_interval, measure_of
from seft_bench.report.ties import ends
from seft_bench.stats.intervals import Interval
from seft_bench.stats.seeds import joint_interval

Points = list[tuple[float, Interval]]


def panel_measure(results: Sequence[Result], panel: Panel) -> Measure:
    return measure_of(next(result for result in results if result.suite == panel.suite))


def start_point(results: Sequence[Result], panel: Panel) -> tuple[str, Interval] | None:
    """Label and figure of the start's final checkpoint."""
    final = [result for result in results if run_of(result).role == "start" and run_of(result).final]
    found = arm(final, panel)
    estimate = _estimate(found, panel_measure(results, panel)) if found else None
    return None if estimate is None else (run_of(final[0]).label or "start", estimate)


def step_points(results: Sequence[Result], panel: Panel, row: str, measure: Measure) -> Points:
    """Figures of a row's checkpoints by training step, each over its seeds."""
    own = [result for result in results if run_of(result).row == row]
    steps = sorted({run_of(result).step for result in own})
    estimates = [
        (float(step), _estimate(arm([result for result in own if run_of(result).step == step], panel), measure))
        for step in steps
    ]
    return [(step, estimate) for step, estimate in estimates if estimate is not None]


def prompt_point(
    results: Sequence[Result], panel: Panel, row: str, prompts: float, measure: Measure
) -> tuple[float, Interval] | None:
    """Figure of a row's final checkpoints at its number of unannotated prompts."""
    final = [result for result in results if run_of(result).row == row and run_of(result).final]
    estimate = _estimate(arm(final, panel), measure)
    return None if estimate is None else (prompts, estimate)


def _estimate(found: Arm, measure: Measure) -> Interval | None:
    """Estimate over questions and seeds.

    Where the figures of every question are not at hand, from the seeds' own figures and intervals.
    """
    if any(result.per_question for result in found.values()):
        return mean_interval(found, measure)
    results = [found[seed] for seed in sorted(found)]
    if not results or any(result.metrics.get(measure.key) is None for result in results):
        return None
    return joint_interval([Interval(result.metrics[measure.key], *ends(result, measure.key), "") for result in results])
