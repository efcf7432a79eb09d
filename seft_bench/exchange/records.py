"""The records that are exchanged, and what both formats share.

Which rows stand, safe names of files, and what a row says beyond its verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seft_bench.records import STATUSES, Answer, JudgeRequest, Judgment, Result, Status, text_hash
from seft_bench.results import component, slug
from seft_bench.suites import Suite

OFFICIAL = "official"
"""Key of `Judgment.details` under which an imported row's own fields are kept as they stood, to be exported again."""
OURS = "seft_bench"
"""Column of exported rows for what the official formats have no field for: our status, and the parts of a verdict."""


@dataclass(frozen=True)
class Recorded:
    """One model on one suite.

    Attributes:
        answers: question id -> answer; may be empty, FastChat's judgments do not need them.
        judgments: judge id -> its rows, in the order of the file; what the protocol settles is among every judge's.
        source: where they come from, for messages.
        notes: what of the files did not fit the suite's questions.
    """

    model: str
    answers: Mapping[str, Answer]
    judgments: Mapping[str, Sequence[Judgment]]
    source: str
    notes: Sequence[str] = ()


@dataclass
class Export:
    """Files to write, by their path below the folder; notes for the user; results too incomplete to stand in a table.

    Attributes:
        opponents: models in the files that the exported ones are compared with.
    """

    files: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    withheld: list[Result] = field(default_factory=list)
    opponents: set[str] = field(default_factory=set)


def requests_of(suite: Suite, answers: Mapping[str, Answer]) -> dict[str, JudgeRequest]:
    """Return key -> request for the answers at hand.

    Empty where the baseline's answers are not on this machine: verdicts can be exchanged without.
    """
    if not answers or not suite.has_baseline:
        return {}
    return {request.key: request for request in suite.requests(suite.questions(), answers)}


def standing(rows: Iterable[Judgment], hashes: Mapping[str, str]) -> dict[str, list[Judgment]]:
    """Return key -> all its valid rows in order, else its last failed one.

    Unknown keys and judgments of other texts are left out.

    Args:
        hashes: key -> hash of the texts as they are now, "" where they are not known.
    """
    valid: dict[str, list[Judgment]] = {}
    failed: dict[str, list[Judgment]] = {}
    for row in rows:
        if row.key in hashes and (not row.answer_hash or not hashes[row.key] or row.answer_hash == hashes[row.key]):
            if row.status == "ok":
                valid.setdefault(row.key, []).append(row)
            else:
                failed[row.key] = [row]
    return {key: valid.get(key) or failed[key] for key in hashes if key in valid or key in failed}


def left_out(rows: Sequence[Judgment], kept: Mapping[str, Sequence[Judgment]], what: str) -> list[str]:
    """A note where judged rows do not enter the file: other texts, other questions."""
    keys = {row.key for row in rows}
    lost = len(keys - kept.keys())
    return (
        [f"{what}: {lost} of {len(keys)} judgments are of other texts or questions than these, and are left out"]
        if lost
        else []
    )


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Name -> one path component that stays in its folder; names that would meet in one file get a hash of their own.

    >>> safe_names(["org/model", "../x"])
    {'org/model': 'org-model', '../x': 'x'}
    """
    every = list(dict.fromkeys(names))
    plain = {name: slug(name) for name in every}
    taken = [made.casefold() for made in plain.values()]
    return {
        name: made if taken.count(made.casefold()) == 1 else f"{component(made, 230)}-{text_hash(name)[:8]}"
        for name, made in plain.items()
    }


def name_notes(names: Mapping[str, str]) -> list[str]:
    """List the names that stand in the files' names in another form."""
    return [
        f"{name} is called {safe} in names of files; inside them its name is as it was"
        for name, safe in names.items()
        if name != safe
    ]


def our_column(row: Judgment, derived: Status) -> dict[str, Any]:
    """The extra column, only where the official fields do not say it already.

    Args:
        derived: the status that a reader of the official fields alone concludes.
    """
    parts = {key: value for key, value in row.details.items() if key != OFFICIAL}
    said: dict[str, Any] = {} if row.status == derived else {"status": row.status}
    said |= {"details": parts} if parts else {}
    return {OURS: said} if said else {}


def read_our_column(row: Mapping[str, Any], derived: Status) -> tuple[Status, dict[str, Any]]:
    """(status, details) of a row.

    A status that contradicts the row's verdict is not believed: files come from anywhere.
    """
    said = row.get(OURS)
    if not isinstance(said, dict):
        return derived, {}
    status = said.get("status", derived)
    details = said.get("details")
    believed = status in STATUSES and (status == "ok") == (derived == "ok")
    return (status if believed else derived), (dict(details) if isinstance(details, dict) else {})


def own_fields(row: Mapping[str, Any], ours: Sequence[str]) -> dict[str, Any]:
    """An official row's fields that no record of ours holds; what JSON cannot hold (NaN) becomes null."""
    kept: dict[str, Any] = _finite({key: value for key, value in row.items() if key not in ours})
    return kept


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unscored_note(rows: Iterable[Judgment], what: str, marked: str) -> list[str]:
    """Count the judgments that are exported as failures."""
    count = sum(row.status != "ok" for row in rows)
    return [f"{what}: {count} judgments are unscored, marked {marked}"] if count else []


def json_row(row: Mapping[str, Any]) -> str:
    """One line of FastChat's files; ASCII only, as the tool opens them in the locale's encoding."""
    return json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n"


def json_array(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a file as alpaca_eval writes it: no space after colons, slashes escaped.

    That is pandas' `to_json(orient="records", indent=2)`.
    """
    return json.dumps(rows, indent=2, separators=(",", ":"), ensure_ascii=True, allow_nan=False).replace("/", "\\/")
