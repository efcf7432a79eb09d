"""Score against cost: a point a row of the matrix, and the rows that no other one beats at their price. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from seft_bench.records import Result, RunFacts, run_of
from seft_bench.report.arms import Measure, Panel, is_control
from seft_bench.report.curves import prompt_point
from seft_bench.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A row of a matrix.

    Attributes:
        role: as in the matrix: "start", "method", "ablation" or "control".
        tokens: trained and sampled, mean over seeds.
    """

    row: str
    label: str
    role: str
    tokens: float
    score: Interval


def cost_points(results: Sequence[Result], panel: Panel, measure: Measure) -> list[CostPoint]:
    """Return the rows' points, in the order of the results; none of rows whose cost is unknown."""
    final = [result for result in results if result.run is not None and run_of(result).final and not is_control(result)]
    runs: dict[str, list[RunFacts]] = {}
    for result in final:
        runs.setdefault(run_of(result).row, []).append(run_of(result))
    points = []
    for row, own in runs.items():
        tokens = tokens_of(own)
        found = None if tokens is None else prompt_point(final, panel, row, tokens, measure)
        if found is not None:
            points.append(CostPoint(row, own[0].label or row, own[0].role, *found))
    return points


def tokens_of(runs: Sequence[RunFacts]) -> float | None:
    """Mean over seeds of what was trained on and sampled; None where one of them does not know it."""
    by_seed = {run.seed: (run.tokens_trained, run.tokens_generated) for run in runs}
    known = [trained + sampled for trained, sampled in by_seed.values() if trained is not None and sampled is not None]
    return fmean(known) if known and len(known) == len(by_seed) else None


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Return the points that no other one beats: as cheap and better, or as good and cheaper; cheapest first.

    It is the front of the estimates; their intervals are not looked at.
    """
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.tokens, -point.score.mean)):
        if not front or point.score.mean > front[-1].score.mean:
            front.append(point)
    return front
