"""A policy as the judge of samples: asked in words, with the prompt and the scale of every judge here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from seft_bench.files import append_rows, read_log
from seft_bench.judges.parse import read_grade
from seft_bench.judges.prompts import render, template_versions
from seft_bench.records import Message, Row
from seft_bench.stages.common import Workshop
from seft_bench.stages.graders import Graded, Sampled, grade_requests

if TYPE_CHECKING:
    from seft_bench.generators.conversations import Completion
    from seft_bench.stages.door import stages

SAMPLES_AT_ONCE = 1024
"""Samples between two saves. A fixed cut, so that a resumed stage forms the same batches."""


def graded_in_words(
    stage: stages.Grade, asking: stages.Asking, model: Path, sampled: Sequence[Sampled], log: Path, shop: Workshop
) -> Graded:
    """Ask the model for each sample's grade, several times, and average those that it gives.

    A killed stage goes on behind the last save.

    Args:
        log: of the replies.
    """
    prompts = [render(request, "seft-bench").messages for request in grade_requests(sampled)]
    replies = _all_replies(stage, asking, model, prompts, log, shop)
    grades, without = [], Counter[str]()
    for row in replies:
        found = [grade for text in row["texts"] if (grade := read_grade(text, strict=True)) is not None]
        grades.append(fmean(found) if found else None)
        without.update([] if found else [row["status"]])
    by = f"{stage.model}, asked with {', '.join(template_versions('seft-bench'))}, {asking.draws} draws"
    facts = {"tokens_generated": sum(row["tokens"] for row in replies), "judge_calls": len(replies) * asking.draws}
    return Graded(by, grades, without, facts, _ADVICE)


_ADVICE = (
    "Only a model that follows a judge's prompt can grade in words: it writes `Rating: [[7]]`, and what this one wrote "
    "is in its stage's folder. `judge: likelihood` grades by the policy's own mean log-probability instead"
)


def _all_replies(
    stage: stages.Grade,
    asking: stages.Asking,
    model: Path,
    prompts: Sequence[Sequence[Message]],
    log: Path,
    shop: Workshop,
) -> list[Row]:
    replies = read_log(log)
    if len(replies) == len(prompts):
        return replies
    generator = shop.engine.generator(model, asking.settings.batch_size)
    while len(replies) < len(prompts):
        from seft_bench.generators.conversations import Sampling

        first, settings = len(replies), asking.settings
        asked = prompts[first : first + SAMPLES_AT_ONCE]
        keys = [(at, draw) for at in range(len(asked)) for draw in range(asking.draws)]
        samplings = [
            Sampling(f"{stage.name}/{first + at}/{draw}", settings.temperature, settings.top_p) for at, draw in keys
        ]
        completions = generator.complete([asked[at] for at, _ in keys], samplings, settings.max_new_tokens, shop.seed)
        fresh = [_reply(completions[at * asking.draws : (at + 1) * asking.draws]) for at in range(len(asked))]
        append_rows(log, fresh)
        replies += fresh
        shop.progress(stage.name, len(replies), len(prompts))
    return replies


def _reply(drawn: Sequence[Completion]) -> Row:
    over = all(completion.finish_reason == "over_length" for completion in drawn)
    return {
        "texts": [completion.text for completion in drawn],
        "tokens": sum(completion.completion_tokens for completion in drawn),
        "status": "over_length" if over else "parse_error",
    }
