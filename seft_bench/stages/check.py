"""Checks of a method's data before its first stage: with the tokenizer that will read them, row by row.

A training may take days before a later stage opens its data, so what a tokenizer or a chat template refuses is said
now, with file and line: malformed rows, a system message that the template does not take, half a surrogate pair,
sequences beyond the model's positions, data of which too little is left.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.chat import answers_ids, load_tokenizer, prompt_ids
from seft_bench.checkpoints import base_of, check_adapter, is_adapter
from seft_bench.checkpoints.classifiers import check_rewards, check_writes
from seft_bench.checkpoints.weights import load_config, positions_of
from seft_bench.console import Progress
from seft_bench.errors import InputError
from seft_bench.judges.probe import probe_request
from seft_bench.judges.prompts import render
from seft_bench.records import Data, Model, Output, Row, Source
from seft_bench.stages import door
from seft_bench.stages.common import Find
from seft_bench.stages.later import check_later
from seft_bench.stages.sample import chosen_prompts

if TYPE_CHECKING:
    from seft_bench.stages.door import stages as kinds


@dataclass(frozen=True)
class Reader:
    """What reads rows: the tokenizer and the configuration of the model that a stage's model was made from."""

    folder: Path
    tokenizer: Any
    config: Any


def check_data(plan: Sequence[kinds.Stage], left: Sequence[kinds.Stage], find: Find, progress: Progress) -> None:
    """Check all rows of data sets that the stages that are left will read; rows that stages make are not there yet.

    Args:
        plan: all stages of the method, in order.
        left: those that are not finished.
        find: finds data sets, and models that no stage makes.

    Raises:
        InputError: the first row or model that a stage would refuse.
    """
    sources = {stage.name: stage for stage in plan}
    open_reader = functools.cache(_reader)
    for done, stage in enumerate(left, start=1):
        if isinstance(rewards := stage.inputs.get("reward_model"), Model):
            check_rewards(find(rewards))
        if stage.kind == "train":
            _check_start(find(_first_model(stage, sources)), stage)
        elif stage.kind == "pair":
            for source in (stage.policy, stage.reviser):
                if not isinstance(source, Output):
                    check_writes(find(source), f"stage {stage.name!r}:")
                    _check_ready(find(source))
        if stage.kind == "score" and stage.what == "grades" and stage.model and isinstance(stage.data, Output):
            sampling = sources[stage.data.stage]
            assert sampling.kind == "sample"
            _check_grade(stage, sampling, open_reader(find(_first_model(stage, sources))), find)
        if stage.kind == "train" and stage.shape.name in REVISED and isinstance(stage.data, Output):
            annotated, reader = find(_first_rows(stage.data, sources)), open_reader(find(_first_model(stage, sources)))
            _check_training(stage, replace(stage.shape, poor="annotated"), annotated, reader)
        if door.stages.data_sets([stage]):
            _check_stage(stage, plan, open_reader(find(_first_model(stage, sources))), find)
        progress("check data", done, len(left))
    check_later(plan, left, find, lambda stage: open_reader(find(_first_model(stage, sources))))


REVISED = ("revisions", "revisions_and_copies")
"""Shapes of annotated pairs, which may come through stages that draw drafts of their prompts."""


def _first_rows(source: Source, sources: dict[str, kinds.Stage]) -> Source:
    """Follow drafts back to the data set whose prompts were answered."""
    stage = sources[source.stage] if isinstance(source, Output) else None
    return _first_rows(stage.prompts, sources) if stage and stage.kind == "sample" else source


def _check_stage(stage: kinds.Stage, plan: Sequence[kinds.Stage], reader: Reader, find: Find) -> None:
    if stage.kind == "train":
        if isinstance(stage.data, Data):
            _check_training(stage, stage.shape, find(stage.data), reader)
        if isinstance(stage.preferences, Data):
            _check_training(stage, door.stages.Shape("good_answers"), find(stage.preferences), reader)
    elif stage.kind == "sample":
        _check_prompts(stage, plan, find(stage.prompts), reader)
    elif stage.kind == "score" and stage.what == "labels":
        _check_rows(find(stage.data), "preference pairs", _revised(stage.instruction), reader)


def _first_model(stage: kinds.Stage, sources: dict[str, kinds.Stage]) -> Source:
    """Follow a stage's model back to the one that no stage makes; its tokenizer goes with every checkpoint."""
    inputs = stage.inputs
    source = inputs.get("model") or inputs.get("reviser") or inputs["data"]
    return _first_model(sources[source.stage], sources) if isinstance(source, Output) else source


