"""The official data of AlpacaEval 2.0 and MT-Bench on the user's machine: finding it, and telling it from other data.

Files are looked for in `SEFT_BENCH_DATA_DIR` first, then in the cache folder; nothing here touches the network. A file
that differs from the published one is used, because a local folder is the user's own decision, and a warning goes with
every figure.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from seft_bench.errors import InputError, unknown_name
from seft_bench.files import read_once, read_text, sha256_file
from seft_bench.records import Question

BASELINE = "alpaca_eval/alpaca_eval_gpt4_baseline.json"
GAMED = "alpaca_eval/df_gamed.csv"
DIFFICULTY = "alpaca_eval/instruction_difficulty.csv"
QUESTIONS = "mt_bench/question.jsonl"
JUDGE_PROMPTS = "mt_bench/judge_prompts.jsonl"
REFERENCE_ANSWERS = "mt_bench/reference_answer/gpt-4.jsonl"
CORRECTED_REFERENCES = "mt_bench/reference_answer/gpt-4-0125-preview_pr3158.jsonl"
"""GPT-4's answers of March 2024 to the same thirty questions (FastChat's pull request 3158).

13 of the official ones are wrong.
"""

_HUB = "data set tatsu-lab/alpaca_eval on the Hugging Face hub, file {}"
_FASTCHAT = "repository lm-sys/FastChat, file fastchat/llm_judge/data/{}"
_FASTCHAT_3158 = (
    "repository lm-sys/FastChat at commit 962316eba4e9db86bc8002243290e4074dabf48e, file fastchat/llm_judge/data/{}"
)


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """A published file, known by its SHA-256, or (None) by a check of its content."""

    origin: str
    sha256: str | None


OFFICIAL_FILES: dict[str, OfficialFile] = {
    BASELINE: OfficialFile(
        _HUB.format("alpaca_eval_gpt4_baseline.json"),
        "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4",
    ),
    GAMED: OfficialFile(_HUB.format("df_gamed.csv"), None),
    DIFFICULTY: OfficialFile(_HUB.format("instruction_difficulty.csv"), None),
    QUESTIONS: OfficialFile(
        _FASTCHAT.format("mt_bench/question.jsonl"), "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7"
    ),
    JUDGE_PROMPTS: OfficialFile(
        _FASTCHAT.format("judge_prompts.jsonl"), "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6"
    ),
    REFERENCE_ANSWERS: OfficialFile(
        _FASTCHAT.format("mt_bench/reference_answer/gpt-4.jsonl"),
        "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    ),
    CORRECTED_REFERENCES: OfficialFile(
        _FASTCHAT_3158.format("mt_bench/reference_answer/gpt-4-0125-preview.jsonl"),
        "e484037da5cc14007dde1d821ef76046fccbd0b2f095237fad9ead2c4fc66800",
    ),
}

# Checksums of the published content (facts about it, not the content): the two CSV files exist in several byte forms.
_DIFFICULTY_ROWS, _GAMED_ROWS = 805, 1610
_DIFFICULTY_SUM, _DIFFICULTY_POSITION_SUM = -45.918446607, 18770.806943
_GAMED_SUMS = (-182.69237149245762, 413.04679485751797)
_EACH = 1e-5  # what a single difficulty may differ by


@dataclass(frozen=True, slots=True)
class GamedData:
    """Columns of `df_gamed.csv`, one entry a row; `preference` is the probability in [0, 1] as stored."""

    std_length_difference: tuple[float, ...]
    difficulty: tuple[float, ...]
    preference: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One row of `seft-bench data list|verify`.

    Attributes:
        state: "ok" (the published file), "differs" (used, with a warning), "broken" (cannot be used) or "missing".
        message: what is wrong ("" when ok).
    """

    name: str
    state: Literal["ok", "differs", "broken", "missing"]
    path: str
    sha256: str
    origin: str
    message: str


