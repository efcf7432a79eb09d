"""Score stages: labels of annotated pairs and thresholds for drafts, both from a reviser's own likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.console import note
from seft_bench.files import read_json, read_jsonl, write_jsonl
from seft_bench.records import Message, Row
from seft_bench.stages import door
from seft_bench.stages.common import OUTPUTS, Find, Workshop
from seft_bench.stages.engines import Engine, mean_logprobs
from seft_bench.stages.grade import run_grade
from seft_bench.stages.sample import greedy

if TYPE_CHECKING:
    from seft_bench.stages.door import stages

Conversation = Sequence[Message]


def run_score(stage: stages.Score, find: Find, folder: Path, shop: Workshop) -> Row:
    """Score what the stage says: labels, the threshold of a decision, or samples."""
    if stage.what == "grades":
        return run_grade(stage, find, folder, shop)
    if stage.what == "labels":
        return _label_pairs(stage, find, folder, shop.engine)
    return _calibrate(stage, find, folder, shop.engine)


def _label_pairs(stage: stages.LabelPairs, find: Find, folder: Path, engine: Engine) -> Row:
    """Label annotated pairs by the preliminary reviser's likelihoods: rows of the pair with delta and label."""
    reviser = door.reviser
    annotated = door.rows.read_rows(find(stage.data), "preference pairs", ["prompt", "chosen", "rejected"])
    pairs = reviser.pairs_to_revise(annotated, stage.poor)
    prompts = [reviser.asked_to_revise(row, row["rejected"], stage.instruction) for row in pairs]
    answers = [row["chosen"] for row in pairs], [row["rejected"] for row in pairs]
    good, poor = mean_logprobs(engine, find(stage.reviser), prompts, *answers)
    deltas = [reviser.delta(*both) for both in zip(good, poor, strict=True)]
    labels = reviser.label_pairs(deltas, stage.levels, stage.rule)
    _note_few_revised(stage, len(labels) - labels.count("no_revise"), len(labels))
    rows = [{**row, "delta": delta, "label": label} for row, delta, label in zip(pairs, deltas, labels, strict=True)]
    write_jsonl(folder / OUTPUTS["score"], rows)
    return {
        "label_counts": {label: labels.count(label) for label in reviser.LABEL_TEXTS},
        "good_answers": {"no_revise": len(pairs)},
    }


def _calibrate(stage: stages.Calibrate, find: Find, folder: Path, engine: Engine) -> Row:
    """Set a threshold that keeps few of the poor drafts.

    A draft is poor when the reviser prefers the annotated good answer to it.
    """
    rows = read_jsonl(find(stage.data), "calibration drafts", ["prompt", "chosen", "draft"])
    reviser, models = door.reviser, deciding_models(stage, find)
    asked = [reviser.asked_to_revise(row, row["draft"], stage.settings.instruction) for row in rows]
    drafts = [row["draft"] for row in rows]
    good, own = mean_logprobs(engine, models.reviser, asked, [row["chosen"] for row in rows], drafts)
    poor = [reviser.delta(*both) > 0 for both in zip(good, own, strict=True)]
    statistics, _, tokens = draft_statistics(engine, asked, drafts, models, stage.settings, own)
    calibration = reviser.calibrate(statistics, poor, stage.max_poor_kept)
    _note_thin_calibration(stage, calibration.poor, len(rows))
    scored = [{**row, "statistic": value, "poor": bad} for row, value, bad in zip(rows, statistics, poor, strict=True)]
    write_jsonl(folder / OUTPUTS["score"], scored)
    return {
        "calibration": vars(calibration) | {"threshold": _finite(calibration.threshold)},
        "tokens_generated": tokens,
    }


FEW_REVISED = 0.1
"""Share of the pairs labelled for revision below which a reviser learns hardly anything but copying."""


def _note_few_revised(stage: stages.LabelPairs, revised: int, pairs: int) -> None:
    """Say that the reviser will learn to copy, as where the preliminary one finds any copy the likeliest."""
    if revised < FEW_REVISED * pairs:
        note(
            f"  warning: {stage.name}: only {revised} of {pairs} poor answers are labelled for revision, so the "
            "reviser learns to copy: `label_rule: annotated` has all of them revised"
        )


def _note_thin_calibration(stage: stages.Calibrate, poor: int, drafts: int) -> None:
    """Say that the share of poor drafts to keep cannot be told from none, as when hardly any draft is poor."""
    if poor and (not stage.max_poor_kept or poor * stage.max_poor_kept >= 1):
        return
    found = f"{poor} of {drafts} calibration drafts are poor to the reviser"
    outcome = "the threshold rests on them alone" if poor else "so every draft of this round is kept"
    note(f"  warning: {stage.name}: {found}, {outcome}: give more calibration pairs, or set `decision: margin`")


def _finite(value: float) -> float:
    """JSON has no infinity; this is beyond every log-probability."""
    return max(value, -1e9)


@dataclass(frozen=True)
class DecidingModels:
    """The checkpoints that decide on drafts.

    Attributes:
        decider: emits labels, where labels decide; None where the reviser's likelihoods do.
    """

    reviser: Path
    decider: Path | None


def threshold_of(stage: stages.Revise | stages.Pair, find: Find) -> float:
    """Return the margin of the settings, or what the calibration found."""
    if stage.margin is not None:
        return stage.margin
    return float(read_json(find(stage.calibration).parent / "stage.json")["calibration"]["threshold"])


def deciding_models(stage: stages.Calibrate | stages.Revise, find: Find) -> DecidingModels:
    return DecidingModels(find(stage.reviser), find(stage.decider) if stage.decision == "token" else None)


def draft_statistics(
    engine: Engine,
    asked: Sequence[Conversation],
    drafts: Sequence[str],
    models: DecidingModels,
    settings: stages.Revising,
    own: list[float] | None = None,
) -> tuple[list[float], list[str] | None, int]:
    """Compute the statistic that decides on each draft.

    Args:
        asked: conversations in which the reviser is asked to revise the drafts.
        own: the reviser's mean log-probability of each draft, where it is known already.

    Returns:
        The statistics; the greedy revisions where they were needed; and the tokens that these took.
    """
    reviser = door.reviser
    if models.decider:
        return label_statistics(engine, models.decider, asked), None, 0
    if settings.statistic == "keep":
        kept = own or mean_logprobs(engine, models.reviser, asked, drafts)[0]
        return [reviser.keep_statistic(value) for value in kept], None, 0
    revisions, tokens = greedy(engine, models.reviser, asked, settings)
    *unknown, revised = mean_logprobs(engine, models.reviser, asked, *([] if own else [drafts]), revisions)
    return [reviser.mode_statistic(*both) for both in zip(own or unknown[0], revised, strict=True)], revisions, tokens


def label_statistics(engine: Engine, decider: Path, asked: Sequence[Conversation]) -> list[float]:
    """Log-odds of the emitted label "no revise" against the likeliest other one."""
    texts = door.reviser.LABEL_TEXTS
    scored = engine.score(decider, [[(prompt, text) for prompt in asked] for text in texts.values()])
    scores = {label: [score.sum for score in row] for label, row in zip(texts, scored, strict=True)}
    others = [label for label in texts if label != "no_revise"]
    return [keep - max(scores[label][index] for label in others) for index, keep in enumerate(scores["no_revise"])]
