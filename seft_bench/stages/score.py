"""Score stages: labels of annotated pairs and thresholds for drafts, both from a reviser's own likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Row, Stage
from seft_bench.stages.common import OUTPUTS, Workshop
from seft_bench.stages.door import training
from seft_bench.stages.sample import greedy


def run_score(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    return {"labels": _score_labels, "calibration": _calibrate}[stage.settings["what"]](stage, inputs, folder)


def _score_labels(stage: Stage, inputs: Mapping[str, Path], folder: Path) -> Row:
    """Labels of annotated pairs from the preliminary reviser's likelihoods: rows of the pair with delta and label."""
    pairs = read_jsonl(inputs["data"], "preference pairs", ["prompt", "chosen", "rejected"])
    reviser, instruction = training("reviser"), stage.settings["instruction"]
    prompts = [reviser.revision_prompt(row["prompt"], row["rejected"], instruction) for row in pairs]
    good, poor = mean_logprobs(
        inputs["reviser"], prompts, [row["chosen"] for row in pairs], [row["rejected"] for row in pairs]
    )
    deltas = [reviser.delta(*both) for both in zip(good, poor, strict=True)]
    labels = reviser.label_pairs(deltas, stage.settings["levels"])
    rows = [{**row, "delta": delta, "label": label} for row, delta, label in zip(pairs, deltas, labels, strict=True)]
    write_jsonl(folder / OUTPUTS["score"], rows)
    return {
        "label_counts": {label: labels.count(label) for label in reviser.LABEL_TEXTS},
        "good_answers": {"no_revise": len(pairs)},
    }


def _calibrate(stage: Stage, inputs: Mapping[str, Path], folder: Path) -> Row:
    """A threshold that keeps few of the poor drafts.

    A draft is poor when the reviser prefers the annotated good answer to it.
    """
    rows = read_jsonl(inputs["data"], "calibration drafts", ["prompt", "chosen", "draft"])
    reviser, settings = training("reviser"), stage.settings
    prompts = [reviser.revision_prompt(row["prompt"], row["draft"], settings["instruction"]) for row in rows]
    drafts = [row["draft"] for row in rows]
    good, own = mean_logprobs(inputs["reviser"], prompts, [row["chosen"] for row in rows], drafts)
    poor = [reviser.delta(*both) > 0 for both in zip(good, own, strict=True)]
    statistics, _, tokens = draft_statistics([row["prompt"] for row in rows], drafts, inputs, settings, own)
    calibration = reviser.calibrate(statistics, poor, settings["max_poor_kept"])
    scored = [{**row, "statistic": value, "poor": bad} for row, value, bad in zip(rows, statistics, poor, strict=True)]
    write_jsonl(folder / OUTPUTS["score"], scored)
    return {
        "calibration": vars(calibration) | {"threshold": _finite(calibration.threshold)},
        "tokens_generated": tokens,
    }


def _finite(value: float) -> float:
    """JSON has no infinity; this is beyond every log-probability."""
    return max(value, -1e9)


def mean_logprobs(model: Path, prompts: Sequence[Any], *answers: Sequence[str]) -> list[list[float]]:
    """Mean log-probability per token of each answer, its stop token included; one list for each list of answers to the
    same prompts.
    """
    lists = [list(zip(prompts, texts, strict=True)) for texts in answers]
    return [
        [score.sum / max(1, score.tokens) for score in scores]
        for scores in training("logprobs").score_answer_lists(model, None, lists)
    ]


def draft_statistics(
    prompts: Sequence[Any],
    drafts: Sequence[str],
    inputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    own: list[float] | None = None,
) -> tuple[list[float], list[str] | None, int]:
    """The statistic that decides on each draft; the greedy revisions where it needs them, and the tokens they took.

    Args:
        own: the reviser's mean log-probability of each draft, where it is known already.
    """
    reviser = training("reviser")
    asked = [
        reviser.revision_prompt(prompt, draft, settings["instruction"])
        for prompt, draft in zip(prompts, drafts, strict=True)
    ]
    if settings["decision"] == "token":
        return _label_statistics(inputs["decider"], asked), None, 0
    if settings["statistic"] == "keep":
        kept = own or mean_logprobs(inputs["reviser"], asked, drafts)[0]
        return [reviser.keep_statistic(value) for value in kept], None, 0
    revisions, tokens = greedy(inputs["reviser"], asked, settings)
    *unknown, revised = mean_logprobs(inputs["reviser"], asked, *([] if own else [drafts]), revisions)
    return [reviser.mode_statistic(*both) for both in zip(own or unknown[0], revised, strict=True)], revisions, tokens


def _label_statistics(decider: Path, asked: Sequence[Any]) -> list[float]:
    """Log-odds of the emitted label "no revise" against the likeliest other one."""
    texts = training("reviser").LABEL_TEXTS
    scored = training("logprobs").score_answer_lists(
        decider, None, [[(prompt, text) for prompt in asked] for text in texts.values()]
    )
    scores = {label: [score.sum for score in row] for label, row in zip(texts, scored, strict=True)}
    others = [label for label in texts if label != "no_revise"]
    return [keep - max(scores[label][index] for label in others) for index, keep in enumerate(scores["no_revise"])]
