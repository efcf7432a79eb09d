"""How often a reward model orders the held-out pairs as their annotators did."""

from __future__ import annotations

from pathlib import Path

from seft_bench.files import read_jsonl, read_log
from seft_bench.records import Row
from seft_bench.stages import door


def held_out_accuracy(folder: Path, examples: int, checkpoint: str) -> Row:
    """Read what a training measured at its last checkpoint, and add an interval.

    Pairs of one question are not independent of each other, so the interval is that of so many questions; a pair whose
    two rewards are equal counts as half right.

    Args:
        folder: of the training.
        examples: pairs that were held out.
        checkpoint: name of the last one, whose step was measured.
    """
    from seft_bench.stats.intervals import share_interval

    step = int(checkpoint.rpartition("-")[2])
    measured = next(row for row in read_log(folder / door.watch.VALIDATION_LOG) if row["step"] == step)
    places = {door.validation.place_of(row) for row in read_jsonl(folder / door.validation.HELD_OUT, "held-out pairs")}
    questions = min(len(places), examples)
    found = share_interval(measured["reward_accuracy"], questions)
    interval = {"low": found.low, "high": found.high, "how": found.how}
    return {"share": found.mean, **interval, "pairs": examples, "questions": questions, "step": step}
