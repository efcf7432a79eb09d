"""Training rows of every method, made from the rows of data sets and earlier stages: one function a shape.

Each returns rows that `training.data` reads: `{"prompt", "answer"}`, `{"prompt", "chosen", "rejected"}` or `{"text"}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from seft_bench.errors import unknown_name
from seft_bench.files import read_jsonl
from seft_bench.records import Row

from .reviser import LABEL_TEXTS, Label, revision_prompt, revision_row

Settings = Mapping[str, Any]


def _documents(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    return [{"text": row["text"]} for row in read_jsonl(data["data"], "pre-training documents", ["text"])]


def _answers(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    """Annotated conversations, as they are."""
    rows = read_jsonl(data["data"], "SFT data")
    return [{key: row[key] for key in ("prompt", "answer", "messages") if key in row} for row in rows]


def _preferences(path: Path) -> list[Row]:
    return read_jsonl(path, "preference pairs", ["prompt", "chosen", "rejected"])


def _good_answers(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    return [{"prompt": row["prompt"], "answer": row["chosen"]} for row in _preferences(data["data"])]


def _pairs(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    return [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in _preferences(data["data"])]


def _revisions(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    """The preliminary reviser: poor answer -> good answer."""
    return [
        revision_row(row["prompt"], row["rejected"], row["chosen"], settings["instruction"])
        for row in _preferences(data["data"])
    ]


def _labelled_revisions(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    """The adaptive reviser: what is labelled for revision -> good answer; a share of the good answers, and poor ones
    labelled "no revise", -> a copy.
    """
    rows = read_jsonl(data["data"], "labelled pairs", ["prompt", "chosen", "rejected", "label"])
    instruction = settings["instruction"]
    made = [
        revision_row(
            row["prompt"],
            row["rejected"],
            row["rejected"] if row["label"] == "no_revise" else row["chosen"],
            instruction,
        )
        for row in rows
    ]
    copies = rng.sample(rows, round(settings["copies_share"] * len(rows)))
    return made + [revision_row(row["prompt"], row["chosen"], row["chosen"], instruction) for row in copies]


def _labels(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    """The decider learns the label alone, on as many good answers as poor ones: with labels and revisions in one model
    the label collapses.
    """
    rows = read_jsonl(data["data"], "labelled pairs", ["prompt", "chosen", "rejected", "label"])
    made = []
    for row in rows:
        label: Label = row["label"]
        made.append(
            {
                "prompt": revision_prompt(row["prompt"], row["rejected"], settings["instruction"]),
                "answer": LABEL_TEXTS[label],
            }
        )
        made.append(
            {
                "prompt": revision_prompt(row["prompt"], row["chosen"], settings["instruction"]),
                "answer": LABEL_TEXTS["no_revise"],
            }
        )
    return made


def _drafts(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    """What the policy learns from revised (or kept) drafts; empty answers teach nothing and are left out."""
    rows = read_jsonl(data["data"], "revised drafts", ["prompt", "answer"])
    return [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows if row["answer"].strip()]


def _drafts_and_good_answers(data: Mapping[str, Path], settings: Settings, rng: Random) -> list[Row]:
    drafts = read_jsonl(data["data"], "drafts", ["prompt", "draft"])
    made = [{"prompt": row["prompt"], "answer": row["draft"]} for row in drafts if row["draft"].strip()]
    return made + [{"prompt": row["prompt"], "answer": row["chosen"]} for row in _preferences(data["preferences"])]


SHAPES: dict[str, Callable[[Mapping[str, Path], Settings, Random], list[Row]]] = {
    "documents": _documents,
    "answers": _answers,
    "good_answers": _good_answers,
    "pairs": _pairs,
    "revisions": _revisions,
    "labelled_revisions": _labelled_revisions,
    "labels": _labels,
    "drafts": _drafts,
    "drafts_and_good_answers": _drafts_and_good_answers,
}


def shape_rows(settings: Settings, data: Mapping[str, Path], seed: int) -> list[Row]:
    """Training rows of one stage.

    Args:
        settings: the stage's; `shape` picks the function.
        data: role -> file of rows.
    """
    if settings["shape"] not in SHAPES:
        raise unknown_name("shape of training data", settings["shape"], SHAPES)
    return SHAPES[settings["shape"]](data, settings, Random(f"{seed}/{settings['shape']}"))
