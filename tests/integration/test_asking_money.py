"""What `judges agreement --ask` and `judges consistency --ask` cost: said before, asked about, and never more than the
budget.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from seft_bench.files import read_log
from tests.faults.chat_server import ChatServer
from tests.integration import priced
from tests.integration.cli import Seen, good, seft_bench

pytestmark = pytest.mark.usefixtures("priced_files")
PROMPTS, REPEATS = 6, 2
WANTED = PROMPTS * (REPEATS + 1)


def consistency(judge: str = "priced", *more: str) -> Seen:
    where = ("--ask", f"{judge}.yaml", "--answers", "answers.jsonl", "--suite", "suite.yaml", "--out", "grades.jsonl")
    return seft_bench("judges", "consistency", *where, "--prompts", str(PROMPTS), "--repeats", str(REPEATS), *more)


def agreement(desk: Path, judge: str = "priced", *more: str) -> Seen:
    """Two models with unequal answers, and one vote on each first turn."""
    rows = [json.loads(line) for line in (desk / "answers.jsonl").read_text().splitlines()]
    other = [
        row | {"model_id": "other", "choices": [{"turns": [turn + "!" for turn in row["choices"][0]["turns"]]}]}
        for row in rows
    ]
    (desk / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + other))
    vote = {"judge": "expert_1", "turn": 1, "model_a": "mine", "model_b": "other", "winner": "model_a"}
    (desk / "votes.jsonl").write_text(
        "".join(json.dumps(vote | {"question_id": row["question_id"]}) + "\n" for row in rows)
    )
    where = (
        "--votes",
        "votes.jsonl",
        "--ask",
        f"{judge}.yaml",
        "--answers",
        "both.jsonl",
        "--suite",
        "suite.yaml",
        "--out",
        "votes-of-judge.jsonl",
    )
    return seft_bench("judges", "agreement", *where, *more)


def line_of(seen: Seen) -> dict[str, Any]:
    [line] = json.loads(good(seen).out)["lines"]
    return dict(line)


def test_a_dry_run_shows_the_price_and_sends_nothing(desk: Path, server: ChatServer) -> None:
    line = line_of(consistency("priced", "--dry-run", "--json"))
    assert (line["wanted"], line["at_hand"], line["to_ask"], line["output_tokens"]) == (
        WANTED,
        0,
        WANTED,
        [50 * WANTED] * 2,
    )
    usd = (line["input_tokens"][0] * priced.INPUT_USD + 50 * WANTED * priced.OUTPUT_USD) / 1e6
    assert line["usd"] == pytest.approx([usd, usd])
    assert f"total: {usd:.2f} to {usd:.2f} USD" in good(consistency("priced", "--dry-run")).out
    line = line_of(agreement(desk, "priced", "--dry-run", "--json"))
    assert (line["wanted"], line["to_ask"]) == (2 * priced.QUESTIONS, 2 * priced.QUESTIONS)
    assert line["usd"][0] > 0
    assert server.bodies == []


def test_without_a_terminal_much_money_needs_yes(
    desk: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEFT_BENCH_ASK_ABOVE_USD", "0.1")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for refused in (consistency(), agreement(desk)):
        assert refused.status == 2
        assert "--yes" in refused.err
    assert server.bodies == []
    seen = good(consistency("priced", "--yes"))
    assert f"paid by this command: {(WANTED + 1) * priced.PAID_USD:.4f} USD" in seen.err  # with the probe


def test_the_budget_is_never_overdrawn_and_a_larger_one_goes_on(desk: Path, server: ChatServer) -> None:
    seen = consistency("priced", "--budget", "2")
    assert seen.status == 6, seen.err
    assert len(server.bodies) * priced.PAID_USD <= 2
    arrived = len(read_log(Path("grades.jsonl")))
    assert 0 < arrived < WANTED
    assert "the budget of 2 USD is spent" in seen.err
    assert f"Left: {WANTED - arrived} judgments" in seen.err
    good(consistency("priced", "--budget", "1000"))
    assert len(read_log(Path("grades.jsonl"))) == WANTED
    assert len(server.bodies) == WANTED + 2  # each grade once, and a probe a command


def test_agreement_keeps_to_its_budget_too(desk: Path, server: ChatServer) -> None:
    seen = agreement(desk, "priced", "--budget", "1")
    assert seen.status == 6, seen.err
    assert len(server.bodies) * priced.PAID_USD <= 1
    assert "Left:" in seen.err


def test_a_budget_over_an_unknown_price_is_refused_and_without_one_it_is_said(desk: Path, server: ChatServer) -> None:
    assert consistency("unpriced", "--budget", "5").status == 2
    assert server.bodies == []
    assert "price unknown" in good(consistency("unpriced")).err
    assert "price unknown" not in good(consistency("unpriced")).err  # all is at hand, nothing is asked
