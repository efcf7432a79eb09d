"""Commands that measure a judge: `seft-bench judges agreement` and `judges consistency`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seft_bench.cli.options import RUNS, JsonOption
from seft_bench.console import note, plain
from seft_bench.errors import EXIT_WITHHELD, InputError

if TYPE_CHECKING:
    from seft_bench.judge_quality.agreement import Report
    from seft_bench.judge_quality.asking import Ask
    from seft_bench.judges import Judge
    from seft_bench.records import JudgeRequest

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what --ask would send and what that would cost; send nothing.")
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="The most that --ask may spend, in US dollars; asks nothing.",
        show_default="no limit",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask, however much it may cost.")]


def agreement(
    votes: Annotated[
        Path,
        typer.Option(help="Human votes: JSON Lines (.gz too) of judge, model_a, model_b, question_id, turn, winner."),
    ],
    judge_votes: Annotated[
        Path | None, typer.Option(help="The judge's verdicts: rows of the same kind, or FastChat's pairwise judgments.")
    ] = None,
    ask: Annotated[
        str | None, typer.Option(help="Judge's name or YAML file to ask now, instead of --judge-votes.")
    ] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            help="Answers that the humans compared; may be repeated.", show_default="conversations in the votes, if any"
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Name of the judge, where the file of --judge-votes holds several.")
    ] = None,
    raters: Annotated[str, typer.Option(help="Humans whose name begins so; '' takes all.")] = "expert",
    turn: Annotated[int | None, typer.Option(help="Only this turn.", show_default="each turn")] = None,
    suite: Annotated[str, typer.Option(help="Suite whose questions were voted on, for --ask.")] = "mtbench",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask for a random sample of so many comparisons.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    tie_band: Annotated[
        float, typer.Option(min=0, max=0.5, help="A preference within 1.5 -/+ this is a tie; 0: only 1.5 itself.")
    ] = 0.0,
    repeats: Annotated[
        int,
        typer.Option(min=0, help="Ask a sample so many times again, past the response store, for self-consistency."),
    ] = 0,
    repeat_sample: Annotated[int, typer.Option(min=1, help="Comparisons in that sample.")] = 50,
    out: Annotated[
        Path | None, typer.Option(help="File of the verdicts, JSON Lines.", show_default="runs/agreement/<judge>.jsonl")
    ] = None,
    dry_run: DryRunOption = False,
    budget: BudgetOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Does a judge prefer what humans prefer, as often as humans among themselves?

    And does it prefer the first, or the longer?
    """
    from seft_bench.judge_quality.agreement import measure_agreement
    from seft_bench.judge_quality.asking import Ask

    if (ask is None) == (judge_votes is None):
        raise InputError("name either --ask JUDGE (ask it now) or --judge-votes FILE (verdicts that are there)")
    if judge_votes is not None:
        _show(
            measure_agreement(votes, judge_votes, judge=judge, raters=raters, turn=turn, answers=answers or ()), as_json
        )
        return
    settings = Ask(limit, seed, repeats, repeat_sample, tie_band)
    _ask(str(ask), suite, votes, answers or [], raters, turn, out, settings, Money(dry_run, budget, yes), as_json)


@dataclass(frozen=True)
class Money:
    """The user's word about cost."""

    dry_run: bool
    budget_usd: float | None
    yes: bool


def _ask(
    name: str,
    suite: str,
    votes: Path,
    answers: list[Path],
    raters: str,
    turn: int | None,
    out: Path | None,
    settings: Ask,
    money: Money,
    as_json: bool,
) -> None:
    from seft_bench.console import steps_shown
    from seft_bench.judge_quality.agreement import compared_answers, human_votes
    from seft_bench.judge_quality.asking import ask_and_measure, requests_of
    from seft_bench.suites import load_suite

    humans, texts = human_votes(votes, raters, turn), compared_answers(votes, answers)
    questions = load_suite(suite).questions()
    opened, path = _open(name, out)
    requests = requests_of(humans, questions, texts, settings)
    with _paid_for(opened, requests, suite, path, money, as_json), steps_shown() as progress:
        report = ask_and_measure(opened, humans, questions, texts, raters, path, settings, progress)
    _show(report, as_json)
    note(f"verdicts: {path}")


