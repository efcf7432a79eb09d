"""Results as files: results/<suite>/<model>@<decoding>@<judge>/result.json.

The figures of every question lie beside it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import locked, read_object, sha256_json, write_atomic, write_json
from seft_bench.ownership import Holds, Kind, is_file
from seft_bench.records import Result, Row, from_row, run_from_row, run_to_row

RESULT: Holds = {r"result\.json|questions\.json": is_file}
"""The files of one result's folder."""


def _has_results(folder: Path) -> bool:
    """Tell a folder of results that older code began."""
    ours = ("*/*@*/result.json", "published/*.json", "cells/*/diagnostics.json")
    return any(path for pattern in ours for path in folder.glob(pattern))


RESULTS = Kind(
    "results",
    {
        r"leaderboard\.(md|csv|html|tex|json)|findings\.md|matrix\.json": is_file,
        r"(revisions|annotation|study)\.(md|csv)": is_file,
        r"(curves|cost|annotation|prompts)(-.+)?\.png": is_file,
    },
    _has_results,
)
"""A folder of results: the tables and pictures in it, which are written over, and one folder a result below it."""


_NAME_BYTES = 255
"""The longest name of a file."""
_SLUG_BYTES = _NAME_BYTES - len("judgments-.jsonl")


def slug(name: str) -> str:
    """A name as one path component: nothing that leaves the folder, nothing that a shell trips over."""
    kept = "".join(character if character.isalnum() or character in "._-" else "-" for character in name).strip(".-")
    return component(kept[:120], _SLUG_BYTES) or "model"


def component(name: str, most_bytes: int = _NAME_BYTES) -> str:
    """Return a name that a file system takes: a longer one is cut, with a hash of the whole behind it.

    A letter may be four bytes, so 120 letters may be too many.
    """
    if len(encoded := name.encode(errors="replace")) <= most_bytes:
        return name
    return f"{encoded[: most_bytes - 9].decode(errors='ignore')}-{sha256_json(name)[:8]}"


def result_name(result: Result) -> str:
    """Return a result's name within its suite, by its folder and in the report's links."""
    name = f"{slug(result.model)}@{slug(result.decoding)}@{slug(result.judge_id)}"
    return component(name)


def subject_folder_name(model: str, fingerprint: str, engine: str = "") -> str:
    """Return the name of the folder of a model's answers: of two engines they are never mixed."""
    return component(f"{slug(model)}-{fingerprint[:8]}" + (f"-{slug(engine)}" if engine else ""))


def result_folder(results: Path, result: Result) -> Path:
    """Return results/<suite>/<model>@<decoding>@<judge>/.

    Where another result lies there ("a/b" and "a-b"), with a hash of the real names behind it.
    """
    plain = results / slug(result.suite) / result_name(result)
    names = [result.suite, result.model, result.decoding, result.judge_id]
    hashed = plain.with_name(f"{component(plain.name, _NAME_BYTES - 9)}-{sha256_json(names)[:8]}")
    return hashed if hashed.exists() or _held_by_another(plain, names) else plain


def _held_by_another(folder: Path, names: list[str]) -> bool:
    path = folder / "result.json"
    return path.exists() and _names(read_object(path, "result")) != names


def _names(row: Mapping[str, Any]) -> list[str]:
    """Return the names that one result is told by."""
    return [str(row.get(name)) for name in ("suite", "model", "decoding", "judge_id")]


def save_result(results: Path, result: Result) -> None:
    """result.json is small and fit to be committed; the figures of every question lie beside it, in questions.json.

    Both could be computed again for nothing, and are synced all the same (1 to 2 ms a file): a rename that reaches the
    disk before the content does would leave an empty result after a power cut, which `bench` takes for a finished cell
    and no table can read.
    """
    with changing(results):
        _save(result, result_folder(results, result))


def changing(results: Path) -> AbstractContextManager[None]:
    """Let one command at a time change a folder of results: a table that is written knows all of them."""
    return locked(results / ".results.lock")


def _save(result: Result, folder: Path) -> None:
    # Its other values are JSON already, and copying them is slow.
    row = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    row["run"] = run_to_row(result.run)
    if not result.answers:
        del row["answers"]  # of a version without them, or nothing is known: a result written again keeps its bytes
    questions = {key: row.pop(key) for key in ("per_question", "parts", "covariates")}
    write_atomic(folder / "questions.json", json.dumps(questions, separators=(",", ":"), sort_keys=True) + "\n")
    write_json(folder / "result.json", row)


def replaces_other_weights(results: Path, result: Result) -> bool:
    """Return whether a result of this name lies there that is of other weights than this one's."""
    path = result_folder(results, result) / "result.json"
    if not path.exists():
        return False
    manifests = (read_object(path, "result").get("manifest"), result.manifest)
    before, now = (((manifest or {}).get("parents") or {}).get("model") for manifest in manifests)
    return None not in (before, now) and before != now


def read_results(folder: Path) -> list[Result]:
    """Read all results below a folder, in the order of their paths.

    Without questions.json a result has no intervals over seeds.
    """
    return [read_result(path) for path in sorted(folder.glob("*/*/result.json"))]


def read_result(path: Path) -> Result:
    """The result of one result.json, with the figures of every question where they lie beside it."""
    row, questions = read_object(path, "result"), path.with_name("questions.json")
    if questions.exists():
        row |= read_object(questions, "figures of every question")
    try:
        return from_row(Result, row | _checked_figures(row) | {"run": run_from_row(row.get("run"))})
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no result of ours: {error}. Take its folder away, or make the result anew (`seft-bench eval`)."
        ) from None


_LEVELS = {"per_question": 1, "parts": 2, "covariates": 2}
_LEVELS_OF_METRICS = {"by_category": 1, "categories": 2}
"""Names -> how many objects stand around a figure; a metric of another name is a figure itself."""


def _checked_figures(row: Row) -> Row:
    """Return the figures of a result as they may be shown and ranked: NaN and infinity are none.

    Raises:
        ValueError: something else than numbers stands among them.
    """
    metrics = row.get("metrics")
    if not isinstance(metrics, dict):
        raise ValueError("it has no metrics")
    checked = {name: _figures(value, _LEVELS_OF_METRICS.get(name, 0)) for name, value in metrics.items()}
    others = {name: _given(_figures(row[name], levels) or {}) for name, levels in _LEVELS.items() if name in row}
    return {"metrics": checked, **others}


def _given(figures: Row) -> Row:
    """Leave out the questions without a figure."""
    kept = {key: _given(value) if isinstance(value, dict) else value for key, value in figures.items()}
    return {key: value for key, value in kept.items() if value is not None}


def _figures(value: Any, levels: int) -> Any:
    if value is None:
        return None  # nothing was scored
    if levels and isinstance(value, dict):
        return {key: _figures(below, levels - 1) for key, below in value.items()}
    if not levels and isinstance(value, int | float) and not isinstance(value, bool):
        return value if math.isfinite(value) else None
    raise ValueError(f"{str(value)[:40]!r} stands where a figure belongs")


def noted(results: Sequence[Result]) -> list[str]:
    """The results' notes for people: each once, with the models it is about where it is not about all of them."""
    models: dict[str, list[str]] = {}
    for result in results:
        for text in result.notes:
            models.setdefault(text, []).append(f"{result.model} ({result.suite}, {result.decoding})")
    return [
        text if len(about) == len(results) else f"{', '.join(dict.fromkeys(about))}: {text}"
        for text, about in models.items()
    ]
