"""What stages that do not train say of themselves: in a note, and to the trackers that follow the trainings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.console import note
from seft_bench.files import sha256_json
from seft_bench.records import Row
from seft_bench.stages import door
from seft_bench.stages.common import Workshop
from seft_bench.stages.diagnostics import describe

if TYPE_CHECKING:
    from seft_bench.stages.door import settings, stages


def trackers_of(plan: Sequence[stages.Stage]) -> Sequence[settings.TrackerName] | None:
    """Return what the policy's training reports to, which stages that do not train report to as well.

    Raises:
        InputError: a training stage names a tracker that is not installed.
    """
    asked = [stage.settings.report_to for stage in plan if stage.kind == "train"]
    for names in asked:
        door.trackers.chosen_trackers(names)
    return asked[-1] if asked else None


def report_revisions(stage: stages.Revise, diagnostics: Row, folder: Path, shop: Workshop) -> None:
    """Say what a round's reviser did to the drafts: how many it kept, how many it copied, and how far it went."""
    for line in describe({stage.name: {"diagnostics": diagnostics}}):
        note(f"  {line}")
    tracked = door.trackers.Tracked(folder, sha256_json(folder.name)[:16], stage.settings_row())
    trackers = door.trackers.Trackers(door.trackers.chosen_trackers(shop.report_to), tracked)
    trackers.log("revision", diagnostics, stage.round)
    trackers.close()
