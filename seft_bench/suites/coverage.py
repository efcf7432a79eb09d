"""Common parts of scoring: the judgment of each expected key, coverage, and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seft_bench.records import (
    FASTCHAT_SCORE,
    LOWEST_GRADE,
    MINIMUM_COVERAGE,
    Answer,
    Judgment,
    Result,
    is_grade,
    on_the_scale,
)
from seft_bench.suites.answered import NAMED, Answered

RUBRIC_PARTS = ("content", "format", "style", "concision")
SETTLED = "settled-by-protocol"
"""`judge_id` of a judgment that the protocol fixes without a judge."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One judgment that a suite expects: its key, and the hash of the texts to judge ("" where they are not known)."""

    key: str
    answer_hash: str


@dataclass(frozen=True, slots=True)
class Scored:
    """The judgments that count.

    Attributes:
        by_key: expected key -> its last judgment with status ok.
        valid_rows: every judgment with status ok of an expected key, repeated ones included, in the order given.
        statuses: how many expected keys ended ok, with which failure, or "missing".
        notes: what a reader must know about the rows.
        status_by_key: expected key -> "ok", its last failure, or "missing".
        rows: every judgment of an expected key and of these texts, failed ones too, in the order given.
    """

    by_key: Mapping[str, Judgment]
    valid_rows: Sequence[Judgment]
    statuses: Mapping[str, int]
    notes: tuple[str, ...]
    status_by_key: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Judgment] = ()


def match(expected: Sequence[Expected], judgments: Iterable[Judgment]) -> Scored:
    """Give every expected key its last valid judgment; judgments of other texts than the answers' do not count."""
    hashes = {item.key: item.answer_hash for item in expected}
    known = [on_the_scale(judgment) for judgment in judgments if judgment.key in hashes]
    rows = [judgment for judgment in known if not _is_stale(judgment, hashes[judgment.key])]
    valid_rows = [row for row in rows if row.status == "ok"]
    by_key = {row.key: row for row in valid_rows}
    last_status = {row.key: row.status for row in rows} | dict.fromkeys(by_key, "ok")
    status_by_key = {key: str(last_status.get(key, "missing")) for key in hashes}
    notes = _notes(
        stale=len(known) - len(rows),
        repeated=len(valid_rows) - len(by_key),
        judges={row.judge_id for row in by_key.values()},
    )
    notes = (*notes, *_beyond_the_scale(rows), *judge_notes(by_key.values()))
    return Scored(by_key, valid_rows, dict(Counter(status_by_key.values())), notes, status_by_key, rows)


def _is_stale(judgment: Judgment, answer_hash: str) -> bool:
    """Return whether the judge saw another text: both hashes are known and differ. Official files carry no hash."""
    return bool(judgment.answer_hash and answer_hash and judgment.answer_hash != answer_hash)


def _notes(stale: int, repeated: int, judges: set[str]) -> tuple[str, ...]:
    notes = []
    if stale:
        notes.append(f"{stale} judgments are of other texts than these answers (or this baseline) and do not count.")
    if repeated:
        notes.append(f"{repeated} rows judge a key again; the last valid row of each key counts.")
    asked = sorted(judges - {SETTLED})
    if len(asked) > 1:
        notes.append(
            f"judgments of {len(asked)} judges are mixed: {', '.join(asked)}; figures of different judges are not "
            "comparable."
        )
    return tuple(notes)


def _beyond_the_scale(rows: Iterable[Judgment]) -> list[str]:
    """Name the grades that were read and are none: 85 where 1 to 10 was asked for."""
    kept = [row.score for row in rows if row.score is not None and not is_grade(row.score)]
    lost = [row.details[FASTCHAT_SCORE] for row in rows if not is_grade(row.details.get(FASTCHAT_SCORE, LOWEST_GRADE))]
    notes = []
    if lost:
        notes.append(
            f"{len(lost)} replies of the judge grade beyond the scale of 1 to 10 ({_values(lost)}): they are no "
            "grades; score_fastchat counts them, as FastChat does."
        )
    if kept:
        notes.append(f"{len(kept)} recorded grades lie below 1 ({_values(kept)}); they count as they were recorded.")
    return notes


def _values(numbers: Iterable[float]) -> str:
    return ", ".join(list(dict.fromkeys(f"{number:g}" for number in numbers))[:NAMED])


_ESTIMATES = {
    "choice": "the log-probabilities of m and M where the judge may write nothing else",
    "samples": "the share of several samples that the model wins",
    "token": "the one verdict that the judge writes",
}


