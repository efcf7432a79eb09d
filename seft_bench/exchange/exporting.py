"""`seft-bench export`: official tools' files from what was evaluated.

The files are made in memory, checked against what is in the folder, then written one by one, each in one step.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from seft_bench.errors import InputError, unknown_name
from seft_bench.exchange import alpaca_eval, fastchat, fastchat_pairs
from seft_bench.exchange.records import Export, Recorded
from seft_bench.files import read_text, write_atomic
from seft_bench.suites import Suite


class OfficialFormat(Protocol):
    """The module of an official tool's format.

    Attributes:
        KIND: protocol of the suites that it holds (`SuiteConfig.protocol`).
    """

    KIND: str

    def files(self, recorded: Sequence[Recorded], suite: Suite) -> Export:
        """Make the official tool's files of these models, in memory."""
        ...


FORMATS: dict[str, OfficialFormat] = {
    "alpaca_eval": alpaca_eval,
    "fastchat": fastchat,
    "fastchat-pairs": fastchat_pairs,
}
"""Name of a format -> its module."""


def check_format(name: str, suite: Suite) -> OfficialFormat:
    """Return the format's module.

    Raises:
        InputError: unknown format, or one for another kind of suite.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    kind, own = FORMATS[name].KIND, suite.config.protocol
    if own != kind:
        fitting = next((other for other, module in FORMATS.items() if own == module.KIND), "no format")
        raise InputError(
            f"format {name} holds suites of kind {kind}; {suite.config.name} is of kind {own}, which {fitting} holds"
        )
    return FORMATS[name]


def export(format_name: str, suite: Suite, recorded: Sequence[Recorded], out: Path) -> Export:
    """Write the official tool's files of these models below `out`.

    Raises:
        InputError: nothing to write, or a file there holds models that this export would drop.
    """
    made = check_format(format_name, suite).files(recorded, suite)
    if not made.files:
        raise InputError(
            f"nothing to export: {', '.join(item.model for item in recorded)} have neither answers nor judgments"
        )
    models = {item.model for item in recorded} | made.opponents
    for path in made.files:
        _check_replaces_only(out / path, models)
    for path, text in made.files.items():
        write_atomic(out / path, text)
    return made


def _check_replaces_only(path: Path, models: set[str]) -> None:
    if not path.exists():
        return
    if dropped := sorted(_models_in(path) - models):
        raise InputError(
            f"{path} holds {', '.join(dropped[:5])}, which this export would drop. Export them together, or name "
            "another folder with --out."
        )


def _models_in(path: Path) -> set[str]:
    """Names of the models in a file of either format; an unreadable file belongs to somebody else."""
    text = read_text(path, "file that the export would replace")
    try:
        if path.suffix == ".csv":
            return {row[0] for row in csv.reader(io.StringIO(text)) if row} - {""}
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line]
        keys = ("generator_2", "generator", "model_id", "model", "model_1")
        return {next(str(row[key]) for key in keys if key in row) for row in rows} | {
            str(row["model_2"]) for row in rows if "model_2" in row
        }
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, csv.Error, StopIteration):
        raise InputError(f"{path} is there and is no file of this format; name another folder with --out") from None
