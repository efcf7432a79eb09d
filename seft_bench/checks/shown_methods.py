"""What a check of two methods shows beyond one of two models: seeds, and whether more seeds or more questions would help."""

from __future__ import annotations

from typing import Any

from seft_bench.checks.compare import Compared
from seft_bench.checks.methods import MethodPair, Seeds, listed
from seft_bench.report.tables import Cell, Column
from seft_bench.stats.crossed import MethodDifference

COLUMNS = (
    Column("seeds", "seeds", role="label"),
    Column("share_of_seeds", "variance from seeds", unit="%", kind="number"),
    Column("needed_seeds", "seeds for the margin", kind="number"),
)
"""After those of every check."""


def _parts(item: Compared) -> tuple[MethodPair, MethodDifference] | None:
    """None for a check of two models."""
    pair, difference = item.measured.pair, item.measured.difference
    return (pair, difference) if isinstance(pair, MethodPair) and isinstance(difference, MethodDifference) else None


def is_of_methods(item: Compared) -> bool:
    return _parts(item) is not None


def cells(item: Compared) -> tuple[Cell, ...]:
    """One a column of `COLUMNS`; none for a check of two models."""
    parts = _parts(item)
    if parts is None:
        return ()
    pair, difference = parts
    seeds = listed(pair.candidate) if pair.is_paired else f"{listed(pair.candidate)} | {listed(pair.baseline)}"
    return Cell(seeds), Cell(100.0 * difference.components.share_of_seeds), Cell(difference.needed_seeds(item.check.margin))


def lines(item: Compared) -> list[str]:
    """The interval beside the test, and what would lower the loss that is seen; nothing for a check of two models."""
    parts = _parts(item)
    if parts is None:
        return []
    difference = parts[1]
    interval, share, fewest = difference.bootstrap, difference.components.share_of_seeds, min(difference.components.seeds)
    said = [f"{item.measured.name}: {_signed(interval.low)} to {_signed(interval.high)} by the {interval.how}; beside the test, not part of it."]
    said += [f"  {share:.0%} of the variance is between training seeds, as far as {fewest} seeds can say; more questions would not lower that part."]
    return [*said, f"  {_what_would_help(item, difference)}"]


def _signed(value: float | None) -> str:
    return "?" if value is None else f"{value:+.2f}"


def _what_would_help(item: Compared, difference: MethodDifference) -> str:
    check = item.check
    loss = f"A loss of {check.margin:g} is found with 80 % power"
    if check.minimal_effect <= check.margin:
        return f"{loss} as it is."
    seeds, questions = difference.needed_seeds(check.margin), check.needed_n
    by_seeds = f"by {seeds} seeds a side on these questions" if seeds else "by no number of seeds on these questions"
    by_questions = f"by {questions:,} questions with these seeds" if questions else "by no number of questions with these seeds"
    return f"{loss} {by_seeds}, or {by_questions}."


def row(item: Compared) -> dict[str, Any]:
    """More keys of a metric in JSON; none for a check of two models."""
    parts = _parts(item)
    if parts is None:
        return {}
    pair, difference = parts
    components = difference.components
    return {
        "seeds": {"candidate": list(pair.candidate), "baseline": list(pair.baseline)},
        "paired_by_seed": pair.is_paired,
        "by_seed": {name: _by_seed(item, side) for name, side in (("candidate", pair.candidate), ("baseline", pair.baseline))},
        "degrees_of_freedom": difference.degrees_of_freedom,
        "variance": {"questions": components.questions, "seeds": sum(components.of_seeds), "rest_in_both": sum(components.rest)},
        "share_of_seeds": components.share_of_seeds,
        "seeds_needed": difference.needed_seeds(item.check.margin),
        "bootstrap": {"low": difference.bootstrap.low, "high": difference.bootstrap.high, "how": difference.bootstrap.how},
    }


def _by_seed(item: Compared, side: Seeds) -> dict[str, Any]:
    """Training seed -> the figure of its own result."""
    return {str(seed): result.metrics.get(item.measured.metric) for seed, result in side.items()}
