"""Real GPT-4 judgments: every prompt rebuilds byte for byte, every score and preference re-parses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seft_bench.judges.parse import parse_rating, parse_verdict, preference_from_logprobs
from seft_bench.judges.prompts import alpacaeval_template, render
from seft_bench.records import JudgeRequest, Question, Row
from tests.real_data import read_gzip


@pytest.fixture
def questions(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, Question]:
    official = shared_data / "official"
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(official))
    references = {
        row["question_id"]: tuple(row["choices"][0]["turns"])
        for row in map(json.loads, (official / "mt_bench/reference_answer/gpt-4.jsonl").read_text().splitlines())
    }
    rows = map(json.loads, (official / "mt_bench/question.jsonl").read_text().splitlines())
    return {
        row["question_id"]: Question(
            "mtbench",
            str(row["question_id"]),
            row["category"],
            tuple(row["turns"]),
            references.get(row["question_id"], ()),
        )
        for row in rows
    }


def test_all_single_judge_prompts_rebuild(shared_data: Path, questions: dict[int, Question]) -> None:
    judgments = read_gzip(shared_data / "mt_bench/judgments_single.jsonl.gz")
    answers = {
        (row["model_id"], row["run"], row["question_id"]): row["choices"][0]["turns"]
        for row in read_gzip(shared_data / "mt_bench/answers.jsonl.gz")
    }
    assert len(judgments) == 1440
    for row in judgments:
        candidate = answers[row["model"], row["run"], row["question_id"]]
        request = JudgeRequest("grade", questions[row["question_id"]], row["turn"], tuple(candidate[: row["turn"]]))
        prompt = render(request, "official")
        assert prompt.template.name == row["judge"][1]
        assert prompt.messages[1]["content"] == row["user_prompt"]


def test_all_recorded_scores_parse_again(shared_data: Path) -> None:
    judgments = read_gzip(shared_data / "mt_bench/judgments_single.jsonl.gz")
    parsed = [parse_rating(row["judgment"]) for row in judgments]
    assert [-1 if score is None else score for score in parsed] == [row["score"] for row in judgments]
    assert sum(score is None for score in parsed) > 100  # the unparsed ones are among them


def test_all_pair_prompts_rebuild_and_verdicts_parse(shared_data: Path, questions: dict[int, Question]) -> None:
    for row in read_gzip(shared_data / "mt_bench/judgments_pair.jsonl.gz"):
        question = questions[row["question_id"]]
        first, second = _answers_in(row["g1_user_prompt"])
        forward = render(JudgeRequest("preference", question, 1, (first,), (second,), candidate_first=True), "official")
        backward = render(
            JudgeRequest("preference", question, 1, (first,), (second,), candidate_first=False), "official"
        )
        assert forward.template.name == row["judge"][1]
        assert forward.messages[1]["content"] == row["g1_user_prompt"]
        assert backward.messages[1]["content"] == row["g2_user_prompt"]
        assert _winner(parse_verdict(row["g1_judgment"]), "model_1", "model_2") == row["g1_winner"]
        assert _winner(parse_verdict(row["g2_judgment"]), "model_2", "model_1") == row["g2_winner"]


def _answers_in(prompt: str) -> tuple[str, str]:
    """The two answers, cut out of a recorded pair prompt."""
    return (
        prompt.split("[The Start of Assistant A's Answer]\n", 1)[1].split("\n[The End of Assistant A's Answer]", 1)[0],
        prompt.split("[The Start of Assistant B's Answer]\n", 1)[1].rsplit("\n[The End of Assistant B's Answer]", 1)[0],
    )


def _winner(verdict: str | None, shown_first: str, shown_second: str) -> str:
    return {"A": shown_first, "B": shown_second, "tie": "tie", None: "error"}[verdict]


def test_all_recorded_preferences_follow_from_their_logprobs(shared_data: Path) -> None:
    checked = 0
    for path in sorted((shared_data / "alpaca_eval/annotations").glob("*.jsonl.gz")):
        for row in read_gzip(path):
            if row["top_logprobs"]:
                preference = preference_from_logprobs(row["top_logprobs"], candidate_first=row["switched"])
                assert preference == pytest.approx(row["preference"], abs=1e-9)
                checked += 1
    assert checked == 4014


@pytest.mark.peers
def test_alpacaeval_prompt_is_what_the_official_tool_sends(
    official_messages: Callable[[str, str, str], list[Row]],
) -> None:
    question = Question("alpacaeval", "q", "", ("Name {three} fish.",))
    request = JudgeRequest("preference", question, 1, ("Trout.",), ("Salmon, perch.",), candidate_first=True)
    assert list(render(request, "official").messages) == official_messages(
        "Name {three} fish.", "Trout.", "Salmon, perch."
    )
    assert alpacaeval_template().reply == "token"


@pytest.fixture
def official_messages(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], list[Row]]:
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", "unused-by-these-functions")
    import pandas as pd

    constants = pytest.importorskip("alpaca_eval.constants", reason="alpaca-eval is not installed (extra `official`)")
    utils = pytest.importorskip("alpaca_eval.utils")

    template = (Path(constants.EVALUATORS_CONFIG_DIR) / "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt").read_text()

    def messages(instruction: str, output_1: str, output_2: str) -> list[Row]:
        rows = pd.DataFrame([{"instruction": instruction, "output_1": output_1, "output_2": output_2}])
        prompts, _ = utils.make_prompts(rows, template)
        return list(utils.prompt_to_chatml(prompts[0]))

    return messages
