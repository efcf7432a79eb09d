"""The command line: parse, call one function, print. Data on stdout, notes on stderr.

Nothing heavy is imported at module level, so `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from seft_bench import __version__
from seft_bench.cli import bench as bench_commands
from seft_bench.cli import check as check_command
from seft_bench.cli import exchange as exchange_commands
from seft_bench.cli import leaderboard as leaderboard_command
from seft_bench.cli import report as report_command
from seft_bench.cli.catalog import data_app, judges_app, methods_app, suites_app
from seft_bench.cli.options import RESULTS, RUNS, JsonOption
from seft_bench.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNAVAILABLE, EXIT_WITHHELD, SeftBenchError, no_room

app = typer.Typer(
    name="seft-bench",
    help=(
        "Train alignment methods, judge every checkpoint with AlpacaEval 2.0 and MT-Bench, publish figures one can "
        "trust."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # keys may live in locals; ours are shown by main()
    add_completion=False,
)
app.add_typer(judges_app, name="judges")
app.add_typer(suites_app, name="suites")
app.add_typer(methods_app, name="methods")
app.add_typer(data_app, name="data")

LcC = Annotated[
    str | None,
    typer.Option(
        "--lc-c", help="C of the length control: a positive number, or cross-validated.", show_default="the suite's"
    ),
]
LcInterval = Annotated[
    str | None,
    typer.Option(
        "--lc-interval", help="Interval of the length control: sandwich or bootstrap.", show_default="the suite's"
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"seft-bench {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the whole program."""


bench_commands.register(app)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe, a YAML file, or key=value overrides of the default recipe.")
    ] = "tiny-seft",
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, also settings.KEY=value.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<name>.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run's folder and start again.")] = False,
    checkpoints: Annotated[int, typer.Option(min=1, help="Saved checkpoints of each policy stage.")] = 2,
) -> None:
    """Train a recipe (default: tiny SEFT). Killed, it goes on; finished, it says so."""
    from seft_bench import pipeline
    from seft_bench.console import note, steps_shown
    from seft_bench.files import read_json
    from seft_bench.stages.diagnostics import describe
    from seft_bench.stages.recipes import load_recipe
    from seft_bench.stages.runs import forget_run

    chosen = load_recipe(recipe, overrides or [])
    folder = out or RUNS / chosen.name
    if fresh:
        forget_run(folder)
    judge = "rubric" if chosen.data == "tinyworld" and chosen.method != "pretrain" else None
    with steps_shown() as progress:
        run = pipeline.train(chosen, folder, checkpoints=checkpoints, diagnostics_judge=judge, progress=progress)
    for checkpoint in run.checkpoints:
        print(checkpoint)
    for line in describe(read_json(run.folder / "diagnostics.json")):
        note(line)
    cost = run.manifest["cost"]
    note(
        f"{chosen.name}: {cost['policy_steps']} policy steps, {cost['tokens_trained']} tokens trained, "
        f"{cost['cpu_seconds']:.0f} CPU seconds"
    )
    note(f"evaluate it: seft-bench eval {folder} --suite tiny-mtbench --suite tiny-alpacaeval")


@app.command("eval")
def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoint folder, folder of checkpoints, hub id, file of answers, or control:NAME.",
            show_default="every run under runs/",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option("--suite", help="Suite; may be repeated.", show_default="tiny-mtbench")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Judge's name or YAML file; default: the suite's.")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Only this step: answer, judge or score; may be repeated.", show_default="all"),
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="OpenAI-compatible server that serves MODEL, as in http://127.0.0.1:8000/v1.")
    ] = None,
    server_key_env: Annotated[str | None, typer.Option(help="NAME of the variable with the server's key.")] = None,
    engine: Annotated[
        str,
        typer.Option(help="What answers for checkpoints: transformers, vllm (a server of ours) or vllm-in-process."),
    ] = "transformers",
    seed: Annotated[int, typer.Option(help="Seed of the sampled answers.")] = 0,
    reference: Annotated[Path | None, typer.Option(help="Answers of another baseline, for mtbench-pairwise.")] = None,
    results: Annotated[Path, typer.Option(help="Folder for results and the leaderboard.")] = RESULTS,
    lc_c: LcC = None,
    lc_interval: LcInterval = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be asked and what that costs; send nothing.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="The most that this command may spend, in US dollars.", show_default="no limit"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however much it may cost.")] = False,
    as_json: JsonOption = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model. Dangerous.")
    ] = False,
) -> None:
    """Answer, judge and score: every checkpoint, on every suite asked for. Finished work is never paid for twice."""
    from seft_bench.console import steps_shown
    from seft_bench.evaluation import cost_estimate as estimate
    from seft_bench.evaluation import cost_table as shown
    from seft_bench.evaluation import plan as evaluation
    from seft_bench.evaluation import spending
    from seft_bench.evaluation_files import Places
    from seft_bench.inference.store import store_path

    store = store_path(RUNS)
    kept = None if dry_run and not store.exists() else store  # a dry run makes no file
    plan = evaluation.plan(
        models or [],
        suite or ["tiny-mtbench"],
        judge,
        steps=stage or [],
        runs=RUNS,
        store=kept,
        server=server,
        server_key_env=server_key_env,
        trust_remote_code=trust_remote_code,
        engine_name=engine,
        reference=reference,
        length_control={"lc_c": lc_c, "lc_interval": lc_interval},
        ask_servers=not dry_run,
    )
    places = Places(RUNS, results, store)
    if dry_run:
        found = estimate.estimate(plan, places, seed)
        print(json.dumps(shown.as_row(found), indent=1) if as_json else shown.as_text(found))
        return
    spending.agree(plan, places, seed, budget, yes)
    with steps_shown() as progress:
        scored = spending.run(plan, places, seed, budget, progress)
    _show_results(scored, as_json, "Run the same command again to judge the rest.")


