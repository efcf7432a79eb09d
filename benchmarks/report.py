"""Time and size of the HTML report on many models, and optionally how well it scrolls.

The material is AlpacaEval's real answers and verdicts, resampled.

    python benchmarks/report.py [--data FOLDER] [--models 57 200] [--keep FOLDER] [--browser]

The case: every model answers the 805 official questions; its answer to a question, with the verdict on it, is that of
one of six real models, drawn by a seed of its own. Results are scored by the suite, answers and judgments written as
`seft-bench eval` writes them; none of that is timed. Timed are the whole commands, each in a process of its own,
imports included:

    report        `seft-bench report`        goals for 57 models: 30 seconds, no file over 3 MB
    leaderboard   `seft-bench leaderboard`   goal for 57 models: 3 seconds

With --browser (needs chromium) the report is opened and its longest views are used: the milliseconds until each is
drawn, and the longest task that blocked the page meanwhile, while the list of questions is scrolled from end to end.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from seft_bench.errors import InputError

if TYPE_CHECKING:
    from seft_bench.records import JudgeRequest, Judgment, Question
    from seft_bench.suites import Suite

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "NullModel",
    "gpt-3.5-turbo-1106_verbose",
    "gpt-3.5-turbo-1106_concise",
    "gemma-2b-it",
    "FuseChat-Gemma-2-9B-Instruct",
    "phi-2",
)
JUDGE = "weighted_alpaca_eval_gpt4_turbo"

Rows = Mapping[int, tuple[str, float]]
"""Question's number -> (answer, preference)."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        help=(
            "folder of the shared real material (with data/alpaca_eval in it); default SEFT_BENCH_SHARED, else "
            "../shared"
        ),
    )
    parser.add_argument("--models", type=int, nargs="+", default=[57, 200], help="how many models, one case each")
    parser.add_argument(
        "--keep", type=Path, help="write the cases here and leave them; default: a folder that is deleted"
    )
    parser.add_argument("--browser", action="store_true", help="also open the report and measure its longest views")
    options = parser.parse_args(arguments)
    try:
        if min(options.models) < 2:
            raise InputError("--models is at least 2. Run `python benchmarks/report.py` for the defaults.")
        folder = material(options.data)
        os.environ["SEFT_BENCH_DATA_DIR"] = str(folder / "official")
        with tempfile.TemporaryDirectory(prefix="report-") as temporary:
            measured = [
                measure(folder, (options.keep or Path(temporary)) / str(count), count, options.browser)
                for count in options.models
            ]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    columns = list(measured[0])
    print("| " + " | ".join(columns) + " |\n|" + "---:|" * len(columns))
    for row in measured:
        print("| " + " | ".join(str(row[column]) for column in columns) + " |")


def material(folder: Path | None) -> Path:
    """Return the `data` folder of the shared material.

    Raises:
        InputError: a file that the case is made from is not there.
    """
    root = folder or Path(os.environ.get("SEFT_BENCH_SHARED") or ROOT.parent / "shared")
    needed = [
        root / "data" / "alpaca_eval" / kind / f"{name}.jsonl.gz"
        for name in SOURCES
        for kind in ("annotations", "outputs")
    ]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise InputError(
            f"the real annotations are not in {root}: {missing[0]} is missing. Name the folder with --data or "
            "SEFT_BENCH_SHARED (CONTRIBUTING.md says what it holds)."
        )
    return root / "data"


