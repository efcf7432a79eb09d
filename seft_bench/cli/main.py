"""The command line, as a table of contents: each command parses, calls one function, and prints.

Data on stdout, notes on stderr. Nothing heavy is imported at module level, so `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, NoReturn

import typer

from seft_bench import __version__
from seft_bench.cli.bench import bench, demo
from seft_bench.cli.catalog import data_app, judges_app, methods_app, suites_app
from seft_bench.cli.check import check_models
from seft_bench.cli.doctor import doctor
from seft_bench.cli.evaluate import evaluate
from seft_bench.cli.exchange import export_files, import_results
from seft_bench.cli.leaderboard import leaderboard
from seft_bench.cli.report import report
from seft_bench.cli.score import score
from seft_bench.cli.stopping import STOPPED, stoppable
from seft_bench.cli.streams import refuse_closed_output, take_over_streams, written
from seft_bench.cli.train import train
from seft_bench.console import complain
from seft_bench.errors import EXIT_INTERRUPTED, EXIT_OK, InputError, SeftBenchError, refusal

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

# A matrix of many runs
app.command("demo")(demo)
app.command("bench")(bench)

# One run, one evaluation, figures from ready files
app.command("train")(train)
app.command("eval")(evaluate)
app.command("score")(score)

# Results at hand, and the machine
app.command("leaderboard")(leaderboard)
app.command("doctor")(doctor)

# Results exchanged, compared and published
app.command("export")(export_files)
app.command("import")(import_results)
app.command("check")(check_models)
app.command("report")(report)

# What there is to choose from, and how good a judge is
app.add_typer(judges_app, name="judges")
app.add_typer(suites_app, name="suites")
app.add_typer(methods_app, name="methods")
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"seft-bench {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the whole program."""
    if context.invoked_subcommand != "train" and not _is_alone():
        raise InputError(
            f"`{context.invoked_subcommand}` runs in one process, and torchrun started {os.environ['WORLD_SIZE']}: "
            "start it without torchrun. `train` is what runs in several."
        )


def main() -> None:
    """Run the program: an error that the user can act on is one message without a traceback."""
    if not take_over_streams():
        _leave(refuse_closed_output())
    with stoppable(_is_alone()) as stop:
        try:
            status = _run()
        except KeyboardInterrupt:  # while it told how it ended
            status = EXIT_INTERRUPTED
    status = stop.status(status)
    if status in STOPPED:
        complain("stopped; what was finished is kept, and the same command goes on")
    _leave(written(status))


def _run() -> int:
    """Run the command that the arguments name; return its exit status."""
    status: Any = EXIT_OK
    try:
        with _joined():
            status = app(prog_name="seft-bench", standalone_mode=False)
    except SeftBenchError as error:
        complain(f"error: {error}")
        status = error.exit_status
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except typer.Exit as leave:
        status = leave.exit_code
    except Exception as error:
        status = _told(error)
    return status if isinstance(status, int) else EXIT_OK


def _leave(status: int) -> NoReturn:
    """End the program; one of several processes without Python's teardown, in which torch's threads may abort."""
    if _is_alone():
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _is_alone() -> bool:
    return os.environ.get("WORLD_SIZE", "1") == "1"


def _joined() -> AbstractContextManager[object]:
    """Join the processes that torchrun started, so that an error is told once and ends them all."""
    if _is_alone():
        return nullcontext()
    from seft_bench.stages import door

    return door.distributed.together()


def _told(error: Exception) -> int:
    """Say what the machine refused, or let click show wrong usage; all else is our defect and keeps its traceback."""
    if refused := refusal(error):
        complain(f"error: {refused.message}")
        return refused.exit_status
    show = getattr(error, "show", None)
    if show is None or not hasattr(error, "exit_code"):
        raise error
    show()
    return int(error.exit_code)


if __name__ == "__main__":
    main()
