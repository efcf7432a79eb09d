"""The HTML report: a folder that opens from disk, without server and network.

Data files are loaded as they are looked at.

catalog.py   what the page knows from the start      records.py   answers, verdicts, questions
model.py     a result and where its answers lie       reviser.py   what revisers did
encode.py    data as JavaScript, safely               files.py     parts, and the swap of folders
static/      the page itself: no framework, no build step, one small script a view
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench import __version__
from seft_bench.errors import InputError
from seft_bench.records import Question, Result
from seft_bench.report.site import catalog, records
from seft_bench.report.site.encode import encode, rounded
from seft_bench.report.site.files import LARGEST_PART_BYTES, Parts, check_replaceable, replaced
from seft_bench.report.site.model import Entry, entries
from seft_bench.report.site.reviser import reviser_tables
from seft_bench.results import read_results

LONGEST_ROW_BYTES = 1_500_000


@dataclass(frozen=True)
class Written:
    """A written report: its page, how many files, their bytes, the largest one, and what a reader should be told."""

    page: Path
    files: int
    total_bytes: int
    largest: tuple[str, int]
    notes: tuple[str, ...]


def write_report(out: Path, results: Path, runs: Path, against: Path | None = None) -> Written:
    """Write the report of a folder of results, with the texts that are found below `runs`.

    Equal inputs give equal bytes.

    Args:
        against: another folder of results, to be compared with.

    Raises:
        InputError: no results, or `out` holds something else.
    """
    check_replaceable(out)
    found = entries(_read(results, "--results"), _read(against, "--against") if against else [], runs)
    with replaced(out) as folder:
        parts = Parts(folder)
        parts.copy_static()
        _write_data(parts, found, results, against)
    return Written(out / "index.html", parts.count, parts.total, parts.largest, tuple(_notes(found, parts, runs)))


def _read(results: Path, option: str) -> list[Result]:
    found = read_results(results)
    if not found:
        raise InputError(
            f"no results in {results}/. Run `seft-bench eval` or `seft-bench demo` first, or name the folder with "
            f"{option}."
        )
    return found


def _notes(found: Sequence[Entry], parts: Parts, runs: Path) -> list[str]:
    notes = []
    if without := sum(entry.folder is None for entry in found):
        notes.append(
            f"{without} of {len(found)} results have no answers below {runs}: their figures are shown without texts "
            "(--runs names the folder)"
        )
    if without := sum(not entry.result.per_question for entry in found):
        notes.append(
            f"{without} of {len(found)} results have no questions.json beside them: no matrix, differences or "
            "questions of these"
        )
    if parts.largest[1] > LARGEST_PART_BYTES:
        notes.append(f"{parts.largest[0]} has {parts.largest[1]:,} bytes: it will be slow to open")
    return notes


def _write_data(parts: Parts, found: Sequence[Entry], results: Path, against: Path | None) -> None:
    suites = list(dict.fromkeys(entry.result.suite for entry in found))
    suite_rows: list[dict[str, Any]] = []
    entry_rows: dict[int, dict[str, Any]] = {}
    for number, suite in enumerate(suites):
        own = {index: entry for index, entry in enumerate(found) if entry.result.suite == suite}
        questions = records.questions_of(list(own.values()))
        files, blocks = _write_suite(parts, number, own, questions)
        suite_rows.append(catalog.suite_data(suite, found, len(questions), files))
        entry_rows |= {index: catalog.entry_data(entry, number, blocks[index]) for index, entry in own.items()}
    methods, problems = catalog.method_tables(found)
    index = {
        "version": __version__,
        "results": results.name,
        "against": against.name if against else None,
        "suites": suite_rows,
        "entries": [entry_rows[index] for index in range(len(found))],
        "panels": _write_matrices(parts, found),
        "leaderboards": catalog.leaderboards(found),
        "methods": methods,
        "reviser": [catalog.table_data(table) for table in reviser_tables(results)],
        "curves": catalog.curves(found),
        "notes": problems,
    }
    parts.write("index", index)


# Questions, figures and texts of a suite


def _write_suite(
    parts: Parts, number: int, own: Mapping[int, Entry], questions: Sequence[Question]
) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """Write the files of one suite and return what leads to them.

    With it, for each entry, the first question of each of its files of answers.
    """
    order = {question.id: index for index, question in enumerate(questions)}
    blocks: dict[int, list[int]] = {}
    figures = []
    for index, entry in own.items():
        judgments = records.judgments_of(entry)
        letters = "".join(records.STATUS_LETTERS[records.status_of(name, entry, judgments)] for name in order)
        figures.append([index, [rounded(entry.result.per_question.get(name)) for name in order], letters])
        blocks[index] = _write_answers(parts, index, entry, judgments, order)
    listed = [[question.id, question.category, records.preview(question)] for question in questions]
    files = {
        "list": parts.write_rows(f"questions/{number}", listed),
        "figures": parts.write_rows(f"figures/{number}", figures),
        "texts": parts.write_rows(
            f"texts/{number}", (records.question_row(order[question.id], question) for question in questions)
        ),
    }
    return files, blocks


def _write_answers(
    parts: Parts, index: int, entry: Entry, judgments: records.Judgments, order: Mapping[str, int]
) -> list[int]:
    """The entry's files of answers: every question that it answered or that was judged, in the suite's order."""
    answers = records.answers_of(entry)
    names = [name for name in order if name in answers or name in judgments]
    starts = parts.write_rows(f"answers/{index}", _text_rows(names, answers, judgments, order))
    return [order[names[start]] for start in starts]


def _text_rows(
    names: Sequence[str], answers: Mapping[str, Any], judgments: records.Judgments, order: Mapping[str, int]
) -> Iterator[list[Any]]:
    for name in names:
        row = records.text_row(order[name], answers.get(name), judgments.get(name, ()))
        if _is_long(row) and len(encode(row)) > LONGEST_ROW_BYTES:
            row = records.text_row(order[name], answers.get(name), judgments.get(name, ())[:20], shorter=20)
        yield row


def _is_long(row: Sequence[Any]) -> bool:
    """Return whether it could be too long when encoded.

    A character takes six bytes at most; asking this first saves encoding every row twice.
    """
    return 6 * sum(len(text) for text in [*(row[1] or ()), *(verdict[5] for verdict in row[3])]) > LONGEST_ROW_BYTES / 2


# Win-rate matrices


def _write_matrices(parts: Parts, found: Sequence[Entry]) -> list[dict[str, Any]]:
    """The panels, each with its entries; those that share questions with others are in its matrix."""
    panels: dict[tuple[str, str, str], list[int]] = {}
    for index, entry in enumerate(found):
        panels.setdefault(entry.panel, []).append(index)
    rows = []
    ordered = sorted(panels.items(), key=lambda panel: panel[0][1] == "greedy")  # after sampling, the suites' own way
    for number, ((suite, decoding, judge), members) in enumerate(ordered):
        compared = [index for index in members if found[index].result.per_question and not found[index].result.withheld]
        if len(compared) > 1:
            _write_matrix(parts, number, [found[index] for index in compared], compared)
        row = {"suite": suite, "decoding": decoding, "judge": judge, "entries": members, "matrix": len(compared) > 1}
        rows.append(row)
    return rows


def _write_matrix(parts: Parts, number: int, members: Sequence[Entry], indexes: Sequence[int]) -> None:
    from seft_bench.stats.seeds import grid
    from seft_bench.stats.win_matrix import win_shares

    names = sorted({name for entry in members for name in entry.result.per_question})
    # As the page has them: what is shown as equal is a tie, here as in its lists.
    figures = [
        {name: short for name, value in entry.result.per_question.items() if (short := rounded(value)) is not None}
        for entry in members
    ]
    shares, shared = win_shares(grid(figures, names))
    counts: Any = int(shared[0, 0]) if (shared == shared[0, 0]).all() else shared.tolist()
    parts.write(
        f"matrix/{number}",
        {
            "entries": list(indexes),
            "shares": [[rounded(value) for value in row] for row in shares.tolist()],
            "questions": counts,
        },
    )
