"""Data sets of a matrix that annotate equally many task types, taken together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from seft_bench.records import Result, run_of
from seft_bench.report.arms import Panel, belongs, is_control, is_final

Run: TypeAlias = tuple[str, int]
"""A training of each row: base and data set (`RunFacts.group`), and seed."""
Arm: TypeAlias = Mapping[Run, Result]


@dataclass(frozen=True, slots=True)
class Pool:
    """Data sets on one base that say the same but for which types they annotate.

    Attributes:
        base: "" where the matrix has one.
        types: how many task types each annotates.
        amounts: how much is annotated, where the data sets say so ("400 pairs"); else "".
        groups: base and data of its runs, as `RunFacts.group`.
        prompts: unannotated ones, where the data sets say so.
    """

    base: str
    types: int
    amounts: str
    groups: tuple[str, ...]
    prompts: int | None = None

    @property
    def name(self) -> str:
        """What tells it from the others: "1 annotated type"."""
        parts = (counted(self.types, "annotated type"), *self.said, f"on the base {self.base}" if self.base else "")
        return ", ".join(part for part in parts if part)

    @property
    def said(self) -> tuple[str, ...]:
        """What its data sets say beside the types."""
        prompts = f"{self.prompts:,} prompts" if self.prompts else ""
        return tuple(part for part in (self.amounts, prompts) if part)

    @property
    def label(self) -> str:
        return f"{self.name} ({counted(len(self.groups), 'data set')})"


def counted(count: int, word: str) -> str:
    """
    >>> counted(1, "seed"), counted(5, "data set")
    ('1 seed', '5 data sets')
    """
    return f"{count} {word}{'' if count == 1 else 's'}"


def members(results: Iterable[Result], pool: Pool) -> list[Result]:
    """The final checkpoints of a pool's trained rows."""
    final = [result for result in results if is_final(result) and not is_control(result)]
    return [result for result in final if run_of(result).group in pool.groups]


def arms_of(results: Iterable[Result], panel: Panel, methods: Mapping[str, str]) -> dict[str, dict[Run, Result]]:
    """Method -> its runs in a panel, in order of first appearance; withheld results are not in them.

    Args:
        methods: row -> method; other rows are left out.
    """
    found: dict[str, dict[Run, Result]] = {}
    for result in results:
        run = run_of(result)
        if belongs(result, panel) and run.row in methods:
            found.setdefault(methods[run.row], {})[run.group, run.seed] = result
    return found


def runs_of(arms: Iterable[Arm]) -> list[Run]:
    """All runs of some rows, sorted, so that a resampling does not depend on the order of files."""
    return sorted({run for arm in arms for run in arm})


def questions_of(arms: Iterable[Arm]) -> list[str]:
    """All their questions, sorted likewise."""
    return sorted({question for arm in arms for result in arm.values() for question in result.per_question})


def seeds_of(runs: Sequence[Run]) -> int:
    return len({seed for _, seed in runs})
