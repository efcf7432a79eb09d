"""The command `check`: parse, compare, print, and end with the status that a build can act on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seft_bench.cli.figures import print_tables
from seft_bench.cli.options import RESULTS, RUNS, JsonOption
from seft_bench.console import note, plain
from seft_bench.errors import EXIT_INCONCLUSIVE, EXIT_OK, EXIT_REGRESSED, InputError

if TYPE_CHECKING:
    from seft_bench.checks.compare import Report

EXIT_OF = {"PASS": EXIT_OK, "REGRESSED": EXIT_REGRESSED, "INCONCLUSIVE": EXIT_INCONCLUSIVE}


def check_models(
    candidate: Annotated[
        str,
        typer.Argument(
            help=(
                "A model of the results: its name, its checkpoint or run folder, or a result.json; or a method: the "
                "row of a matrix."
            )
        ),
    ],
    baseline: Annotated[str, typer.Option("--against", help="The model, or method, that it must not be worse than.")],
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", help="Only this suite; may be repeated.", show_default="all that both have"),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Only this judge: its name, or the beginning of its id.", show_default="the one of both"),
    ] = None,
    decoding: Annotated[str | None, typer.Option(help="Only this decoding.", show_default="all that both have")] = None,
    base: Annotated[str | None, typer.Option(help="Only methods on this base.", show_default="the one of both")] = None,
    data: Annotated[
        str | None, typer.Option(help="Only methods on this data set.", show_default="the one of both")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            "--margin",
            metavar="NAME=VALUE",
            help="Loss that does not matter, of a suite or metric.",
            show_default="lc_win_rate=3, score=0.5",
        ),
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
    out: Annotated[Path | None, typer.Option(help="Keep the report in this JSON file.")] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Show the comparison, and end with 0 whatever the verdict.")
    ] = False,
    allow_inconclusive: Annotated[
        bool, typer.Option("--allow-inconclusive", help="End with 0 where the questions do not decide.")
    ] = False,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Answer and judge both now, and stop as soon as the verdict is clear.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of sampled answers and of the questions' order (--sequential).")] = 0,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The most that --sequential may spend, in US dollars; asks nothing.",
            show_default="no limit",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however much --sequential may cost.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Is CANDIDATE worse than the model, or method, that it is checked --against?

    Status 0: passes; 3: regressed; 4: inconclusive; 5: not comparable.
    """
    from seft_bench.checks.compare import check
    from seft_bench.checks.shown import report_row
    from seft_bench.files import write_json

    margins = _margins(margin or [])
    if not sequential and (budget is not None or yes):
        raise InputError("--budget and --yes go with --sequential; without it nothing is judged, so nothing is paid")
    if sequential:
        _refuse_methods(candidate, baseline, results)
        report = _look_by_look(
            candidate, baseline, suite or ["tiny-mtbench"], judge, decoding or "", margins, results, seed, budget, yes
        )
    else:
        chosen = {"judge": _judge_prefix(judge), "decoding": decoding or "", "base": base or "", "data": data or ""}
        report = check(candidate, baseline, results, suites=suite or (), margins=margins, **chosen)
    _show(report, as_json)
    if out is not None:
        write_json(out, report_row(report))
    status = (
        EXIT_OK if report_only or (allow_inconclusive and report.verdict == "INCONCLUSIVE") else EXIT_OF[report.verdict]
    )
    raise typer.Exit(status)


def _margins(texts: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, separator, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            separator = ""
        if not separator or not name or not 0 < found[name] < float("inf"):
            raise InputError(f"--margin takes NAME=VALUE with a value above 0, as in score=0.3; got {text!r}")
    return found


def _refuse_methods(candidate: str, baseline: str, results: Path) -> None:
    from seft_bench.checks.methods import refuse_sequential
    from seft_bench.results import read_results

    refuse_sequential(candidate, baseline, results, read_results(results))


def _judge_prefix(judge: str | None) -> str:
    """Return what the judge's id begins with: its name, which a YAML file says."""
    if judge is None or not judge.endswith((".yaml", ".yml")):
        return judge or ""
    from seft_bench.config import load_judge

    return load_judge(judge).name


def _look_by_look(
    candidate: str,
    baseline: str,
    suites: Sequence[str],
    judge: str | None,
    decoding: str,
    margins: Mapping[str, float],
    results: Path,
    seed: int,
    budget: float | None,
    yes: bool,
) -> Report:
    from seft_bench.checks.early import check_early, tasks_of
    from seft_bench.console import steps_shown
    from seft_bench.evaluation.engines import closed_at_the_end
    from seft_bench.evaluation.plan import EvalRequest, Plan, plan_evaluation
    from seft_bench.evaluation.spending import agree, within_budget
    from seft_bench.evaluation_files import Places
    from seft_bench.inference.store import store_path

    places = Places(RUNS, results, store_path(RUNS))
    plan = plan_evaluation(EvalRequest([candidate, baseline], suites, places, judge=judge, seed=seed))
    tasks_of(plan, candidate, baseline, decoding)  # what is wrong with the models is said before money is asked for
    agree(plan, budget, yes)
    with steps_shown() as progress, closed_at_the_end(plan.engine, plan.judges):

        def look_by_look(metered: Plan) -> Report:
            tasks = tasks_of(metered, candidate, baseline, decoding)
            return check_early(tasks, places, margins, seed=seed, progress=progress)

        return within_budget(plan, budget, look_by_look)


def _show(report: Report, as_json: bool) -> None:
    from seft_bench.checks.shown import details, headline, report_row, table_of

    if as_json:
        print(json.dumps(report_row(report), indent=1))
        return
    print(plain(headline(report)))
    print_tables([table_of(report)])
    for line in details(report):
        print(plain(line))
    for sentence in report.notes if sys.stdout.isatty() else ():
        note(sentence)
