"""Pair stages: a policy and the reviser that corrects its answers become one folder, which is evaluated as a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from seft_bench.checkpoints import base_place
from seft_bench.checkpoints.aligners import Decision, Revision, write_aligner
from seft_bench.checkpoints.holds import ANSWERING
from seft_bench.ownership import remove_listed
from seft_bench.records import Output, Row
from seft_bench.stages.common import Find
from seft_bench.stages.linking import link_folder
from seft_bench.stages.score import threshold_of

if TYPE_CHECKING:
    from seft_bench.stages.door import stages


def run_pair(stage: stages.Pair, find: Find, folder: Path) -> Row:
    """Put policy and reviser into one folder, named by the reviser's step: `checkpoints/step-N`.

    What stages made is linked into it, so that the folder can be moved; what was ready stays where it is.
    """
    reviser = find(stage.reviser)
    name = reviser.name if isinstance(stage.reviser, Output) else "step-000000"
    target = folder / "checkpoints" / name
    remove_listed(target, ANSWERING)
    target.mkdir(parents=True, exist_ok=True)
    models = {role: source for role, source in stage.inputs.items() if role != "calibration"}
    places = {role: _put(find(source), target / role, isinstance(source, Output)) for role, source in models.items()}
    threshold = None if stage.decision == "always" else threshold_of(stage, find)
    settings, decision = stage.settings, cast("Decision", stage.decision)
    write_aligner(target, places, Revision(settings.instruction, decision, settings.statistic, threshold))
    return {"steps": 0, "checkpoints": [name]}


def _put(model: Path, place: Path, is_made: bool) -> str:
    """Link a model that a stage made to its place; say where a model lies, as the file of the aligner names it."""
    if is_made:
        link_folder(model, place)
        return place.name
    named = base_place(model)
    revision = named["revision"]
    return f"{named['base_model_name_or_path']}@{revision}" if revision else str(named["base_model_name_or_path"])
