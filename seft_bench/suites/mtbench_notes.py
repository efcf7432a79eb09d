"""Notes for the reader of an MT-Bench figure: references, parsing, leaked chat markers, replies that were cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from seft_bench.chat.markup import COMMON_MARKERS
from seft_bench.config import SuiteConfig
from seft_bench.data import official
from seft_bench.data.questions import mtbench_files
from seft_bench.judges.parse import read_grade, read_verdict
from seft_bench.records import Answer, Judgment
from seft_bench.suites import custom


def notes(config: SuiteConfig, answers: Mapping[str, Answer], judgments: Sequence[Judgment]) -> list[str]:
    """Return every note but those on the means themselves."""
    own_files = [custom.files_note(config)] if config.source == "files" else []
    return [
        *own_files,
        *_references(config, judgments),
        *leaked_markers(answers.values()),
        *_cut_replies(judgments),
        *official.data_warnings(mtbench_files(config)),
    ]


def _references(config: SuiteConfig, judgments: Sequence[Judgment]) -> list[str]:
    if config.references == "official":
        return []
    note = (
        "references: corrected (FastChat's pull request 3158; 13 of the official reference answers are wrong), so the "
        "score is not the official one."
    )
    if any(not row.prompt_hash for row in judgments):
        note += " These judgments do not say which references their judge was shown."
    return [note]


def leaked_markers(answers: Iterable[Answer]) -> list[str]:
    """Warn if answers hold markers of chat templates: a wrong template costs up to one point."""
    found: dict[str, int] = {}
    hit = 0
    for answer in answers:
        markers = [marker for marker in COMMON_MARKERS if any(marker in text for text in answer.turns)]
        hit += bool(markers)
        for marker in markers:
            found[marker] = found.get(marker, 0) + 1
    if not hit:
        return []
    shown = ", ".join(f"{marker} in {count}" for marker, count in sorted(found.items(), key=lambda item: -item[1]))
    return [
        f"{hit} answers hold markers of a chat template ({shown}): was the model sampled with another template than "
        "its own?"
    ]


def _cut_replies(judgments: Sequence[Judgment]) -> list[str]:
    cut = sum(row.status == "parse_error" and row.details.get("finish_reason") == "length" for row in judgments)
    if not cut:
        return []
    return [f"{cut} replies of the judge were cut at its max_tokens before a verdict; raise `max_tokens` in its YAML."]


# Stricter parsing


def parsed(config: SuiteConfig, judgments: Sequence[Judgment]) -> Sequence[Judgment]:
    """Return the judgments as the suite's `parsing` reads them."""
    return judgments if config.parsing == "official" else reread(judgments)


def reread(judgments: Iterable[Judgment]) -> list[Judgment]:
    """Read the judgments' replies again by the strict rule: the last `[[x]]` in 1-10, the last of `[[A]]` to `[[C]]`.

    A reply that says nothing by that rule is a parse_error. What never was a reply (api_error, refused, over_length)
    stays.
    """
    return [_reread(row) if row.status in ("ok", "parse_error") else row for row in judgments]


def _reread(row: Judgment) -> Judgment:
    if row.order == "single":
        score = read_grade(row.raw, strict=True)
        return dataclasses.replace(row, score=score, status="parse_error" if score is None else "ok")
    preference = read_verdict(row.raw, row.order == "candidate_first", strict=True)
    return dataclasses.replace(row, preference=preference, status="parse_error" if preference is None else "ok")


def strict_note(
    official: Mapping[str, Judgment],
    strict: Mapping[str, Judgment],
    name: str,
    before: float | None,
    after: float | None,
) -> str:
    """Say how many verdicts the strict rule changed, and by how much the figure moved.

    Args:
        official, strict: key -> the judgment that counts under each rule.
        before, after: the figure `name` under each.
    """
    changed = sum(key in strict and _value(strict[key]) != _value(row) for key, row in official.items())
    lost, gained = len(official.keys() - strict.keys()), len(strict.keys() - official.keys())
    moved = f"no {name} to compare"
    if before is not None and after is not None:
        moved = f"{name} {after:.4g} instead of {before:.4g} ({after - before:+.3f})"
    also = f", {gained} are read that it does not read" if gained else ""
    return (
        f"parsing: strict (the last [[...]] counts): {changed} verdicts differ from the official rule's, {lost} are "
        f"unparsed that it reads{also}; {moved}."
    )


def _value(row: Judgment) -> float | None:
    return row.preference if row.score is None else row.score
