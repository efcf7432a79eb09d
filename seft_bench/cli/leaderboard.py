"""The command `leaderboard`: the tables of the results at hand, in any format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seft_bench.cli.options import RESULTS
from seft_bench.errors import unknown_name


def leaderboard(
    matrix: Annotated[
        str | None, typer.Argument(help="A matrix: its paper table, seeds aggregated. Default: one row a model.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
    style: Annotated[str, typer.Option("--format", help="md, csv, latex, html or json.")] = "md",
    radar: Annotated[
        Path | None, typer.Option(help="Also draw MT-Bench's categories into this .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Print the leaderboard of the results at hand."""
    if radar is not None:
        from seft_bench.report.radar import draw_radar
        from seft_bench.results import read_results

        draw_radar(read_results(results), radar)
    print(leaderboard_text(results, matrix, style))


def leaderboard_text(results: Path, matrix_name: str | None, style: str) -> str:
    """The leaderboard of the results at hand; with a matrix its paper table, seeds aggregated.

    Raises:
        InputError: unknown format, or no results.
    """
    from seft_bench.report.sheets import STYLES, plain_sheets

    if style not in STYLES:
        raise unknown_name("format", style, STYLES)
    if matrix_name is None:
        return plain_sheets(results).text(style)
    from seft_bench.bench.sheets import matrix_sheets
    from seft_bench.config import load_matrix

    return matrix_sheets(load_matrix(matrix_name), results).text(style)
