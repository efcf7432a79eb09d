"""Where a preference comes from, and what a judge sends: constraint, samples, one verdict, other parameters, reasoning
before the verdict.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from aiohttp import web

from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.inference.prices import Price
from seft_bench.inference.store import ResponseStore
from seft_bench.judges.probe import NEITHER_M
from seft_bench.records import JudgeRequest, Question
from tests.faults.asking import PAIR, Run
from tests.faults.chat_server import Handler, body_of, completion, serving, status, token_completion
from tests.faults.judge_run import requests

SKY = {"Blue": -0.05, "The": -3.5, "m": -9.0}


def constrained(keeps: bool) -> Handler:
    """A server under vLLM's constraint, or one that ignores it: it then says what it would have said anyway."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        free = not keeps or body.get("structured_outputs") != {"choice": ["m", "M"]}
        if free and body["messages"] == list(NEITHER_M):
            return web.json_response(token_completion(SKY, "Blue"))
        return web.json_response(token_completion({"m": math.log(0.7), "M": math.log(0.3)}))

    return answer


def tokens(*texts: str | Handler, model: str = "judge") -> list[Handler]:
    return [text if callable(text) else body_of(completion(text, model=model)) for text in texts]


# Choice


def test_a_choice_is_read_from_its_two_log_probabilities() -> None:
    with serving(otherwise=constrained(keeps=True)) as server:
        run = Run(server, preference_from="choice")
        run.judge.check(["preference"])
        (judgment,) = run(PAIR)
        assert Run(server).judge.id != run.judge.id
    assert judgment.preference == pytest.approx(1.7)
    assert judgment.details["preference_from"] == "choice"
    assert server.bodies[-1]["structured_outputs"] == {"choice": ["m", "M"]}
    assert server.bodies[-1]["logprobs"] is True


def test_a_constraint_that_is_ignored_is_said_with_what_was_seen() -> None:
    """Its own prompt looks fine: only a question that nobody answers with m or M shows it."""
    with serving(otherwise=constrained(keeps=False)) as server:
        with pytest.raises(InputError, match=r"wrote 'Blue' with P\('Blue'\) = 0\.951") as caught:
            Run(server, preference_from="choice").judge.check(["preference"])
        Run(server, preference_from="choice").judge.check(["grade"])  # grades need no constraint
    assert "preference_from: samples" in str(caught.value)
    assert "preference_from: choice`" not in str(caught.value).split("Set one of these")[1]


def test_a_constraint_that_is_lost_under_way_is_no_verdict(store: ResponseStore) -> None:
    with serving(otherwise=body_of(token_completion({"m": -1.0, "The": -0.6}))) as server:
        assert Run(server, store, preference_from="choice")(PAIR)[0].status == "parse_error"
    assert store.stats()["responses"] == 0


# Samples


def test_samples_are_the_share_of_wins_each_stored_and_paid_once(store: ResponseStore) -> None:
    with serving(*tokens("m", "M", " m\n", '"m"', "both")) as server:
        run = Run(server, store, preference_from="samples", price=Price(10.0, 0.0, None, "test"), max_in_flight=1)
        (judgment,) = run(PAIR)
        assert [body["temperature"] for body in server.bodies] == [1.0] * 5
        assert "logprobs" not in server.bodies[0]
        assert store.stats()["responses"] == 4
    assert judgment.preference == pytest.approx(1.75)
    expected = {"preference_from": "samples", "samples": 5, "read": 4, "wins": 3}
    assert {name: judgment.details[name] for name in expected} == expected
    assert json.loads(judgment.raw) == ["m", "M", " m\n", '"m"', "both"]
    assert (judgment.prompt_tokens, judgment.completion_tokens) == (500, 50)
    assert judgment.price_usd == pytest.approx(5 * 100 * 10e-6)


def test_a_rerun_asks_only_for_the_samples_that_are_missing(store: ResponseStore) -> None:
    unreadable = status(400, "unknown parameter")
    with serving(*tokens("m", unreadable, "m", unreadable, unreadable), otherwise=tokens("M")[0]) as server:
        settings = {"preference_from": "samples", "price": Price(10.0, 0.0, None, "test"), "max_in_flight": 1}
        (first,) = Run(server, store, **settings)(PAIR)
        assert (first.status, first.preference, first.details["read"]) == ("api_error", None, 2)
        (second,) = Run(server, store, **settings)(PAIR)
    assert (second.status, second.preference) == ("ok", pytest.approx(1.4))
    assert len(server.bodies) == 8
    assert second.price_usd == pytest.approx(3 * 100 * 10e-6)


