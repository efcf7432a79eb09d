"""The adaptive reviser: prompt format, labels from its own likelihoods, and the decision to revise or to keep.

After SEFT (arXiv 2406.10813). The paper's abstract and public summaries are what we read; label names, the rule that
assigns them and every setting here are our reading, and configurable. psi is the preliminary reviser, y a draft, y^
psi's greedy revision of it, y_l and y_h the poor and the good answer of an annotated pair. All log-probabilities are
means per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seft_bench.errors import InputError
from seft_bench.records import Message, Row

Label = Literal["no_revise", "minor_revise", "major_revise"]

LABEL_TEXTS: dict[Label, str] = {
    "no_revise": "[No Revise]",
    "minor_revise": "[Minor Revise]",
    "major_revise": "[Major Revise]",
}
"""The texts that a reviser with `decision: token` emits."""

STATISTICS = ("keep", "mode")
"""Statistics of a draft that decide whether it is kept; higher means that it looks better to the reviser."""


OTHER_DRAFTS = "other_drafts"
"""Key of rows under which the drafts stand that a reviser sees beside the one to revise."""


def revision_prompt(
    prompt: Sequence[Message], draft: str, instruction: str, others: Sequence[str] = ()
) -> list[Message]:
    """Build the conversation in which a reviser answers: question, draft, and the instruction to revise it.

    Other drafts of the question stand before it, each an exchange of its own: the question, an answer, the question
    again, and so on to the draft. Roles take turns, as every chat template wants it.
    """
    exchanges = [message for other in others for message in ({"role": "assistant", "content": other}, prompt[-1])]
    asked = {"role": "user", "content": instruction}
    return [*prompt, *exchanges, {"role": "assistant", "content": draft}, asked]


def asked_to_revise(row: Mapping[str, Any], draft: str, instruction: str) -> list[Message]:
    """Build the conversation about a draft of a row's prompt, with the other drafts that the row has."""
    return revision_prompt(row["prompt"], draft, instruction, row.get(OTHER_DRAFTS, ()))


def revision_row(row: Mapping[str, Any], draft: str, revision: str, instruction: str) -> Row:
    """Make a training row of a row with a prompt: loss on the revision only."""
    return {"prompt": asked_to_revise(row, draft, instruction), "answer": revision}


PoorAnswers = Literal["annotated", "on_policy", "both"]
"""The poor answers that a reviser learns to revise: the annotated ones, a policy's drafts of their prompts, or both."""


def pairs_to_revise(rows: Sequence[Row], poor: PoorAnswers) -> list[Row]:
    """Make pairs of annotated ones and a draft each: the draft stands in the poor answer's place, or is one more."""
    own = [] if poor == "annotated" else [{**row, "rejected": row["draft"]} for row in rows]
    return own if poor == "on_policy" else [*rows, *own]


def keep_statistic(log_p_draft: float) -> float:
    """log psi(y | x, y): high when the reviser would write the draft again. Our keep(y) with its sign turned."""
    return log_p_draft


def mode_statistic(log_p_draft: float, log_p_revision: float) -> float:
    """log psi(y | x, y) - log psi(y^ | x, y): 0 for the reviser's own words, negative for others."""
    return log_p_draft - log_p_revision


def delta(log_p_good: float, log_p_poor: float) -> float:
    """log psi(y_h | x, y_l) - log psi(y_l | x, y_l): how much the reviser prefers the good answer to a copy."""
    return log_p_good - log_p_poor


def confidence(statistic: float, threshold: float) -> float:
    """Say how sure a decision is, in [0, 1]: how far the statistic lies from the threshold, kept or revised alike.

    The measure is the threshold's own distance from 0, which is where the reviser would write the draft itself: a kept
    draft is certain (1) there, a revised one as far below the threshold, and 0 is a draft on the threshold.

    >>> [round(confidence(value, -0.2), 3) for value in (0.0, -0.05, -0.2, -0.3, -2.0)]
    [1.0, 0.75, 0.0, 0.5, 1.0]
    """
    distance = abs(statistic - threshold)
    return min(1.0, distance / abs(threshold)) if threshold else float(distance > 0)


