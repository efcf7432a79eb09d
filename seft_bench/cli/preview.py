"""The command `data preview`: what training sees of a recipe's data, learnt tokens in colour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seft_bench.cli.options import RUNS, RecipeArgument
from seft_bench.console import plain
from seft_bench.errors import unknown_name

if TYPE_CHECKING:
    from seft_bench.stages.preview import Piece, Preview


def preview(
    recipe: RecipeArgument = "tiny-seft",
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, also data.KEY=value.", show_default=False)
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="Only this data set; may be repeated.", show_default="all that the method reads"),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows of each to show; all are counted.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<name>.")] = None,
) -> None:
    """Show what training sees of a recipe's data: rendered texts, what of them is learnt, and counts."""
    import sys

    from seft_bench import pipeline
    from seft_bench.stages import door
    from seft_bench.stages.preview import preview_data
    from seft_bench.stages.recipes import load_recipe, needed_data

    chosen = load_recipe(recipe, overrides or [])
    needed = needed_data(chosen)
    for name in role or ():
        if name not in needed:
            raise unknown_name("data set of this recipe", name, needed)
    plan = door.methods.build_stages(chosen.method, chosen.settings, 1)
    models, data = pipeline.open_material(chosen, plan, (out or RUNS / chosen.name) / "data", role or needed)
    for shown in preview_data(plan, models.base, data, chosen.seed, role or needed, rows):
        _print(shown, in_colour=sys.stdout.isatty())


def _print(shown: Preview, in_colour: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for line in _heading(shown, in_colour):
        console.print(Text(line, style="bold"))
    for number, sample in enumerate(shown.samples, start=1):
        for rendered in sample:
            console.print(Text(f"--- {shown.data_set} {number} {rendered.name}".rstrip(), style="cyan"))
            console.print(Text.assemble(*(_piece(piece, in_colour) for piece in rendered.pieces)))


def _heading(shown: Preview, in_colour: bool) -> Iterator[str]:
    counts = shown.counts
    dropped = ", ".join(f"{count} {reason}" for reason, count in counts["dropped"].items()) or "nothing"
    yield (
        f"{shown.data_set}, {shown.reader}: {counts['used']:,} of {counts['rows']:,} rows, {counts['tokens']:,} "
        f"tokens, {counts['learnt_tokens']:,} learnt; dropped: {dropped}; answers cut: {counts['truncated_answers']:,}"
    )
    if counts["learnt_tokens"] and not in_colour:
        yield "What is learnt stands in \N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}these brackets" + (
            "\N{MATHEMATICAL RIGHT WHITE SQUARE BRACKET}."
        )


def _piece(piece: Piece, in_colour: bool) -> Any:
    """A text that is not ours: no control character of it reaches the terminal, and rich reads no markup in it."""
    text = plain(piece.text)
    if in_colour:
        return text, "bold green" if piece.learnt else "dim"
    return (
        f"\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}{text}\N{MATHEMATICAL RIGHT WHITE SQUARE BRACKET}"
        if piece.learnt
        else text
    )