def data_folders() -> list[Path]:
    """Return the folders to look in, in order: `SEFT_BENCH_DATA_DIR` if set, then the cache folder."""
    named = os.environ.get("SEFT_BENCH_DATA_DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seft-bench" / "data"
    return [Path(named).expanduser(), cache] if named else [cache]


def official_path(name: str) -> Path:
    """Return the path of an official file, e.g. "mt_bench/question.jsonl".

    Raises:
        InputError: unknown name, or the file is in none of the folders.
    """
    if name not in OFFICIAL_FILES:
        raise unknown_name("official file", name, OFFICIAL_FILES)
    found = _find(name)
    if found is None:
        raise InputError(_missing_message(name))
    return found


def data_status() -> list[FileStatus]:
    """Return the state of every official file, in the order of the table."""
    return [file_status(name) for name in OFFICIAL_FILES]


def file_status(name: str) -> FileStatus:
    """Return the state of one official file: is it there, and is it the published one?"""
    official, path = OFFICIAL_FILES[name], _find(name)
    if path is None:
        return FileStatus(name, "missing", "", "", official.origin, _missing_message(name))
    digest = _digest(path)
    try:
        message = difference(name, path, digest)
    except InputError as error:
        return FileStatus(name, "broken", str(path), digest, official.origin, str(error))
    return FileStatus(name, "differs" if message else "ok", str(path), digest, official.origin, message)


def problems(rows: Sequence[FileStatus]) -> list[str]:
    """Describe what is wrong with the files, a line each.

    The first missing one says where to look and what to run, for all.
    """
    missing = [row for row in rows if row.state == "missing"]
    lines = [row.message for row in rows if row.state not in ("ok", "missing")] + [row.message for row in missing[:1]]
    return lines + [f"missing too: {row.name}, from the {row.origin}" for row in missing[1:]]


def data_warnings(names: Sequence[str]) -> list[str]:
    """Return a sentence for each file with other content than the published one, for notes and manifests."""
    return [status.message for status in map(file_status, names) if status.state == "differs"]


def data_hashes(names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of the files as they are used, for the manifest."""
    return {name: sha256_file(official_path(name)) for name in names}


def instruction_difficulties() -> tuple[float, ...]:
    """Return the difficulty of each official instruction, in the order of the baseline's file.

    Raises:
        InputError: the file is missing, or has not one row for each of the 805 instructions.
    """
    return _read_difficulties(official_path(DIFFICULTY))


def gamed_data() -> GamedData:
    """Return the 1,610 gamed rows of the length-control regression.

    Raises:
        InputError: the file is missing or its rows are not those.
    """
    return _read_gamed(official_path(GAMED))


def tinyworld_questions(kind: str, source: str = "tinyworld") -> list[Question]:
    """Make the embedded world's questions for one kind of suite ("alpacaeval", "mtbench").

    Args:
        source: "tinyworld" for evaluation; "tinyworld-tuning" for the questions on which settings may be chosen.
    """
    from seft_bench.tinyworld.world import evaluation_questions

    return evaluation_questions(kind if source == "tinyworld" else f"tuning-{kind}")


def _find(name: str) -> Path | None:
    return next((folder / name for folder in data_folders() if (folder / name).is_file()), None)


def _missing_message(name: str) -> str:
    looked = "; ".join(f"{folder} ({_contents(folder)})" for folder in data_folders())
    return (
        f"official file missing: {name}. Looked in {looked}. Run `seft-bench data fetch`, or set SEFT_BENCH_DATA_DIR "
        f"to a folder that holds {name}; its public origin is the {OFFICIAL_FILES[name].origin}. The suites that start "
        "with tiny- need no data."
    )


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    there = [name for name in OFFICIAL_FILES if (folder / name).is_file()]
    return f"has {', '.join(there)}" if there else "has none of the official files"


@lru_cache(maxsize=32)
def difference(name: str, path: Path, digest: str) -> str:
    """Say how the file at `path` differs from the published one of that name, "" if it does not.

    Raises:
        InputError: a table that cannot be read as that file.
    """
    pinned = OFFICIAL_FILES[name].sha256
    if pinned is None:
        return _CONTENT_CHECKS[name](path, digest)
    if digest == pinned:
        return ""
    return f"{name} is not the published file (sha256 {digest[:16]}..., published {pinned[:16]}...)"


_digest = read_once(sha256_file)


def _difficulty_difference(path: Path, digest: str) -> str:
    values = _read_difficulties(path)
    by_position = math.fsum(position * value for position, value in enumerate(values))
    sum_is_right = abs(math.fsum(values) - _DIFFICULTY_SUM) <= _EACH * _DIFFICULTY_ROWS
    order_is_right = abs(by_position - _DIFFICULTY_POSITION_SUM) <= _EACH * sum(range(_DIFFICULTY_ROWS))
    if sum_is_right and order_is_right:
        return ""
    return f"{DIFFICULTY} does not hold the published difficulties (sha256 {digest[:16]}...)"


def _gamed_difference(path: Path, digest: str) -> str:
    rows = _read_gamed(path)
    lengths = zip(rows.preference, rows.std_length_difference, strict=True)
    by_length = math.fsum(p * math.tanh(length) for p, length in lengths)
    by_difficulty = math.fsum(p * difficulty for p, difficulty in zip(rows.preference, rows.difficulty, strict=True))
    near = all(abs(found - known) <= 1e-3 for found, known in zip((by_length, by_difficulty), _GAMED_SUMS, strict=True))
    return "" if near else f"{GAMED} does not hold the published gamed rows (sha256 {digest[:16]}...)"


_CONTENT_CHECKS: dict[str, Callable[[Path, str], str]] = {DIFFICULTY: _difficulty_difference, GAMED: _gamed_difference}


@read_once
def _read_difficulties(path: Path) -> tuple[float, ...]:
    rows = _read_csv(path, ("index", "instruction_difficulty"), _DIFFICULTY_ROWS)
    by_index = {
        int(_number(row, "index", path, line)): _number(row, "instruction_difficulty", path, line)
        for line, row in enumerate(rows, start=2)
    }
    if set(by_index) != set(range(_DIFFICULTY_ROWS)):
        raise InputError(f"{path}: the column index must hold 0 to {_DIFFICULTY_ROWS - 1}, each once")
    return tuple(by_index[index] for index in range(_DIFFICULTY_ROWS))


@read_once
def _read_gamed(path: Path) -> GamedData:
    columns = ("std_delta_len", "instruction_difficulty", "preference")
    rows = _read_csv(path, columns, _GAMED_ROWS)
    values = [tuple(_number(row, column, path, line) for line, row in enumerate(rows, start=2)) for column in columns]
    return GamedData(*values)


def _read_csv(path: Path, columns: Sequence[str], expected_rows: int) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(read_text(path, "official file"), newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(missing)} is missing; there are {', '.join(reader.fieldnames or [])}"
        )
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a row of a table ({error})") from None
    if len(rows) != expected_rows:
        raise InputError(f"{path}: {expected_rows} rows are expected, there are {len(rows)}")
    return rows


def _number(row: dict[str, Any], column: str, path: Path, line: int) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: {column} is not a number: {row[column]!r}")
    return value