def _show_results(scored: list[Any], as_json: bool, advice: str) -> None:
    """Figures on stdout; exit status 5 when one had to be withheld."""
    from seft_bench.console import note
    from seft_bench.evaluation.score_files import result_row
    from seft_bench.results import noted

    if as_json:
        print(json.dumps([result_row(result) for result in scored], indent=1))
    elif scored:
        _print_tables(scored)
        for text in noted(scored):
            note(text)
    withheld = [result for result in scored if result.withheld]
    for result in withheld:
        note(
            f"WITHHELD {result.model} on {result.suite}: {result.n_scored} of {result.n} judgments are scored, at "
            "least 98 % are needed."
        )
    if withheld:
        note(advice)
        raise typer.Exit(EXIT_WITHHELD)


def _print_tables(results: Sequence[Any]) -> None:
    from seft_bench.report.leaderboard import plain_tables
    from seft_bench.report.terminal import print_table

    for table in plain_tables(results):
        print_table(table, sys.stdout)


@app.command()
def score(
    suite: Annotated[str, typer.Option(help="Suite that the judgments belong to.")],
    judgments: Annotated[
        Path,
        typer.Option(
            help="Judgments: ours, alpaca_eval's annotations.json, or FastChat's gpt-4_single or gpt-4_pair JSONL."
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Option(help="Answers: ours, alpaca_eval's model_outputs.json, or FastChat's model_answer JSONL."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Answers of another baseline.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Keep the figures in this folder of results, for the leaderboard.")
    ] = None,
    lc_c: LcC = None,
    lc_interval: LcInterval = None,
    as_json: JsonOption = False,
) -> None:
    """Figures from ready files; neither model nor judge is called."""
    from seft_bench.evaluation.score_files import save_scored, score_files

    scored = score_files(suite, answers, judgments, reference, {"lc_c": lc_c, "lc_interval": lc_interval})
    if results is not None:
        save_scored(results, scored, judgments)
    _show_results(
        scored, as_json, "The rest is missing from the file, or was never parsed: judge it again, or quote nothing."
    )


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """What this machine has: packages, GPU, data, keys (their names only)."""
    from seft_bench.cli.doctor import examine, report

    found = examine()
    print(json.dumps(found, indent=1) if as_json else report(found))


leaderboard_command.register(app)
exchange_commands.register(app)
check_command.register(app)
report_command.register(app)


def main() -> None:
    """Run the program: an error that the user can act on is one message without a traceback."""
    from seft_bench.console import note

    status: Any = EXIT_OK
    try:
        status = app(prog_name="seft-bench", standalone_mode=False)
    except SeftBenchError as error:
        note(f"error: {error}")
        status = error.exit_status
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except typer.Exit as leave:
        status = leave.exit_code
    except Exception as error:
        status = _disk_full(error) if no_room(error) else _usage_error(error)
    if status == EXIT_INTERRUPTED:
        note("stopped; what was finished is kept, and the same command goes on")
    sys.exit(status if isinstance(status, int) else EXIT_OK)


def _disk_full(error: Exception) -> int:
    """No room is nobody's defect; every other failure of a file is ours and keeps its traceback."""
    from seft_bench.console import note

    note(f"error: {no_room(error)}")
    return EXIT_UNAVAILABLE


def _usage_error(error: Exception) -> int:
    """Wrong usage is click's to show; everything else is a defect of ours and keeps its traceback."""
    show = getattr(error, "show", None)
    if show is None or not hasattr(error, "exit_code"):
        raise error
    show()
    return int(error.exit_code)


if __name__ == "__main__":
    main()
