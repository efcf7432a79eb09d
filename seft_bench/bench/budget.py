"""The budget of a matrix: its rows with the settings that bring each method to it, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seft_bench.config import MatrixConfig, MatrixRow
from seft_bench.errors import InputError
from seft_bench.records import Row
from seft_bench.stages import door

if TYPE_CHECKING:
    from seft_bench.stages.door import budgets


@dataclass(frozen=True)
class AtBudget:
    """A row with the settings that bring it to the matrix's budget, and what these make of its stages."""

    row: MatrixRow
    found: budgets.Budgeted


def budgeted_rows(matrix: MatrixConfig) -> list[MatrixRow]:
    """Return the rows as they are trained: as given, or at the matrix's budget.

    Raises:
        InputError: rows that cannot be brought there, all in one message.
    """
    return [found.row for found in at_budget(matrix)] if matrix.budget else matrix.rows


def at_budget(matrix: MatrixConfig) -> list[AtBudget]:
    """Bring every row to the budget; none where the matrix has none.

    Raises:
        InputError: as `budgeted_rows`.
    """
    if matrix.budget is None:
        return []
    found, refused = [], []
    for row in matrix.rows:
        try:
            at = door.budgets.at_budget(row.method, row.settings, matrix.budget.unit, matrix.budget.amount)
            found.append(AtBudget(row.model_copy(update={"settings": at.settings}), at))
        except InputError as error:
            refused.append(f"  row {row.name!r} (method {row.method}): {error}")
    if refused:
        rows = "a row" if len(refused) == 1 else f"{len(refused)} rows"
        listed = "\n".join(refused)
        raise InputError(f"matrix {matrix.name}: {rows} cannot be brought to `budget: {{{matrix.budget}}}`:\n{listed}")
    return found


def budget_record(matrix: MatrixConfig) -> Row:
    """Return what matrix.json says of the budget: row -> its training stages beyond the start -> their share."""
    stages = {found.row.name: dict(found.found.stages) for found in at_budget(matrix)}
    return {f"{matrix.budget.unit}_beyond_start": stages} if matrix.budget else {}


def budget_lines(matrix: MatrixConfig) -> list[str]:
    """Say in words what the budget makes of each row."""
    return [f"budget of {matrix.budget}: {_in_words(found)}" for found in at_budget(matrix)]


def _in_words(found: AtBudget) -> str:
    stages = " + ".join(f"{name} {steps}" for name, steps in found.found.stages.items())
    return f"{found.row.name}: {stages or 'the start alone'}"


def budget_note(matrix: MatrixConfig) -> Sequence[str]:
    """Return what tables say of it."""
    if matrix.budget is None:
        return ()
    within = ", within a batch a stage" if matrix.budget.unit == "tokens" else ""
    return (
        f"At equal {matrix.budget.unit} ({matrix.budget.amount:,}{within}): of all training stages of a method but the "
        "start's; what revisers and teachers leave is the policy's.",
    )