def measure(folder: Path, case: Path, count: int, with_browser: bool) -> dict[str, Any]:
    """Measure seconds and sizes of one case."""
    make_case(folder, case, count)
    report_seconds = timed(
        "report", "--out", str(case / "report"), "--results", str(case / "results"), "--runs", str(case / "runs")
    )
    leaderboard_seconds = timed("leaderboard", "--results", str(case / "results"))
    files = [path for path in (case / "report").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    found = {
        "models": count,
        "report s": f"{report_seconds:.1f}",
        "leaderboard s": f"{leaderboard_seconds:.1f}",
        "files": len(files),
        "all MB": f"{sum(path.stat().st_size for path in files) / 1e6:.0f}",
        "largest MB": f"{largest.stat().st_size / 1e6:.2f} ({largest.relative_to(case / 'report')})",
    }
    print(found, file=sys.stderr)
    return found | (in_browser(case / "report" / "index.html") if with_browser else {})


def timed(*arguments: str) -> float:
    """Return the seconds of one command, imports included."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "seft_bench.cli.main", *arguments],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


# The case


def make_case(folder: Path, case: Path, count: int) -> None:
    from seft_bench.suites import load_suite

    suite = load_suite("alpacaeval")
    questions = suite.questions()
    sources = [source_rows(folder, name) for name in SOURCES]
    for number in range(count):
        write_model(suite, questions, sources, f"model-{number:03}", number, case)
        print(f"case of {count}: {number + 1} models written", end="\r", file=sys.stderr)


def source_rows(folder: Path, name: str) -> Rows:
    with gzip.open(folder / "alpaca_eval" / "outputs" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        answers = {row["index"]: row["output"] for row in map(json.loads, file)}
    with gzip.open(folder / "alpaca_eval" / "annotations" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return {
            row["index"]: (answers[row["index"]], row["preference"] or 1.5)
            for row in map(json.loads, file)
            if row["index"] in answers
        }


def write_model(
    suite: Suite, questions: Sequence[Question], sources: list[Rows], model: str, seed: int, case: Path
) -> None:
    """Write one resampled model: better ones draw from the better sources more often."""
    import dataclasses

    from seft_bench.files import write_jsonl
    from seft_bench.records import Answer, to_row
    from seft_bench.results import save_result

    draw = random.Random(seed)
    weights = [draw.random() for _ in sources]
    chosen = [_drawn(draw, weights, sources, number) for number in range(len(questions))]
    answers = [
        Answer(suite.config.name, question.id, model, (text,))
        for question, (text, _) in zip(questions, chosen, strict=True)
    ]
    requests = suite.requests(questions, {answer.question_id: answer for answer in answers})
    judgments = [
        judgment_on(request, model, preference) for request, (_, preference) in zip(requests, chosen, strict=True)
    ]
    place = case / "runs" / "evaluations" / f"{model}-{seed:08x}" / suite.config.name / "given"
    write_jsonl(place / "answers.jsonl", map(to_row, answers))
    write_jsonl(place / f"judgments-{JUDGE}.jsonl", map(to_row, judgments))
    scored = suite.score(model, questions, {answer.question_id: answer for answer in answers}, judgments)
    save_result(
        case / "results", dataclasses.replace(scored, judge_id=JUDGE, manifest={"parents": {"model": f"{seed:08x}"}})
    )


def judgment_on(request: JudgeRequest, model: str, preference: float) -> Judgment:
    from seft_bench.judges.base import judgment_of

    return judgment_of(
        request,
        model,
        JUDGE,
        "gpt-4-1106-preview",
        status="ok",
        preference=preference,
        raw="m" if (preference > 1.5) == request.candidate_first else "M",
        details={"preference_from": "log-probabilities"},
        prompt_hash="0" * 16,
    )


def _drawn(draw: random.Random, weights: list[float], sources: list[Rows], number: int) -> tuple[str, float]:
    """Draw one source's answer to a question, among those that have one."""
    able = [(weight, source) for weight, source in zip(weights, sources, strict=True) if number in source]
    return draw.choices([source for _, source in able], [weight for weight, _ in able])[0][number]


# In a browser


LONG_TASKS = """window.longest = 0;
  const note = (task) => { window.longest = Math.max(window.longest, task.duration); };
  new PerformanceObserver((list) => list.getEntries().forEach(note))
    .observe({type: 'longtask'}); 0"""
SCROLL = """(async () => {
  const box = document.querySelector('.list'), frame = () => new Promise(requestAnimationFrame);
  for (let top = 0; top < box.scrollHeight; top += 400) { box.scrollTop = top; await frame(); }
  return box.querySelectorAll('.row').length;
})()"""


VIEWS = {
    "leaderboard ms": ("#/leaderboard", "!!document.querySelector('td.name')"),
    "matrix ms": ("#/matrix?all=1", "!!document.querySelector('canvas, .heat td')"),
    "questions ms": ("#/questions", "!!document.querySelector('.list .row')"),
    "difference ms": ("#/difference", "!!document.querySelector('.list .row')"),
}
"""Column -> (address of a view, script that is true once its content is drawn)."""


def is_drawn(fragment: str, drawn: str) -> str:
    view = fragment[2:].split("?")[0]
    return f"document.querySelector('main').className === 'view-{view}' && {drawn}"


def in_browser(page_file: Path) -> dict[str, Any]:
    """Return the milliseconds until the longest views are drawn, and the longest task that blocked the page."""
    from tests.browser import browser

    program = browser.program()
    if program is None:
        raise InputError("--browser needs chromium: none of the programs " + ", ".join(browser.PROGRAMS) + " is here.")
    found: dict[str, Any] = {}
    with browser.started(program) as page:
        page.open(page_file, "#/reviser")
        page.run(LONG_TASKS)
        for name, (fragment, drawn) in VIEWS.items():
            start = time.perf_counter()
            page.go(fragment, is_drawn(fragment, drawn))
            found[name] = round(1000 * (time.perf_counter() - start))
        page.go("#/questions", is_drawn(*VIEWS["questions ms"]))
        page.run(SCROLL)
        time.sleep(0.3)  # the observer reports between tasks
        found["longest task ms"] = round(page.run("window.longest"))
    print(found, file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
