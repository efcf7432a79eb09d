"""Words of a study's sentences: one method against another in one pool, its counts, names and figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seft_bench.report.arms import CONTENT, STYLE, Measure
from seft_bench.report.pools import Pool, counted
from seft_bench.report.study import ALL, Compared, Study
from seft_bench.report.study_table import signed

REVISER = "the reviser"
"""What a difference to a control is owed to."""


@dataclass(frozen=True)
class Duel:
    """One method against another in one pool: a comparison a suite and decoding, of each figure and part."""

    pool: Pool
    row: str
    other: str
    items: Sequence[Compared]

    @property
    def key(self) -> tuple[str, str]:
        return self.row, self.other

    def main(self, part: str = ALL) -> list[Compared]:
        return [item for item in self.items if item.part == part and item.measure not in (CONTENT, STYLE)]

    def whole(self, measure: Measure) -> list[Compared]:
        """Over all questions, of content or style."""
        return [item for item in self.items if item.part == ALL and item.measure == measure]

    def count(self, verdict: str, items: Sequence[Compared] | None = None) -> int:
        """In how many suites and decodings a verdict holds."""
        return sum(item.verdict == verdict for item in (self.main() if items is None else items))

    @property
    def is_decided(self) -> bool:
        """Are there runs enough for a corrected interval?"""
        return any(item.found.corrected.low is not None for item in self.main())

    @property
    def pays(self) -> bool:
        return self.count("ahead") == len(self.main())

    @property
    def ties(self) -> bool:
        return not self.count("ahead") and not self.count("behind")


def duels_of(found: Sequence[Compared]) -> list[Duel]:
    """All duels that have a win rate or grade, in the order of the comparisons."""
    grouped: dict[tuple[str, Pool, str], list[Compared]] = {}
    for item in found:
        grouped.setdefault((item.row, item.pool, item.other), []).append(item)
    duels = [Duel(pool, row, other, items) for (row, pool, other), items in grouped.items()]
    return [duel for duel in duels if duel.main()]


def rests_on(duel: Duel) -> str:
    """How much is annotated, and how many seeds, data sets and comparisons a sentence rests on."""
    items = duel.items
    data_sets, seeds, rows = (
        max(values) for values in zip(*((item.data_sets, item.seeds, item.rows) for item in items), strict=True)
    )
    crossed = f" crossed with {counted(data_sets, 'data set')}" if data_sets > 1 else " on 1 data set"
    return f"With {duel.pool.name} ({counted(seeds, 'seed')}{crossed}; {counted(rows, 'method')} compared)"


def everywhere(duels: Sequence[Duel]) -> str:
    panels = len(duels[0].main())
    return "the one suite x decoding" if panels == 1 else f"all {panels} of suite x decoding"


def figures_of(items: Sequence[Compared], study: Study, by_name: bool = True) -> str:
    """Corrected intervals, suite by suite, with the name of the other where it differs."""
    names = {item.other for item in items}
    shown = []
    for suite, measure in dict.fromkeys((item.panel.suite, item.measure) for item in items):
        own = [item for item in items if item.panel.suite == suite]
        figures = [
            f"{signed(item.found.corrected, measure.decimals)} {item.panel.decoding}"
            + (f" ({name_of(item.other, study)})" if by_name and len(names) > 1 else "")
            for item in own
        ]
        shown.append(f"{suite} {', '.join(figures)}")
    return (f"{name_of(items[0].other, study)}: " if by_name and len(names) == 1 else "") + "; ".join(shown)


def name_of(method: str, study: Study) -> str:
    return f'"{study.labels[method]}"'


def other_of(duel: Duel, study: Study) -> str:
    return name_of(duel.other, study)


def names_of(duels: Sequence[Duel], study: Study) -> str:
    return listed([name_of(other, study) for other in dict.fromkeys(duel.other for duel in duels)])


def counted_names(duels: Sequence[Duel], verdict: str, study: Study) -> str:
    return listed([f"{other_of(duel, study)} in {duel.count(verdict)} of {len(duel.main())}" for duel in duels])


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def pools_said(pools: Sequence[Pool]) -> str:
    """
    >>> pools_said([Pool("", types, "", ()) for types in (1, 2, 5)]), pools_said([Pool("small", 1, "", ())])
    ('1, 2 and 5 annotated types', '1 annotated type, on the base small')
    """
    if any(pool.base or pool.said for pool in pools):
        return "; ".join(pool.name for pool in pools)
    word = "annotated type" if [pool.types for pool in pools] == [1] else "annotated types"
    return f"{listed([str(pool.types) for pool in pools])} {word}"