def test_more_samples_reuse_the_fewer_and_are_another_judge(store: ResponseStore) -> None:
    with serving(otherwise=tokens("m")[0]) as server:
        few, many = (Run(server, store, preference_from="samples", samples=count) for count in (3, 7))
        few(PAIR)
        (judgment,) = many(PAIR)
        assert len(server.bodies) == 7
    assert judgment.details["samples"] == 7
    assert few.judge.id != many.judge.id


def test_half_of_the_samples_suffice_and_none_never_does() -> None:
    with serving(*tokens("m", "hm", "M", "hm")) as server:
        assert Run(server, preference_from="samples", samples=4, max_in_flight=1)(PAIR)[0].preference == 1.5
    with serving(otherwise=tokens("hm")[0]) as server:
        assert Run(server, preference_from="samples", samples=2)(PAIR)[0].status == "parse_error"


def test_too_few_readable_samples_have_the_status_of_most_of_the_others() -> None:
    unreadable = status(400, "unknown parameter")
    with serving(*tokens("m", "hm", unreadable, unreadable)) as server:
        assert Run(server, preference_from="samples", samples=4, max_in_flight=1)(PAIR)[0].status == "api_error"


def test_samples_of_many_pairs_stay_apart() -> None:
    """Each pair wins by its own samples, in whatever order they arrive."""

    async def by_number(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion("m" if "Even" in str(body["messages"]) else "M"))

    pairs = [
        JudgeRequest(
            "preference",
            Question("s", str(n), "", (f"{'Even' if n % 2 == 0 else 'Odd'} {n}?",)),
            1,
            ("x",),
            ("y",),
            candidate_first=True,
        )
        for n in range(20)
    ]
    with serving(otherwise=by_number) as server:
        judgments = Run(server, preference_from="samples", samples=3)(*pairs)
    assert len(server.bodies) == 60
    assert {judgment.question_id: judgment.preference for judgment in judgments} == {
        str(n): 2.0 if n % 2 == 0 else 1.0 for n in range(20)
    }


def test_seeds_of_samples_differ_or_all_would_be_the_same() -> None:
    with serving(otherwise=tokens("m")[0]) as server:
        Run(server, preference_from="samples", samples=3, seed=11)(PAIR)
    assert sorted(body["seed"] for body in server.bodies) == [11, 12, 13]


# Parameters


def test_other_parameters_reach_the_server_the_store_and_the_id(store: ResponseStore) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"extra_body": {"reasoning_effort": "low"}},
        {"extra_body": {"reasoning_effort": "high"}},
        {"seed": 3},
        {"send_temperature": False},
        {"max_tokens_parameter": "max_completion_tokens"},
    ]
    with serving() as server:
        ids = [Run(server, store, **variant) for variant in variants]
        for run in ids:
            run()
    assert len({run.judge.id for run in ids}) == len(server.bodies) == len(variants)
    plain, low, _, seeded, without, completion_tokens = server.bodies
    assert (plain["temperature"], plain["max_tokens"]) == (0.0, 2048)
    assert (low["reasoning_effort"], seeded["seed"]) == ("low", 3)
    assert "temperature" not in without
    assert completion_tokens["max_completion_tokens"] == 2048
    assert "max_tokens" not in completion_tokens


def test_an_epoch_asks_everything_again_under_another_id(store: ResponseStore) -> None:
    with serving() as server:
        first, canary = Run(server, store), Run(server, store)
        canary.client.epoch = "2026-10"
        for run in (first, canary, canary):
            run()
        assert len(server.bodies) == 2
        assert server.bodies[0] == server.bodies[1]
    assert first.judge.id != canary.judge.id


