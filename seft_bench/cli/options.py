"""The folders and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS, RESULTS = Path("runs"), Path("results")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
