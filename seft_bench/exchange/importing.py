"""`seft-bench import`: official tools' files become answers.jsonl, judgments and result.json, as evaluations here do.

Imported rows stand in the leaderboard with the decoding "imported" and the judge's id as it was recorded. A leaderboard
CSV has no answers and no verdicts: its figures go to results/published/, labelled, and are never ranked with measured
ones.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seft_bench.answers import statuses_of
from seft_bench.errors import InputError
from seft_bench.exchange.exporting import check_format
from seft_bench.exchange.records import Recorded, requests_of, safe_names
from seft_bench.exchange.sources import grouped, read_whole_judgments
from seft_bench.files import read_text, sha256_file, sha256_json, write_json, write_jsonl
from seft_bench.formats.reading import FileAnswer, Format, format_of, read_file_answers, read_instructions, read_rows
from seft_bench.manifest import build_manifest, now
from seft_bench.records import Judgment, Result, to_row
from seft_bench.results import RESULTS, save_result, slug, subject_folder_name
from seft_bench.suites import Suite
from seft_bench.suites.custom import folder_name

DECODING = "imported"
PUBLISHED = "published"
_LABEL = (
    "published figures, taken over from a leaderboard file; not measured here, and not comparable with figures of "
    "other judges"
)
_ANSWERS: dict[str, Format] = {
    "alpaca_eval": "alpaca_eval outputs",
    "fastchat": "FastChat answers",
    "fastchat-pairs": "FastChat answers",
}
_JUDGMENTS: dict[str, Format] = {
    "alpaca_eval": "alpaca_eval annotations",
    "fastchat": "FastChat judgments",
    "fastchat-pairs": "FastChat pairs",
}
_PLACES = {
    "alpaca_eval": ("model_outputs.json", "annotations.json"),
    "fastchat": ("model_answer/*.jsonl", "model_judgment/*_single.jsonl"),
    "fastchat-pairs": ("model_answer/*.jsonl", "model_judgment/*_pair.jsonl"),
}
"""Format -> where answers and judgments lie below a folder, at any depth."""
_BESIDE = {
    "alpaca_eval": ("*leaderboard.csv", "a table is imported where it is named itself"),
    "fastchat": (_PLACES["fastchat-pairs"][1], "comparisons have no grades; import them with --format fastchat-pairs"),
    "fastchat-pairs": (_PLACES["fastchat"][1], "grades are no comparisons; import them with --format fastchat"),
}
"""Format -> files that are left out and named, and why."""


@dataclass
class Sources:
    """Files that an import reads, in the order given; tables are leaderboard CSVs that were named themselves."""

    answers: list[Path] = field(default_factory=list)
    judgments: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Import:
    """Outcome of an import: results in the leaderboard, files written, notes for the user."""

    results: list[Result] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def import_files(format_name: str, suite: Suite, paths: Sequence[Path], runs: Path, results: Path) -> Import:
    """Read everything first, then write; the same files again change nothing.

    Raises:
        InputError: nothing to import, a broken file, or none of the suite's questions.
    """
    check_format(format_name, suite)
    RESULTS.check(results, "--results")
    sources = find(format_name, paths)
    tables = [(path, _published(path, suite)) for path in sources.tables]
    recorded = _recorded(format_name, suite, sources)
    done = Import(notes=sources.notes)
    for item in recorded:
        _store(item, suite, _hashes(sources), runs, results, done)
    for path, table in tables:
        target = results / PUBLISHED / f"{slug(path.stem)}.json"
        write_json(target, table)
        done.written.append(target)
    return done


# Finding


def find(format_name: str, paths: Sequence[Path]) -> Sources:
    """Files of one format in files and folders; a table is taken only where it is named itself.

    Raises:
        InputError: a path that is not there, or holds nothing of the format.
    """
    sources = Sources()
    for path in paths:
        if path.is_dir():
            _find_below(format_name, path, sources)
        elif path.suffix == ".csv" and format_name == "alpaca_eval":
            sources.tables.append(path)
        else:
            _sort_file(format_name, path, sources)
    return sources


def _find_below(format_name: str, folder: Path, sources: Sources) -> None:
    answers, judgments = (sorted(folder.rglob(place)) for place in _PLACES[format_name])
    beside, why = _BESIDE[format_name]
    if others := sorted(folder.rglob(beside)):
        sources.notes.append(
            f"{len(others)} files below {folder} are left out ({', '.join(path.name for path in others[:5])}): {why}"
        )
    if not answers and not judgments:
        there = ", ".join(sorted(child.name for child in folder.iterdir())[:12]) or "nothing"
        raise InputError(f"{folder} holds no {' or '.join(_PLACES[format_name])}, at any depth. It holds: {there}")
    sources.answers += answers
    sources.judgments += judgments


def _sort_file(format_name: str, path: Path, sources: Sources) -> None:
    kind = format_of(read_rows(path, f"{format_name} rows")[0][1])
    if kind == _ANSWERS[format_name]:
        sources.answers.append(path)
    elif kind == _JUDGMENTS[format_name]:
        sources.judgments.append(path)
    else:
        raise InputError(
            f"{path} holds {kind or 'rows of an unknown kind'}; format {format_name} has {_ANSWERS[format_name]} and "
            f"{_JUDGMENTS[format_name]}"
        )


def _hashes(sources: Sources) -> dict[str, str]:
    return {f"{path.parent.name}/{path.name}": sha256_file(path) for path in (*sources.answers, *sources.judgments)}


# Reading


def _recorded(format_name: str, suite: Suite, sources: Sources) -> list[Recorded]:
    if not sources.answers and not sources.judgments:
        return []
    judgments = [row for path in sources.judgments for row in read_whole_judgments(path)]
    answers = [one for path in sources.answers for one in read_file_answers(path)]
    asked = {key: text for path in sources.judgments for key, text in read_instructions(path).items()}
    if format_name == "alpaca_eval":
        answers += _judged_texts(sources.judgments, {one.answer.model_id for one in answers})
    where = ", ".join(map(str, (sources.answers + sources.judgments)[:3]))
    return [_of_this_suite(item, suite, sources) for item in grouped(suite, answers, judgments, where, asked)]


def _judged_texts(paths: Iterable[Path], answered: set[str]) -> list[FileAnswer]:
    """Answers that only the annotations hold: those of models without a file of outputs."""
    return [one for path in paths for one in read_file_answers(path) if one.answer.model_id not in answered]


def _of_this_suite(item: Recorded, suite: Suite, sources: Sources) -> Recorded:
    """Judges whose verdicts all compare with another baseline, or judged other texts, are dropped and named."""
    hashes = {key: request.answer_hash for key, request in requests_of(suite, item.answers).items()}
    judgments: dict[str, Sequence[Judgment]] = {}
    for judge, rows in item.judgments.items():
        if any(not row.answer_hash or hashes.get(row.key, row.answer_hash) == row.answer_hash for row in rows):
            judgments[judge] = rows
        else:
            sources.notes.append(
                f"{item.model}, judge {judge}: left out, as all {len(rows)} verdicts are of other answers or another "
                "baseline than these"
            )
    if item.judgments and not judgments:
        raise InputError(
            f"{item.source}: no verdict on {item.model} is of these answers beside the baseline of "
            f"{suite.config.name}. {sources.notes[-1]}"
        )
    return dataclasses.replace(item, judgments=judgments)


# Writing


def _store(item: Recorded, suite: Suite, hashes: Mapping[str, str], runs: Path, results: Path, done: Import) -> None:
    """answers.jsonl and judgments where an evaluation has them, and a result for each judge."""
    questions = suite.questions()
    answers = [
        dataclasses.replace(answer, decoding=DECODING, statuses=statuses_of(answer))
        for question in questions
        if (answer := item.answers.get(question.id))
    ]
    rows = [to_row(answer) for answer in answers]
    folder = (
        runs
        / "evaluations"
        / subject_folder_name(item.model, _fingerprint(item.model, rows))
        / folder_name(suite.config)
        / DECODING
    )
    if rows:
        write_jsonl(folder / "answers.jsonl", rows)
        done.written.append(folder / "answers.jsonl")
    names = safe_names(item.judgments)
    for judge, judgments in item.judgments.items():
        path = folder / f"judgments-{names[judge]}.jsonl"
        write_jsonl(path, [to_row(row) for row in judgments])
        done.written.append(path)
        scored = suite.score(item.model, questions, {answer.question_id: answer for answer in answers}, judgments)
        config = {"suite": suite.config.model_dump(mode="json"), "judge": judge, "decoding": DECODING}
        manifest = build_manifest(config, 0, now(), data_hashes=hashes)
        notes = (
            *scored.notes,
            *item.notes,
            "imported: answered and judged elsewhere; the judge's id is as it was recorded.",
        )
        result = dataclasses.replace(scored, judge_id=judge, decoding=DECODING, notes=notes, manifest=to_row(manifest))
        save_result(results, result)
        done.results.append(result)


def _fingerprint(model: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Hash the answers, less what came later into their rows: the same files are the same import as before."""
    later = ("statuses", "reasoning", "why")
    said = [{key: value for key, value in row.items() if key not in later} for row in rows]
    return sha256_json([model, said])