@pytest.mark.parametrize(
    ("refusal", "setting"),
    [
        (
            status(400, "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
            "max_tokens_parameter: max_completion_tokens",
        ),
        (status(400, "Unsupported value: 'temperature' does not support 0.0"), "send_temperature: false"),
        (status(403, "You are not allowed to request logprobs from this model"), "preference_from: samples"),
    ],
)
def test_a_refused_parameter_names_the_setting(refusal: Handler, setting: str) -> None:
    with serving(otherwise=refusal) as server, pytest.raises(InputError, match=setting):
        Run(server).judge.check(["preference"])


def test_a_refused_constraint_names_the_alternatives() -> None:
    refusal = status(400, "Unrecognized request argument supplied: structured_outputs")
    with serving(otherwise=refusal) as server, pytest.raises(InputError, match="preference_from: token"):
        Run(server, preference_from="choice").judge.check(["preference"])


def test_a_refused_probe_is_wrong_input_and_a_failed_one_an_unavailable_judge() -> None:
    with serving(otherwise=status(400, "System role not supported")) as server:
        with pytest.raises(InputError, match="System role not supported"):
            Run(server).judge.check(["grade"])
        server.otherwise = status(503, "overloaded")
        with pytest.raises(ServiceUnavailableError, match="overloaded"):
            Run(server).judge.check(["grade"])
        server.otherwise = body_of(completion(message={"content": None}))
        with pytest.raises(ServiceUnavailableError, match="its reply is empty"):
            Run(server).judge.check(["grade"])


# Reasoning


@pytest.mark.parametrize(
    "reply",
    [
        completion("<think>\nPerhaps [[2]]? No.\n</think>\n\nRating: [[9]]"),
        completion("Perhaps [[2]]? No.</think>Rating: [[9]]"),  # the chat template opened it
        completion("Rating: [[9]]", message={"reasoning_content": "Perhaps [[2]]?"}),
    ],
)
def test_reasoning_is_not_the_verdict_and_is_kept(reply: dict[str, Any], store: ResponseStore) -> None:
    with serving(otherwise=body_of(reply)) as server:
        (judgment,) = Run(server, store)()
        (again,) = Run(server, store)()
    assert (judgment.score, again.score, len(server.bodies)) == (9.0, 9.0, 1)
    assert judgment.raw == reply["choices"][0]["message"]["content"]


def test_reasoning_that_eats_all_tokens_is_no_verdict_and_is_not_paid_six_times() -> None:
    nothing = completion(
        "", message={"content": None, "reasoning_content": "Let me see. [[3]]"}, finish_reason="length"
    )
    for reply in (nothing, completion("<think>Let me see. [[3]]", finish_reason="length")):
        with serving(otherwise=body_of(reply)) as server:
            assert Run(server)()[0].status == "parse_error"
            assert len(server.bodies) == 1
            with pytest.raises(InputError, match="larger `max_tokens`"):
                Run(server, preference_from="token").judge.check(["preference"])


def test_a_judge_that_begins_with_an_empty_token_is_not_taken_for_a_reasoning_one() -> None:
    with serving(otherwise=body_of(completion(" ", finish_reason="length"))) as server:
        Run(server, preference_from="token").judge.check(["preference"])
        assert len(server.bodies) == 1


def test_a_reasoning_judge_gives_one_verdict() -> None:
    with serving(otherwise=body_of(completion("<think>M is worse than m.</think>\n\nm."))) as server:
        run = Run(server, preference_from="token", max_tokens=4096)
        run.judge.check(["preference"])
        assert run(PAIR)[0].preference == 2.0
    assert server.bodies[0]["max_tokens"] == 4096  # the probe too: with fewer it could say nothing


# Which model replied


def test_only_who_replied_is_a_returned_model() -> None:
    with serving(*tokens("Rating: [[7]]", model="judge-2"), otherwise=status(400, "unknown parameter")) as server:
        run = Run(server, max_in_flight=1, context_tokens=4096)
        long = JudgeRequest("grade", Question("mtbench", "long", "", ("Go on.",)), 1, ("word " * 4000,))
        judgments = run(*requests(2), long)
    assert sorted((judgment.status, judgment.returned_model) for judgment in judgments) == [
        ("api_error", ""),
        ("ok", "judge-2"),
        ("over_length", ""),
    ]


def test_samples_by_two_models_name_both() -> None:
    with serving(*tokens("m", model="judge-a"), *tokens("m", model="judge-b")) as server:
        (judgment,) = Run(server, preference_from="samples", samples=2)(PAIR)
    assert judgment.returned_model == "judge-a + judge-b"
