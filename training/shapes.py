"""Training rows of every method, made from the rows of data sets and earlier stages: one function a shape.

Each returns rows that `training.data` reads: `{"prompt", "answer"}`, `{"prompt", "chosen", "rejected"}` or `{"text"}`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from seft_bench.errors import InputError, unknown_name
from seft_bench.records import Row

from .reviser import LABEL_TEXTS, Label, asked_to_revise, of_mean_one, pairs_to_revise, revision_row
from .rows import read_rows
from .stages import Shape


class Files(NamedTuple):
    """Files of rows that training rows are made from: the stage's data, and pairs or graded samples to mix in."""

    data: Path
    preferences: Path | None = None


def _documents(files: Files, shape: Shape, rng: Random) -> list[Row]:
    return [{"text": row["text"]} for row in read_rows(files.data, "pre-training documents", ["text"])]


def _answers(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Annotated conversations, as they are."""
    rows = read_rows(files.data, "SFT data")
    return [{key: row[key] for key in ("prompt", "answer", "messages", "learn") if key in row} for row in rows]


def _preferences(path: Path) -> list[Row]:
    return read_rows(path, "preference pairs", ["prompt", "chosen", "rejected"])


def _good_answers(files: Files, shape: Shape, rng: Random) -> list[Row]:
    return [{"prompt": row["prompt"], "answer": row["chosen"]} for row in _preferences(files.data)]


def _pairs(files: Files, shape: Shape, rng: Random) -> list[Row]:
    return [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in _preferences(files.data)]


def _pairs_as_labelled_answers(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Both answers of each pair, labelled; first all good ones, so that neighbours have different prompts."""
    pairs = _preferences(files.data)
    sides = (("chosen", True), ("rejected", False))
    return [{"prompt": row["prompt"], "answer": row[side], "label": label} for side, label in sides for row in pairs]


def _labelled_answers(files: Files, shape: Shape, rng: Random) -> list[Row]:
    rows = read_rows(files.data, "labelled answers", ["prompt", "answer", "label"])
    return [{key: row[key] for key in ("prompt", "answer", "label")} for row in rows]


def _prompts(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Prompts alone: whatever else a row has, nobody reads."""
    rows = read_rows(files.data, "prompts", ["prompt"])
    if shape.first is not None and shape.first > len(rows):
        raise InputError(
            f"prompts: {shape.first} are asked for, and {files.data} has {len(rows)}: give at most as many"
        )
    return [{"prompt": row["prompt"]} for row in rows[: shape.first]]


def _revisions(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """The preliminary reviser: poor answer -> good answer."""
    pairs = _pairs_to_revise(files, shape)
    return [revision_row(row, row["rejected"], row["chosen"], shape.instruction) for row in pairs]


def _pairs_to_revise(files: Files, shape: Shape) -> list[Row]:
    return pairs_to_revise(_preferences(files.data), shape.poor)


def _revisions_and_copies(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """A plain reviser: poor answer -> good answer, and a share of the good answers copied (Aligner's identity)."""
    copied = _copies(_pairs_to_revise(files, shape), shape, rng)
    return _revisions(files, shape, rng) + copied


def _copies(rows: list[Row], shape: Shape, rng: Random) -> list[Row]:
    chosen = rng.sample(rows, round((shape.copies_share or 0.0) * len(rows)))
    return [revision_row(row, row["chosen"], row["chosen"], shape.instruction) for row in chosen]


def _labelled_revisions(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """The adaptive reviser: what is labelled for revision -> good answer, the rest -> a copy.

    Copied are a share of the good answers, and the poor ones labelled "no revise".
    """
    rows, instruction = _labelled(files.data), shape.instruction
    made = []
    for row in rows:
        target = row["rejected"] if row["label"] == "no_revise" else row["chosen"]
        made.append(revision_row(row, row["rejected"], target, instruction))
    return made + _copies(rows, shape, rng)


def _labels(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """The decider learns the label alone, on as many good answers as poor ones.

    With labels and revisions in one model the label collapses.
    """
    made = []
    for row in _labelled(files.data):
        label: Label = row["label"]
        poor, good = (asked_to_revise(row, row[side], shape.instruction) for side in ("rejected", "chosen"))
        made.append({"prompt": poor, "answer": LABEL_TEXTS[label]})
        made.append({"prompt": good, "answer": LABEL_TEXTS["no_revise"]})
    return made


def _labelled(path: Path) -> list[Row]:
    return read_rows(path, "labelled pairs", ["prompt", "chosen", "rejected", "label"])


def _drafts(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Revised (or kept) drafts for the policy; empty ones are counted and left out where they are tokenised.

    Good answers of preference pairs come behind them where the stage mixes them in; these are certain.
    """
    rows = _learnt_part(read_rows(files.data, "revised drafts", ["prompt", "answer"]), shape, files.data)
    made = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
    good = _good_answers(Files(files.preferences), shape, rng) if files.preferences else []
    if not shape.weighted:
        return made + good
    confidences = [row.get("confidence", 1.0) for row in rows] + [1.0] * len(good)
    return [{**row, "weight": weight} for row, weight in zip(made + good, of_mean_one(confidences), strict=True)]


def _learnt_part(rows: list[Row], shape: Shape, path: Path) -> list[Row]:
    """Choose the drafts that were kept, or those that were revised."""
    if shape.learn == "all":
        return rows
    unwanted = shape.learn != "kept"
    chosen = [row for row in rows if _was_kept(row) is not unwanted]
    if not chosen:
        other = "revised" if shape.learn == "kept" else "kept"
        raise InputError(
            f"learn: {shape.learn} leaves nothing to learn: all {len(rows)} drafts of {path} were {other}. Give "
            "another margin or decision, or learn: all"
        )
    return chosen


def _was_kept(row: Row) -> bool | None:
    """Return whether a row's answer is an own one; None of what stands for a draft, on which nobody has decided."""
    kept: bool | None = not row["from_reviser"] if "from_reviser" in row else row["kept"]
    return kept


def _revised_against_drafts(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Pairs of a revision and the draft that it replaced; a draft that was kept makes none."""
    rows = read_rows(files.data, "revised drafts", ["prompt", "draft", "revision", "kept"])
    return [
        {"prompt": row["prompt"], "chosen": row["revision"], "rejected": row["draft"]}
        for row in rows
        if not row["kept"]
    ]


def _revised_and_on_policy_pairs(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Pairs of revisions and drafts, and those of the best and the worst of graded samples behind them."""
    return _revised_against_drafts(files, shape, rng) + _best_against_worst(Files(_mixed_in(files)), shape, rng)


def _annotated_against_own(files: Files, shape: Shape, rng: Random) -> list[Row]:
    rows = read_rows(files.data, "own answers to annotated prompts", ["prompt", "answer", "draft"])
    return [{"prompt": row["prompt"], "chosen": row["answer"], "rejected": row["draft"]} for row in rows]


def _best_samples(files: Files, shape: Shape, rng: Random) -> list[Row]:
    return [
        {"prompt": prompt, "answer": graded[-1][1]}
        for prompt, graded in _graded(files.data)
        if graded and _is_enough(graded[-1][0], shape)
    ]


def _samples_above(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Rejection sampling: every distinct sample with a grade that is enough."""
    return [
        {"prompt": prompt, "answer": text}
        for prompt, graded in _graded(files.data)
        for text in dict.fromkeys(text for grade, text in graded if _is_enough(grade, shape))
    ]


def _best_against_worst(files: Files, shape: Shape, rng: Random) -> list[Row]:
    """Pairs of unequally graded samples; a prompt whose samples are all graded alike makes none."""
    return [
        {"prompt": prompt, "chosen": graded[-1][1], "rejected": graded[0][1]}
        for prompt, graded in _graded(files.data)
        if graded and graded[0][0] < graded[-1][0]
    ]


def _graded(path: Path) -> list[tuple[object, list[tuple[float, str]]]]:
    """Prompts with their graded samples, from the worst to the best; equal grades stay in the samples' order."""
    rows = read_rows(path, "graded samples", ["prompt", "samples", "grades"])
    return [
        (
            row["prompt"],
            sorted(
                ((grade, text) for grade, text in zip(row["grades"], row["samples"], strict=True) if grade is not None),
                key=lambda pair: pair[0],
            ),
        )
        for row in rows
    ]


def _is_enough(grade: float, shape: Shape) -> bool:
    return shape.min_grade is None or grade >= shape.min_grade


def _drafts_and_good_answers(files: Files, shape: Shape, rng: Random) -> list[Row]:
    drafts = read_rows(files.data, "drafts", ["prompt", "draft"])
    made = [{"prompt": row["prompt"], "answer": row["draft"]} for row in drafts]
    return made + [{"prompt": row["prompt"], "answer": row["chosen"]} for row in _preferences(_mixed_in(files))]


def _mixed_in(files: Files) -> Path:
    if files.preferences is None:
        raise TypeError("this shape mixes in other rows: the stage names none")
    return files.preferences


SHAPES: dict[str, Callable[[Files, Shape, Random], list[Row]]] = {
    "documents": _documents,
    "answers": _answers,
    "good_answers": _good_answers,
    "pairs": _pairs,
    "pairs_as_labelled_answers": _pairs_as_labelled_answers,
    "labelled_answers": _labelled_answers,
    "prompts": _prompts,
    "revisions": _revisions,
    "revisions_and_copies": _revisions_and_copies,
    "labelled_revisions": _labelled_revisions,
    "labels": _labels,
    "drafts": _drafts,
    "revised_against_drafts": _revised_against_drafts,
    "revised_and_on_policy_pairs": _revised_and_on_policy_pairs,
    "annotated_against_own": _annotated_against_own,
    "best_samples": _best_samples,
    "samples_above": _samples_above,
    "best_against_worst": _best_against_worst,
    "drafts_and_good_answers": _drafts_and_good_answers,
}


def shape_rows(shape: Shape, files: Files, seed: int) -> list[Row]:
    """Make the training rows of one stage.

    Raises:
        InputError: unknown shape, or a row that lacks a key.
    """
    if shape.name not in SHAPES:
        raise unknown_name("shape of training data", shape.name, SHAPES)
    return SHAPES[shape.name](files, shape, Random(f"{seed}/{shape.name}"))
