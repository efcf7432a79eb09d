"""Revise stages: decide on every draft, and revise the ones that are not kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.files import read_json, read_jsonl, write_jsonl
from seft_bench.records import Row, Stage
from seft_bench.stages.common import OUTPUTS, Workshop
from seft_bench.stages.door import training
from seft_bench.stages.sample import greedy
from seft_bench.stages.score import draft_statistics, mean_logprobs


def run_revise(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    """Decide on every draft, revise the ones that are not kept, and save what the policy shall learn as `answer`."""
    rows = read_jsonl(inputs["data"], "drafts", ["prompt", "draft", "samples"])
    outcome, tokens = _DECIDERS.get(stage.settings["decision"], _decide_and_revise)(rows, inputs, stage.settings)
    for row in outcome:
        row["answer"] = row["draft"] if row["kept"] else row["revision"]
    write_jsonl(folder / OUTPUTS["revise"], outcome)
    diagnostics = training("reviser").revision_summary(outcome)
    if shop.diagnostics_judge:
        from seft_bench.stages.diagnostics import grade_revisions

        diagnostics |= grade_revisions(outcome, shop.diagnostics_judge, folder, training("reviser").auc)
    return {"diagnostics": diagnostics, "tokens_generated": tokens}


Decided = tuple[list[Row], int]
"""Rows with kept, statistic and revision (what replaces the draft where it is not kept), and the tokens generated for
it.
"""


def _best_samples(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """Internal evolution: of the policy's own samples the one that the reviser would rather keep."""
    reviser = training("reviser")
    flat = [(row["prompt"], text) for row in rows for text in row["samples"]]
    asked = [reviser.revision_prompt(prompt, text, settings["instruction"]) for prompt, text in flat]
    [means] = mean_logprobs(inputs["reviser"], asked, [text for _, text in flat])
    scores = iter(means)
    best = [max((next(scores), text) for text in row["samples"]) for row in rows]
    return [
        {**row, "kept": text == row["draft"], "statistic": None, "revision": text}
        for row, (_, text) in zip(rows, best, strict=True)
    ], 0


def _keep_all(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """The policy's own drafts, unrevised."""
    return [{**row, "kept": True, "statistic": None, "revision": ""} for row in rows], 0


def _revise_all(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """Always rewrite."""
    reviser = training("reviser")
    revisions, tokens = greedy(
        inputs["reviser"],
        [reviser.revision_prompt(row["prompt"], row["draft"], settings["instruction"]) for row in rows],
        settings,
    )
    return [
        {**row, "kept": False, "statistic": None, "revision": text} for row, text in zip(rows, revisions, strict=True)
    ], tokens


def _decide_and_revise(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """External evolution: keep the drafts whose statistic reaches this round's threshold, revise the others."""
    statistics, revisions, tokens = draft_statistics(
        [row["prompt"] for row in rows], [row["draft"] for row in rows], inputs, settings
    )
    if revisions is None:
        revised, tokens = _revise_all(rows, inputs, settings)
        revisions = [row["revision"] for row in revised]
    threshold = read_json(inputs["calibration"].parent / "stage.json")["calibration"]["threshold"]
    decided = zip(rows, statistics, revisions, strict=True)
    return [
        {**row, "kept": value >= threshold, "statistic": value, "revision": revision}
        for row, value, revision in decided
    ], tokens


_DECIDERS = {"best_sample": _best_samples, "never": _keep_all, "always": _revise_all}
