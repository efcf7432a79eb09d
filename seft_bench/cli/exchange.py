"""The commands `export` and `import`: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seft_bench.cli.figures import note_withheld, print_json, print_tables
from seft_bench.cli.options import RESULTS, RUNS, JsonOption
from seft_bench.console import note
from seft_bench.errors import EXIT_WITHHELD, InputError

if TYPE_CHECKING:
    from seft_bench.suites import Suite

FormatOption = Annotated[str, typer.Option("--format", help="alpaca_eval, fastchat or fastchat-pairs.")]
SuiteOption = Annotated[str, typer.Option(help="Suite that the rows belong to.")]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(help="Suites of comparisons: answers of another baseline.", show_default="the suite's own"),
]


def export_files(
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Evaluated models or runs.", show_default="all on this suite"),
    ] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help="alpaca_eval, fastchat or fastchat-pairs.", show_default=False)
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Suite that the rows belong to.", show_default=False)] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write one adapter, merged into its base, as a whole model instead.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="With --merge, the number format: float32, bfloat16, or auto, the base's unless that loses.",
            show_default="auto",
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Only this judge's verdicts: its id or name.", show_default="all")
    ] = None,
    decoding: Annotated[str | None, typer.Option(help="Only this decoding.", show_default="all")] = None,
    answers: Annotated[Path | None, typer.Option(help="A file of answers, instead of evaluated models.")] = None,
    judgments: Annotated[Path | None, typer.Option(help="A file of judgments, instead of evaluated models.")] = None,
    reference: ReferenceOption = None,
) -> None:
    """Write evaluated models, or files of answers and judgments, as the official tools' files; or merge an adapter."""
    if merge:
        given = (format_name, suite, judge, decoding, answers, judgments, reference)
        _export_merged(models or [], out, dtype, any(value is not None for value in given))
        return
    if dtype is not None:
        raise InputError("--dtype is the number format of a model that --merge writes: give both, or neither")
    from seft_bench.exchange.exporting import check_format, export
    from seft_bench.exchange.sources import evaluated, of_files

    if format_name is None or suite is None:
        raise InputError("export needs --format and --suite; or --merge, which writes an adapter as a whole model")
    chosen = _suite(suite, reference)
    check_format(format_name, chosen)
    if answers or judgments:
        if models or judge or decoding:
            raise InputError(
                "--answers and --judgments are exported as they are: leave out MODEL, --judge and --decoding"
            )
        recorded = of_files(chosen, answers, judgments)
    else:
        recorded = evaluated(chosen, models or [], judge, decoding, RUNS)
    done = export(format_name, chosen, recorded, out)
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


def _export_merged(models: list[str], out: Path, dtype: str | None, has_other_options: bool) -> None:
    from seft_bench.exchange.merging import merge_model

    if len(models) != 1 or has_other_options:
        raise InputError(
            "--merge takes one MODEL (an adapter's folder, a run, or a hub id), --out FOLDER, --dtype, and nothing else"
        )
    done = merge_model(models[0], out, dtype or "auto")
    print(done.folder)
    for line in done.notes():
        note(line)


def _suite(name: str, reference: Path | None) -> Suite:
    from seft_bench.suites import load_suite

    suite = load_suite(name)
    return suite.with_baseline(reference) if reference else suite


def import_results(
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
    from seft_bench.evaluation.plan import write_leaderboard
    from seft_bench.exchange.importing import import_files
    from seft_bench.report.leaderboard import plain_tables

    chosen = _suite(suite, reference)
    done = import_files(format_name, chosen, paths, RUNS, results)
    if done.results or any(path.parent.name == "published" for path in done.written):  # answers alone change no table
        write_leaderboard(results)
    if as_json:
        print_json(done.results)
    elif done.results:
        print_tables(plain_tables(done.results))
    for line in [*done.notes, *(f"written: {path}" for path in done.written)]:
        note(line)
    if note_withheld(done.results):
        raise typer.Exit(EXIT_WITHHELD)
