"""The folders and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS, RESULTS = Path("runs"), Path("results")

RecipeArgument = Annotated[
    str, typer.Argument(help="A shipped recipe, a YAML file, or key=value overrides of the default recipe.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

LcCOption = Annotated[
    str | None,
    typer.Option(
        "--lc-c", help="C of the length control: a positive number, or cross-validated.", show_default="the suite's"
    ),
]
LcIntervalOption = Annotated[
    str | None,
    typer.Option(
        "--lc-interval", help="Interval of the length control: sandwich or bootstrap.", show_default="the suite's"
    ),
]
