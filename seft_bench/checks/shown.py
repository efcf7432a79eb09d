"""A check's report as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seft_bench.checks.compare import Compared, Report
from seft_bench.checks.differences import TITLES
from seft_bench.checks.methods import MethodPair, Seeds, listed
from seft_bench.report.tables import Cell, Column, Table, TableRow
from seft_bench.results import result_name, slug
from seft_bench.stats.crossed import MethodDifference

if TYPE_CHECKING:
    from seft_bench.checks.arms import Pair
    from seft_bench.stats.paired import Check

SENTENCES = {
    "PASS": "PASS: {candidate} is not worse than {baseline} by the margin or more, on every primary metric.",
    "REGRESSED": "REGRESSED: {candidate} is worse than {baseline} on {where}.",
    "INCONCLUSIVE": (
        "INCONCLUSIVE: these {what} neither show that {candidate} is worse than {baseline}, nor rule out a loss of the "
        "margin."
    ),
}

_COLUMNS = (
    Column("metric", "metric", role="label"),
    Column("n", "questions", kind="number", role="label"),
    Column("candidate", "candidate", kind="number", decimals=2, role="main"),
    Column("baseline", "baseline", kind="number", decimals=2, role="main"),
    Column("difference", "difference", kind="difference", decimals=2, role="main"),
    Column("margin", "margin", kind="number", decimals=2, role="main"),
    Column("p", "p", kind="number", decimals=4, role="main"),
    Column("minimal_effect", "loss seen with 80 % power", kind="number", decimals=2),
    Column("needed_n", "questions for the margin", kind="number"),
    Column("outcome", "outcome", role="main"),
)


_METHOD_COLUMNS = (
    Column("seeds", "seeds", role="label"),
    Column("share_of_seeds", "variance from seeds", unit="%", kind="number"),
    Column("needed_seeds", "seeds for the margin", kind="number"),
)
"""Further columns of a check of two methods, after those of every check."""


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    where = ", ".join(item.measured.name for item in report.compared if item.check.regressed)
    what = "questions and seeds" if _is_of_methods(report.compared[0]) else "questions"
    return SENTENCES[report.verdict].format(
        candidate=report.candidate, baseline=report.baseline, where=where, what=what
    )


def table_of(report: Report) -> Table:
    """One row a primary metric. The difference's bounds are one-sided, at 95 % each."""
    rows = tuple(_row(item) for item in report.compared)
    how = sorted({item.check.difference.how for item in report.compared})
    first = report.compared[0].check
    holm = (
        f" (Holm's correction over {len(rows)} metrics)" if len(rows) > 1 and first.level == first.bound_level else ""
    )
    bound, level = round(100 * (1 - first.bound_level), 2), first.level
    notes = (
        f"Difference: candidate - baseline with its lower and upper one-sided {bound:g} % bound (standard error from "
        f"{', '.join(how)}).",
        "A metric passes when the lower bound is above -margin; it regressed when p, the chance of such a loss "
        f"without a change{holm}, is under {level:.4g}.",
    )
    columns = (*_COLUMNS, *_METHOD_COLUMNS) if _is_of_methods(report.compared[0]) else _COLUMNS
    return Table(f"{report.candidate} against {report.baseline}", columns, rows, (*notes, *report.notes))


def _row(item: Compared) -> TableRow:
    check, measured = item.check, item.measured
    difference = check.difference
    outcome = "passes" if check.passes else "regressed" if check.regressed else "inconclusive"
    cells = (
        Cell(measured.name),
        Cell(difference.n),
        Cell(measured.candidate),
        Cell(measured.baseline),
        Cell(difference.delta, difference.lower(check.bound_level), difference.upper(check.bound_level)),
        Cell(check.margin),
        Cell(_p_value(check)),
        Cell(check.minimal_effect),
        Cell(check.needed_n),
        Cell(outcome),
    )
    return TableRow((*cells, *_method_cells(item)))


def _p_value(check: Check) -> float:
    """Return the p that is held against the level.

    It is Holm's, but at a sequential check's look, whose level is each metric's own.
    """
    return check.p_holm if check.level == check.bound_level else check.p_regressed


def details(report: Report) -> list[str]:
    """Show where the differences lie: categories and questions, a line each."""
    return [line for item in report.compared for line in _details_of(item)]


def _details_of(item: Compared) -> list[str]:
    lines = _method_lines(item)
    lines += [f"{item.measured.name} by category:"] if item.categories else []
    for row in item.categories:
        error = "" if row.standard_error is None else f" (SE {row.standard_error:.2f})"
        lines.append(f"  {row.delta:+.2f}{error}  {row.category}, {row.n} questions")
    unit = (
        "points of win probability, lengths not controlled"
        if item.measured.metric == "lc_win_rate"
        else TITLES[item.measured.metric]
    )
    for title, questions in (("lost most on", item.worst), ("won most on", item.best)):
        if questions:
            lines.append(f"{item.measured.pair.name}, {title} ({unit}):")
            lines += [
                f"  {item.measured.by_question[question]:+.2f}  {_question_line(item, question)}"
                for question in questions
            ]
    return lines


def _question_line(item: Compared, question_id: str) -> str:
    question = item.questions.get(question_id)
    text = " ".join(question.turns[0].split())[:90] if question else ""
    return f"{question_id}  {text}  {link(item.measured.pair, question_id)}"


