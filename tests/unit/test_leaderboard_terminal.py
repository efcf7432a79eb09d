"""A pipe gets plain text with all columns; a terminal gets what it has room for."""

from __future__ import annotations

import io

import pytest

from seft_bench.records import run_of
from seft_bench.report.leaderboard import method_table
from seft_bench.report.tables import Table
from seft_bench.report.terminal import NARROWED, print_table
from tests.unit.leaderboard_data import relabelled, result


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def table() -> Table:
    """Two rows whose labels hold rich's markup and a terminal escape."""
    plain = [result("dpo", [5.0] * 4), result("self-label", [6.0] * 4)]
    return method_table([relabelled(item, f"[red]{run_of(item).label}\x1b[2J") for item in plain])


def shown(table: Table, columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    file = Terminal()
    print_table(table, file)
    return file.getvalue()


def test_a_pipe_gets_plain_text_with_all_columns(table: Table) -> None:
    file = io.StringIO()
    print_table(table, file)
    assert "\x1b" not in file.getvalue()
    assert "tokens trained" in file.getvalue()
    assert "**6.00** [6.00, 6.00]" in file.getvalue()


def test_a_wide_terminal_gets_all_columns(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(table, 320, monkeypatch)
    for part in ("tokens trained", "6.00 [6.00, 6.00]", "controls", r"[red]DPO\x1b[2J"):
        assert part in text
    assert "\x1b[2J" not in text
    assert NARROWED not in text


def test_a_narrow_terminal_gets_the_ranking_columns_and_says_so(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(table, 80, monkeypatch)
    assert "6.00 [6.00, 6.00]" in text
    assert "tokens trained" not in text
    assert "ranking columns only" in text