# Published tables


def _published(path: Path, suite: Suite) -> dict[str, Any]:
    """A leaderboard CSV as a labelled block of figures.

    Raises:
        InputError: no row, no column win_rate, or a figure that is no number.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, "leaderboard")))
    columns = reader.fieldnames or []
    if "win_rate" not in columns:
        raise InputError(
            f"{path}: column win_rate is missing; a leaderboard of alpaca_eval has one. There are: "
            f"{', '.join(columns) or 'none'}"
        )
    rows = [_published_row(row, columns[0], path, line) for line, row in enumerate(reader, start=2)]
    if not rows:
        raise InputError(f"{path} has no rows")
    return {
        "label": _LABEL,
        "suite": suite.config.name,
        "judge": path.stem.removesuffix("leaderboard").rstrip("_"),
        "source": path.name,
        "sha256": sha256_file(path),
        "imported_at": now(),
        "figures": rows,
    }


def _published_row(row: Mapping[str, Any], first: str, path: Path, line: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"model": row[first]}
    for column, text in row.items():
        if column not in (first, "mode"):
            figures[column] = _figure(text, column, path, line)
    return figures | ({"mode": row["mode"]} if "mode" in row else {})


def _figure(text: Any, column: str, path: Path, line: int) -> float | None:
    if text in (None, ""):
        return None
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise InputError(f"{path}, line {line}: {column} is not a number: {text!r}") from None
    return value if math.isfinite(value) else None
