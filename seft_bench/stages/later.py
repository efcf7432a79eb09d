"""Trainings on rows that stages make, rehearsed on the shortest rows that they could make.

Prompts are known before anything is trained; answers are not, so each is one word here. What has no room even then
would stop after hours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Data, Output, Source
from seft_bench.stages import door
from seft_bench.stages.common import Find
from seft_bench.stages.stand_ins import stand_in

if TYPE_CHECKING:
    from seft_bench.stages.check import Reader
    from seft_bench.stages.door import stages as kinds

SHORTEST = 64
"""Rows of a data set that are looked at: those with the shortest prompts."""


def check_later(
    plan: Sequence[kinds.Stage], left: Sequence[kinds.Stage], find: Find, reader_of: Callable[[kinds.Stage], Reader]
) -> None:
    """Refuse a training whose `max_length` leaves an answer no room behind any prompt.

    Args:
        plan: all stages of the method.
        left: those that are not finished.

    Raises:
        InputError: naming the stage, its max_length, and the prompts' data.
    """
    later = {stage.name for stage in left if stage.kind == "train" and isinstance(stage.data, Output)}
    if not later:
        return
    with tempfile.TemporaryDirectory() as name:
        scratch, rows = Path(name), dict[str, Path]()
        for stage in plan:
            inputs = _inputs(stage, rows, find, scratch)
            if stage.kind == "pair":
                continue  # it makes no rows
            if stage.kind != "train":
                whole = replace(stage, first=None, part=None) if stage.kind == "sample" else stage
                rows[stage.name] = stand_in(whole, inputs, None, scratch / f"{stage.name}-rows.jsonl", tokens=1)
            elif stage.name in later:
                _check_room(stage, inputs, reader_of(stage))


def _inputs(stage: kinds.Stage, rows: Mapping[str, Path], find: Find, scratch: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for role, source in stage.inputs.items():
        if isinstance(source, Data):
            found[role] = _shortest(source, find, scratch)
        elif isinstance(source, Output) and source.stage in rows:
            found[role] = rows[source.stage]
    return found


def _shortest(source: Source, find: Find, scratch: Path) -> Path:
    target = scratch / find(source).name
    if not target.exists():
        rows = read_jsonl(find(source), "data set")
        write_jsonl(target, sorted(rows, key=lambda row: len(str(row.get("prompt", ""))))[:SHORTEST])
    return target


def _check_room(stage: kinds.Train, inputs: Mapping[str, Path], reader: Reader) -> None:
    rows = door.shapes.shape_rows(stage.shape, door.shapes.Files(inputs["data"], inputs.get("preferences")), seed=0)
    if not rows:
        return  # grades of stand-ins say nothing
    rules = replace(door.data.data_rules(stage.job(0), reader.config), positions=None, max_dropped_share=1.0)
    try:
        door.data.examples_of(rows, inputs["data"], reader.tokenizer, rules)
    except InputError:
        raise InputError(
            f"stage {stage.name!r}: max_length: {stage.settings.max_length} leaves an answer no room behind any of the "
            f"{len(rows)} shortest prompts that it would be trained on: raise it"
        ) from None