def link(pair: Pair | MethodPair, question_id: str) -> str:
    """Return where the HTML report shows both sides' answers to this question, and the verdicts, side by side."""
    suite = slug(pair.results[0].suite)
    sides = ",".join(f"{slug(result.suite)}/{result_name(result)}" for result in pair.side_by_side)
    return f"report/index.html#/questions/{suite}/{quote(question_id, safe='')}?models={quote(sides, safe='@,/')}"


def report_row(report: Report) -> dict[str, Any]:
    """The JSON object that `--json` prints and `--out` keeps."""
    return {
        "verdict": report.verdict,
        "candidate": report.candidate,
        "baseline": report.baseline,
        "metrics": [_metric_row(item) for item in report.compared],
        "notes": list(report.notes),
    }


def _metric_row(item: Compared) -> dict[str, Any]:
    check, measured = item.check, item.measured
    difference = check.difference
    return {
        "suite": measured.pair.results[0].suite,
        "decoding": measured.pair.results[0].decoding,
        "judge_id": measured.pair.results[0].judge_id,
        "metric": measured.metric,
        "title": TITLES[measured.metric],
        "n": difference.n,
        "candidate": measured.candidate,
        "baseline": measured.baseline,
        "difference": difference.delta,
        "standard_error": difference.standard_error,
        "lower_bound": difference.lower(check.bound_level),
        "upper_bound": difference.upper(check.bound_level),
        "bound_level": check.bound_level,
        "level": check.level,
        "how": difference.how,
        "margin": check.margin,
        "p_regressed": check.p_regressed,
        "p_holm": check.p_holm,
        "passes": check.passes,
        "regressed": check.regressed,
        "minimal_detectable_effect": check.minimal_effect,
        "questions_needed": check.needed_n,
        "categories": [
            {"category": row.category, "n": row.n, "difference": row.delta, "standard_error": row.standard_error}
            for row in item.categories
        ],
        "worst": _question_rows(item, item.worst),
        "best": _question_rows(item, item.best),
    } | _method_keys(item)


def _question_rows(item: Compared, questions: Sequence[str]) -> list[dict[str, Any]]:
    pair = item.measured.pair
    return [
        {"question_id": question, "difference": item.measured.by_question[question], "link": link(pair, question)}
        for question in questions
    ]


# What a check of two methods shows beyond one of two models: seeds, and whether more seeds or more questions would
# help.


def _method_parts(item: Compared) -> tuple[MethodPair, MethodDifference] | None:
    """None for a check of two models."""
    pair, difference = item.measured.pair, item.measured.difference
    return (pair, difference) if isinstance(pair, MethodPair) and isinstance(difference, MethodDifference) else None


def _is_of_methods(item: Compared) -> bool:
    return _method_parts(item) is not None


def _method_cells(item: Compared) -> tuple[Cell, ...]:
    """One a column of `_METHOD_COLUMNS`; none for a check of two models."""
    parts = _method_parts(item)
    if parts is None:
        return ()
    pair, difference = parts
    seeds = listed(pair.candidate) if pair.is_paired else f"{listed(pair.candidate)} | {listed(pair.baseline)}"
    return (
        Cell(seeds),
        Cell(100.0 * difference.components.share_of_seeds),
        Cell(difference.needed_seeds(item.check.margin)),
    )


def _method_lines(item: Compared) -> list[str]:
    """The interval beside the test, and what would lower the loss that is seen; nothing for a check of two models."""
    parts = _method_parts(item)
    if parts is None:
        return []
    difference = parts[1]
    interval, components = difference.bootstrap, difference.components
    said = [
        f"{item.measured.name}: {_signed(interval.low)} to {_signed(interval.high)} by the {interval.how}; beside the "
        "test, not part of it."
    ]
    said += [
        f"  {components.share_of_seeds:.0%} of the variance is between training seeds, as far as "
        f"{min(components.seeds)} seeds can say; more questions would not lower that part."
    ]
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
    by_questions = (
        f"by {questions:,} questions with these seeds" if questions else "by no number of questions with these seeds"
    )
    return f"{loss} {by_seeds}, or {by_questions}."


def _method_keys(item: Compared) -> dict[str, Any]:
    """More keys of a metric in JSON; none for a check of two models."""
    parts = _method_parts(item)
    if parts is None:
        return {}
    pair, difference = parts
    components = difference.components
    return {
        "seeds": {"candidate": list(pair.candidate), "baseline": list(pair.baseline)},
        "paired_by_seed": pair.is_paired,
        "by_seed": {
            name: _by_seed(item, side) for name, side in (("candidate", pair.candidate), ("baseline", pair.baseline))
        },
        "degrees_of_freedom": difference.degrees_of_freedom,
        "variance": {
            "questions": components.questions,
            "seeds": sum(components.of_seeds),
            "rest_in_both": sum(components.rest),
        },
        "share_of_seeds": components.share_of_seeds,
        "seeds_needed": difference.needed_seeds(item.check.margin),
        "bootstrap": {
            "low": difference.bootstrap.low,
            "high": difference.bootstrap.high,
            "how": difference.bootstrap.how,
        },
    }


def _by_seed(item: Compared, side: Seeds) -> dict[str, Any]:
    """Training seed -> the figure of its own result."""
    return {str(seed): result.metrics.get(item.measured.metric) for seed, result in side.items()}