def of_mean_one(weights: Sequence[float]) -> list[float]:
    """Scale weights to a mean of 1, so that they part a step among rows and leave its size; all 0 count alike."""
    mean = sum(weights) / len(weights) if weights else 0.0
    return [weight / mean if mean else 1.0 for weight in weights]


LabelRule = Literal["likelihood", "annotated"]
"""What says that a poor answer is to be revised: the reviser's own likelihoods, or the annotation, to which all are."""


def label_pairs(deltas: Sequence[float], levels: int, rule: LabelRule = "likelihood") -> list[Label]:
    """Label poor answers by their deltas: keep where the reviser would copy, else minor or major at the median.

    Args:
        levels: 2 (every revision is "major_revise") or 3.
        rule: with "annotated" none is kept.
    """
    if levels not in (2, 3):
        raise InputError(f"labels have 2 or 3 levels, got {levels}")
    least = 0.0 if rule == "likelihood" else -math.inf
    revised = sorted(value for value in deltas if value > least)
    middle = revised[len(revised) // 2] if revised else math.inf
    return [_label(value, least, middle, levels) for value in deltas]


def _label(value: float, least: float, middle: float, levels: int) -> Label:
    if value <= least:
        return "no_revise"
    return "minor_revise" if levels == 3 and value < middle else "major_revise"


@dataclass(frozen=True)
class Calibration:
    """A threshold on a statistic: drafts at or above it are kept.

    Attributes:
        poor, good: how many calibration drafts were of each kind.
        poor_kept, good_kept: shares of them that the threshold keeps.
        auc: probability that a good draft's statistic exceeds a poor one's (ties count half); None without both kinds.
    """

    threshold: float
    poor: int
    good: int
    poor_kept: float | None
    good_kept: float | None
    auc: float | None


def calibrate(statistics: Sequence[float], is_poor: Sequence[bool], max_poor_kept: float) -> Calibration:
    """Find the lowest threshold that keeps at most `max_poor_kept` of the poor drafts; without any, all are kept."""
    poor = sorted((value for value, bad in zip(statistics, is_poor, strict=True) if bad), reverse=True)
    good = [value for value, bad in zip(statistics, is_poor, strict=True) if not bad]
    allowed = math.floor(max_poor_kept * len(poor))
    threshold = math.nextafter(poor[allowed], math.inf) if allowed < len(poor) else -math.inf
    return Calibration(
        threshold, len(poor), len(good), _share_kept(poor, threshold), _share_kept(good, threshold), auc(good, poor)
    )


def _share_kept(values: Sequence[float], threshold: float) -> float | None:
    return sum(value >= threshold for value in values) / len(values) if values else None


def auc(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Probability that a value of `above` exceeds one of `below`, ties counting half; None if one is empty."""
    if not above or not below:
        return None
    from scipy.stats import mannwhitneyu

    # The exact method would only compute a p-value that nobody reads.
    wins = mannwhitneyu(above, below, method="asymptotic").statistic
    return float(wins) / (len(above) * len(below))


def edit_distance(first: str, second: str) -> float:
    """Words to insert, delete or replace to turn one text into the other, over the longer one's words (0-1)."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(first.split(), second.split())


def revision_summary(rows: Sequence[Mapping[str, Any]]) -> Row:
    """Sum up what a reviser did to drafts: keep rate, copy rate of the revised, edit distance of the revised.

    A reviser that only copies is the classic failure (aligner issue 7).

    Args:
        rows: `{"draft", "revision", "kept"}`.
    """
    revised = [row for row in rows if not row["kept"]]
    copies = [row for row in revised if row["draft"].split() == row["revision"].split()]
    distances = [edit_distance(row["draft"], row["revision"]) for row in revised]
    return {
        "drafts": len(rows),
        "keep_rate": (len(rows) - len(revised)) / len(rows) if rows else None,
        "copy_rate": len(copies) / len(revised) if revised else None,
        "edit_distance": sum(distances) / len(distances) if distances else None,
    }
