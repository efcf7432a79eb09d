"""All that the page knows from the start: tables, curves, entries and where their texts are.

Everything else is loaded when it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seft_bench.errors import InputError
from seft_bench.records import Result, run_of, run_to_row
from seft_bench.report import leaderboard
from seft_bench.report.arms import Measure, Panel, is_control, on_fewer_prompts, panels
from seft_bench.report.curves import prompt_point, start_point, step_points
from seft_bench.report.render.text import notes
from seft_bench.report.site.encode import rounded
from seft_bench.report.site.model import Entry, measure_or_none
from seft_bench.report.tables import Cell, Table
from seft_bench.report.ties import ends
from seft_bench.results import slug
from seft_bench.stats.intervals import Interval

_RUN_KEYS = ("row", "label", "role", "method", "seed", "step", "final", "unannotated_prompts")


def suite_data(name: str, entries: Sequence[Entry], questions: int, files: Mapping[str, Any]) -> dict[str, Any]:
    """A suite: its measure, how many questions, and the files of its list, figures and texts."""
    measure = next(
        (found for entry in entries if entry.result.suite == name and (found := measure_or_none(entry.result))), None
    )
    return {"name": name, "slug": slug(name), "measure": _measure_data(measure), "questions": questions, **files}


def _measure_data(measure: Measure | None) -> dict[str, Any] | None:
    if measure is None:
        return None
    return {
        "key": measure.key,
        "title": measure.title,
        "unit": measure.unit,
        "scale": measure.scale,
        "decimals": measure.decimals,
    }


def entry_data(entry: Entry, suite: int, blocks: Sequence[int]) -> dict[str, Any]:
    """One entry.

    `blocks`: the number of the first question of each of its files of answers; none where the answers are not at hand.
    """
    result, measure = entry.result, measure_or_none(entry.result)
    run = run_to_row(result.run)
    low, high = ends(result, measure.key) if measure else (None, None)
    return {
        "key": entry.key,
        "model": result.model,
        "suite": suite,
        "decoding": result.decoding,
        "judge": result.judge_id,
        "other": entry.other,
        "withheld": result.withheld,
        "figure": [rounded(result.metrics.get(measure.key) if measure else None), rounded(low), rounded(high)],
        "n": result.n,
        "scored": result.n_scored,
        "statuses": sorted(result.statuses.items()),
        "notes": list(result.notes),
        "run": {key: run[key] for key in _RUN_KEYS if key in run},
        "categories": [
            [str(name), rounded(value)] for name, value in sorted((result.metrics.get("by_category") or {}).items())
        ],
        "blocks": list(blocks),
    }


# Tables


def leaderboards(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the plain tables, each row with the number of its entry; results of unknown protocols have no row."""
    known = {_facts(entry.result): number for number, entry in enumerate(entries) if not entry.other}
    own = [entry.result for entry in entries if not entry.other and measure_or_none(entry.result)]
    return [
        table_data(table, lambda cells: known.get(tuple(cells[key] for key in _FACTS)))
        for table in leaderboard.plain_tables(own)
    ]


_FACTS = ("model", "suite", "decoding", "judge")


def _facts(result: Result) -> tuple[Any, ...]:
    return result.model, result.suite, result.decoding, result.judge_id


def method_tables(entries: Sequence[Entry]) -> tuple[list[dict[str, Any]], list[str]]:
    """The tables of methods over seeds, and why there are none."""
    own = [entry.result for entry in entries if not entry.other and entry.result.run is not None]
    if not any(run_of(result).role == "start" for result in own):
        return [], []  # single runs, no matrix: nothing to aggregate
    try:
        return [table_data(table) for table in leaderboard.method_tables(own)], []
    except InputError as error:
        return [], [f"No table of methods: {error}"]


def table_data(
    table: Table, entry_of: Callable[[Mapping[str, Any]], int | None] = lambda cells: None
) -> dict[str, Any]:
    """Return a table as the page draws it.

    Its cells are [value, low, high, mark, footnote] without what is empty at the end.
    """
    columns = [
        {key: getattr(column, key) for key in ("key", "title", "group", "unit", "kind", "role", "decimals")}
        for column in table.columns
    ]
    keys = [column.key for column in table.columns]
    rows = [
        {
            "block": row.block,
            "entry": entry_of({key: cell.value for key, cell in zip(keys, row.cells, strict=True)}),
            "cells": [_cell(cell) for cell in row.cells],
        }
        for row in table.rows
    ]
    return {"title": table.title, "columns": columns, "rows": rows, "notes": notes(table)}


def _cell(cell: Cell) -> list[Any]:
    value = cell.value if isinstance(cell.value, str) or cell.value is None else rounded(cell.value, 6)
    parts = [value, rounded(cell.low, 6), rounded(cell.high, 6), cell.mark, cell.footnote]
    while len(parts) > 1 and not parts[-1]:
        if parts[-1] == 0 and len(parts) in (2, 3):
            break  # an interval's end that is zero
        parts.pop()
    return parts


# Curves


def curves(entries: Sequence[Entry]) -> dict[str, Any]:
    """Every panel's lines by training step and points by unannotated prompts, with intervals over questions and seeds.

    Controls without a model have no training step, so no line.
    """
    own = [
        entry.result
        for entry in entries
        if not entry.other and entry.result.run is not None and measure_or_none(entry.result)
    ]
    published = [result for result in own if not result.withheld and not is_control(result)]
    drawn: list[dict[str, Any]] = []
    problems: list[str] = []
    for panel in panels(published) if published else []:
        try:
            drawn.append(_panel_curves(published, panel))
        except InputError as error:
            problems.append(f"No curve of {panel.title}: {error}")
    return {"panels": drawn, "notes": problems}


def _panel_curves(results: Sequence[Result], panel: Panel) -> dict[str, Any]:
    own = [
        result
        for result in results
        if (result.suite, result.judge_id, result.decoding) == (panel.suite, panel.judge_id, panel.decoding)
    ]
    measure, start = measure_or_none(own[0]), start_point(own, panel)
    assert measure is not None  # curves() leaves the others out
    runs = {run_of(result).row: run_of(result) for result in own}
    drawn = [row for row in runs if runs[row].role != "start"]
    rows = sorted(drawn, key=lambda row: runs[row].role == "control")  # controls last
    lines = []
    for row in rows:
        run = runs[row]
        prompts = float(run.unannotated_prompts or 0)
        steps, final = step_points(own, panel, row, measure), prompt_point(own, panel, row, prompts, measure)
        by_prompts = [_point(*final)] if final else []
        of_seft = row == "seft" or ("seft" in runs and on_fewer_prompts(run, runs["seft"]))
        facts = {"row": row, "label": run.label or row, "role": run.role, "of_seft": of_seft}
        lines.append({**facts, "steps": [_point(*point) for point in steps], "prompts": by_prompts})
    return {
        "title": panel.title,
        "judge": panel.judge_id,
        "measure": _measure_data(measure),
        "start": {"label": start[0], "point": _point(0.0, start[1])} if start else None,
        "seeds": len({run_of(result).seed for result in own}),
        "lines": lines,
    }


def _point(x: float, estimate: Interval) -> list[float | int | None]:
    return [rounded(x), rounded(estimate.mean), rounded(estimate.low), rounded(estimate.high)]
