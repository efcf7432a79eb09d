"""Revise stages: decide on every draft, and revise the ones that are not kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Message, Row
from seft_bench.stages import door
from seft_bench.stages.common import OUTPUTS, Find, Workshop
from seft_bench.stages.engines import Engine, mean_logprobs
from seft_bench.stages.reporting import report_revisions
from seft_bench.stages.sample import greedy
from seft_bench.stages.score import deciding_models, draft_statistics, threshold_of

if TYPE_CHECKING:
    from seft_bench.stages.door import stages


def run_revise(stage: stages.Revise, find: Find, folder: Path, shop: Workshop) -> Row:
    """Decide on every draft, revise the ones that are not kept, and save what the policy shall learn as `answer`."""
    rows = read_jsonl(find(stage.data), "drafts", ["prompt", "draft", "samples"])
    outcome, tokens = _DECIDERS.get(stage.decision, _decide_and_revise)(rows, stage, find, shop.engine)
    for row in outcome:
        row["answer"] = row["draft"] if row["kept"] else row["revision"]
    write_jsonl(folder / OUTPUTS["revise"], outcome)
    diagnostics = door.reviser.revision_summary(outcome)
    if stage.decision == "candidates":
        diagnostics["from_reviser"] = sum(row["from_reviser"] for row in outcome) / len(outcome)
    if shop.diagnostics_judge:
        from seft_bench.stages.diagnostics import grade_revisions

        diagnostics |= grade_revisions(outcome, shop.diagnostics_judge, folder, door.reviser.auc)
    report_revisions(stage, diagnostics, folder, shop)
    return {"diagnostics": diagnostics, "tokens_generated": tokens}


Decided = tuple[list[Row], int]
"""Rows with kept, statistic and revision, and the tokens generated for them.

The revision is what replaces the draft where it is not kept.
"""


def _best_samples(rows: Sequence[Row], stage: stages.Revise, find: Find, engine: Engine) -> Decided:
    """Internal evolution: take, of the policy's own samples, the one that the reviser would rather keep."""
    flat = [(row, text) for row in rows for text in row["samples"]]
    asked = [door.reviser.asked_to_revise(row, text, stage.settings.instruction) for row, text in flat]
    [means] = mean_logprobs(engine, find(stage.reviser), asked, [text for _, text in flat])
    scores = iter(means)
    best = [max((next(scores), text) for text in row["samples"]) for row in rows]
    return [
        {**row, "kept": text == row["draft"], "statistic": None, "revision": text}
        for row, (_, text) in zip(rows, best, strict=True)
    ], 0


def _likeliest_candidates(rows: Sequence[Row], stage: stages.Revise, find: Find, engine: Engine) -> Decided:
    """Take, of the policy's samples and their greedy revisions, the likeliest under policy and base together.

    The policy's own text is taken where two are alike; an empty text never.
    """
    flat = [(row, text) for row in rows for text in row["samples"]]
    asked = [door.reviser.asked_to_revise(row, text, stage.settings.instruction) for row, text in flat]
    revisions, tokens = greedy(engine, find(stage.reviser), asked, stage.settings)
    policy, base = map(find, stage.likelihoods or (None, None))
    own, revised = _joint_likelihoods(engine, (policy, base), flat, revisions)
    pairs = iter(zip(own, revised, [text for _, text in flat], revisions, strict=True))
    return [_likeliest(row, [next(pairs) for _ in row["samples"]]) for row in rows], tokens


def _joint_likelihoods(
    engine: Engine, models: Sequence[Path], flat: Sequence[tuple[Row, str]], revisions: Sequence[str]
) -> list[list[float]]:
    """Add up the mean log-probabilities per token under the models, of the samples and of their revisions."""
    prompts, samples = [row["prompt"] for row, _ in flat], [text for _, text in flat]
    by_model = [mean_logprobs(engine, model, prompts, samples, revisions) for model in models]
    sums = [[sum(values) for values in zip(*lists, strict=True)] for lists in zip(*by_model, strict=True)]
    texts = (samples, revisions)
    return [
        [value if text.strip() else -math.inf for value, text in zip(values, written, strict=True)]
        for values, written in zip(sums, texts, strict=True)
    ]


def _likeliest(row: Row, candidates: Sequence[tuple[float, float, str, str]]) -> Row:
    """Return the row with its likeliest candidate as the revision, and whether a reviser wrote it."""
    samples = [(score, text, False) for score, _, text, _ in candidates]
    revised = [(score, text, True) for _, score, _, text in candidates]
    _, text, from_reviser = max([*samples, *revised], key=lambda candidate: candidate[0])
    return {**row, "kept": text == row["draft"], "statistic": None, "revision": text, "from_reviser": from_reviser}


def _keep_all(rows: Sequence[Row], stage: stages.Revise, find: Find, engine: Engine) -> Decided:
    """Keep the policy's own drafts, unrevised."""
    return [{**row, "kept": True, "statistic": None, "revision": ""} for row in rows], 0


def _revise_all(rows: Sequence[Row], stage: stages.Revise, find: Find, engine: Engine) -> Decided:
    """Always rewrite."""
    revisions, tokens = greedy(engine, find(stage.reviser), _asked(rows, stage), stage.settings)
    return [
        {**row, "kept": False, "statistic": None, "revision": text} for row, text in zip(rows, revisions, strict=True)
    ], tokens


def _decide_and_revise(rows: Sequence[Row], stage: stages.Revise, find: Find, engine: Engine) -> Decided:
    """External evolution: keep the drafts whose statistic reaches the threshold, revise the others."""
    asked, models = _asked(rows, stage), deciding_models(stage, find)
    statistics, revisions, tokens = draft_statistics(
        engine, asked, [row["draft"] for row in rows], models, stage.settings
    )
    if revisions is None:
        revisions, tokens = greedy(engine, models.reviser, asked, stage.settings)
    threshold = threshold_of(stage, find)
    decided = zip(rows, statistics, revisions, strict=True)
    outcome = [
        {**row, "kept": value >= threshold, "statistic": value, "revision": revision}
        for row, value, revision in decided
    ]
    if stage.confident:
        for row in outcome:
            row["confidence"] = door.reviser.confidence(row["statistic"], threshold)
    return outcome, tokens


def _asked(rows: Sequence[Row], stage: stages.Revise) -> list[list[Message]]:
    """Build the conversations in which the reviser is asked to revise the drafts."""
    return [door.reviser.asked_to_revise(row, row["draft"], stage.settings.instruction) for row in rows]


_DECIDERS: dict[str, Callable[[Sequence[Row], stages.Revise, Find, Engine], Decided]] = {
    "best_sample": _best_samples,
    "candidates": _likeliest_candidates,
    "never": _keep_all,
    "always": _revise_all,
}
