"""The files of a matrix's folders: all that is ever removed of them, or written over."""

from __future__ import annotations

from pathlib import Path

from seft_bench.ownership import Holds, Kind, is_file
from seft_bench.stages.holds import DATA, RUN, STAGES

RECORDS: Holds = {r"manifest\.json|diagnostics\.json|revised-\d+\.jsonl": is_file}
"""The records of a cell's training, beside its results."""


def _was_benched(folder: Path) -> bool:
    """Tell a folder in which older code ran a matrix."""
    return (folder / ".bench.lock").is_file() or (folder / "stages" / ".locks").is_dir()


BENCH = Kind(
    "bench",
    {
        r"controls\.json": is_file,
        "cells": {r"[^/]+": {**RUN.holds, r"cell\.json|torchrun\.log": is_file}},
        "stages": STAGES,
        "data": DATA,
    },
    _was_benched,
)
"""The folder of a matrix's runs."""