def _show(report: Report, as_json: bool) -> None:
    from seft_bench.judge_quality.shown import notes_of, report_row, report_text

    print(json.dumps(report_row(report), indent=1) if as_json else plain(report_text(report)))
    for line in notes_of(report):
        note(line)
    if report.withheld:
        raise typer.Exit(EXIT_WITHHELD)


def consistency(
    judgments: Annotated[
        list[Path] | None,
        typer.Option(
            help="Judgments, ours or FastChat's, with prompts that were judged more than once; may be repeated."
        ),
    ] = None,
    ask: Annotated[
        str | None, typer.Option(help="Judge's name or YAML file to ask for grades now, instead of --judgments.")
    ] = None,
    answers: Annotated[list[Path] | None, typer.Option(help="Answers to grade, for --ask; may be repeated.")] = None,
    suite: Annotated[str, typer.Option(help="Suite that was answered, for --ask.")] = "mtbench",
    prompts: Annotated[int, typer.Option(min=1, help="Answered turns to grade, a random sample.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is graded again, past the response store.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File of the grades, JSON Lines.", show_default="runs/agreement/<judge>.jsonl")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Judgments that a mean is over, for its noise.")] = 160,
    dry_run: DryRunOption = False,
    budget: BudgetOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how often a judge repeats its verdict on the very same prompt, and how much that noise moves a mean."""
    from seft_bench.judge_quality.consistency import measure_consistency
    from seft_bench.judge_quality.shown import consistency_row, consistency_text

    if (ask is None) == (not judgments):
        raise InputError(
            "name either --ask JUDGE with --answers FILE (grade now) or --judgments FILE (grades that are there)"
        )
    judge_id, files = None, judgments or []
    if ask is not None:
        sample, money = GradedSample(answers or [], suite, prompts, repeats, seed), Money(dry_run, budget, yes)
        judge_id, path = _grade(ask, sample, out, money, as_json)
        files = [path]
    found = measure_consistency(files, rows, judge_id)
    print(json.dumps(consistency_row(found), indent=1) if as_json else plain(consistency_text(found)))


@dataclass(frozen=True)
class GradedSample:
    """Answered turns that are graded again and again, see the options of `consistency`."""

    answers: Sequence[Path]
    suite: str
    prompts: int
    repeats: int
    seed: int


def _grade(name: str, sample: GradedSample, out: Path | None, money: Money, as_json: bool) -> tuple[str, Path]:
    """Ask a judge for grades; returns its id, and the file of the grades."""
    from seft_bench.console import steps_shown
    from seft_bench.formats.reading import read_answers
    from seft_bench.judge_quality.asking import collect
    from seft_bench.judge_quality.consistency import requests_of
    from seft_bench.suites import load_suite

    texts = [answer for path in sample.answers for answer in read_answers(path)]
    questions = load_suite(sample.suite).questions()
    opened, path = _open(name, out)
    requests = requests_of(questions, texts, sample.prompts, sample.repeats, sample.seed)
    with _paid_for(opened, requests, sample.suite, path, money, as_json), steps_shown() as progress:
        collect(opened, requests, path, progress, "grade")
    return opened.id, path


@contextlib.contextmanager
def _paid_for(
    judge: Judge, requests: list[JudgeRequest], suite: str, out: Path, money: Money, as_json: bool
) -> Iterator[None]:
    """Estimate, agreement and budget around asking; a dry run shows the estimate and ends here."""
    from seft_bench.evaluation.cost_estimate import Estimate, estimate_requests
    from seft_bench.evaluation.cost_table import cost_row, cost_text
    from seft_bench.evaluation.spending import agree_to, within
    from seft_bench.judge_quality.asking import missing

    def left() -> Estimate:
        return estimate_requests(judge, len(requests), missing(judge.id, requests, out, judge), suite)

    found = left()
    if money.dry_run:
        print(json.dumps(cost_row(found), indent=1) if as_json else plain(cost_text(found)))
        raise typer.Exit
    agree_to(found, money.budget_usd, money.yes)
    with within(money.budget_usd, judge, left):
        yield


def _open(name: str, out: Path | None) -> tuple[Judge, Path]:
    """Return the open judge, and the file of its verdicts."""
    from seft_bench.config import load_judge
    from seft_bench.inference.store import store_path
    from seft_bench.judges import open_judge
    from seft_bench.results import slug

    opened = open_judge(load_judge(name), store_path(RUNS))
    return opened, out or RUNS / "agreement" / f"{slug(opened.id)}.jsonl"
