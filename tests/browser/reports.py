"""Reports made as a person makes them: answers in a file, `seft-bench eval`, `seft-bench report`.

One of the models is hostile.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seft_bench.data.official import tinyworld_questions
from seft_bench.files import json_line, write_jsonl
from seft_bench.records import Answer, Question, to_row
from seft_bench.report.site import write_report
from seft_bench.results import read_results, save_result
from tests.integration.cli import seft_bench
from tests.unit.leaderboard_data import ROWS, control, matrix

HACK = "window.hacked = (window.hacked || 0) + 1"
HOSTILE = (
    f"<script>{HACK}</script>",
    f'<img src=x onerror="{HACK}"><svg onload="{HACK}"></svg><iframe srcdoc="<script>parent.{HACK}</script>"></iframe>',
    f"</script><script>{HACK}</script> ]]> --> '\"`${{{HACK}}}`",
    f'[click](javascript:{HACK}) <a href="javascript:{HACK}">link</a> <base href=http://127.0.0.1:9/> <link '
    "rel=stylesheet href=http://127.0.0.1:9/a.css>",
    "\x1b[31mred\x1b[0m \x07 null:\x00 override:\u202eevil\u202c zero:\u200b line:\u2028 paragraph:\u2029 lone:\ud800 "
    "end",
    "x" * 60_000,
    '{"__proto__": {"polluted": true}} \\u003cscript\\u003e \\',
    "",
)
EVIL = f"<img src=x onerror={HACK}> \u202eevil"
"""A model's name: the tables, choosers and addresses have it."""


@dataclass(frozen=True)
class Reported:
    """A report with what it was made from."""

    page: Path
    results: Path
    runs: Path
    questions: list[Question]


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def evaluated(folder: Path) -> Reported:
    """Three models on both tiny suites.

    Model "good" repeats the references, "short" says one word, the hostile one attacks.
    """
    questions = {suite: tinyworld_questions(suite) for suite in ("alpacaeval", "mtbench")}
    rows = [
        to_row(answer)
        for suite in questions.values()
        for number, question in enumerate(suite)
        for answer in _answers(question, number)
    ]
    # As a file of the user's may hold it: a lone surrogate is no UTF-8, so it comes escaped.
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with working_in(folder):
        seen = seft_bench("eval", "answers.jsonl", "--suite", "tiny-alpacaeval", "--suite", "tiny-mtbench")
        assert seen.status == 0, seen.err
        _spoil_one_verdict(folder)
        _withhold_one(folder)
        reported = seft_bench("report")
    assert reported.status == 0, reported.err
    return Reported(folder / reported.out.strip(), folder / "results", folder / "runs", questions["alpacaeval"])


def _answers(question: Question, number: int) -> list[Answer]:
    attack = HOSTILE[number % len(HOSTILE)].replace(
        "\ud800", ""
    )  # our own files are UTF-8; lone surrogates have a test of their own
    attacks = (f"{attack} {number}",) * len(question.turns)
    return [
        Answer(question.suite, question.id, "good", question.reference or ("fine",) * len(question.turns)),
        Answer(question.suite, question.id, "short", ("Ada.",) * len(question.turns)),
        Answer(question.suite, question.id, EVIL, attacks),
    ]


def _spoil_one_verdict(folder: Path) -> None:
    """The judge of "short" failed on the first question, and wrote an attack on the second."""
    [path] = folder.glob("runs/evaluations/short-*/tiny-alpacaeval/given/judgments-*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0] |= {"status": "parse_error", "preference": None}
    rows[1] |= {"raw": HOSTILE[0], "returned_model": HOSTILE[1], "details": {HOSTILE[0]: HOSTILE[1], "__proto__": 1}}
    path.write_text("".join(json_line(row) for row in rows), encoding="utf-8")
    assert seft_bench("eval", "answers.jsonl", "--suite", "tiny-alpacaeval", "--stage", "score").status == 0


def _withhold_one(folder: Path) -> None:
    result = next(result for result in read_results(folder / "results") if result.suite == "tiny-mtbench")
    save_result(folder / "results", dataclasses.replace(result, model="unfinished", coverage=0.5, withheld=True))


def of_a_matrix(folder: Path) -> Reported:
    """Committed figures alone: results of a matrix, no runs."""
    levels = {row: 5.0 + 0.3 * number for number, row in enumerate(ROWS)}
    controls = [
        control(name, [1.0] * 30, decoding)
        for name in ("constant", "copy-prompt")
        for decoding in ("sampled", "greedy")
    ]
    for result in [*matrix(levels, seeds=(1, 2), questions=30), *controls]:
        save_result(folder / "results", result)
    drafts = {
        "judge": "rubric",
        "drafts": 40,
        "keep_rate": 0.25,
        "copy_rate": 0.0,
        "edit_distance": 0.4,
        "grades": {"all": {"gain": 0.75, "good_drafts": 8}},
    }
    cell = {"labels": {"label_counts": {"no_revise": 3}}, "revised-1": {"diagnostics": drafts}}
    write_jsonl(folder / "results" / "cells" / "seft-seed1" / "diagnostics.json", [cell])
    written = write_report(folder / "report", folder / "results", folder / "runs")
    return Reported(written.page, folder / "results", folder / "runs", [])
