"""`eval` on MT-Bench comparisons against a real server: what is sent, merged, withheld, and refused before anything is
asked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from seft_bench.data.official import QUESTIONS, REFERENCE_ANSWERS
from tests.faults.chat_server import completion, serving, status
from tests.integration.cli import seft_bench
from tests.pairwise_files import QUESTION_IDS, answers, evaluate_pairs, for_mine, replying, write

pytestmark = pytest.mark.usefixtures("pairwise_files")


def test_both_turns_are_asked_in_both_orders_with_the_official_settings(desk: Path) -> None:
    with serving(otherwise=replying(lambda prompt: for_mine(prompt) if "MINE" in prompt else "[[C]]")) as server:
        seen = evaluate_pairs(desk, server)
    assert seen.status == 0, seen.err
    (result,) = json.loads(seen.out)
    metrics = result["metrics"]
    assert (result["n"], result["n_scored"], result["suite"]) == (6, 6, "little-pairwise")
    assert (metrics["win_rate"], metrics["wins"], metrics["inconsistent"], metrics["first_shown_win_rate"]) == (
        100.0,
        6,
        0,
        50.0,
    )
    assert any("compared with the answers of gpt-3.5-turbo" in note for note in result["notes"])
    probe, *asked = server.bodies
    assert probe["max_tokens"] == 2048  # as the run will ask
    assert len(asked) == 12
    assert all((body["temperature"], body["max_tokens"]) == (0.0, 2048) and "logprobs" not in body for body in asked)
    prompts = {body["messages"][1]["content"] for body in asked}
    assert "q101|ref1|BASE1 to 101|MINE1 to 101" in prompts
    assert "q101|more|ref1|ref2|MINE1 to 101|MINE2 to 101|BASE1 to 101|BASE2 to 101" in prompts
    assert not any(
        "mine" in prompt or "gpt-3.5" in prompt for prompt in prompts
    )  # the judge never learns whose answers these are
    saved = json.loads(next((desk / "results/little-pairwise").glob("*/result.json")).read_text())
    assert set(saved["manifest"]["data_hashes"]) == {QUESTIONS, REFERENCE_ANSWERS, "baseline", "asked"}


def test_a_judge_that_always_takes_the_first_gives_ties_only(desk: Path) -> None:
    with serving(otherwise=replying(lambda prompt: "[[A]]")) as server:
        (result,) = json.loads(evaluate_pairs(desk, server).out)
    metrics = result["metrics"]
    assert (metrics["win_rate"], metrics["ties"], metrics["inconsistent"]) == (50.0, 6, 6)
    assert (metrics["inconsistent_rate"], metrics["first_shown_win_rate"]) == (100.0, 100.0)


def test_one_failed_order_leaves_the_comparison_out(desk: Path) -> None:
    """The baseline first, turn 2 of question 82: no verdict in the reply. The other five comparisons count."""
    unsaid = "q82|more|BASE1 to 82"
    with serving(
        otherwise=replying(
            lambda prompt: (
                "I cannot say." if prompt.startswith(unsaid) else for_mine(prompt) if "MINE" in prompt else "[[C]]"
            )
        )
    ) as server:
        seen = evaluate_pairs(desk, server)
    (result,) = json.loads(seen.out)
    assert seen.status == 5
    assert (result["n_scored"], result["n_unscored"], result["metrics"]["wins"]) == (5, 1, 5)
    assert any("1 of 6 comparisons" in note and "1 parse_error" in note for note in result["notes"])


def test_replies_cut_at_max_tokens_say_so(desk: Path) -> None:
    cut = completion("I weigh both answers and") | {}
    cut["choices"][0]["finish_reason"] = "length"

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(cut)

    with serving(otherwise=answer) as server:
        (result,) = json.loads(evaluate_pairs(desk, server).out)
    assert any(note.startswith("12 replies of the judge were cut at its max_tokens") for note in result["notes"])
    rows = [
        json.loads(line)
        for path in (desk / "runs").rglob("judgments-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert {(row["status"], row["details"]["why"]) for row in rows} == {
        ("parse_error", "the reply was cut at max_tokens (2048) before a verdict")
    }


def test_a_conversation_beyond_the_context_is_unscored_not_lost(desk: Path) -> None:
    too_long = status(
        400,
        '{"error": {"message": "This model\'s maximum context length is 8192 tokens.", "code": '
        '"context_length_exceeded"}}',
    )

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body["messages"][1]["content"]
        return (
            await too_long(request, body)
            if prompt.startswith("q81|more")
            else await replying(lambda text: "[[C]]")(request, body)
        )

    with serving(otherwise=answer) as server:
        (result,) = json.loads(evaluate_pairs(desk, server).out)
    assert result["metrics"]["win_rate"] == 50.0
    assert any("1 over_length" in note for note in result["notes"])


def test_another_baseline_makes_another_suite(desk: Path) -> None:
    answers(desk / "other.jsonl", "other/model", "BASE")
    with serving(otherwise=replying(lambda prompt: "[[C]]")) as server:
        (result,) = json.loads(evaluate_pairs(desk, server, "--reference", "other.jsonl").out)
    assert result["suite"] == "little-pairwise-vs-other-model"
    assert (desk / "results/little-pairwise-vs-other-model").is_dir()


def test_a_baseline_that_is_not_there_is_said_before_anything_is_asked(desk: Path) -> None:
    (desk / "data/mt_bench/model_answer/gpt-3.5-turbo.jsonl").unlink()
    with serving() as server:
        seen = evaluate_pairs(desk, server)
    assert seen.status == 2
    assert "--reference FILE" in seen.err
    assert "lmsys/mt-bench" in seen.err
    assert server.bodies == []


def test_a_baseline_that_lacks_answers_or_holds_two_models_is_refused(desk: Path) -> None:
    answers(desk / "short.jsonl", "short", "BASE", QUESTION_IDS[:2])
    both = desk / "both.jsonl"
    both.write_text((desk / "short.jsonl").read_text() + (desk / "mine.jsonl").read_text())
    with serving() as server:
        lacking, two = (evaluate_pairs(desk, server, "--reference", name) for name in ("short.jsonl", "both.jsonl"))
    assert (lacking.status, two.status, server.bodies) == (2, 2, [])
    assert "lacks the baseline's answer to 1 of 3 questions, e.g. question 101" in lacking.err
    assert "answers of 2 models (short, mine)" in two.err


def test_a_reference_for_single_grading_is_refused(desk: Path) -> None:
    with serving() as server:
        (desk / "judge.yaml").write_text(
            f"name: local\nkind: openai\nmodel: judge\nbase_url: {server.url}\napi_key_env: null\n"
        )
        seen = seft_bench(
            "eval", "mine.jsonl", "--suite", "mtbench", "--judge", "judge.yaml", "--reference", "mine.jsonl"
        )
    assert seen.status == 2
    assert "mtbench is none" in seen.err


def test_recorded_comparisons_with_several_models_are_no_replay_judge(desk: Path) -> None:
    row = {
        "question_id": 81,
        "model_1": "mine",
        "g1_winner": "tie",
        "g2_winner": "tie",
        "turn": 1,
        "judge": ["gpt-4", "pair-v2"],
    }
    write(desk / "gpt-4_pair.jsonl", [row | {"model_2": "a"}, row | {"model_2": "b"}])
    (desk / "replay.yaml").write_text("name: recorded\nkind: replay\npath: gpt-4_pair.jsonl\n")
    seen = seft_bench("eval", "mine.jsonl", "--suite", "little.yaml", "--judge", "replay.yaml")
    assert seen.status == 2
    assert "compares mine with several models" in seen.err


def test_check_compares_two_models_in_points_of_the_win_rate(desk: Path) -> None:
    """The judge prefers one model to the baseline, and the baseline to the other, whatever the order."""
    answers(desk / "weak.jsonl", "weak", "WEAK")

    def choose(prompt: str) -> str:
        strong_is_in = "MINE" in prompt
        first_is_base = prompt.find("BASE") < prompt.find(
            "MINE" if strong_is_in else "WEAK"
        )  # the probe's prompt holds neither
        return "[[B]]" if first_is_base == strong_is_in else "[[A]]"

    with serving(otherwise=replying(choose)) as server:
        assert evaluate_pairs(desk, server).status == 0
        assert seft_bench("eval", "weak.jsonl", "--suite", "little.yaml", "--judge", "judge.yaml").status == 0
    seen = seft_bench("check", "weak", "--against", "mine", "--json")
    [metric] = json.loads(seen.out)["metrics"]
    assert seen.status == 3, seen.err
    assert (metric["metric"], metric["margin"], metric["n"]) == ("win_rate", 3.0, 3)
    assert (metric["candidate"], metric["baseline"], metric["difference"]) == (0.0, 100.0, -100.0)
    assert seft_bench("check", "mine", "--against", "weak").status == 0