def judge_notes(judgments: Iterable[Judgment]) -> list[str]:
    """Describe the judge of the counted judgments: the source of preferences, the models and weights that replied."""
    rows = [judgment for judgment in judgments if judgment.judge_id != SETTLED]
    sources = [source for source in _ESTIMATES if any(row.details.get("preference_from") == source for row in rows)]
    notes = [
        f"preferences come from {_ESTIMATES[source]} (preference_from: {source}): such win rates are not comparable "
        "with official ones."
        for source in sources
    ]
    pairs = {(row.requested_model, row.returned_model) for row in rows if row.requested_model and row.returned_model}
    notes += [
        f"asked for model {requested}, the server returned {returned}"
        for requested, returned in sorted(pairs)
        if requested != returned
    ]
    weights = [str(row.details.get("weights_fingerprint") or "") for row in rows]
    notes += _several("models", Counter(row.returned_model for row in rows if row.returned_model))
    return notes + _several("sets of weights", Counter(name for name in weights if name))


def _several(what: str, counts: Counter[str]) -> list[str]:
    if len(counts) < 2:
        return []
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return [
        f"WARNING: {len(counts)} {what} replied as this one judge: {listed}; the figure mixes them. Judge all again "
        "(another `epoch`) for one judge."
    ]


def result(
    suite: str,
    model: str,
    n: int,
    scored: Scored,
    answers: Mapping[str, Answer],
    metrics: Mapping[str, Any],
    *,
    answered: Answered,
    notes: Sequence[str] = (),
    **rest: Any,
) -> Result:
    """Return the record, with coverage and the mark "withheld" under 98 % of the judgments or of the answers.

    Args:
        answers: those that were judged.
        answered: what became of all that were to be given.
    """
    n_scored = len(scored.by_key)
    coverage = n_scored / n if n else 0.0
    return Result(
        suite=suite,
        model=model,
        metrics=dict(metrics),
        n=n,
        n_scored=n_scored,
        n_unscored=n - n_scored,
        coverage=coverage,
        withheld=min(coverage, answered.coverage) < MINIMUM_COVERAGE,
        judge_id=" + ".join(sorted({row.judge_id for row in scored.by_key.values()} - {SETTLED})),
        decoding=" + ".join(sorted({answer.decoding for answer in answers.values()})) or "given",
        statuses=scored.statuses,
        answers=answered.figures,
        notes=(*notes, *answered.notes),
        parts=rubric_parts(scored.by_key.values()),
        **rest,
    )


def by_judge(rows: Iterable[Judgment]) -> dict[str, list[Judgment]]:
    """Judge id -> rows; rows that the protocol settled belong to every judge, and stand alone where there is none."""
    everything = list(rows)
    judges = [judge for judge in dict.fromkeys(row.judge_id for row in everything) if judge != SETTLED] or [
        SETTLED
    ] * bool(everything)
    return {judge: [row for row in everything if row.judge_id in (judge, SETTLED)] for judge in judges}


def judged_turns(scored: Scored) -> set[tuple[str, int]]:
    """Return (question id, turn) of the judgments that count."""
    return {(row.question_id, row.turn) for row in scored.valid_rows}


def coverage_note(n: int, scored: Scored) -> tuple[str, ...]:
    """Return nothing if all is scored; else how many judgments are missing, and why."""
    missing = n - len(scored.by_key)
    if not missing:
        return ()
    reasons = ", ".join(f"{count} {status}" for status, count in sorted(scored.statuses.items()) if status != "ok")
    return (f"{missing} of {n} judgments are unscored ({reasons}) and left out of every mean.",)


def rubric_means(judgments: Iterable[Judgment]) -> dict[str, float]:
    """Return means of the rubric's parts over the judgments, if every scored judgment carries them."""
    rows = list(judgments)
    return {part: _mean([float(row.details[part]) for row in rows]) for part in _complete_parts(rows)}


def rubric_parts(judgments: Iterable[Judgment]) -> dict[str, dict[str, float]]:
    """Map part -> question id -> its mean over the question's judgments, if every scored judgment carries it."""
    rows = list(judgments)
    parts = _complete_parts(rows)
    if not parts:
        return {}
    by_question: dict[str, list[Judgment]] = {}
    for row in rows:
        by_question.setdefault(row.question_id, []).append(row)
    return {
        part: {question: _mean([float(row.details[part]) for row in group]) for question, group in by_question.items()}
        for part in parts
    }


def _complete_parts(rows: Sequence[Judgment]) -> list[str]:
    if not rows:
        return []
    return [part for part in RUBRIC_PARTS if all(isinstance(row.details.get(part), (int, float)) for row in rows)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
