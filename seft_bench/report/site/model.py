"""One entry of a report: a result, where its answers lie, and the key that links use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench.records import Result
from seft_bench.report.arms import MEASURES, Measure
from seft_bench.results import result_name, slug, subject_folder_name


@dataclass(frozen=True)
class Entry:
    """One result of the report.

    Attributes:
        key: model@decoding@judge, as its folder is called; with "other-results/" before it where it is one of
            `--against`.
        other: it comes from the results compared against.
        folder: where its answers and judgments lie; None where they are not at hand.
    """

    key: str
    result: Result
    other: bool
    folder: Path | None

    @property
    def panel(self) -> tuple[str, str, str]:
        """Suite, decoding, judge: figures may be compared within one, never across."""
        return self.result.suite, self.result.decoding, self.result.judge_id


def entries(results: Sequence[Result], others: Sequence[Result], runs: Path) -> list[Entry]:
    """Every result with its answers, in order; those compared against at the end."""
    folders = evaluation_folders(runs)
    return [_entry(result, other, folders) for other, group in ((False, results), (True, others)) for result in group]


def _entry(result: Result, other: bool, folders: Mapping[str, Sequence[Path]]) -> Entry:
    key = result_name(result)
    return Entry(f"other-results/{key}" if other else key, result, other, _folder_of(result, folders))


def evaluation_folders(runs: Path) -> dict[str, list[Path]]:
    """Return subject's folder name -> folders of that name.

    They lie below runs/evaluations and, as matrices have it, runs/*/evaluations.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted([*runs.glob("evaluations/*"), *runs.glob("*/evaluations/*")]):
        if path.is_dir():
            found.setdefault(path.name, []).append(path)
    return found


def _folder_of(result: Result, folders: Mapping[str, Sequence[Path]]) -> Path | None:
    """Find the folder of the very weights and engine that the result names.

    Without a fingerprint, the only one of this model's name.
    """
    fingerprint = str(result.manifest.get("parents", {}).get("model", ""))
    engine = str(result.manifest.get("config", {}).get("engine", ""))
    if fingerprint:
        subjects = list(folders.get(subject_folder_name(result.model, fingerprint, engine), []))
    else:
        subjects = [path for key in folders if key.rpartition("-")[0] == slug(result.model) for path in folders[key]]
    there = [
        place
        for subject in subjects
        for suite in _suite_folders(subject, result.suite)
        if (place := suite / result.decoding).is_dir()
    ]
    judged = [place for place in there if (place / f"judgments-{slug(result.judge_id)}.jsonl").is_file()] or there
    return judged[0] if len(judged) == 1 or (judged and fingerprint) else None


def _suite_folders(subject: Path, suite: str) -> list[Path]:
    """The suite's folder; one of the user's own may have the hash of its settings behind its name."""
    names = re.compile(f"(?:{re.escape(suite)}|{re.escape(slug(suite))})(?:-[0-9a-f]{{8}})?")
    return [path for path in sorted(subject.iterdir()) if names.fullmatch(path.name)]


def measure_or_none(result: Result) -> Measure | None:
    """The main metric of a result's protocol; None for protocols that we do not know."""
    return next((measure for measure in MEASURES if measure.key in result.metrics), None)
