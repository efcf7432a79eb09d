"""Rows that stand for what stages would make, so that the trainings after them can be counted without running anything.

Drafts are as long as they may become, all poor answers count as to be revised, and every draft may be kept or revised:
what is counted is an upper bound of the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Row
from seft_bench.stages import door
from seft_bench.stages.sample import chosen_prompts, drawn_keys

if TYPE_CHECKING:
    from seft_bench.stages.door import stages

WORD = " the"


def stand_in(
    stage: stages.Stage, inputs: Mapping[str, Path], tokenizer: Any, target: Path, tokens: int | None = None
) -> Path:
    """Write the rows that a stage between two trainings would make, as far as their lengths go.

    Args:
        inputs: role -> file of rows, for those inputs that are rows.
        tokenizer: None counts a token a word.
        tokens: of a draft; None is as many as it may have.
    """
    if stage.kind == "sample":
        draft = text_of_tokens(tokens or stage.settings.max_new_tokens, tokenizer)
        drawn = drawn_keys(stage, [_other(draft, number) for number in range(stage.samples)])
        prompts = chosen_prompts(door.rows.read_rows(inputs["prompts"], "prompts", ["prompt"]), stage)
        rows = [{**row, **drawn} for row in prompts]
    elif stage.kind == "score" and stage.what == "grades":
        rows = [
            {**row, "grades": [float(number) for number in range(len(row["samples"]))]}
            for row in read_jsonl(inputs["data"], "samples")
        ]
    elif stage.kind == "score":
        pairs = read_jsonl(inputs["data"], "rows")
        labelled = door.reviser.pairs_to_revise(pairs, stage.poor) if stage.what == "labels" else pairs
        rows = [{**row, "label": "major_revise"} for row in labelled]
    else:
        rows = [_revised(row) for row in read_jsonl(inputs["data"], "drafts")]
    write_jsonl(target, rows)
    return target


def _revised(row: Row) -> Row:
    revision = _other(row["draft"], 1)  # an answer that differs, since equal pairs teach nothing
    return {**row, "kept": None, "revision": revision, "answer": revision}  # nobody has decided: it counts as either


def _other(draft: str, number: int) -> str:
    """Return a text of about as many tokens, whose last word is another for each number."""
    return f"{draft.removesuffix(WORD)} {number}" if number else draft


def text_of_tokens(tokens: int, tokenizer: Any) -> str:
    """Write a text of about so many tokens."""
    text = WORD * tokens
    if tokenizer is None:
        return text
    found = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return WORD * max(1, round(tokens * tokens / max(1, found)))
