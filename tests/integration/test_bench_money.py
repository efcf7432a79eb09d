"""The cost of a matrix's judges: said before, agreed to, kept to, and nothing paid twice."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from seft_bench.files import read_log
from tests import small_matrix
from tests.faults.chat_server import ChatServer
from tests.integration.cli import seft_bench

INPUT_USD, OUTPUT_USD = 1000.0, 10_000.0
PAID_USD = (100 * INPUT_USD + 10 * OUTPUT_USD) / 1e6
"""A reply of `chat_server.completion()`: 100 tokens in, 10 out."""


@pytest.fixture
def matrix(tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two rows, one seed, one control, and a judge with a price."""
    monkeypatch.setenv("JUDGE_KEY", "sk-not-a-real-key-12345")
    return write(tmp_path, server.url, input_usd_per_million_tokens=INPUT_USD, output_usd_per_million_tokens=OUTPUT_USD)


def write(folder: Path, url: str, **price: float) -> str:
    settings = {
        "name": "paid",
        "kind": "openai",
        "model": "judge",
        "base_url": url,
        "api_key_env": "JUDGE_KEY",
        "templates": "seft-bench",
    }
    judge = small_matrix.write_yaml(folder / "paid.yaml", **settings, max_in_flight=2, max_tokens=50, **price)
    return small_matrix.write_matrix(folder, judge=judge, seeds=[0], workers=1, controls=["constant"])


def plan(matrix: str, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(seft_bench("bench", matrix, "--out", str(out), "--dry-run", "--json").out)
    return found


def verdicts(out: Path) -> int:
    return sum(len(list(read_log(path))) for path in out.rglob("judgments-*.jsonl"))


def test_a_budget_ends_the_judging_and_not_the_training(matrix: str, server: ChatServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = plan(matrix, out)["judges"][str(tmp_path / "paid.yaml")]["wanted"]
    seen = small_matrix.run_here(matrix, out, "--budget", "2.5")
    assert seen.status == 6, seen.err
    assert len(server.bodies) * PAID_USD <= 2.5
    arrived = verdicts(out)
    assert 0 < arrived < wanted
    assert "the budget of 2.5 USD is spent" in seen.err
    assert f"Left: {wanted - arrived} judgments" in seen.err
    assert f"paid by this command: {len(server.bodies) * PAID_USD:.4f} USD" in seen.err
    assert all(
        cell["trained"] and cell["answers"]["at_hand"] == cell["answers"]["wanted"]
        for cell in plan(matrix, out)["cells"]
    )
    again = small_matrix.run_here(matrix, out, "--budget", "1000", "--yes")
    assert again.status == 0, again.err
    assert verdicts(out) == wanted
    assert small_matrix.asked_twice(server.bodies) == 1  # the probe, of each command
    small_matrix.nothing_was_done_twice(out)


def test_the_estimate_holds_controls_and_says_dollars(matrix: str, tmp_path: Path) -> None:
    judge = plan(matrix, tmp_path / "out")["judges"][str(tmp_path / "paid.yaml")]
    assert judge["asks_a_server"]
    one_model = 4 + 4  # questions, two turns each
    assert judge["wanted"] == 3 * one_model
    assert 0 < judge["usd"][0] <= judge["usd"][1]
    text = seft_bench("bench", matrix, "--out", str(tmp_path / "out"), "--dry-run").out
    assert re.search(
        rf"judge paid: {judge['wanted']} verdicts to ask, 0 at hand; about {judge['usd'][0]:.2f} to "
        rf"{judge['usd'][1]:.2f} USD",
        text,
    )


def test_much_money_needs_a_word_where_there_is_no_terminal(
    matrix: str, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEFT_BENCH_ASK_ABOVE_USD", "0.5")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    refused = small_matrix.run_here(matrix, tmp_path / "out")
    assert refused.status == 2
    assert "no terminal to ask on" in refused.err
    assert "--yes" in refused.err
    assert not server.bodies
    assert not list((tmp_path / "out").glob("stages/*"))
    agreed = small_matrix.run_here(matrix, tmp_path / "out", "--yes")
    assert agreed.status == 0, agreed.err


def test_a_budget_over_an_unknown_price_is_refused(
    tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-not-a-real-key-12345")
    refused = small_matrix.run_here(write(tmp_path, server.url), tmp_path / "out", "--budget", "5")
    assert refused.status == 2
    assert "--budget cannot be kept" in refused.err
    assert not server.bodies
