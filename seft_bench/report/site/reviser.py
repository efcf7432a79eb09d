"""Tables of what revisers did: over seeds where `bench` wrote that, and run by run from each cell's diagnostics."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seft_bench.files import read_json, read_text
from seft_bench.report.revisions import AUC_COLUMN, COLUMNS, DRAFT_COLUMNS, GAIN_COLUMNS, HARM_COLUMNS
from seft_bench.report.tables import Cell, Column, Table, TableRow

_RUN_COLUMNS = (
    Column("run", "run", role="label"),
    Column("stage", "stage", role="label"),
    Column("judge", "judge", role="label"),
    *DRAFT_COLUMNS,
    *(dataclasses.replace(column, kind="difference") for column in GAIN_COLUMNS),  # one run: a sign, no interval
    *(dataclasses.replace(column, kind="number") for column in HARM_COLUMNS),
    AUC_COLUMN,
)
_LABEL_COLUMNS = (Column("run", "run", role="label"), Column("labels", "labels given", role="label"))
_CALIBRATION_COLUMNS = (
    Column("run", "run", role="label"),
    Column("stage", "stage", role="label"),
    Column("threshold", "threshold", kind="number", decimals=3),
    Column("good_kept", "good drafts kept", unit="%", kind="number", decimals=1),
    Column("poor_kept", "poor drafts kept", unit="%", kind="number", decimals=1),
    Column("auc", "AUC", kind="number", decimals=2),
)


def reviser_tables(results: Path) -> list[Table]:
    """Return the tables there are: over seeds, run by run, calibrations, labels; none where no run has a reviser."""
    found = [
        (path.parent.name, read_json(path, "diagnostics")) for path in sorted(results.glob("cells/*/diagnostics.json"))
    ]
    stages = [(run, stage, said) for run, stages in found for stage, said in stages.items() if isinstance(said, dict)]
    tables = [
        *_over_seeds(results / "revisions.csv"),
        Table("Run by run", _RUN_COLUMNS, tuple(_run_row(*stage) for stage in stages if "diagnostics" in stage[2])),
        Table(
            "Calibration of the decision",
            _CALIBRATION_COLUMNS,
            tuple(_calibration_row(*stage) for stage in stages if "calibration" in stage[2]),
        ),
        Table(
            "Labels that the reviser learnt from",
            _LABEL_COLUMNS,
            tuple(_label_row(run, said) for run, _, said in stages if "label_counts" in said),
        ),
    ]
    return [table for table in tables if table.rows]


def _over_seeds(path: Path) -> Iterator[Table]:
    """The table that `bench` wrote, with its intervals over drafts and seeds."""
    if path.exists():
        rows = csv.DictReader(io.StringIO(read_text(path, "table of revisions")))
        intervals = ("Intervals: 95 %, bootstrap over drafts and seeds.",)
        yield Table(
            "What revising did to the drafts, over seeds",
            COLUMNS,
            tuple(TableRow(tuple(_read_cell(row, column) for column in COLUMNS)) for row in rows),
            intervals,
        )


def _read_cell(row: Mapping[str, Any], column: Column) -> Cell:
    if column.kind == "text":
        return Cell(row.get(column.key) or "")
    value, low, high = (_number(row.get(key)) for key in (column.key, f"{column.key}_low", f"{column.key}_high"))
    return Cell(value, low, high)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _run_row(run: str, stage: str, said: Mapping[str, Any]) -> TableRow:
    facts = said["diagnostics"]
    grades = facts.get("grades", {})
    everything = grades.get("all", {})
    return _row(
        *(
            run,
            stage,
            facts.get("judge", ""),
            facts.get("drafts"),
            _percent(facts.get("keep_rate")),
            _percent(facts.get("copy_rate")),
        ),
        *(
            facts.get("edit_distance"),
            everything.get("gain"),
            grades.get("annotated", {}).get("gain"),
            grades.get("unannotated", {}).get("gain"),
        ),
        *(everything.get("good_drafts"), _percent(everything.get("harmed_share")), everything.get("decision_auc")),
    )


def _calibration_row(run: str, stage: str, said: Mapping[str, Any]) -> TableRow:
    facts = said["calibration"]
    return _row(
        run,
        stage,
        facts.get("threshold"),
        _percent(facts.get("good_kept")),
        _percent(facts.get("poor_kept")),
        facts.get("auc"),
    )


def _label_row(run: str, said: Mapping[str, Any]) -> TableRow:
    return _row(run, ", ".join(f"{count} {label}" for label, count in said["label_counts"].items()))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _row(*values: Any) -> TableRow:
    return TableRow(tuple(Cell(value) for value in values))
