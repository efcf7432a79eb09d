"""Published figures as a table of their own: never ranked with measured ones, never bold. Pure.

Each block comes with its conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seft_bench.report.tables import Cell, Column, Table, TableRow, footnote_number


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """Figures that somebody else published under one set of conditions.

    Attributes:
        suite: name of our suite whose protocol they belong to.
        base: base model ("" where the figures are of models that share none).
        judge: as the source names it.
        conditions: data, decoding, versions: what a reader must know before comparing.
        source: paper, address or file.
        date: of the source.
        figures: (name of the method or model, metric -> value), in the source's order.
    """

    suite: str
    base: str
    judge: str
    conditions: str
    source: str
    date: str
    figures: Sequence[tuple[str, Mapping[str, float | None]]]


METRICS = (
    Column("lc_win_rate", "LC win rate", unit="%", kind="number", role="main", decimals=1),
    Column("win_rate", "win rate", unit="%", kind="number", role="main", decimals=1),
    Column("score", "score", unit="1-10", kind="number", role="main", decimals=2),
    Column("avg_length", "length", unit="characters", kind="number"),
)
_NAME = Column("published", "method or model", role="label")
_FACTS = (
    Column("base", "base model"),
    Column("judge", "judge"),
    Column("conditions", "conditions"),
    Column("source", "source"),
    Column("date", "date"),
)
NOT_OURS = (
    "Other people's figures, in their source's order: not measured here, not ranked, without intervals, and not to be "
    "compared with figures of ours."
)


def published_tables(sets: Iterable[PublishedSet]) -> list[Table]:
    """`published_table` of each suite, in order of first appearance."""
    groups: dict[str, list[PublishedSet]] = {}
    for item in sets:
        groups.setdefault(item.suite, []).append(item)
    return [published_table(group) for group in groups.values()]


def published_table(sets: Sequence[PublishedSet]) -> Table:
    """Build one block a set, whose footnote says the conditions.

    Columns of the conditions themselves are details, for programs.
    """
    metrics = [
        column
        for column in METRICS
        if any(figures.get(column.key) is not None for item in sets for _, figures in item.figures)
    ]
    footnotes: list[str] = []
    rows = [_row(item, name, figures, metrics, footnotes) for item in sets for name, figures in item.figures]
    suites = ", ".join(dict.fromkeys(item.suite for item in sets))
    return Table(
        f"Published figures for {suites}: conditions differ from ours",
        (_NAME, *metrics, *_FACTS),
        tuple(rows),
        (NOT_OURS,),
        tuple(footnotes),
    )


def _row(
    item: PublishedSet, name: str, figures: Mapping[str, float | None], metrics: Sequence[Column], footnotes: list[str]
) -> TableRow:
    said = (
        f"Judge: {item.judge}",
        *([item.conditions] if item.conditions else []),
        f"Source: {item.source}, {item.date}",
    )
    number = footnote_number(footnotes, "; ".join(said) + ".")
    facts = (item.base, item.judge, item.conditions, item.source, item.date)
    cells = (
        Cell(name, footnote=number),
        *(Cell(figures.get(column.key)) for column in metrics),
        *(Cell(fact or None) for fact in facts),
    )
    return TableRow(cells, f"published, conditions differ: {item.base or item.source}, {item.date}")
