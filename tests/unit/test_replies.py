"""What a completion can look like, and the status that it gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from seft_bench.inference.bodies import decode_body
from seft_bench.inference.replies import read_completion
from seft_bench.texts import mapped_strings, without_lone_surrogates


def body(content: Any, finish_reason: Any = "stop", choice: Any = None, **message: Any) -> dict[str, Any]:
    held = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": content} | message}
    return {"model": "m", "choices": [held | (choice or {})], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}


TEXT, THOUGHT = {"type": "text", "text": "Good. [[8]]"}, [{"type": "text", "text": "hm [[3]]"}]


@pytest.mark.parametrize(
    ("sent", "status", "text", "reasoning"),
    [
        (body("Good."), "ok", "Good.", ""),
        (body("Good.", None), "ok", "Good.", ""),
        (body([TEXT]), "ok", "Good. [[8]]", ""),
        (body([{"type": "thinking", "thinking": THOUGHT}, TEXT]), "ok", "Good. [[8]]", "hm [[3]]"),
        (body([{"type": "reasoning", "text": "hm"}, TEXT, {"type": "image_url"}]), "ok", "Good. [[8]]", "hm"),
        (body("Good.", reasoning_content="hm"), "ok", "Good.", "hm"),
        (body("Good.", reasoning="hm", reasoning_content=None), "ok", "Good.", "hm"),
        (body(None, reasoning_content="hm [[3]]"), "empty", "", "hm [[3]]"),
        (body(None), "empty", "", ""),
        (body(" \n"), "empty", " \n", ""),
        (body("", "length"), "empty", "", ""),
        (body([]), "empty", "", ""),
        (body(None, "tool_calls", tool_calls=[{}]), "empty", "", ""),
        (body(None, refusal="I cannot."), "refused", "I cannot.", ""),
        (body([{"type": "refusal", "refusal": "I cannot."}]), "refused", "I cannot.", ""),
        (body("Half a", "content_filter"), "refused", "Half a", ""),
        (body(None, "SAFETY"), "refused", "", ""),
        (body("", "error", {"error": {"code": 502, "message": "down"}}), "api_error", "down", ""),
        (body("Half a", "error", {"error": {"code": 502, "message": "down"}}), "partial", "Half a", ""),
        (body("Half a", "stop", {"error": "down"}), "partial", "Half a", ""),
        (body("", "error"), "api_error", "finish reason `error`, without a word why", ""),
        ({"error": {"message": "down", "code": 429}, "user_id": "u"}, "api_error", "down", ""),
        ({"error": "down"}, "api_error", "down", ""),
        ({"object": "error", "message": "down", "code": 400}, "api_error", "down", ""),
        (body("Good.") | {"error": None}, "ok", "Good.", ""),
    ],
)
def test_status_text_and_reasoning(sent: Any, status: str, text: str, reasoning: str) -> None:
    reply = read_completion(sent)
    assert (reply.status, reply.text, reply.reasoning) == (status, text, reasoning)


def test_an_error_keeps_its_words_and_its_code_beside_the_text() -> None:
    reply = read_completion(body("Half a", "error", {"error": {"code": 502, "message": "down"}}))
    assert (reply.text, reply.error, reply.error_code) == ("Half a", "down", 502)
    assert read_completion({"error": {"message": "down", "code": "rate_limit"}}).error_code is None


@pytest.mark.parametrize("sent", [{}, {"choices": []}, {"choices": [None]}, {"choices": [{}]}, body(7), body([7])])
def test_what_is_no_completion(sent: Any) -> None:
    with pytest.raises(ValueError, match=r"choice|content"):
        read_completion(sent)


@pytest.mark.parametrize("wrong", ["many", True, -5, float("nan"), float("inf"), 1e308, 10**30, 2.5, None, [], {}])
def test_a_count_of_tokens_that_cannot_be_believed_is_none(wrong: Any) -> None:
    for usage in ({"prompt_tokens": wrong, "completion_tokens": wrong}, wrong):
        reply = read_completion(body("Good.") | {"usage": usage})
        assert (reply.status, reply.prompt_tokens, reply.completion_tokens) == ("ok", None, None)


def test_no_tokens_for_a_prompt_and_a_text_cannot_be_believed() -> None:
    none = {"prompt_tokens": 0, "completion_tokens": 0}
    reply = read_completion(body("Good.") | {"usage": none})
    assert (reply.prompt_tokens, reply.completion_tokens) == (None, None)
    assert read_completion(body(None) | {"usage": none | {"prompt_tokens": 7.0}}).completion_tokens == 0


@pytest.mark.parametrize("wrong", [5, "x", [], {}, [{"token": "m"}], [None]])
def test_odd_parts_beside_the_text_leave_the_text(wrong: Any) -> None:
    sent = body("m", choice={"logprobs": {"content": [{"top_logprobs": wrong}]}}) | {"usage": wrong, "model": wrong}
    for logprobs in (sent["choices"][0]["logprobs"], wrong, {"content": wrong}):
        sent["choices"][0]["logprobs"] = logprobs
        reply = read_completion(sent)
        assert (reply.status, reply.text, reply.top_logprobs) == ("ok", "m", None)


def test_log_probabilities_that_are_none_are_left_out() -> None:
    tops = [("m", -0.1), ("M", float("nan")), ("a", 3.0), ("b", "x"), ("c", True), ("m", -2.0), ("d", 1e-7)]
    listed = [{"token": token, "logprob": logprob} for token, logprob in tops]
    reply = read_completion(body("m", choice={"logprobs": {"content": [{"top_logprobs": listed}]}}))
    assert reply.top_logprobs == {"m": -0.1, "d": 1e-7}


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "{half", "", "[]", "7", "null", '"text"'])
def test_what_is_no_json_object_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_body(text)


def test_a_number_of_thousands_of_digits_is_no_reason_to_lose_a_reply() -> None:
    sent = json.dumps(body("Good.")).replace(": 9", ": " + "9" * 5000)
    reply = read_completion(decode_body(sent))
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("Good.", None, 4)


def test_halves_of_surrogate_pairs_are_replaced_wherever_they_stand() -> None:
    sent = decode_body('{"cut \\ud83d": ["\\udc00 a", {"b": "\\ud83d\\ude00"}]}')
    cleaned = mapped_strings(sent, without_lone_surrogates)
    assert cleaned == {"cut \ufffd": ["\ufffd a", {"b": "\U0001f600"}]}
    json.dumps(cleaned, ensure_ascii=False).encode()


def test_nesting_within_the_stack_is_refused_too() -> None:
    deep = decode_body('{"a":' * 400 + "1" + "}" * 400)
    with pytest.raises(ValueError, match="deeper than"):
        mapped_strings(deep, str)
