"""Verdicts on disk: those that still stand, and those that are asked for again.

The id of a judge behind a local server without a key does not hold its weights: under one name the server may serve
others tomorrow. Each of its verdicts holds a fingerprint of the weights that gave it (`inference/weights.py`), and the
verdicts behind one figure shall be of one set of weights. The weights that count are those measured now, which happens
only when the judge is asked for something; else those of the last verdict. A verdict without a fingerprint stands: its
judge's id says all (weights in this process, a provider), or no judge was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from seft_bench.judges.base import Judge
from seft_bench.records import is_grade

Key = tuple[str, str]
"""(key of the request, hash of the judged texts)."""


def standing(rows: Iterable[Mapping[str, Any]], judge: Judge | None = None) -> set[Key]:
    """Return the keys whose last good verdict stands.

    Args:
        rows: one judge's judgments, oldest first.
        judge: whose `weights_fingerprint`, if it has measured one, counts.
    """
    given = _given_by(rows)
    measured = judge.weights_fingerprint if judge else ""
    current = measured or next((weights for weights in reversed(given.values()) if weights), "")
    return {key for key, weights in given.items() if weights in ("", current)}


def by_other_weights(rows: Iterable[Mapping[str, Any]], judge: Judge) -> int:
    """Count good verdicts that were given by other weights than the judge has measured by now."""
    current = judge.weights_fingerprint
    return sum(weights not in ("", current) for weights in _given_by(rows).values()) if current else 0


def weights_behind(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return fingerprints of the weights that gave the verdicts at hand; none for a judge whose id says all."""
    return sorted({weights for weights in _given_by(rows).values() if weights})


def _given_by(rows: Iterable[Mapping[str, Any]]) -> dict[Key, str]:
    """Map key -> fingerprint of the weights that gave its last good verdict, in the order of these verdicts."""
    given: dict[Key, str] = {}
    for row in rows:
        if row["status"] == "ok" and (not row.get("prompt_hash") or row.get("score") is None or is_grade(row["score"])):
            key = (row["key"], row["answer_hash"])
            given.pop(key, None)  # to the end: the order is that of the last verdicts
            given[key] = str((row.get("details") or {}).get("weights_fingerprint") or "")
    return given
