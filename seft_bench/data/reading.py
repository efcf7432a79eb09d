"""A source's rows, made into rows of ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from seft_bench.config import Role, SourceConfig
from seft_bench.data.conversations import LeftOutError, ShapeError
from seft_bench.data.roles import recognise
from seft_bench.data.shapes import SHAPES, Options, read_row
from seft_bench.data.sources import Opened, open_source
from seft_bench.errors import InputError
from seft_bench.records import Row


@dataclass
class RowsRead:
    """The rows of ours that a source holds.

    Attributes:
        shapes: names of the shapes that its rows had.
        left_out: reason -> rows of the source.
    """

    source: Opened
    shapes: list[str]
    rows: list[Row]
    rows_read: int
    left_out: Counter[str]


def read_source(source: SourceConfig, role: Role) -> RowsRead:
    """Read a source's rows into rows of ours.

    Args:
        role: what they shall serve, which tells a shape where none is named.

    Raises:
        InputError: with the place of the first row that is malformed.
    """
    opened, options = open_source(source), Options(source.learn, source.pairs)
    shapes: list[str] = [] if source.shape == "auto" else [source.shape]
    read = RowsRead(opened, shapes, [], 0, Counter())
    for where, given in opened.rows:
        read.rows_read += 1
        try:
            row = _renamed(given, source)
            shape = SHAPES[source.shape if source.shape != "auto" else _shape_of(row, role, shapes)]
            read.rows += read_row(shape, row, options)
        except LeftOutError as reason:
            read.left_out[str(reason)] += 1
        except ShapeError as error:
            raise InputError(f"data source {opened.name}, {where}: {error}") from None
    if not read.rows_read:
        raise InputError(f"data source {opened.name} has no rows")
    left_out = sum(read.left_out.values())
    if left_out > source.max_left_out * read.rows_read:
        reasons = ", ".join(f"{count} {reason}" for reason, count in read.left_out.items())
        raise InputError(
            f"data source {opened.name}: nothing can be made of {left_out} of {read.rows_read} rows ({reasons}), more "
            f"than max_left_out = {source.max_left_out:g} of them. Name another shape or columns, or raise it."
        )
    return read


def _shape_of(row: Row, role: Role, seen: list[str]) -> str:
    """Name a row's shape: the one of the row before, or where that does not fit, the one that does.

    A row that fits none is taken for one of the last shape: what it lacks is then said.
    """
    if seen and SHAPES[seen[-1]].recognises(row):
        return seen[-1]
    try:
        found = recognise(row, role)
    except ShapeError:
        if not seen:
            raise
        return seen[-1]
    if found in seen:
        seen.remove(found)
    seen.append(found)
    return found


def _renamed(row: Row, source: SourceConfig) -> Row:
    """Call the columns what the shapes call them."""
    if not source.columns:
        return row
    if missing := [theirs for theirs in source.columns.values() if theirs not in row]:
        raise ShapeError(f"`columns` names {', '.join(missing)}, and this row has {', '.join(map(str, row))}")
    others = {key: value for key, value in row.items() if key not in source.columns.values()}
    return others | {ours: row[theirs] for ours, theirs in source.columns.items()}
