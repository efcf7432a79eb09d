"""Answers over a server and out of files: every turn, resumable, and a missing answer is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.generators import Decoding
from seft_bench.generators.openai_compatible import OpenAICompatibleGenerator
from seft_bench.generators.recorded import ReadyGenerator, models_in
from seft_bench.inference.client import ChatClient
from seft_bench.inference.store import ResponseStore
from seft_bench.records import Answer, Question, instruction_id
from tests.faults.asking import DECODING, QUESTIONS, generate
from tests.faults.chat_server import FakeTime, completion, serving, status


async def echo(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Says how many messages it saw and repeats the last one."""
    return web.json_response(
        completion(f"{len(body['messages'])}: {body['messages'][-1]['content']}", model=body["model"])
    )


def test_every_turn_sees_the_turns_before_it() -> None:
    with serving(otherwise=echo) as server:
        first, second, third = generate(server.url)
    assert first.turns == ("1: Greet me.", "3: Once more.")
    assert [message["content"] for message in first.messages] == ["Greet me.", "1: Greet me.", "Once more."]
    assert (second.turns, third.turns) == (("1: Add.", "3: Again."), ("1: Only once.",))
    by_prompt = {body["messages"][-1]["content"]: body for body in server.bodies}
    assert (by_prompt["Add."]["temperature"], by_prompt["Greet me."]["temperature"]) == (0.0, 0.7)
    assert len({body["seed"] for body in server.bodies}) == 5  # each question and turn has its own


def test_stored_answers_are_not_asked_again_but_another_seed_is(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path / "store.sqlite")
    with serving(otherwise=echo) as server:
        assert generate(server.url, store) == generate(server.url, store)
        assert len(server.bodies) == 5
        generate(server.url, store, seed=1)
        assert len(server.bodies) == 10


def test_an_unanswered_question_is_said_and_the_others_are_kept() -> None:
    async def fails_on_math(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (status(500) if body["messages"][0]["content"] == "Add." else echo)(request, body)

    answers: list[Answer] = []
    with serving(otherwise=fails_on_math) as server:
        time = FakeTime()
        client = ChatClient(server.url, "policy", None, None, sleep=time.sleep, clock=time.clock)
        with pytest.raises(ServiceUnavailableError, match="1 questions have no answer; the first one, 2"):
            OpenAICompatibleGenerator("policy", client).answer(
                QUESTIONS, Decoding("official", DECODING, 64, 0), answers.append
            )
    assert sorted(answer.question_id for answer in answers) == ["1", "3"]


def test_questions_that_are_refused_for_good_are_no_reason_to_run_again() -> None:
    async def not_math(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (status(400, "no sums") if body["messages"][0]["content"] == "Add." else echo)(request, body)

    with serving(otherwise=not_math) as server, pytest.raises(InputError, match=r"1 questions.*no sums.*would again"):
        generate(server.url)


def test_a_conversation_that_outgrows_the_model_is_an_empty_answer_that_says_why() -> None:
    async def short_context(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (status(400, "maximum context length") if len(body["messages"]) > 1 else echo)(request, body)

    with serving(otherwise=short_context) as server:
        first = generate(server.url)[0]
    assert (first.turns, first.finish_reasons) == (("1: Greet me.", ""), ("stop", "over_length"))


def test_ready_answers_of_alpaca_eval_by_instruction(tmp_path: Path) -> None:
    path = tmp_path / "model_outputs.json"
    path.write_text(
        json.dumps(
            [
                {"instruction": "Greet me.", "output": "Hello.", "generator": "m1"},
                {"instruction": "Sing.", "output": "La.", "generator": "m2"},
            ]
        )
    )
    assert models_in(path) == ["m1", "m2"]
    answers: list[Answer] = []
    question = Question("alpacaeval", instruction_id("Greet me."), "", ("Greet me.",))
    ReadyGenerator(path, "m1").answer([question], Decoding("given", None, 64, 0), answers.append)
    assert [(answer.question_id, answer.turns, answer.model_id) for answer in answers] == [
        (question.id, ("Hello.",), "m1")
    ]
    with pytest.raises(InputError, match="answers none of the 1 questions"):
        ReadyGenerator(path, "m2").answer([question], Decoding("given", None, 64, 0), answers.append)
    with pytest.raises(InputError, match="known are m1, m2"):
        ReadyGenerator(path, "m3")
