"""The output of `seft-bench judges agreement` and `judges consistency`: tables, and verdicts in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from seft_bench.records import MINIMUM_COVERAGE

if TYPE_CHECKING:
    from seft_bench.judge_quality.agreement import Report
    from seft_bench.stats.agreement import Agreement, Cell
    from seft_bench.stats.consistency import Consistency
    from seft_bench.stats.intervals import Interval
    from seft_bench.stats.judge_bias import LengthBias, Longer, PositionBias

Line = tuple[str, str, str]
"""A figure's name, the figure with its interval, and how it was made."""


def report_row(report: Report) -> dict[str, Any]:
    """Return the JSON object that `--json` prints."""
    biased = {"position": report.position and report.position.biased, "length": report.length and report.length.biased}
    return dataclasses.asdict(report) | {"verdicts": verdicts(report), "biased": biased, "notes": notes_of(report)}


def report_text(report: Report) -> str:
    """Return lines with tabs between columns: agreement beside the humans' own, biases, and verdicts in words."""
    parts = [agreement_table(report)]
    figures = [
        *_position_lines(report.position),
        *_length_lines(report.length),
        *_consistency_lines(report.consistency or {}),
    ]
    if figures:
        parts.append("\n".join("\t".join(line) for line in [("figure", "value", "how"), *figures]))
    return "\n\n".join([*parts, "\n".join(verdicts(report))])


def agreement_table(report: Report) -> str:
    header = "\t".join(("turn", "ties", f"{report.judge} and humans", "humans among themselves", "difference"))
    return "\n".join([header, *(_cell_line(cell) for cell in report.cells)])


def notes_of(report: Report) -> list[str]:
    """Return what a reader of the figures should know, a line each."""
    who = f"raters whose name begins with {report.raters!r}" if report.raters else "all raters"
    left_out = f"left out: {report.not_asked} that the judge was not asked for, {report.failed} without a verdict"
    notes = [f"{report.human_votes} human votes ({who}); {left_out}. Intervals: 95 %, over questions.", *report.notes]
    if report.withheld:
        reached = (
            f"{report.coverage:.1%} of the votes that the judge was asked for have a verdict, at least "
            f"{MINIMUM_COVERAGE:.0%} are needed"
        )
        notes.append(
            f"WITHHELD {report.judge}: {reached}. Judge the failed comparisons again, then run this command again."
        )
    return notes


def consistency_row(groups: Mapping[str, Consistency]) -> dict[str, Any]:
    return {name: dataclasses.asdict(found) for name, found in groups.items()}


def consistency_text(groups: Mapping[str, Consistency]) -> str:
    return "\n".join("\t".join(line) for line in [("figure", "value", "how"), *_consistency_lines(groups)])


# In words


def verdicts(report: Report) -> list[str]:
    """Return one sentence for each turn with or without ties, and one for each bias that was measured."""
    lines = [
        f"{_where(cell)}: {report.judge} {_ceiling(cell.difference)}."
        for cell in report.cells
        if cell.difference is not None
    ]
    if report.position:
        lines.append(f"position: {_position_verdict(report.position)}.")
    if report.length:
        lines.append(f"length: {_length_verdict(report.length)}.")
    return lines if not report.withheld else [f"withheld, so not a verdict: {line}" for line in lines]


def _where(cell: Cell) -> str:
    return f"turn {cell.turn}, {'with' if cell.ties else 'without'} ties"


def _ceiling(difference: Interval) -> str:
    """Beside the humans' agreement with each other; what an interval over zero leaves open is said."""
    shown = f"difference {figure(difference, '+.3f')}"
    if difference.low is None or difference.high is None:
        return f"cannot be held against the human-human ceiling: one question has no interval ({shown})"
    if difference.high < 0:
        return f"stays below the human-human ceiling ({shown})"
    if difference.low >= 0:
        return f"reaches the human-human ceiling and lies above it ({shown})"
    return (
        f"reaches the human-human ceiling within the interval ({shown}); as much as {-difference.low:.3f} below it is "
        "not excluded"
    )


def _position_verdict(found: PositionBias) -> str:
    points = _points(found.bias)
    if not found.biased:
        return f"no bias shown: the answer shown first wins {points} points more often, an interval that includes zero"
    side = "first" if found.bias.mean > 0 else "second"
    return f"biased towards the answer shown {side}: first minus second {points} points"


def _length_verdict(found: LengthBias) -> str:
    points = _points(found.all.difference)
    if not found.biased:
        return (
            f"no bias beyond the humans' shown: the longer answer wins {points} points more often than with humans, an "
            "interval that includes zero"
        )
    more = "more" if found.all.difference.mean > 0 else "less"
    return (
        f"likes long answers {more} than humans do: the longer answer wins {points} points more often than with humans"
    )


def _points(interval: Interval) -> str:
    scaled = dataclasses.replace(
        interval, mean=100 * interval.mean, low=_percent(interval.low), high=_percent(interval.high)
    )
    return figure(scaled, "+.1f")


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


# Lines of figures


def _cell_line(cell: Cell) -> str:
    difference = "-" if cell.difference is None else figure(cell.difference, "+.3f")
    return "\t".join(
        (str(cell.turn), "with" if cell.ties else "without", _shown(cell.judge), _shown(cell.humans), difference)
    )


def _shown(found: Agreement | None) -> str:
    return "-" if found is None else f"{figure(found.interval, '.3f')} {found.agreed}/{found.n}"


def figure(interval: Interval, form: str) -> str:
    """An estimate with its interval, where it has one."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:{form}}"
    return f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _line(name: str, interval: Interval, form: str = ".3f") -> Line:
    return name, figure(interval, form), interval.how


def _position_lines(found: PositionBias | None) -> Iterable[Line]:
    if found is None:
        return
    yield _line(f"position: both orders agree ({found.comparisons} comparisons)", found.consistent)
    yield _line(f"position: moves to the answer shown first ({found.n_first})", found.first)
    yield _line(f"position: moves to the answer shown second ({found.n_second})", found.second)
    yield "position: win rate shown first minus second, points", _points(found.bias), found.bias.how
    yield (
        "position: first against second, p",
        f"{found.p_value:.3g}",
        "exact two-sided sign test (McNemar's), comparisons as if independent",
    )


def _length_lines(found: LengthBias | None) -> Iterable[Line]:
    if found is None:
        return
    yield from _longer_lines("ties as half", found.all)
    if found.decided:
        yield from _longer_lines("without ties", found.decided)
    name = (
        f"length: log-odds for a far longer answer (tanh of difference / {found.scale_characters:.0f} characters), "
        "votes held fixed"
    )
    yield (
        _line(name, found.slope, "+.2f")
        if found.slope
        else (name, "-", "not estimated: length and votes separate the verdicts, or too little of either")
    )


def _longer_lines(ties: str, found: Longer) -> Iterable[Line]:
    yield _line(f"length: the longer wins with the judge, {ties} ({found.comparisons} comparisons)", found.judge)
    yield _line(f"length: the longer wins with humans, {ties}", found.humans)
    yield f"length: judge minus humans, {ties}, points", _points(found.difference), f"paired, {found.difference.how}"


def _consistency_lines(groups: Mapping[str, Consistency]) -> Iterable[Line]:
    for name, found in groups.items():
        yield _line(f"consistency, {name}: equal verdicts ({found.prompts} prompts, {found.pairs} pairs)", found.equal)
        if found.sd:
            yield _line(f"consistency, {name}: SD of one re-judgment, grade points", found.sd)
        if found.noise_of_mean:
            yield _line(f"consistency, {name}: SD of a mean over {found.rows} judgments", found.noise_of_mean)
