"""Commands that only show: judges, suites, methods and data, and the tinyworld's data sets as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from seft_bench.cli.judge_quality import agreement, consistency
from seft_bench.cli.options import JsonOption
from seft_bench.cli.preview import preview
from seft_bench.console import note, plain
from seft_bench.errors import InputError, unknown_name

judges_app = typer.Typer(help="Judges that ship, and what they are.", no_args_is_help=True)
suites_app = typer.Typer(help="Suites that ship, and what they ask.", no_args_is_help=True)
methods_app = typer.Typer(help="Methods, their stages and settings.", no_args_is_help=True)
data_app = typer.Typer(help="Data of the official suites, and the tinyworld's data sets.", no_args_is_help=True)


def _print_rows(rows: Sequence[Mapping[str, str]], as_json: bool) -> None:
    """A line a row with tabs between its values, or all rows as JSON."""
    print(json.dumps(rows, indent=1) if as_json else "\n".join("\t".join(row.values()) for row in rows))


@judges_app.command("list")
def judges_list(as_json: JsonOption = False) -> None:
    """The shipped judges, one a line: name, kind, model, whether it can be used here, and what it is."""
    from seft_bench.cli.examine import judge_row
    from seft_bench.config import shipped

    _print_rows([judge_row(name) for name in shipped("judges")], as_json)


@judges_app.command("show")
def judges_show(name: str) -> None:
    """A judge's settings as JSON, with the price that holds, its day and its source."""
    from seft_bench.cli.examine import judge_settings

    print(json.dumps(judge_settings(name), indent=1))


@judges_app.command("probe")
def judges_probe(
    name: Annotated[str, typer.Argument(help="Judge's name or YAML file.")],
    kind: Annotated[
        str | None, typer.Option(help="grade, preference or pair.", show_default="grade and preference")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a judge's server the least it can: do key, model and log-probabilities work?

    Exit status 2 or 6 where they do not.
    """
    from seft_bench.cli.examine import probe_judge, probe_text

    rows = probe_judge(name, kind)
    print(json.dumps(rows, indent=1) if as_json else plain("\n".join(map(probe_text, rows))))


judges_app.command("agreement")(agreement)
judges_app.command("consistency")(consistency)


@suites_app.command("list")
def suites_list(as_json: JsonOption = False) -> None:
    """Names of the shipped suites, one a line, with what they ask."""
    from seft_bench.config import load_suite, shipped

    _print_rows([{"name": name, "description": load_suite(name).description} for name in shipped("suites")], as_json)


@suites_app.command("show")
def suites_show(name: str) -> None:
    """A suite's settings as JSON."""
    from seft_bench.config import load_suite

    print(load_suite(name).model_dump_json(indent=1))


@suites_app.command("difficulty")
def suites_difficulty(
    suite: Annotated[str, typer.Argument(help="A suite of kind alpacaeval, most often your own YAML file.")],
    judgments: Annotated[
        list[Path],
        typer.Option("--judgments", help="Judgments of several models, in one file or more: ours, or alpaca_eval's."),
    ],
    out: Annotated[Path, typer.Option(help="JSON file to write; the suite's YAML names it as `difficulty`.")],
    answers: Annotated[
        list[Path] | None, typer.Option("--answers", help="The judged answers, where the judgments do not hold them.")
    ] = None,
) -> None:
    """Fit the difficulty of each instruction jointly to the judgments of two models or more, for the length control."""
    from seft_bench.suites.fit_difficulty import fit_difficulty_file

    fitted = fit_difficulty_file(suite, answers or [], judgments, out)
    print(out)
    note(
        f"{fitted.questions} difficulties from {fitted.judgments} judgments of {len(fitted.models)} models: "
        f"{', '.join(fitted.models)}"
    )
    if fitted.unjudged:
        note(f"{fitted.unjudged} questions have no judgment; their difficulty is 0, the mean")


@methods_app.command("list")
def methods_list(as_json: JsonOption = False) -> None:
    """Names of the methods, one a line, with what they do."""
    from seft_bench.stages import door

    _print_rows([{"name": name, "summary": method.summary} for name, method in door.methods.METHODS.items()], as_json)


@methods_app.command("show")
def methods_show(name: str) -> None:
    """A method's stages and default settings as JSON."""
    from seft_bench.stages import door

    method, plan = door.methods.find_method(name), door.methods.build_stages(name, {}, 1)
    stages = [
        {"name": stage.name, "kind": stage.kind, "inputs": {role: str(source) for role, source in stage.inputs.items()}}
        for stage in plan
    ]
    print(
        json.dumps(
            {
                "method": name,
                "summary": method.summary,
                "data": door.stages.data_sets(plan),
                "stages": stages,
                "settings": method.settings().model_dump(),
            },
            indent=1,
        )
    )


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """Files of the official suites: state, name and where each lies."""
    from seft_bench.data.official import data_status

    _print_rows(
        [{"state": row.state, "name": row.name, "path": row.path or row.origin} for row in data_status()], as_json
    )


@data_app.command("verify")
def data_verify(as_json: JsonOption = False) -> None:
    """Check the official files against their pinned contents; exit status 2 when one is missing or differs."""
    from seft_bench.data.official import data_status, problems

    rows = data_status()
    _print_rows([{"state": row.state, "name": row.name, "sha256": row.sha256 or "-"} for row in rows], as_json)
    if found := problems(rows):
        raise InputError("\n".join(found))


@data_app.command("fetch")
def data_fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Official files, or folders of them.", show_default="all")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(envvar="SEFT_BENCH_DATA_URL", help="A mirror with the files under these names.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download the official files that are missing, each checked before it is kept.

    Exit status 2 when one could not be had.
    """
    from seft_bench.console import steps_shown
    from seft_bench.data.fetch import fetch

    with steps_shown() as progress:
        rows = fetch(names or (), base_url, progress)
    _print_rows([{"state": row.state, "name": row.name, "path": row.path or "-"} for row in rows], as_json)
    if problems := [row.message for row in rows if row.state == "failed"]:
        raise InputError("\n".join(problems))


data_app.command("preview")(preview)

DATA_SETS = ("sft", "preferences", "calibration", "prompts", "pretrain")


@data_app.command("make")
def data_make(
    out: Annotated[Path, typer.Option(help="Folder to write the data sets into.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of docs/tinyworld.md: annotated_types=[note] prompts=9600."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the data sets.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this data set; may be repeated.", show_default="all five")
    ] = None,
) -> None:
    """Write the tinyworld's data sets as JSON Lines: sft, preferences, calibration, prompts, pretrain."""
    from seft_bench.config import TinyworldSettings, validate, with_overrides
    from seft_bench.data.tinyworld import write_tinyworld_data

    for name in only or ():
        if name not in DATA_SETS:
            raise unknown_name("data set", name, DATA_SETS)
    asked: TinyworldSettings = validate(with_overrides({}, settings or ()), TinyworldSettings, "data make")
    print(write_tinyworld_data(asked, seed, out, only or DATA_SETS))
