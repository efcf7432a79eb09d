"""Replies that are no answers, and answers in odd clothes: each gets its status, and the run goes on."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
from aiohttp import web

from seft_bench.errors import ServiceUnavailableError
from seft_bench.inference.store import ResponseStore
from tests.faults.asking import Run, generate
from tests.faults.chat_server import Handler, body_of, completion, ok, serving
from tests.faults.judge_run import requests

IN_CHOICE = completion("", finish_reason="error", error={"code": 502, "message": "Provider returned error"})
PARTIAL = completion("Rating: [[2]] so f", finish_reason="error", error={"code": 502, "message": "idle"})
IN_BODY = {"error": {"message": "Provider returned error", "code": 503}}


@pytest.mark.parametrize("fault", [IN_CHOICE, PARTIAL, IN_BODY, completion("", finish_reason="error")])
def test_an_error_in_a_good_status_is_tried_again_and_never_kept(fault: Any, store: ResponseStore) -> None:
    with serving(body_of(fault), otherwise=body_of(fault)) as server:
        (judgment,) = Run(server, store)()
        assert (judgment.status, judgment.score, len(server.bodies)) == ("api_error", None, 6)
        assert "6 attempts" in judgment.raw + judgment.details.get("why", "")
        assert store.stats()["responses"] == 0
        server.otherwise = ok
        assert Run(server, store)()[0].score == 7.0


def test_an_error_in_a_good_status_counts_as_its_code_says(store: ResponseStore) -> None:
    too_long = {"error": {"message": "maximum context length is 8192 tokens", "code": 400}}
    busy = {"error": {"message": "slow down", "code": 429}}
    with serving(body_of(too_long), body_of(busy)) as server:
        run = Run(server, store, max_in_flight=1)
        first, second = run(*requests(2))
    assert (first.status, second.status, len(server.bodies)) == ("over_length", "ok", 3)
    assert run.client.limit.width == 1.0


def test_errors_of_a_served_model_are_no_answers(store: ResponseStore) -> None:
    for fault in (IN_CHOICE, PARTIAL):
        with serving(otherwise=body_of(fault)) as server:
            with pytest.raises(ServiceUnavailableError, match=r"3 questions have no answer.*(Provider|idle)"):
                generate(server.url, store)
            assert len(server.bodies) == 3 * 6
    assert store.stats()["responses"] == 0


def test_a_model_that_says_nothing_is_asked_a_few_times_and_never_again(store: ResponseStore) -> None:
    with serving(otherwise=body_of(completion(message={"content": None}))) as server:
        first = generate(server.url, store)
        asked = len(server.bodies)
        assert asked == 5 * 3  # turns, times
        assert generate(server.url, store) == first
        assert len(server.bodies) == asked
    assert {turn for answer in first for turn in answer.turns} == {""}
    assert {reason for answer in first for reason in answer.finish_reasons} == {"stop"}


def test_an_empty_reply_may_be_a_passing_fault(store: ResponseStore) -> None:
    empty = body_of(completion(message={"content": None}))
    with serving(empty, empty) as server:
        (judgment,) = Run(server, store)()
    assert (judgment.score, len(server.bodies)) == (7.0, 3)


def test_an_empty_judgment_says_where_the_words_went() -> None:
    apart = completion(message={"content": None, "reasoning_content": "Fine. Rating: [[7]]"})
    with serving(otherwise=body_of(apart)) as server:
        (judgment,) = Run(server)()
    assert (judgment.status, judgment.score, len(server.bodies)) == ("parse_error", None, 1)
    assert judgment.details["why"] == "the reply is empty; 19 characters came apart, as reasoning"


def test_content_in_parts_is_read_without_the_thinking() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm [[3]]"}]}
    sent = completion(message={"content": [thinking, {"type": "text", "text": "Good. Rating: [[8]]"}]})
    with serving(otherwise=body_of(sent)) as server:
        (judgment,) = Run(server)()
    assert (judgment.score, judgment.raw) == (8.0, "Good. Rating: [[8]]")


def raw(text: str, content_type: str = "application/json") -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type)

    return answer


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"choices":' + "[" * 200_000, '{"choices": ' + "[" * 300 + "]" * 300 + "}"]
)
def test_one_reply_of_brackets_does_not_end_the_run(text: str, store: ResponseStore) -> None:
    async def some(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        is_odd = "Write about 1." in body["messages"][-1]["content"]
        return await (raw(text) if is_odd else ok)(request, body)

    with serving(otherwise=some) as server:
        judgments = Run(server, store)(*requests(3))
    assert sorted(judgment.status for judgment in judgments) == ["api_error", "ok", "ok"]


def test_half_a_surrogate_pair_is_kept_as_a_replacement_paid_once_and_said_once(store: ResponseStore) -> None:
    sent = json.dumps(completion("Nice \ud83d cut. Rating: [[6]]", model="jud\udc00ge"))
    with serving(otherwise=raw(sent)) as server:
        run = Run(server, store)
        judgments = run(*requests(3))
        again = Run(server, store)(*requests(3))
        assert len(server.bodies) == 3
    assert {(judgment.raw, judgment.returned_model) for judgment in (*judgments, *again)} == {
        ("Nice \ufffd cut. Rating: [[6]]", "jud\ufffdge")
    }
    assert [note for note in run.judge.notes if "surrogate" in note] == [
        f"{server.url} sent halves of surrogate pairs: each is kept as U+FFFD"
    ]


def stored_instead(store: ResponseStore, response: str) -> None:
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE responses SET response = ?", (response,))


@pytest.mark.parametrize(
    "response",
    [
        "nonsense",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({"body": 5, "latency_seconds": 1, "received_at": ""}),
        json.dumps({"body": IN_CHOICE, "latency_seconds": 1.0, "received_at": "then"}),
    ],
)
def test_a_stored_row_that_is_no_reply_is_asked_again_once(response: str, store: ResponseStore) -> None:
    with serving() as server:
        Run(server, store)()
        stored_instead(store, response)
        assert Run(server, store)()[0].score == 7.0
        assert Run(server, store)()[0].score == 7.0
        assert len(server.bodies) == 2


def test_replies_of_older_stores_go_on_being_read(store: ResponseStore) -> None:
    """A row as every version so far wrote it."""
    with serving() as server:
        Run(server, store)()
        kept = {"body": completion("Rating: [[4]]"), "latency_seconds": 2.0, "received_at": "2026-01-01T00:00:00+00:00"}
        stored_instead(store, json.dumps(kept))
        (judgment,) = Run(server, store)()
        assert len(server.bodies) == 1
    assert (judgment.score, judgment.latency_seconds, judgment.judged_at) == (4.0, 2.0, kept["received_at"])
