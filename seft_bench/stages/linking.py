"""Folders of models, put into another place without a copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from seft_bench.checkpoints.holds import ANSWERING
from seft_bench.ownership import put_in_place, remove_listed


def link_folder(source: Path, target: Path) -> None:
    """Hard links where the file system has them: a checkpoint is never copied for nothing. Complete, or not there."""
    partial = target.with_name(f".{target.name}.partial")
    remove_listed(partial, ANSWERING)
    shutil.copytree(source, partial, copy_function=_link_or_copy, dirs_exist_ok=True)
    put_in_place(partial, target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
