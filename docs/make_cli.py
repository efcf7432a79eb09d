"""Writes docs/cli.md from the commands themselves; a test fails where it is stale. Run by `make docs`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from seft_bench.cli.main import app

PAGE = Path(__file__).parent / "cli.md"
INTRODUCTION = """# Command line

Made by `make docs` from the commands' own help: change it there.

stdout is the data (`--json` where it makes sense), stderr the notes and progress. Exit status: 0 fine, 1 a crash of
ours, 2 wrong usage or input, 5 a figure was withheld, 6 a judge is unavailable (what was paid for is kept; the same
command goes on). 3 and 4 are kept for comparisons: regressed, inconclusive.
"""


def page() -> str:
    """The whole page as Markdown."""
    return INTRODUCTION + "".join(
        _section(context) for context in _commands(typer.main.get_command(app), "seft-bench", None)
    )


def _commands(command: Any, name: str, parent: Any) -> Iterator[Any]:
    """A context for each command that does something, in the order of --help."""
    context = command.context_class(command, info_name=name, parent=parent)
    below = getattr(command, "commands", None)
    if not below:
        yield context
        return
    for child_name, child in below.items():
        yield from _commands(child, child_name, context)


def _section(context: Any) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return (
        "\n## "
        f"{context.command_path}\n\n{inspect.cleandoc(command.help or '')}\n\n```text\n{usage}\n```\n{_table(context)}"
    )


def _table(context: Any) -> str:
    records = [record for parameter in context.command.params if (record := parameter.get_help_record(context))]
    if not records:
        return ""
    return "\n| | |\n|---|---|\n" + "".join(f"| `{_cell(names)}` | {_cell(text)} |\n" for names, text in records)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