def _check_start(folder: Path, stage: kinds.Train) -> None:
    if not stage.job(0).loss_entry.is_of_rewards:
        check_writes(folder, f"stage {stage.name!r}:")
    if not stage.fresh or is_adapter(folder):
        _check_ready(folder)
    door.checkpoint.pick_device(stage.settings.device)
    door.optimizers.check_optimizer(stage.settings)
    door.probe.check_shape(folder, stage.settings)
    if stage.settings.max_steps is not None:
        door.settings.course_of(stage.settings, stage.settings.max_steps)
    if stage.settings.padding_free:
        door.packing.check_stateless(door.checkpoint.load_config(_whole(folder)))


def _check_ready(folder: Path) -> None:
    if is_adapter(folder):
        check_adapter(folder)
    else:
        door.checkpoint.check_weights(folder)


def _whole(folder: Path) -> Path:
    return base_of(folder) if is_adapter(folder) else folder


def _reader(folder: Path) -> Reader:
    return Reader(folder, load_tokenizer(folder), load_config(_whole(folder)))


def _check_training(stage: kinds.Train, shape: kinds.Shape, path: Path, reader: Reader) -> None:
    """Make the stage's examples, as training will; rows of a data set's shapes stand in the data set's order.

    They are kept for a training that reads them with the very same tokenizer, not with an earlier stage's copy of it.
    """
    rows = door.shapes.shape_rows(shape, door.shapes.Files(path), seed=0)
    rules = door.data.data_rules(stage.job(0), reader.config)
    keep = [] if isinstance(stage.model, Output) else [door.kept.kept_rows(reader.folder, rules).keep]
    examples, _ = door.data.examples_of(rows, path, reader.tokenizer, rules, *keep)
    if not isinstance(stage.data, Data) or stage.preferences:
        return  # other rows are beside these
    door.settings.course_of(stage.settings, door.data.planned_steps(stage.job(0), examples))
    if stage.settings.validation:
        door.validation.checked_split(rows, stage.settings.validation, path)


Ids = Callable[[Any, Row], object]
"""Makes of a row all token ids that a stage will make of it."""


def _check_prompts(stage: kinds.Sample, plan: Sequence[kinds.Stage], path: Path, reader: Reader) -> None:
    """Make the prompts' ids, and for a threshold those of the good answers to revise drafts into."""
    sources = {other.name: other for other in plan}
    thresholds = [
        other
        for other in plan
        if other.kind == "score" and other.what == "calibration" and _first_rows(other.data, sources) == stage.prompts
    ]
    chosen_prompts(door.rows.read_rows(path, "prompts", ["prompt"]), stage)
    _check_drawn(stage.name, "drafts", stage.settings.max_new_tokens, reader)
    _check_rows(path, "prompts", _prompt, reader)
    for threshold in thresholds:
        _check_rows(path, "calibration pairs", _revised(threshold.settings.instruction, ("chosen",)), reader)


def _prompt(tokenizer: Any, row: Row) -> object:
    return prompt_ids(tokenizer, row["prompt"])


def _check_drawn(stage: str, setting: str, max_new_tokens: int, reader: Reader, prompt: int = 1) -> None:
    """Refuse to draw more tokens than a model has positions for, beside a prompt of so many."""
    positions = positions_of(reader.config)
    if positions and prompt + max_new_tokens > positions:
        raise InputError(
            f"{setting}.max_new_tokens: {max_new_tokens} leave a prompt of {prompt} tokens no room in the {positions} "
            f"positions of {reader.folder} (stage {stage!r}): give fewer"
        )


def _check_grade(stage: kinds.Grade, sampling: kinds.Sample, reader: Reader, find: Find) -> None:
    """Make the prompts' ids by the tokenizer of the model that grades; and a judge's prompt, where it is asked so."""
    _check_rows(find(sampling.prompts), "prompts", _prompt, reader)
    if stage.asking:
        asked = prompt_ids(reader.tokenizer, render(probe_request("grade"), "seft-bench").messages)
        _check_drawn(stage.name, "judging", stage.asking.settings.max_new_tokens, reader, len(asked))


def _revised(instruction: str, answers: Sequence[str] = ("chosen", "rejected")) -> Ids:
    def ids(tokenizer: Any, row: Row) -> object:
        texts = [door.rows.text_of(row, key) for key in answers]
        return answers_ids(tokenizer, door.reviser.revision_prompt(row["prompt"], texts[-1], instruction), texts)

    return ids


def _check_rows(path: Path, what: str, ids: Ids, reader: Reader) -> None:
    needed = ("prompt",) if what == "prompts" else ("prompt", "chosen")
    for position, row in enumerate(door.rows.read_rows(path, what, needed)):
        with door.rows.located(path, position, what):
            ids(reader.tokenizer, row)
