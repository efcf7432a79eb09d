"""Folders of several checkpoints: a run of ours, or a trainer's; in the order of their steps."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from seft_bench.checkpoints import is_checkpoint


def checkpoints_below(folder: Path) -> list[Path]:
    """List the checkpoints of a run, or of a trainer's folder, by step: checkpoint-500 comes before checkpoint-1000."""
    parent = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    found = [child for child in parent.iterdir() if is_checkpoint(child) and not child.name.startswith(".")]
    if (names := read_object(folder / "manifest.json").get("checkpoints")) and isinstance(names, list):
        found = [child for child in found if child.name in names]  # beside a run's own there may be others
    return sorted(found, key=lambda child: (_step(child.name), child.name))


def last_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint of the last step of a run or a trainer's folder.

    None of any other folder, as of two models side by side.
    """
    found = checkpoints_below(folder)
    is_run = (folder / "checkpoints").is_dir() or all(_step(child.name) < math.inf for child in found)
    return found[-1] if found and is_run else None


def _step(name: str) -> float:
    """Read a folder's step off its name; without one ("final") it comes last."""
    numbered = re.fullmatch(r"(?:checkpoint|step|epoch)[-_]?(\d+)", name)
    return int(numbered[1]) if numbered else math.inf


def read_object(path: Path) -> dict[str, object]:
    """Read a JSON object; what is none has no keys."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
