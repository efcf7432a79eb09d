"""Small official files of our own making, a suite of comparisons over them, and answers and verdicts to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiohttp import web

from seft_bench.data.official import JUDGE_PROMPTS, QUESTIONS, REFERENCE_ANSWERS
from seft_bench.files import write_jsonl
from seft_bench.formats.reading import read_answers
from seft_bench.records import Judgment, to_row
from seft_bench.suites import load_suite
from tests.faults.chat_server import ChatServer, Handler, completion
from tests.integration.cli import seft_bench

QUESTION_IDS = (81, 82, 101)


TEMPLATES = {
    "pair-v2": "{question}|{answer_a}|{answer_b}",
    "pair-math-v1": "{question}|{ref_answer_1}|{answer_a}|{answer_b}",
    "pair-v2-multi-turn": "{question_1}|{question_2}|{answer_a_1}|{answer_a_2}|{answer_b_1}|{answer_b_2}",
    "pair-math-v1-multi-turn": (
        "{question_1}|{question_2}|{ref_answer_1}|{ref_answer_2}|{answer_a_1}|{answer_a_2}|{answer_b_1}|{answer_b_2}"
    ),
}


SUITE = """
name: little-pairwise
kind: mtbench
mode: pairwise
baseline: mt_bench/model_answer/gpt-3.5-turbo.jsonl
source: official
default_judge: mtbench-gpt4
max_new_tokens: 16
decodings: {official: {temperature: 0.0}}
description: three questions
"""


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def answers(path: Path, model: str, mark: str, ids: tuple[int, ...] = QUESTION_IDS) -> Path:
    return write(
        path,
        [
            {"question_id": key, "model_id": model, "choices": [{"turns": [f"{mark}1 to {key}", f"{mark}2 to {key}"]}]}
            for key in ids
        ],
    )


def lay_out(desk: Path) -> None:
    """Write the official files under data/, the suite little.yaml over them, and a model's answers, mine.jsonl."""
    categories = {81: "writing", 82: "writing", 101: "reasoning"}
    write(
        desk / "data" / QUESTIONS,
        [{"question_id": key, "category": name, "turns": [f"q{key}", "more"]} for key, name in categories.items()],
    )
    write(desk / "data" / REFERENCE_ANSWERS, [{"question_id": 101, "choices": [{"turns": ["ref1", "ref2"]}]}])
    prompts = [
        {"name": name, "type": "pairwise", "system_prompt": "Judge.", "prompt_template": text}
        for name, text in TEMPLATES.items()
    ]
    write(desk / "data" / JUDGE_PROMPTS, prompts)
    answers(desk / "data" / "mt_bench/model_answer/gpt-3.5-turbo.jsonl", "gpt-3.5-turbo", "BASE")
    answers(desk / "mine.jsonl", "mine", "MINE")
    (desk / "little.yaml").write_text(SUITE)


FORMAT = ("--format", "fastchat-pairs", "--suite")


FOLDER = Path("data") / "mt_bench" / "model_judgment"


def judged_pairs(models: tuple[str, ...], changes: dict[int, dict[str, Any] | None]) -> tuple[Path, Path]:
    """Write answers and our own judgments of some models in both orders, and return the two files.

    Args:
        changes: by row number; None leaves the row out.
    """
    suite, rows = load_suite("little.yaml"), []
    Path("all.jsonl").write_text("".join(answers(Path("one.jsonl"), model, "MINE").read_text() for model in models))
    for place, model in enumerate(models):
        texts = {answer.question_id: answer for answer in read_answers(Path("all.jsonl")) if answer.model_id == model}
        for number, request in enumerate(suite.requests(suite.questions(), texts)):
            if (change := changes.get(number, {})) is None:
                continue
            said: dict[str, Any] = {
                "status": "ok",
                "preference": (2.0, 1.5, 1.0, 2.0, 2.0, 2.0, 1.0)[number % (5 + place)],
                "raw": f"[[{number}]]",
            } | change
            order = "candidate_first" if request.candidate_first else "candidate_second"
            shared = (
                "little-pairwise",
                request.question.id,
                model,
                request.turn,
                request.key,
                request.answer_hash,
                "judge-1a2b",
                "m",
                "m",
                "",
                order,
            )
            rows.append(to_row(Judgment(*shared, **said | {"judged_at": "2026-01-02T03:04:05+00:00"})))  # type: ignore[arg-type]
    write_jsonl(Path("judgments.jsonl"), rows)
    return Path("all.jsonl"), Path("judgments.jsonl")


FAILED: dict[int, dict[str, Any] | None] = {
    1: {"status": "refused", "preference": None, "raw": "I would rather not."},
    6: {"status": "api_error", "preference": None, "raw": "HTTP 400"},
    8: None,
}


KINDS: dict[str, dict[int, dict[str, Any] | None]] = {
    "plain": {},
    "with-failures": FAILED,
    "graded": {2: {"preference": 1.7, "details": {"template": "pair-v2", "content": 0.5}}, 3: {"preference": 1.3}},
}


def evaluate_pairs(desk: Path, server: ChatServer, *arguments: str) -> Any:
    (desk / "judge.yaml").write_text(
        f"name: local\nkind: openai\nmodel: judge\nbase_url: {server.url}\napi_key_env: null\ntemplates: official\n"
    )
    return seft_bench("eval", "mine.jsonl", "--suite", "little.yaml", "--judge", "judge.yaml", "--json", *arguments)


def replying(choose: Any) -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion(choose(body["messages"][1]["content"])))

    return answer


def for_mine(prompt: str) -> str:
    return "Better: [[A]]" if prompt.index("MINE") < prompt.index("BASE") else "Better: [[B]]"
