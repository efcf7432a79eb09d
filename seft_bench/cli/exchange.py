"""The commands `export` and `import`: parse, call one function, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from seft_bench.cli.options import RESULTS, RUNS, JsonOption
from seft_bench.console import note
from seft_bench.errors import EXIT_WITHHELD, InputError

FormatOption = Annotated[str, typer.Option("--format", help="alpaca_eval, fastchat or fastchat-pairs.")]
SuiteOption = Annotated[str, typer.Option(help="Suite that the rows belong to.")]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(help="Suites of comparisons: answers of another baseline.", show_default="the suite's own"),
]


def register(app: typer.Typer) -> None:
    """Add both commands to the program."""
    app.command("export")(export_files)
    app.command("import")(import_files)


def export_files(
    format_name: FormatOption,
    suite: SuiteOption,
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Evaluated models or runs.", show_default="all on this suite"),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Only this judge's verdicts: its id or name.", show_default="all")
    ] = None,
    decoding: Annotated[str | None, typer.Option(help="Only this decoding.", show_default="all")] = None,
    answers: Annotated[Path | None, typer.Option(help="A file of answers, instead of evaluated models.")] = None,
    judgments: Annotated[Path | None, typer.Option(help="A file of judgments, instead of evaluated models.")] = None,
    reference: ReferenceOption = None,
) -> None:
    """Write evaluated models, or files of answers and judgments, as the official tools' files."""
    from seft_bench.exchange import exporting, sources
    from seft_bench.suites import load_suite

    chosen = load_suite(suite).with_baseline(reference) if reference else load_suite(suite)
    exporting.check_format(format_name, chosen)
    if answers or judgments:
        if models or judge or decoding:
            raise InputError(
                "--answers and --judgments are exported as they are: leave out MODEL, --judge and --decoding"
            )
        recorded = sources.of_files(chosen, answers, judgments)
    else:
        recorded = sources.evaluated(chosen, models or [], judge, decoding, RUNS)
    done = exporting.export(format_name, chosen, recorded, out)
    for path in done.files:
        print(out / path)
    for line in done.notes:
        note(line)
    for result in done.withheld:
        note(
            f"WITHHELD {result.model}, judge {result.judge_id}: {result.n_scored} of {result.n} judgments are scored, "
            "at least 98 % are needed."
        )
    if done.withheld:
        note("Their rows are exported, and no figure of ours is. Judge the rest, or quote nothing.")
        raise typer.Exit(EXIT_WITHHELD)


def import_files(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Folders or files of the official tool; a leaderboard CSV by its name."),
    ],
    format_name: FormatOption,
    suite: SuiteOption,
    reference: ReferenceOption = None,
    results: Annotated[Path, typer.Option(help="Folder for results and the leaderboard.")] = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Take over the official tools' files: answers, judgments and figures, marked "imported" in the leaderboard."""
    import sys

    from seft_bench.evaluation import plan as evaluation
    from seft_bench.evaluation.score_files import result_row
    from seft_bench.exchange.importing import import_files as take_over
    from seft_bench.report import leaderboard
    from seft_bench.report.terminal import print_table
    from seft_bench.suites import load_suite

    chosen = load_suite(suite).with_baseline(reference) if reference else load_suite(suite)
    done = take_over(format_name, chosen, paths, RUNS, results)
    if done.results or any(path.parent.name == "published" for path in done.written):  # answers alone change no table
        evaluation.write_leaderboard(results)
    if as_json:
        print(json.dumps([result_row(result) for result in done.results], indent=1))
    for table in leaderboard.plain_tables(done.results) if done.results and not as_json else []:
        print_table(table, sys.stdout)
    for line in [*done.notes, *(f"written: {path}" for path in done.written)]:
        note(line)
    withheld = [result for result in done.results if result.withheld]
    for result in withheld:
        note(
            f"WITHHELD {result.model} on {result.suite}: {result.n_scored} of {result.n} judgments are scored, at "
            "least 98 % are needed."
        )
    if withheld:
        raise typer.Exit(EXIT_WITHHELD)
