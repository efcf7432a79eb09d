"""The effect of revising on the drafts, by the grades of a judge: gain, and harm to drafts that were good.

For reading only: no stage learns from these grades.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from seft_bench.files import write_jsonl
from seft_bench.records import Judgment, Row
from seft_bench.stages.graders import Sampled, grade_requests

GOOD_GRADE = 9.0
"""A draft with at least this grade is good: revising it can only do harm."""

PARTS = ("content", "format", "style", "concision")


Auc = Callable[[Sequence[float], Sequence[float]], float | None]
"""Probability that a value of the first exceeds one of the second."""


def grade_revisions(rows: Sequence[Mapping[str, Any]], judge_name: str, folder: Path, auc: Auc) -> Row:
    """Grade every draft and what became of it, save both, and sum up.

    Args:
        rows: `{"prompt", "draft", "answer", "kept", "statistic", "annotated"}`; "annotated" may be absent.
    """
    drafts = judged_answers([(row["prompt"], row["draft"]) for row in rows], judge_name)
    answers = judged_answers([(row["prompt"], row["answer"]) for row in rows], judge_name)
    graded = [
        {
            "annotated": row.get("annotated"),
            "kept": row["kept"],
            "statistic": row["statistic"],
            "before": before.score,
            "after": after.score,
        }
        for row, before, after in zip(rows, drafts, answers, strict=True)
        if before.score is not None and after.score is not None
    ]
    write_jsonl(folder / "revision_grades.jsonl", graded)
    groups: dict[str, Callable[[Row], bool]] = {
        "all": lambda row: True,
        "annotated": lambda row: row["annotated"] is True,
        "unannotated": lambda row: row["annotated"] is False,
    }
    summary: Row = {
        name: gain_and_harm([row for row in graded if belongs(row)], auc) for name, belongs in groups.items()
    }
    return {
        "graded": len(graded),
        "judge": judge_name,
        "good_grade": GOOD_GRADE,
        "grades": summary,
        "parts": _part_gains(drafts, answers),
    }


def judged_answers(pairs: Sequence[Sampled], judge_name: str) -> list[Judgment]:
    """One judgment a pair, in order. The judge sees the conversation and the answer, nothing else."""
    from seft_bench.config import load_judge
    from seft_bench.judges import open_judge

    requests = grade_requests(pairs)
    found: dict[str, Judgment] = {}
    open_judge(load_judge(judge_name), None).judge(
        requests, "", lambda judgment: found.update({judgment.question_id: judgment})
    )
    return [found[request.question.id] for request in requests]


def gain_and_harm(rows: Sequence[Mapping[str, Any]], auc: Auc) -> Row:
    """Mean gain over all drafts; over good drafts the share that got worse and their mean loss, each with its count.

    `decision_auc` is the probability that a good draft's statistic exceeds another's; None where no statistic decided.
    """
    good = [row for row in rows if row["before"] >= GOOD_GRADE]
    losses = [max(0.0, row["before"] - row["after"]) for row in good]
    return {
        "drafts": len(rows),
        "before": _mean([row["before"] for row in rows]),
        "after": _mean([row["after"] for row in rows]),
        "gain": _mean([row["after"] - row["before"] for row in rows]),
        "good_drafts": len(good),
        "harmed_share": _mean([float(loss > 0) for loss in losses]),
        "harm": _mean(losses),
        "kept_good_share": _mean([float(row["kept"]) for row in good]),
        "decision_auc": _decision_auc(rows, auc),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 4) if values else None


def _decision_auc(rows: Sequence[Mapping[str, Any]], auc: Auc) -> float | None:
    decided = [row for row in rows if row["statistic"] is not None]
    value = auc(
        [row["statistic"] for row in decided if row["before"] >= GOOD_GRADE],
        [row["statistic"] for row in decided if row["before"] < GOOD_GRADE],
    )
    return None if value is None else round(value, 4)


def _part_gains(before: Sequence[Judgment], after: Sequence[Judgment]) -> Row:
    """Mean gain of each part that the judge reports."""
    both = [
        (old.details, new.details) for old, new in zip(before, after, strict=True) if old.status == new.status == "ok"
    ]
    return {
        part: _mean([new[part] - old[part] for old, new in both])
        for part in PARTS
        if both and all(part in old and part in new for old, new in both)
    }


def describe(diagnostics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Describe a run's diagnostics for people, a line a stage.

    Args:
        diagnostics: stage -> what it said of itself, as in a run's diagnostics.json.
    """
    lines = []
    for stage, said in diagnostics.items():
        if "label_counts" in said:
            lines.append(f"{stage}: " + ", ".join(f"{count} {label}" for label, count in said["label_counts"].items()))
        if "calibration" in said:
            lines.append(
                f"{stage}: keeps {_percent(said['calibration']['poor_kept'])} of the poor and "
                f"{_percent(said['calibration']['good_kept'])} of the good drafts"
            )
        if "diagnostics" in said:
            lines.append(f"{stage}: {_revision_line(said['diagnostics'])}")
        if "graded_by" in said:
            lines.append(f"{stage}: {_grading_line(said)}")
        if "validation" in said:
            lines.append(f"{stage}: {_validation_line(said)}")
    return lines


def _grading_line(said: Mapping[str, Any]) -> str:
    without = "".join(f", {count} without a grade ({why})" for why, count in said["ungraded_by_status"].items())
    alike = said["prompts_graded_alike"]
    equal = f"; {alike} prompts whose samples are all graded alike, which make no pair" if alike else ""
    return f"{said['samples_graded']} samples graded by {said['graded_by']}{without}{equal}"


def _validation_line(said: Mapping[str, Any]) -> str:
    best, last = said["validation"]["best"], said["validation"]["last"]
    line = f"held-out loss {last['loss']:.4g} over {said['validation']['examples']} examples"
    if best["step"] != last["step"]:
        line += f", best {best['loss']:.4g} at step {best['step']}"
    if "held_out_accuracy" in said:
        line += f", {_accuracy(said['held_out_accuracy'])}"
    elif "reward_accuracy" in last:
        line += f", reward accuracy {_percent(last['reward_accuracy'])}"
    return line + (f"; stopped early at step {said['stopped_early_at']}" if "stopped_early_at" in said else "")


def _accuracy(found: Mapping[str, Any]) -> str:
    """Say how often a reward model was right, of how many pairs, and how sure that is."""
    interval = f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    return (
        f"held-out accuracy {100 * found['share']:.1f} % {interval} of {found['pairs']} pairs "
        f"({found['questions']} questions) at step {found['step']}"
    )


def _revision_line(said: Mapping[str, Any]) -> str:
    line = (
        f"{said['drafts']} drafts, {_percent(said['keep_rate'])} kept, {_percent(said['copy_rate'])} of the revised "
        "are copies"
    )
    line += f", edit distance {_figure(said['edit_distance'])}"
    if "grades" not in said:
        return line
    parts = [f"{name} {_figure(grades['gain'], '+')}" for name, grades in said["grades"].items() if grades["drafts"]]
    everything = said["grades"]["all"]
    harm = f"{_percent(everything['harmed_share'])} of {everything['good_drafts']} good drafts harmed"
    return f"{line}; gain by {said['judge']}: {', '.join(parts)}; {harm}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _figure(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"
