"""The command `report`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seft_bench.console import note


def report(
    out: Annotated[Path, typer.Option(help="Folder of the report; an older report in it is replaced.")] = Path(
        "report"
    ),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    runs: Annotated[
        Path, typer.Option(help="Folder of runs: answers and judgments are taken from its evaluations.")
    ] = Path("runs"),
    against: Annotated[
        Path | None, typer.Option(help="Another folder of results, to be compared with.", show_default="none")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            help="Also write curves and bars for papers into this folder, as PDF and PNG.", show_default="none"
        ),
    ] = None,
) -> None:
    """Write the HTML report: leaderboard, curves, matrix, and every question with its answers and verdicts.

    It opens from disk, without a server.
    """
    from seft_bench.report.paper_figures import FIGURES, write_figures
    from seft_bench.report.site import write_report

    if figures:
        FIGURES.check(figures, "--figures")
    written = write_report(out, results, runs, against)
    print(written.page)
    for line in written.notes:
        note(line)
    note(
        f"{written.files} files, {written.total_bytes / 1e6:.1f} MB, the largest {written.largest[1] / 1e6:.2f} MB "
        f"({written.largest[0]})"
    )
    if figures:
        for path in write_figures(figures, results):
            print(path)
