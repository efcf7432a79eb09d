"""The cost of a run: said before it, asked about above a limit, and never more than the budget."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from seft_bench import config
from seft_bench.errors import InputError
from seft_bench.files import read_log
from seft_bench.inference import prices
from tests.faults.chat_server import ChatServer, after, body_of, completion, status
from tests.integration.cli import REPOSITORY, Seen, good, seft_bench
from tests.integration.priced import INPUT_USD, OUTPUT_USD, PAID_USD, QUESTIONS, write

pytestmark = pytest.mark.usefixtures("priced_files")


def judgments_wanted(desk: Path) -> int:
    from seft_bench.suites import load_suite

    return sum(len(question.turns) for question in load_suite(str(desk / "suite.yaml")).questions())


def evaluate(judge: str = "priced", *more: str) -> Seen:
    return seft_bench("eval", "answers.jsonl", "--suite", "suite.yaml", "--judge", f"{judge}.yaml", *more)


def judged(desk: Path) -> list[dict[str, Any]]:
    return [row for path in (desk / "runs").rglob("judgments-*.jsonl") for row in read_log(path)]


# The table


def test_every_shipped_price_says_its_day_and_source() -> None:
    rows = prices.read_table(config.config_folder() / "prices.yaml")
    assert len({(row.model, row.server) for row in rows}) == len(rows)
    for row in rows:
        assert row.as_of is not None, row.model
        assert row.source.startswith("https://"), row.model
        assert (row.input_usd_per_million_tokens is None) == (row.output_usd_per_million_tokens is None)


def test_a_judges_own_price_goes_before_the_users_table_and_that_before_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = prices.price_of("https://api.openai.com/v1", "gpt-4-0613")
    assert (ours.input_usd_per_million_tokens, ours.output_usd_per_million_tokens) == (30, 60)
    row = {
        "model": "gpt-4-0613",
        "server": "api.openai.com",
        "input_usd_per_million_tokens": 1,
        "output_usd_per_million_tokens": 2,
        "as_of": None,
        "source": "me",
    }
    write(tmp_path / "own.yaml", {"prices": [row]})
    monkeypatch.setenv("SEFT_BENCH_PRICES", str(tmp_path / "own.yaml"))
    assert prices.price_of("https://api.openai.com/v1", "gpt-4-0613").usd(1e6, 1e6) == 3
    judge = config.OpenAIJudgeConfig(
        name="j", kind="openai", model="gpt-4-0613", input_usd_per_million_tokens=5, output_usd_per_million_tokens=6
    )
    assert prices.judge_price(judge).usd(1e6, 1e6) == 11


def test_the_same_model_elsewhere_has_no_price() -> None:
    price = prices.price_of("http://127.0.0.1:8000/v1", "gpt-4-0613")
    assert (price.known, price.usd(1, 1)) == (False, None)
    assert "no price of gpt-4-0613 at 127.0.0.1:8000" in price.source


def test_a_broken_table_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path / "own.yaml",
        {
            "prices": [
                {"model": "m", "server": "s", "input_usd_per_million_tokens": -1, "output_usd_per_million_tokens": 2}
            ]
        },
    )
    monkeypatch.setenv("SEFT_BENCH_PRICES", str(tmp_path / "own.yaml"))
    with pytest.raises(InputError, match=r"prices\.0\.input_usd_per_million_tokens"):
        prices.price_of("https://api.openai.com/v1", "gpt-4-0613")


# The estimate


def test_a_dry_run_counts_prices_and_sends_nothing(desk: Path, server: ChatServer) -> None:
    seen = evaluate("priced", "--dry-run", "--json")
    assert seen.status == 0, seen.err
    found = json.loads(seen.out)
    answers, judging = found["lines"]
    wanted = judgments_wanted(desk)
    assert (answers["work"], answers["wanted"], answers["at_hand"], answers["to_ask"]) == (
        "answer",
        QUESTIONS,
        QUESTIONS,
        0,
    )
    assert (judging["wanted"], judging["at_hand"], judging["settled"], judging["stored"], judging["to_ask"]) == (
        wanted,
        0,
        0,
        0,
        wanted,
    )
    assert judging["output_tokens"] == [50 * wanted] * 2  # max_tokens of the judge is below what is typical
    low = (judging["input_tokens"][0] * INPUT_USD + 50 * wanted * OUTPUT_USD) / 1e6
    assert judging["usd"] == pytest.approx([low, low])
    assert found["total"] == {"low_usd": pytest.approx(low), "high_usd": pytest.approx(low), "unknown_price_of": []}
    assert server.bodies == []
    assert not (desk / "runs").exists()
    text = evaluate("priced", "--dry-run").out
    assert f"total: {low:.2f} to {low:.2f} USD" in text
    assert "from the judge's YAML" in text


def test_the_tokens_in_are_those_of_the_prompts_that_are_sent(desk: Path, server: ChatServer) -> None:
    expected = json.loads(evaluate("priced", "--dry-run", "--json").out)["lines"][1]["input_tokens"][0]
    assert evaluate("priced", "--yes").status == 0
    _probe, *judging = [body for body in server.bodies if body["max_tokens"] == 50]
    assert sum(round(sum(len(message["content"]) for message in body["messages"]) / 4) for body in judging) == expected


def test_what_is_judged_and_what_is_stored_is_not_asked_again(desk: Path, server: ChatServer) -> None:
    assert evaluate("priced", "--yes").status == 0
    line = json.loads(evaluate("priced", "--dry-run", "--json").out)["lines"][1]
    assert (line["at_hand"], line["to_ask"], line["usd"]) == (judgments_wanted(desk), 0, [0, 0])
    for path in (desk / "runs").rglob("judgments-*.jsonl"):
        path.unlink()
    line = json.loads(evaluate("priced", "--dry-run", "--json").out)["lines"][1]
    assert (line["at_hand"], line["stored"], line["to_ask"], line["usd"]) == (0, judgments_wanted(desk), 0, [0, 0])


def test_a_missing_answer_is_assumed_and_said_to_be(desk: Path, server: ChatServer, tiny_model: Path) -> None:
    seen = seft_bench("eval", str(tiny_model), "--suite", "suite.yaml", "--judge", "priced.yaml", "--dry-run", "--json")
    answers, judging = json.loads(seen.out)["lines"]
    assert (answers["by"], answers["at_hand"], answers["wanted"], answers["usd"]) == (
        "this machine",
        0,
        QUESTIONS,
        [0, 0],
    )
    assert judging["to_ask"] == judgments_wanted(desk)
    assert "an answer that is still to be made" in json.loads(seen.out)["assumptions"]
    assert server.bodies == []


def test_a_model_behind_a_server_is_in_the_estimate(desk: Path, server: ChatServer) -> None:
    seen = seft_bench(
        "eval", "policy", "--server", server.url, "--suite", "suite.yaml", "--judge", "priced.yaml", "--dry-run"
    )
    assert seen.status == 0, seen.err
    host = server.url.removeprefix("http://").removesuffix("/v1")
    assert f"unknown: no price of policy at {host} in prices.yaml, for {judgments_wanted(desk)} requests" in seen.out
    assert server.bodies == []


def test_an_unknown_price_is_said_and_not_asked_about(desk: Path, server: ChatServer) -> None:
    assert "unknown: no price of judge" in evaluate("unpriced", "--dry-run").out
    seen = evaluate("unpriced")
    assert seen.status == 0, seen.err
    assert seen.err.count("price unknown: no price of judge") == 1
    assert f"{judgments_wanted(desk) + 1} replies at an unknown price" in seen.err  # with the probe


def test_bad_input_is_said_in_a_dry_run_too(desk: Path) -> None:
    assert evaluate("nowhere", "--dry-run").status == 2


# The question


def test_without_a_terminal_much_money_needs_yes(
    desk: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEFT_BENCH_ASK_ABOVE_USD", "0.5")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    seen = evaluate()
    assert seen.status == 2
    assert "--yes" in seen.err
    assert server.bodies == []
    assert evaluate("priced", "--budget", "0.4").status in (0, 6)  # it cannot become more than the budget
    monkeypatch.setenv("SEFT_BENCH_ASK_ABOVE_USD", "much")
    assert evaluate().status == 2


@pytest.mark.parametrize(("reply", "status_wanted"), [("n\n", 2), ("\n", 2), ("y\n", 0)])
def test_on_a_terminal_it_asks(desk: Path, server: ChatServer, reply: str, status_wanted: int) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "seft_bench.cli.main",
        "eval",
        "answers.jsonl",
        "--suite",
        "suite.yaml",
        "--judge",
        "priced.yaml",
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "SEFT_BENCH_ASK_ABOVE_USD": "0.5"}
    process = subprocess.Popen(command, cwd=desk, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    os.write(ours, reply.encode())
    process.communicate(timeout=120)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert process.returncode == status_wanted, shown
    assert "Go on? [y/N]" in shown
    assert bool(server.bodies) == (status_wanted == 0)


# The budget


def test_the_budget_is_never_overdrawn_and_a_larger_one_goes_on(desk: Path, server: ChatServer) -> None:
    server.otherwise = after(0.01)
    wanted = judgments_wanted(desk)
    seen = evaluate("priced", "--budget", "3.0")
    assert seen.status == 6, seen.err
    assert len(server.bodies) * PAID_USD <= 3.0
    arrived = len(judged(desk))
    assert 0 < arrived < wanted
    assert "the budget of 3 USD is spent" in seen.err
    assert f"Left: {wanted - arrived} judgments" in seen.err
    assert f"paid by this command: {len(server.bodies) * PAID_USD:.4f} USD" in seen.err
    again = evaluate("priced", "--budget", "1000")
    assert again.status == 0, again.err
    assert len(judged(desk)) == wanted
    assert len(server.bodies) == wanted + 2  # each judgment once, and a probe a command


def test_stored_replies_need_no_budget(desk: Path, server: ChatServer) -> None:
    assert evaluate("priced", "--yes").status == 0
    before = len(server.bodies)
    for path in (desk / "runs").rglob("judgments-*.jsonl"):
        path.unlink()
    # The probe is a request too, so a budget of nothing stops there; what is stored is told from what is not by the
    # estimate.
    assert evaluate("priced", "--budget", "0").status == 6
    assert len(server.bodies) == before
    assert evaluate("priced", "--budget", "3").status == 0
    assert len(server.bodies) == before + 1


def test_replies_that_cannot_be_read_are_paid_for(desk: Path, server: ChatServer) -> None:
    server.otherwise = body_of(completion("I would rather not say."))
    seen = evaluate("priced", "--budget", "3.0")
    assert seen.status == 6
    assert len(server.bodies) * PAID_USD <= 3.0
    assert f"{len(server.bodies) * PAID_USD:.4f} USD" in seen.err


def test_failures_that_cost_nothing_leave_the_budget_alone(desk: Path, server: ChatServer) -> None:
    server.script = [status(500)]
    assert evaluate("priced", "--budget", "1000", "--yes").status == 0
    wanted = judgments_wanted(desk)
    assert len(server.bodies) == wanted + 2


def test_a_reply_that_never_arrives_counts_as_its_worst_case(desk: Path, server: ChatServer) -> None:
    async def never(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.otherwise = never
    seen = evaluate("priced", "--budget", "3.0")
    assert seen.status == 6
    assert "for replies that never arrived" in seen.err


def test_a_budget_over_an_unknown_price_is_refused(desk: Path, server: ChatServer) -> None:
    seen = evaluate("unpriced", "--budget", "5")
    assert seen.status == 2
    assert "input_usd_per_million_tokens" in seen.err
    assert "SEFT_BENCH_PRICES" in seen.err
    assert server.bodies == []


def test_answers_over_a_server_count_too(desk: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    host = server.url.removeprefix("http://").removesuffix("/v1")
    row = {
        "model": "policy",
        "server": host,
        "input_usd_per_million_tokens": INPUT_USD,
        "output_usd_per_million_tokens": OUTPUT_USD,
        "as_of": None,
        "source": "me",
    }
    write(desk / "prices.yaml", {"prices": [row]})
    monkeypatch.setenv("SEFT_BENCH_PRICES", str(desk / "prices.yaml"))
    seen = seft_bench(
        "eval", "policy", "--server", server.url, "--suite", "suite.yaml", "--judge", "priced.yaml", "--budget", "2"
    )
    assert seen.status == 6, seen.err
    assert 0 < len(server.bodies) * PAID_USD <= 2
    assert "answers and" in seen.err


# The judge itself


def test_a_probe_says_what_works(desk: Path, server: ChatServer) -> None:
    rows = json.loads(good(seft_bench("judges", "probe", "priced.yaml", "--json")).out)
    assert [row["kind"] for row in rows] == ["grade", "preference"]
    assert [row["log_probabilities"] for row in rows] == [None, 2]
    assert {row["returned_model"] for row in rows} == {"judge"}
    assert rows[0]["price_usd"] == pytest.approx(PAID_USD)
    assert rows[0]["latency_seconds"] >= 0
    assert len(server.bodies) == 2
    text = good(seft_bench("judges", "probe", "priced.yaml", "--kind", "preference")).out
    assert "works; key accepted (JUDGE_KEY), model judge, 2 log-probabilities" in text
    assert len(server.bodies) == 3


def test_a_probe_names_another_model_than_asked_for(desk: Path, server: ChatServer) -> None:
    server.otherwise = body_of(completion(model="judge-mini"))
    assert (
        "model judge-mini, asked for judge" in good(seft_bench("judges", "probe", "priced.yaml", "--kind", "grade")).out
    )


@pytest.mark.parametrize(
    ("fault", "kind", "exit_status", "word"),
    [
        (status(401), "grade", 2, "JUDGE_KEY"),
        (status(404, "no such model"), "grade", 2, "does not serve the model"),
        (body_of(completion("m")), "preference", 2, "log-probabilities"),
        (status(429, "insufficient_quota"), "grade", 6, "quota"),
    ],
)
def test_a_probe_that_fails(desk: Path, server: ChatServer, fault: Any, kind: str, exit_status: int, word: str) -> None:
    server.otherwise = fault
    seen = seft_bench("judges", "probe", "priced.yaml", "--kind", kind)
    assert (seen.status, seen.out) == (exit_status, "")
    assert word in seen.err


def test_a_probe_of_what_needs_no_server_or_is_gone(desk: Path) -> None:
    assert "no server is asked" in good(seft_bench("judges", "probe", "rubric", "--kind", "grade")).out
    assert "2026-10-23" in bad(seft_bench("judges", "probe", "mtbench-gpt4")).err
    assert "grade, pair, preference" in bad(seft_bench("judges", "probe", "rubric", "--kind", "nonsense")).err


def test_the_list_and_show_say_state_and_price() -> None:
    rows = {row["name"]: row for row in json.loads(good(seft_bench("judges", "list", "--json")).out)}
    assert rows["mtbench-gpt4"]["state"] == "retired since 2026-10-23"
    assert (rows["rubric"]["kind"], rows["rubric"]["state"]) == ("rubric", "ready")
    shown = json.loads(good(seft_bench("judges", "show", "mtbench-gpt4")).out)["price_that_holds"]
    assert (shown["input_usd_per_million_tokens"], shown["as_of"]) == (30, "2026-11-21")
    assert shown["source"].startswith("https://developers.openai.com/")


def bad(seen: Seen) -> Seen:
    assert seen.status == 2, seen.err
    return seen


def test_a_budget_is_the_consent_to_spend_up_to_it(desk: Path, server: ChatServer) -> None:
    """Without a terminal too: a command that may cost more than what is asked about goes on, within the budget."""
    assert "--yes" in evaluate("priced").err
    assert not server.bodies
    seen = evaluate("priced", "--budget", "10")
    assert seen.status == 0, seen.err
    assert len(server.bodies) > 10
