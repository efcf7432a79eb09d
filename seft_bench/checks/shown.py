"""A check's report as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seft_bench.checks import shown_methods
from seft_bench.checks.compare import Compared, Report
from seft_bench.checks.differences import TITLES
from seft_bench.report.tables import Cell, Column, Row, Table
from seft_bench.results import result_name, slug

if TYPE_CHECKING:
    from seft_bench.checks.arms import Pair
    from seft_bench.checks.methods import MethodPair
    from seft_bench.stats.paired import Check

SENTENCES = {
    "PASS": "PASS: {candidate} is not worse than {baseline} by the margin or more, on every primary metric.",
    "REGRESSED": "REGRESSED: {candidate} is worse than {baseline} on {where}.",
    "INCONCLUSIVE": "INCONCLUSIVE: these {what} neither show that {candidate} is worse than {baseline}, nor rule out a loss of the margin.",
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


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    where = ", ".join(item.measured.name for item in report.compared if item.check.regressed)
    what = "questions and seeds" if shown_methods.is_of_methods(report.compared[0]) else "questions"
    return SENTENCES[report.verdict].format(candidate=report.candidate, baseline=report.baseline, where=where, what=what)


def table_of(report: Report) -> Table:
    """One row a primary metric. The difference's bounds are one-sided, at 95 % each."""
    rows = tuple(_row(item) for item in report.compared)
    how = sorted({item.check.difference.how for item in report.compared})
    first = report.compared[0].check
    holm = f" (Holm's correction over {len(rows)} metrics)" if len(rows) > 1 and first.level == first.bound_level else ""
    bound, level = round(100 * (1 - first.bound_level), 2), first.level
    notes = (
        f"Difference: candidate - baseline with its lower and upper one-sided {bound:g} % bound (standard error from {', '.join(how)}).",
        f"A metric passes when the lower bound is above -margin; it regressed when p, the chance of such a loss without a change{holm}, is under {level:.4g}.",
    )
    columns = (*_COLUMNS, *shown_methods.COLUMNS) if shown_methods.is_of_methods(report.compared[0]) else _COLUMNS
    return Table(f"{report.candidate} against {report.baseline}", columns, rows, (*notes, *report.notes))


def _row(item: Compared) -> Row:
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
    return Row((*cells, *shown_methods.cells(item)))


def _p_value(check: Check) -> float:
    """The one that is held against the level: Holm's, but at a sequential check's look, whose level is each metric's own."""
    return check.p_holm if check.level == check.bound_level else check.p_regressed


def details(report: Report) -> list[str]:
    """Where the differences lie: categories and questions, a line each."""
    return [line for item in report.compared for line in _details_of(item)]


def _details_of(item: Compared) -> list[str]:
    lines = shown_methods.lines(item)
    lines += [f"{item.measured.name} by category:"] if item.categories else []
    for row in item.categories:
        error = "" if row.standard_error is None else f" (SE {row.standard_error:.2f})"
        lines.append(f"  {row.delta:+.2f}{error}  {row.category}, {row.n} questions")
    unit = "points of win probability, lengths not controlled" if item.measured.metric == "lc_win_rate" else TITLES[item.measured.metric]
    for title, questions in (("lost most on", item.worst), ("won most on", item.best)):
        if questions:
            lines.append(f"{item.measured.pair.name}, {title} ({unit}):")
            lines += [f"  {item.measured.by_question[question]:+.2f}  {_question_line(item, question)}" for question in questions]
    return lines


def _question_line(item: Compared, question_id: str) -> str:
    question = item.questions.get(question_id)
    text = " ".join(question.turns[0].split())[:90] if question else ""
    return f"{question_id}  {text}  {link(item.measured.pair, question_id)}"


def link(pair: Pair | MethodPair, question_id: str) -> str:
    """Where the HTML report shows the answers of both sides to this question, and the verdicts on them, side by side."""
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
        "categories": [{"category": row.category, "n": row.n, "difference": row.delta, "standard_error": row.standard_error} for row in item.categories],
        "worst": _question_rows(item, item.worst),
        "best": _question_rows(item, item.best),
    } | shown_methods.row(item)


def _question_rows(item: Compared, questions: Sequence[str]) -> list[dict[str, Any]]:
    pair = item.measured.pair
    return [{"question_id": question, "difference": item.measured.by_question[question], "link": link(pair, question)} for question in questions]
