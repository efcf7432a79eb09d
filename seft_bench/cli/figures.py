"""Figures on stdout: tables for people, JSON for programs, and the exit status of figures that are withheld."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from seft_bench.console import note
from seft_bench.errors import EXIT_WITHHELD
from seft_bench.records import MINIMUM_COVERAGE

if TYPE_CHECKING:
    from seft_bench.evaluation.cost_estimate import Estimate
    from seft_bench.records import Result
    from seft_bench.report.tables import Table


def show_figures(scored: Sequence[Result], as_json: bool, advice: str) -> None:
    """Print figures of models, with what a reader must know of them; exit status 5 when one had to be withheld.

    Args:
        advice: what to do about figures that are withheld.
    """
    if as_json:
        print_json(scored)
    elif scored:
        from seft_bench.report.leaderboard import plain_tables  # numpy and scipy, which JSON does without
        from seft_bench.results import noted

        print_tables(plain_tables(scored))
        for text in noted(scored):
            note(text)
    if note_withheld(scored):
        note(advice)
        raise typer.Exit(EXIT_WITHHELD)


def advice_about_withheld(scored: Sequence[Result]) -> str:
    """Return what may bring the missing verdicts: asking again only where that can help."""
    missing = Counter[str]()
    for result in scored:
        missing.update({name: count for name, count in result.statuses.items() if result.withheld and name != "ok"})
    parts = []
    if any(result.withheld and result.answers.get("coverage", 1.0) < MINIMUM_COVERAGE for result in scored):
        parts.append("Answers are missing, as the notes say: put right what they name, and run the same command again.")
        del missing["missing"]
    if missing["over_length"]:
        parts.append(
            f"{missing['over_length']} prompts are too long for the judge: it needs a larger context or a smaller "
            "`max_tokens`."
        )
    if missing["refused"]:
        parts.append(f"{missing['refused']} were refused for what they say: another judge may take them.")
    if not parts or missing.total() > missing["over_length"] + missing["refused"]:
        parts.append("Run the same command again to judge the rest.")
    return " ".join(parts)


def print_json(results: Sequence[Result]) -> None:
    from seft_bench.evaluation.score_files import result_row

    print(json.dumps([result_row(result) for result in results], indent=1))


def print_cost(found: Estimate, as_json: bool) -> None:
    """Print what a command would ask and what that would cost."""
    from seft_bench.evaluation.cost_table import cost_row, cost_text

    print(json.dumps(cost_row(found), indent=1) if as_json else cost_text(found))


def print_tables(tables: Iterable[Table]) -> None:
    from seft_bench.report.terminal import print_table

    for table in tables:
        print_table(table, sys.stdout)


def note_withheld(results: Sequence[Result]) -> bool:
    """Say which figures are withheld; returns whether any is."""
    withheld = [result for result in results if result.withheld]
    for result in withheld:
        note(
            f"WITHHELD {result.model} on {result.suite}: {result.n_scored} of {result.n} judgments are scored, at "
            "least 98 % are needed."
        )
    return bool(withheld)
