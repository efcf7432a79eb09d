"""All tables of one leaderboard from a folder of results, in any format.

Measured rows, controls at the foot, published figures apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.report.leaderboard import (
    Plan,
    method_table,
    method_tables,
    plain_table,
    plain_tables,
    published_table,
    published_tables,
)
from seft_bench.report.published import PublishedSet
from seft_bench.report.published_files import imported_sets
from seft_bench.report.render import RENDERERS, html_page
from seft_bench.report.tables import Table, stacked
from seft_bench.results import read_results

STYLES = {"md": "md", "csv": "csv", "html": "html", "latex": "tex", "json": "json"}
"""Format -> ending of its file."""


@dataclass(frozen=True)
class Sheets:
    """A leaderboard.

    Attributes:
        results: the measured ones, controls included.
        plan: of a matrix; None for a plain leaderboard, one row a model.
        published: other people's figures, which stand in tables of their own.
    """

    results: Sequence[Result]
    plan: Plan | None = None
    published: Sequence[PublishedSet] = ()

    def tables(self) -> list[Table]:
        """Build a table a suite for readers, and below them the published figures.

        Of these a reader sees names, figures, and the conditions as a footnote.
        """
        return [*self.measured(), *(table.only("label", "main") for table in published_tables(self.published))]

    def measured(self) -> list[Table]:
        """Without published figures."""
        if self.plan is not None:
            return method_tables(self.results, plan=self.plan)
        return plain_tables(self.results) if self.results else []

    def text(self, style: str) -> str:
        """Equal results give equal bytes.

        For programs (CSV, JSON) one wide table, published rows in blocks of their own.
        """
        if style in ("csv", "json"):
            return RENDERERS[style](self._wide())
        if style == "html":
            return html_page("Leaderboard", self.tables())
        return "\n".join(RENDERERS[style](table) for table in self.tables())

    def _wide(self) -> Table:
        measured = (
            [method_table(self.results, plan=self.plan)]
            if self.plan is not None
            else [plain_table(self.results)]
            if self.results
            else []
        )
        return stacked([*measured, *([published_table(self.published)] if self.published else [])])


def plain_sheets(results: Path) -> Sheets:
    """Of every result in a folder, and of the leaderboards that were imported there.

    Raises:
        InputError: there is neither.
    """
    sheets = Sheets(read_results(results), published=imported_sets(results))
    if not sheets.results and not sheets.published:
        raise no_results(results)
    return sheets


def no_results(results: Path) -> InputError:
    """The error where a folder holds none."""
    return InputError(
        f"no results in {results}/. Run `seft-bench eval` or `seft-bench demo` first, or name the folder with "
        "--results."
    )
